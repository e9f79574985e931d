"""`partial_fit` and early stopping beside those of scikit-learn's MLPs: what is accepted, and what is refused."""

import re
import warnings

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import SGDClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor

from fastcnn import CNNClassifier, CNNRegressor, Conv2D, EarlyStopping, ReLU

X, Y = (array[:200] for array in load_digits(return_X_y=True))
LOW, HIGH = Y < 5, Y >= 5
LABELS = np.stack([Y % 2, Y > 4, Y == 3], axis=1).astype(int)
BOTH = pytest.mark.parametrize("kind", [CNNClassifier, CNNRegressor])
NEW = [
    pytest.param(lambda **more: MLPClassifier((4,), max_iter=2, random_state=0, **more), id="MLPClassifier"),
    pytest.param(lambda **more: CNNClassifier([Conv2D(2, 3)], max_iter=2, random_state=0, **more), id="CNNClassifier"),
]


@pytest.fixture(autouse=True)
def _short_fits_need_not_converge(recwarn):
    warnings.simplefilter("ignore", ConvergenceWarning)


@pytest.mark.parametrize("new", NEW)
def test_classes_come_in_later_batches(new):
    names = np.array(list("abcdefghij"))
    for y, classes in ((Y, range(10)), (Y, np.arange(10)[::-1]), (Y.astype(float), range(10)), (names[Y], names)):
        model = new().partial_fit(X[LOW], y[LOW], classes=classes)
        assert model.predict_proba(X).shape == (200, 10)
        model.partial_fit(X[HIGH], y[HIGH]).partial_fit(X[Y == 7], y[Y == 7])
        assert model.partial_fit(X, y, classes=classes) is model
        assert [*model.classes_] == sorted(classes)
        assert set(model.predict(X)) <= set(classes)


def test_classes_of_later_batches_are_learned():
    model = CNNClassifier([Conv2D(8, 3), ReLU()], learning_rate_init=0.003, random_state=0)
    model.partial_fit(X[LOW], Y[LOW], classes=range(10))
    for _ in range(15):
        model.partial_fit(X, Y)
    assert model.score(X, Y) > 0.95


@pytest.mark.parametrize("new", NEW)
@pytest.mark.parametrize(
    ("calls", "message"),
    [
        ([(X, Y, None)], "classes must be passed on the first call to partial_fit."),
        ([(X, Y, range(5))], "`y` has classes not in `self.classes_`. `self.classes_` has [0 1 2 3 4]."),
        ([(X[LOW], Y[LOW], range(5)), (X[HIGH], Y[HIGH], None)], "`y` has classes not in `self.classes_`."),
        ([(X, Y, range(10)), (X, Y, range(11))], "`classes=range(0, 11)` is not the same as on last call to"),
        ([(X[LOW], Y[LOW], range(10)), (X[LOW], Y[LOW], range(5))], "is not the same as on last call to partial_fit"),
        ([(X, Y.astype(str), range(10))], "`y` has classes not in `self.classes_`."),
        ([(X, Y + 0.5, range(10))], "Unknown label type"),
        ([(X, Y, [*range(9), np.nan])], "Input contains NaN"),
        ([(X, Y, 10)], "Expected array-like"),
    ],
)
def test_what_partial_fit_refuses(new, calls, message):
    model = new()
    for X_, y, classes in calls[:-1]:
        model.partial_fit(X_, y, classes=classes)
    X_, y, classes = calls[-1]
    with pytest.raises(ValueError, match=re.escape(message)):
        model.partial_fit(X_, y, classes=classes)


@pytest.mark.parametrize("new", NEW)
def test_partial_fit_after_fit_keeps_the_classes_of_fit(new):
    model = new().fit(X[LOW], Y[LOW])
    model.partial_fit(X[Y < 3], Y[Y < 3]).partial_fit(X[LOW], Y[LOW], classes=range(5))
    with pytest.raises(ValueError, match="`y` has classes not in"):
        model.partial_fit(X[HIGH], Y[HIGH])
    with pytest.raises(ValueError, match="is not the same as on last call to partial_fit"):
        model.partial_fit(X[LOW], Y[LOW], classes=range(10))
    assert [*model.fit(X[HIGH], Y[HIGH]).classes_] == [5, 6, 7, 8, 9]


@pytest.mark.parametrize("new", NEW)
def test_partial_fit_with_several_labels(new):
    model = new().partial_fit(X, LABELS, classes=range(3)).partial_fit(X, LABELS)
    assert model.predict(X).shape == (200, 3)
    with pytest.raises(ValueError, match="classes"):
        new().partial_fit(X, LABELS, classes=range(2))
    with pytest.raises(ValueError, match="is not the same as the labels of `y`"):  # an MLP takes them
        CNNClassifier([Conv2D(2, 3)]).partial_fit(X, LABELS, classes=range(4))


@pytest.mark.parametrize("new", [SGDClassifier, CNNClassifier])
def test_class_weights_of_classes_that_are_not_in_a_batch(new):
    more = {"layers": [Conv2D(2, 3)], "random_state": 0} if new is CNNClassifier else {}
    model = new(class_weight={7: 3.0}, **more).partial_fit(X[LOW], Y[LOW], classes=range(10)).partial_fit(X, Y)
    with pytest.raises(ValueError, match="class_weight"):
        new(class_weight={99: 3.0}, **more).partial_fit(X[LOW], Y[LOW], classes=range(10))
    with pytest.raises(ValueError, match=r"'balanced'.* is not supported for partial_fit"):
        new(class_weight="balanced", **more).partial_fit(X, Y, classes=range(10))
    if new is CNNClassifier:
        plain = new(**more).partial_fit(X[LOW], Y[LOW], classes=range(10))
        plain.partial_fit(X, Y, sample_weight=np.where(Y == 7, 3.0, 1.0))
        np.testing.assert_array_equal(model._outputs(X), plain._outputs(X))
    with pytest.raises(ValueError, match=r"The 'class_weight' parameter of [A-Za-z]*Classifier must be"):
        new(class_weight="equal", **more).fit(X, Y)


def test_a_call_that_was_refused_leaves_nothing_behind():
    model = CNNClassifier([Conv2D(2, 3)])
    with pytest.raises(ValueError, match="`y` has classes not in"):
        model.partial_fit(X, Y, classes=range(5))
    assert [*model.partial_fit(X, Y, classes=range(10)).classes_] == [*range(10)]


# ------------------------------------------------------------------------------------------------ early stopping


@pytest.mark.parametrize("new", NEW)
@pytest.mark.parametrize(
    ("n", "classes", "share", "message"),
    [
        (10, 1, 0.1, "The validation set is too small. Increase 'validation_fraction' or the size of your dataset"),
        (10, 2, 0.1, "The test_size = 1 should be greater or equal to the number of classes = 2"),
        (3, 2, 0.5, "The least populated classes in y have only 1 member"),
        (1, 1, 0.1, "the resulting train set will be empty"),
    ],
)
def test_too_few_samples_to_hold_some_out(new, n, classes, share, message):
    with pytest.raises(ValueError, match=message):
        new(early_stopping=True, validation_fraction=share).fit(X[:n], np.arange(n) % classes)


@pytest.mark.parametrize("new", NEW)
def test_just_enough_samples_to_hold_some_out(new):
    model = new(early_stopping=True).fit(X[:11], np.arange(11) % 2)
    assert len(model.validation_scores_) == 2


@pytest.mark.parametrize("kind", [MLPRegressor, CNNRegressor])
def test_a_regressor_holds_two_out(kind):
    for n in (2, 10):
        with pytest.raises(ValueError, match="The validation set is too small"):
            kind(early_stopping=True, max_iter=2).fit(X[:n], Y[:n])
    assert len(kind(early_stopping=True, max_iter=2).fit(X[:11], Y[:11]).validation_scores_) == 2


@BOTH
def test_only_samples_with_a_weight_are_held_out(kind):
    """A score over nothing would end the fit after the first epoch."""
    y = np.arange(200) % 2
    weight = np.zeros(200)
    weight[::10] = 1
    weight[1::10] = 1
    for seed in range(5):
        model = kind([Conv2D(2, 3)], early_stopping=True, max_iter=2, random_state=seed)
        assert np.isfinite(model.fit(X, y, sample_weight=weight).validation_scores_).all()


@BOTH
def test_the_callback_needs_a_validation_set(kind):
    model = kind([Conv2D(2, 3)], max_iter=2, callbacks=[EarlyStopping()])
    with pytest.raises(ValueError, match="EarlyStopping: monitor: val_loss is measured on a validation set"):
        model.fit(X, Y)
    assert not model.loss_curve_
    assert len(model.set_params(early_stopping=True).fit(X, Y).validation_scores_) == 2
    assert len(model.set_params(early_stopping=False).fit(X, Y, X_val=X, y_val=Y).validation_scores_) == 2
