"""Views of an image for prediction: mirrored, shifted and cut out; what a model makes of them is averaged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from .. import checks
from ..kernels import augment as kernels
from ..typing import Array, Shape
from .augmentation import PADDINGS

CHUNK = 1024  # images whose views are in memory at a time
WORDS = "flip, vertical-flip, shift=PIXELS, crop"


class View(NamedTuple):
    """One way to look at images.

    Attributes
    ----------
    upset, mirrored : bool
        Whether rows, and columns, change their order.
    shift : int
        Pixels down and to the right.
    weight : float
        Of its output; those of all views add up to 1.
    """

    upset: bool
    mirrored: bool
    shift: int
    weight: float


class Viewing(NamedTuple):
    """What a text such as "flip,shift=1" stands for.

    Attributes
    ----------
    views : tuple of View
    crop : bool
        Whether the middle and the corners of larger images are looked at.
    """

    views: tuple[View, ...]
    crop: bool


def as_views(text: Any, owner: str) -> Viewing:
    """Return the views of a text: words separated by commas.

    "flip" and "vertical-flip": each image and its mirror image, alike. "shift=k": half of the weight for the image, a
    quarter each for it k pixels up and to the left, and k pixels down and to the right; what comes in is the mirror
    image of the border, as published with the record on CIFAR-10. "crop": of images larger than the model's input,
    the middle and the four corners, alike.

    Raises
    ------
    TypeError, ValueError
        If it is something else.

    References
    ----------
    Krizhevsky, Sutskever and Hinton, NeurIPS 2012, section 4.1 (crops and flips); Jordan, arXiv:2404.00498, section
    3.5 (flips and shifts).
    """
    if not isinstance(text, str):
        raise TypeError(f"{owner}: views: expected a text of {WORDS}, such as 'flip,shift=1'; got {text!r}")
    chosen: dict[str, int] = {}
    for word in text.split(","):
        name, _, value = word.strip().partition("=")
        is_pixels = name == "shift" and value.isdecimal() and int(value) > 0
        if name in chosen or not (is_pixels or (name in ("flip", "vertical-flip", "crop") and "=" not in word)):
            raise ValueError(f"{owner}: views: expected words of {WORDS}, each once; got {word!r}")
        chosen[name] = int(value) if is_pixels else 1
    pixels = chosen.get("shift", 0)
    shifts = ((0, 0.5), (-pixels, 0.25), (pixels, 0.25)) if pixels else ((0, 1.0),)
    sides = [(False, True) if name in chosen else (False,) for name in ("vertical-flip", "flip")]
    share = 1 / (len(sides[0]) * len(sides[1]))
    views = tuple(
        View(upset, mirrored, shift, weight * share)
        for shift, weight in shifts for upset in sides[0] for mirrored in sides[1]
    )  # fmt: skip
    return Viewing(views, "crop" in chosen)


def predict_views(
    predict: Callable[[Array], Array], x: Any, views: Viewing, input_shape: Shape | None, owner: str
) -> Array:
    """Return the weighted mean of what `predict` makes of all views of images, in the order of the views."""
    images = np.asarray(x)
    if images.dtype != np.uint8:
        images = checks.as_images(images, owner, "x")
    if images.ndim != 4 or not len(images) or input_shape is None or len(input_shape) != 3:
        raise ValueError(f"{owner}: views: expected images (N, C, H, W), and a model of images; got {images.shape}")
    pixels = max(abs(view.shift) for view in views.views)
    if pixels >= min(input_shape[1:]):
        raise ValueError(f"{owner}: views: expected a shift below {min(input_shape[1:])} pixels; got {pixels}")
    return np.concatenate(
        [
            _mean(predict, images[first : first + CHUNK], views, input_shape, owner)
            for first in range(0, len(images), CHUNK)
        ]
    )


def _mean(predict: Callable[[Array], Array], images: Array, views: Viewing, input_shape: Shape, owner: str) -> Array:
    crops = list(_crops(images, input_shape, owner)) if views.crop else [images]
    total: Array | None = None
    for crop in crops:
        for view in views.views:
            output = predict(_seen(crop, view))
            share = output.dtype.type(view.weight / len(crops))
            total = share * output if total is None else total + share * output
    assert total is not None
    return total


def _crops(images: Array, input_shape: Shape, owner: str) -> Iterator[Array]:
    """Yield the middle of larger images, and their corners."""
    (height, width), (rows, columns) = input_shape[1:], images.shape[2:]
    if rows < height or columns < width:
        raise ValueError(
            f"{owner}: views: expected images of at least {height} x {width} pixels for crops; got {rows} x {columns}"
        )
    places = [((rows - height) // 2, (columns - width) // 2)]
    places += [(top, left) for top in (0, rows - height) for left in (0, columns - width)]
    for top, left in places:
        yield images[:, :, top : top + height, left : left + width]


def _seen(images: Array, view: View) -> Array:
    """Return images as a view has them."""
    if not (view.upset or view.mirrored or view.shift):
        return np.ascontiguousarray(images)
    n, channels, height, width = images.shape
    source, out = np.ascontiguousarray(images), np.empty(images.shape, images.dtype)
    # The kernel flips first; as published, images are shifted first.
    down, right = (-view.shift if turned else view.shift for turned in (view.upset, view.mirrored))
    moves = np.tile(np.array([view.upset, view.mirrored, down, right], np.int64), (n, 1))
    one, fill = images.dtype.type(1), images.dtype.type(0)
    reflect = PADDINGS.index("reflect")
    kernels.move(source.reshape(-1), n, channels, height, width, one, moves, reflect, fill, out.reshape(-1))
    return out
