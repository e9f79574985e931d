"""What samples are read as: rows and images of several shapes become (n, C, H, W)."""

from __future__ import annotations

import math
from enum import Enum
from pathlib import PurePath
from typing import Any, NamedTuple

import numpy as np

from ..typing import Array, Shape
from .networks import SHORTEST, SMALLEST
from .scaling import Scaler  # noqa: F401 -- where pickles of 0.1.0 look for it

CHANNELS = (1, 2, 3, 4)  # what may be a number of channels where nothing else is said
SIDE, RATIO = 6, 3  # of rectangles that rows may be: pictures seldom are smaller or longer, tables often are


def expect_one_size(X: Any, name: str) -> None:
    """Raise where X is a list of images of several shapes, of which NumPy makes no array."""
    shapes = {np.shape(x) for x in X if hasattr(x, "__array_interface__")} if isinstance(X, list | tuple) else set()
    if len(shapes) > 1 and max(map(len, shapes)) > 1:
        some = ", ".join(map(str, sorted(shapes)[:3]))
        raise ValueError(f"{name}: X: expected images of one shape; got {len(shapes)} shapes, such as {some}")


def expect_no_names(X: Any, name: str) -> None:
    """Raise where X is a list of words, such as names of files."""
    is_row = isinstance(X, list | tuple) or (isinstance(X, np.ndarray) and X.ndim == 1)
    if is_row and len(X) and isinstance(X[0], str | bytes | PurePath):
        raise ValueError(
            f"{name}: X: expected images or rows of numbers; got words, such as {str(X[0])!r:.80}: "
            "fastcnn.data.load_images reads a folder of images"
        )


def as_numbers(X: Array, name: str) -> Array:
    """Return samples that scikit-learn has let through as numbers: objects, if they are such."""
    try:
        X = X.astype(np.float64) if X.dtype.kind == "O" else X
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: X: expected numbers; got objects: {error}") from None
    if X.dtype.kind not in "biuf":
        raise TypeError(f"{name}: X: expected numbers; got dtype {X.dtype}")
    return X


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


class Kind(Enum):
    """What samples are, by their shape; "auto" has another network, scale and length for each."""

    IMAGES = "images"
    SIGNALS = "signals"  # strips, said to be such, that are long enough to have parts
    FEATURES = "features"  # short strips, rows and images below 5 pixels


def kind_of(reading: Reading, input_shape: Any) -> Kind:
    """Return the kind of samples that are read in this way; `input_shape` is the estimator's parameter."""
    narrow, long = sorted(reading.shape[1:])
    if narrow >= SMALLEST:
        return Kind.IMAGES
    is_said = len(reading.given) > 1 or input_shape is not None
    return Kind.SIGNALS if long >= SHORTEST and is_said else Kind.FEATURES


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
