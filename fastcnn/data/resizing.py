"""Images at another resolution, the same bits everywhere: a triangle filter, bilinear where images grow."""

from __future__ import annotations

import numpy as np

from ..typing import Array, IntArray


def resized(x: Array, size: tuple[int, int]) -> Array:
    """Return images (N, C, H, W) at another height and width; uint8 is scaled to [0, 1] then.

    Middles of pixels lie at halves. Smaller images are means over what a pixel covers, twice as wide, with weights that
    fall to its sides (antialiased); larger ones are bilinear: as in Pillow, and in torchvision with `antialias=True`.
    """
    if x.shape[2:] == size:
        return x
    if x.dtype == np.uint8:
        x = x * np.float32(1 / 255)
    elif x.dtype.kind != "f":
        x = x.astype(np.float64)
    return _along(_along(x, 2, size[0]), 3, size[1])


def _along(x: Array, axis: int, length: int) -> Array:
    """Return x with `length` numbers along an axis; taps are added up one after the other."""
    if x.shape[axis] == length:
        return x
    places, weights = _taps(x.shape[axis], length)
    shape = [1] * x.ndim
    shape[axis] = length
    total = np.zeros((*x.shape[:axis], length, *x.shape[axis + 1 :]), x.dtype)
    for place, weight in zip(places, weights.astype(x.dtype), strict=True):
        total += weight.reshape(shape) * np.take(x, place, axis)
    return total


def _taps(size: int, length: int) -> tuple[IntArray, Array]:
    """Return which numbers of a line, and by which weights, make up each of another line: a row for each tap."""
    scale = size / length
    support = max(scale, 1.0)
    middle = (np.arange(length) + 0.5) * scale - 0.5
    first = np.ceil(middle - support).astype(np.int64)
    places = first + np.arange(int(2 * support) + 1)[:, None]
    weights = np.maximum(1 - np.abs(places - middle) / support, 0)
    weights[(places < 0) | (places >= size)] = 0
    total = np.zeros(length)
    for row in weights:
        total += row
    return np.clip(places, 0, size - 1), weights / total
