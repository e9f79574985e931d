"""The optimizer and the schedule that an estimator's parameters `solver`, `alpha` and `schedule` ask for."""

from __future__ import annotations

import copy
from collections.abc import Callable

from ..optim.optimizer import Optimizer
from ..optim.optimizers import SGD, Adam, AdamW
from ..optim.schedules import SCHEDULES, Schedule

# Highest rates of schedules, by those at which a training goes on and on: at the highest itself, and with moments that
# begin anew, four batches of a fitted network's own samples took it from 99.7 to 47 %.
ABOVE = 5.0


def new_optimizer(solver: str | Optimizer, rate: float, decay: float) -> Optimizer:
    """Return an optimizer with this learning rate; one by name also with this weight decay.

    AdamW leaves biases and norms alone; SGD has Nesterov's momentum.
    """
    if isinstance(solver, Optimizer):
        optimizer = copy.deepcopy(solver)
        optimizer.learning_rate = rate
        return optimizer
    if solver == "adamw":
        return AdamW(rate, weight_decay=decay, no_decay=("biases", "gamma", "beta"))
    if solver == "adam":
        return Adam(rate, weight_decay=decay)
    return SGD(rate, momentum=0.9, nesterov=True, weight_decay=decay)


def new_schedule(schedule: str | Callable[[int], float], rate: float, steps: int) -> Callable[[int], float] | None:
    """Return a schedule that goes up to this rate and ends after so many steps; None for a constant rate."""
    if isinstance(schedule, str):
        return None if schedule == "constant" else SCHEDULES[schedule](rate, steps)
    # A Schedule may learn from the epochs, and a parameter stays as it is.
    return copy.deepcopy(schedule) if isinstance(schedule, Schedule) else schedule
