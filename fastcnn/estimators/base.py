"""What both estimators share: parameters, reading X, the training, and what is known after it."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from joblib.parallel import get_active_backend
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from .. import parallel
from ..augmentation import Augmentation
from ..callbacks import Callback, Run
from ..history import Epoch, History
from ..layers.base import Layer
from ..losses import Loss
from ..optimizers import SGD, Adam, AdamW, Optimizer
from ..schedules import CosineDecay, OneCycle
from ..training import Trainer
from ..typing import Array
from .images import Reading, Scaler, choose_reading
from .networks import NAMES, choose_network, with_arguments

NESTED = re.compile(r"layers__(\d+)(?:__(.+))?")


class BaseCNN(BaseEstimator):  # type: ignore[misc]
    """Parameters and training of `CNNClassifier` and `CNNRegressor`."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "layers": [StrOptions({"auto", *NAMES}), list, tuple],
        "input_shape": ["array-like", None],
        "loss": [StrOptions({"auto", "log_loss"}), Loss],
        "solver": [StrOptions({"adamw", "adam", "sgd"}), Optimizer],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "schedule": [StrOptions({"one_cycle", "cosine", "constant"}), callable],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "augmentation": [StrOptions({"auto"}), Augmentation, None],
        "warm_start": ["boolean"],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
        "callbacks": [list, tuple, None],
    }

    layers: Any

    # Parameters that lie in the layers.

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters; with `deep`, also those of the layers of a list, as `layers__0__num_filters`."""
        params: dict[str, Any] = super().get_params(deep=deep)
        if deep and isinstance(self.layers, list | tuple):
            for place, layer in enumerate(self.layers):
                params[f"layers__{place}"] = layer
                if isinstance(layer, Layer):
                    params.update({f"layers__{place}__{name}": value for name, value in layer._arguments().items()})
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters; a layer with a changed one is replaced by a new layer, in a new list."""
        nested = {key: params.pop(key) for key in [*params] if key.startswith("layers__")}
        super().set_params(**params)
        if not nested:
            return self
        if not isinstance(self.layers, list | tuple):
            raise ValueError(f"Invalid parameters {sorted(nested)}: layers={self.layers!r} is no list of layers.")
        layers = [*self.layers]
        changed: dict[int, dict[str, Any]] = {}
        for key, value in sorted(nested.items()):
            match = NESTED.fullmatch(key)
            if match is None or int(match[1]) >= len(layers):
                raise ValueError(f"Invalid parameter {key!r} for estimator {self}: there are {len(layers)} layers.")
            if match[2] is None:
                layers[int(match[1])] = value
            else:
                changed.setdefault(int(match[1]), {})[match[2]] = value
        for place, arguments in changed.items():
            layers[place] = with_arguments(layers[place], arguments, type(self).__name__)
        self.layers = type(self.layers)(layers)
        return self

    # Reading X.

    def _read(self, X: Any, *, reset: bool) -> Array:
        """Return X as images (n, C, H, W), checked; `reset` settles how this estimator reads them."""
        if getattr(X, "ndim", None) in (3, 4) or (isinstance(X, list | tuple) and np.ndim(X) in (3, 4)):
            X = check_array(X, allow_nd=True, ensure_2d=False, dtype="numeric", estimator=self, input_name="X")
            if reset:
                self.n_features_in_ = int(np.prod(X.shape[1:]))
                self.__dict__.pop("feature_names_in_", None)
            elif X[0].size != self.n_features_in_:
                raise ValueError(
                    f"X has images of shape {X.shape[1:]}, but {type(self).__name__} is expecting "
                    f"{self._reading.given} as input."
                )
        else:
            X = validate_data(self, X, reset=reset, dtype="numeric")
        given, name = X.shape[1:], type(self).__name__
        if reset:
            self._reading: Reading = choose_reading(given, self.input_shape, name)
            return self._reading.images(X)
        if given == self._reading.given or len(given) == 1:
            return self._reading.images(X)
        return choose_reading(given, self._reading.shape, name).images(X)

    @property
    def _threads(self) -> int:
        """The threads that `n_jobs` allows: all where it is None, but one inside of a parallel call of joblib's."""
        available = parallel.get_num_threads()
        if self.n_jobs is None:
            return 1 if (get_active_backend()[0].nesting_level or 0) > 0 else available
        if self.n_jobs == 0:
            raise ValueError("n_jobs == 0 has no meaning")
        return int(self.n_jobs) if self.n_jobs > 0 else max(1, parallel.available_cpus() + 1 + int(self.n_jobs))

    @contextmanager
    def _capped(self) -> Iterator[int]:
        """Cap the threads of BLAS too, where `n_jobs` says so, and give them back."""
        if self.n_jobs is None:
            yield self._threads
            return
        from threadpoolctl import threadpool_limits

        with threadpool_limits(limits=self._threads, user_api="blas"):
            yield self._threads

    # Training.

    def _check_weights(self, sample_weight: Any, X: Array) -> Array | None:
        if sample_weight is None:
            return None
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if not weight.any():
            raise ValueError("Sample weights must contain at least one non-zero number.")
        return weight  # type: ignore[no-any-return]

    def _begin(self, images: Array, weight: Array | None, outputs: int) -> None:
        """Make a new model."""
        generator = check_random_state(self.random_state)
        strips = min(self._reading.shape[1:]) < 5
        self._scaler = Scaler(images, weight, strips=strips)
        # Rows in float64 are computed in float64, where they are not images.
        self._dtype = np.float64 if strips and images.dtype != np.float32 else np.float32
        name = type(self).__name__
        self.model_ = choose_network(self.layers, self._reading.shape, outputs, name)
        try:
            self.model_.build(self._reading.shape, random_state=generator, dtype=self._dtype)
        except ValueError as error:
            raise ValueError(f"{name}: layers: {error}") from None
        self._seed = int(generator.randint(2**31 - 1))
        self.n_parameters_ = sum(array.size for array in self.model_.parameters.values())
        self.loss_curve_: list[float] = []
        self.validation_loss_curve_: list[float] | None = None
        self.validation_scores_: list[float] | None = None
        self.best_loss_, self.n_iter_ = np.inf, 0
        self._trainer: Trainer | None = None

    def _batch(self, n: int) -> int:
        if self.batch_size == "auto":
            return min(n, 32 if min(self._reading.shape[1:]) >= 5 else 200)
        if self.batch_size > n:
            warnings.warn(
                f"Got `batch_size` {self.batch_size} larger than the {n} samples. It is going to be clipped.",
                stacklevel=5,
            )
        return int(min(self.batch_size, n))

    def _new_trainer(self, steps: int, threads: int, *, constant: bool = False) -> Trainer:
        rate = float(self.learning_rate_init)
        schedule = "constant" if constant else self.schedule
        if isinstance(schedule, str):
            schedules = {"one_cycle": OneCycle, "cosine": CosineDecay}
            schedule = schedules[schedule](rate, steps) if schedule in schedules else None
        trainer = Trainer(
            self.model_, self._loss(), self._optimizer(rate), threads, random_state=self._seed, schedule=schedule
        )
        return trainer

    def _optimizer(self, rate: float) -> Optimizer:
        if isinstance(self.solver, Optimizer):
            return copy.deepcopy(self.solver)
        if self.solver == "adamw":
            return AdamW(rate, weight_decay=self.alpha, no_decay=("biases", "gamma", "beta"))
        if self.solver == "adam":
            return Adam(rate, weight_decay=self.alpha)
        return SGD(rate, momentum=0.9, nesterov=True, weight_decay=self.alpha)

    def _augmentation(self) -> Augmentation | None:
        """Return the augmentation; "auto" moves, turns and scales images a little."""
        if self.augmentation == "auto":
            return Augmentation(shift=1, rotation=10, scale=0.1) if min(self._reading.shape[1:]) >= 5 else None
        return self.augmentation  # type: ignore[no-any-return]

    def _train(self, images: Array, y: Array, weight: Array | None, validation: tuple[Any, ...] | None) -> None:
        """Train the model on images and encoded targets."""
        x, batch = self._scaler(images, self._dtype), self._batch(len(images))
        callbacks: list[Callback] = [*(self.callbacks or ())]
        progress = _Progress(self, validated=validation is not None)
        with self._capped() as threads:
            trainer = self._new_trainer(self.max_iter * -(-len(x) // batch), threads)
            trainer.epochs = len(self.loss_curve_)  # a warm start has orders of its own
            history = self._run(
                trainer, x, y, weight, batch, self.max_iter, [progress, *callbacks], self._batches(validation, batch)
            )
        self.history_, self.n_iter_ = history, len(history)
        self.loss_, self._trainer = self.loss_curve_[-1], None
        self._warn(history)

    def _run(
        self,
        trainer: Trainer,
        x: Array,
        y: Array,
        weight: Array | None,
        batch: int,
        epochs: int,
        callbacks: Sequence[Callback],
        validation: Any = None,
    ) -> History:
        X: Any = x
        args: dict[str, Any] = {"y": y, "sample_weight": weight, "batch_size": batch}
        if not self.shuffle:
            ends = [(first, first + batch) for first in range(0, len(x), batch)]
            X = [(x[a:b], y[a:b], *([] if weight is None else [weight[a:b]])) for a, b in ends]
            args = {}
        try:
            return trainer.fit(
                X, **args, epochs=epochs, X_val=validation, augmentation=self._augmentation(), callbacks=callbacks,
                verbose=int(self.verbose),
            )  # fmt: skip
        except FloatingPointError as error:
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
                f"preprocessed, or learning_rate_init={self.learning_rate_init} is too large ({error})."
            ) from error

    def _batches(self, validation: tuple[Any, ...] | None, batch: int) -> Any:
        """Return the validation set as batches."""
        if validation is None:
            return None
        images, y, weight = validation
        x, size = self._scaler(images, self._dtype), max(batch, 256)
        ends = [(first, first + size) for first in range(0, len(x), size)]
        return [(x[a:b], y[a:b], *([] if weight is None else [weight[a:b]])) for a, b in ends]

    def _warn(self, history: History) -> None:
        """Warn where the training has not converged."""
        if history.stopped == "Ctrl-C":
            warnings.warn("Training interrupted by user.", stacklevel=4)
        elif history.stopped is None and self.schedule == "constant":
            warnings.warn(
                f"Maximum iterations ({self.max_iter}) reached and the optimization hasn't converged yet.",
                ConvergenceWarning,
                stacklevel=4,
            )
        elif history.stopped is None and self.loss_ >= self.loss_curve_[-len(history)] and self.loss_ > self.tol:
            warnings.warn(
                f"Maximum iterations ({self.max_iter}) reached, and the loss, {self.loss_:.3g}, is not below that of "
                "the first: the optimization hasn't converged yet. More iterations or another learning_rate_init may "
                "help.",
                ConvergenceWarning,
                stacklevel=4,
            )

    def _train_partly(self, images: Array, y: Array, weight: Array | None) -> None:
        """Train for one epoch, going on where the last call ended."""
        x, batch = self._scaler(images, self._dtype), self._batch(len(images))
        with self._capped() as threads:
            if self._trainer is None:
                self._trainer = self._new_trainer(0, threads, constant=True)
                self._trainer.epochs = len(self.loss_curve_)
            self._trainer.threads = threads
            self.history_ = self._run(self._trainer, x, y, weight, batch, 1, [*(self.callbacks or ())])
        self.loss_ = self.history_[-1].loss  # type: ignore[union-attr]
        self.loss_curve_.append(self.loss_)
        self.best_loss_, self.n_iter_ = min(self.best_loss_, self.loss_), self.n_iter_ + 1

    def _outputs(self, X: Any) -> Array:
        """Return the network's outputs in float64."""
        check_is_fitted(self, "model_")
        images = self._read(X, reset=False)
        with self._capped() as threads:
            outputs: Array = self.model_.predict(self._scaler(images, self._dtype), threads=threads).astype(np.float64)
        return outputs

    def _loss(self) -> Loss:
        raise NotImplementedError

    def _validation_score(self, epoch: Epoch) -> float:
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the trainer: its plans belong to this process."""
        state: dict[str, Any] = {**super().__getstate__()}
        if state.get("_trainer") is not None:
            state["_trainer"] = None
        return state


class _Progress(Callback):
    """Keeps the curves, and stops where nothing improves any more."""

    def __init__(self, owner: BaseCNN, *, validated: bool) -> None:
        self.owner, self.validated = owner, validated
        self.best, self.since = -np.inf, 0
        self.weights: list[Array] = []
        if validated:
            owner.validation_loss_curve_ = owner.validation_loss_curve_ or []
            owner.validation_scores_ = owner.validation_scores_ or []

    def epoch(self, run: Run, epoch: Epoch) -> None:
        owner = self.owner
        owner.loss_curve_.append(epoch.loss)
        owner.best_loss_ = min(owner.best_loss_, epoch.loss)
        measure = -epoch.loss
        if self.validated and np.isfinite(epoch.val_loss):
            assert owner.validation_loss_curve_ is not None
            assert owner.validation_scores_ is not None
            measure = owner._validation_score(epoch)
            owner.validation_loss_curve_.append(epoch.val_loss)
            owner.validation_scores_.append(measure)
        stops = owner.early_stopping or owner.schedule == "constant"
        if not stops:
            return
        self.since = 0 if measure > self.best + owner.tol else self.since + 1
        if measure > self.best:
            self.best = measure
            if owner.early_stopping:
                self.weights = run.trainer.model.get_weights()
        if self.since >= owner.n_iter_no_change:
            what = "Validation score" if owner.early_stopping else "Training loss"
            run.stop(f"{what} did not improve more than tol={owner.tol} for {owner.n_iter_no_change} epochs")

    def end(self, run: Run) -> None:
        if self.weights:
            run.trainer.model.set_weights(self.weights)
            self.weights = []
