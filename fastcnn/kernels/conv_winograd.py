"""Winograd's minimal filtering for 3 x 3 windows of stride 1, on tiles of 2 x 2 or 4 x 4 outputs.

    y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A

for the patch d of the input that a tile needs, one pixel more on each side; summed over channels, the product ⊙ of all
tiles is one matrix product for each number of the patch, for each *point*: 16 products where direct needs 36, 36 where
it needs 144. The input gradient is the same with flipped filters; the filter gradient is
`Gᵀ [Σ (Bᵀ d B) ⊙ (A dy Aᵀ)] G`, summed over all tiles before the one inverse transform. The matrices stand in
`winograd_transforms.py`.

Shape legend: T tiles, taken in blocks of TB that stay in the second-level cache; C channels, F filters, CP and FP
padded to whole vectors. Points lie `plane` apart: V [point][TB][CP], M [point][TB][FP], U [point][panel][C][width].
Each transform goes over the columns and then over the rows.

Source: Lavin and Gray, "Fast algorithms for convolutional neural networks", CVPR 2016, sections 4.1 and 4.2.
"""

from __future__ import annotations

from numba.extending import register_jitable

from ..codegen.vector import lanes, load, splat, store
from ..codegen.vector_bits import largest_of_four, store_bits, winners_of_four
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
from .winograd_products import point_gradients, point_products

inlined = register_jitable(inline="always")  # what lies between columns and rows can then stay in registers


@kernel
def _transform_input(tile, x, x_tile, t0, t1, row_size, CP, v, plane):
    """V = Bᵀ d B for the patches that begin at `x_tile[t0:t1]`."""
    L, side, between = lanes(x), side_of(tile) + 2, lines_between(x, tile)
    for t in range(t0, t1):
        for c in range(0, CP, L):
            for s in range(side):
                line = load_line(INPUT, tile, x, x_tile[t] + c + s * CP, row_size)
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
def _transform_output(tile, m, plane, t0, t1, FP, start, floor, y, y_pixel):
    """Y = max(floor, start + Aᵀ M A); pixels of a tile beyond the image have a negative `y_pixel`."""
    L, size, between, low = lanes(m), side_of(tile), lines_between(m, tile), splat(m, floor)
    for t in range(t0, t1):
        for f in range(0, FP, L):
            bias = load(start, f)
            _output_columns(tile, m, (t - t0) * FP + f, plane, between)
            for r in range(size):
                line = _output_row(tile, between, r * (size + 2) * L, L, bias, low)
                store_pixels(y, f, y_pixel, (t * size + r) * size, line)


@kernel
def _pool_output(tile, m, plane, t0, t1, FP, start, floor, every, y, y_row, winners, window):
    """Max-pool 2 x 2 of max(floor, start + Aᵀ M A): a tile is one or four windows, `window[t · tile²/4:]` of all.

    `winners` (windows, FP) as in `pool.pool2`; the number of a window beyond the image is negative.
    """
    L, size, between, low = lanes(m), side_of(tile), lines_between(m, tile), splat(m, floor)
    half, line = size // 2, (size + 2) * L
    for t in range(t0, t1):
        for f in range(0, FP, L):
            bias = load(start, f)
            _output_columns(tile, m, (t - t0) * FP + f, plane, between)
            for r in range(half):
                above = _output_row(tile, between, 2 * r * line, L, bias, low)
                below = _output_row(tile, between, (2 * r + 1) * line, L, bias, low)
                p = (t * half + r) * half
                _pool_window(window[p], f, FP, above[:2], below[:2], low, every, y, y_row, winners)
                if half == 2:
                    _pool_window(window[p + 1], f, FP, above[-2:], below[-2:], low, every, y, y_row, winners)


@inlined
def _pool_window(p, f, FP, above, below, low, every, y, y_row, winners):
    """Store the largest of a window of four, and which it was."""
    if p >= 0:
        best = largest_of_four(above[0], above[1], below[0], below[1])
        store(y, y_row[p] + f, best)
        if winners.size > 0:
            which = winners_of_four(above[0], above[1], below[0], below[1], best, low, every)
            store_bits(winners, p * FP + f, which)


@kernel
def _transform_gradient(tile, dy, dy_pixel, t0, t1, FP, TB, w, plane, dbias):
    """W = A dy Aᵀ, in the panels that the product wants; dbias += the sum of dy."""
    L, size, between = lanes(dy), side_of(tile), lines_between(dy, tile)
    for t in range(t0, t1):
        for f in range(0, FP, L):
            panel = f // (2 * L) * (2 * L)
            o = panel * TB + (t - t0) * min(FP - panel, 2 * L) + (f - panel)
            total = load(dbias, f)
            for s in range(size):
                line = load_pixels(GRADIENT, tile, dy, f, dy_pixel, t * size * size + s, size)
                total = total + sum_of(line)
                store_line(between, s * L, size * L, transformed(GRADIENT, tile, line))
            store(dbias, f, total)
            for r in range(size + 2):
                line = load_line(GRADIENT, tile, between, r * size * L, L)
                store_line(w, o + r * (size + 2) * plane, plane, transformed(GRADIENT, tile, line))


@kernel
def _transform_filters(tile, g, tap, C, FP, u):
    """U = G g Gᵀ in panels."""
    L, side, between, step = lanes(g), side_of(tile) + 2, lines_between(g, tile), C * FP
    for f in range(0, FP, L):
        panel = f // (2 * L) * (2 * L)
        row = min(FP - panel, 2 * L)
        for c in range(C):
            for s in range(3):
                line = load_pixels(FILTER, tile, g, c * FP + f, tap, s, 3)
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
def transform_filters(tile, g, tap, C, FP, u):
    """U = G g Gᵀ in panels, from filters whose nine taps (C, FP) begin at `tap`; reversed, they are flipped."""
    if tile == 2:
        _transform_filters(2, g, tap, C, FP, u)
    else:
        _transform_filters(4, g, tap, C, FP, u)


@kernel
def forward(
    tile, x, x_tile, row_size, CP, v, v_plane, v_row, c_col, C, u, m, m_plane, m_row, FP, TB, T, zeros, start,
    floor, y, y_pixel, every, winners, window,
):  # fmt: skip
    """y = max(floor, start + x * w), or its max-pool 2 x 2 where there is a `window` for each row of `y_pixel`."""
    points = (tile + 2) * (tile + 2)
    for t0 in range(0, T, TB):
        t1 = min(t0 + TB, T)
        if tile == 2:
            _transform_input(2, x, x_tile, t0, t1, row_size, CP, v, v_plane)
        else:
            _transform_input(4, x, x_tile, t0, t1, row_size, CP, v, v_plane)
        point_products(points, v, v_row, TB, t1 - t0, c_col, C, u, m, m_row, FP, zeros)
        if window.size and tile == 2:
            _pool_output(2, m, m_plane, t0, t1, FP, start, floor, every, y, y_pixel, winners, window)
        elif window.size:
            _pool_output(4, m, m_plane, t0, t1, FP, start, floor, every, y, y_pixel, winners, window)
        elif tile == 2:
            _transform_output(2, m, m_plane, t0, t1, FP, start, floor, y, y_pixel)
        else:
            _transform_output(4, m, m_plane, t0, t1, FP, start, floor, y, y_pixel)


@kernel
def filter_gradient(
    tile, x, x_tile, row_size, CP, v, v_plane, vc_row, t_col, C, dy, dy_pixel, w, w_plane, FP, TB, T, zeros,
    du, du_row, dw, dbias,
):  # fmt: skip
    """dw = x correlated with dy; dbias = Σ dy."""
    points = (tile + 2) * (tile + 2)
    for f in range(0, FP, lanes(x)):
        store(dbias, f, splat(x, x.dtype.type(0)))
    for t0 in range(0, T, TB):
        t1 = min(t0 + TB, T)
        if tile == 2:
            _transform_input(2, x, x_tile, t0, t1, row_size, CP, v, v_plane)
            _transform_gradient(2, dy, dy_pixel, t0, t1, FP, TB, w, w_plane, dbias)
        else:
            _transform_input(4, x, x_tile, t0, t1, row_size, CP, v, v_plane)
            _transform_gradient(4, dy, dy_pixel, t0, t1, FP, TB, w, w_plane, dbias)
        point_gradients(points, v, vc_row, t_col, t1 - t0, C, w, w_plane, TB, FP, du, du_row, t0 == 0, zeros)
    if tile == 2:
        _transform_filter_gradient(2, du, C, FP, dw)
    else:
        _transform_filter_gradient(4, du, C, FP, dw)
