"""Arrays that tests compute on: random numbers, and the same numbers lying differently in memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st

DTYPES = (np.float32, np.float64)
both_dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)

# The same examples in every run.
sweep = settings(derandomize=True, max_examples=80, deadline=None, database=None)

# Arrays of the same numbers that lie differently in memory.
ORDERS = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "channels last": lambda x: np.moveaxis(np.moveaxis(x, 1, -1).copy(), -1, 1),
    "backwards": lambda x: np.flip(np.flip(x).copy()),
    "every second": lambda x: np.repeat(np.repeat(x, 2, axis=0), 2, axis=-1)[::2, ..., ::2],
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
    "unaligned": lambda x: np.frombuffer(b"." + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape),
}


def normal(*shape: int, seed: int = 0, dtype=np.float64) -> np.ndarray:
    """Return normally distributed numbers of `dtype`."""
    return np.random.RandomState(seed).standard_normal(shape).astype(dtype)


def pairs(least: int, most: int) -> st.SearchStrategy[tuple[int, int]]:
    """Return pairs of whole numbers, vertical and horizontal."""
    return st.tuples(st.integers(least, most), st.integers(least, most))
