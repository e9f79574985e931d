"""Which implementation computes a convolution: one ordered list, and one question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ...codegen.winograd_schemes import F23, F25, F34, F43, Scheme
from ...engine.ir import MANY
from ...engine.layout import padded
from ..epilogue import NOTHING, Epilogue
from ..window import Window
from .algorithm import Algorithm
from .depthwise import Depthwise
from .direct import Direct
from .groups import Grouped
from .im2col import Im2col
from .pointwise import Pointwise
from .winograd import Way, Winograd, Winograd4


class Cost(NamedTuple):
    """What Winograd's algorithm takes for each of its products, in products of the direct one, on C and F channels.

    A tile takes `product + transform · (1/C + 1/F)`: transforms take a number of a channel once, products with all
    channels of the other side. Transforming the filters, and reading them, is worth `filters` tiles, once for all
    images of a batch.
    """

    product: float
    transform: float
    filters: float


# Fitted to 56 shapes of 5 to 100 channels and 3 to 30 pixels in shards of 16 images, forward and both gradients, with
# AVX2: the logarithm of the ratio to direct is off by 0.14 and 0.19 in the root mean square, and what the model chooses
# is in the geometric mean 1.39 times as fast as direct, where the best of all would be 1.40. On 1 to 8 images of 24 to
# 240 channels and 3 to 28 pixels, transforming the filters is worth 12 to 17 and 15 to 30 tiles. Windows of 5 x 5 were
# fitted to 515 shapes of 5 to 128 channels, 3 to 28 pixels, 1 to 16 images, on a busy machine: off by 0.15, what is
# chosen gains 1.15 where the best would gain 1.17. Measured ratios to direct, forward, input and filter gradient:
# 12 -> 12 at 16 x 16 1.28, 1.27, 1.42; 64 -> 64 at 16 x 16 2.2, 2.6, 2.0; 64 -> 64 at 7 x 7 1.22, 1.30, 1.44;
# 8 -> 8 at 28 x 28 0.96, 0.92, 1.16; 128 -> 128 at 8 x 8, one image 0.67, 0.69, 0.92. Windows of 7 x 7, to 70 shapes:
# off by 0.10; 64 -> 64 at 16 x 16 2.0 together, 16 -> 16 1.39, 32 -> 32 at 10 x 10, four images 1.08. What both gain
# is less sure than with 3 x 3, so their constants lean to direct.
COSTS: dict[type[Scheme], Cost] = {
    F23: Cost(1.1, 5.5, 16.0),
    F43: Cost(1.35, 7.5, 24.0),
    F25: Cost(1.45, 5.5, 24.0),
    F34: Cost(1.5, 5.0, 24.0),
}
POOLED = 0.7  # of direct's cost, where a max-pooling is behind it: `behind_max_pool` spares products of both gradients
SHARING = 4 * MANY  # images of a batch of MANY or more: 64 lie in the middle of what is in use
FEWEST = 5  # channels: with fewer, which a network's input has, there is little but transforms, and no input gradient
FEWEST_OF_7 = 3  # those of 7 x 7 windows: forward and filter gradient of 4 -> 128 take 1.5 times less, of 3 -> 133 1.5

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
    images : int
        As many share the filters' transforms, see `Graph`.
    """

    window: Window
    channels: int
    filters: int
    groups: int
    dtype: np.dtype
    algorithm: str = "auto"
    epilogue: Epilogue = NOTHING
    rectified: bool = False
    images: int = MANY


def select(problem: Problem) -> type[Algorithm]:
    """Return the first implementation that fits and was asked for; for `"auto"` the one that takes least.

    `python -m bench.kernels` measures the rule, a model of what each takes. `python -m bench.winograd_training`
    shows that networks learn the same with all of them. Shapes alone decide: the sums of another algorithm have other
    bits.
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
    fits = any(each.fits(problem.window, problem.groups) for each in (Winograd, Winograd4))
    wide = problem.window.vertical.taps == 7
    known = fits and min(problem.channels, problem.filters) >= (FEWEST_OF_7 if wide else FEWEST)
    return _quickest(problem) if known else Direct


def _quickest(problem: Problem) -> type[Algorithm]:
    """Return the algorithm for windows that Winograd knows that takes least; the more accurate, if two do."""
    rows, columns = problem.window.outputs
    taps = problem.window.vertical.taps * problem.window.horizontal.taps
    channels = 1 / problem.channels + 1 / problem.filters
    images = SHARING if problem.images == MANY else problem.images

    def winograd(way: Way) -> float:
        cost, scheme, parts = COSTS[type(way.scheme)], way.scheme, way.parts
        side = scheme.tile + scheme.taps - 1
        down, across = -(-rows // scheme.tile), -(-columns // scheme.tile)
        transforms = cost.transform * channels * (1 + 1 / parts) / 2  # the outputs of all parts are transformed once
        once = down * across * transforms + cost.filters / images
        spared = [tiles * scheme.tile > size for tiles, size in ((down, rows), (across, columns))]
        products = (down * side - spared[0]) * (across * side - spared[1])
        return parts * (products * cost.product + way.points * once)

    costs: dict[type[Algorithm], float] = {
        Direct: taps * rows * columns * (POOLED if problem.epilogue.pool == "first" else 1.0)
    }
    for algorithm in (Winograd, Winograd4):
        way = algorithm.find(problem.window)
        if way:
            costs[algorithm] = winograd(way)
    return min(costs, key=costs.__getitem__)
