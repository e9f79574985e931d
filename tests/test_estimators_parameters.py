"""Each parameter of the estimators changes something that can be seen, or is refused."""

import inspect
import warnings

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

from fastcnn import (
    SGD,
    Augmentation,
    Callback,
    CNNClassifier,
    CNNRegressor,
    Conv2D,
    CrossEntropy,
    Huber,
    OneCycle,
    ReLU,
)

X, Y = (array[:80] for array in load_digits(return_X_y=True))
BOTH = pytest.mark.parametrize("kind", [CNNClassifier, CNNRegressor])
VALIDATED = {"early_stopping": True, "validation_fraction": 0.2, "max_iter": 12, "tol": 0.5}
CONSTANT = {"schedule": "constant", "max_iter": 12, "n_iter_no_change": 1}
GAP = np.where(np.random.RandomState(0).random_sample(X.shape) < 0.05, -9999.0, X)
# Another value, and what else is set in both.
CHANGES = {
    "layers": ([Conv2D(3, 3), ReLU()], {}),
    "input_shape": ((1, 4, 16), {}),
    "solver": ("sgd", {}),
    "learning_rate_init": (0.02, {}),
    "schedule": ("cosine", {}),
    "batch_size": (16, {}),
    "max_iter": (3, {}),
    "alpha": (0.5, {}),
    "early_stopping": (True, {"validation_fraction": 0.2}),
    "validation_fraction": (0.3, VALIDATED),
    "n_iter_no_change": (2, VALIDATED),
    "tol": (10.0, CONSTANT),
    "augmentation": (Augmentation(shift=2), {}),
    "missing_values": (-9999, {}),
    "warm_start": (True, {}),
    "shuffle": (False, {}),
    "random_state": (1, {}),
}
OF_A_CLASSIFIER = {"loss": (CrossEntropy(label_smoothing=0.2), {}), "class_weight": ({0: 9.0}, {})}
OF_A_REGRESSOR = {"loss": (Huber(), {})}
SEEN_OTHERWISE = {"n_jobs", "verbose", "callbacks", "communicator"}


def cases(kind):
    return {**CHANGES, **(OF_A_CLASSIFIER if kind is CNNClassifier else OF_A_REGRESSOR)}


def outcome(kind, **parameters):
    """Return what a model that is fitted twice says, and how long that took."""
    net = [Conv2D(4, 3), ReLU()]
    model = kind(**{"layers": net, "max_iter": 2, "random_state": 0, **parameters})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", UserWarning)  # of -9999, and of what runs away
        model.fit(GAP, Y).fit(GAP, Y)
    return model._outputs(GAP).tobytes(), model.n_iter_, model.validation_scores_


def pairs():
    return [pytest.param(kind, name, id=f"{kind.__name__}-{name}")
            for kind in (CNNClassifier, CNNRegressor) for name in cases(kind)]  # fmt: skip


@pytest.mark.parametrize(("kind", "name"), pairs())
def test_a_parameter_changes_the_fit(kind, name):
    value, others = cases(kind)[name]
    assert outcome(kind, **{**others, name: value}) != outcome(kind, **others)


@BOTH
def test_no_parameter_is_forgotten(kind):
    assert {*inspect.signature(kind).parameters} == {*cases(kind)} | SEEN_OTHERWISE


@BOTH
def test_what_changes_no_number_is_seen(kind, capsys):
    class Calls(Callback):
        count = 0

        def batch(self, run):
            self.count += 1

    net, calls = [Conv2D(4, 3), ReLU()], Calls()
    kind(net, max_iter=2, random_state=0, callbacks=[calls]).fit(X, Y)
    assert calls.count >= 20  # 10 batches of 8 an epoch
    assert not capsys.readouterr().out
    model = kind(net, max_iter=2, random_state=0, verbose=True, n_jobs=1).fit(X, Y)
    assert "Epoch" in capsys.readouterr().out
    assert model._threads == 1
    with pytest.raises(ValueError, match="n_jobs == 0"):
        model.set_params(n_jobs=0).fit(X, Y)
    with pytest.raises(TypeError, match="communicator"):
        kind(net, max_iter=2, random_state=0, communicator="all").fit(X, Y)


@BOTH
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_alpha_is_refused_where_the_optimizer_has_its_own(kind, method):
    model = kind([Conv2D(4, 3)], solver=SGD(0.01), alpha=0.5)
    classes = {"classes": range(10)} if (kind, method) == (CNNClassifier, "partial_fit") else {}
    with pytest.raises(ValueError, match=r"alpha: expected (0.01|auto) with an optimizer.*got 0.5"):
        getattr(model, method)(X, Y, **classes)
    assert not hasattr(model, "model_")


@BOTH
@pytest.mark.parametrize("schedule", [OneCycle(0.1, 20), lambda step: 0.1])
def test_a_rate_is_refused_where_the_schedule_says_it(kind, schedule):
    with pytest.raises(ValueError, match=r"learning_rate_init: expected None with a function as schedule.*got 0.01"):
        kind([Conv2D(4, 3)], schedule=schedule, learning_rate_init=0.01).fit(X, Y)
