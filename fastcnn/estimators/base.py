"""What `CNNClassifier` and `CNNRegressor` are: parameters, samples that are taken in, outputs, copies.

`fit` is in `fitting.py`, `partial_fit` in `partial.py`, what both train with in `trainable.py`.
"""

from __future__ import annotations

import inspect
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from .. import checks, exact
from ..data.augmentation import Augmentation
from ..hints import Called
from ..history import Epoch
from ..losses import Loss
from ..model import Sequential
from ..optim.optimizer import Optimizer
from ..training.trainer import Trainer
from ..typing import Array
from . import scaling
from .embedding import Embedding
from .inputs import ImageInput
from .lengths import Lengths
from .networks import NAMES
from .online import Paused
from .parameters import NestedParameters
from .private_names import Interval, Options, StrOptions, check_sample_weight
from .processors import allowed_threads, capped_threads
from .samples import Samples
from .scaling import Scaler, chunks
from .watching import CallbackSupportMixin


class BaseCNN(Embedding, ImageInput, NestedParameters, CallbackSupportMixin, BaseEstimator, Called):  # type: ignore[misc]
    """Parameters and predictions of `CNNClassifier` and `CNNRegressor`."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "layers": [StrOptions({"auto", *NAMES}), list, tuple],
        "input_shape": ["array-like", None],
        "loss": [StrOptions({"auto", "log_loss"}), Loss],
        "solver": [StrOptions({"adamw", "adam", "sgd"}), Optimizer],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither"), None],
        "schedule": [StrOptions({"one_cycle", "cosine", "constant"}), callable],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "max_iter": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
        "tol": [Interval(Real, 0, None, closed="left")],
        "augmentation": [StrOptions({"auto"}), Augmentation, None],
        "missing_values": [Real, None],
        "warm_start": ["boolean"],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
        "callbacks": [list, tuple, None],
        "communicator": "no_validation",  # a Trainer looks at it
    }

    model_: Sequential
    augmentation_: Augmentation | None
    temperature_: float = 1.0  # of estimators from former versions
    _left: int | None = None  # checksum of the model as the last `partial_fit` left it
    _scaler: Scaler
    _dtype: Any
    _trainer: Trainer | Paused | None  # of `partial_fit`

    @property
    def _threads(self) -> int:
        return allowed_threads(self.n_jobs)

    def _samples(self, X: Any, y: Any, sample_weight: Any, *, reset: bool) -> Samples:
        """Return samples as images, checked targets and weights."""
        images = self._read(X, reset=reset)
        if y is None:
            raise ValueError(f"This {type(self).__name__} estimator requires y to be passed, but the target y is None.")
        y = self._check_y(checks.unmasked(y, type(self).__name__, "y"))
        check_consistent_length(images, y)
        if sample_weight is None:
            return Samples(images, y, None)
        weight = check_sample_weight(sample_weight, images, dtype=np.float64, ensure_non_negative=True)
        if not weight.any():
            raise ValueError("Sample weights must contain at least one non-zero number.")
        with np.errstate(over="ignore"):
            if not np.isfinite(exact.total(weight)):
                raise ValueError(f"sample_weight: expected weights with a sum in float64; they reach {weight.max():g}")
        return Samples(images, y, weight)

    def _outputs(self, X: Any, views: str | None = None) -> Array:
        """Return the network's outputs in float64; of several views of each image their mean."""
        check_is_fitted(self, "model_")
        images = self._read(X, reset=False)
        self._scaler.check_range(images, f"{type(self).__name__}: X")
        with capped_threads(self.n_jobs) as threads:
            parts = [
                self.model_.predict(self._scaler(images[rows], self._dtype), threads=threads, views=views)
                for rows in chunks(images, scaling.WHOLE)
            ]
        return np.concatenate(parts).astype(np.float64)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the trainer, whose plans belong to this process, but not what it remembers; and the ranks.

        A worker of joblib's that read a communicator would begin MPI, as the rank that has started it.
        """
        state: dict[str, Any] = {**super().__getstate__(), "communicator": None}
        if isinstance(state.get("_trainer"), Trainer):
            state["_trainer"] = Paused(state["_trainer"])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take a state; one of a former version lacks arguments that have come since, which get their defaults."""
        super().__setstate__(state)
        for argument in inspect.signature(type(self)).parameters.values():
            if argument.default is not argument.empty and not hasattr(self, argument.name):
                setattr(self, argument.name, argument.default)

    # What a classifier and a regressor say.

    _outputs_wanted: int
    _lengths: ClassVar[Lengths]

    def _check_y(self, y: Any) -> Array:
        """Return targets as an array, if they are such as the estimator takes."""
        raise NotImplementedError

    def _meet(self, y: Array, *, again: bool) -> None:
        """Set `classes_` and the like from y; on a warm start, check y against them."""
        raise NotImplementedError

    def _meet_partly(self, y: Array, *, first: bool, **known: Any) -> None:
        """Do so for `partial_fit`."""
        raise NotImplementedError

    def _check_targets(self, y: Array) -> None:
        """Raise unless the targets are such as `fit` was given."""
        raise NotImplementedError

    def _encode(self, y: Array) -> Array:
        """Return the targets as the loss wants them."""
        raise NotImplementedError

    def _weighted(self, samples: Samples) -> Array | None:
        """Return the weights of samples, those of their classes included."""
        return samples.weight

    def _strata(self, y: Array) -> Array | None:
        """Return the classes whose shares a validation split keeps."""
        return None

    def _loss(self) -> Loss:
        raise NotImplementedError

    @property
    def _usual_rate(self) -> float:
        """The highest learning rate of a solver that is called by its name."""
        raise NotImplementedError

    @property
    def _weight_decay(self) -> float:
        """That of a solver that is called by its name."""
        return float(self.alpha)

    @property
    def _calibrates(self) -> bool:
        """Whether the outputs are divided by a temperature."""
        return False

    @property
    def _mixes(self) -> bool:
        """Whether mixup is tried where many samples are wrong."""
        return False

    def _validation_score(self, epoch: Epoch, held: Samples) -> float:
        """Return the score of the validation set after an epoch; more is better."""
        raise NotImplementedError
