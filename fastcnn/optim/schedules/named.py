"""Schedules by their names, for a number of steps that only `fit` knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, final

from .base import Schedule
from .decays import ConstantRate, CosineDecay
from .rises import OneCycle

SCHEDULES: dict[str, Callable[[float, int], Schedule]] = {
    "constant": lambda learning_rate, steps: ConstantRate(learning_rate),
    "cosine": CosineDecay,
    "one_cycle": OneCycle,
}


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
