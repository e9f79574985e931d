"""Losses: what training makes small."""

from __future__ import annotations

from .base import End, Loss, Targets
from .cross_entropy import CrossEntropy
from .elementwise import BinaryCrossEntropy, Huber, MeanAbsoluteError, MeanSquaredError

__all__ = [
    "LOSSES", "BinaryCrossEntropy", "CrossEntropy", "End", "Huber", "Loss", "MeanAbsoluteError", "MeanSquaredError",
    "Targets",
]  # fmt: skip

LOSSES: dict[str, type[Loss]] = {
    loss.name: loss for loss in (CrossEntropy, BinaryCrossEntropy, MeanSquaredError, MeanAbsoluteError, Huber)
}
