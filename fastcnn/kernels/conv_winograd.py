"""Winograd's minimal filtering for 3 x 3 windows of stride 1, on tiles of 2 x 2 or 4 x 4 outputs.

    y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A

for the patch d of the input that a tile needs, one pixel more on each side; summed over channels, the product ⊙ of all
tiles is one matrix product for each number of the patch, for each *point*: 16 products where direct needs 36, 36 where
it needs 144. The input gradient is the same with flipped filters; the filter gradient is
`Gᵀ [Σ (Bᵀ d B) ⊙ (A dy Aᵀ)] G`, summed over all tiles before the one inverse transform. The matrices are in
`codegen/winograd.py`.

Shape legend: T tiles, taken in blocks of TB that stay in the second-level cache; C channels, F filters, CP and FP
padded to whole vectors. Points lie `plane` apart: V [point][TB][CP], M [point][TB][FP], U [point][panel][C][width].
Each transform goes over the columns and then over the rows.

Source: Lavin and Gray, "Fast algorithms for convolutional neural networks", CVPR 2016, sections 4.1 and 4.2.
"""

from __future__ import annotations

from numba.extending import register_jitable

from ..codegen.vector import lanes, load, splat, store
from ..codegen.vector_bits import argmax_of_four, largest_of_four, store_bits
from ..codegen.winograd import (
    FILTER,
    FILTER_GRADIENT,
    GRADIENT,
    INPUT,
    OUTPUT,
    lines_between,
    load_line,
    load_pixels,
    not_below,
    side_of,
    store_line,
    store_pixels,
    sum_of,
    transformed,
)
from ..jit.source import kernel
from .maps import Maps, Matrix
from .winograd_products import point_gradients, point_products

inlined = register_jitable(inline="always")  # what lies between columns and rows can then stay in registers


@kernel
def _transform_input(tile, x, t0, t1, v, plane):
    """V = Bᵀ d B for the patches t0 <= t < t1 of x."""
    L, side, between, CP = lanes(x.data), side_of(tile) + 2, lines_between(x.data, tile), x.pitch
    for t in range(t0, t1):
        for c in range(0, CP, L):
            for s in range(side):
                line = load_line(INPUT, tile, x.data, x.rows[t] + c + s * CP, x.row_size)
                store_line(between, s * L, side * L, transformed(INPUT, tile, line))
            for r in range(side):
                line = load_line(INPUT, tile, between, r * side * L, L)
                store_line(v, (t - t0) * CP + c + r * side * plane, plane, transformed(INPUT, tile, line))


@inlined
def _output_columns(tile, m, i, plane, between):
    """Aᵀ m of the columns of a tile that begins at `i`."""
    L, side = lanes(m), side_of(tile) + 2
    for s in range(side):
        line = load_line(OUTPUT, tile, m, i + s * plane, side * plane)
        store_line(between, s * L, side * L, transformed(OUTPUT, tile, line))


@inlined
def _output_row(tile, between, i, step, bias, low):
    """max(low, bias + a row of Aᵀ m A), from what `_output_columns` has left at `i`."""
    line = load_line(OUTPUT, tile, between, i, step)
    return not_below(low, transformed(OUTPUT, tile, line), bias)


@kernel
def _transform_output(tile, m, t0, t1, FP, post, y):
    """Y = max(clamp_min, biases + Aᵀ M A); pixels of a tile beyond the image have a negative row in `y`."""
    L, size, between, low = lanes(m.data), side_of(tile), lines_between(m.data, tile), splat(m.data, post.clamp_min)
    for t in range(t0, t1):
        for f in range(0, FP, L):
            bias = load(post.biases, f)
            _output_columns(tile, m.data, (t - t0) * FP + f, m.plane, between)
            for r in range(size):
                line = _output_row(tile, between, r * (size + 2) * L, L, bias, low)
                store_pixels(y.data, f, y.rows, (t * size + r) * size, line)


@kernel
def _pool_output(tile, m, t0, t1, FP, post, y, pooling):
    """Max-pool 2 x 2 of max(clamp_min, biases + Aᵀ M A): a tile is one or four of the windows, from t · tile²/4 on."""
    L, size, between, low = lanes(m.data), side_of(tile), lines_between(m.data, tile), splat(m.data, post.clamp_min)
    half, line = size // 2, (size + 2) * L
    for t in range(t0, t1):
        for f in range(0, FP, L):
            bias = load(post.biases, f)
            _output_columns(tile, m.data, (t - t0) * FP + f, m.plane, between)
            for r in range(half):
                above = _output_row(tile, between, 2 * r * line, L, bias, low)
                below = _output_row(tile, between, (2 * r + 1) * line, L, bias, low)
                p = (t * half + r) * half
                _pool_window(pooling.windows[p], f, FP, above[:2], below[:2], low, y, pooling)
                if half == 2:
                    _pool_window(pooling.windows[p + 1], f, FP, above[-2:], below[-2:], low, y, pooling)


@inlined
def _pool_window(p, f, FP, above, below, low, y, pooling):
    """Store the largest of a window of four, and which it was."""
    if p >= 0:
        best = largest_of_four(above[0], above[1], below[0], below[1])
        store(y.data, y.rows[p] + f, best)
        if pooling.argmax.size > 0:
            which = argmax_of_four(above[0], above[1], below[0], below[1], best, low, pooling.ties_all)
            store_bits(pooling.argmax, p * FP + f, which)


@kernel
def _transform_gradient(tile, dy, t0, t1, FP, TB, w, dbias):
    """W = A dy Aᵀ, in the panels that the product wants; dbias += the sum of dy."""
    L, size, between = lanes(dy.data), side_of(tile), lines_between(dy.data, tile)
    for t in range(t0, t1):
        for f in range(0, FP, L):
            panel = f // (2 * L) * (2 * L)
            o = panel * TB + (t - t0) * min(FP - panel, 2 * L) + (f - panel)
            total = load(dbias, f)
            for s in range(size):
                line = load_pixels(GRADIENT, tile, dy.data, f, dy.rows, t * size * size + s, size)
                total = total + sum_of(line)
                store_line(between, s * L, size * L, transformed(GRADIENT, tile, line))
            store(dbias, f, total)
            for r in range(size + 2):
                line = load_line(GRADIENT, tile, between, r * size * L, L)
                store_line(w.data, o + r * (size + 2) * w.plane, w.plane, transformed(GRADIENT, tile, line))


@kernel
def _transform_filters(tile, g, C, FP, u):
    """U = G g Gᵀ in panels."""
    L, side, between, step = lanes(g.data), side_of(tile) + 2, lines_between(g.data, tile), C * FP
    for f in range(0, FP, L):
        panel = f // (2 * L) * (2 * L)
        row = min(FP - panel, 2 * L)
        for c in range(C):
            for s in range(3):
                line = load_pixels(FILTER, tile, g.data, c * FP + f, g.rows, s, 3)
                store_line(between, s * L, 3 * L, transformed(FILTER, tile, line))
            o = panel * C + c * row + (f - panel)
            for r in range(side):
                line = load_line(FILTER, tile, between, 3 * r * L, L)
                store_line(u, o + r * side * step, step, transformed(FILTER, tile, line))


@kernel
def _transform_filter_gradient(tile, du, C, FP, dw):
    """dw (3, 3, C, FP) = Gᵀ dU G, from dU [point][C][FP]."""
    L, side, between, step = lanes(du), side_of(tile) + 2, lines_between(du, tile), C * FP
    for i in range(0, step, L):
        for s in range(side):
            line = load_line(FILTER_GRADIENT, tile, du, i + s * step, side * step)
            store_line(between, s * L, side * L, transformed(FILTER_GRADIENT, tile, line))
        for r in range(3):
            line = load_line(FILTER_GRADIENT, tile, between, r * side * L, L)
            store_line(dw, i + 3 * r * step, step, transformed(FILTER_GRADIENT, tile, line))


@kernel
def transform_filters(tile, g, C, FP, u):
    """U = G g Gᵀ in panels, from filters whose rows are nine taps (C, FP); reversed, they are flipped."""
    if tile == 2:
        _transform_filters(2, g, C, FP, u)
    else:
        _transform_filters(4, g, C, FP, u)


@kernel
def forward(tile, x, v, v_col, u, m, FP, T, zeros, post, y, pooling):
    """y = max(clamp_min, biases + x * w), or its max-pool 2 x 2 where `pooling` has windows.

    V is read as a matrix (TB, C) for each point: channel c of a tile is at `v_col[c]`.
    """
    points = (tile + 2) * (tile + 2)
    TB = v.rows.size // points
    for t0 in range(0, T, TB):
        t1 = min(t0 + TB, T)
        if tile == 2:
            _transform_input(2, x, t0, t1, v.data, v.plane)
        else:
            _transform_input(4, x, t0, t1, v.data, v.plane)
        point_products(points, Matrix(v.data, v.rows, v_col), TB, t1 - t0, u, Maps(m.data, m.rows), FP, zeros)
        if pooling.windows.size and tile == 2:
            _pool_output(2, m, t0, t1, FP, post, y, pooling)
        elif pooling.windows.size:
            _pool_output(4, m, t0, t1, FP, post, y, pooling)
        elif tile == 2:
            _transform_output(2, m, t0, t1, FP, post, y)
        else:
            _transform_output(4, m, t0, t1, FP, post, y)


@kernel
def filter_gradient(tile, x, v, v_col, dy, w, FP, T, zeros, du, dw, dbias):
    """dw = x correlated with dy; dbias = Σ dy.

    V is read as a matrix (C, TB) for each point: the number of tile t in a channel is at `v_col[t]`.
    """
    points, TB = (tile + 2) * (tile + 2), v_col.size
    C = v.rows.size // points
    for f in range(0, FP, lanes(dbias)):
        store(dbias, f, splat(dbias, dbias.dtype.type(0)))
    for t0 in range(0, T, TB):
        t1 = min(t0 + TB, T)
        if tile == 2:
            _transform_input(2, x, t0, t1, v.data, v.plane)
            _transform_gradient(2, dy, t0, t1, FP, TB, w, dbias)
        else:
            _transform_input(4, x, t0, t1, v.data, v.plane)
            _transform_gradient(4, dy, t0, t1, FP, TB, w, dbias)
        point_gradients(points, Matrix(v.data, v.rows, v_col), t1 - t0, w, FP, du, t0 > 0, zeros)
    if tile == 2:
        _transform_filter_gradient(2, du.data, C, FP, dw)
    else:
        _transform_filter_gradient(4, du.data, C, FP, dw)
