"""The guard of a fit: a step that leaves a number that is not finite is taken back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..typing import Array
from .feed import Batch
from .snapshot import Snapshot

if TYPE_CHECKING:
    from .stepper import Stepper

FIRST = "is the first whose output is not"
LARGE = 20.0  # beyond what any scaling to mean 0 and variance 1 leaves


class Guard:
    """Takes steps, and knows what was before the last one: weights, running statistics, the optimizer's numbers."""

    def __init__(self, trainer: Stepper) -> None:
        self.trainer = trainer
        self._before = Snapshot()
        self._trainer: dict[str, Any] = {}

    def step(self, batch: Batch, epoch: int, step: int) -> float:
        """Take a step and return its loss; `epoch` and `step` are for the error's words.

        Raises
        ------
        FloatingPointError
            If the loss or a weight is not finite; everything is as it was before the step.
        """
        with self.trainer.model._lock:
            return self._step(batch, epoch, step)

    def _step(self, batch: Batch, epoch: int, step: int) -> float:
        trainer = self.trainer
        trainer._build(batch.x)
        self._remember()
        weight = {} if batch.weight is None else {"sample_weight": batch.weight}
        loss = trainer.step(batch.x, batch.y, **weight)
        if math.isfinite(loss) and self._before.model_is_finite:
            return loss
        where = self._bad_weight() if math.isfinite(loss) else ""
        self._restore()
        where = where or self._agreed(self._bad_layer(batch.x))
        self._restore()  # to look for the layer was one more forward
        rate, most = trainer.optimizer.learning_rate, np.abs(batch.x).max()
        advice = "A smaller learning rate may help"
        if batch.x.dtype != np.uint8 and most > LARGE:
            advice = f"X, with numbers up to {most:.4g}, should be scaled to about 1, or the learning rate be smaller"
        error = FloatingPointError(
            f"fit: epoch {epoch}, step {step}, learning rate {rate:.4g}: {where}; the weights are those from before "
            f"this step. {advice}"
        )
        raise error if trainer.communicator is None else trainer.communicator.everybodys(error)

    def _remember(self) -> None:
        trainer = self.trainer
        self._before.take(trainer.model, [thing for thing in (trainer.optimizer, trainer.ema) if thing is not None])
        self._trainer = {name: value for name, value in vars(trainer).items() if _is_plain(value)}

    def _restore(self) -> None:
        self._before.restore()
        vars(self.trainer).update(self._trainer)

    def _agreed(self, where: str) -> str:
        """Return the words of the first rank that has found a layer: each knows its own images alone."""
        if self.trainer.communicator is None:
            return where
        said = self.trainer.communicator.words(where)
        return next((words for words in said if FIRST in words), said[0])

    def _bad_weight(self) -> str:
        """Name the first weight that the step has spoilt."""
        model = self.trainer.model
        for name, array in model._weights().items():
            if not np.isfinite(array).all():
                place = int(name.partition(".")[0])
                return f"layer {place} ({model.layers[place].name}): {name} is not finite after the step"
        return "a weight is not finite after the step"

    def _bad_layer(self, x: Array) -> str:
        """Name the first layer whose output for the batch is not finite."""
        dtype = self.trainer.model._flat.dtype
        x = x.astype(dtype) / dtype.type(255 if x.dtype == np.uint8 else 1)
        with np.errstate(all="ignore"):
            for place, layer in enumerate(self.trainer.model.layers):
                x = layer.forward(x)
                if not np.isfinite(x).all():
                    return f"the loss is not finite: layer {place} ({layer.name}) {FIRST}"
        return f"the loss is not finite, though the output of the last layer, {place} ({layer.name}), is"


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (int, float))
