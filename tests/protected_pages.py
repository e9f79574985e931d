"""Arrays that end at a page without access, or begin behind one: whatever touches a byte beyond dies at once.

Loads count as stores do. POSIX alone has what it takes.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any
from unittest import mock

import numpy as np

from fastcnn.engine import allocate, arrays
from fastcnn.jit.kernel import Kernel

SIDES = ("end", "begin")
PAGE = mmap.PAGESIZE


class _Pages(mmap.mmap):
    """Pages of which the first and the last cannot be touched; they go when no array is in them any more."""


def protected_zeros(shape: int | tuple[int, ...], dtype: Any, side: str) -> np.ndarray:
    """Return zeros that end where the pages end ("end", aligned as one number is), or begin where they begin."""
    dtype = np.dtype(dtype)
    shape = (int(shape),) if isinstance(shape, int | np.integer) else shape
    length = prod(shape) * dtype.itemsize
    inside = max(1, -(-length // PAGE)) * PAGE
    pages = _Pages(-1, inside + 2 * PAGE)
    whole = np.frombuffer(pages, np.uint8)
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    for place in (0, PAGE + inside):
        if protect(whole.ctypes.data + place, PAGE, 0):
            raise OSError(ctypes.get_errno(), "mprotect")
    first = PAGE + (inside - length if side == "end" else 0)
    return whole[first : first + length].view(dtype).reshape(shape)


def protected(array: np.ndarray, side: str) -> np.ndarray:
    """Return a C-ordered copy of an array, as a user might have it there."""
    copy = protected_zeros(array.shape, array.dtype, side)
    copy[...] = array
    return copy


def is_protected(array: np.ndarray) -> bool:
    """Tell whether an array lies between protected pages."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base.obj if isinstance(base, memoryview) else base, _Pages)


def arrays_of(arguments: tuple[Any, ...]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the arrays among a kernel's arguments and in their records, and where each stands."""
    for place, argument in enumerate(arguments):
        if isinstance(argument, np.ndarray):
            yield str(place), argument
        elif isinstance(argument, tuple):
            yield from ((f"{place}.{inside}", array) for inside, array in arrays_of(argument))


@contextmanager
def protected_engine(side: str) -> Iterator[None]:
    """Let the engine allocate each array between protected pages; AssertionError if a kernel gets another one."""

    def zeros(shape: int | tuple[int, ...], dtype: np.dtype, alignment: int = 1, at_least: int = 0) -> np.ndarray:
        return protected_zeros(shape, dtype, side)

    def apart(sizes: dict[Any, int], dtype: np.dtype, large: bool) -> dict[Any, np.ndarray]:
        return {name: zeros(size, dtype) for name, size in sizes.items()}

    call = Kernel.__call__

    def checked(kernel: Kernel, *arguments: Any) -> None:
        for place, array in arrays_of(arguments):
            if array.size and not is_protected(array):
                raise AssertionError(f"{kernel.family}.{kernel.name}: argument {place} is not from engine.arrays")
        call(kernel, *arguments)

    with (
        mock.patch.object(arrays, "allocate", zeros),
        mock.patch.object(allocate, "zeros_together", apart),
        mock.patch.object(Kernel, "__call__", checked),
    ):
        yield
