"""Schedules that rise before they fall, or before another schedule begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, final

from ...settings import Setting, number, whole
from .base import Schedule
from .decays import cosine

if TYPE_CHECKING:
    from ...history import Epoch


@final
class Triangle(Schedule):
    """A line up, a line down: from start·learning_rate to learning_rate at step peak·total_steps, to end·learning_rate.

    The last value holds from total_steps on.

    Parameters
    ----------
    learning_rate : float
        The highest rate.
    total_steps : int
        The step from which on the last rate holds.
    start, end : float
        Shares of the learning rate.
    peak : float
        In [0, 1]: where the top is, rounded down to a step.

    See Also
    --------
    OneCycle : Half a cosine up, half a cosine down.
    PowerDecay : A power of the step, from the top to the minimum.

    References
    ----------
    Smith, "Cyclical learning rates for training neural networks", WACV 2017, section 3.1, of which this is one cycle.

    Examples
    --------
    >>> from fastcnn import Triangle
    >>> rate = Triangle(0.1, total_steps=100)
    >>> [round(rate(step), 6) for step in (0, 50, 100)]
    [0.0, 0.1, 0.0]
    """

    learning_rate = number(at_least=0)
    total_steps = whole(at_least=1)
    start = number(at_least=0)
    end = number(at_least=0)
    peak = number(at_least=0, at_most=1)

    def __init__(
        self, learning_rate: float, total_steps: int, start: float = 0.0, end: float = 0.0, peak: float = 0.5
    ) -> None:
        self.learning_rate, self.total_steps = learning_rate, total_steps
        self.start, self.end, self.peak = start, end, peak

    def _at(self, step: int) -> float:
        top = int(self.peak * self.total_steps)
        if step < top:
            return self.learning_rate * (self.start + (1 - self.start) * step / top)
        share = 1.0 if step >= self.total_steps else (step - top) / (self.total_steps - top)
        return self.learning_rate * (1 + (self.end - 1) * share)


@final
class OneCycle(Schedule):
    """Half a cosine up, half a cosine down: from learning_rate / div_factor to learning_rate to almost nothing.

    With T = total_steps, low = learning_rate / div_factor and end = low / final_div_factor: from low at t = 0 to
    learning_rate at t = warmup·T − 1, then to end at t = T − 1, and end from then on. PyTorch's `OneCycleLR` (its
    `pct_start` is `warmup`) without the cycle of the momentum.

    Parameters
    ----------
    learning_rate : float
        The highest rate.
    total_steps : int
        T.
    warmup : float
        The share of the steps in which the rate rises.
    div_factor : float
        The highest rate divided by the first.
    final_div_factor : float
        The first rate divided by the last.

    See Also
    --------
    CosineDecay : Half a cosine, from the top to the minimum.

    References
    ----------
    Smith and Topin 2018, "Super-convergence: very fast training of neural networks using large learning rates", §4.
    As in PyTorch and fast.ai there are two phases and cosines; the paper has lines and a third phase.

    Examples
    --------
    >>> from fastcnn import OneCycle
    >>> rate = OneCycle(0.1, total_steps=100)
    >>> [round(rate(step), 6) for step in (0, 29, 99)]
    [0.004, 0.1, 0.0]
    """

    learning_rate = number(at_least=0)
    total_steps = whole(at_least=1)
    warmup = number(at_least=0, at_most=1)
    div_factor = number(above=0)
    final_div_factor = number(above=0)

    def __init__(
        self,
        learning_rate: float,
        total_steps: int,
        warmup: float = 0.3,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
    ) -> None:
        self.learning_rate = learning_rate
        self.total_steps = total_steps
        self.warmup = warmup
        self.div_factor = div_factor
        self.final_div_factor = final_div_factor

    def _at(self, step: int) -> float:
        low = self.learning_rate / self.div_factor
        top, last = self.warmup * self.total_steps - 1, self.total_steps - 1
        if step < top:
            return cosine(low, self.learning_rate, step / top)
        if step >= last:
            return low / self.final_div_factor
        return cosine(self.learning_rate, low / self.final_div_factor, (step - top) / (last - top))


@final
class WarmUp(Schedule):
    """A line up to the start of another schedule, which begins then.

    η(t) = schedule(0)·(start_factor + (1 − start_factor)·t / steps) for t < steps, and schedule(t − steps) from then
    on: PyTorch's `LinearLR` and its default, followed by the schedule.

    Parameters
    ----------
    schedule : Schedule or function
        What follows, counted from the end of the warm-up.
    steps : int
        Steps of the warm-up.
    start_factor : float
        The first rate as a share of the one that it ends at.

    See Also
    --------
    OneCycle : Half a cosine up, half a cosine down.
    CosineDecay : Half a cosine, from the top to the minimum.

    References
    ----------
    Goyal et al. 2017, "Accurate, large minibatch SGD: training ImageNet in 1 hour", §2.2 (gradual warmup).

    Examples
    --------
    >>> from fastcnn import CosineDecay, WarmUp
    >>> rate = WarmUp(CosineDecay(0.1, total_steps=100), steps=10)
    >>> [round(rate(step), 6) for step in (0, 5, 10, 110)]
    [0.033333, 0.066667, 0.1, 0.0]
    """

    schedule: Setting[Callable[[int], float]] = Setting(lambda value, owner, name: _as_schedule(value))
    steps = whole(at_least=1)
    start_factor = number(at_least=0, at_most=1)

    def __init__(self, schedule: Schedule, steps: int, start_factor: float = 1 / 3) -> None:
        self.schedule, self.steps, self.start_factor = schedule, steps, start_factor
        self._changed("schedule")

    def _changed(self, name: str) -> None:
        if name == "schedule":
            self.monitor = self.schedule.monitor if isinstance(self.schedule, Schedule) else None

    def end_epoch(self, epoch: Epoch) -> None:
        if isinstance(self.schedule, Schedule):
            self.schedule.end_epoch(epoch)

    def get_state(self) -> dict[str, Any]:
        return self.schedule.get_state() if isinstance(self.schedule, Schedule) else {}

    def set_state(self, state: Mapping[str, Any]) -> None:
        if isinstance(self.schedule, Schedule):
            self.schedule.set_state(state)

    def _at(self, step: int) -> float:
        if step >= self.steps:
            return self.schedule(step - self.steps)
        return self.schedule(0) * (self.start_factor + (1 - self.start_factor) * step / self.steps)


def _as_schedule(value: Any) -> Callable[[int], float]:
    if not callable(value):
        raise TypeError(f"WarmUp: schedule: expected a schedule; got {value!r}")
    schedule: Callable[[int], float] = value
    return schedule
