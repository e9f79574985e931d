"""A network that an estimator makes for its samples, and one training of it: of `fit`, `partial_fit` and trials."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from sklearn.base import is_regressor
from sklearn.utils import check_random_state

from .. import caller
from ..data.augmentation import Augmentation
from ..history import History
from ..model import Sequential
from ..optim.optimizer import Optimizer
from ..training.callbacks import Callback
from ..training.trainer import Trainer
from . import choosing, scaling
from .base import BaseCNN
from .images import Kind, Reading, kind_of
from .networks import choose_network
from .online import new_average
from .samples import Samples, Scaled
from .scaling import Scaler
from .solvers import ABOVE, new_optimizer, new_schedule
from .watching import Curves, Watch


class TrainableCNN(BaseCNN):
    """What `fit`, `partial_fit` and trials of "auto" share: a new network, its trainer, a run over samples."""

    def _refuse_what_has_no_effect(self) -> None:
        """Raise where a parameter is set that another one leaves nothing to say."""
        usual = inspect.signature(type(self)).parameters["alpha"].default
        if isinstance(self.solver, Optimizer) and self.alpha != usual:
            raise ValueError(
                f"alpha: expected {usual} with an optimizer, whose weight decay is its own (solver__weight_decay); got "
                f"{self.alpha!r}"
            )

    # The network.

    def _begin(self, samples: Samples) -> None:
        """Make a new model, and forget what was trained before."""
        if self.communicator is not None and self.random_state is None:
            raise ValueError("random_state: expected an int with a communicator: all ranks begin alike; got None")
        generator = check_random_state(self.random_state)
        self._warn_of_strips()
        self._warn_of_channels_last()
        self._scaler = self._new_scaler(samples)
        # Features in float64 are computed in float64.
        is_double = self._kind is Kind.FEATURES and samples.images.dtype != np.float32
        self._dtype = np.float64 if is_double else np.float32
        self.model_ = self._new_model()
        try:
            self.model_._build_unasked(self._reading.shape, random_state=generator, dtype=self._dtype)
        except ValueError as error:
            raise ValueError(f"{type(self).__name__}: layers: {error}") from None
        self._seed = int(generator.randint(2**31 - 1))
        self.n_parameters_ = sum(array.size for array in self.model_.parameters.values())
        self.loss_curve_: list[float] = []
        self.validation_loss_curve_: list[float] | None = None
        self.validation_scores_: list[float] | None = None
        self.best_loss_, self.n_iter_ = np.inf, 0
        self.temperature_ = 1.0
        self.augmentation_ = self._first_augmentation()
        self._trainer = None
        self._settings: tuple[Any, ...] = ()  # of the last `partial_fit`

    def _new_scaler(self, samples: Samples) -> Scaler:
        kind = self._kind
        scaler = Scaler(
            samples.images, samples.weight, strips=kind is Kind.FEATURES, missing=self.missing_values,
            signals=kind is Kind.SIGNALS,
        )  # fmt: skip
        if scaler.repeated is not None:
            value, share = scaler.repeated
            caller.warn(
                f"X: {value:g} is {share:.2%} of the numbers, and far from the others. If it stands for no data, set "
                f"missing_values={value:g}."
            )
        return scaler

    def _new_model(self) -> Sequential:
        """Return the network, not built yet."""
        return choose_network(
            self.layers, self._reading.shape, self._outputs_wanted, type(self).__name__, places=is_regressor(self),
            signal=self._kind is Kind.SIGNALS,
        )  # fmt: skip

    # How long it is trained.

    def _length(self, n: int, reading: Reading) -> tuple[int, int]:
        """Return the size of batches and the epochs for n samples that are read so."""
        kind, auto = kind_of(reading, self.input_shape), self._lengths
        batch = auto.batch(n, reading.shape, kind) if self.batch_size == "auto" else int(min(self.batch_size, n))
        return batch, auto.epochs(n, kind, batch) if self.max_iter == "auto" else int(self.max_iter)

    def _batch(self, n: int) -> int:
        """Return the size of batches of n samples; warn where it is another than was asked for."""
        if self.batch_size != "auto" and self.batch_size > n:
            caller.warn(f"Got `batch_size` {self.batch_size} larger than the {n} samples. It is going to be clipped.")
        return self._length(n, self._reading)[0]

    # By what it is trained.

    @property
    def _chooses_rate(self) -> bool:
        """Whether nobody has given a learning rate."""
        return self.learning_rate_init is None and not isinstance(self.solver, Optimizer)

    @property
    def _rate(self) -> float:
        """The learning rate, the highest with a schedule: that of a given optimizer, unless there is another."""
        if self.learning_rate_init is not None:
            return float(self.learning_rate_init)
        return self.solver.learning_rate if isinstance(self.solver, Optimizer) else self._usual_rate

    def _new_trainer(
        self, steps: int, threads: int | None = None, *, constant: bool = False, model: Sequential | None = None
    ) -> Trainer:
        """Return a trainer for so many steps; for `partial_fit` one with a constant rate and an average."""
        schedule, rate = "constant" if constant else self.schedule, self._rate
        lower = rate / ABOVE if schedule == "constant" and self._chooses_rate else rate
        return Trainer(
            self.model_ if model is None else model, self._loss(),
            new_optimizer(self.solver, lower, self._weight_decay), threads, random_state=self._seed,
            schedule=new_schedule(schedule, rate, steps), ema=new_average() if constant else None,
            communicator=self.communicator,
        )  # fmt: skip

    def _first_augmentation(self) -> Augmentation | None:
        """Return how images are changed before anything is tried."""
        if self.augmentation == "auto":
            return choosing.shifts(self._reading.shape) if self._kind is Kind.IMAGES else None
        chosen: Augmentation | None = self.augmentation
        return chosen

    def _next_augmentation(self) -> Augmentation | None:
        """Return how images are changed where a training goes on: as "auto" has chosen before."""
        chosen: Augmentation | None = getattr(self, "augmentation_", None)
        if self.augmentation != "auto" or chosen is None:
            return self._first_augmentation()
        if chosen.mixup and not (self.shuffle and isinstance(self.loss, str)):  # which only these can take
            return Augmentation(**{**chosen._arguments(), "mixup": 0.0})
        return chosen

    # A training.

    def _ready(self, samples: Samples) -> Samples:
        """Return samples with scaled images and encoded targets; many numbers are scaled batch by batch."""
        images: Any = Scaled(self._scaler, samples.images, self._dtype)
        if samples.images.size <= scaling.WHOLE or not self.shuffle:
            images = images[:]
        return Samples(images, self._encode(samples.y), samples.weight)

    def _run(
        self,
        trainer: Trainer,
        samples: Samples,
        batch: int,
        epochs: int,
        curves: Curves,
        watch: Watch | None,
        augmentation: Augmentation | None,
        checkpoint: Any = None,
    ) -> History:
        """Let a trainer fit the samples, watched by all who want to be told."""
        validation = None if curves.held is None else curves.held.batches(max(batch, 256))
        callbacks: list[Callback] = [curves, *(self.callbacks or ()), *([] if watch is None else [watch])]
        return self._fit(
            trainer, samples, batch, epochs, augmentation, X_val=validation, callbacks=callbacks,
            verbose=int(self.verbose), checkpoint=checkpoint,
        )  # fmt: skip

    def _fit(
        self,
        trainer: Trainer,
        samples: Samples,
        batch: int,
        epochs: int,
        augmentation: Augmentation | None,
        **others: Any,
    ) -> History:
        """Let a trainer fit the samples, shuffled or in their order."""
        args: dict[str, Any] = {"X": samples.batches(batch)}
        if self.shuffle:
            args = {"X": samples.images, "y": samples.y, "sample_weight": samples.weight, "batch_size": batch}
        try:
            return trainer.fit(**args, epochs=epochs, augmentation=augmentation, **{"verbose": 0, **others})
        except FloatingPointError as error:
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
                f"preprocessed, or learning_rate_init={self._rate} is too large ({error})."
            ) from error
