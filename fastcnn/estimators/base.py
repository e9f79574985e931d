"""What both estimators share: parameters, reading X, the training, and what is known after it."""

from __future__ import annotations

import copy
import inspect
import math
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from joblib.parallel import get_active_backend
from sklearn.base import BaseEstimator, is_regressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data

from ..data.augmentation import Augmentation, epoch_order
from ..history import Epoch, History
from ..losses import Loss
from ..model import Sequential
from ..optim.optimizer import Optimizer
from ..optim.optimizers import SGD, Adam, AdamW
from ..optim.schedules import CosineDecay, OneCycle, Schedule
from ..runtime import threads as parallel
from ..training.callbacks import Callback
from ..training.trainer import Trainer
from ..typing import Array
from . import choosing
from .choosing import Choice
from .embedding import Embedding
from .images import Reading, as_numbers, choose_reading, expect_one_size, rectangles
from .networks import NAMES, SHORTEST, SMALLEST, choose_network, takes_rows
from .online import Paused, checksum, last_weights, new_average
from .parameters import NestedParameters
from .private_names import Interval, Options, StrOptions, check_sample_weight
from .samples import Samples, Scaled, hold_out
from .scaling import Scaler, chunks
from .settling import settle
from .watching import CallbackSupportMixin, Curves, Tasks, tasks, watched

# Highest rates of schedules, by those at which a training goes on and on: at the highest itself, and with moments that
# begin anew, four batches of a fitted network's own samples took it from 99.7 to 47 %.
ABOVE = 5.0
AT_ONCE = 1 << 22  # numbers that are scaled at once: beyond, a batch at a time, which takes 1 % longer
FEATURES, IMAGES = 200, 64  # the most samples of a batch
PIXELS = 1 << 18  # of the images of a batch: 32 feature maps of these, forth and back, take about 100 MB
ENOUGH = 2000  # samples below which "auto" takes more epochs, so that the steps fall with the square root alone


class BaseCNN(Embedding, NestedParameters, CallbackSupportMixin, BaseEstimator):  # type: ignore[misc]
    """Parameters and training of `CNNClassifier` and `CNNRegressor`."""

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

    temperature_: float = 1.0  # of estimators from former versions
    _left: int | None = None  # checksum of the model as the last `partial_fit` left it
    augmentation_: Augmentation | None

    # Reading X.

    def _read(self, X: Any, *, reset: bool) -> Array:
        """Return X as images (n, C, H, W), checked; `reset` settles how this estimator reads them."""
        finite: Any = "allow-nan" if self._takes_nan else True
        expect_one_size(X, type(self).__name__)
        if getattr(X, "ndim", None) in (3, 4) or (isinstance(X, list | tuple) and np.ndim(X) in (3, 4)):
            X = check_array(
                X, allow_nd=True, ensure_2d=False, dtype="numeric", ensure_all_finite=finite, estimator=self,
                input_name="X",
            )  # fmt: skip
            if reset:
                self.n_features_in_ = int(np.prod(X.shape[1:]))
                self.__dict__.pop("feature_names_in_", None)
            elif X[0].size != self.n_features_in_:
                raise ValueError(
                    f"X has images of shape {X.shape[1:]}, but {type(self).__name__} is expecting "
                    f"{self._reading.given} as input."
                )
        else:
            if getattr(X, "ndim", 2) > 4:
                raise ValueError(
                    f"{type(self).__name__}: X: expected rows (n, features), or images (n, H, W), (n, C, H, W) or "
                    f"(n, H, W, C); got shape {X.shape}"
                )
            X = validate_data(self, X, reset=reset, dtype="numeric", ensure_all_finite=finite)
        X = as_numbers(X, type(self).__name__)
        given, name = X.shape[1:], type(self).__name__
        if reset:
            self._reading: Reading = choose_reading(given, self.input_shape, name)
            self.input_shape_ = self._reading.shape
            return self._reading.images(X)
        if given == self._reading.given or len(given) == 1:
            return self._reading.images(X)
        return choose_reading(given, self._reading.shape, name).images(X)

    @property
    def _takes_nan(self) -> bool:
        return self.missing_values is not None and bool(np.isnan(self.missing_values))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self._takes_nan
        return tags

    @property
    def _threads(self) -> int:
        """The threads that `n_jobs` allows: all where it is None, but one inside of a task of joblib's or Dask's."""
        available = parallel.get_num_threads()
        if self.n_jobs is None:
            return 1 if _is_in_a_task() else available
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

    @watched
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
        checkpoint: Any = None,
    ) -> Self:
        """Train the network.

        Parameters
        ----------
        X : array of shape (n, features), (n, H, W), (n, C, H, W) or (n, H, W, C)
        y : array of shape (n,) or (n, outputs)
            Of a classifier classes of any kind, or (n, labels) of 0 and 1 for several labels a sample; of a regressor
            numbers.
        sample_weight : array of shape (n,), optional
        X_val, y_val, sample_weight_val : array, optional
            Measured after every epoch; with `early_stopping` they decide in place of a part of X.
        checkpoint : path, optional
            A file for the state of the fit, from which the same call goes on, see `Trainer.fit`. `random_state` must be
            given.

        Returns
        -------
        self
        """
        self._validate_params()
        self._refuse_what_has_no_effect()
        if self.learning_rate_init is not None and not isinstance(self.schedule, str):
            raise ValueError(
                f"learning_rate_init: expected None with a function as schedule, which says the rate by itself; got "
                f"{self.learning_rate_init!r}"
            )
        if checkpoint is not None and self.random_state is None:
            raise ValueError("checkpoint: expected a random_state with it, such as 0; got None: no run is like another")
        epochs = self._expected_epochs(X)
        watch = tasks(self, epochs, X, y, sample_weight)
        again = self.warm_start and hasattr(self, "model_")
        samples = self._samples(X, y, sample_weight, reset=not again)
        self._meet(samples.y, again=again)
        samples = samples._replace(weight=self._weighted(samples)).weighing()
        held: Samples | None = None
        if X_val is not None:
            if y_val is None:
                raise ValueError("y_val: expected the targets of X_val; got None")
            held = self._samples(X_val, y_val, sample_weight_val, reset=False)
            self._check_targets(held.y)
        elif y_val is not None:
            raise ValueError("X_val: expected the samples of y_val; got None")
        elif self.early_stopping:
            samples, held = hold_out(samples, self.validation_fraction, self.random_state, self._strata(samples.y))
        if not again:
            self._warn_of_strips(stacklevel=4)
            self._begin(samples)
        with self._capped() as threads:
            samples, held = self._ready(samples), held and self._ready(held.weighing())
            samples, reserved, choice = self._chosen(samples, threads, again=again)
            choosing.cool(self.model_, 1 / self.temperature_)
            self.temperature_, self.augmentation_ = 1.0, choice.augmentation
            self._train(samples, held, watch, checkpoint, epochs, choice.augmentation)
            self._calibrate(choice, reserved)
        if watch is not None:
            watch.done()
        return self

    def _fit_partly(self, X: Any, y: Any, sample_weight: Any, **known: Any) -> Self:
        """Train for one pass; `known` is what a first call tells of the targets."""
        self._validate_params()
        self._refuse_what_has_no_effect()
        watch = tasks(self, 1, X, y, sample_weight)
        if self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        first = not hasattr(self, "model_")
        samples = self._samples(X, y, sample_weight, reset=first)
        self._meet_partly(samples.y, first=first, **known)
        samples = samples._replace(weight=self._weighted(samples)).weighing()
        if first:
            self._warn_of_strips(stacklevel=5)
            self._begin(samples)
        self._train_partly(samples, watch)
        return self

    def _refuse_what_has_no_effect(self) -> None:
        """Raise where a parameter is set that another one leaves nothing to say."""
        usual = inspect.signature(type(self)).parameters["alpha"].default
        if isinstance(self.solver, Optimizer) and self.alpha != usual:
            raise ValueError(
                f"alpha: expected {usual} with an optimizer, whose weight decay is its own (solver__weight_decay); got "
                f"{self.alpha!r}"
            )

    def _samples(self, X: Any, y: Any, sample_weight: Any, *, reset: bool) -> Samples:
        """Return samples as images, checked targets and weights."""
        images = self._read(X, reset=reset)
        if y is None:
            raise ValueError(f"This {type(self).__name__} estimator requires y to be passed, but the target y is None.")
        y = self._check_y(y)
        check_consistent_length(images, y)
        if sample_weight is None:
            return Samples(images, y, None)
        weight = check_sample_weight(sample_weight, images, dtype=np.float64, ensure_non_negative=True)
        if not weight.any():
            raise ValueError("Sample weights must contain at least one non-zero number.")
        return Samples(images, y, weight)

    def _begin(self, samples: Samples) -> None:
        """Make a new model."""
        if self.communicator is not None and self.random_state is None:
            raise ValueError("random_state: expected an int with a communicator: all ranks begin alike; got None")
        generator = check_random_state(self.random_state)
        images, strips, name = samples.images, self._strips, type(self).__name__
        self._scaler = Scaler(images, samples.weight, strips=strips, missing=self.missing_values, signals=self._signal)
        if self._scaler.repeated is not None:
            value, share = self._scaler.repeated
            warnings.warn(
                f"X: {value:g} is {share:.2%} of the numbers, and far from the others. If it stands for no data, set "
                f"missing_values={value:g}.",
                stacklevel=5,
            )
        # Rows in float64 are computed in float64, where they are not images.
        self._dtype = np.float64 if strips and images.dtype != np.float32 else np.float32
        self.model_ = self._new_model()
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
        self.temperature_ = 1.0
        self.augmentation_ = self._first_augmentation()
        self._trainer: Trainer | Paused | None = None
        self._settings: tuple[Any, ...] = ()  # of the last `partial_fit`

    def _new_model(self) -> Sequential:
        """Return the network, not built yet."""
        return choose_network(
            self.layers, self._reading.shape, self._outputs_wanted, type(self).__name__, places=is_regressor(self),
            signal=self._signal,
        )  # fmt: skip

    @property
    def _signal(self) -> bool:
        """Whether the samples are signals: strips, said to be such, that are long enough to have parts."""
        return _is_signal(self._reading, self.input_shape)

    @property
    def _strips(self) -> bool:
        """Whether the samples are short strips, rows or images below 5 pixels: features rather than images."""
        return _features(self._reading, self.input_shape)

    @property
    def _calibrates(self) -> bool:
        """Whether the outputs are divided by a temperature."""
        return False

    @property
    def _mixes(self) -> bool:
        """Whether mixup is tried where many samples are wrong."""
        return False

    def _warn_of_strips(self, stacklevel: int) -> None:
        """Warn of rows that are read as strips, though they may be images, unless the network knows no places."""
        given, shape = self._reading.given, self.input_shape_
        shapes = rectangles(given[0]) if len(given) == 1 and self._strips else []
        if not shapes or self.input_shape is not None or takes_rows(self.layers):
            return
        warnings.warn(
            f"X: rows of {given[0]} features are read as numbers in a row, input_shape={shape}. If they are images, "
            f"set input_shape to their (channels, height, width): {' or '.join(map(str, shapes))}; if not, set "
            f"input_shape={shape}, which gives no warning, and takes them for signals along which a pattern may be "
            "anywhere.",
            stacklevel=stacklevel,
        )

    def _batch(self, n: int) -> int:
        if self.batch_size == "auto":
            return self._automatic_batch(n, _most(self._reading, self.input_shape))
        if self.batch_size > n:
            warnings.warn(
                f"Got `batch_size` {self.batch_size} larger than the {n} samples. It is going to be clipped.",
                stacklevel=5,
            )
        return int(min(self.batch_size, n))

    @property
    def _usual_rate(self) -> float:
        """The highest learning rate of a solver that is called by its name."""
        raise NotImplementedError

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
        if isinstance(schedule, str):
            if schedule == "constant" and self._chooses_rate:
                rate /= ABOVE
            schedules = {"one_cycle": OneCycle, "cosine": CosineDecay}
            schedule = schedules[schedule](self._rate, steps) if schedule in schedules else None
        elif isinstance(schedule, Schedule):
            schedule = copy.deepcopy(schedule)  # it may learn from the epochs, and a parameter stays as it is
        return Trainer(
            self.model_ if model is None else model, self._loss(), self._optimizer(rate), threads,
            random_state=self._seed, schedule=schedule, ema=new_average() if constant else None,
            communicator=self.communicator,
        )  # fmt: skip

    @property
    def _chooses_rate(self) -> bool:
        """Whether nobody has given a learning rate."""
        return self.learning_rate_init is None and not isinstance(self.solver, Optimizer)

    def _optimizer(self, rate: float) -> Optimizer:
        if isinstance(self.solver, Optimizer):
            optimizer = copy.deepcopy(self.solver)
            optimizer.learning_rate = rate
            return optimizer
        decay = self._weight_decay
        if self.solver == "adamw":
            return AdamW(rate, weight_decay=decay, no_decay=("biases", "gamma", "beta"))
        if self.solver == "adam":
            return Adam(rate, weight_decay=decay)
        return SGD(rate, momentum=0.9, nesterov=True, weight_decay=decay)

    def _expected_epochs(self, X: Any) -> int:
        """Return the epochs for X as it comes, which nobody has checked yet."""
        shape: Any = ()
        try:
            shape = X.shape if hasattr(X, "shape") else np.shape(X) if isinstance(X, list | tuple) else ()
            most = _most(choose_reading(tuple(shape[1:]), self.input_shape, ""), self.input_shape)
        except (ValueError, IndexError):
            most = FEATURES  # which will be an error, or was read before
        return self._epochs(max(1, int(shape[0]) if shape else 1), most)

    def _epochs(self, n: int, most: int) -> int:
        """Return the epochs: with "auto" more for few samples, of which an epoch makes few steps."""
        if self.max_iter != "auto":
            return int(self.max_iter)
        batch = self._automatic_batch(n, most) if self.batch_size == "auto" else min(self.batch_size, n)
        wanted = max(math.isqrt(self._usual_epochs**2 * ENOUGH // n), -(-self._fewest_steps // -(-n // batch)))
        return max(self._usual_epochs, min(wanted, self._most_epochs))

    def _automatic_batch(self, n: int, most: int) -> int:
        return min(n, most if most == FEATURES else max(8, min(n // 20, most)))

    @property
    def _weight_decay(self) -> float:
        return float(self.alpha)

    def _chosen(self, samples: Samples, threads: int, *, again: bool) -> tuple[Samples, Samples | None, Choice]:
        """Return the samples to train with, those that are kept for a temperature, and what "auto" has chosen."""
        first = self._first_augmentation()
        if again or not self._calibrates:
            return samples, None, Choice(self._next_augmentation() if again else first, self.temperature_)
        groups, reserved = self._strata(samples.y), None
        changes, few = self.augmentation == "auto" and first is not None, samples
        if len(samples.y) > (choosing.MANY if changes else choosing.FEW):
            kept, held = choosing.reserve(len(samples.y), groups, self._seed)
            samples, reserved = samples.taken(kept), samples.taken(held)
            if not (changes or (self._mixes and self._is_hard(samples, reserved, first, threads))):
                return samples, reserved, Choice(first)
            few = samples.taken(epoch_order(self._seed, 1, len(samples.y))[: choosing.MANY])
            groups = self._strata(few.y)

        def try_(kept: Samples, held: Samples, augmentation: Augmentation | None) -> Array:
            return self._tried(kept, held, augmentation, threads)

        chosen = choosing.choose(few, groups, self._seed, first, try_, changes=changes, mixes=self._mixes)
        return samples, reserved, chosen

    def _is_hard(self, kept: Samples, held: Samples, augmentation: Augmentation | None, threads: int) -> bool:
        """Tell whether a network that is trained shortly has many of the held-out samples wrong."""
        outputs = self._tried(kept, held, augmentation, threads, choosing.PROBED)
        return choosing.wrong(outputs, held) > choosing.WRONG

    def _tried(
        self, kept: Samples, held: Samples, augmentation: Augmentation | None, threads: int, shorter: int = 1
    ) -> Array:
        """Return the outputs for `held` of a network that is trained with `kept` as this one will be, or shorter."""
        model = self._new_model().build(self._reading.shape, random_state=self._seed, dtype=self._dtype)
        n, most = len(kept.y), _most(self._reading, self.input_shape)
        batch = self._automatic_batch(n, most) if self.batch_size == "auto" else int(min(self.batch_size, n))
        epochs = max(1, self._epochs(n, most) // shorter)
        trainer = self._new_trainer(epochs * -(-n // batch), threads, model=model)
        history = self._fit(trainer, kept, batch, epochs, augmentation)
        if history.stopped == "Ctrl-C":
            raise KeyboardInterrupt
        settle(trainer, kept, batch)
        trainer._release()
        outputs: Array = model.predict(held.images[:], batch, threads=threads).astype(np.float64)
        model._predictors = None  # their memory, now: what refers to itself waits for the garbage collector
        return outputs

    def _calibrate(self, choice: Choice, reserved: Samples | None) -> None:
        """Divide the network's outputs by the temperature."""
        temperature = choice.temperature
        if reserved is not None:
            outputs = self.model_.predict(reserved.images[:], threads=self._threads)
            temperature, _ = choosing.fit_temperature(outputs, reserved)
        self.temperature_ = temperature
        choosing.cool(self.model_, temperature)

    def _train(
        self,
        samples: Samples,
        held: Samples | None,
        watch: Tasks | None,
        checkpoint: Any,
        epochs: int,
        augmentation: Augmentation | None,
    ) -> None:
        """Train the model for some epochs, unless something stops it."""
        batch, curves = self._batch(len(samples.y)), Curves(self, held)
        n = len(samples.y)
        trainer = self._new_trainer(epochs * -(-n // batch), self._threads)
        trainer.epochs = len(self.loss_curve_)  # a warm start has orders of its own
        if watch is not None:
            watch.curves = curves
        history = self._run(trainer, samples, batch, epochs, curves, watch, augmentation, checkpoint)
        disagreement = settle(trainer, samples, batch)
        trainer._release()
        self.history_, self.n_iter_ = history, len(history)
        self.loss_, self._trainer = self.loss_curve_[-1], None
        self._warn(history, epochs)
        if disagreement is not None:
            warnings.warn(disagreement, stacklevel=4)

    def _train_partly(self, samples: Samples, watch: Tasks | None) -> None:
        """Train for one epoch, going on where the last call ended."""
        samples, batch = self._ready(samples), self._batch(len(samples.y))
        with self._capped() as threads:
            trainer = self._trainer = self._going_on()
            trainer.threads = threads
            try:
                with last_weights(trainer, -(-len(samples.y) // batch), self.temperature_, self._left):
                    self.history_ = self._run(
                        trainer, samples, batch, 1, Curves(self), watch, self._next_augmentation()
                    )
            finally:
                self._left = checksum(self.model_)
        self.loss_, self.n_iter_ = self.loss_curve_[-1], self.n_iter_ + 1
        if watch is not None:
            watch.done()

    @property
    def _settings_now(self) -> tuple[Any, ...]:
        """What `partial_fit` goes by: the learning rate first."""
        return self.learning_rate_init, self.solver, self.alpha, self.loss

    def _going_on(self) -> Trainer:
        """Return the trainer of the last `partial_fit`, or one that goes on for it with what is set now."""
        last, settings = self._trainer, self._settings_now
        before, self._settings = self._settings, settings
        if isinstance(last, Trainer) and settings == before:
            return last
        trainer = self._new_trainer(0, constant=True)
        trainer.epochs = len(self.loss_curve_)
        if last is not None:
            paused = Paused(last) if isinstance(last, Trainer) else last
            paused.resume(trainer, state=settings[1:] == before[1:], rate=settings == before)
        return trainer

    def _ready(self, samples: Samples) -> Samples:
        """Return samples with scaled images and encoded targets; many numbers are scaled batch by batch."""
        images: Any = Scaled(self._scaler, samples.images, self._dtype)
        if samples.images.size <= AT_ONCE or not self.shuffle:
            images = images[:]
        return Samples(images, self._encode(samples.y), samples.weight)

    def _first_augmentation(self) -> Augmentation | None:
        """Return how images are changed before anything is tried."""
        if self.augmentation == "auto":
            return None if self._strips or self._signal else choosing.shifts(self._reading.shape)
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

    def _run(
        self,
        trainer: Trainer,
        samples: Samples,
        batch: int,
        epochs: int,
        curves: Curves,
        watch: Tasks | None,
        augmentation: Augmentation | None,
        checkpoint: Any = None,
    ) -> History:
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

    def _warn(self, history: History, epochs: int) -> None:
        """Warn where the training has not converged."""
        if history.stopped == "Ctrl-C":
            warnings.warn("Training interrupted by user.", stacklevel=5)
        elif history.stopped is None and (self.schedule == "constant" or len(history) == 1):
            warnings.warn(
                f"Maximum iterations ({epochs}) reached and the optimization hasn't converged yet.",
                ConvergenceWarning,
                stacklevel=5,
            )
        elif history.stopped is None and self.loss_ >= self.loss_curve_[-len(history)] and self.loss_ > self.tol:
            warnings.warn(
                f"Maximum iterations ({epochs}) reached, and the loss, {self.loss_:.3g}, is not below that of "
                "the first: the optimization hasn't converged yet. More iterations or another learning_rate_init may "
                "help.",
                ConvergenceWarning,
                stacklevel=5,
            )

    def _outputs(self, X: Any, views: str | None = None) -> Array:
        """Return the network's outputs in float64; of several views of each image their mean."""
        check_is_fitted(self, "model_")
        images = self._read(X, reset=False)
        with self._capped() as threads:
            parts = [
                self.model_.predict(self._scaler(images[rows], self._dtype), threads=threads, views=views)
                for rows in chunks(images, AT_ONCE)
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
    _usual_epochs: ClassVar[int]
    _most_epochs: ClassVar[int]  # of few samples
    _fewest_steps: ClassVar[int]

    def _check_y(self, y: Any) -> Array:
        """Return targets as an array, if they are such as the estimator takes."""
        raise NotImplementedError

    def _meet(self, y: Array, *, again: bool) -> None:
        """Settle what the targets are like, or check that they are as before."""
        raise NotImplementedError

    def _meet_partly(self, y: Array, *, first: bool, **known: Any) -> None:
        """Do so for `partial_fit`."""
        raise NotImplementedError

    def _check_targets(self, y: Array) -> None:
        """Raise unless the targets are such as were met."""
        raise NotImplementedError

    def _encode(self, y: Array) -> Array:
        """Return the targets as the loss wants them."""
        raise NotImplementedError

    def _weighted(self, samples: Samples) -> Array | None:
        return samples.weight

    def _strata(self, y: Array) -> Array | None:
        """Return the classes whose shares a validation split keeps."""
        return None

    def _loss(self) -> Loss:
        raise NotImplementedError

    def _validation_score(self, epoch: Epoch, held: Samples) -> float:
        """Return the score of the validation set after an epoch; more is better."""
        raise NotImplementedError


def _is_in_a_task() -> bool:
    """Tell whether joblib or Dask has called: those who share out the processors already.

    joblib counts how deep its calls are nested; a task of Dask's is known by its worker, which is `distributed`'s.
    """
    if (get_active_backend()[0].nesting_level or 0) > 0:
        return True
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return False
    try:
        distributed.get_worker()
    except (AttributeError, ValueError):
        return False
    return True


def _most(reading: Reading, input_shape: Any) -> int:
    """Return the most samples that an automatic batch has: fewer large images, whose feature maps need the memory."""
    if _features(reading, input_shape):
        return FEATURES
    return max(8, min(IMAGES, PIXELS // math.prod(reading.shape[1:])))


def _is_signal(reading: Reading, input_shape: Any) -> bool:
    narrow, long = sorted(reading.shape[1:])
    return narrow < SMALLEST and long >= SHORTEST and (len(reading.given) > 1 or input_shape is not None)


def _features(reading: Reading, input_shape: Any) -> bool:
    return min(reading.shape[1:]) < SMALLEST and not _is_signal(reading, input_shape)
