"""Buffers as kernels take them: flat, runs of numbers anywhere in them, tables that say where, matrices in panels."""

from __future__ import annotations

import numpy as np

from fastcnn.jit.target import vector_set
from tests.guards import Guards, untouched


def lanes(dtype) -> int:
    """Return how many numbers a vector of this machine has."""
    return vector_set().lanes(dtype)


def integers(rng, *shape, dtype):
    """Return small whole numbers: their products and sums are exact, so that kernels must agree to the bit."""
    return rng.randint(-8, 9, size=shape).astype(dtype)


def table(guards: Guards, values) -> np.ndarray:
    """Return a table of offsets."""
    return guards.array(values, np.int32)


def spread(rng, count: int, length: int, gap: int) -> np.ndarray:
    """Return where `count` runs of `length` begin in a buffer, in any order, with gaps between them."""
    return gap + rng.permutation(count) * (length + gap)


def assert_only(buffer: np.ndarray, starts, length: int) -> None:
    """Assert that all numbers of the runs were written, and no other."""
    inside = np.zeros(buffer.size, bool)
    for start in starts:
        inside[start : start + length] = True
    np.testing.assert_array_equal(untouched(buffer), ~inside)


def gather(buffer: np.ndarray, starts, length: int) -> np.ndarray:
    """Return the runs as rows."""
    return buffer[np.asarray(starts, int)[:, None] + np.arange(length)]


def packed(guards: Guards, matrix: np.ndarray) -> np.ndarray:
    """Return a matrix (K, N) in panels of two vectors; the last one is one vector wide where N is odd."""
    width = 2 * lanes(matrix.dtype)
    return guards.array(np.concatenate([matrix[:, c : c + width].ravel() for c in range(0, matrix.shape[1], width)]))
