"""How kernels cut their work, as far as those who give them scratch must know."""

from __future__ import annotations

import numpy as np

from ..jit.target import COMMON, FEWEST_REGISTERS, vector_set

FLOAT = 4  # bytes: work is cut alike for all dtypes

BAND = 96  # rows of a product (MC) that stay in the first-level cache while all panels of the other matrix pass by
DEPTH = 1200  # columns of them (KC) that are taken at once: more of the other's panel would not stay in the caches
PIXELS = 256  # the most rows that a filter gradient takes at once: their panel stays in the first-level cache
WINDOW = 9  # vectors of a window at a time: as many as there are general registers for their offsets, on x86
FILTERS = (FEWEST_REGISTERS - 4) // 2  # of a first layer, each with two registers of sums, beside pixels and weights
SUMS = FEWEST_REGISTERS // 2  # of a row of a product that skips zeros: by its next turn, each is ready again
WORD = 64  # bits that say which numbers are not zero
SOFTMAX = 4  # pixels of a softmax at a time: more would keep memory waiting while exponentials are computed


def pixels_at_once(channels: int) -> int:
    """Return how many pixels of so many channels a filter gradient takes at once.

    All taps read them again: they should stay in the first-level cache, beside the panel. Where too few would, the sums
    are better left in the registers for longer.
    """
    fitting = COMMON.first // 2 // FLOAT // channels
    return PIXELS if fitting < 64 else min(fitting // 4 * 4, PIXELS // 2)


def is_panel(N: int, dtype: np.dtype) -> bool:
    """Tell whether a matrix of N columns is one panel of a product, so that it is packed as it is."""
    return vector_set().lanes(dtype) * 2 >= N


def entries_at_once(size: int) -> int:
    """Return how many pooled pixels the sparse gradients take at once, if each adds `size` bytes to what they read.

    All filters read them again: half of the first-level cache should hold them.
    """
    return max(16, min(PIXELS, COMMON.first // 2 // size))
