"""Schedules that never rise: formulas of the step."""

from __future__ import annotations

from typing import final

from ... import exact
from ...settings import number, whole
from .base import Schedule


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


def cosine(start: float, end: float, fraction: float) -> float:
    """Half a cosine: end + (start − end)·(1 + cos(π·fraction)) / 2, and end beyond a fraction of 1."""
    return end + (start - end) * (1 + exact.cos_pi(min(fraction, 1.0))) / 2
