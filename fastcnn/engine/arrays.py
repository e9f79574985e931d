"""All memory of the engine: maps, parameters, scratch and tables come from `allocate`, and from nowhere else.

A kernel may touch the bytes of the arrays that it is given, and no others: nothing is allocated in excess for it. The
tests put pages without access around each array, through this one function, and so see each load or store beyond.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from math import prod
from typing import Any

import numpy as np

from ..jit.target import COMMON
from ..typing import Array, IntArray

ALIGNMENT = COMMON.line
PAGE, ASKED = 2 << 20, 4 << 20  # bytes of a large page on most systems, and from where on NumPy asks for such pages


def allocate(shape: int | tuple[int, ...], dtype: np.dtype, alignment: int, at_least: int = 0) -> Array:
    """Return zeros that begin at a multiple of `alignment`, out of `at_least` bytes that the system is asked for."""
    shape = (shape,) if isinstance(shape, int | np.integer) else shape
    length = prod(shape) * dtype.itemsize
    raw = np.zeros(max(length, at_least) + alignment, np.uint8)
    start = -raw.ctypes.data % alignment
    return raw[start : start + length].view(dtype).reshape(shape)


def aligned_zeros(shape: int | tuple[int, ...], dtype: np.dtype | type) -> Array:
    """Return zeros that begin at a cache line: a vector that straddles two lines costs twice."""
    return allocate(shape, np.dtype(dtype), ALIGNMENT)


def zeros_in_large_pages(size: int, dtype: np.dtype | type) -> Array:
    """Return `size` zeros, in large pages if they fill half of one: maps are read at too many places for small ones."""
    dtype = np.dtype(dtype)
    if size * dtype.itemsize < PAGE // 2:
        return aligned_zeros(size, dtype)
    return allocate(size, dtype, PAGE, ASKED)  # what is asked for and never touched takes no memory


def zeros_together(sizes: Mapping[Hashable, int], dtype: np.dtype, large: bool) -> dict[Hashable, Array]:
    """Return zeros of these sizes, by name, in one piece, for which the system can give large pages."""
    step = ALIGNMENT // dtype.itemsize
    *starts, end = np.cumsum([0, *(-(-size // step) * step for size in sizes.values())]).tolist()
    whole = (zeros_in_large_pages if large else aligned_zeros)(end, dtype)
    return {name: whole[start : start + sizes[name]] for name, start in zip(sizes, starts, strict=True)}


def owned(array: Array) -> Array:
    """Return a C-ordered copy of an array."""
    copy = aligned_zeros(array.shape, array.dtype)
    copy[...] = array
    return copy


def as_table(offsets: Any) -> IntArray:
    """Return offsets as kernels read them: flat, 32-bit."""
    return owned(np.asarray(offsets).ravel().astype(np.int32))
