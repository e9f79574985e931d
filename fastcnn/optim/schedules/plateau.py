"""`ReduceOnPlateau`: a learning rate that falls where a measured value no longer improves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, final

from ...history import MEASURES
from ...settings import number, one_of, whole
from .base import Schedule

if TYPE_CHECKING:
    from ...history import Epoch


@final
class ReduceOnPlateau(Schedule):
    """The learning rate times `factor` whenever a measured value has not improved for more than `patience` reports.

    A report m is an improvement on the best b if m < b·(1 − threshold), or m > b·(1 + threshold) where more is
    better. After a reduction `cooldown` reports are not counted. PyTorch's `ReduceLROnPlateau` with its defaults,
    except that it leaves out changes below 10⁻⁸.

    As a Trainer's schedule it is constant between reports. `Trainer.fit` reports each epoch by itself; a loop over
    steps calls `trainer.schedule.report(value)`. What it has seen is in its attributes.

    Parameters
    ----------
    learning_rate : float
        The first rate.
    factor : float
        The factor of a reduction, in (0, 1).
    patience : int
        Reports without improvement that are let pass.
    threshold : float
        The relative change that counts as an improvement.
    cooldown : int
        Reports behind a reduction that are not counted.
    minimum : float
        What the learning rate does not go below.
    mode : {"min", "max"}
        Whether less is better (a loss) or more (an accuracy).
    monitor : {"loss", "accuracy", "val_loss", "val_accuracy"}, optional
        What `fit` reports. If not given, in mode "min" the loss, in mode "max" the accuracy: of the validation set if
        there is one.

    Attributes
    ----------
    learning_rate, best : float
    bad_reports, resting : int
        Reports without improvement; reports that will not be counted.

    See Also
    --------
    EarlyStopping : Ends a fit that no longer improves.
    StepDecay : A constant factor after so many steps.

    Examples
    --------
    >>> from fastcnn import ReduceOnPlateau
    >>> rate = ReduceOnPlateau(0.1, factor=0.5, patience=1)
    >>> for loss in (1.0, 1.0, 1.0):
    ...     rate.report(loss)
    0.1
    0.1
    0.05
    >>> rate(0)
    0.05
    """

    learning_rate = number(at_least=0)
    factor = number(at_least=0, below=1)
    patience = whole(at_least=0)
    threshold = number(at_least=0)
    cooldown = whole(at_least=0)
    minimum = number(at_least=0)
    mode = one_of("min", "max")
    monitor = one_of(None, *MEASURES)

    def __init__(
        self,
        learning_rate: float,
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        cooldown: int = 0,
        minimum: float = 0.0,
        mode: Literal["min", "max"] = "min",
        *,
        monitor: str | None = None,
    ) -> None:
        self.learning_rate = learning_rate
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.cooldown = cooldown
        self.minimum = minimum
        self.mode, self.monitor = mode, monitor
        self._begin()

    def _begin(self) -> None:
        """Forget all reports."""
        self.best = math.inf if self.mode == "min" else -math.inf
        self.bad_reports = 0
        self.resting = 0

    def _changed(self, name: str) -> None:
        if name in ("mode", "monitor"):  # values of another kind
            self._begin()

    def _at(self, step: int) -> float:
        return self.learning_rate

    def end_epoch(self, epoch: Epoch) -> None:
        own = "loss" if self.mode == "min" else "accuracy"
        validated = not math.isnan(epoch.val_loss)
        name = self.monitor or (f"val_{own}" if validated else own)
        value: float = getattr(epoch, name)
        if math.isnan(value):
            raise ValueError(f"ReduceOnPlateau: monitor: {name} was not measured in epoch {epoch.epoch}")
        self.report(value)

    def get_state(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("learning_rate", "best", "bad_reports", "resting")}

    def set_state(self, state: Mapping[str, Any]) -> None:
        self.learning_rate, self.best = float(state["learning_rate"]), float(state["best"])
        self.bad_reports, self.resting = int(state["bad_reports"]), int(state["resting"])

    def report(self, value: float) -> float:
        """Take in a measured value, and return the learning rate to go on with; a NaN is no improvement.

        Parameters
        ----------
        value : float
            What was measured.
        """
        margin = 1 - self.threshold if self.mode == "min" else 1 + self.threshold
        improved = value < self.best * margin if self.mode == "min" else value > self.best * margin
        if improved:
            self.best, self.bad_reports = value, 0
        else:
            self.bad_reports += 1
        if self.resting > 0:
            self.resting, self.bad_reports = self.resting - 1, 0
        if self.bad_reports > self.patience:
            self.learning_rate = max(self.learning_rate * self.factor, self.minimum)
            self.resting, self.bad_reports = self.cooldown, 0
        return self.learning_rate
