"""Samples on their way into a fit: images, targets and weights, and the part that is held out."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
from sklearn.model_selection import train_test_split

from ..training.feed import Rows
from ..typing import Array
from .scaling import Scaler


class Scaled(Rows):
    """Images that are scaled when they are read, so that a set is never in memory as floating-point numbers.

    Parameters
    ----------
    scaler : Scaler
    images : array of shape (n, C, H, W)
    dtype : dtype
        float32 or float64.
    places : array of int, optional
        Those of the images that are meant, in this order.
    """

    is_plain = False

    def __init__(self, scaler: Scaler, images: Array, dtype: Any, places: Any = None) -> None:
        super().__init__(images, np.arange(len(images)) if places is None else places)
        self.scaler, self.dtype = scaler, np.dtype(dtype)

    def __getitem__(self, chosen: Any) -> Array:
        return self.scaler(super().__getitem__(chosen), self.dtype)

    def taken(self, chosen: Array) -> Scaled:
        """Return some of the images, not read yet."""
        return Scaled(self.scaler, self.array, self.dtype, self.places[chosen])


class Samples(NamedTuple):
    """Images (n, C, H, W), one target each, and weights where there are any."""

    images: Any  # array or Scaled
    y: Array
    weight: Array | None

    def taken(self, chosen: Array) -> Samples:
        """Return some of the samples."""
        images = self.images.taken(chosen) if isinstance(self.images, Scaled) else self.images[chosen]
        return Samples(images, self.y[chosen], None if self.weight is None else self.weight[chosen])

    def weighing(self) -> Self | Samples:
        """Return the samples that have a weight."""
        return self if self.weight is None or self.weight.all() else self.taken(self.weight > 0)

    def batches(self, size: int) -> list[tuple[Array, ...]]:
        """Return batches in the samples' order, as `Trainer.fit` takes them."""
        arrays = [array for array in self if array is not None]
        return [tuple(array[first : first + size] for array in arrays) for first in range(0, len(self.images), size)]


def hold_out(samples: Samples, share: float, random_state: Any, classes: Array | None) -> tuple[Samples, Samples]:
    """Return a training set and a validation set, of the same shares of `classes`.

    Raises
    ------
    ValueError
        If there are too few samples for that.
    """
    seed = random_state if isinstance(random_state, int | np.integer | None) else 0
    indices = np.arange(len(samples.images))
    try:
        kept, held = train_test_split(indices, test_size=share, random_state=seed, stratify=classes)
    except ValueError as error:
        raise ValueError(
            f"early_stopping: {len(indices)} samples are too few for a validation split of "
            f"validation_fraction={share}: {str(error).rstrip('.')}. Pass X_val and y_val, or set early_stopping=False."
        ) from None
    if len(held) < 2:
        raise ValueError(
            "early_stopping: The validation set is too small. Increase 'validation_fraction' or the size of your "
            f"dataset; got validation_fraction={share} of {len(indices)} samples. Or pass X_val and y_val."
        )
    return samples.taken(kept), samples.taken(held)
