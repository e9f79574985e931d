"""Figures and axes by matplotlib, and images as it draws them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..typing import Array, Shape

INCHES = 1.3  # the side of a small image in a grid


def pyplot(caller: str) -> Any:
    """Return matplotlib's pyplot; an ImportError says how to install it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f"{caller} needs matplotlib, which is not installed: pip install matplotlib, or pip install 'fastcnn[plot]'"
        ) from error
    return plt


def make_axes(caller: str, ax: Any, count: int, columns: int, size: Shape | tuple[float, float]) -> tuple[Any, Array]:
    """Return a figure and `count` axes in a grid.

    Parameters
    ----------
    caller : str
        For messages.
    ax : None, Axes, or array of Axes
        None makes a new figure. A single Axes is divided where several are needed. Of an array the first are taken.
    count, columns : int
    size : pair of float
        Width and height of one of the axes of a new figure, in inches.
    """
    plt = pyplot(caller)
    columns = min(columns, count)
    rows = -(-count // columns)
    if ax is None:
        figure, grid = plt.subplots(
            rows, columns, squeeze=False, figsize=(size[0] * columns, size[1] * rows), layout="constrained"
        )
        for spare in grid.flat[count:]:
            spare.set_axis_off()
        return figure, grid.ravel()[:count]
    if hasattr(ax, "inset_axes"):
        return ax.figure, _divided(ax, count, rows, columns)
    given = np.asarray(ax, dtype=object).ravel()
    if not all(hasattr(one, "inset_axes") for one in given):
        raise TypeError(f"{caller}: ax: expected None, an Axes, or an array of Axes; got {ax!r}")
    if len(given) < count:
        raise ValueError(f"{caller}: ax: expected at least {count} axes; got {len(given)}")
    return given[0].figure, given[:count]


def _divided(ax: Any, count: int, rows: int, columns: int) -> Array:
    """Return axes inside of one; that one itself if one is enough."""
    found = np.empty(count, object)
    if count == 1:
        found[0] = ax
        return found
    ax.set_axis_off()
    for k in range(count):
        i, j = divmod(k, columns)
        found[k] = ax.inset_axes((j / columns, 1 - (i + 1) / rows, 0.9 / columns, 0.8 / rows))
    return found


def picture(image: Array) -> Array:
    """Return an image (C, H, W) as matplotlib draws it: (H, W), or (H, W, 3) from 0 to 1; bytes keep their range.

    Of other numbers of channels the first is shown.
    """
    if len(image) != 3:
        first: Array = image[0]
        return first
    colours = image.transpose(1, 2, 0)
    if colours.dtype == np.uint8:
        return colours
    low, high = float(colours.min()), float(colours.max())
    scaled: Array = (colours - low) / (high - low or 1.0)
    return scaled


def show(ax: Any, image: Array, title: str = "", **settings: Any) -> Any:
    """Draw an image without ticks, and return what matplotlib has made of it."""
    settings = {"cmap": "gray", "interpolation": "nearest", **settings} if image.ndim == 2 else settings
    drawn = ax.imshow(image, **settings)
    ax.set_xticks([])
    ax.set_yticks([])
    if title:
        ax.set_title(title, fontsize="small")
    return drawn


def symmetric(values: Array) -> dict[str, Any]:
    """Return settings of a map of colours in which 0 is white: blue below, red above."""
    most = float(np.abs(values).max()) if values.size else 0.0
    return {"cmap": "RdBu_r", "vmin": -(most or 1.0), "vmax": most or 1.0}


def square(count: int) -> int:
    """Return the columns of a grid of so many pictures that is about a square."""
    return max(1, math.ceil(math.sqrt(count)))
