"""The estimators keep scikit-learn's contract, and read what they are given."""

import ast
import re
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from fastcnn import (
    SGD,
    Adam,
    Augmentation,
    CNNClassifier,
    CNNRegressor,
    Conv2D,
    CosineDecay,
    CrossEntropy,
    Dense,
    Flatten,
    MaxPool2D,
    ReLU,
    Residual,
    SoftmaxActivation,
    WarmUp,
)
from fastcnn.estimators.images import as_numbers

QUICK = [CNNClassifier(max_iter=30), CNNRegressor(max_iter=60)]
BOTH = pytest.mark.parametrize("kind", [CNNClassifier, CNNRegressor])
X, Y = (array[:200] for array in load_digits(return_X_y=True))
NET = [Conv2D(4, 3), ReLU(), MaxPool2D(2)]


def quick(kind=CNNClassifier, **parameters):
    return kind(**{"layers": NET, "max_iter": 2, "random_state": 0, **parameters})


@parametrize_with_checks(QUICK)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize(("estimator", "checks"), [*zip(QUICK, (67, 60), strict=True)])
def test_scikit_learn_really_runs_its_checks(estimator, checks):
    """With a tag set wrongly it would silently run one. The numbers are those of 1.6.1 and of 1.9.1."""
    assert len([*estimator_checks_generator(estimator)]) >= checks


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
    assert model.model_.input_shape == model.input_shape_ == shape


def warned_shapes(estimator, X, method="fit", **more):
    """Return the shapes that the only warning of a fit suggests, an empty list where there is none."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        getattr(estimator, method)(X, np.arange(len(X)) % 2, **more)
        estimator.predict(X)
    found = [one for one in found if issubclass(one.category, UserWarning) and "input_shape" in str(one.message)]
    if not found:
        return []
    assert len(found) == 1
    assert found[0].filename == __file__
    text, shape = str(found[0].message), estimator.input_shape_
    assert f"X: rows of {X.shape[1]} features are read as numbers in a row, input_shape={shape}." in text
    assert f"if not, set input_shape={shape}, which gives no warning," in text
    return [ast.literal_eval(shape) for shape in re.findall(r"\([\d, ]+\)", text)[1:-1]]


@BOTH
@pytest.mark.parametrize(
    ("width", "shapes"),
    [(56, [(1, 7, 8), (1, 8, 7)]), (42, [(1, 6, 7), (1, 7, 6)]), (2914, [(1, 47, 62), (1, 62, 47)]),
     (168, [(1, 12, 14), (1, 14, 12), (1, 8, 21), (1, 21, 8), (3, 7, 8), (3, 8, 7)]),
     (48, [(1, 6, 8), (1, 8, 6)]),
     *((tabular, []) for tabular in (1, 4, 8, 10, 13, 20, 30, 37, 62)), (64, []), (192, [])],
)  # fmt: skip
def test_rows_that_may_be_images_are_warned_of(kind, width, shapes):
    X = np.random.default_rng(0).random((8, width), "f")
    assert warned_shapes(kind(max_iter=2), X) == shapes


@BOTH
def test_the_warning_comes_once_and_where_it_is_due(kind):
    X = np.random.default_rng(0).random((8, 56), "f")
    model, first = quick(kind, layers="auto", warm_start=True), {"classes": [0, 1]} if kind is CNNClassifier else {}
    assert warned_shapes(model, X, X_val=X, y_val=np.arange(8) % 2)
    assert not warned_shapes(model, X)
    assert not warned_shapes(model, X, "partial_fit")
    partial = quick(kind, layers="auto")
    assert warned_shapes(partial, X, "partial_fit", **first)
    assert not warned_shapes(partial, X, "partial_fit")
    for input_shape in [(1, 1, 56), (7, 8), (2, 4, 7)]:
        assert not warned_shapes(quick(kind, layers="auto", input_shape=input_shape), X)
    for images in (X.reshape(8, 1, 56), X.reshape(8, 1, 1, 56), X.reshape(8, 7, 8), X.reshape(8, 1, 8, 7)):
        assert not warned_shapes(quick(kind, layers="auto"), images)
    for layers in ([], [Flatten(), Dense(4), ReLU()]):
        assert not warned_shapes(quick(kind, layers=layers), X)
    assert warned_shapes(quick(kind, layers=[Conv2D(4, (1, 3)), ReLU()]), X)


def test_images_in_rows_are_better_read_as_images():
    X, y = load_digits(return_X_y=True)
    X = X.reshape(-1, 8, 8)[:, :, 1:].reshape(-1, 56)
    model = CNNClassifier(input_shape=(8, 7), max_iter=4, random_state=0).fit(X[:1000], y[:1000])
    assert model.input_shape_ == (1, 8, 7)
    assert model.score(X[1000:], y[1000:]) > 0.93


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
        (X[:, :60], {"input_shape": (9, 7)}, r"60 features, but .* would do: \(1, 1, 60\), \(1, 6, 10\)"),
        (X.reshape(200, 1, 1, 8, 8), {}, r"expected rows \(n, features\), or images .*; got shape \(200, 1, 1, 8, 8\)"),
        (1e300 * X, {}, "numbers are too large"),
        (
            [np.ones((8, 8)), np.ones((9, 8))] * 100,
            {},
            r"images of one shape; got 2 shapes, such as \(8, 8\), \(9, 8\)",
        ),
        (np.where(X > 3, "a", X.astype(object)), {}, "could not convert string to float"),
    ],
)
def test_what_does_not_fit_is_said(X, parameters, message):
    with pytest.raises(ValueError, match=message):
        quick(**parameters).fit(X, Y)


@BOTH
def test_numbers_in_disguise(kind):
    """Objects are read as numbers; dates, which scikit-learn lets through, are none."""
    np.testing.assert_array_equal(quick(kind).fit(X.astype(object), Y).predict(X), quick(kind).fit(X, Y).predict(X))
    with pytest.raises(TypeError, match=rf"^{kind.__name__}: X: expected numbers; got dtype datetime64\[s\]"):
        quick(kind).fit(X.astype("M8[s]"), Y)
    with pytest.raises(ValueError, match="X: expected numbers; got objects"):
        as_numbers(np.array([["x"]], object), kind.__name__)


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


def test_parameters_reach_optimizers_schedules_losses_and_augmentation():
    solver, schedule = SGD(0.1), WarmUp(CosineDecay(0.1, 50), 5)
    model = quick(solver=solver, schedule=schedule, augmentation=Augmentation(shift=1), loss=CrossEntropy(0.1))
    params = model.get_params()
    assert (params["solver__learning_rate"], params["augmentation__shift"]) == (0.1, 1)
    assert (params["schedule__schedule__total_steps"], params["loss__label_smoothing"]) == (50, 0.1)
    model.set_params(
        solver__nesterov=True, solver__momentum=0.9, schedule__schedule__total_steps=40, augmentation__rotation=5,
        loss__label_smoothing=0.0,
    )  # fmt: skip
    assert repr(model.solver) == "SGD(learning_rate=0.1, momentum=0.9, nesterov=True)"
    assert repr(model.schedule) == "WarmUp(CosineDecay(0.1, 40), 5)"
    assert repr(model.augmentation) == "Augmentation(shift=1, rotation=5.0)"
    assert repr(model.loss) == "CrossEntropy()"
    assert (repr(solver), schedule.schedule.total_steps) == ("SGD(learning_rate=0.1)", 50)
    model.set_params(solver=Adam(), solver__learning_rate=0.5)
    assert repr(model.solver) == "Adam(learning_rate=0.5)"
    assert repr(clone(model)) == repr(model)
    with pytest.raises(ValueError, match=r"Invalid parameter 'speed' for Adam of CNNClassifier. Valid parameters"):
        model.set_params(solver__speed=1)
    with pytest.raises(ValueError, match=r"\['momentum'\] of 'adamw' for CNNClassifier: it has no parameters"):
        quick(solver="adamw").set_params(solver__momentum=1)
    with pytest.raises(ValueError, match="Invalid parameter 'optimizer' for estimator"):
        model.set_params(optimizer__speed=1)


def test_a_search_reaches_the_solver():
    search = GridSearchCV(quick(solver=SGD(0.1)), {"solver__learning_rate": [1e-9, 0.1]}, cv=2).fit(X, Y)
    assert search.best_params_ == {"solver__learning_rate": 0.1}


def test_parameters_of_layers_inside_of_layers():
    model = quick(layers=[Residual([Conv2D(1, 3, padding=1), ReLU()])])
    model.set_params(layers__0__layers__0__filter_size=5, layers__0__layers__0__padding=2)
    assert repr(model.layers[0]) == "Residual([Conv2D(1, 5, padding=2), ReLU()])"


def test_the_end_of_a_list_of_layers():
    whole = quick(layers=[*NET, Flatten(), Dense(10)]).fit(X, Y)
    for layers in ([*NET], [*NET, Flatten()], [*NET, Flatten(), Dense(10), SoftmaxActivation()]):
        np.testing.assert_array_equal(quick(layers=layers).fit(X, Y).predict_proba(X), whole.predict_proba(X))


def test_a_name():
    assert quick(layers="digits_default").fit(X, Y).n_parameters_ > 10_000
