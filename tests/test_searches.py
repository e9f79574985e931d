"""Searches and cross-validation on the workers of joblib and of Dask: the scores of one process, one thread each."""

from __future__ import annotations

import os
from contextlib import contextmanager

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score

from fastcnn import CNNClassifier, Conv2D, ReLU

X = np.random.default_rng(0).random((120, 1, 16, 16), np.float32)
Y = np.arange(120) % 3


def threads_of_a_step(estimator, X, y):
    """Return the threads that `fit` lets a step have, in the process and the thread in which it is called."""
    return estimator._threads


def process(estimator, X, y):
    return os.getpid()


SCORES = {"accuracy": "accuracy", "threads": threads_of_a_step, "process": process}


@contextmanager
def loky():
    with joblib.parallel_config("loky", n_jobs=2):
        yield


@contextmanager
def dask(processes):
    distributed = pytest.importorskip("distributed", reason="needs dask and distributed, of the extra test-extras")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=processes, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config("dask"),
    ):
        yield


WORKERS = {"loky": loky, "dask": lambda: dask(True), "dask, in threads": lambda: dask(False)}


@pytest.mark.filterwarnings("ignore:Maximum iterations")
@pytest.mark.parametrize("workers", WORKERS)
def test_a_search_has_the_scores_of_one_process_and_one_thread_each(workers):
    estimator = CNNClassifier([Conv2D(16, 3), ReLU(), Conv2D(16, 3)], max_iter=2, batch_size=60, random_state=0)
    search = GridSearchCV(
        estimator, {"learning_rate_init": [1e-4, 1e-3]}, cv=2, scoring=SCORES, refit="accuracy", error_score="raise"
    )
    alone = clone(search).fit(X, Y)
    with WORKERS[workers]():
        search.fit(X, Y)
        scores = cross_val_score(estimator, X, Y, cv=2, error_score="raise") if workers == "dask" else None
    for name in ("mean_test_accuracy", "split0_test_accuracy"):
        np.testing.assert_array_equal(search.cv_results_[name], alone.cv_results_[name])
    if scores is not None:
        np.testing.assert_array_equal(scores, cross_val_score(estimator, X, Y, cv=2, error_score="raise"))
    assert search.best_estimator_.model_.digest() == alone.best_estimator_.model_.digest()
    told = search.cv_results_
    assert {*told["split0_test_threads"], *told["split1_test_threads"]} == {1}
    pids = {*told["split0_test_process"], *told["split1_test_process"]}
    assert (os.getpid() in pids) == (workers == "dask, in threads")
