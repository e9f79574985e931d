"""What `partial_fit` goes on with from call to call: the last weights, and their averages, which predict."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ..model import Sequential
from ..optim.averaging import ExponentialMovingAverage
from ..training.trainer import Trainer
from ..typing import Array
from .choosing import cool

SLOWEST = 0.98  # decay of averages: of about the last 50 steps


def new_average() -> ExponentialMovingAverage:
    """Return an average of weights and running statistics that has taken in nothing."""
    return ExponentialMovingAverage(SLOWEST, statistics=True)


def decay_after(steps: int) -> float:
    """Return a decay that lets an average of so many steps forget the first nine tenths of them."""
    return min(SLOWEST, (1 + steps) / (10 + steps))


@contextmanager
def last_weights(trainer: Trainer, steps: int, temperature: float, left: int | None) -> Iterator[None]:
    """Let a model go on from its last weights inside of `with`; behind it, it predicts by their averages.

    If the model has been written into since the last call, it goes on from there, and the average begins anew.

    Parameters
    ----------
    trainer : Trainer
        With an average, which holds the last weights in its place if it has taken in any.
    steps : int
        Those that will be taken.
    temperature : float
        By which the outputs are divided but while the model trains.
    left : int or None
        Checksum of the model as the last call left it; None if that is not known.
    """
    average = average_of(trainer)
    if average.steps and left is not None and checksum(trainer.model) != left:
        average.steps, average._swapped = 0, False
    cool(trainer.model, 1 / temperature)
    if average.steps:
        average._swap()
    average.decay = decay_after(average.steps + steps)
    try:
        yield
    finally:
        if average.steps:
            average._swap()
        cool(trainer.model, temperature)


def checksum(model: Sequential) -> int:
    """Return a number that tells whether weights or running statistics have been written."""
    total = 0
    for array in (model._flat, *model._state().values()):
        total = zlib.crc32(array.data, total)
    return total


def average_of(trainer: Trainer) -> ExponentialMovingAverage:
    """Return the average of a trainer of `partial_fit`."""
    assert isinstance(trainer.ema, ExponentialMovingAverage)
    return trainer.ema


class Paused:
    """What a trainer remembers, as `partial_fit` needs it to go on in another process as it would have here."""

    average: Mapping[str, Array] = {}  # of estimators from former versions: their last weights predict

    def __init__(self, trainer: Trainer) -> None:
        self.steps, self.epochs = trainer.steps, trainer.epochs
        self.learning_rate, self.state = trainer.optimizer.learning_rate, trainer.optimizer.get_state()
        average = average_of(trainer)
        self.average = average.get_state() if average.steps else {}

    def resume(self, trainer: Trainer, *, state: bool, rate: bool) -> None:
        """Let a new trainer of the same model go on, with the optimizer's state and learning rate or without."""
        trainer.steps, trainer.epochs = self.steps, self.epochs
        if state:
            trainer.optimizer.set_state(self.state)
        if rate:
            trainer.optimizer.learning_rate = self.learning_rate
        if self.average:
            average = average_of(trainer)
            average.set_state(self.average)
            average._swapped = True  # the model has been left with the averages
