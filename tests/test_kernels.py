"""Kernels on buffers with guard words around them and in their gaps: every tail is exact, nothing else is written."""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn.codegen.blocking import DEPTH, PIXELS, pixels_at_once
from fastcnn.kernels import activation, dense, loss, product, update
from fastcnn.kernels.maps import Maps, Matrix, PostOps
from tests.arrays import both_dtypes
from tests.bounds import gamma
from tests.buffers import assert_only, gather, integers, lanes, packed, spread, table

# ------------------------------------------------------------------------------------------------- the indirect product


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
        for floor, prefetched in ((-np.inf, 0), (0, 10000)):
            c = guards.empty((rows + first) * (N + gap) + gap, dtype)
            product.product(
                Matrix(a, table(guards, a_row), table(guards, a_col)), first, first + rows, packed(guards, B), 0,
                Maps(c, table(guards, c_row)), N, PostOps(guards.array(start), dtype(floor)),
                guards.empty(prefetched, dtype),
            )  # fmt: skip
            assert_only(c, c_row[first:], N)
            np.testing.assert_array_equal(gather(c, c_row[first:], N), np.maximum(floor, start + A[first:] @ B))


@both_dtypes
@pytest.mark.parametrize("vectors", [*range(1, 18), 31])
def test_few_rows(guards, vectors, dtype):
    """Each number of vectors that has a loop of its own, and chunks of several."""
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
                Matrix(a, table(guards, a_row), table(guards, a_col)), rows, Maps(w, table(guards, w_row)),
                Maps(y, table(guards, y_row)), N, PostOps(guards.array(start), dtype(floor)),
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
        matrix, y_row = Matrix(a, table(guards, [0, K]), table(guards, columns)), table(guards, [0, N])
        y, expected = guards.empty(2 * N, dtype), guards.empty(2 * N, dtype)
        post = PostOps(guards.array(start), dtype(-np.inf))
        dense.few_rows(matrix, 2, Maps(w, table(guards, w_row)), Maps(y, y_row), N, post)
        product.product(matrix, 0, 2, packed(guards, W), 0, Maps(expected, y_row), N, post, post.biases[:0])
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
        for times, accumulate in ((1, False), (2, True)):
            product.gradient_product(
                Matrix(a, table(guards, a_col), table(guards, a_row)), n, Maps(g, table(guards, g_row)), N, pixels,
                panel, Maps(c, table(guards, c_row)), guards.zeros(N, dtype), sums, accumulate,
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
        for times, accumulate, prefetched in ((1, False, 0), (2, True, 1000)):
            product.gradient_of_panels(
                Matrix(a, table(guards, np.arange(n)), table(guards, a_row)), n, g, span, N, pixels,
                Maps(c, table(guards, c_row)), guards.zeros(N, dtype), accumulate, guards.empty(prefetched, dtype),
                guards.empty(prefetched, dtype),
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
    product.pack(Maps(w, table(guards, w_row)), N, b)
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
    matrix = Matrix(w, table(guards, np.arange(blocks) * columns * F), table(guards, w_row))
    product.pack_transposed(matrix, F, b)
    B = np.zeros((blocks * F, N), dtype)
    B[:, :columns] = W.transpose(0, 2, 1).reshape(blocks * F, columns)
    if blocks:
        np.testing.assert_array_equal(b, packed(guards, B))


# ---------------------------------------------------------------------------------------------------------- elementwise


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
    activation.relu(Maps(x, table(guards, x_row)), Maps(y, table(guards, y_row)), rows, length, False)
    assert_only(y, y_row, length)
    np.testing.assert_array_equal(gather(y, y_row, length), np.maximum(X, 0))
    dy[x_row[:, None] + np.arange(length)] = DY
    maps = (Maps(data, table(guards, row)) for data, row in ((y, y_row), (dy, x_row), (dx, dx_row)))
    activation.relu_backward(*maps, rows, length, False)
    assert_only(dx, dx_row, length)
    np.testing.assert_array_equal(gather(dx, dx_row, length), DY * (X > 0))


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
    loss.softmax(Maps(x, row), n, classes, Maps(y, row))
    assert_only(y, row, whole)
    exact = np.exp(X.astype(np.float64))
    exact /= exact.sum(axis=1, keepdims=True)
    tolerance = gamma(4 * classes + 40, dtype)  # exp of differences up to 8, the sum, the quotient
    np.testing.assert_allclose(gather(y, row, classes), exact, rtol=tolerance)
    np.testing.assert_array_equal(gather(y, row, whole)[:, classes:], 0)
    totals, scale = guards.zeros(2, np.float64), dtype(0.25)
    logits, gradient = Maps(x, row), Maps(dx, row)
    loss.softmax_cross_entropy(logits, n, classes, guards.array(target), 2, scale, gradient, totals)
    assert_only(dx, row, whole)
    labels = target[2:]
    np.testing.assert_allclose(
        gather(dx, row, classes), 0.25 * (exact - np.eye(classes)[labels]), rtol=0, atol=tolerance
    )
    np.testing.assert_array_equal(gather(dx, row, whole)[:, classes:], 0)
    np.testing.assert_allclose(totals[0], -np.log(exact[np.arange(n), labels]).sum(), rtol=0, atol=n * tolerance)
    assert totals[1] == (X.argmax(axis=1) == labels).sum()


@both_dtypes
@pytest.mark.parametrize("smooth", [0.0, 0.25])
@pytest.mark.parametrize("classes", [1, 2, 8, 10, 17])
def test_cross_entropy_of_labels(guards, classes, smooth, dtype):
    """The last two of three images of four pixels, a third without labels; zeros are written behind the classes."""
    n, pixels, rng = 2, 4, np.random.RandomState(classes)
    whole = -(-classes // lanes(dtype)) * lanes(dtype)
    pitch = whole + lanes(dtype)
    X = rng.standard_normal((n * pixels, classes)).astype(dtype)
    labels = np.where(np.arange(12) % 3 == 1, -1, rng.randint(classes, size=12)).astype(np.int32)
    row = table(guards, np.arange(n * pixels) * pitch + lanes(dtype))
    x, dx = (guards.empty(n * pixels * pitch + lanes(dtype), dtype) for _ in range(2))
    x[row[:, None] + np.arange(classes)] = X
    low, high = np.full(classes, smooth), rng.uniform(0.5, 2, size=classes).astype(dtype)
    weights = guards.array(np.array([*low, *high, low.sum()], dtype))
    scale, totals = guards.array(np.array([9, 0.5, 0.25], dtype)), guards.zeros(2, np.float64)
    gradient = Maps(dx, row)
    loss.label_cross_entropy(
        Maps(x, row), n, pixels, classes, guards.array(labels), weights, scale, 1, gradient, totals
    )
    assert_only(dx, row, whole)
    np.testing.assert_array_equal(gather(dx, row, whole)[:, classes:], 0)
    exact, label = np.exp(X.astype(np.float64)), labels[pixels:]
    exact /= exact.sum(axis=1, keepdims=True)
    counts, factor = label >= 0, np.repeat([0.5, 0.25], pixels)
    w = (low + high * np.eye(classes)[label]) * counts[:, None]
    tolerance = gamma(8 * classes + 80, dtype) * (1 + w.sum(axis=1).max())
    expected = factor[:, None] * (exact * w.sum(axis=1, keepdims=True) - w)
    np.testing.assert_allclose(gather(dx, row, classes), expected, rtol=0, atol=tolerance)
    each = -(w * np.log(exact)).sum(axis=1)
    np.testing.assert_allclose(totals[0], (factor * each).sum(), rtol=0, atol=n * pixels * 8 * tolerance)
    assert totals[1] == (X.argmax(axis=1) == label)[counts].sum()


@both_dtypes
def test_of_equal_logits_the_first_is_the_answer(guards, dtype):
    n, pitch = 4, -(-6 // lanes(dtype)) * lanes(dtype)
    x, dx = guards.zeros(n * pitch, dtype), guards.zeros(n * pitch, dtype)
    x.reshape(n, pitch)[:, [2, 5]] = 1
    row, totals = table(guards, np.arange(n) * pitch), guards.zeros(2, np.float64)
    labels = guards.array(np.array([5, 2, 0, 2]))
    loss.softmax_cross_entropy(Maps(x, row), n, 6, labels, 0, dtype(1), Maps(dx, row), totals)
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
