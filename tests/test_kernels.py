"""Kernels on buffers with guard words around them and in their gaps: every tail is exact, nothing else is written."""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn.kernels import activation, conv_direct, conv_pixels, dense, loss, pool, product, update
from fastcnn.kernels.blocking import DEPTH, FILTERS, PIXELS, pixels_at_once
from fastcnn.kernels.machine import vector_set
from tests.arrays import both_dtypes
from tests.bounds import gamma
from tests.guards import Guards, untouched


@pytest.fixture
def guards():
    guards = Guards()
    yield guards
    guards.check()


def lanes(dtype) -> int:
    return vector_set().lanes(dtype)


def integers(rng, *shape, dtype):
    """Small whole numbers: their products and sums are exact, so that kernels must agree to the bit."""
    return rng.randint(-8, 9, size=shape).astype(dtype)


def table(guards: Guards, values) -> np.ndarray:
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
    return buffer[np.asarray(starts, int)[:, None] + np.arange(length)]


# ------------------------------------------------------------------------------------------------- the indirect product


def packed(guards: Guards, matrix: np.ndarray) -> np.ndarray:
    """Return B (K, N) in panels of two vectors; the last one is one vector wide where N is odd."""
    width = 2 * lanes(matrix.dtype)
    return guards.array(np.concatenate([matrix[:, c : c + width].ravel() for c in range(0, matrix.shape[1], width)]))


@both_dtypes
@pytest.mark.parametrize("vectors", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("rows", [*range(1, 24), 95, 96, 97, 193])
def test_product(guards, rows, vectors, dtype):
    rng, N, gap = np.random.RandomState(rows), vectors * lanes(dtype), lanes(dtype)
    for K, first in ((0, 0), (1, 0), (3, 2), (4, 0), (9, 1), (DEPTH + 5, 0)):
        A, B, start = (integers(rng, *shape, dtype=dtype) for shape in ((rows + first, K), (K, N), (N,)))
        # A[i, k] = a[a_row[i] + a_col[k]]: each row lies somewhere, its numbers somewhere in it.
        a_row, a_col = spread(rng, rows + first, K, 3), rng.permutation(K)
        a = guards.empty((rows + first) * (K + 3) + 3, dtype)
        a[a_row[:, None] + a_col] = A
        c_row = spread(rng, rows + first, N, gap)
        for floor, ask in ((-np.inf, 0), (0, 10000)):
            c = guards.empty((rows + first) * (N + gap) + gap, dtype)
            product.product(
                a, table(guards, a_row), first, first + rows, table(guards, a_col), K, packed(guards, B), 0,
                c, table(guards, c_row), N, guards.array(start), dtype(floor), guards.empty(ask, dtype),
            )  # fmt: skip
            assert_only(c, c_row[first:], N)
            np.testing.assert_array_equal(gather(c, c_row[first:], N), np.maximum(floor, start + A[first:] @ B))


@both_dtypes
@pytest.mark.parametrize("vectors", [*range(1, 18), 31])
def test_few_rows(guards, vectors, dtype):
    """Each number of vectors that has a loop of its own, and pieces of several."""
    rng, N, gap = np.random.RandomState(vectors), vectors * lanes(dtype), lanes(dtype)
    for rows, K in ((1, 0), (1, 1), (2, 7)):
        A, W, start = (integers(rng, *shape, dtype=dtype) for shape in ((rows, K), (K, N), (N,)))
        a_row, a_col = spread(rng, rows, K, 3), rng.permutation(K)
        a, w = guards.empty(rows * (K + 3) + 3, dtype), guards.empty(K * (N + gap) + gap, dtype)
        w_row, y_row = spread(rng, K, N, gap), spread(rng, rows, N, gap)
        a[a_row[:, None] + a_col], w[w_row[:, None] + np.arange(N)] = A, W
        for floor in (-np.inf, 0):
            y = guards.empty(rows * (N + gap) + gap, dtype)
            dense.few_rows(
                a, table(guards, a_row), rows, table(guards, a_col), K, w, table(guards, w_row), y,
                table(guards, y_row), N, guards.array(start), dtype(floor),
            )  # fmt: skip
            assert_only(y, y_row, N)
            np.testing.assert_array_equal(gather(y, y_row, N), np.maximum(floor, start + A @ W))


@both_dtypes
@pytest.mark.parametrize("vectors", [1, 5, 6, 11, 16])
@pytest.mark.parametrize("zeros", [0.0, 0.5, 1.0])
def test_few_rows_behind_a_relu(guards, zeros, vectors, dtype):
    """The bits of `product`, however many numbers are zero, of either sign; rounded sums, NaN and infinities too."""
    rng, N = np.random.RandomState(vectors), vectors * lanes(dtype)
    for K in (31, 32, 33, 100):
        A, W, start = (rng.standard_normal(shape).astype(dtype) for shape in ((2, K), (K, N), (N,)))
        A[rng.random_sample(A.shape) < zeros] = 0
        A[0] *= np.where(rng.random_sample(K) < 0.5, -1, 1)
        if zeros == 0.5:
            A[1, :3] = np.nan, np.inf, -np.inf
        columns, w_row = rng.permutation(K), spread(rng, K, N, lanes(dtype))
        a, w = guards.empty(2 * K, dtype), guards.empty(K * (N + lanes(dtype)) + lanes(dtype), dtype)
        a[K * np.arange(2)[:, None] + columns], w[w_row[:, None] + np.arange(N)] = A, W
        a_row, a_col, y_row = table(guards, [0, K]), table(guards, columns), table(guards, [0, N])
        biases, y, expected = guards.array(start), guards.empty(2 * N, dtype), guards.empty(2 * N, dtype)
        none = dtype(-np.inf)
        dense.few_rows(a, a_row, 2, a_col, K, w, table(guards, w_row), y, y_row, N, biases, none)
        product.product(a, a_row, 0, 2, a_col, K, packed(guards, W), 0, expected, y_row, N, biases, none, biases[:0])
        np.testing.assert_array_equal(y, expected)


def test_the_pixels_of_a_filter_gradient_fit_its_scratch():
    """And they are whole windows of a pooling."""
    for channels in range(1, 300):
        pixels = pixels_at_once(channels)
        assert 0 < pixels <= PIXELS
        assert pixels % 4 == 0


@both_dtypes
@pytest.mark.parametrize("vectors", [1, 2, 3, 4])
@pytest.mark.parametrize("K", [*range(1, 14), 27, 144])
def test_gradient_product(guards, K, vectors, dtype):
    rng, N, gap, pixels = np.random.RandomState(K), vectors * lanes(dtype), lanes(dtype), 64
    for n in (1, 5, pixels - 1, pixels, pixels + 1, 2 * pixels + 3):
        A, G = integers(rng, K, n, dtype=dtype), integers(rng, n, N, dtype=dtype)
        a_row, a_col = spread(rng, K, n, 2), rng.permutation(n)
        a = guards.empty(K * (n + 2) + 2, dtype)
        a[a_row[:, None] + a_col] = A
        g_row, c_row = spread(rng, n, N, gap), spread(rng, K, N, gap)
        g, c = guards.empty(n * (N + gap) + gap, dtype), guards.empty(K * (N + gap) + gap, dtype)
        g[g_row[:, None] + np.arange(N)] = G
        sums, panel = guards.empty(N, dtype), guards.empty(pixels * min(vectors, 2) * lanes(dtype), dtype)
        for times, fresh in ((1, True), (2, False)):
            product.gradient_product(
                a, table(guards, a_row), K, table(guards, a_col), n, g, table(guards, g_row), N, pixels,
                panel, c, table(guards, c_row), guards.zeros(N, dtype), sums, fresh,
            )  # fmt: skip
            assert_only(c, c_row, N)
            np.testing.assert_array_equal(gather(c, c_row, N), times * A @ G)
            np.testing.assert_array_equal(sums, times * G.sum(axis=0))


@both_dtypes
@pytest.mark.parametrize("panels", [1, 3])
@pytest.mark.parametrize("K", [1, 6, 16])
def test_gradient_of_panels(guards, K, panels, dtype):
    rng, width, pixels = np.random.RandomState(K), 2 * lanes(dtype), 64
    N = panels * width
    for n in (1, pixels, 2 * pixels + 3):
        A, G = integers(rng, K, n, dtype=dtype), integers(rng, n, N, dtype=dtype)
        a_row, c_row, span = spread(rng, K, n, 2), spread(rng, K, N, 1), n * width + 5
        a, c = guards.empty(K * (n + 2) + 2, dtype), guards.empty(K * (N + 1) + 1, dtype)
        a[a_row[:, None] + np.arange(n)] = A
        g = guards.empty(panels * span, dtype)
        g.reshape(panels, span)[:, : n * width] = G.reshape(n, panels, width).swapaxes(0, 1).reshape(panels, -1)
        for times, fresh, ask in ((1, True, 0), (2, False, 1000)):
            product.gradient_of_panels(
                a, table(guards, a_row), K, table(guards, np.arange(n)), n, g, span, N, pixels, c,
                table(guards, c_row), guards.zeros(N, dtype), fresh, guards.empty(ask, dtype), guards.empty(ask, dtype),
            )  # fmt: skip
            assert_only(c, c_row, N)
            np.testing.assert_array_equal(gather(c, c_row, N), times * A @ G)


@both_dtypes
@pytest.mark.parametrize("vectors", [1, 2, 3, 4])
@pytest.mark.parametrize("K", [1, 2, 9])
def test_pack(guards, K, vectors, dtype):
    rng, N = np.random.RandomState(K), vectors * lanes(dtype)
    W, w_row = integers(rng, K, N, dtype=dtype), spread(rng, K, N, 1)
    w, b = guards.empty(K * (N + 1) + 1, dtype), guards.empty(K * N, dtype)
    w[w_row[:, None] + np.arange(N)] = W
    product.pack(w, table(guards, w_row), K, N, b)
    np.testing.assert_array_equal(b, packed(guards, W))


@both_dtypes
@pytest.mark.parametrize("columns", [1, 7, 16, 17, 33])
@pytest.mark.parametrize(("blocks", "F"), [(0, 3), (1, 1), (1, 10), (4, 17)])
def test_pack_transposed(guards, blocks, F, columns, dtype):
    rng, N = np.random.RandomState(F), -(-columns // lanes(dtype)) * lanes(dtype)
    W = integers(rng, blocks, columns, F, dtype=dtype)
    w, b = guards.array(W), guards.empty(blocks * F * N, dtype)
    w_row = np.full(N, -1)  # the padding of the last vector
    w_row[:columns] = np.arange(columns) * F
    product.pack_transposed(w, table(guards, np.arange(blocks) * columns * F), blocks, F, table(guards, w_row), N, b)
    B = np.zeros((blocks * F, N), dtype)
    B[:, :columns] = W.transpose(0, 2, 1).reshape(blocks * F, columns)
    if blocks:
        np.testing.assert_array_equal(b, packed(guards, B))


# --------------------------------------------------------------------------------------------------------- elementwise


@both_dtypes
@pytest.mark.parametrize("vectors", [1, 2, 5])
@pytest.mark.parametrize("rows", [1, 2, 7])
def test_relu(guards, rows, vectors, dtype):
    rng, length, gap = np.random.RandomState(rows), vectors * lanes(dtype), lanes(dtype)
    x_row, y_row, dx_row = (spread(rng, rows, length, gap) for _ in range(3))
    size = rows * (length + gap) + gap
    x, y, dy, dx = (guards.empty(size, dtype) for _ in range(4))
    X, DY = integers(rng, rows, length, dtype=dtype), integers(rng, rows, length, dtype=dtype)
    x[x_row[:, None] + np.arange(length)] = X
    activation.relu(x, table(guards, x_row), y, table(guards, y_row), rows, length, False)
    assert_only(y, y_row, length)
    np.testing.assert_array_equal(gather(y, y_row, length), np.maximum(X, 0))
    dy[x_row[:, None] + np.arange(length)] = DY
    activation.relu_backward(
        y, table(guards, y_row), dy, table(guards, x_row), dx, table(guards, dx_row), rows, length, False
    )
    assert_only(dx, dx_row, length)
    np.testing.assert_array_equal(gather(dx, dx_row, length), DY * (X > 0))


# ------------------------------------------------------------------------------------------------------------- pooling


def pool2_expected(X: np.ndarray, floor: float, every: bool):
    """Return the maxima of X (P, 4, N), and the bits of the pixels that were it."""
    best = X.max(axis=1)
    won = best[:, None] == X
    if not every:
        won &= np.cumsum(won, axis=1) == 1
    won &= (best > floor)[:, None]
    return best, (won * np.array([1, 2, 4, 8])[:, None]).sum(axis=1).astype(np.uint8)


@both_dtypes
@pytest.mark.parametrize("every", [True, False])
@pytest.mark.parametrize("vectors", [1, 2, 3])
@pytest.mark.parametrize("P", [1, 2, 5, 26])
def test_pool2(guards, P, vectors, every, dtype):
    rng, N, gap = np.random.RandomState(P), vectors * lanes(dtype), lanes(dtype)
    X, DY = rng.randint(-2, 3, size=(P, 4, N)).astype(dtype), integers(rng, P, N, dtype=dtype)
    x_row, y_row = spread(rng, 4 * P, N, gap), spread(rng, P, N, gap)
    x = guards.empty(4 * P * (N + gap) + gap, dtype)
    x[x_row.reshape(P, 4, 1) + np.arange(N)] = X
    for floor in (-np.inf, 0):
        for p0, p1 in ((0, P), (P // 2, P)):
            y, winners = guards.empty(P * (N + gap) + gap, dtype), guards.empty(P * N, np.uint8)
            rows = table(guards, x_row[4 * p0 :])
            pool.pool2(x, rows, 0, y, table(guards, y_row), winners, p0, p1, N, dtype(floor), every)
            best, bits = pool2_expected(X, floor, every)
            assert_only(y, y_row[p0:p1], N)
            np.testing.assert_array_equal(gather(y, y_row[p0:p1], N), best[p0:p1])
            np.testing.assert_array_equal(winners.reshape(P, N)[p0:p1], bits[p0:p1])
            assert untouched(winners[: p0 * N]).all()
            alone = guards.empty(y.size, dtype)
            nobody = guards.empty(0, np.uint8)
            pool.pool2(x, rows, 0, alone, table(guards, y_row), nobody, p0, p1, N, dtype(floor), every)
            np.testing.assert_array_equal(alone, y)
        dy, dx = guards.empty(y.size, dtype), guards.empty(x.size, dtype)
        dy[y_row[:, None] + np.arange(N)] = DY
        pool.pool2_backward(dy, table(guards, y_row), guards.array(bits), P, N, dx, table(guards, x_row), False)
        assert_only(dx, x_row, N)
        won = bits[:, None] & np.array([1, 2, 4, 8])[:, None] != 0
        np.testing.assert_array_equal(gather(dx, x_row, N).reshape(P, 4, N), won * DY[:, None])


@both_dtypes
@pytest.mark.parametrize("winner_dtype", [np.uint8, np.int32])
def test_pool_of_any_window(guards, winner_dtype, dtype):
    """Three windows over five pixels: the second is cut at the border, the third shares a pixel with the first."""
    N, rng = lanes(dtype), np.random.RandomState(0)
    window, tap = np.array([[3, 0, N, 2 * N], [1, 0, 0, 0]], np.int32), np.array([[0, 1, 2], [7, 0, 0]], np.int32)
    x_row = np.array([[0, 0], [4 * N, 1], [2 * N, 0]], np.int32)
    X, DY = rng.randint(-1, 2, size=(5, N)).astype(dtype), integers(rng, 3, N, dtype=dtype)
    y, winner = guards.empty(4 * N, dtype), guards.empty(4 * N, winner_dtype)
    y_row = np.array([3, 0, 1]) * N
    rows, windows, taps = (guards.array(array).reshape(array.shape) for array in (x_row, window, tap))
    pool.pool(guards.array(X), rows, windows, taps, y, table(guards, y_row), winner, table(guards, y_row), 3, N)
    pixels_of, numbers = [[0, 1, 2], [4], [2, 3, 4]], [[0, 1, 2], [7], [0, 1, 2]]
    assert_only(y, y_row, N)
    assert_only(winner, y_row, N)
    dX = np.zeros_like(X)
    for p, pixels in enumerate(pixels_of):
        first = X[pixels].argmax(axis=0)
        np.testing.assert_array_equal(y[y_row[p] :][:N], X[pixels].max(axis=0))
        np.testing.assert_array_equal(winner[y_row[p] :][:N], np.array(numbers[p])[first])
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
    tables = [guards.array(array).reshape(array.shape) for array in (back_row, back, back_tap)]
    pool.pool_backward(dy, *tables, winner, 5, N, dx, table(guards, np.arange(5) * N), False)
    np.testing.assert_array_equal(dx.reshape(5, N), dX)


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
    rows, halves = table(guards, y_row), table(guards, begin)
    for floor, every in ((-np.inf, False), (0, False), (0, True)):
        arguments = x, x_row, x_col, K, w, biases, dtype(floor), every
        expected, marks = guards.empty(P * (N + 3) + 3, dtype), guards.empty(P * N, np.uint8)
        conv_direct.forward_pool(*arguments, expected, rows, marks, P, N)
        for size in (P * N, 0):
            y, winners = guards.empty(P * (N + 3) + 3, dtype), guards.empty(size, np.uint8)
            conv_pixels.forward_pool(*arguments, y, rows, winners, halves, begin.size)
            assert_only(y, y_row, N)
            assert np.isnan(gather(y, y_row, FILTERS)).any()
            np.testing.assert_array_equal(gather(y, y_row, FILTERS), gather(expected, y_row, FILTERS))
            found, others = (array[:size].reshape(-1, N)[:, :FILTERS] for array in (winners, marks))
            np.testing.assert_array_equal(found, others)


@both_dtypes
@pytest.mark.parametrize("every", [True, False])
@pytest.mark.parametrize("vectors", [1, 2, 3])
@pytest.mark.parametrize("P", [1, 23, 24, 25, 49])
def test_convolution_and_pooling_in_one_pass(guards, P, vectors, every, dtype):
    rng, N, K = np.random.RandomState(P), vectors * lanes(dtype), 6
    A, B, start = (integers(rng, *shape, dtype=dtype) for shape in ((4 * P, K), (K, N), (N,)))
    y_row = spread(rng, P, N, lanes(dtype))
    for floor in (-np.inf, 0):
        y, winners = guards.empty(P * (N + lanes(dtype)) + lanes(dtype), dtype), guards.empty(P * N, np.uint8)
        conv_direct.forward_pool(
            guards.array(A), table(guards, np.arange(4 * P) * K), table(guards, np.arange(K)), K, packed(guards, B),
            guards.array(start), dtype(floor), every, y, table(guards, y_row), winners, P, N,
        )  # fmt: skip
        best, bits = pool2_expected(np.maximum(floor, start + A @ B).reshape(P, 4, N), floor, every)
        assert_only(y, y_row, N)
        np.testing.assert_array_equal(gather(y, y_row, N), best)
        np.testing.assert_array_equal(winners.reshape(P, N), bits)
        alone = guards.empty(y.size, dtype)
        conv_direct.forward_pool(
            guards.array(A), table(guards, np.arange(4 * P) * K), table(guards, np.arange(K)), K, packed(guards, B),
            guards.array(start), dtype(floor), every, alone, table(guards, y_row), guards.empty(0, np.uint8), P, N,
        )  # fmt: skip
        np.testing.assert_array_equal(alone, y)


# ------------------------------------------------------------------------------------------------------ loss and update


@both_dtypes
@pytest.mark.parametrize("classes", [1, 2, 8, 10, 17])
def test_softmax_and_cross_entropy(guards, classes, dtype):
    """Behind the classes, up to a whole vector, anything may stand; zeros are written there."""
    n, whole, rng = 5, -(-classes // lanes(dtype)) * lanes(dtype), np.random.RandomState(classes)
    pitch = whole + lanes(dtype)
    X, target = rng.standard_normal((n, classes)).astype(dtype), rng.randint(classes, size=n + 2)
    row = table(guards, np.arange(n) * pitch + lanes(dtype))
    x, y, dx = (guards.empty(n * pitch + lanes(dtype), dtype) for _ in range(3))
    x[row[:, None] + np.arange(classes)] = X
    loss.softmax(x, row, n, classes, y, row)
    assert_only(y, row, whole)
    exact = np.exp(X.astype(np.float64))
    exact /= exact.sum(axis=1, keepdims=True)
    tolerance = gamma(4 * classes + 40, dtype)  # exp of differences up to 8, the sum, the quotient
    np.testing.assert_allclose(gather(y, row, classes), exact, rtol=tolerance)
    np.testing.assert_array_equal(gather(y, row, whole)[:, classes:], 0)
    totals, scale = guards.zeros(2, np.float64), dtype(0.25)
    loss.softmax_cross_entropy(x, row, n, classes, guards.array(target), 2, scale, dx, row, totals)
    assert_only(dx, row, whole)
    labels = target[2:]
    np.testing.assert_allclose(
        gather(dx, row, classes), 0.25 * (exact - np.eye(classes)[labels]), rtol=0, atol=tolerance
    )
    np.testing.assert_array_equal(gather(dx, row, whole)[:, classes:], 0)
    np.testing.assert_allclose(totals[0], -np.log(exact[np.arange(n), labels]).sum(), rtol=0, atol=n * tolerance)
    assert totals[1] == (X.argmax(axis=1) == labels).sum()


@both_dtypes
def test_of_equal_logits_the_first_is_the_answer(guards, dtype):
    n, pitch = 4, 2 * lanes(dtype)
    x, dx = guards.zeros(n * pitch, dtype), guards.zeros(n * pitch, dtype)
    x.reshape(n, pitch)[:, [2, 5]] = 1
    row, totals = table(guards, np.arange(n) * pitch), guards.zeros(2, np.float64)
    loss.softmax_cross_entropy(x, row, n, 6, guards.array(np.array([5, 2, 0, 2])), 0, dtype(1), dx, row, totals)
    assert totals[1] == 2


@both_dtypes
@pytest.mark.parametrize("shards", [1, 2, 8])
def test_sgd(guards, shards, dtype):
    rng, size = np.random.RandomState(0), 96
    T, G = integers(rng, size, dtype=dtype), integers(rng, 8, size, dtype=dtype)
    theta, g = guards.array(T), guards.array(G)
    update.sgd(theta, g, shards, 16, 80, guards.array([1, 0, -0.5], dtype))
    total = G[:shards].sum(axis=0)
    expected = T.copy()
    expected[16:80] -= dtype(0.5) * total[16:80]
    np.testing.assert_array_equal(theta, expected)
    np.testing.assert_array_equal(g.reshape(8, size)[0, 16:80], total[16:80])
    np.testing.assert_array_equal(g.reshape(8, size)[0, :16], G[0, :16])
    np.testing.assert_array_equal(g.reshape(8, size)[1:], G[1:])
