"""The learning rate of the estimators: the optimizer's own, unless `learning_rate_init` says another."""

import copy
import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV

from fastcnn import SGD, AdamW, Callback, CNNClassifier, CNNRegressor, Conv2D, MaxPool2D, ReduceOnPlateau, ReLU
from fastcnn.estimators.solvers import ABOVE

BOTH = pytest.mark.parametrize("kind", [CNNClassifier, CNNRegressor])
X, Y = (array[:80] for array in load_digits(return_X_y=True))


def named(kind, solver):
    """Return the highest rate of a solver by name: squared errors let SGD run away at 0.01."""
    return 0.003 if (kind, solver) == (CNNRegressor, "sgd") else 0.01


class Rates(Callback):
    """Keeps the learning rate of each step."""

    def __init__(self):
        self.seen = []

    def batch(self, run):
        self.seen.append(run.trainer.optimizer.learning_rate)


@pytest.fixture(autouse=True)
def _short_fits_need_not_converge(recwarn):
    import warnings

    warnings.simplefilter("ignore", ConvergenceWarning)


def quick(kind, **parameters):
    return kind(
        [Conv2D(4, 3), ReLU(), MaxPool2D(2)],
        **{"max_iter": 2, "random_state": 0, "schedule": "constant", "callbacks": [Rates()], **parameters},
    )


def rates(model):
    """Return the rates that a model has trained at, each once, and forget them."""
    seen, model.callbacks[0].seen = model.callbacks[0].seen, []
    return sorted(set(seen))


RATES = pytest.mark.parametrize(
    ("solver", "given", "expected"),
    [(SGD(0.1), None, 0.1), (AdamW(0.02), None, 0.02), (SGD(0.1), 0.05, 0.05), ("sgd", None, None),
     ("adamw", None, None), ("adam", 0.02, 0.02)],
    ids=str,
)  # fmt: skip


@BOTH
@RATES
def test_the_rate_of_fit_and_partial_fit(kind, solver, given, expected):
    expected = expected or named(kind, solver) / ABOVE
    model = quick(kind, solver=solver, learning_rate_init=given)
    own = getattr(solver, "learning_rate", None)
    assert rates(model.fit(X, Y)) == [expected]
    assert rates(model.partial_fit(X, Y)) == [expected]
    again = clone(model)
    assert (again.learning_rate_init, again.get_params()["learning_rate_init"]) == (given, given)
    assert again.partial_fit(X, Y, **({"classes": range(10)} if kind is CNNClassifier else {}))
    assert rates(again.partial_fit(X, Y)) == [expected]
    assert rates(again.set_params(warm_start=True).fit(X, Y)) == [expected]
    assert getattr(solver, "learning_rate", None) == own


@BOTH
@RATES
@pytest.mark.parametrize("schedule", ["one_cycle", "cosine"])
def test_a_schedule_goes_up_to_the_rate(kind, schedule, solver, given, expected):
    model = quick(kind, solver=solver, learning_rate_init=given, schedule=schedule, max_iter=8, batch_size=4)
    highest = max(rates(model.fit(X, Y)))
    assert highest == pytest.approx(expected or named(kind, solver), rel=1e-2)


@BOTH
def test_the_weights_are_those_of_the_rate(kind):
    """An optimizer of 0.1, one of 0.01 with 0.1 given, and 0.1 given after cloning are the same."""
    one = quick(kind, solver=SGD(0.1)).fit(X, Y)
    other = quick(kind, solver=SGD(0.01), learning_rate_init=0.1).fit(X, Y)
    third = clone(quick(kind, solver=SGD(0.01))).set_params(learning_rate_init=0.1).fit(X, Y)
    slow = quick(kind, solver=SGD(0.01)).fit(X, Y)
    np.testing.assert_array_equal(one._outputs(X), other._outputs(X))
    np.testing.assert_array_equal(one._outputs(X), third._outputs(X))
    assert np.abs(one._outputs(X) - slow._outputs(X)).max() > 1e-3


@BOTH
def test_a_search_over_the_rate(kind):
    search = GridSearchCV(quick(kind, solver=SGD(0.05)), {"learning_rate_init": [None, 0.05, 1e-9]}, cv=2).fit(X, Y)
    own, given, none = search.cv_results_["mean_test_score"]
    assert own == given != none
    assert search.best_params_["learning_rate_init"] in ((None,) if own > none else (1e-9,))


@BOTH
@pytest.mark.parametrize("copied", [None, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_partial_fit_heeds_what_is_set_in_between(kind, copied):
    model = quick(kind, solver=SGD(0.1, momentum=0.9)).fit(X, Y).partial_fit(X, Y)
    model = copied(model) if copied else model
    rates(model)
    velocity = model._trainer.optimizer.get_state() if copied is None else model._trainer.state
    assert rates(model.set_params(learning_rate_init=0.02).partial_fit(X[:8], Y[:8])) == [0.02]
    assert rates(model.set_params(learning_rate_init=None).partial_fit(X[:8], Y[:8])) == [0.1]
    assert len(model._trainer.optimizer.get_state()) == len(velocity) > 0
    assert rates(model.set_params(solver=SGD(0.3)).partial_fit(X[:8], Y[:8])) == [0.3]
    assert rates(model.set_params(solver="adam").partial_fit(X[:8], Y[:8])) == [named(kind, "adam") / ABOVE]
    steps = model._trainer.steps
    assert rates(model.partial_fit(X[:8], Y[:8])) == [named(kind, "adam") / ABOVE]
    assert model._trainer.steps == steps + 1


@BOTH
def test_a_rate_set_in_between_keeps_the_moments(kind):
    """Setting the rate to what it is changes nothing; a new solver begins with no moments."""
    one, same, new = (quick(kind, solver=SGD(0.05, momentum=0.9)).fit(X, Y).partial_fit(X, Y) for _ in range(3))
    one.partial_fit(X, Y)
    same.set_params(learning_rate_init=0.05).partial_fit(X, Y)
    new.set_params(solver=SGD(0.05, momentum=0.9)).partial_fit(X, Y)
    np.testing.assert_array_equal(one._outputs(X), same._outputs(X))
    assert np.abs(one._outputs(X) - new._outputs(X)).max() > 1e-4


@BOTH
def test_a_schedule_that_learns_from_the_epochs_is_a_parameter_that_stays(kind):
    plateau = ReduceOnPlateau(1e-9, 0.5, patience=0)
    model = quick(kind, schedule=plateau, max_iter=4)
    assert min(rates(model.fit(X, Y))) < 1e-9
    assert (plateau.learning_rate, plateau.best) == (1e-9, np.inf)
    first = model._outputs(X)
    np.testing.assert_array_equal(model.fit(X, Y)._outputs(X), first)


@BOTH
@pytest.mark.parametrize("wrong", [0, -0.1, "fast"])
def test_what_is_no_rate(kind, wrong):
    with pytest.raises(ValueError, match="The 'learning_rate_init' parameter"):
        quick(kind, learning_rate_init=wrong).fit(X, Y)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@BOTH
def test_the_error_names_the_rate_that_was_too_large(kind):
    with pytest.raises(ValueError, match=r"learning_rate_init=1e\+30 is too large"), np.errstate(all="ignore"):
        quick(kind, solver=SGD(1e30)).fit(X, Y)
