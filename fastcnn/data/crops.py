"""Random resized crops, the boxes of CutMix, and colour jitter: how places and colours are drawn."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import numpy as np

from .. import exact
from ..typing import Array, IntArray

Chance = Callable[[int], Array]  # from a number to that random number of [0, 1), for each sample
TRIES = 10  # crops that are drawn before a middle one is taken
ORDERS = np.array([*permutations(range(4))], np.int64)  # of brightness, contrast, saturation, hue


def resized_crops(
    chance: Chance,
    first: int,
    samples: int,
    size: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> IntArray:
    """Return top, left, height and width of a crop of each image of this size: torchvision's `RandomResizedCrop`.

    A share of the area of `scale`, a quotient of width and height of `ratio`, evenly in its logarithm, rounded to whole
    pixels; the first of ten that fits in the image, else the largest in the middle. Try t takes four random numbers,
    from `first + 4t` on.
    """
    height, width = size
    found = np.tile(np.array(_middle(height, width, ratio), np.int64), (samples, 1))
    open_, (low, high) = np.ones(samples, bool), exact.log(np.array(ratio))
    for number in range(first, first + 4 * TRIES, 4):
        if not open_.any():
            break
        area, shape, down, right = (chance(number + k) for k in range(4))
        area = height * width * (scale[0] + (scale[1] - scale[0]) * area)
        aspect = exact.exp(low + (high - low) * shape)
        h, w = np.rint(np.sqrt(area / aspect)).astype(np.int64), np.rint(np.sqrt(area * aspect)).astype(np.int64)
        fits = open_ & (h > 0) & (h <= height) & (w > 0) & (w <= width)
        top, left = (down * (height - h + 1)).astype(np.int64), (right * (width - w + 1)).astype(np.int64)
        found[fits] = np.stack([top, left, h, w], axis=1)[fits]
        open_ &= ~fits
    return found


def _middle(height: int, width: int, ratio: tuple[float, float]) -> tuple[int, int, int, int]:
    """Return the largest crop in the middle whose ratio is in bounds."""
    h, w = height, width
    if width / height < ratio[0]:
        h = max(1, round(width / ratio[0]))
    elif width / height > ratio[1]:
        w = max(1, round(height * ratio[1]))
    return (height - h) // 2, (width - w) // 2, h, w


def boxes_of(share: Array, row: IntArray, column: IntArray, size: tuple[int, int]) -> tuple[IntArray, Array]:
    """Return top, left, bottom and right of boxes of 1 - share of an image, and the share that is left beside them.

    A box has the image's proportions, and a middle of (row, column); what lies beyond the edge is not there: as in
    torchvision's `CutMix`.
    """
    height, width = size
    half = 0.5 * np.sqrt(1 - share)
    down, right = (half * height).astype(np.int64), (half * width).astype(np.int64)
    top, bottom = np.maximum(row - down, 0), np.minimum(row + down, height)
    left, right = np.maximum(column - right, 0), np.minimum(column + right, width)
    area = (bottom - top) * (right - left)
    return np.stack([top, left, bottom, right], axis=1), 1 - area / (height * width)


def jitters(chance: Chance, first: int, strengths: tuple[float, float, float, float]) -> tuple[Array, IntArray]:
    """Return factors of brightness, contrast and saturation and a turn of the hue for each sample, and their order.

    Factors are of [max(0, 1 - s), 1 + s], the turn is of [-s, s]. In the order, -1 marks a change that is left out.
    """
    factors = []
    for number, strength in enumerate(strengths):
        low, high = (-strength, strength) if number == 3 else (max(0.0, 1 - strength), 1 + strength)
        factors.append(low + (high - low) * chance(first + number))
    order = ORDERS[(chance(first + 4) * len(ORDERS)).astype(np.int64)]
    wanted = np.array(strengths) > 0
    return np.stack(factors, axis=1), np.where(wanted[order], order, -1)
