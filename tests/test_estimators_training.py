"""How the estimators train: what scikit-learn's own tests ask of its MLPs, and what they promise beyond."""

import signal
import warnings

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_digits
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import accuracy_score, r2_score

from fastcnn import (
    SGD,
    Augmentation,
    BatchNorm,
    Callback,
    CNNClassifier,
    CNNRegressor,
    Conv2D,
    CrossEntropy,
    Dropout,
    Lion,
    MaxPool2D,
    ReLU,
)  # fmt: skip

BOTH = pytest.mark.parametrize("kind", [CNNClassifier, CNNRegressor])
X, Y = (array[:200] for array in load_digits(return_X_y=True))
NET = [Conv2D(4, 3), ReLU(), MaxPool2D(2)]
METRIC = {CNNClassifier: accuracy_score, CNNRegressor: r2_score}


def quick(kind=CNNClassifier, **parameters):
    return kind(**{"layers": NET, "max_iter": 2, "random_state": 0, **parameters})


def known(kind):
    return {"classes": range(10)} if kind is CNNClassifier else {}


def uncalibrated(kind):
    return {"loss": "log_loss"} if kind is CNNClassifier else {}


def assert_same(one, other):
    np.testing.assert_array_equal(one._outputs(X), other._outputs(X))


# ------------------------------------------------------------------------------------------------ the same bits


@BOTH
@pytest.mark.parametrize("layers", ["auto", [*NET, Dropout(0.3)], [Conv2D(4, 3), BatchNorm(), ReLU()]], ids=str)
def test_the_same_seed_gives_the_same_bits_for_any_threads(kind, layers):
    first = quick(kind, layers=layers, n_jobs=1, max_iter=1, schedule="cosine")
    weights = None
    for n_jobs in (1, 2, 3, None):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = first.set_params(n_jobs=n_jobs).fit(X[:100], Y[:100])
        before, weights = weights, model.model_.get_weights()
        for one, other in zip(before or weights, weights, strict=True):
            np.testing.assert_array_equal(one, other)


@BOTH
@pytest.mark.parametrize("layers", ["auto", NET], ids=str)
def test_predictions_do_not_depend_on_the_batch(kind, layers):
    model = quick(kind, layers=layers).fit(X, Y)
    whole = model._outputs(X)
    for size in (1, 7, 100):
        parts = [model._outputs(X[first : first + size]) for first in range(0, 200, size)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_array_equal(model._outputs(X[::-1])[::-1], whole)


@BOTH
def test_fitting_twice_gives_the_same_model(kind):
    model = quick(kind)
    first = model.fit(X, Y)._outputs(X)
    np.testing.assert_array_equal(model.fit(X, Y)._outputs(X), first)
    assert len(model.loss_curve_) == 2


@BOTH
@pytest.mark.parametrize("dtype", ["f4", "u1", "i8", "?", ">f8", object], ids=str)
def test_dtypes(kind, dtype):
    rows = (X > 8) if dtype == "?" else X
    one, other = quick(kind).fit(rows.astype(dtype), Y), quick(kind).fit(rows, Y)
    np.testing.assert_array_equal(one._outputs(rows), other._outputs(rows))


# ------------------------------------------------------------------------------------------------ going on


class Last(Callback):
    """Keeps the weights that train, whose averages predict behind `partial_fit`."""

    def end(self, run):
        self.weights = run.trainer.model.get_weights()


@BOTH
@pytest.mark.parametrize("shuffle", [True, False])
def test_partial_fits_are_a_fit_at_a_constant_rate(kind, shuffle):
    parameters = {
        "schedule": "constant",
        "max_iter": 3,
        "alpha": 0.01,
        "shuffle": shuffle,
        "layers": [*NET, Dropout(0.2)],
    }
    parameters |= uncalibrated(kind)
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(3\)"):
        whole = quick(kind, **parameters).fit(X, Y)
    last = Last()
    parts = quick(kind, **parameters, callbacks=[last])
    for number in range(3):
        parts.partial_fit(X, Y, **(known(kind) if number == 0 else {}))
    for of_parts, of_whole in zip(last.weights, whole.model_.get_weights(), strict=True):
        np.testing.assert_array_equal(of_parts, of_whole)
    assert parts.loss_curve_ == whole.loss_curve_
    assert (parts.n_iter_, parts.loss_, parts.best_loss_) == (3, whole.loss_, whole.best_loss_)


@BOTH
def test_partial_fit_after_fit(kind):
    model = quick(kind, max_iter=20).fit(X, Y)
    before = model.score(X, Y)
    model.set_params(learning_rate_init=1e-4).partial_fit(X, Y)
    assert model.score(X, Y) == pytest.approx(before, abs=0.03)
    assert len(model.loss_curve_) == 21
    with pytest.raises(ValueError, match="does not support early_stopping"):
        model.set_params(early_stopping=True).partial_fit(X, Y)


def test_a_few_of_the_samples_of_fit_do_no_harm():
    """The rate of a schedule's height took a network from 100 to 50 % by a pass over a few samples."""
    model = quick(CNNClassifier, max_iter=20).fit(X, Y)
    model.partial_fit(X[:40], Y[:40])
    assert model.score(X, Y) > 0.95


@BOTH
def test_a_warm_start_goes_on(kind):
    model = quick(kind, warm_start=True).fit(X, Y)
    before = model.loss_
    assert model.fit(X, Y).loss_ < before
    assert (model.n_iter_, len(model.loss_curve_)) == (2, 4)
    cold = quick(kind).fit(X, Y).fit(X, Y)
    assert_same(cold, quick(kind).fit(X, Y))


@BOTH
def test_two_warm_fits_are_one_of_twice_the_epochs(kind):
    """Where the solver remembers nothing: the second goes on with orders of its own."""
    parameters = {"schedule": "constant", "n_iter_no_change": np.inf, "solver": SGD(0.01), **uncalibrated(kind)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        whole = quick(kind, max_iter=4, **parameters).fit(X, Y)
        twice = quick(kind, max_iter=2, warm_start=True, **parameters).fit(X, Y).fit(X, Y)
    assert_same(twice, whole)
    assert twice.loss_curve_ == whole.loss_curve_


@BOTH
def test_a_warm_start_with_early_stopping(kind):
    model = quick(kind, warm_start=True, early_stopping=True).fit(X, Y).fit(X, Y)
    assert len(model.validation_scores_) == len(model.validation_loss_curve_) == 4


def test_errors_about_classes():
    with pytest.raises(ValueError, match="classes must be passed"):
        quick().partial_fit(X, Y)
    with pytest.raises(ValueError, match=r"`self.classes_` has \[0 1 2 .* 8\]. 'y' also has \[9\]"):
        quick().partial_fit(X, Y, classes=range(9))
    with pytest.raises(ValueError, match="is not the same as on last call"):
        quick().partial_fit(X, Y, classes=range(10)).partial_fit(X, Y, classes=range(11))
    with pytest.raises(ValueError, match="same classes"):
        quick(warm_start=True).fit(X, Y).fit(X, Y % 2)
    with pytest.raises(NotFittedError):
        quick().predict(X)


# ------------------------------------------------------------------------------------------------ when it stops


@BOTH
def test_early_stopping_restores_the_best(kind):
    parameters = {"max_iter": 60, "early_stopping": True, "n_iter_no_change": 2, "tol": 0.05}
    model = quick(kind, **parameters).fit(X, Y)
    assert model.n_iter_ < 60
    assert len(model.validation_scores_) == len(model.validation_loss_curve_) == model.n_iter_
    held = quick(kind, **parameters).fit(X[:150], Y[:150], X_val=X[150:], y_val=Y[150:])
    assert held.score(X[150:], Y[150:]) == pytest.approx(max(held.validation_scores_), abs=1e-5)


@BOTH
def test_the_weights_of_a_validation_set_count(kind):
    weight = np.linspace(0, 3, 50)
    model = quick(kind).fit(X[:150], Y[:150], X_val=X[150:], y_val=Y[150:], sample_weight_val=weight)
    score = METRIC[kind](Y[150:], model.predict(X[150:]), sample_weight=weight)
    assert model.validation_scores_[-1] == pytest.approx(score, abs=1e-5)


@BOTH
def test_validation_does_not_change_the_training(kind):
    plain, watched = quick(kind).fit(X, Y), quick(kind).fit(X, Y, X_val=X, y_val=Y)
    assert_same(plain, watched)
    assert watched.validation_scores_[-1] == pytest.approx(watched.score(X, Y), abs=1e-5)


@BOTH
@pytest.mark.parametrize("patience", [1, 3])
def test_it_waits_for_n_iter_no_change(kind, patience):
    model = quick(kind, schedule="constant", tol=1e9, n_iter_no_change=patience, max_iter=50).fit(X, Y)
    assert model.n_iter_ == patience + 1
    assert "did not improve more than tol" in model.history_.stopped


@BOTH
def test_it_waits_for_ever(kind):
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(4\)"):
        model = quick(kind, schedule="constant", tol=1e9, n_iter_no_change=np.inf, max_iter=4).fit(X, Y)
    assert model.n_iter_ == 4


@BOTH
def test_what_validation_asks_for(kind):
    with pytest.raises(ValueError, match=r"3 samples are too few for a validation split.*Pass X_val and y_val"):
        quick(kind, early_stopping=True, validation_fraction=0.9).fit(X[:3], np.array([0, 0, 1]))
    with pytest.raises(ValueError, match="y_val: expected the targets of X_val"):
        quick(kind).fit(X, Y, X_val=X)
    with pytest.raises(ValueError, match="X_val: expected the samples of y_val"):
        quick(kind).fit(X, Y, y_val=Y)
    with pytest.raises(ValueError, match=r"X has 49 features"):
        quick(kind).fit(X, Y, X_val=X[:, :49], y_val=Y)


@BOTH
def test_ctrl_c_leaves_what_was_trained(kind):
    class Interrupt(Callback):
        def batch(self, run):
            if run.step == 2:
                signal.raise_signal(signal.SIGINT)

    with pytest.warns(UserWarning, match="interrupted by user"):
        model = quick(kind, max_iter=50, callbacks=[Interrupt()]).fit(X, Y)
    assert model.n_iter_ == len(model.loss_curve_) == 1
    assert model.predict(X).shape == (200,)


def test_warnings_where_they_are_due():
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(2\)") as found:
        quick(schedule="constant").fit(X, Y)
    assert found[0].filename == __file__
    with pytest.warns(ConvergenceWarning, match="is not below that of the first"):
        quick(learning_rate_init=1e-30, layers=[Conv2D(4, 3)]).fit(X, Y)
    with pytest.warns(UserWarning, match="larger than the 200 samples") as found:
        quick(batch_size=1000).fit(X, Y)
    assert found[0].filename == __file__


@BOTH
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_training_that_runs_away_says_so(kind):
    with pytest.raises(ValueError, match=r"non-finite parameter weights.*learning_rate_init"):
        quick(kind, solver="sgd", learning_rate_init=1e30, schedule="constant").fit(X, Y)


# ------------------------------------------------------------------------------------------------ settings


def test_it_learns():
    model = CNNClassifier(random_state=0).fit(X, Y)
    assert model.score(X, Y) > 0.98
    assert model.loss_ == model.loss_curve_[-1] == model.history_[-1].loss
    assert model.n_iter_ == len(model.loss_curve_) == 37
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


@BOTH
@pytest.mark.parametrize(
    "parameters",
    [{"shuffle": False}, {"solver": "adam"}, {"solver": "sgd"}, {"solver": Lion(0.001)}, {"schedule": "cosine"},
     {"schedule": lambda step: 0.01}, {"augmentation": Augmentation(shift=1)},
     {"augmentation": Augmentation(shift=1), "shuffle": False}, {"solver": SGD(0.01, clip_norm=1.0)}],
    ids=lambda each: ", ".join(f"{name}={getattr(value, '__name__', value)}" for name, value in each.items()),
)  # fmt: skip
def test_other_settings_learn_too(kind, parameters):
    model = quick(kind, max_iter=4, **parameters).fit(X, Y)
    assert model.loss_ < model.loss_curve_[0]


@BOTH
def test_decay_shortens_the_weights(kind):
    lengths = [np.linalg.norm(quick(kind, alpha=alpha).fit(X, Y).model_.get_weights()[0]) for alpha in (0.0, 1.0, 10.0)]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[2] < 0.9 * lengths[0]


@BOTH
def test_shuffling_counts(kind):
    kept, shuffled = quick(kind, shuffle=False), quick(kind)
    assert_same(kept.fit(X, Y), quick(kind, shuffle=False).fit(X, Y))
    assert np.abs(kept._outputs(X) - shuffled.fit(X, Y)._outputs(X)).max() > 1e-3


@BOTH
def test_what_has_no_weight_does_not_count(kind):
    weight = np.where(Y < 3, 0.0, 1.0)
    model = quick(kind).fit(X, Y, sample_weight=weight)
    alone = quick(kind).fit(X[Y >= 3], Y[Y >= 3])
    if kind is CNNRegressor:
        assert_same(model, alone)
    else:
        assert [*model.classes_] == [*range(10)]  # as scikit-learn's classifiers
        assert set(model.set_params(max_iter=8).fit(X, Y, sample_weight=weight).predict(X)) <= set(range(3, 10))


def test_class_weights():
    weights = quick(max_iter=20, class_weight={3: 1000.0}).fit(X, Y)
    plain = quick(max_iter=20).fit(X, Y)
    assert np.mean(weights.predict(X) == 3) >= np.mean(plain.predict(X) == 3)
    balanced = quick(class_weight="balanced").fit(X, Y % 2)
    count = np.bincount(Y % 2)
    by_hand = quick().fit(X, Y % 2, sample_weight=(200 / (2 * count))[Y % 2])
    np.testing.assert_allclose(balanced.decision_function(X), by_hand.decision_function(X), rtol=1e-4)


def test_a_loss_of_ones_own():
    smoothed = quick(loss=CrossEntropy(label_smoothing=0.1)).fit(X, Y)
    plain = quick(loss="log_loss").fit(X, Y)
    assert_same(plain, quick(loss=CrossEntropy()).fit(X, Y))
    assert plain.loss_ != smoothed.loss_


def test_verbose(capsys):
    quick(verbose=True).fit(X, Y)
    assert capsys.readouterr().out.count("| Accuracy:") == 2
    quick().fit(X, Y)
    assert capsys.readouterr() == ("", "")
