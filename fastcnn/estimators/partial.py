"""`partial_fit`: one pass over the samples of each call, which goes on where the last call ended."""

from __future__ import annotations

from typing import Any, Self

from ..training.trainer import Trainer
from .online import Paused, checksum, last_weights
from .processors import capped_threads
from .samples import Samples
from .trainable import TrainableCNN
from .watching import Curves, Watch, watch_of


class PartialFitCNN(TrainableCNN):
    """`partial_fit` of `CNNClassifier` and `CNNRegressor`, which check what their own takes of targets."""

    def _fit_partly(self, X: Any, y: Any, sample_weight: Any, **known: Any) -> Self:
        """Train for one pass; `known` is what a first call tells of the targets."""
        self._validate_params()
        self._refuse_what_has_no_effect()
        watch = watch_of(self, 1, X, y, sample_weight)
        if self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        first = not hasattr(self, "model_")
        samples = self._samples(X, y, sample_weight, reset=first)
        self._meet_partly(samples.y, first=first, **known)
        samples = samples._replace(weight=self._weighted(samples)).weighing()
        if first:
            self._begin(samples)
        else:
            self._scaler.see(samples.images)
        self._train_partly(samples, watch)
        return self

    def _train_partly(self, samples: Samples, watch: Watch | None) -> None:
        """Train for one epoch, going on where the last call ended."""
        samples, batch = self._ready(samples), self._batch(len(samples.y))
        with capped_threads(self.n_jobs) as threads:
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
