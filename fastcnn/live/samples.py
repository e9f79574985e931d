"""The images that a page shows: those that were held out, and what is drawn with a mouse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..typing import Array, IntArray

MOST = 2000  # images that a page looks at
LOOKED_AT = 256  # of them for the range of the numbers


class ShownSamples:
    """Images with their classes.

    Parameters
    ----------
    X : array of shape (N, C, H, W) or (N, D), or None
        Anything that slices give arrays of, such as a memory map.
    y : array of length N, optional
        Classes; without them there is no confusion matrix.
    classes : sequence of str, optional
        Names of the classes.

    Attributes
    ----------
    low, high : float
        The range of the numbers: what is drawn lies in it.
    """

    def __init__(self, X: Any, y: Any = None, classes: Sequence[Any] | None = None) -> None:
        self.X = np.zeros((0, 1)) if X is None else np.asarray(X[:MOST])
        if self.X.dtype.kind not in "buif" or self.X.ndim < 2:
            raise ValueError(
                f"LivePage: X: expected images (N, C, H, W) or rows (N, D) of real numbers; "
                f"got {self.X.dtype} of shape {self.X.shape}"
            )
        self.y = self._classes(y)
        self.names = None if classes is None else [str(name) for name in classes]
        looked = self.x(slice(0, LOOKED_AT))
        finite = looked[np.isfinite(looked)]
        self.low, self.high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
        if self.high <= self.low:
            self.high = self.low + 1.0

    def _classes(self, y: Any) -> IntArray | None:
        if y is None:
            return None
        targets = np.asarray(y[:MOST])
        if len(targets) != len(self.X):
            raise ValueError(f"LivePage: y: expected {len(self.X)} targets, one for each image; got {len(targets)}")
        whole = targets.ndim == 1 and targets.dtype.kind in "iu"
        return targets.astype(np.int64) if whole else None

    def __len__(self) -> int:
        return len(self.X)

    def x(self, which: int | slice) -> Array:
        """Return images as the network sees them: bytes scaled to [0, 1]."""
        images = self.X[which]
        return images.astype(np.float32) * np.float32(1 / 255) if images.dtype == np.uint8 else np.asarray(images)

    def target(self, number: int) -> int | None:
        """Return the class of an image."""
        return None if self.y is None else int(self.y[number])

    def drawn(self, pixels: Any, shape: tuple[int, ...]) -> Array:
        """Return a sample of a drawing, (H, W) or (C, H, W) of 0 to 1 as a list of numbers: in all channels alike."""
        wanted = int(np.prod(shape))
        ink = np.asarray(pixels, np.float64)
        if ink.ndim != 1 or ink.size not in (wanted, wanted // shape[0]) or not np.isfinite(ink).all():
            raise ValueError(f"pixels: expected {wanted // shape[0]} or {wanted} numbers; got {len(pixels)}")
        if ink.size != wanted:
            ink = np.tile(ink, shape[0])
        return self.low + np.clip(ink, 0, 1).reshape(shape) * (self.high - self.low)
