"""`fit`: samples are checked, "auto" is settled, a network is trained, its outputs are calibrated."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from .. import caller
from ..data.augmentation import Augmentation, epoch_order
from ..history import History
from . import choosing
from .choosing import Choice
from .images import Reading, choose_reading
from .processors import capped_threads
from .samples import Samples, hold_out
from .settling import settle
from .trainable import TrainableCNN
from .trials import Trials
from .watching import Curves, Watch, watch_of, watched


class FitCNN(TrainableCNN):
    """`fit` of `CNNClassifier` and `CNNRegressor`."""

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
        self._check_arguments(checkpoint)
        epochs = self._expected_epochs(X)
        watch = watch_of(self, epochs, X, y, sample_weight)
        again = self.warm_start and hasattr(self, "model_")
        samples = self._samples(X, y, sample_weight, reset=not again)
        self._meet(samples.y, again=again)
        samples = samples._replace(weight=self._weighted(samples)).weighing()
        held = self._validation_set(X_val, y_val, sample_weight_val)
        if held is None and self.early_stopping:
            samples, held = hold_out(samples, self.validation_fraction, self.random_state, self._strata(samples.y))
        if not again:
            self._begin(samples)
        else:
            self._scaler.see(samples.images)
        if held is not None:
            self._scaler.check_range(held.images, f"{type(self).__name__}: X_val")
        with capped_threads(self.n_jobs) as threads:
            samples, held = self._ready(samples), held and self._ready(held.weighing())
            trials = Trials(self, threads)
            self._settle_decay(samples, trials, again=again)
            samples, reserved, choice = self._settle_choice(samples, trials, again=again)
            choosing.cool(self.model_, 1 / self.temperature_)
            self.temperature_, self.augmentation_ = 1.0, choice.augmentation
            self._train(samples, held, watch, checkpoint, epochs, choice.augmentation)
            self._calibrate(choice, reserved)
        if watch is not None:
            watch.done()
        return self

    def _check_arguments(self, checkpoint: Any) -> None:
        """Raise where parameters are wrong, each by itself or together."""
        self._validate_params()
        self._refuse_what_has_no_effect()
        if self.learning_rate_init is not None and not isinstance(self.schedule, str):
            raise ValueError(
                f"learning_rate_init: expected None with a function as schedule, which says the rate by itself; got "
                f"{self.learning_rate_init!r}"
            )
        if checkpoint is not None and self.random_state is None:
            raise ValueError("checkpoint: expected a random_state with it, such as 0; got None: no run is like another")

    def _expected_epochs(self, X: Any) -> int:
        """Return the epochs for X as it comes, which nobody has checked yet."""
        unread = Reading((1,), (1, 1, 1))  # of what will be an error, or was read before
        shape: Any = ()
        try:
            shape = X.shape if hasattr(X, "shape") else np.shape(X) if isinstance(X, list | tuple) else ()
            reading = choose_reading(tuple(shape[1:]), self.input_shape, "") if 1 < len(shape) < 5 else unread
        except ValueError:
            reading = unread
        return self._length(max(1, int(shape[0]) if shape else 1), reading)[1]

    def _validation_set(self, X: Any, y: Any, sample_weight: Any) -> Samples | None:
        """Return the samples that `fit` is given as such."""
        if X is None and y is not None:
            raise ValueError("X_val: expected the samples of y_val; got None")
        if X is None:
            return None
        if y is None:
            raise ValueError("y_val: expected the targets of X_val; got None")
        held = self._samples(X, y, sample_weight, reset=False)
        self._check_targets(held.y)
        return held

    def _settle_decay(self, samples: Samples, trials: Trials, *, again: bool) -> None:
        """Choose the weight decay, where a regressor's is "auto"."""

    def _settle_choice(
        self, samples: Samples, trials: Trials, *, again: bool
    ) -> tuple[Samples, Samples | None, Choice]:
        """Return the samples to train with, those that are kept for a temperature, and what "auto" has chosen."""
        first = self._first_augmentation()
        if again or not self._calibrates:
            return samples, None, Choice(self._next_augmentation() if again else first, self.temperature_)
        groups, reserved = self._strata(samples.y), None
        changes, few = self.augmentation == "auto" and first is not None, samples
        if len(samples.y) > (choosing.MANY if changes else choosing.FEW):
            kept, held = choosing.reserve(len(samples.y), groups, self._seed)
            samples, reserved = samples.taken(kept), samples.taken(held)
            if not (changes or (self._mixes and trials.are_hard(samples, reserved, first))):
                return samples, reserved, Choice(first)
            few = samples.taken(epoch_order(self._seed, 1, len(samples.y))[: choosing.MANY])
            groups = self._strata(few.y)
        chosen = choosing.choose(few, groups, self._seed, first, trials.outputs, changes=changes, mixes=self._mixes)
        return samples, reserved, chosen

    def _train(
        self,
        samples: Samples,
        held: Samples | None,
        watch: Watch | None,
        checkpoint: Any,
        epochs: int,
        augmentation: Augmentation | None,
    ) -> None:
        """Train the model for some epochs, unless something stops it."""
        batch, curves = self._batch(len(samples.y)), Curves(self, held)
        trainer = self._new_trainer(epochs * -(-len(samples.y) // batch), self._threads)
        trainer.epochs = len(self.loss_curve_)  # a warm start has orders of its own
        if watch is not None:
            watch.curves = curves
        history = self._run(trainer, samples, batch, epochs, curves, watch, augmentation, checkpoint)
        disagreement = settle(trainer, samples, batch)
        trainer._release()
        self.history_, self.n_iter_ = history, len(history)
        self.loss_, self._trainer = self.loss_curve_[-1], None
        self._warn_of_no_convergence(history, epochs)
        if disagreement is not None:
            caller.warn(disagreement)

    def _warn_of_no_convergence(self, history: History, epochs: int) -> None:
        reached = f"Maximum iterations ({epochs}) reached"
        if history.stopped == "Ctrl-C":
            caller.warn("Training interrupted by user.")
        elif history.stopped is None and (self.schedule == "constant" or len(history) == 1):
            caller.warn(f"{reached} and the optimization hasn't converged yet.", ConvergenceWarning)
        elif history.stopped is None and self.loss_ >= self.loss_curve_[-len(history)] and self.loss_ > self.tol:
            caller.warn(
                f"{reached}, and the loss, {self.loss_:.3g}, is not below that of the first: the optimization hasn't "
                "converged yet. More iterations or another learning_rate_init may help.",
                ConvergenceWarning,
            )

    def _calibrate(self, choice: Choice, reserved: Samples | None) -> None:
        """Divide the network's outputs by the temperature."""
        temperature = choice.temperature
        if reserved is not None:
            outputs = self.model_.predict(reserved.images[:], threads=self._threads)
            temperature, _ = choosing.fit_temperature(outputs, reserved)
        self.temperature_ = temperature
        choosing.cool(self.model_, temperature)
