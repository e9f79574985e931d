"""How many epochs "auto" trains for, and in how large batches: by the number of samples, and by what they are."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..training.epochs import epochs_for
from ..typing import Shape
from .images import Kind

FEATURES, IMAGES = 200, 64  # the most samples of a batch
PIXELS = 1 << 18  # of the images of a batch: 32 feature maps of these, forth and back, take about 100 MB


def largest_batch(shape: Shape) -> int:
    """Return the most images (C, H, W) of a batch: fewer large ones, whose feature maps need the memory."""
    return max(8, min(IMAGES, PIXELS // math.prod(shape[1:])))


@dataclass(frozen=True)
class Lengths:
    """What "auto" makes of `batch_size` and `max_iter`.

    Attributes
    ----------
    usual_epochs : int
        Those of many samples.
    most_epochs : int
        Those of few samples, of which an epoch makes few steps.
    fewest_steps : int
        For which epochs are added, up to the most.
    """

    usual_epochs: int
    most_epochs: int
    fewest_steps: int

    def batch(self, n: int, shape: Shape, kind: Kind) -> int:
        """Return how many of n samples (C, H, W) a batch has."""
        if kind is Kind.FEATURES:
            return min(n, FEATURES)
        return min(n, max(8, min(n // 20, largest_batch(shape))))

    def epochs(self, n: int, kind: Kind, batch: int) -> int:
        """Return the epochs for n samples in batches of so many."""
        return epochs_for(n, batch, self.usual_epochs, self.most_epochs, self.fewest_steps)


@dataclass(frozen=True)
class RegressionLengths(Lengths):
    """Those of a regressor: functions of features want more steps, in smaller batches."""

    def batch(self, n: int, shape: Shape, kind: Kind) -> int:
        if kind is Kind.FEATURES:
            return min(n, max(32, min(n // 40, FEATURES)))
        return super().batch(n, shape, kind)

    def epochs(self, n: int, kind: Kind, batch: int) -> int:
        if kind is Kind.FEATURES:
            return max(50, min(math.isqrt(12_000_000 // n), 200))
        return super().epochs(n, kind, batch)
