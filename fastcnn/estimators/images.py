"""What samples are read as: rows and images of several shapes become (n, C, H, W), centred and scaled."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .. import exact
from ..typing import Array, Shape

CHANNELS = (1, 2, 3, 4)  # what may be a number of channels where nothing else is said
CHUNK = 1 << 20  # numbers that are summed at once
SIDE, RATIO = 6, 3  # of rectangles that rows may be: pictures seldom are smaller or longer, tables often are
IN_CACHE = 1 << 15  # numbers that are scaled at once


class Reading(NamedTuple):
    """How samples of one shape are read.

    Attributes
    ----------
    given : tuple of int
        The shape of one sample as it comes.
    shape : tuple of int
        (C, H, W).
    channels_last : bool
        Whether `given` is (H, W, C).
    """

    given: Shape
    shape: Shape
    channels_last: bool = False

    def images(self, X: Array) -> Array:
        """Return samples as (n, C, H, W), a view where possible."""
        if self.channels_last:
            channels, height, width = self.shape
            return X.reshape(len(X), height, width, channels).transpose(0, 3, 1, 2)
        return X.reshape(len(X), *self.shape)


def choose_reading(given: Shape, input_shape: Any, name: str) -> Reading:
    """Return how samples of shape `given` are read.

    Raises
    ------
    ValueError
        If they fit no shape, or more than one; the message says which would do.
    """
    if input_shape is not None:
        return _as_said(given, _input_shape(input_shape, name), name)
    if len(given) == 1:
        return Reading(given, _squared(given[0]))
    if len(given) == 2:
        return Reading(given, (1, *given))
    first, last = given[0] in CHANNELS, given[-1] in CHANNELS
    if first == last:
        raise ValueError(
            f"{name}: X: images of shape {given}: "
            + ("both ends" if first else "neither end")
            + " may be the channels; say which with input_shape=(channels, height, width)"
        )
    return Reading(given, given) if first else Reading(given, (given[2], *given[:2]), channels_last=True)


def _as_said(given: Shape, shape: Shape, name: str) -> Reading:
    last = (*shape[1:], shape[0])
    if given == shape or (len(given) == 2 and (1, *given) == shape):
        return Reading(given, shape)
    if given == last:
        return Reading(given, shape, channels_last=True)
    if len(given) == 1 and given[0] == math.prod(shape):
        return Reading(given, shape)
    if len(given) == 1:
        fitting = dict.fromkeys((_squared(given[0]), _rectangle(given[0]), (1, 1, given[0])))
        raise ValueError(
            f"{name}: X has {given[0]} features, but input_shape={shape} has {math.prod(shape)} numbers; "
            f"shapes that would do: {', '.join(map(str, fitting))}"
        )
    raise ValueError(f"{name}: X: expected images of shape {shape} or {last}, as input_shape says; got shape {given}")


def _input_shape(value: Any, name: str) -> Shape:
    try:
        shape = tuple(int(size) for size in value)
    except (TypeError, ValueError):
        shape = ()
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise ValueError(f"{name}: input_shape: expected (channels, height, width) or (height, width); got {value!r}")
    return shape if len(shape) == 3 else (1, *shape)


def _squared(width: int) -> Shape:
    """Return a square of one or of three channels where `width` is one, else a strip."""
    for channels in (1, 3):
        side = math.isqrt(width // channels)
        if side > 1 and channels * side * side == width:
            return channels, side, side
    return 1, 1, width


def _rectangle(width: int) -> Shape:
    """Return the rectangle of one channel that is nearest to a square."""
    height = next(side for side in range(math.isqrt(width), 0, -1) if width % side == 0)
    return 1, height, width // height


def rectangles(width: int) -> list[Shape]:
    """Return what images `width` numbers may be, as (C, H, W): the best of one channel, then of three."""
    shapes: list[Shape] = []
    for channels, most in ((1, 2), (3, 1)):
        pixels = width // channels if width % channels == 0 else 0
        sides = [side for side in range(math.isqrt(pixels), SIDE - 1, -1) if pixels % side == 0]
        for side in [side for side in sides if pixels <= RATIO * side**2][:most]:
            shapes += dict.fromkeys([(channels, side, pixels // side), (channels, pixels // side, side)])
    return shapes


class Scaler:
    """Scales images to variance 1, their darkest value to 0; strips, feature by feature, to mean 0 and variance 1.

    Parameters
    ----------
    X : array of shape (n, C, H, W)
    weight : array of shape (n,) or None
    strips : bool
    """

    def __init__(self, X: Array, weight: Array | None, *, strips: bool) -> None:
        axes = (0,) if strips else (0, 2, 3)
        total = (len(X) if weight is None else exact.total(weight)) * (1 if strips else X.shape[2] * X.shape[3])

        def summed(rows: slice, values: Array) -> Array:
            weighted = values if weight is None else values * weight[rows].reshape(-1, 1, 1, 1)
            numbers = exact.total(weighted)
            return numbers if strips else exact.total(numbers.reshape(len(numbers), -1).T)[:, None, None]

        with np.errstate(over="ignore", invalid="ignore"):
            mean = sum(summed(rows, X[rows]) for rows in _chunks(X)) / total
            square = sum(summed(rows, _square(X[rows] - mean)) for rows in _chunks(X)) / total
        if not np.isfinite(square).all():
            raise ValueError("X: its numbers are too large: the sum of their squares is beyond float64; scale them")
        deviation = np.sqrt(square)
        # What becomes 0 is what convolutions and shifts add beyond the edge.
        self.zero = mean if strips else X.min(axis=axes, keepdims=True)[0].astype(np.float64)
        # A constant feature has only rounding for a deviation.
        self.deviation = np.where(deviation > 1e-12 * np.abs(mean), deviation, 1.0)

    def __call__(self, X: Array, dtype: Any) -> Array:
        """Return the images in float32 or float64."""
        out = np.empty(X.shape, dtype)
        for rows in _chunks(X, IN_CACHE):
            centred = X[rows] - self.zero
            centred /= self.deviation
            out[rows] = centred
        return out


def _square(x: Array) -> Array:
    np.square(x, out=x)
    return x


def _chunks(X: Array, numbers: int = CHUNK) -> list[slice]:
    step = max(1, numbers // max(1, X[:1].size))
    return [slice(first, first + step) for first in range(0, len(X), step)]
