"""Pointwise convolution that skips zeros, as bare kernels between guard words, beside the matrix product."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastcnn.codegen.blocking import BAND, SUMS, WORD
from fastcnn.kernels import conv_pointwise
from fastcnn.kernels.maps import Maps, Matrix, PostOps
from tests.buffers import assert_only, gather, integers, lanes, spread, table
from tests.guards import Guards


class Case(NamedTuple):
    """So many channels, pixels, and rows of registers of filters; the share of the numbers that are not zero."""

    K: int
    pixels: int
    rows: int
    share: float

    def __str__(self) -> str:
        return f"{self.K}x{self.pixels}x{self.rows}-{self.share}"


# Words of bits that are full, begun and missing; squares of 8 x 8 bits that are not whole; all zeros, and none.
CASES = (Case(1, 1, 1, 1.0), Case(17, 5, 2, 0.5), Case(64, 64, 1, 0.0), Case(72, 100, 1, 0.5), Case(130, 71, 2, 0.9))


def sparse_integers(rng, case: Case, dtype) -> np.ndarray:
    """Return small whole numbers (pixels, K), many of them zero."""
    shape = case.pixels, case.K
    return np.where(rng.uniform(size=shape) < case.share, integers(rng, *shape, dtype=dtype), dtype(0))


def in_panels(matrix: np.ndarray, width: int, gap: int) -> tuple[np.ndarray, int]:
    """Return a matrix as (panel, row, column of the panel), flat, and how far apart its panels are."""
    panels = [matrix[:, first : first + width] for first in range(0, matrix.shape[1], width)]
    return np.concatenate([np.append(panel, np.full(gap, np.nan)) for panel in panels]), len(matrix) * width + gap


def check_forward(case: Case, dtype) -> None:
    rng, guards, width = np.random.RandomState(0), Guards(), SUMS * lanes(dtype)
    x, w, N = (
        sparse_integers(rng, case, dtype),
        integers(rng, case.K, case.rows * width, dtype=dtype),
        case.rows * width,
    )
    pitch = -(-case.K // 16) * 16
    padded = np.full((case.pixels, pitch), np.nan, dtype)  # nobody may look beside the channels
    padded[:, : case.K] = x
    at = spread(rng, case.pixels, pitch, gap=3)
    maps = np.full(int(at.max()) + pitch, np.nan, dtype)
    for row, begin in zip(padded, at, strict=True):
        maps[begin : begin + pitch] = row
    y_at = spread(rng, case.pixels, N, gap=5)
    y, start = guards.empty(int(y_at.max()) + N + 5, dtype), integers(rng, N, dtype=dtype)
    b = guards.empty(case.K * N, dtype)
    conv_pointwise.pack(Maps(guards.array(w), table(guards, np.arange(case.K) * N)), N, b)
    for floor in (dtype(0), dtype(-np.inf)):
        conv_pointwise.forward(
            Maps(guards.array(maps), table(guards, at)), case.pixels, case.K, b, Maps(y, table(guards, y_at)), N,
            PostOps(guards.array(start), floor), guards.zeros(BAND * -(-case.K // WORD), np.int64),
            guards.zeros(1000, dtype),
        )  # fmt: skip
        np.testing.assert_array_equal(gather(y, y_at, N), np.maximum(floor, start + x @ w))
    assert_only(y, y_at, N)
    guards.check()


def check_filter_gradient(case: Case, dtype) -> None:
    rng, guards, width = np.random.RandomState(1), Guards(), SUMS * lanes(dtype)
    N, panel = case.rows * width, max(2 * lanes(dtype), 8)
    x, g = sparse_integers(rng, case, dtype), integers(rng, case.pixels, N, dtype=dtype)
    padded = np.concatenate([x, np.ones((case.pixels, -case.K % max(panel, 16)), dtype)], axis=1)
    maps, x_span = in_panels(padded, panel, gap=8)
    gradients, span = in_panels(g, width, gap=24)
    k = np.arange(case.K)
    dw, w_row = guards.empty(case.K * N, dtype), table(guards, np.arange(case.K) * N)
    matrix = Matrix(
        guards.array(maps, dtype), table(guards, np.arange(case.pixels) * panel),
        table(guards, k // panel * x_span + k % panel),
    )  # fmt: skip
    for times in (1, 2):  # the second time it is added
        conv_pointwise.filter_gradient(
            matrix, panel, case.pixels, guards.array(gradients, dtype), span, N, Maps(dw, w_row),
            guards.zeros(N, dtype), times > 1, guards.zeros(-(-case.K // 8) * 8, np.int64),
            guards.zeros(1000, dtype), guards.zeros(10, dtype),
        )  # fmt: skip
        np.testing.assert_array_equal(dw.reshape(case.K, N), times * (x.T @ g))
    guards.check()
