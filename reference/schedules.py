"""Schedules: the learning rate as a function of the step (or of the epoch, whichever the caller counts)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal, final

from reference.base import integer, real


class Schedule(ABC):
    """A function η(t) of the step t = 0, 1, 2, …: set ``optimizer.learning_rate = schedule(t)`` before step t."""

    def __call__(self, step: int) -> float:
        """Return η(step); TypeError or ValueError if the step is no integer of at least 0."""
        return self._at(integer(type(self).__name__, "step", step, at_least=0))

    @abstractmethod
    def _at(self, step: int) -> float:
        """η(t)."""


@final
class ConstantRate(Schedule):
    """η(t) = learning_rate."""

    def __init__(self, learning_rate: float) -> None:
        self.learning_rate = real(type(self).__name__, "learning_rate", learning_rate, at_least=0)

    def _at(self, step: int) -> float:
        return self.learning_rate


@final
class StepDecay(Schedule):
    """η(t) = learning_rate·γ^⌊t / step_size⌋, PyTorch's ``StepLR``."""

    def __init__(self, learning_rate: float, step_size: int, gamma: float = 0.1) -> None:
        self.learning_rate = real(type(self).__name__, "learning_rate", learning_rate, at_least=0)
        self.step_size = integer(type(self).__name__, "step_size", step_size, at_least=1)
        self.gamma = real(type(self).__name__, "gamma", gamma, at_least=0)

    def _at(self, step: int) -> float:
        return self.learning_rate * self.gamma ** (step // self.step_size)


@final
class ExponentialDecay(Schedule):
    """η(t) = learning_rate·γᵗ, PyTorch's ``ExponentialLR``."""

    def __init__(self, learning_rate: float, gamma: float) -> None:
        self.learning_rate = real(type(self).__name__, "learning_rate", learning_rate, at_least=0)
        self.gamma = real(type(self).__name__, "gamma", gamma, at_least=0)

    def _at(self, step: int) -> float:
        return self.learning_rate * self.gamma**step


@final
class CosineDecay(Schedule):
    """η(t) = minimum + (learning_rate − minimum)·(1 + cos(π·t / total_steps)) / 2, and minimum from total_steps on.

    PyTorch's ``CosineAnnealingLR`` rises again after total_steps.

    References
    ----------
    Loshchilov and Hutter 2017, "SGDR: stochastic gradient descent with warm restarts", §3, equation 5.
    """

    def __init__(self, learning_rate: float, total_steps: int, minimum: float = 0.0) -> None:
        self.learning_rate = real(type(self).__name__, "learning_rate", learning_rate, at_least=0)
        self.total_steps = integer(type(self).__name__, "total_steps", total_steps, at_least=1)
        self.minimum = real(type(self).__name__, "minimum", minimum, at_least=0)

    def _at(self, step: int) -> float:
        return cosine(self.learning_rate, self.minimum, step / self.total_steps)


@final
class PowerDecay(Schedule):
    """η(t) = minimum + (learning_rate − minimum)·(1 − (t / total_steps)ᵖ), and minimum from total_steps on."""

    def __init__(self, learning_rate: float, total_steps: int, power: float = 1.0, minimum: float = 0.0) -> None:
        name = type(self).__name__
        self.learning_rate = real(name, "learning_rate", learning_rate, at_least=0)
        self.total_steps = integer(name, "total_steps", total_steps, at_least=1)
        self.power = real(name, "power", power, above=0)
        self.minimum = real(name, "minimum", minimum, at_least=0)

    def _at(self, step: int) -> float:
        share = min(step / self.total_steps, 1.0) ** self.power
        return float(self.minimum + (self.learning_rate - self.minimum) * (1 - share))


@final
class Triangle(Schedule):
    """Lines from start·learning_rate to learning_rate at t = ⌊peak·T⌋, T = total_steps, to end·learning_rate at T."""

    def __init__(
        self, learning_rate: float, total_steps: int, start: float = 0.0, end: float = 0.0, peak: float = 0.5
    ) -> None:
        name = type(self).__name__
        self.learning_rate = real(name, "learning_rate", learning_rate, at_least=0)
        self.total_steps = integer(name, "total_steps", total_steps, at_least=1)
        self.start, self.end = (real(name, n, v, at_least=0) for n, v in (("start", start), ("end", end)))
        self.peak = real(name, "peak", peak, at_least=0, at_most=1)

    def _at(self, step: int) -> float:
        places = 0, int(self.peak * self.total_steps), self.total_steps
        if step < places[1]:
            return self.learning_rate * (self.start + (1 - self.start) * step / places[1])
        share = 1.0 if step >= places[2] else (step - places[1]) / (places[2] - places[1])
        return self.learning_rate * (1 + (self.end - 1) * share)


@final
class OneCycle(Schedule):
    """Half a cosine up, half a cosine down: from learning_rate / div_factor to learning_rate to almost nothing.

    With T = total_steps, low = learning_rate / div_factor and end = low / final_div_factor: from low at t = 0 to
    learning_rate at t = warmup·T − 1, then to end at t = T − 1, and end from then on. PyTorch's ``OneCycleLR`` (its
    ``pct_start`` is ``warmup``) without the cycle of the momentum.

    References
    ----------
    Smith and Topin 2018, "Super-convergence: very fast training of neural networks using large learning rates", §4.
    As in PyTorch and fast.ai there are two phases and cosines; the paper has lines and a third phase.
    """

    def __init__(
        self,
        learning_rate: float,
        total_steps: int,
        warmup: float = 0.3,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
    ) -> None:
        self.learning_rate = real(type(self).__name__, "learning_rate", learning_rate, at_least=0)
        self.total_steps = integer(type(self).__name__, "total_steps", total_steps, at_least=1)
        self.warmup = real(type(self).__name__, "warmup", warmup, at_least=0, at_most=1)
        self.div_factor = real(type(self).__name__, "div_factor", div_factor, above=0)
        self.final_div_factor = real(type(self).__name__, "final_div_factor", final_div_factor, above=0)

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
    on: PyTorch's ``LinearLR`` and its default, followed by the schedule.

    References
    ----------
    Goyal et al. 2017, "Accurate, large minibatch SGD: training ImageNet in 1 hour", §2.2 (gradual warmup).
    """

    def __init__(self, schedule: Schedule, steps: int, start_factor: float = 1 / 3) -> None:
        self.schedule = schedule
        self.steps = integer(type(self).__name__, "steps", steps, at_least=1)
        self.start_factor = real(type(self).__name__, "start_factor", start_factor, at_least=0, at_most=1)

    def _at(self, step: int) -> float:
        if step >= self.steps:
            return self.schedule(step - self.steps)
        return self.schedule(0) * (self.start_factor + (1 - self.start_factor) * step / self.steps)


@final
class ReduceOnPlateau:
    """The learning rate times `factor` whenever a measured value has not improved for more than `patience` reports.

    A report m is an improvement on the best b if m < b·(1 − threshold), or m > b·(1 + threshold) where more is
    better. After a reduction `cooldown` reports are not counted. PyTorch's ``ReduceLROnPlateau`` with its defaults,
    except that it leaves out changes below 10⁻⁸.

    Parameters
    ----------
    mode : {"min", "max"}
        Whether less is better (a loss) or more (an accuracy).
    minimum : float
        What the learning rate does not go below.
    """

    def __init__(
        self,
        learning_rate: float,
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        cooldown: int = 0,
        minimum: float = 0.0,
        mode: Literal["min", "max"] = "min",
    ) -> None:
        name = type(self).__name__
        self.learning_rate = real(name, "learning_rate", learning_rate, at_least=0)
        self.factor = real(name, "factor", factor, at_least=0, below=1)
        self.patience = integer(name, "patience", patience, at_least=0)
        self.threshold = real(name, "threshold", threshold, at_least=0)
        self.cooldown = integer(name, "cooldown", cooldown, at_least=0)
        self.minimum = real(name, "minimum", minimum, at_least=0)
        if mode not in ("min", "max"):
            raise ValueError(f"{name}: mode: expected 'min' or 'max', got {mode!r}")
        self.mode = mode
        self.best = math.inf if mode == "min" else -math.inf
        self.bad_reports = 0
        self.resting = 0

    def report(self, value: float) -> float:
        """Take in a measured value, and return the learning rate to go on with."""
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


def cosine(start: float, end: float, fraction: float) -> float:
    """Half a cosine: end + (start − end)·(1 + cos(π·fraction)) / 2, and end beyond a fraction of 1."""
    return end + (start - end) * (1 + math.cos(math.pi * min(fraction, 1.0))) / 2
