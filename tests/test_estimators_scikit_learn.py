"""The estimators inside of scikit-learn's tools: searches, pipelines, copies, metadata, callbacks, threads."""

import copy
import io
import pickle

import joblib
import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier, VotingClassifier, VotingRegressor
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, cross_val_score, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler
from threadpoolctl import threadpool_info, threadpool_limits

from fastcnn import SGD, Callback, CNNClassifier, CNNRegressor, Conv2D, Dropout, EarlyStopping, MaxPool2D, ReLU

BOTH = pytest.mark.parametrize("kind", [CNNClassifier, CNNRegressor])
CALLBACKS = pytest.mark.skipif(
    tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 9), reason="scikit-learn has callbacks from 1.9 on"
)
X, Y = (array[:200] for array in load_digits(return_X_y=True))
NET = [Conv2D(4, 3), ReLU(), MaxPool2D(2)]


def quick(kind=CNNClassifier, **parameters):
    return kind(**{"layers": NET, "max_iter": 2, "random_state": 0, **parameters})


def known(kind):
    return {"classes": range(10)} if kind is CNNClassifier else {}


def assert_same(one, other):
    np.testing.assert_array_equal(one._outputs(X), other._outputs(X))


def through_a_file(model):
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    return joblib.load(file)


COPIES = pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model)), through_a_file],
    ids=["deepcopy", "pickle", "joblib"],
)  # fmt: skip


# ------------------------------------------------------------------------------------------------ copies


@BOTH
@COPIES
def test_a_copy_predicts_the_same(kind, copied):
    model = quick(kind).fit(X, Y)
    assert_same(copied(model), model)


@BOTH
def test_a_clone_has_the_parameters_only(kind):
    model = quick(kind).fit(X, Y)
    again = clone(model)
    assert not hasattr(again, "model_")
    assert_same(again.fit(X, Y), model)


@BOTH
@COPIES
@pytest.mark.parametrize("solver", ["adamw", SGD(0.01, momentum=0.9)], ids=str)
def test_partial_fit_goes_on_in_a_copy_as_it_would_have(kind, copied, solver):
    """Moments, steps, the order of the samples and the masks of dropout are a part of what is copied."""
    model = quick(kind, layers=[*NET, Dropout(0.2)], solver=solver)
    model.partial_fit(X, Y, **known(kind)).partial_fit(X, Y)
    other = copied(model)
    for _ in range(2):
        assert_same(copied(other.partial_fit(X, Y)), model.partial_fit(X, Y))
    assert other.loss_curve_ == model.loss_curve_


@BOTH
@COPIES
def test_a_warm_start_goes_on_in_a_copy_as_it_would_have(kind, copied):
    model = quick(kind, layers=[*NET, Dropout(0.2)], warm_start=True).fit(X, Y)
    other = copied(model)
    assert_same(other.fit(X, Y), model.fit(X, Y))


# ------------------------------------------------------------------------------------------------ searches


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_searches_in_parallel(backend):
    search = GridSearchCV(quick(), {"layers__0__num_filters": [2, 8]}, cv=2, n_jobs=2)
    alone = clone(search).set_params(n_jobs=1).fit(X, Y)
    with joblib.parallel_backend(backend):
        search.fit(X, Y)
        scores = cross_val_score(quick(), X, Y, cv=2, n_jobs=2)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])
    np.testing.assert_array_equal(scores, cross_val_score(quick(), X, Y, cv=2))
    assert search.best_estimator_.layers[0].num_filters in (2, 8)
    assert [layer.num_filters for layer in NET if isinstance(layer, Conv2D)] == [4]


def test_halving_over_the_epochs():
    halving = HalvingGridSearchCV(
        quick(), {"alpha": [0.0, 0.1]}, resource="max_iter", max_resources=4, min_resources=2, factor=2, cv=2
    ).fit(X, Y)
    assert halving.best_estimator_.n_iter_ == 4
    assert halving.n_resources_ == [2, 4]


# ------------------------------------------------------------------------------------------------ pipelines and others


def as_images(rows):
    return rows.reshape(-1, 8, 8)


@BOTH
def test_in_a_pipeline(kind):
    images = make_pipeline(MinMaxScaler(), FunctionTransformer(as_images), quick(kind))
    assert images.fit(X, Y).predict(X).shape == (200,)
    assert cross_val_score(images, X, Y, cv=2).shape == (2,)
    assert images.set_output(transform="default").fit(X, Y)[-1].model_.input_shape == (1, 8, 8)


def test_names_of_features_go_through():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=[f"pixel {i}" for i in range(64)])
    model = make_pipeline(StandardScaler(), quick()).set_output(transform="pandas").fit(frame, Y)
    assert [*model[-1].feature_names_in_] == [*frame.columns]
    assert model.predict(frame).shape == (200,)
    with pytest.raises(ValueError, match="feature names should match"):
        model[-1].predict(frame.rename(columns={"pixel 0": "other"}))


def test_calibration_votes_and_importance():
    calibrated = CalibratedClassifierCV(quick(), cv=2).fit(X, Y)
    assert calibrated.predict_proba(X).sum(axis=1) == pytest.approx(1)
    members = [("cnn", quick()), ("forest", RandomForestClassifier(5, random_state=0))]
    votes = VotingClassifier(members, voting="soft").fit(X, Y)
    expected = np.mean([member.predict_proba(X) for member in votes.estimators_], axis=0)
    np.testing.assert_allclose(votes.predict_proba(X), expected)
    mean = VotingRegressor([("cnn", quick(CNNRegressor)), ("line", LinearRegression())]).fit(X, Y)
    assert mean.predict(X).shape == (200,)
    importance = permutation_importance(quick().fit(X, Y), X[:40], Y[:40], n_repeats=1, random_state=0)
    assert importance.importances_mean.shape == (64,)
    assert importance.importances_mean[0] == 0  # a corner that is always white


@BOTH
def test_it_can_be_shown(kind):
    model = quick(kind)
    assert repr(model).startswith(f"{kind.__name__}(layers=[Conv2D(4, 3), ReLU(), MaxPool2D()]")
    for html in (model._repr_html_(), make_pipeline(StandardScaler(), model.fit(X, Y))._repr_html_()):
        assert kind.__name__ in html


# ------------------------------------------------------------------------------------------------ metadata


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


WEIGHT = np.where(Y < 5, 1.0, 3.0)


@pytest.mark.usefixtures("routing")
@BOTH
def test_weights_find_their_way(kind):
    wants = quick(kind).set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
    expected = quick(kind).fit(X, Y, sample_weight=WEIGHT)
    assert_same(make_pipeline(wants).fit(X, Y, sample_weight=WEIGHT)[-1], expected)
    params = {"sample_weight": WEIGHT}
    search = GridSearchCV(wants, {"alpha": [0.01]}, cv=2).fit(X, Y, **params)
    assert_same(search.best_estimator_, quick(kind, alpha=0.01).fit(X, Y, sample_weight=WEIGHT))
    found = cross_validate(wants, X, Y, cv=2, params=params, return_estimator=True, return_indices=True)
    train, test = found["indices"]["train"][0], found["indices"]["test"][0]
    by_hand = quick(kind).fit(X[train], Y[train], sample_weight=WEIGHT[train])
    assert_same(found["estimator"][0], by_hand)
    assert found["test_score"][0] == by_hand.score(X[test], Y[test], sample_weight=WEIGHT[test])


@pytest.mark.usefixtures("routing")
@BOTH
def test_validation_sets_find_their_way_through_a_pipeline(kind):
    """The pipeline's first steps change the validation images as they change the others."""
    wants = quick(kind, early_stopping=True).set_fit_request(X_val=True, y_val=True)
    pipeline = Pipeline([("scale", MinMaxScaler()), ("cnn", wants)], transform_input=["X_val"])
    pipeline.fit(X[:150], Y[:150], X_val=X[150:], y_val=Y[150:])
    scaler = MinMaxScaler().fit(X[:150])
    expected = quick(kind, early_stopping=True).fit(
        scaler.transform(X[:150]), Y[:150], X_val=scaler.transform(X[150:]), y_val=Y[150:]
    )
    assert pipeline[-1].validation_scores_ == expected.validation_scores_
    scaled = scaler.transform(X)
    np.testing.assert_array_equal(pipeline[-1]._outputs(scaled), expected._outputs(scaled))
    search = GridSearchCV(wants, {"alpha": [0.01, 0.1]}, cv=2).fit(X[:150], Y[:150], X_val=X[150:], y_val=Y[150:])
    assert len(search.best_estimator_.validation_scores_) == 2


# ------------------------------------------------------------------------------------------------ callbacks


class Spy(Callback):
    """Remembers its moments."""

    def __init__(self):
        self.moments = []

    def begin(self, run):
        self.moments.append("begin")

    def epoch(self, run, epoch):
        self.moments.append(epoch.epoch)

    def end(self, run):
        self.moments.append("end")


@BOTH
def test_our_own_callbacks_everywhere(kind):
    spy = Spy()
    model = quick(kind, callbacks=[spy, EarlyStopping("loss", patience=5)]).fit(X, Y)
    assert spy.moments == ["begin", 1, 2, "end"]
    model.partial_fit(X, Y)
    assert spy.moments[4:] == ["begin", 1, "end"]
    make_pipeline(StandardScaler(), model).fit(X, Y)
    assert len(spy.moments) == 11


class Watcher:
    """Follows scikit-learn's protocol."""

    def __init__(self, stops=False):
        self.seen, self.kept, self.stops = [], [], stops

    def setup(self, estimator, context):
        self.seen.append("setup")

    def teardown(self, estimator, context):
        self.seen.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.seen.append(("begin", context.task_name, context.task_id, context.max_subtasks))

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None):
        score = fitted_estimator.score(X, y, **metadata)
        self.seen.append(("end", context.task_name, context.task_id, fitted_estimator.n_iter_, score))
        self.kept.append(fitted_estimator)
        return self.stops


@CALLBACKS
@BOTH
def test_scikit_learns_callbacks_see_every_epoch(kind):
    watcher = Watcher()
    model = quick(kind).set_callbacks(watcher).fit(X, Y, sample_weight=WEIGHT)
    last = model.score(X, Y, sample_weight=WEIGHT)
    begins = [seen for seen in watcher.seen if seen[0] == "begin"]
    ends = [seen for seen in watcher.seen if seen[0] == "end"]
    assert (watcher.seen[0], watcher.seen[-1]) == ("setup", "teardown")
    assert begins == [("begin", "fit", 0, 2), ("begin", "epoch", 0, 0), ("begin", "epoch", 1, 0)]
    assert [seen[:4] for seen in ends] == [("end", "epoch", 0, 1), ("end", "epoch", 1, 2), ("end", "fit", 0, 2)]
    assert ends[0][4] != ends[1][4] == ends[2][4] == last
    assert [kept.score(X, Y, sample_weight=WEIGHT) for kept in watcher.kept] == [seen[4] for seen in ends]
    assert [len(kept.loss_curve_) for kept in watcher.kept] == [1, 2, 2]
    model.set_callbacks(Watcher()).partial_fit(X, Y)
    assert [seen[1] for seen in model._skl_callbacks[0].seen if seen[0] == "end"] == ["epoch", "fit"]


@CALLBACKS
def test_scikit_learns_callbacks_stop_a_fit():
    model = quick(max_iter=5).set_callbacks(Watcher(stops=True)).fit(X, Y)
    assert model.n_iter_ == 1
    assert model.history_.stopped == "a callback of scikit-learn"


@CALLBACKS
def test_scikit_learns_own_callbacks_in_a_search():
    from sklearn.callback import ScoringMonitor

    monitor = ScoringMonitor(scoring="accuracy")
    search = GridSearchCV(quick().set_callbacks(monitor), {"alpha": [0.0, 0.1]}, cv=2).fit(X, Y)
    rows = [row for log in monitor.get_logs(select="all") for row in log.data if row["task_name"] == "epoch"]
    assert len(rows) == 2 * (2 * 2 + 1)
    refit = min(len(row["task_id_path"]) for row in rows)  # a fold lies deeper than the last fit, of the best
    assert [row["accuracy"] for row in rows if len(row["task_id_path"]) == refit][-1] == search.score(X, Y)


@CALLBACKS
def test_a_fit_that_fails_ends_what_its_callbacks_began():
    watcher = Watcher()
    with pytest.raises(ValueError, match="NaN"):
        quick().set_callbacks(watcher).fit(np.where(X == 3, np.nan, X), Y)
    assert watcher.seen == ["setup", ("begin", "fit", 0, 2), "teardown"]


# ------------------------------------------------------------------------------------------------ threads


def blas_threads():
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


class Look(Callback):
    """Looks at the numbers of threads."""

    def __init__(self):
        self.own, self.blas = set(), set()

    def batch(self, run):
        self.own.add(run.trainer.threads)
        self.blas.update(blas_threads())


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_n_jobs_caps_all_threads_and_gives_them_back(n_jobs):
    with threadpool_limits(3, user_api="blas"):
        look, before = Look(), blas_threads()
        model = quick(callbacks=[look], n_jobs=n_jobs).fit(X, Y)
        assert look.own == {n_jobs}
        assert look.blas == {min(n_jobs, threads) for threads in before}
        assert blas_threads() == before
        model.predict(X)
        assert blas_threads() == before
        with pytest.raises(ValueError, match="non-finite"), np.errstate(all="ignore"):
            model.set_params(solver="sgd", learning_rate_init=1e30, schedule="constant").fit(X, Y)
        assert blas_threads() == before


def test_a_worker_of_joblibs_takes_one_thread():
    def threads(_):
        return quick()._threads

    with joblib.parallel_backend("threading"):
        assert joblib.Parallel(n_jobs=2)(joblib.delayed(threads)(i) for i in range(2)) == [1, 1]
