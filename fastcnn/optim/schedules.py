"""Schedules: the learning rate as a function of the step (or of the epoch, whichever the caller counts)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, final

from .. import exact
from ..history import MEASURES
from ..layers.repr import ShownAsCall
from ..settings import Setting, as_whole, number, one_of, whole

if TYPE_CHECKING:
    from ..history import Epoch


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


@final
class ConstantRate(Schedule):
    """η(t) = learning_rate.

    Parameters
    ----------
    learning_rate : float
        The rate of every step.

    See Also
    --------
    CosineDecay : Half a cosine, from the top to the minimum.
    OneCycle : Half a cosine up, half a cosine down.

    Examples
    --------
    >>> from fastcnn import ConstantRate
    >>> rate = ConstantRate(0.1)
    >>> [round(rate(step), 6) for step in (0, 50, 100)]
    [0.1, 0.1, 0.1]
    """

    learning_rate = number(at_least=0)

    def __init__(self, learning_rate: float) -> None:
        self.learning_rate = learning_rate

    def _at(self, step: int) -> float:
        return self.learning_rate


@final
class StepDecay(Schedule):
    """η(t) = learning_rate·γ^⌊t / step_size⌋, PyTorch's `StepLR`.

    Parameters
    ----------
    learning_rate : float
        The rate at t = 0.
    step_size : int
        Steps from one reduction to the next.
    gamma : float
        γ, above 0.

    See Also
    --------
    ExponentialDecay : A constant factor in each step.
    ReduceOnPlateau : Less once a measured value no longer improves.

    Examples
    --------
    >>> from fastcnn import StepDecay
    >>> rate = StepDecay(0.1, step_size=30)
    >>> [round(rate(step), 6) for step in (0, 50, 100)]
    [0.1, 0.01, 0.0001]
    """

    learning_rate = number(at_least=0)
    step_size = whole(at_least=1)
    gamma = number(at_least=0)

    def __init__(self, learning_rate: float, step_size: int, gamma: float = 0.1) -> None:
        self.learning_rate = learning_rate
        self.step_size = step_size
        self.gamma = gamma

    def _at(self, step: int) -> float:
        return self.learning_rate * exact.whole_power(self.gamma, step // self.step_size)


@final
class ExponentialDecay(Schedule):
    """η(t) = learning_rate·γᵗ, PyTorch's `ExponentialLR`.

    Parameters
    ----------
    learning_rate : float
        The rate at t = 0.
    gamma : float
        γ, above 0.

    See Also
    --------
    StepDecay : A constant factor after so many steps.
    CosineDecay : Half a cosine, from the top to the minimum.

    Examples
    --------
    >>> from fastcnn import ExponentialDecay
    >>> rate = ExponentialDecay(0.1, gamma=0.99)
    >>> [round(rate(step), 6) for step in (0, 50, 100)]
    [0.1, 0.060501, 0.036603]
    """

    learning_rate = number(at_least=0)
    gamma = number(at_least=0)

    def __init__(self, learning_rate: float, gamma: float) -> None:
        self.learning_rate = learning_rate
        self.gamma = gamma

    def _at(self, step: int) -> float:
        return self.learning_rate * exact.whole_power(self.gamma, step)


@final
class CosineDecay(Schedule):
    """η(t) = minimum + (learning_rate − minimum)·(1 + cos(π·t / total_steps)) / 2, and minimum from total_steps on.

    PyTorch's `CosineAnnealingLR` rises again after total_steps.

    Parameters
    ----------
    learning_rate : float
        The rate at t = 0.
    total_steps : int
        The step from which on the rate is `minimum`.
    minimum : float
        The last rate.

    See Also
    --------
    OneCycle : Half a cosine up, half a cosine down.
    WarmUp : A line up to another schedule.

    References
    ----------
    Loshchilov and Hutter 2017, "SGDR: stochastic gradient descent with warm restarts", §3, equation 5.

    Examples
    --------
    >>> from fastcnn import CosineDecay
    >>> rate = CosineDecay(0.1, total_steps=100)
    >>> [round(rate(step), 6) for step in (0, 50, 100)]
    [0.1, 0.05, 0.0]
    """

    learning_rate = number(at_least=0)
    total_steps = whole(at_least=1)
    minimum = number(at_least=0)

    def __init__(self, learning_rate: float, total_steps: int, minimum: float = 0.0) -> None:
        self.learning_rate = learning_rate
        self.total_steps = total_steps
        self.minimum = minimum

    def _at(self, step: int) -> float:
        return cosine(self.learning_rate, self.minimum, step / self.total_steps)


@final
class PowerDecay(Schedule):
    """η(t) = minimum + (learning_rate − minimum)·(1 − (t / total_steps)ᵖ), and minimum from total_steps on.

    With a power p above 1 it stays high for long and falls late. (Keras's `PolynomialDecay`, `(1 − t / T)ᵖ`, falls
    early.)

    Parameters
    ----------
    learning_rate : float
        The rate at t = 0.
    total_steps : int
        The step from which on the rate is `minimum`.
    power : float
        p, above 0.
    minimum : float
        The last rate.

    See Also
    --------
    CosineDecay : Half a cosine, from the top to the minimum.
    Triangle : A line up, a line down.

    Examples
    --------
    >>> from fastcnn import PowerDecay
    >>> rate = PowerDecay(0.1, total_steps=100, power=2.0)
    >>> [round(rate(step), 6) for step in (0, 50, 100)]
    [0.1, 0.075, 0.0]
    """

    learning_rate = number(at_least=0)
    total_steps = whole(at_least=1)
    power = number(above=0)
    minimum = number(at_least=0)

    def __init__(self, learning_rate: float, total_steps: int, power: float = 1.0, minimum: float = 0.0) -> None:
        self.learning_rate, self.total_steps = learning_rate, total_steps
        self.power, self.minimum = power, minimum

    def _at(self, step: int) -> float:
        share = float(exact.power(min(step / self.total_steps, 1.0), self.power))
        return self.minimum + (self.learning_rate - self.minimum) * (1 - share)


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


def _as_schedule(value: Any) -> Callable[[int], float]:
    if not callable(value):
        raise TypeError(f"WarmUp: schedule: expected a schedule; got {value!r}")
    schedule: Callable[[int], float] = value
    return schedule


@final
class NamedSchedule(Schedule):
    """A schedule by its name, of the optimizer's learning rate, for the steps of each `Trainer.fit` anew."""

    def __init__(self, name: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"schedule: expected a Schedule, a function or one of {sorted(SCHEDULES)}; got {name!r}")
        if name not in SCHEDULES:
            raise ValueError(f"schedule: expected one of {sorted(SCHEDULES)}; got {name!r}")
        self.name = name
        self.learning_rate, self.first, self.steps = 0.0, 0, 0
        self._made: Schedule | None = None

    def begin(self, learning_rate: float, first: int, steps: int | None) -> None:
        """Begin anew at step `first`, for so many; the learning rate of the first time serves always."""
        if steps is None:
            raise ValueError(
                f"schedule: {self.name!r} needs the number of steps, which batches without a length do not tell; give "
                "a Schedule, such as CosineDecay(learning_rate, total_steps)"
            )
        self._settle(self.learning_rate or learning_rate, first, steps)

    def _settle(self, learning_rate: float, first: int, steps: int) -> None:
        self.learning_rate, self.first, self.steps = learning_rate, first, steps
        self._made = SCHEDULES[self.name](learning_rate, steps) if steps else None

    def get_state(self) -> dict[str, Any]:
        return {"learning_rate": self.learning_rate, "first": self.first, "steps": self.steps}

    def set_state(self, state: Mapping[str, Any]) -> None:
        self._settle(float(state["learning_rate"]), int(state["first"]), int(state["steps"]))

    def _at(self, step: int) -> float:
        if self._made is None:
            raise ValueError(
                f"schedule: {self.name!r} needs the number of steps, which fit knows; to take single steps, give a "
                "Schedule, such as CosineDecay(learning_rate, total_steps)"
            )
        return self._made(max(0, step - self.first))


SCHEDULES: dict[str, Callable[[float, int], Schedule]] = {
    "constant": lambda learning_rate, steps: ConstantRate(learning_rate),
    "cosine": CosineDecay,
    "one_cycle": OneCycle,
}


def cosine(start: float, end: float, fraction: float) -> float:
    """Half a cosine: end + (start − end)·(1 + cos(π·fraction)) / 2, and end beyond a fraction of 1."""
    return end + (start - end) * (1 + exact.cos_pi(min(fraction, 1.0))) / 2
