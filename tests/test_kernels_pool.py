"""Kernels that pool, alone or in one pass with a convolution, on buffers with guard words around them and in gaps."""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn.codegen.blocking import FILTERS
from fastcnn.kernels import conv_direct, conv_pixels, pool
from fastcnn.kernels.maps import Maps, Matrix, Pooling, PostOps
from tests.arrays import both_dtypes
from tests.buffers import assert_only, gather, integers, lanes, packed, spread, table
from tests.guards import untouched


def pool2_expected(X: np.ndarray, floor: float, ties_all: bool):
    """Return the maxima of X (P, 4, N), and the bits of the pixels that were it."""
    best = X.max(axis=1)
    won = best[:, None] == X
    if not ties_all:
        won &= np.cumsum(won, axis=1) == 1
    won &= (best > floor)[:, None]
    return best, (won * np.array([1, 2, 4, 8])[:, None]).sum(axis=1).astype(np.uint8)


@both_dtypes
@pytest.mark.parametrize("ties_all", [True, False])
@pytest.mark.parametrize("vectors", [1, 2, 3])
@pytest.mark.parametrize("P", [1, 2, 5, 26])
def test_pool2(guards, P, vectors, ties_all, dtype):
    rng, N, gap = np.random.RandomState(P), vectors * lanes(dtype), lanes(dtype)
    X, DY = rng.randint(-2, 3, size=(P, 4, N)).astype(dtype), integers(rng, P, N, dtype=dtype)
    x_row, y_row = spread(rng, 4 * P, N, gap), spread(rng, P, N, gap)
    x = guards.empty(4 * P * (N + gap) + gap, dtype)
    x[x_row.reshape(P, 4, 1) + np.arange(N)] = X
    for floor in (-np.inf, 0):
        for p0, p1 in ((0, P), (P // 2, P)):
            y, argmax = guards.empty(P * (N + gap) + gap, dtype), guards.empty(P * N, np.uint8)
            rows = table(guards, x_row[4 * p0 :])
            maps = Maps(y, table(guards, y_row))
            pool.pool2(Maps(x, rows), 0, maps, argmax, p0, p1, N, dtype(floor), ties_all)
            best, bits = pool2_expected(X, floor, ties_all)
            assert_only(y, y_row[p0:p1], N)
            np.testing.assert_array_equal(gather(y, y_row[p0:p1], N), best[p0:p1])
            np.testing.assert_array_equal(argmax.reshape(P, N)[p0:p1], bits[p0:p1])
            assert untouched(argmax[: p0 * N]).all()
            alone = guards.empty(y.size, dtype)
            nobody = guards.empty(0, np.uint8)
            pool.pool2(Maps(x, rows), 0, Maps(alone, maps.rows), nobody, p0, p1, N, dtype(floor), ties_all)
            np.testing.assert_array_equal(alone, y)
        dy, dx = guards.empty(y.size, dtype), guards.empty(x.size, dtype)
        dy[y_row[:, None] + np.arange(N)] = DY
        gradient, target = Maps(dy, table(guards, y_row)), Maps(dx, table(guards, x_row))
        pool.pool2_backward(gradient, guards.array(bits), P, N, target, False)
        assert_only(dx, x_row, N)
        won = bits[:, None] & np.array([1, 2, 4, 8])[:, None] != 0
        np.testing.assert_array_equal(gather(dx, x_row, N).reshape(P, 4, N), won * DY[:, None])


@both_dtypes
@pytest.mark.parametrize("argmax_dtype", [np.uint8, np.int32])
def test_pool_of_any_window(guards, argmax_dtype, dtype):
    """Three windows over five pixels: the second is cut at the border, the third shares a pixel with the first."""
    N, rng = lanes(dtype), np.random.RandomState(0)
    window, tap = np.array([[3, 0, N, 2 * N], [1, 0, 0, 0]], np.int32), np.array([[0, 1, 2], [7, 0, 0]], np.int32)
    x_row = np.array([[0, 0], [4 * N, 1], [2 * N, 0]], np.int32)
    X, DY = rng.randint(-1, 2, size=(5, N)).astype(dtype), integers(rng, 3, N, dtype=dtype)
    y, argmax = guards.empty(4 * N, dtype), guards.empty(4 * N, argmax_dtype)
    y_row = np.array([3, 0, 1]) * N
    rows, windows, taps = (guards.array(array).reshape(array.shape) for array in (x_row, window, tap))
    at = table(guards, y_row)
    pool.pool(Maps(guards.array(X), rows), windows, taps, Maps(y, at), Maps(argmax, at), 3, N)
    pixels_of, numbers = [[0, 1, 2], [4], [2, 3, 4]], [[0, 1, 2], [7], [0, 1, 2]]
    assert_only(y, y_row, N)
    assert_only(argmax, y_row, N)
    dX = np.zeros_like(X)
    for p, pixels in enumerate(pixels_of):
        first = X[pixels].argmax(axis=0)
        np.testing.assert_array_equal(y[y_row[p] :][:N], X[pixels].max(axis=0))
        np.testing.assert_array_equal(argmax[y_row[p] :][:N], np.array(numbers[p])[first])
        np.add.at(dX, (np.array(pixels)[first], np.arange(N)), DY[p])
    # Backward, each pixel looks at the windows that it lies in: counted from the first of them, and its tap there.
    readers = [[(0, 0)], [(0, 1)], [(0, 2), (-2, 0)], [(0, 1)], [(0, 7), (1, 2)]]
    base = np.array([y_row[0], y_row[0], y_row[0], y_row[2], y_row[1]])
    back, back_tap = np.zeros((5, 3), np.int32), np.zeros((5, 2), np.int32)
    for i, pairs in enumerate(readers):
        back[i, : 1 + len(pairs)] = [len(pairs), *(N * offset for offset, _ in pairs)]
        back_tap[i, : len(pairs)] = [number for _, number in pairs]
    dx, dy = guards.empty(5 * N, dtype), guards.empty(4 * N, dtype)
    dy[y_row[:, None] + np.arange(N)] = DY
    back_row = np.stack([base, np.arange(5)], axis=1).astype(np.int32)
    rows, *tables = (guards.array(array).reshape(array.shape) for array in (back_row, back, back_tap))
    pool.pool_backward(Maps(dy, rows), *tables, argmax, 5, N, Maps(dx, table(guards, np.arange(5) * N)), False)
    np.testing.assert_array_equal(dx.reshape(5, N), dX)


# -------------------------------------------------------------------------------------------- with a convolution before


@pytest.mark.skipif(lanes(np.float32) <= FILTERS, reason="filters fill the registers of this machine")
@pytest.mark.parametrize("width", [4, 5, 6, 9, 16])
@pytest.mark.parametrize("height", [1, 3, 4])
def test_convolution_and_pooling_pixel_by_pixel(guards, height, width):
    """The bits of filter by filter, also of sums that round, of NaN and of infinities; `width` is that of the output.

    Filters are 3 x 2; halves of registers stand side by side, in two lines, or overlap.
    """
    rng, N, K, P, dtype = np.random.RandomState(width), lanes(np.float32), 6, height * width, np.float32
    step, windows = 2 * width + 1 + 3, lanes(np.float32) // 4
    begin = np.arange(0, P, width)[:, None] + np.minimum(np.arange(0, width, windows), width - windows)
    image = rng.standard_normal((2 * height + 2, step)).astype(dtype)
    image[1, 5], image[2, 7], image[-1, 1] = np.nan, np.inf, -np.inf
    line, column = 2 * np.arange(height)[:, None, None] + [0, 0, 1, 1], 2 * np.arange(width)[:, None] + [0, 1, 0, 1]
    x_row, x_col = table(guards, line * step + column), table(guards, np.arange(3)[:, None] * step + np.arange(2))
    filters, start = np.zeros((K, N), dtype), np.zeros(N, dtype)
    filters[:, :FILTERS], start[:FILTERS] = rng.standard_normal((K, FILTERS)), rng.standard_normal(FILTERS)
    x, w, biases = guards.array(image), guards.array(filters), guards.array(start)
    y_row = spread(rng, P, N, 3)
    rows, halves, in_order = table(guards, y_row), table(guards, begin), guards.empty(0, np.int32)
    for floor, ties_all in ((-np.inf, False), (0, False), (0, True)):
        arguments = Matrix(x, x_row, x_col), w, PostOps(biases, dtype(floor))
        expected, marks = guards.empty(P * (N + 3) + 3, dtype), guards.empty(P * N, np.uint8)
        conv_direct.forward_pool(*arguments, Maps(expected, rows), Pooling(ties_all, marks, in_order), P, N)
        for size in (P * N, 0):
            y, argmax = guards.empty(P * (N + 3) + 3, dtype), guards.empty(size, np.uint8)
            conv_pixels.forward_pool(*arguments, Maps(y, rows), Pooling(ties_all, argmax, in_order), halves, begin.size)
            assert_only(y, y_row, N)
            assert np.isnan(gather(y, y_row, FILTERS)).any()
            np.testing.assert_array_equal(gather(y, y_row, FILTERS), gather(expected, y_row, FILTERS))
            found, others = (array[:size].reshape(-1, N)[:, :FILTERS] for array in (argmax, marks))
            np.testing.assert_array_equal(found, others)


@both_dtypes
@pytest.mark.parametrize("ties_all", [True, False])
@pytest.mark.parametrize("vectors", [1, 2, 3])
@pytest.mark.parametrize("P", [1, 23, 24, 25, 49])
def test_convolution_and_pooling_in_one_pass(guards, P, vectors, ties_all, dtype):
    rng, N, K = np.random.RandomState(P), vectors * lanes(dtype), 6
    A, B, start = (integers(rng, *shape, dtype=dtype) for shape in ((4 * P, K), (K, N), (N,)))
    y_row = spread(rng, P, N, lanes(dtype))
    for floor in (-np.inf, 0):
        y, argmax = guards.empty(P * (N + lanes(dtype)) + lanes(dtype), dtype), guards.empty(P * N, np.uint8)
        matrix = Matrix(guards.array(A), table(guards, np.arange(4 * P) * K), table(guards, np.arange(K)))
        arguments = matrix, packed(guards, B), PostOps(guards.array(start), dtype(floor))
        in_order = guards.empty(0, np.int32)
        conv_direct.forward_pool(
            *arguments, Maps(y, table(guards, y_row)), Pooling(ties_all, argmax, in_order), P, N
        )  # fmt: skip
        best, bits = pool2_expected(np.maximum(floor, start + A @ B).reshape(P, 4, N), floor, ties_all)
        assert_only(y, y_row, N)
        np.testing.assert_array_equal(gather(y, y_row, N), best)
        np.testing.assert_array_equal(argmax.reshape(P, N), bits)
        alone = guards.empty(y.size, dtype)
        pooling = Pooling(ties_all, guards.empty(0, np.uint8), in_order)
        conv_direct.forward_pool(*arguments, Maps(alone, table(guards, y_row)), pooling, P, N)
        np.testing.assert_array_equal(alone, y)
