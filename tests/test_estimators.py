"""The estimators keep scikit-learn's contract, and read what they are given."""

import copy
import io
import pickle

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_diabetes, load_digits
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from fastcnn import CNNClassifier, CNNRegressor, Conv2D, Dense, Flatten, MaxPool2D, ReLU, SoftmaxActivation

QUICK = [CNNClassifier(max_iter=30), CNNRegressor(max_iter=60)]
BOTH = pytest.mark.parametrize("kind", [CNNClassifier, CNNRegressor])
X, Y = (array[:200] for array in load_digits(return_X_y=True))
NET = [Conv2D(4, 3), ReLU(), MaxPool2D(2)]


def quick(kind=CNNClassifier, **parameters):
    return kind(**{"layers": NET, "max_iter": 2, "random_state": 0, **parameters})


@parametrize_with_checks(QUICK)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize(("estimator", "least"), [*zip(QUICK, (55, 50), strict=True)])
def test_scikit_learn_really_runs_its_checks(estimator, least):
    """With a tag set wrongly it would silently run one."""
    assert len([*estimator_checks_generator(estimator)]) >= least


# ------------------------------------------------------------------------------------------------ what X may be

IMAGES = X.reshape(-1, 8, 8)
COLOURS = np.repeat(IMAGES[:, None], 3, axis=1) * np.array([1.0, 0.5, 0.25]).reshape(3, 1, 1)
SAME = {
    "images": IMAGES,
    "channels first": IMAGES[:, None],
    "channels last": IMAGES[..., None],
    "lists": X.tolist(),
    "float32": X.astype("f"),
    "uint8": X.astype(np.uint8),
    "int64": X.astype(int),
    "Fortran": np.asfortranarray(X),
}


@pytest.mark.parametrize("form", SAME)
def test_the_same_images_in_any_form_are_the_same(form):
    expected = quick().fit(X, Y).decision_function(X)
    model = quick().fit(SAME[form], Y)
    assert model.n_features_in_ == 64
    np.testing.assert_array_equal(model.decision_function(SAME[form]), expected)
    np.testing.assert_array_equal(model.decision_function(X), expected)


@pytest.mark.parametrize("form", [COLOURS, COLOURS.transpose(0, 2, 3, 1), COLOURS.reshape(200, 192)])
def test_colours(form):
    model = quick().fit(form, Y)
    assert model.model_.input_shape == (3, 8, 8)
    np.testing.assert_array_equal(model.predict_proba(form), quick().fit(COLOURS, Y).predict_proba(COLOURS))


@pytest.mark.parametrize(
    ("width", "input_shape", "shape"),
    [(64, None, (1, 8, 8)), (192, None, (3, 8, 8)), (30, None, (1, 1, 30)), (64, (4, 16), (1, 4, 16)),
     (30, (2, 5, 3), (2, 5, 3)), (1, None, (1, 1, 1)), (4, None, (1, 2, 2))],
)  # fmt: skip
def test_rows_are_read(width, input_shape, shape):
    rows = np.random.default_rng(0).random((20, width))
    model = CNNClassifier(input_shape=input_shape, max_iter=5).fit(rows, np.arange(20) % 2)
    assert model.model_.input_shape == shape


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # there is nothing to learn
@pytest.mark.parametrize("side", [2, 3, 4, 5, 6, 9, 17, 28, 40])
def test_the_automatic_network_fits_any_size(side):
    images = np.random.default_rng(0).random((8, side, side + 1), "f")
    assert CNNClassifier(max_iter=5).fit(images, np.arange(8) % 2).predict(images).shape == (8,)


@pytest.mark.parametrize(
    ("X", "parameters", "message"),
    [
        (X, {"input_shape": (1, 9, 7)}, r"64 features, but input_shape=\(1, 9, 7\) has 63 numbers; .*\(1, 8, 8\)"),
        (np.ones((200, 5, 6, 7)), {}, "neither end may be the channels; say which with input_shape"),
        (np.ones((200, 3, 8, 3)), {}, "both ends may be the channels"),
        (IMAGES, {"layers": [Conv2D(4, 9)]}, r"too small for the network's windows; .*would do: \(1, 9, 9\)"),
        (IMAGES, {"layers": "lenet5"}, r"too small for the network's windows; .*would do: \(1, 12, 12\)"),
        (np.where(X == 3, np.nan, X), {}, "Input X contains NaN"),
        (np.where(IMAGES == 3, np.inf, IMAGES), {}, "Input X contains infinity"),
        (X, {"layers": "vgg99"}, "The 'layers' parameter"),
        (X, {"max_iter": 0}, "The 'max_iter' parameter"),
    ],
)
def test_what_does_not_fit_is_said(X, parameters, message):
    with pytest.raises(ValueError, match=message):
        quick(**parameters).fit(X, Y)


def test_other_images_than_those_of_the_fit():
    with pytest.raises(ValueError, match=r"images of shape \(9, 9\), but CNNClassifier is expecting"):
        quick().fit(X, Y).predict(np.ones((2, 9, 9)))


# ------------------------------------------------------------------------------------------------ what y may be


def test_labels_of_any_kind():
    names = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
    model, plain = quick().fit(X, names[Y]), quick().fit(X, Y)
    assert set(model.predict(X)) <= set(names)
    assert model.n_classes_ == 10
    assert [*model.classes_] == sorted(names)
    assert plain.predict_proba(X).sum(axis=1) == pytest.approx(1)
    np.testing.assert_allclose(plain.predict_log_proba(X), np.log(plain.predict_proba(X)))
    assert quick().fit(X, Y % 2).decision_function(X).shape == (200,)


def test_several_labels_a_sample():
    labels = np.stack([Y % 2, Y > 4, Y == 3], axis=1).astype(int)
    model = CNNClassifier(max_iter=15, random_state=0).fit(X, labels)
    assert model.score(X, labels) > 0.9
    np.testing.assert_array_equal(model.predict(X), model.predict_proba(X) > 0.5)
    assert model.decision_function(X).shape == (200, 3)


def test_it_learns():
    model = CNNClassifier(max_iter=10, random_state=0).fit(X, Y)
    assert model.score(X, Y) > 0.98
    assert model.loss_ == model.loss_curve_[-1] == model.history_[-1].loss
    assert model.n_iter_ == len(model.loss_curve_) == 10
    assert model.best_loss_ == min(model.loss_curve_)
    assert model.n_parameters_ == sum(array.size for array in model.model_.parameters.values())


def test_the_regressor_learns():
    A, b = load_diabetes(return_X_y=True)
    assert CNNRegressor(random_state=0).fit(A[:300], b[:300]).score(A[300:], b[300:]) > 0.4
    both = CNNRegressor(random_state=0, max_iter=20).fit(A, np.stack([b, -b], axis=1))
    assert both.predict(A).shape == (442, 2)
    assert np.corrcoef(both.predict(A).T)[0, 1] < -0.8
    images = CNNRegressor(random_state=0, max_iter=15).fit(X, Y)
    assert images.score(X, Y) > 0.8


# ------------------------------------------------------------------------------------------------ training


@BOTH
def test_the_same_seed_gives_the_same_bits_for_any_threads(kind):
    first = quick(kind, n_jobs=1).fit(X, Y)
    second = quick(kind, n_jobs=3).fit(X, Y)
    for one, other in zip(first.model_.get_weights(), second.model_.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    whole = first.predict(X)
    np.testing.assert_array_equal(np.concatenate([first.predict(X[i : i + 7]) for i in range(0, 200, 7)]), whole)


def test_n_jobs_caps_blas_and_gives_it_back():
    from threadpoolctl import threadpool_info

    from fastcnn import Callback

    def threads():
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    class Look(Callback):
        def batch(self, run):
            seen.append((run.trainer.threads, threads()))

    seen, before = [], threads()
    classifier = quick(callbacks=[Look()], n_jobs=1)
    classifier.fit(X, Y)
    assert all(own == 1 and set(blas) <= {1} for own, blas in seen)
    assert threads() == before


@BOTH
def test_early_stopping_restores_the_best(kind):
    model = quick(kind, max_iter=60, early_stopping=True, n_iter_no_change=2, tol=0.05).fit(X, Y)
    assert model.n_iter_ < 60
    assert len(model.validation_scores_) == len(model.validation_loss_curve_) == model.n_iter_
    held = quick(kind, max_iter=60, early_stopping=True, n_iter_no_change=2, tol=0.05)
    held.fit(X[:150], Y[:150], X_val=X[150:], y_val=Y[150:])
    assert held.score(X[150:], Y[150:]) == pytest.approx(max(held.validation_scores_), abs=1e-5)


def test_validation_does_not_change_the_training():
    plain, watched = quick().fit(X, Y), quick().fit(X, Y, X_val=X, y_val=Y, sample_weight_val=np.ones(200))
    np.testing.assert_array_equal(plain.decision_function(X), watched.decision_function(X))
    assert watched.validation_scores_[-1] == pytest.approx(watched.score(X, Y))


@BOTH
def test_warm_start_and_partial_fit_go_on(kind):
    model = quick(kind, warm_start=True).fit(X, Y)
    before = model.loss_
    model.fit(X, Y)
    assert model.loss_ < before
    assert (model.n_iter_, len(model.loss_curve_)) == (2, 4)
    known = {"classes": range(10)} if kind is CNNClassifier else {}
    online = quick(kind)
    for _ in range(5):
        online.partial_fit(X, Y, **known)
    assert online.n_iter_ == 5
    assert online.loss_ < online.loss_curve_[0]
    with pytest.raises(ValueError, match="does not support early_stopping"):
        quick(kind, early_stopping=True).partial_fit(X, Y)


def test_errors_about_classes():
    with pytest.raises(ValueError, match="classes must be passed"):
        quick().partial_fit(X, Y)
    with pytest.raises(ValueError, match=r"previously unseen labels: \[9\]"):
        quick().partial_fit(X, Y, classes=range(9))
    with pytest.raises(ValueError, match="same classes"):
        quick(warm_start=True).fit(X, Y).fit(X, Y % 2)
    with pytest.raises(ValueError, match="3 samples are too few for a validation split"):
        quick(early_stopping=True).fit(X[:3], Y[:3])
    with pytest.raises(NotFittedError):
        quick().predict(X)


def test_warnings_where_they_are_due():
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(2\)"):
        quick(schedule="constant").fit(X, Y)
    with pytest.warns(ConvergenceWarning, match="hasn't converged"):
        quick(max_iter=1).fit(X, Y)
    with pytest.warns(UserWarning, match="larger than the 200 samples"):
        quick(batch_size=1000).fit(X, Y)
    stopped = quick(schedule="constant", tol=10.0, n_iter_no_change=2, max_iter=50).fit(X, Y)
    assert stopped.n_iter_ == 3


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_training_that_runs_away_says_so():
    with pytest.raises(ValueError, match=r"non-finite parameter weights.*learning_rate_init"):
        quick(solver="sgd", learning_rate_init=1e30, schedule="constant").fit(X, Y)


def test_class_weights():
    weights = quick(max_iter=20, class_weight={3: 1000.0}).fit(X, Y)
    plain = quick(max_iter=20).fit(X, Y)
    assert np.mean(weights.predict(X) == 3) >= np.mean(plain.predict(X) == 3)
    balanced = quick(class_weight="balanced").fit(X, Y % 2)
    count = np.bincount(Y % 2)
    by_hand = quick().fit(X, Y % 2, sample_weight=(200 / (2 * count))[Y % 2])
    np.testing.assert_allclose(balanced.decision_function(X), by_hand.decision_function(X), rtol=1e-4)


@pytest.mark.parametrize(
    "parameters", [{"shuffle": False}, {"solver": "adam"}, {"solver": "sgd"}, {"schedule": "cosine"}]
)
def test_other_settings_learn_too(parameters):
    model = quick(**{"max_iter": 4, **parameters}).fit(X, Y)
    assert model.loss_ < model.loss_curve_[0]


# ------------------------------------------------------------------------------------------------ layers


def test_layers_are_parameters_and_are_never_changed():
    model = quick(layers=[*NET])
    assert model.get_params()["layers__0__num_filters"] == 4
    before = model.layers
    model.set_params(layers__0__num_filters=8, layers__2__pool_size=3)
    assert before[0] is NET[0]
    assert NET[0].num_filters == 4
    model.fit(X, Y)
    assert model.model_.layers[0].filters.shape[0] == 8
    assert [repr(layer) for layer in model.layers] == ["Conv2D(8, 3)", "ReLU()", "MaxPool2D(pool_size=3)"]
    assert all(layer.input_shape is None for layer in (*NET, *model.layers))
    with pytest.raises(ValueError, match="Invalid parameter 'colour' for layer Conv2D"):
        model.set_params(layers__0__colour=1)
    with pytest.raises(ValueError, match="there are 3 layers"):
        model.set_params(layers__7__num_filters=1)
    with pytest.raises(ValueError, match="is no list of layers"):
        CNNClassifier().set_params(layers__0__num_filters=1)


def test_the_end_of_a_list_of_layers():
    whole = quick(layers=[*NET, Flatten(), Dense(10)]).fit(X, Y)
    for layers in ([*NET], [*NET, Flatten()], [*NET, Flatten(), Dense(10), SoftmaxActivation()]):
        np.testing.assert_array_equal(quick(layers=layers).fit(X, Y).predict_proba(X), whole.predict_proba(X))


def test_a_name():
    assert quick(layers="digits_default").fit(X, Y).n_parameters_ > 10_000


# ------------------------------------------------------------------------------------------------ scikit-learn's tools


@BOTH
def test_copies(kind):
    model = quick(kind).fit(X, Y)
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), joblib.load(file)):
        np.testing.assert_array_equal(other.predict(X), model.predict(X))
        other.partial_fit(X, Y)
    again = clone(model)
    assert not hasattr(again, "model_")
    np.testing.assert_array_equal(again.fit(X, Y).predict(X), model.predict(X))


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_searches_in_parallel(backend):
    search = GridSearchCV(quick(), {"layers__0__num_filters": [2, 8]}, cv=2, n_jobs=2)
    alone = clone(search).set_params(n_jobs=1).fit(X, Y)
    with joblib.parallel_backend(backend):
        search.fit(X, Y)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])
    assert search.best_estimator_.layers[0].num_filters in (2, 8)


def test_in_a_pipeline():
    images = make_pipeline(StandardScaler(), FunctionTransformer(lambda rows: rows.reshape(-1, 8, 8)), quick())
    assert images.fit(X, Y).predict(X).shape == (200,)
    assert cross_val_score(images, X, Y, cv=2).shape == (2,)
    images.set_output(transform="default")


def test_other_tools():
    calibrated = CalibratedClassifierCV(quick(), cv=2).fit(X, Y)
    assert calibrated.predict_proba(X).shape == (200, 10)
    halving = HalvingGridSearchCV(
        quick(), {"alpha": [0.0, 0.1]}, resource="max_iter", max_resources=4, min_resources=2, factor=2, cv=2
    ).fit(X, Y)
    assert halving.best_params_["alpha"] in (0.0, 0.1)
    importance = permutation_importance(quick().fit(X, Y), X[:40], Y[:40], n_repeats=1, random_state=0)
    assert importance.importances_mean.shape == (64,)


def test_it_can_be_shown():
    model = quick()
    assert "CNNClassifier" in repr(model)
    assert "CNNClassifier" in model._repr_html_()
