"""Winograd's minimal filtering F(2 x 2, 3 x 3) for 3 x 3 windows of stride 1: 16 products where direct needs 36.

    y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A

for a 4 x 4 patch d of the input and a tile of 2 x 2 outputs; summed over channels, the product ⊙ of all tiles is one
matrix product for each of the 16 points. The input gradient is the same with flipped filters; the filter gradient is
`Gᵀ [Σ (Bᵀ d B) ⊙ (A dy Aᵀ)] G`, summed over all tiles before the one inverse transform.

Shape legend: T tiles, taken in blocks of TB that stay in the second-level cache; C channels, F filters, CP and FP
padded to whole vectors. Points lie `plane` apart: V [point][TB][CP], M [point][TB][FP], U [point][panel][C][width].

Source: Lavin and Gray, "Fast algorithms for convolutional neural networks", CVPR 2016, sections 4.1 and 4.2.
"""

from __future__ import annotations

import numpy as np

from .compiler import kernel
from .pool import larger
from .vector import lanes, load, maximum, splat, store
from .vector_bits import store_bits, winners_of_four
from .winograd_products import point_gradients, point_products

POINTS = np.int64(16)  # a literal would be a type of its own, and the products compiled for each


@kernel
def _input_line(d0, d1, d2, d3):
    """Bᵀ d of one line."""
    return d0 - d2, d1 + d2, d2 - d1, d1 - d3


@kernel
def _output_line(m0, m1, m2, m3):
    """Aᵀ m of one line."""
    return m0 + m1 + m2, m1 - m2 - m3


@kernel
def _filter_line(g0, g1, g2, half):
    """G g of one line."""
    outer = half * (g0 + g2)
    middle = half * g1
    return g0, outer + middle, outer - middle, g2


@kernel
def _filter_gradient_line(u0, u1, u2, u3, half):
    """Gᵀ u of one line."""
    outer = half * (u1 + u2)
    return u0 + outer, half * (u1 - u2), outer + u3


@kernel
def _load_line(a, i, step):
    """Four vectors that lie `step` apart."""
    return load(a, i), load(a, i + step), load(a, i + 2 * step), load(a, i + 3 * step)


@kernel
def _store_line(a, i, step, line):
    """Store four vectors `step` apart."""
    store(a, i, line[0])
    store(a, i + step, line[1])
    store(a, i + 2 * step, line[2])
    store(a, i + 3 * step, line[3])


@kernel
def _store_taps(a, i, step, line):
    """Store three vectors `step` apart."""
    store(a, i, line[0])
    store(a, i + step, line[1])
    store(a, i + 2 * step, line[2])


@kernel
def _transform_input(x, x_tile, t0, t1, row_size, CP, v, plane):
    """V = Bᵀ d B for the patches that begin at `x_tile[t0:t1]`."""
    for t in range(t0, t1):
        for c in range(0, CP, lanes(x)):
            i = x_tile[t] + c
            a0, a1, a2, a3 = _load_line(x, i, row_size)
            b0, b1, b2, b3 = _load_line(x, i + CP, row_size)
            c0, c1, c2, c3 = _load_line(x, i + 2 * CP, row_size)
            d0, d1, d2, d3 = _load_line(x, i + 3 * CP, row_size)
            a0, a1, a2, a3 = _input_line(a0, a1, a2, a3)
            b0, b1, b2, b3 = _input_line(b0, b1, b2, b3)
            c0, c1, c2, c3 = _input_line(c0, c1, c2, c3)
            d0, d1, d2, d3 = _input_line(d0, d1, d2, d3)
            o = (t - t0) * CP + c
            _store_line(v, o, plane, _input_line(a0, b0, c0, d0))
            _store_line(v, o + 4 * plane, plane, _input_line(a1, b1, c1, d1))
            _store_line(v, o + 8 * plane, plane, _input_line(a2, b2, c2, d2))
            _store_line(v, o + 12 * plane, plane, _input_line(a3, b3, c3, d3))


@kernel
def _output_tile(m, i, plane, bias, low):
    """max(low, bias + Aᵀ m A) of one tile: its four pixels."""
    a0, a1, a2, a3 = _load_line(m, i, 4 * plane)
    b0, b1, b2, b3 = _load_line(m, i + plane, 4 * plane)
    c0, c1, c2, c3 = _load_line(m, i + 2 * plane, 4 * plane)
    d0, d1, d2, d3 = _load_line(m, i + 3 * plane, 4 * plane)
    a0, a1 = _output_line(a0, a1, a2, a3)
    b0, b1 = _output_line(b0, b1, b2, b3)
    c0, c1 = _output_line(c0, c1, c2, c3)
    d0, d1 = _output_line(d0, d1, d2, d3)
    y0, y1 = _output_line(a0, b0, c0, d0)
    y2, y3 = _output_line(a1, b1, c1, d1)
    return maximum(low, y0 + bias), maximum(low, y1 + bias), maximum(low, y2 + bias), maximum(low, y3 + bias)


@kernel
def _transform_output(m, plane, t0, t1, FP, start, floor, y, y_pixel):
    """Y = max(floor, start + Aᵀ M A); pixels of a tile beyond the image have a negative `y_pixel`."""
    low = splat(m, floor)
    for t in range(t0, t1):
        p0, p1, p2, p3 = y_pixel[4 * t], y_pixel[4 * t + 1], y_pixel[4 * t + 2], y_pixel[4 * t + 3]
        for f in range(0, FP, lanes(m)):
            y0, y1, y2, y3 = _output_tile(m, (t - t0) * FP + f, plane, load(start, f), low)
            store(y, p0 + f, y0)
            if p1 >= 0:
                store(y, p1 + f, y1)
            if p2 >= 0:
                store(y, p2 + f, y2)
            if p3 >= 0:
                store(y, p3 + f, y3)


@kernel
def _transform_gradient(dy, dy_pixel, t0, t1, FP, TB, w, plane, dbias):
    """W = A dy Aᵀ, in the panels that the product wants; dbias += the sum of dy."""
    width = 2 * lanes(dy)
    for t in range(t0, t1):
        p0, p1, p2, p3 = dy_pixel[4 * t], dy_pixel[4 * t + 1], dy_pixel[4 * t + 2], dy_pixel[4 * t + 3]
        for f in range(0, FP, lanes(dy)):
            y0, y1, y2, y3 = load(dy, p0 + f), load(dy, p1 + f), load(dy, p2 + f), load(dy, p3 + f)
            store(dbias, f, load(dbias, f) + ((y0 + y1) + (y2 + y3)))
            panel = f // width * width
            o = panel * TB + (t - t0) * min(FP - panel, width) + (f - panel)
            zero = splat(dy, dy.dtype.type(0))
            for line in range(4):
                if line == 0:
                    a, b = y0, y1
                elif line == 1:
                    a, b = y0 + y2, y1 + y3
                elif line == 2:
                    a, b = y0 - y2, y1 - y3
                else:
                    a, b = zero - y2, zero - y3
                _store_line(w, o + 4 * line * plane, plane, (a, a + b, a - b, zero - b))


@kernel
def transform_filters(g, tap, C, FP, u):
    """U = G g Gᵀ in panels, from filters whose nine taps (C, FP) begin at `tap`; reversed, they are flipped."""
    width = 2 * lanes(g)
    half = splat(g, g.dtype.type(0.5))
    for f in range(0, FP, lanes(g)):
        panel = f // width * width
        row = min(FP - panel, width)
        for c in range(C):
            i = c * FP + f
            a0, a1, a2, a3 = _filter_line(load(g, tap[0] + i), load(g, tap[3] + i), load(g, tap[6] + i), half)
            b0, b1, b2, b3 = _filter_line(load(g, tap[1] + i), load(g, tap[4] + i), load(g, tap[7] + i), half)
            c0, c1, c2, c3 = _filter_line(load(g, tap[2] + i), load(g, tap[5] + i), load(g, tap[8] + i), half)
            o = panel * C + c * row + (f - panel)
            step = C * FP
            _store_line(u, o, step, _filter_line(a0, b0, c0, half))
            _store_line(u, o + 4 * step, step, _filter_line(a1, b1, c1, half))
            _store_line(u, o + 8 * step, step, _filter_line(a2, b2, c2, half))
            _store_line(u, o + 12 * step, step, _filter_line(a3, b3, c3, half))


@kernel
def _transform_filter_gradient(du, C, FP, dw):
    """dw (3, 3, C, FP) = Gᵀ dU G, from dU [point][C][FP]."""
    half = splat(du, du.dtype.type(0.5))
    step = C * FP
    for i in range(0, step, lanes(du)):
        a0, a1, a2, a3 = _load_line(du, i, 4 * step)
        b0, b1, b2, b3 = _load_line(du, i + step, 4 * step)
        c0, c1, c2, c3 = _load_line(du, i + 2 * step, 4 * step)
        d0, d1, d2, d3 = _load_line(du, i + 3 * step, 4 * step)
        a0, a1, a2 = _filter_gradient_line(a0, a1, a2, a3, half)
        b0, b1, b2 = _filter_gradient_line(b0, b1, b2, b3, half)
        c0, c1, c2 = _filter_gradient_line(c0, c1, c2, c3, half)
        d0, d1, d2 = _filter_gradient_line(d0, d1, d2, d3, half)
        _store_taps(dw, i, step, _filter_gradient_line(a0, b0, c0, d0, half))
        _store_taps(dw, i + 3 * step, step, _filter_gradient_line(a1, b1, c1, d1, half))
        _store_taps(dw, i + 6 * step, step, _filter_gradient_line(a2, b2, c2, d2, half))


@kernel
def _pool_output(m, plane, t0, t1, FP, start, floor, every, y, y_pixel, winners):
    """Max-pool 2 x 2 of max(floor, start + Aᵀ M A): a tile is a window. `winners` (T, FP) as in `pool.pool2`."""
    low = splat(m, floor)
    for t in range(t0, t1):
        for f in range(0, FP, lanes(m)):
            a, b, c, d = _output_tile(m, (t - t0) * FP + f, plane, load(start, f), low)
            best = larger(larger(a, b), larger(c, d))
            store(y, y_pixel[t] + f, best)
            store_bits(winners, t * FP + f, winners_of_four(a, b, c, d, best, low, every))


@kernel
def forward(
    x, x_tile, row_size, CP, v, v_plane, v_row, c_col, C, u, m, m_plane, m_row, FP, TB, T, zeros, start, floor, y,
    y_pixel,
):  # fmt: skip
    """y = max(floor, start + x * w)."""
    for t0 in range(0, T, TB):
        t1 = min(t0 + TB, T)
        _transform_input(x, x_tile, t0, t1, row_size, CP, v, v_plane)
        point_products(POINTS, v, v_row, TB, t1 - t0, c_col, C, u, m, m_row, FP, zeros)
        _transform_output(m, m_plane, t0, t1, FP, start, floor, y, y_pixel)


@kernel
def forward_pool(
    x, x_tile, row_size, CP, v, v_plane, v_row, c_col, C, u, m, m_plane, m_row, FP, TB, T, zeros, start, floor,
    every, y, y_pixel, winners,
):  # fmt: skip
    """y = max-pool 2 x 2 of max(floor, start + x * w), in one pass."""
    for t0 in range(0, T, TB):
        t1 = min(t0 + TB, T)
        _transform_input(x, x_tile, t0, t1, row_size, CP, v, v_plane)
        point_products(POINTS, v, v_row, TB, t1 - t0, c_col, C, u, m, m_row, FP, zeros)
        _pool_output(m, m_plane, t0, t1, FP, start, floor, every, y, y_pixel, winners)


@kernel
def filter_gradient(
    x, x_tile, row_size, CP, v, v_plane, vc_row, t_col, C, dy, dy_pixel, w, w_plane, FP, TB, T, zeros, du, du_row,
    dw, dbias,
):  # fmt: skip
    """dw = x correlated with dy; dbias = Σ dy."""
    for f in range(0, FP, lanes(x)):
        store(dbias, f, splat(x, x.dtype.type(0)))
    for t0 in range(0, T, TB):
        t1 = min(t0 + TB, T)
        _transform_input(x, x_tile, t0, t1, row_size, CP, v, v_plane)
        _transform_gradient(dy, dy_pixel, t0, t1, FP, TB, w, w_plane, dbias)
        point_gradients(POINTS, v, vc_row, t_col, t1 - t0, C, w, w_plane, TB, FP, du, du_row, t0 == 0, zeros)
    _transform_filter_gradient(du, C, FP, dw)
