"""Direct convolution: the indirect matrix product, without an im2col copy.

Forward, input gradient and filter gradient are `product` and `gradient_product` on tables of offsets
(`ops/convolution/direct.py` writes the tables). Here is what is more than that: the convolution fused with a pooling.

Shape legend: x haloed maps; 4P convolution pixels, the four of each 2 x 2 window side by side; K taps; N filters,
padded to whole vectors.
"""

from __future__ import annotations

import numpy as np

from ..codegen.blocking import BAND
from ..codegen.gemm import panel_product
from ..codegen.gemm_tile import tile_sums
from ..codegen.vector import lanes, load, maximum, splat, store
from ..codegen.vector_bits import argmax_of_four, keep_where, largest_of_four, load_bits, store_bits
from ..jit.source import kernel
from .maps import Matrix, Panel, PostOps, Prefetch


@kernel
def _pool_window(a, b, c, d, low, ties_all, y, i, argmax, j):
    """Store the largest of four vectors of sums, not below `low`, to y[i:], and which it was to argmax[j:], if any."""
    best = maximum(low, largest_of_four(a, b, c, d))
    store(y, i, best)
    if argmax.size > 0:
        store_bits(argmax, j, argmax_of_four(a, b, c, d, best, low, ties_all))


@kernel
def forward_pool(x, w, post, y, pooling, P, N):
    """y (P, N) = max-pool 2 x 2 of max(clamp_min, biases + x * w), in one pass: the convolution lives in registers."""
    low, L = splat(x.data, post.clamp_min), lanes(x.data)
    width, K = 2 * L, x.columns.size
    ties_all, argmax, start = pooling.ties_all, pooling.argmax, post.biases
    for p0 in range(0, P, BAND // 4):
        p1 = min(p0 + BAND // 4, P)
        for c0 in range(0, N, width):
            if N - c0 >= width:
                for p in range(p0, p1):
                    a0, a1, b0, b1, c0_, c1_, d0, d1 = tile_sums(2, 4, x, 4 * p, w, c0 * K, start, c0)
                    o, q = y.rows[p] + c0, p * N + c0
                    _pool_window(a0, b0, c0_, d0, low, ties_all, y.data, o, argmax, q)
                    _pool_window(a1, b1, c1_, d1, low, ties_all, y.data, o + L, argmax, q + L)
            else:
                for p in range(p0, p1 - 1, 2):
                    s = tile_sums(1, 8, x, 4 * p, w, c0 * K, start, c0)
                    _pool_window(s[0], s[1], s[2], s[3], low, ties_all, y.data, y.rows[p] + c0, argmax, p * N + c0)
                    q = (p + 1) * N + c0
                    _pool_window(s[4], s[5], s[6], s[7], low, ties_all, y.data, y.rows[p + 1] + c0, argmax, q)
                if (p1 - p0) % 2:
                    p = p1 - 1
                    s = tile_sums(1, 4, x, 4 * p, w, c0 * K, start, c0)
                    _pool_window(s[0], s[1], s[2], s[3], low, ties_all, y.data, y.rows[p] + c0, argmax, p * N + c0)


@kernel
def input_gradient_by_taps(dy, P, w, taps, dx, N, size, zeros):
    """dx (size,) = the sum of what all taps add: tap t of output pixel p adds dy (P, F) · w[t] (F, N).

    It adds to the N numbers from `dx.rows[p] + taps[t]` on; all taps stay inside the maps. `product` computes the same
    on dy with zeros around it: where windows are large and maps small, most of its products are with them. Each number
    of dx is summed up in the order of the taps, as there: so the last pixels come first.
    """
    width, F, L = 2 * lanes(dy.data), dy.columns.size, lanes(dy.data)
    no_post, nothing = PostOps(zeros, dy.data.dtype.type(-float("inf"))), Prefetch(zeros, 0, 0)
    zero = splat(dy.data, dy.data.dtype.type(0))
    for i in range(0, size, L):
        store(dx.data, i, zero)
    for p1 in range(P, 0, -BAND):
        p0 = max(p1 - BAND, 0)
        for t in range(taps.size):
            for c0 in range(0, N, width):
                step = min(N - c0, width)
                panel = Panel(w, (c0 * taps.size + t * step) * F, step // L)
                panel_product(dy, p0, p1, 0, F, panel, dx, c0 + taps[t], no_post, True, nothing)


@kernel
def input_gradient_of_few(dy, P, w, places, dx, N, size, sums, zeros):
    """Compute the same for few channels: one product has all taps of all channels as columns of w (F, N).

    `sums` has its sums for some pixels at a time; those of column k are added to dx, `places[k]` from `dx.rows[p]` on.
    Each tap by itself, filled up to a whole register, would take several times as many products.
    """
    width, F, L = 2 * lanes(dy.data), dy.columns.size, lanes(dy.data)
    no_post, nothing = PostOps(zeros, dy.data.dtype.type(-float("inf"))), Prefetch(zeros, 0, 0)
    zero = splat(dy.data, dy.data.dtype.type(0))
    for i in range(0, size, L):
        store(dx.data, i, zero)
    for p0 in range(0, P, BAND):
        p1 = min(p0 + BAND, P)
        band = Matrix(dy.data, dy.rows[p0:], dy.columns)
        for c0 in range(0, N, width):
            panel = Panel(w, c0 * F, min(N - c0, width) // L)
            panel_product(band, 0, p1 - p0, 0, F, panel, sums, c0, no_post, False, nothing)
        for k in range(places.size):
            place, i = np.int64(places[k]), np.int64(k)  # of 25 µs of the notebook's, 4: stores might change the table
            for p in range(p0, p1):
                dx.data[np.uint64(dx.rows[p] + place)] += sums.data[np.uint64(i)]
                i += N


@kernel
def clear_columns(a, rows, pitch, first):
    """Put zeros to a[:, first:] of a (rows, pitch): what padding channels of an input left in a filter gradient."""
    for row in range(rows):
        for n in range(first, pitch):
            a[row * pitch + n] = a.dtype.type(0)


@kernel
def filter_gradient_pool(x, P, dy, N, pixels, panel, dw, zeros, dbias):
    """dw (K, N) and dbias behind a max-pool 2 x 2, from dy (P, N): the gradient is spread out only in the panel.

    For a first layer, which computes no gradient of its input. `panel` is scratch for so many `pixels`, taken at once.
    """
    L, K = lanes(x.data), x.columns.size
    width = 2 * L
    transposed = Matrix(x.data, x.columns, x.rows)
    no_post, nothing = PostOps(zeros, x.data.dtype.type(-float("inf"))), Prefetch(zeros, 0, 0)
    step = pixels // 4
    for p0 in range(0, P, step):
        p1 = min(p0 + step, P)
        for c0 in range(0, N, width):
            vectors = min(N - c0, width) // L
            line = vectors * L
            for v in range(vectors):
                column = c0 + v * L
                total = load(dbias, column) if p0 else splat(x.data, x.data.dtype.type(0))
                for p in range(p0, p1):
                    value = load(dy.data, dy.rows[p] + column)
                    bits = load_bits(dy.argmax, p * N + column, value)
                    a, b = keep_where(value, bits, 1), keep_where(value, bits, 2)
                    c, d = keep_where(value, bits, 4), keep_where(value, bits, 8)
                    o = 4 * (p - p0) * line + v * L
                    store(panel, o, a)
                    store(panel, o + line, b)
                    store(panel, o + 2 * line, c)
                    store(panel, o + 3 * line, d)
                    total = total + ((a + b) + (c + d))
                store(dbias, column, total)
            spread = Panel(panel, 0, vectors)
            panel_product(transposed, 0, K, 4 * p0, 4 * p1, spread, dw, c0, no_post, p0 > 0, nothing)
