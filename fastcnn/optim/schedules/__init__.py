"""Schedules of the learning rate."""

from __future__ import annotations

from .base import Schedule
from .decays import ConstantRate, CosineDecay, ExponentialDecay, PowerDecay, StepDecay
from .named import SCHEDULES, NamedSchedule
from .plateau import ReduceOnPlateau
from .rises import OneCycle, Triangle, WarmUp

__all__ = [
    "SCHEDULES", "ConstantRate", "CosineDecay", "ExponentialDecay", "NamedSchedule", "OneCycle", "PowerDecay",
    "ReduceOnPlateau", "Schedule", "StepDecay", "Triangle", "WarmUp",
]  # fmt: skip
