"""`Schedule`: a learning rate as a function of the step (or of the epoch, whichever the caller counts)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...layers.repr import ShownAsCall
from ...settings import as_whole

if TYPE_CHECKING:
    from ...history import Epoch


class Schedule(ShownAsCall, ABC):
    """A function η(t) of the step t = 0, 1, 2, ...: what the learning rate is in step t.

    `Trainer(model, loss, optimizer, schedule=...)` sets `optimizer.learning_rate = schedule(trainer.steps)` at the
    beginning of each step; `trainer.steps` are the steps taken before, so the first is `schedule(0)`. A schedule keeps
    nothing, so a training that is taken up again at `trainer.steps` goes on exactly. Any function of a step will do.
    Arguments may be changed at any time; the next step takes them in.

    See Also
    --------
    CosineDecay : Half a cosine, from the top to the minimum.
    OneCycle : Half a cosine up, half a cosine down.
    Trainer : Trains a model step by step.

    Examples
    --------
    >>> from fastcnn import CosineDecay, Schedule
    >>> isinstance(CosineDecay(0.1, total_steps=100), Schedule)
    True
    """

    monitor: str | None = None  # a column of the history that it depends on

    def __call__(self, step: int) -> float:
        """Return η(step).

        Raises
        ------
        TypeError, ValueError
            If the step is no whole number of at least 0.
        """
        return self._at(as_whole(step, type(self).__name__, "step", at_least=0))

    def _changed(self, name: str) -> None:
        """Take in that a setting has a new value: each step reads it."""

    def end_epoch(self, epoch: Epoch) -> None:
        """Take in the results of an epoch; `Trainer.fit` calls this after each epoch.

        Parameters
        ----------
        epoch : Epoch
            The row of the history.
        """

    def get_state(self) -> dict[str, Any]:
        """Return what the schedule has noted, besides its arguments, as numbers and words: what a file keeps."""
        return {}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take in what `get_state` has returned.

        Parameters
        ----------
        state : dict
            What `get_state` has returned.
        """

    @abstractmethod
    def _at(self, step: int) -> float:
        """η(t)."""
