"""Winograd's minimal filtering for square windows of stride 1: 3 x 3, 5 x 5, and 7 x 7 in parts.

    y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A

for the patch d of the input that a tile of outputs needs; summed over channels, the product ⊙ of all tiles is one
matrix product for each number of the patch, for each *point*: 16 products where direct needs 36; 36 where it needs 144,
or 100 with 5 x 5 windows. The input gradient is the same with flipped filters; the filter gradient is
`Gᵀ [Σ (Bᵀ d B) ⊙ (A dy Aᵀ)] G`, summed over all tiles before the one inverse transform. The matrices are in
`codegen/winograd_schemes.py`: `scheme`, the first argument of all kernels here, chooses them by its type.

A larger window is a sum of parts that a scheme has: 7 x 7 is four of 4 x 4, F(3 x 3, 4 x 4), taps that two of them
have being zero in the latter: 144 products for 441. Parts shift the patches; their products are summed before the one
transform of the output, as those of as many more channels.

Shape legend: T tiles, taken in blocks of TB that stay in the second-level cache; C channels, F filters, CP and FP
padded to whole vectors; K rows, the channels of all parts. Points lie `plane` apart: V [point][TB][part][CP],
M [point][TB][FP], U [point][panel][K][width].
Each transform goes over the columns and then over the rows.

The last row of a tile is made from the last row of points too, those at infinity, and no other row is; so are columns.
Where the map ends before the last row of a tile, these products are spared: of 7 x 7, which takes four tiles of 4 x 4,
121 are made of 144. Tables order the tiles of a block so that those which need a point are neighbours, see `Blocks`.

Source: Lavin and Gray, "Fast algorithms for convolutional neural networks", CVPR 2016, sections 4.1 and 4.2.
"""

from __future__ import annotations

from ..codegen.vector import lanes, load, splat, store
from ..codegen.vector_bits import argmax_of_four, largest_of_four, store_bits
from ..codegen.winograd import (
    lines_between,
    load_line,
    load_pixels,
    load_taps,
    not_below,
    side_of,
    store_line,
    store_pixels,
    sum_of,
    taps_of,
    tile_of,
    transformed,
)
from ..codegen.winograd_schemes import FILTER, FILTER_GRADIENT, GRADIENT, INPUT, OUTPUT
from ..jit.source import kernel, macro
from .maps import Maps, Matrix
from .winograd_products import point_gradients, point_products


@kernel
def _transform_input(scheme, x, t0, t1, v, plane):
    """V = Bᵀ d B for the patches t0 <= t < t1 of x, part by part of the window."""
    L, side, between, CP = lanes(x.data), side_of(scheme), lines_between(x.data, scheme), x.pitch
    parts = x.shifts.size
    for t in range(t0, t1):
        for part in range(parts):
            i, o = x.rows[t] + x.shifts[part], ((t - t0) * parts + part) * CP
            for c in range(0, CP, L):
                for s in range(side):
                    line = load_line(INPUT, scheme, x.data, i + c + s * CP, x.row_size)
                    store_line(between, s * L, side * L, transformed(INPUT, scheme, line))
                for r in range(side):
                    line = load_line(INPUT, scheme, between, r * side * L, L)
                    store_line(v, o + c + r * side * plane, plane, transformed(INPUT, scheme, line))


@macro
def _output_columns(scheme, m, i, plane, between):
    """Aᵀ m of the columns of a tile that begins at `i`."""
    L, side = lanes(m), side_of(scheme)
    for s in range(side):
        line = load_line(OUTPUT, scheme, m, i + s * plane, side * plane)
        store_line(between, s * L, side * L, transformed(OUTPUT, scheme, line))


@macro
def _output_row(scheme, between, i, step, bias, low):
    """max(low, bias + a row of Aᵀ m A), from what `_output_columns` has left at `i`."""
    line = load_line(OUTPUT, scheme, between, i, step)
    return not_below(low, transformed(OUTPUT, scheme, line), bias)


@kernel
def _transform_output(scheme, m, t0, t1, FP, post, y):
    """Y = max(clamp_min, biases + Aᵀ M A); pixels of a tile beyond the image have a negative row in `y`."""
    L, between, low = lanes(m.data), lines_between(m.data, scheme), splat(m.data, post.clamp_min)
    tile, side = tile_of(scheme), side_of(scheme)
    for t in range(t0, t1):
        for f in range(0, FP, L):
            bias = load(post.biases, f)
            _output_columns(scheme, m.data, (t - t0) * FP + f, m.plane, between)
            for r in range(tile):
                line = _output_row(scheme, between, r * side * L, L, bias, low)
                store_pixels(y.data, f, y.rows, (t * tile + r) * tile, line)


@kernel
def _pool_output(scheme, m, t0, t1, FP, post, y, pooling):
    """Max-pool 2 x 2 of max(clamp_min, biases + Aᵀ M A): tile t is one or four of the windows, from t · tile²/4 on."""
    L, between, low = lanes(m.data), lines_between(m.data, scheme), splat(m.data, post.clamp_min)
    tile, side = tile_of(scheme), side_of(scheme)
    half, line = tile // 2, side * L
    for t in range(t0, t1):
        for f in range(0, FP, L):
            bias = load(post.biases, f)
            _output_columns(scheme, m.data, (t - t0) * FP + f, m.plane, between)
            for r in range(half):
                above = _output_row(scheme, between, 2 * r * line, L, bias, low)
                below = _output_row(scheme, between, (2 * r + 1) * line, L, bias, low)
                p = (t * half + r) * half
                _pool_window(pooling.windows[p], f, FP, above[:2], below[:2], low, y, pooling)
                if half == 2:
                    _pool_window(pooling.windows[p + 1], f, FP, above[-2:], below[-2:], low, y, pooling)


@macro
def _pool_window(p, f, FP, above, below, low, y, pooling):
    """Store the largest of a window of four, and which it was."""
    if p >= 0:
        best = largest_of_four(above[0], above[1], below[0], below[1])
        store(y.data, y.rows[p] + f, best)
        if pooling.argmax.size > 0:
            which = argmax_of_four(above[0], above[1], below[0], below[1], best, low, pooling.ties_all)
            store_bits(pooling.argmax, p * FP + f, which)


@kernel
def _transform_gradient(scheme, dy, t0, t1, FP, TB, w, dbias):
    """W = A dy Aᵀ, in the panels that the product wants; dbias += the sum of dy."""
    L, between = lanes(dy.data), lines_between(dy.data, scheme)
    tile, side = tile_of(scheme), side_of(scheme)
    for t in range(t0, t1):
        for f in range(0, FP, L):
            panel = f // (2 * L) * (2 * L)
            o = panel * TB + (t - t0) * min(FP - panel, 2 * L) + (f - panel)
            total = load(dbias, f)
            for s in range(tile):
                line = load_pixels(GRADIENT, scheme, dy.data, f, dy.rows, t * tile * tile + s, tile)
                total = total + sum_of(line)
                store_line(between, s * L, tile * L, transformed(GRADIENT, scheme, line))
            store(dbias, f, total)
            for r in range(side):
                line = load_line(GRADIENT, scheme, between, r * tile * L, L)
                store_line(w.data, o + r * side * w.plane, w.plane, transformed(GRADIENT, scheme, line))


@kernel
def transform_filters(scheme, g, C, FP, u, k0, K):
    """U = G g Gᵀ in panels of K rows, those of the C channels from row k0 on; the rows of g are taps (C, FP).

    In the opposite order, they are those of flipped filters.
    """
    L, between, step = lanes(g.data), lines_between(g.data, scheme), K * FP
    side, taps = side_of(scheme), taps_of(scheme)
    for f in range(0, FP, L):
        panel = f // (2 * L) * (2 * L)
        row = min(FP - panel, 2 * L)
        for c in range(C):
            for s in range(taps):
                line = load_taps(FILTER, scheme, g.data, c * FP + f, g.rows, s, taps)
                store_line(between, s * L, taps * L, transformed(FILTER, scheme, line))
            o = panel * K + (k0 + c) * row + (f - panel)
            for r in range(side):
                line = load_line(FILTER, scheme, between, taps * r * L, L)
                store_line(u, o + r * side * step, step, transformed(FILTER, scheme, line))


@kernel
def _transform_filter_gradient(scheme, du, K, FP, dw):
    """dw, taps (C, FP), is Gᵀ dU G, from dU [point][K][FP], whose rows are those of all parts."""
    L, between, step = lanes(du), lines_between(du, scheme), K * FP
    side, taps = side_of(scheme), taps_of(scheme)
    parts = dw.rows.size // (taps * taps)
    size = step // parts
    for part in range(parts):
        for i in range(0, size, L):
            for s in range(side):
                line = load_line(FILTER_GRADIENT, scheme, du, part * size + i + s * step, side * step)
                store_line(between, s * L, side * L, transformed(FILTER_GRADIENT, scheme, line))
            for r in range(taps):
                line = load_line(FILTER_GRADIENT, scheme, between, r * side * L, L)
                row = transformed(FILTER_GRADIENT, scheme, line)
                store_pixels(dw.data, i, dw.rows, (part * taps + r) * taps, row)


@kernel
def forward(scheme, x, v, v_col, u, m, FP, blocks, zeros, post, y, pooling):
    """y = max(clamp_min, biases + x * w), or its max-pool 2 x 2 where `pooling` has windows.

    V is read as a matrix (TB, K) for each point: number k of a tile is at `v_col[k]`.
    """
    side, T = side_of(scheme), blocks.tiles
    TB = v.rows.size // (side * side)
    for t0 in range(0, T, TB):
        t1, ranges = min(t0 + TB, T), t0 // TB * 8
        _transform_input(scheme, x, t0, t1, v.data, v.plane)
        point_products(
            side, Matrix(v.data, v.rows, v_col), TB, blocks.ranges, ranges, u, Maps(m.data, m.rows), FP, zeros
        )
        if pooling.windows.size:
            _pool_output(scheme, m, t0, t1, FP, post, y, pooling)
        else:
            _transform_output(scheme, m, t0, t1, FP, post, y)


@kernel
def filter_gradient(scheme, x, v, v_col, dy, w, FP, blocks, zeros, du, dw, dbias):
    """dw = x correlated with dy; dbias = Σ dy.

    V is read as a matrix (K, TB) for each point: the number of tile t in a row is at `v_col[t]`.
    """
    side, TB, T = side_of(scheme), v_col.size, blocks.tiles
    K = v.rows.size // (side * side)
    for f in range(0, FP, lanes(dbias)):
        store(dbias, f, splat(dbias, dbias.dtype.type(0)))
    for t0 in range(0, T, TB):
        t1, ranges = min(t0 + TB, T), t0 // TB * 8
        _transform_input(scheme, x, t0, t1, v.data, v.plane)
        _transform_gradient(scheme, dy, t0, t1, FP, TB, w, dbias)
        point_gradients(side, Matrix(v.data, v.rows, v_col), blocks.ranges, ranges, w, FP, du, t0 > 0, zeros)
    _transform_filter_gradient(scheme, du.data, K, FP, dw)
