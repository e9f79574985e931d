"""Which implementation computes a convolution: one ordered list, and one question."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...engine.layout import padded
from ..epilogue import NOTHING, Epilogue
from ..window import Window
from .algorithm import Algorithm
from .depthwise import Depthwise
from .direct import Direct
from .groups import Grouped
from .im2col import Im2col
from .pointwise import Pointwise
from .winograd import Winograd, Winograd4, points_of

FILTERS = 1.5  # tiles of each image that transforming the filters, and reading them, is worth in a shard of 16 images

# The first that fits is taken; each gives way to the next where it does not know the case.
IMPLEMENTATIONS: tuple[type[Algorithm], ...] = (Depthwise, Grouped, Pointwise, Winograd4, Winograd, Direct, Im2col)

# What `Conv2D(algorithm=...)` may ask for: what is before it in the list is passed over.
ALGORITHMS: dict[str, type[Algorithm]] = {
    "winograd4": Winograd4,
    "winograd": Winograd,
    "direct": Direct,
    "im2col": Im2col,
}


@dataclass(frozen=True)
class Problem:
    """A convolution to choose an implementation for.

    Attributes
    ----------
    window : Window
    channels, filters, groups : int
    dtype : dtype
    algorithm : str
        One of `ALGORITHMS`, or "auto".
    epilogue : Epilogue
    rectified : bool
        Whether a ReLU is before it, so that many numbers of the input are zero.
    """

    window: Window
    channels: int
    filters: int
    groups: int
    dtype: np.dtype
    algorithm: str = "auto"
    epilogue: Epilogue = NOTHING
    rectified: bool = False


def select(problem: Problem) -> type[Algorithm]:
    """Return the first implementation that fits and was asked for; for `"auto"` the one with the fewest products.

    `python -m bench.kernels` measures the rule: where channels and filters fill whole panels, Winograd's algorithm with
    the fewest products; direct elsewhere. `python -m bench.winograd_training` shows that networks learn the same with
    all of them. Shapes alone decide: the sums of another algorithm have other bits.
    """
    return next(
        each for each in IMPLEMENTATIONS if _is_wanted(each, problem) and each.fits(problem.window, problem.groups)
    )


def _is_wanted(implementation: type[Algorithm], problem: Problem) -> bool:
    """Tell whether the implementation is what the problem asks for, or what it may fall back to."""
    asked = _asked(problem)
    if implementation in (Depthwise, Grouped):
        alone = problem.groups == problem.channels
        return problem.groups > 1 and asked is not Im2col and alone == (implementation is Depthwise)
    if implementation is Pointwise:
        pitches = padded(problem.channels), padded(problem.filters)
        known = Pointwise.knows(problem.window, pitches, problem.dtype)
        return asked is not Im2col and problem.rectified and problem.epilogue.pool is None and known
    return IMPLEMENTATIONS.index(implementation) >= IMPLEMENTATIONS.index(asked)


def _asked(problem: Problem) -> type[Algorithm]:
    """Return the implementation that is asked for by name, or that suits the shapes best."""
    if problem.algorithm != "auto":
        return ALGORITHMS[problem.algorithm]
    wide = problem.channels % 16 == 0 and problem.filters % 16 == 0
    return _fewest_products(problem.window) if wide and Winograd.fits(problem.window, problem.groups) else Direct


def _fewest_products(window: Window) -> type[Algorithm]:
    """Return the algorithm for 3 x 3 windows of stride 1 that multiplies least; the more accurate, if two do."""
    rows, columns = window.outputs

    def products(tile: int) -> float:
        return points_of(tile) * (-(-rows // tile) * -(-columns // tile) + FILTERS)

    counts = {Direct: 9.0 * rows * columns, Winograd: products(2), Winograd4: products(4)}
    return min(counts, key=counts.__getitem__)
