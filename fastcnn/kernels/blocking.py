"""How kernels cut their work, as far as those who give them scratch must know."""

from __future__ import annotations

import numpy as np

from .machine import vector_set

BAND = 96  # rows of a product that stay in the first-level cache while all panels of the other matrix pass by
DEPTH = (
    1200  # columns of them that are taken at once: more of the other's panel would not stay in the caches beside them
)
PIXELS = 256  # rows that a filter gradient takes at once: a panel of the gradient stays in the first-level cache
SOFTMAX = 16  # pixels of a softmax at a time


def is_panel(N: int, dtype: np.dtype) -> bool:
    """Tell whether a matrix of N columns is one panel of a product, so that it is packed as it stands."""
    return vector_set().lanes(dtype) * 2 >= N
