"""Labels of pixels that go along when augmentation flips and shifts their images."""

from __future__ import annotations

import numpy as np

from ..typing import Array, IntArray, Shape
from .augmentation import Augmentation


def check_movable(augmentation: Augmentation, size: Shape, y: Array, unknown: int | None, where: str) -> None:
    """Raise ValueError if augmentation would displace the pixels of images, and the maps in `y` cannot go along.

    Parameters
    ----------
    augmentation : Augmentation
    size : tuple of int
        (H, W) of the images.
    y : array
        Labels (N, H, W) can go along, with flips and shifts.
    unknown : int or None
        The label of pixels that come in from beyond the edge.
    where : str
        What an error begins with.
    """
    if y.ndim < 3 or not augmentation._displaces:
        return
    is_fit = y.ndim == 3 and y.dtype.kind in "iub" and y.shape[1:] == size
    if (
        not is_fit
        or augmentation.rotation
        or augmentation.scale
        or augmentation.crop is not None
        or augmentation.cutmix
    ):
        raise ValueError(
            f"{where}: expected no maps with an augmentation that displaces pixels, but for flips and shifts of labels "
            f"(N, H, W): it would leave maps where they are; got targets of shape {y.shape}, dtype {y.dtype} and "
            f"{augmentation!r}: change images and maps alike, in batches of your own"
        )
    if augmentation.shift and augmentation.padding == "constant" and unknown is None:
        raise ValueError(
            f"{where}: expected a loss with ignore_index, the label of what a shift brings in, or "
            f"padding='edge' or 'reflect'; got {augmentation!r} and no ignore_index"
        )


def moved(augmentation: Augmentation, y: IntArray, moves: IntArray, unknown: int | None) -> IntArray:
    """Return labels (n, H, W), flipped and shifted as their images by `moves` (n, 4); see `Chances`."""
    n, height, width = y.shape
    rows = _sources(height, moves[:, 2], moves[:, 0], augmentation.padding)
    columns = _sources(width, moves[:, 3], moves[:, 1], augmentation.padding)
    found = y[np.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]
    outside = (rows < 0)[:, :, None] | (columns < 0)[:, None, :]
    if outside.any():
        assert unknown is not None
        if found.dtype.kind == "b" or not np.iinfo(found.dtype).min <= unknown <= np.iinfo(found.dtype).max:
            found = found.astype(np.int64)
        found[outside] = unknown
    return found


def _sources(size: int, shifts: IntArray, flips: IntArray, padding: str) -> IntArray:
    """Return which pixel of a line of `size` comes to each place, (n, size); -1 for none."""
    place = np.arange(size) - shifts[:, None]
    if padding == "edge" or size == 1:
        place = np.clip(place, 0, size - 1) if padding != "constant" else place
    elif padding == "reflect":
        period = 2 * (size - 1)
        place = place % period
        place = np.where(place < size, place, period - place)
    place = np.where(flips[:, None] != 0, size - 1 - place, place)
    known: IntArray = np.where((place >= 0) & (place < size), place, -1)
    return known
