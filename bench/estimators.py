"""`CNNClassifier` beside scikit-learn's classifiers, all with their defaults, and what it costs over its Trainer.

    python -m bench.estimators [--seeds 0 1 2] [--only CNNClassifier ...]   five folds of the digits
    FASTCNN_DATA=<folder> python -m bench.estimators --fashion              10,000 images to train, 10,000 to test
    FASTCNN_DATA=<folder> python -m bench.estimators --overhead             what `fit` does beside `Trainer.fit`

Pixels are from 0 to 1, which `MLPClassifier` needs and nobody else minds. Seconds are of `fit` alone, the median over
the folds; kernels are loaded before.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any
from unittest.mock import patch

import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.model_selection import StratifiedKFold
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC

from fastcnn import CNNClassifier, Trainer
from fastcnn.data import load

from .timing import about, table

Data = tuple[np.ndarray, np.ndarray]
KINDS = (CNNClassifier, SVC, MLPClassifier, HistGradientBoostingClassifier, RandomForestClassifier)
FOLDS, ROUNDS = 5, 3


def fitted(kind: type, train: Data, test: Data, seed: int) -> tuple[float, float]:
    """Return the share of `test` that is right, and the seconds of `fit`."""
    estimator = kind(random_state=seed)
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLPClassifier() is not converged after its 200 epochs
        estimator.fit(*train)
    seconds = time.perf_counter() - began
    return float(np.mean(estimator.predict(test[0]) == test[1])), seconds


def digits() -> Data:
    """Return the digits as rows."""
    X, y = load_digits(return_X_y=True)
    return X / 16, y


def folds(kind: type, seeds: Sequence[int]) -> tuple[list[float], float]:
    """Return the mean accuracy of each seed's five folds of the digits, and the median seconds of a fold."""
    X, y = digits()
    accuracies, seconds = [], []
    for seed in seeds:
        cuts = StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(X, y)
        found = [fitted(kind, (X[train], y[train]), (X[test], y[test]), seed) for train, test in cuts]
        accuracies.append(mean(accuracy for accuracy, _ in found))
        seconds += [taken for _, taken in found]
    return accuracies, median(seconds)


def read(name: str, images: int) -> tuple[Data, Data]:
    """Return the first `images` of an IDX set as rows, and its whole test set."""
    data = load(Path(os.environ["FASTCNN_DATA"]) / name)
    assert data.X_test is not None
    assert data.y_test is not None
    rows, held = (X.reshape(len(X), -1) / np.float32(255) for X in (data.X[:images], data.X_test))
    return (rows, data.y[:images]), (held, data.y_test)


def overhead(X: np.ndarray, y: np.ndarray, epochs: int) -> tuple[float, float]:
    """Return the median seconds of `CNNClassifier.fit`, and of what it does outside of `Trainer.fit`."""
    whole, outside, train = [], [], Trainer.fit

    def timed(*arguments: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return train(*arguments, **named)
        finally:
            inside.append(time.perf_counter() - began)

    with patch.object(Trainer, "fit", timed), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one epoch is not enough
        for _ in range(1 + ROUNDS):
            inside: list[float] = []
            began = time.perf_counter()
            CNNClassifier(max_iter=epochs, random_state=0).fit(X, y)
            whole.append(time.perf_counter() - began)
            outside.append(whole[-1] - inside[0])
    return median(whole[1:]), median(outside[1:])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.estimators", description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=[kind.__name__ for kind in KINDS])
    parser.add_argument("--fashion", action="store_true")
    parser.add_argument("--overhead", action="store_true")
    chosen = parser.parse_args()
    print(about("bench.estimators", ("numpy", "numba", "scikit-learn")))
    if chosen.overhead:
        mnist = read("mnist", 10_000)[0]
        rows = []
        for name, (X, y), epochs in (("digits, 12 epochs", digits(), 12), ("MNIST, 10,000 images, 1 epoch", mnist, 1)):
            whole, outside = overhead(X, y, epochs)
            share = outside / (whole - outside)
            rows.append((name, f"{whole:.3f}", f"{1e3 * outside:.1f}", f"{share:.1%}"))
        print(table(("", "CNNClassifier.fit, s", "beside Trainer.fit, ms", "share"), rows))
        return
    CNNClassifier(max_iter=2).fit(*digits())
    for kind in KINDS:
        if chosen.only and kind.__name__ not in chosen.only:
            continue
        if chosen.fashion:
            accuracy, seconds = fitted(kind, *read("fashion-mnist", 10_000), chosen.seeds[0])
            each = ""
        else:
            accuracies, seconds = folds(kind, chosen.seeds)
            accuracy, each = mean(accuracies), " (" + ", ".join(f"{value:.2%}" for value in accuracies) + ")"
        print(f"{kind.__name__:32} {accuracy:.2%}{each}  {seconds:.2f} s", flush=True)


if __name__ == "__main__":
    main()
