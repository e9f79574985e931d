"""Winograd's minimal filtering F(4 x 4, 3 x 3) for 3 x 3 windows of stride 1: 36 products where direct needs 144.

As `conv_winograd.py`, on the points 0, ±√½, ±√2, ∞. The usual points 0, ±1, ±2, ∞ cost three to five times the rounding
error of direct convolution; these, whose products are 1, about twice. With a = √½, b = √2 and
M(x) = x (x² - ½)(x² - 2), the rows of Bᵀ are the coefficients of M / (x - p), those of G are (1, p, p²) / M'(p),
M'(0) = 1, M'(±a) = -3/2, M'(±b) = 6, and those of A are the powers of p.

Sources: Winograd, "Arithmetic complexity of computations", SIAM 1980; Lavin and Gray, CVPR 2016, for the layout;
Barabasz et al., "Error analysis and improving the accuracy of Winograd convolution", ACM TOMS 46 (2020), for the choice
of points.
"""

from __future__ import annotations

import math

import numpy as np

from .compiler import kernel
from .pool import larger
from .vector import fma, lanes, load, maximum, splat, store
from .vector_bits import store_bits, winners_of_four
from .winograd_products import point_gradients, point_products

POINTS = np.int64(36)

A = math.sqrt(0.5)
B = math.sqrt(2.0)


@kernel
def _input_line(d0, d1, d2, d3, d4, d5, k):
    """Bᵀ d of one line; `k` = (a, b, 2, ½, 5/2)."""
    a, b, two, half, middle = k
    even1, odd1 = d4 - two * d2, a * (d3 - two * d1)
    even2, odd2 = d4 - half * d2, b * (d3 - half * d1)
    return d0 + d4 - middle * d2, even1 + odd1, even1 - odd1, even2 + odd2, even2 - odd2, d1 + d5 - middle * d3


@kernel
def _output_line(m0, m1, m2, m3, m4, m5, k):
    """Aᵀ m of one line."""
    a, b, two, half, _ = k
    s1, q1, s2, q2 = m1 + m2, a * (m1 - m2), m3 + m4, b * (m3 - m4)
    return m0 + s1 + s2, q1 + q2, fma(half, s1, two * s2), fma(half, q1, fma(two, q2, m5))


@kernel
def _gradient_line(y0, y1, y2, y3, k):
    """Return A dy of one line."""
    a, b, two, half, _ = k
    even1, odd1 = fma(half, y2, y0), a * fma(half, y3, y1)
    even2, odd2 = fma(two, y2, y0), b * fma(two, y3, y1)
    return y0, even1 + odd1, even1 - odd1, even2 + odd2, even2 - odd2, y3


@kernel
def _filter_line(g0, g1, g2, k):
    """G g of one line; `k` = (-2/3, -2a/3, -1/3, 1/6, b/6, 1/3)."""
    k0, k1, k2, k3, k4, k5 = k
    even1, odd1 = fma(k0, g0, k2 * g2), k1 * g1
    even2, odd2 = fma(k3, g0, k5 * g2), k4 * g1
    return g0, even1 + odd1, even1 - odd1, even2 + odd2, even2 - odd2, g2


@kernel
def _filter_gradient_line(u0, u1, u2, u3, u4, u5, k):
    """Gᵀ u of one line."""
    k0, k1, k2, k3, k4, k5 = k
    s1, q1, s2, q2 = u1 + u2, u1 - u2, u3 + u4, u3 - u4
    return fma(k0, s1, fma(k3, s2, u0)), fma(k1, q1, k4 * q2), fma(k2, s1, fma(k5, s2, u5))


@kernel
def _constants(x):
    """Return the factors of the input, output and gradient transforms."""
    kind = x.dtype.type
    return splat(x, kind(A)), splat(x, kind(B)), splat(x, kind(2.0)), splat(x, kind(0.5)), splat(x, kind(2.5))


@kernel
def _filter_constants(x):
    """Return the factors of the filter transforms."""
    kind = x.dtype.type
    return (
        splat(x, kind(-2.0 / 3.0)), splat(x, kind(-2.0 * A / 3.0)), splat(x, kind(-1.0 / 3.0)),
        splat(x, kind(1.0 / 6.0)), splat(x, kind(B / 6.0)), splat(x, kind(1.0 / 3.0)),
    )  # fmt: skip


@kernel
def _load_line(a, i, step):
    """Six vectors that lie `step` apart."""
    return (
        load(a, i), load(a, i + step), load(a, i + 2 * step),
        load(a, i + 3 * step), load(a, i + 4 * step), load(a, i + 5 * step),
    )  # fmt: skip


@kernel
def _store_line(a, i, step, line):
    """Store six vectors `step` apart."""
    store(a, i, line[0])
    store(a, i + step, line[1])
    store(a, i + 2 * step, line[2])
    store(a, i + 3 * step, line[3])
    store(a, i + 4 * step, line[4])
    store(a, i + 5 * step, line[5])


@kernel
def _transform_input(x, x_tile, t0, t1, row_size, CP, v, plane, scratch):
    """V = Bᵀ d B for the patches that begin at `x_tile[t0:t1]`."""
    k = _constants(x)
    L = lanes(x)
    for t in range(t0, t1):
        for c in range(0, CP, L):
            for s in range(6):
                d = _load_line(x, x_tile[t] + c + s * CP, row_size)
                _store_line(scratch, s * L, 6 * L, _input_line(d[0], d[1], d[2], d[3], d[4], d[5], k))
            for r in range(6):
                d = _load_line(scratch, 6 * r * L, L)
                o = (t - t0) * CP + c + 6 * r * plane
                _store_line(v, o, plane, _input_line(d[0], d[1], d[2], d[3], d[4], d[5], k))


@kernel
def _output_columns(m, i, plane, scratch):
    """Aᵀ m of the six columns of a tile that begins at `i`, to `scratch` (4, 6)."""
    k = _constants(m)
    L = lanes(m)
    for s in range(6):
        d = _load_line(m, i + s * plane, 6 * plane)
        r = _output_line(d[0], d[1], d[2], d[3], d[4], d[5], k)
        store(scratch, s * L, r[0])
        store(scratch, (6 + s) * L, r[1])
        store(scratch, (12 + s) * L, r[2])
        store(scratch, (18 + s) * L, r[3])


@kernel
def _output_row(scratch, r, bias, low):
    """max(low, bias + row r of Aᵀ m A), from what `_output_columns` has left: four pixels."""
    d = _load_line(scratch, 6 * r * lanes(scratch), lanes(scratch))
    y0, y1, y2, y3 = _output_line(d[0], d[1], d[2], d[3], d[4], d[5], _constants(scratch))
    return maximum(low, y0 + bias), maximum(low, y1 + bias), maximum(low, y2 + bias), maximum(low, y3 + bias)


@kernel
def _transform_output(m, plane, t0, t1, FP, start, floor, y, y_pixel, scratch):
    """Y = max(floor, start + Aᵀ M A); pixels of a tile beyond the image have a negative `y_pixel`."""
    low = splat(m, floor)
    for t in range(t0, t1):
        for f in range(0, FP, lanes(m)):
            bias = load(start, f)
            _output_columns(m, (t - t0) * FP + f, plane, scratch)
            for r in range(4):
                line = _output_row(scratch, r, bias, low)
                p = 16 * t + 4 * r
                if y_pixel[p] >= 0:
                    store(y, y_pixel[p] + f, line[0])
                if y_pixel[p + 1] >= 0:
                    store(y, y_pixel[p + 1] + f, line[1])
                if y_pixel[p + 2] >= 0:
                    store(y, y_pixel[p + 2] + f, line[2])
                if y_pixel[p + 3] >= 0:
                    store(y, y_pixel[p + 3] + f, line[3])


@kernel
def _pool_window(p, f, FP, a, b, c, d, low, every, y, y_row, winners):
    """Store the largest of a window, and which it was; `p` is negative beyond the image."""
    if p >= 0:
        best = larger(larger(a, b), larger(c, d))
        store(y, y_row[p] + f, best)
        store_bits(winners, p * FP + f, winners_of_four(a, b, c, d, best, low, every))


@kernel
def _pool_output(m, plane, t0, t1, FP, start, floor, every, y, y_row, winners, window, scratch):
    """Max-pool 2 x 2 of max(floor, start + Aᵀ M A): a tile is four windows, numbers `window[4t:]` of the image's.

    `winners` (windows, FP) as in `pool.pool2`.
    """
    low = splat(m, floor)
    for t in range(t0, t1):
        for f in range(0, FP, lanes(m)):
            bias = load(start, f)
            _output_columns(m, (t - t0) * FP + f, plane, scratch)
            for r in range(2):
                a = _output_row(scratch, 2 * r, bias, low)
                b = _output_row(scratch, 2 * r + 1, bias, low)
                p = 4 * t + 2 * r
                _pool_window(window[p], f, FP, a[0], a[1], b[0], b[1], low, every, y, y_row, winners)
                _pool_window(window[p + 1], f, FP, a[2], a[3], b[2], b[3], low, every, y, y_row, winners)


@kernel
def _transform_gradient(dy, dy_pixel, t0, t1, FP, TB, w, plane, dbias, scratch):
    """W = A dy Aᵀ, in the panels that the product wants; dbias += the sum of dy."""
    k = _constants(dy)
    L = lanes(dy)
    for t in range(t0, t1):
        for f in range(0, FP, L):
            panel = f // (2 * L) * (2 * L)
            o = panel * TB + (t - t0) * min(FP - panel, 2 * L) + (f - panel)
            total = load(dbias, f)
            for s in range(4):
                p = 16 * t + s
                y0, y1 = load(dy, dy_pixel[p] + f), load(dy, dy_pixel[p + 4] + f)
                y2, y3 = load(dy, dy_pixel[p + 8] + f), load(dy, dy_pixel[p + 12] + f)
                total = total + ((y0 + y1) + (y2 + y3))
                _store_line(scratch, s * L, 4 * L, _gradient_line(y0, y1, y2, y3, k))
            store(dbias, f, total)
            for r in range(6):
                i = 4 * r * L
                y0, y1 = load(scratch, i), load(scratch, i + L)
                y2, y3 = load(scratch, i + 2 * L), load(scratch, i + 3 * L)
                _store_line(w, o + 6 * r * plane, plane, _gradient_line(y0, y1, y2, y3, k))


@kernel
def transform_filters(g, tap, C, FP, u):
    """U = G g Gᵀ in panels, from filters whose nine taps (C, FP) begin at `tap`; reversed, they are flipped."""
    k = _filter_constants(g)
    L = lanes(g)
    step = C * FP
    for f in range(0, FP, L):
        panel = f // (2 * L) * (2 * L)
        row = min(FP - panel, 2 * L)
        for c in range(C):
            i = c * FP + f
            a = _filter_line(load(g, tap[0] + i), load(g, tap[3] + i), load(g, tap[6] + i), k)
            b = _filter_line(load(g, tap[1] + i), load(g, tap[4] + i), load(g, tap[7] + i), k)
            d = _filter_line(load(g, tap[2] + i), load(g, tap[5] + i), load(g, tap[8] + i), k)
            o = panel * C + c * row + (f - panel)
            _store_line(u, o, step, _filter_line(a[0], b[0], d[0], k))
            _store_line(u, o + 6 * step, step, _filter_line(a[1], b[1], d[1], k))
            _store_line(u, o + 12 * step, step, _filter_line(a[2], b[2], d[2], k))
            _store_line(u, o + 18 * step, step, _filter_line(a[3], b[3], d[3], k))
            _store_line(u, o + 24 * step, step, _filter_line(a[4], b[4], d[4], k))
            _store_line(u, o + 30 * step, step, _filter_line(a[5], b[5], d[5], k))


@kernel
def _transform_filter_gradient(du, C, FP, dw, scratch):
    """dw (3, 3, C, FP) = Gᵀ dU G, from dU [point][C][FP]."""
    k = _filter_constants(du)
    L = lanes(du)
    step = C * FP
    for i in range(0, step, L):
        for s in range(6):
            d = _load_line(du, i + s * step, 6 * step)
            r = _filter_gradient_line(d[0], d[1], d[2], d[3], d[4], d[5], k)
            store(scratch, s * L, r[0])
            store(scratch, (6 + s) * L, r[1])
            store(scratch, (12 + s) * L, r[2])
        for r in range(3):
            d = _load_line(scratch, 6 * r * L, L)
            line = _filter_gradient_line(d[0], d[1], d[2], d[3], d[4], d[5], k)
            store(dw, i + 3 * r * step, line[0])
            store(dw, i + (3 * r + 1) * step, line[1])
            store(dw, i + (3 * r + 2) * step, line[2])


@kernel
def forward(
    x, x_tile, row_size, CP, v, v_plane, v_row, c_col, C, u, m, m_plane, m_row, FP, TB, T, zeros, scratch, start,
    floor, y, y_pixel,
):  # fmt: skip
    """y = max(floor, start + x * w)."""
    for t0 in range(0, T, TB):
        t1 = min(t0 + TB, T)
        _transform_input(x, x_tile, t0, t1, row_size, CP, v, v_plane, scratch)
        point_products(POINTS, v, v_row, TB, t1 - t0, c_col, C, u, m, m_row, FP, zeros)
        _transform_output(m, m_plane, t0, t1, FP, start, floor, y, y_pixel, scratch)


@kernel
def forward_pool(
    x, x_tile, row_size, CP, v, v_plane, v_row, c_col, C, u, m, m_plane, m_row, FP, TB, T, zeros, scratch, start,
    floor, every, y, y_row, winners, window,
):  # fmt: skip
    """y = max-pool 2 x 2 of max(floor, start + x * w), in one pass."""
    for t0 in range(0, T, TB):
        t1 = min(t0 + TB, T)
        _transform_input(x, x_tile, t0, t1, row_size, CP, v, v_plane, scratch)
        point_products(POINTS, v, v_row, TB, t1 - t0, c_col, C, u, m, m_row, FP, zeros)
        _pool_output(m, m_plane, t0, t1, FP, start, floor, every, y, y_row, winners, window, scratch)


@kernel
def filter_gradient(
    x, x_tile, row_size, CP, v, v_plane, vc_row, t_col, C, dy, dy_pixel, w, w_plane, FP, TB, T, zeros, scratch, du,
    du_row, dw, dbias,
):  # fmt: skip
    """dw = x correlated with dy; dbias = Σ dy."""
    for f in range(0, FP, lanes(x)):
        store(dbias, f, splat(x, x.dtype.type(0)))
    for t0 in range(0, T, TB):
        t1 = min(t0 + TB, T)
        _transform_input(x, x_tile, t0, t1, row_size, CP, v, v_plane, scratch)
        _transform_gradient(dy, dy_pixel, t0, t1, FP, TB, w, w_plane, dbias, scratch)
        point_gradients(POINTS, v, vc_row, t_col, t1 - t0, C, w, w_plane, TB, FP, du, du_row, t0 == 0, zeros)
    _transform_filter_gradient(du, C, FP, dw, scratch)
