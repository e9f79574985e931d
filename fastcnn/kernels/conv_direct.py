"""Direct convolution: the indirect matrix product, without an im2col copy.

Forward, input gradient and filter gradient are `product` and `gradient_product` on tables of offsets
(`layers/algorithm_direct.py` writes the tables). Here stands what is more than that: the fused block.

Shape legend: x haloed maps; 4P convolution pixels, the four of each 2 x 2 window side by side; K taps; N filters,
padded to whole vectors.
"""

from __future__ import annotations

from ..codegen.blocking import BAND
from ..codegen.gemm import panel_product
from ..codegen.gemm_tile import tile_sums
from ..codegen.vector import lanes, load, maximum, splat, store
from ..codegen.vector_bits import keep_where, largest_of_four, load_bits, store_bits, winners_of_four
from ..jit.source import kernel


@kernel
def _pool_window(a, b, c, d, low, every, y, i, winners, j):
    """Store the largest of four vectors of sums, not below `low`, to y[i:], and which it was to winners[j:], if any."""
    best = maximum(low, largest_of_four(a, b, c, d))
    store(y, i, best)
    if winners.size > 0:
        store_bits(winners, j, winners_of_four(a, b, c, d, best, low, every))


@kernel
def forward_pool(x, x_row, x_col, K, w, start, floor, every, y, y_row, winners, P, N):
    """y (P, N) = max-pool 2 x 2 of max(floor, start + x * w), in one pass: the convolution lives in registers.

    `winners` as in `pool.pool2`.
    """
    low = splat(x, floor)
    width = 2 * lanes(x)
    for p0 in range(0, P, BAND // 4):
        p1 = min(p0 + BAND // 4, P)
        for c0 in range(0, N, width):
            if N - c0 >= width:
                for p in range(p0, p1):
                    a0, a1, b0, b1, c0_, c1_, d0, d1 = tile_sums(2, 4, x, x_row, 4 * p, x_col, K, w, c0 * K, start, c0)
                    o, q = y_row[p] + c0, p * N + c0
                    _pool_window(a0, b0, c0_, d0, low, every, y, o, winners, q)
                    _pool_window(a1, b1, c1_, d1, low, every, y, o + lanes(x), winners, q + lanes(x))
            else:
                for p in range(p0, p1 - 1, 2):
                    s = tile_sums(1, 8, x, x_row, 4 * p, x_col, K, w, c0 * K, start, c0)
                    _pool_window(s[0], s[1], s[2], s[3], low, every, y, y_row[p] + c0, winners, p * N + c0)
                    _pool_window(s[4], s[5], s[6], s[7], low, every, y, y_row[p + 1] + c0, winners, (p + 1) * N + c0)
                if (p1 - p0) % 2:
                    p = p1 - 1
                    s = tile_sums(1, 4, x, x_row, 4 * p, x_col, K, w, c0 * K, start, c0)
                    _pool_window(s[0], s[1], s[2], s[3], low, every, y, y_row[p] + c0, winners, p * N + c0)


@kernel
def clear_columns(a, rows, pitch, first):
    """Put zeros to a[:, first:] of a (rows, pitch): what padding channels of an input left in a filter gradient."""
    for row in range(rows):
        for n in range(first, pitch):
            a[row * pitch + n] = a.dtype.type(0)


@kernel
def filter_gradient_pool(
    x, x_col, K, x_row, P, dy, dy_row, winners, N, pixels, panel, dw, dw_row, zeros, dbias,
):  # fmt: skip
    """dw (K, N) and dbias behind a max-pool 2 x 2, from dy (P, N): the gradient is spread out only in the panel.

    For a first layer, which computes no gradient of its input. `panel` is scratch for so many `pixels`, taken at once.
    """
    width = 2 * lanes(x)
    none = x.dtype.type(-float("inf"))
    step = pixels // 4
    for p0 in range(0, P, step):
        p1 = min(p0 + step, P)
        for c0 in range(0, N, width):
            vectors = min(N - c0, width) // lanes(x)
            line = vectors * lanes(x)
            for v in range(vectors):
                column = c0 + v * lanes(x)
                total = load(dbias, column) if p0 else splat(x, x.dtype.type(0))
                for p in range(p0, p1):
                    value = load(dy, dy_row[p] + column)
                    bits = load_bits(winners, p * N + column, value)
                    a, b = keep_where(value, bits, 1), keep_where(value, bits, 2)
                    c, d = keep_where(value, bits, 4), keep_where(value, bits, 8)
                    o = 4 * (p - p0) * line + v * lanes(x)
                    store(panel, o, a)
                    store(panel, o + line, b)
                    store(panel, o + 2 * line, c)
                    store(panel, o + 3 * line, d)
                    total = total + ((a + b) + (c + d))
                store(dbias, column, total)
            panel_product(
                x, x_col, 0, K, x_row, 4 * p0, 4 * p1, panel, 0, dw, dw_row, c0, vectors, zeros, p0 == 0, none,
                zeros, 0, 0,
            )  # fmt: skip
