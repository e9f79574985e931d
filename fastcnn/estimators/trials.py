"""Trials: networks that are trained with a part of the samples, and judged by the others, before a fit."""

from __future__ import annotations

import numpy as np

from ..data.augmentation import Augmentation
from ..typing import Array
from . import choosing
from .samples import Samples
from .settling import settle
from .trainable import TrainableCNN


class Trials:
    """Trainings as an estimator's own will be, of other networks; the estimator does not change.

    Parameters
    ----------
    estimator : TrainableCNN
        With a network that has been begun.
    threads : int
    """

    def __init__(self, estimator: TrainableCNN, threads: int) -> None:
        self.estimator, self.threads = estimator, threads

    def outputs(
        self, kept: Samples, held: Samples, augmentation: Augmentation | None = None, *, shorter: int = 1
    ) -> Array:
        """Return the outputs for `held` of a network that is trained with `kept`, for a part of the epochs or all."""
        estimator, n = self.estimator, len(kept.y)
        model = estimator._new_model()
        model._build_unasked(estimator._reading.shape, random_state=estimator._seed, dtype=estimator._dtype)
        batch, epochs = estimator._length(n, estimator._reading)
        epochs = max(1, epochs // shorter)
        trainer = estimator._new_trainer(epochs * -(-n // batch), self.threads, model=model)
        history = estimator._fit(trainer, kept, batch, epochs, augmentation)
        if history.stopped == "Ctrl-C":
            raise KeyboardInterrupt
        settle(trainer, kept, batch)
        trainer._release()
        outputs: Array = model.predict(held.images[:], batch, threads=self.threads).astype(np.float64)
        model._predictors = None  # their memory, now: what refers to itself waits for the garbage collector
        return outputs

    def are_hard(self, kept: Samples, held: Samples, augmentation: Augmentation | None) -> bool:
        """Tell whether a network that is trained shortly has many of the held-out samples wrong."""
        outputs = self.outputs(kept, held, augmentation, shorter=choosing.PROBED)
        return choosing.wrong(outputs, held) > choosing.WRONG
