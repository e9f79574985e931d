"""Buffers with guard words around them: a store past an array corrupts the heap in silence; here it shows."""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn.engine import arrays

GUARD = 64  # numbers on each side: more than any vector or row of a tile has


def guard_word(dtype) -> np.ndarray:
    """Return a number that no kernel computes: a NaN of its own, so that reading it shows too; or 0xA5 in each byte."""
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        bits = {4: (np.uint32, 0x7FC0_BEEF), 8: (np.uint64, 0x7FF8_0000_DEAD_BEEF)}[dtype.itemsize]
        return np.array(bits[1], bits[0]).view(dtype)
    return np.array([0xA5] * dtype.itemsize, np.uint8).view(dtype)[0]


class Guards:
    """Hands out arrays between guard words and checks the words afterwards."""

    def __init__(self) -> None:
        self.all: list[np.ndarray] = []

    def empty(self, size: int, dtype, align: int = 0) -> np.ndarray:
        """Return an array that is itself full of guard words, to see which of its numbers are written."""
        dtype = np.dtype(dtype)
        spare = align // dtype.itemsize
        whole = np.full(size + 2 * GUARD + spare, guard_word(dtype), dtype)
        start = GUARD
        while align and whole[start:].ctypes.data % align:
            start += 1
        self.all += [whole[:start], whole[start + size :]]
        return whole[start : start + size]

    def zeros(self, size: int, dtype, align: int = 0) -> np.ndarray:
        """Return zeros between guard words."""
        inner = self.empty(size, dtype, align)
        inner[...] = 0
        return inner

    def array(self, values, dtype=None) -> np.ndarray:
        """Return a flat copy between guard words."""
        values = np.asarray(values, dtype)
        inner = self.empty(values.size, values.dtype)
        inner[...] = values.ravel()
        return inner

    def check(self) -> None:
        """Assert that all guard words stand."""
        for number, words in enumerate(self.all):
            side, written = "after" if number % 2 else "before", np.flatnonzero(~untouched(words))
            assert not written.size, f"{side} buffer {number // 2}: {written} written"


def untouched(array: np.ndarray) -> np.ndarray:
    """Tell for each number whether it is still the guard word, bit by bit."""
    bits = f"u{array.dtype.itemsize}"
    return array.view(bits) == guard_word(array.dtype).view(bits)


def guard_all_buffers(monkeypatch: pytest.MonkeyPatch) -> Guards:
    """Put guard words around every array that layers and models allocate from now on."""
    guards = Guards()

    def between_guard_words(shape, dtype, alignment, at_least=0) -> np.ndarray:
        return guards.zeros(int(np.prod(shape)), dtype, align=64).reshape(shape)

    monkeypatch.setattr(arrays, "allocate", between_guard_words)
    return guards
