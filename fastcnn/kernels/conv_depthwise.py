"""Depthwise convolution: each channel by itself, so a vector holds channels and nothing is added across lanes.

There are only kH · kW products per number, so memory is the bound: maps are read and written in the order in which they
lie, all channels of four neighbouring pixels at a time. Which pixels and filters meet is in tables, as in `product.py`:
stride, padding, dilation, flipped filters and the phases of the input gradient are contents of tables, not code.
Windows of 3 x 3 have kernels of their own, which load each number once for the four windows.

Shape legend: N channels, padded to whole vectors; K taps; lines of W pixels, see `Lines`; tap k of channel n of pixel j
of line l is `x.data[x.rows[l] + j · x.step + x_col[k] + n]`, its filter `w.data[w.rows[k] + n]`.
"""

from __future__ import annotations

from ..codegen.vector import fma, lanes, load, maximum, prefetch, splat, store
from ..jit.source import kernel


@kernel
def forward(x, x_col, w, y, lines, W, N, post):
    """y = max(clamp_min, biases + Σ_k x[k] · w[k]); the input gradient too, with tables of its own."""
    low, step, K = splat(x.data, post.clamp_min), x.step, x_col.size
    for line in range(lines):
        if W < 4:
            for j in range(W):
                _pixel(x.data, x.rows[line] + j * step, x_col, w, y.data, y.rows[line] + j * y.step, N, post, low)
            continue
        for j0 in range(0, W, 4):
            j = min(j0, W - 4)
            i, o = x.rows[line] + j * step, y.rows[line] + j * y.step
            for n in range(0, N, lanes(x.data)):
                a = b = c = d = load(post.biases, n)
                for k in range(K):
                    f, q = load(w.data, w.rows[k] + n), i + x_col[k] + n
                    a, b = fma(load(x.data, q), f, a), fma(load(x.data, q + step), f, b)
                    c, d = fma(load(x.data, q + 2 * step), f, c), fma(load(x.data, q + 3 * step), f, d)
                a, b, c, d = maximum(low, a), maximum(low, b), maximum(low, c), maximum(low, d)
                _store_four(y.data, o + n, y.step, a, b, c, d)


@kernel
def _pixel(x, i, x_col, w, y, o, N, post, low):
    """One pixel of a short line."""
    for n in range(0, N, lanes(x)):
        total = load(post.biases, n)
        for k in range(x_col.size):
            total = fma(load(x, i + x_col[k] + n), load(w.data, w.rows[k] + n), total)
        store(y, o + n, maximum(low, total))


@kernel
def _store_four(y, o, step, a, b, c, d):
    """Store a vector to each of four pixels."""
    store(y, o, a)
    store(y, o + step, b)
    store(y, o + 2 * step, c)
    store(y, o + 3 * step, d)


@kernel
def forward_3x3(x, stride, row_size, w, w0, w_step, y, lines, W, N, post):
    """y as above for 3 x 3 neighbouring taps, stride 1 or 2, W >= 4: tap k at `w[w0 + k · w_step]`.

    Rows of x are `row_size` apart, neighbours in a line `x.step`, so that windows are stride · `x.step`.
    """
    low, step = splat(x.data, post.clamp_min), x.step
    for line in range(lines):
        for j0 in range(0, W, 4):
            j = min(j0, W - 4)
            i0, o = x.rows[line] + j * stride * step, y.rows[line] + j * y.step
            for n in range(0, N, lanes(x.data)):
                a = b = c = d = load(post.biases, n)
                for r in range(3):
                    i, k = i0 + n + r * row_size, w0 + n + 3 * r * w_step
                    if stride == 1:
                        a, b, c, d = _row_of_3(x.data, i, step, w, k, w_step, a, b, c, d)
                    else:
                        a, b, c, d = _row_of_3_by_2(x.data, i, step, w, k, w_step, a, b, c, d)
                _prefetch_four(y.data, o + n + 8 * y.step, y.step)
                a, b, c, d = maximum(low, a), maximum(low, b), maximum(low, c), maximum(low, d)
                _store_four(y.data, o + n, y.step, a, b, c, d)


@kernel
def _prefetch_four(y, o, step):
    """Prefetch four pixels that are written soon: the hardware does not foresee four lines at a time."""
    prefetch(y, o)
    prefetch(y, o + step)
    prefetch(y, o + 2 * step)
    prefetch(y, o + 3 * step)


@kernel
def _row_of_3(x, i, step, w, k, w_step, a, b, c, d):
    """Add one row of the window to the sums of four neighbouring pixels: six numbers meet twelve filters."""
    f, g, h = load(w, k), load(w, k + w_step), load(w, k + 2 * w_step)
    v = load(x, i)
    a = fma(v, f, a)
    v = load(x, i + step)
    a, b = fma(v, g, a), fma(v, f, b)
    v = load(x, i + 2 * step)
    a, b, c = fma(v, h, a), fma(v, g, b), fma(v, f, c)
    v = load(x, i + 3 * step)
    b, c, d = fma(v, h, b), fma(v, g, c), fma(v, f, d)
    v = load(x, i + 4 * step)
    c, d = fma(v, h, c), fma(v, g, d)
    v = load(x, i + 5 * step)
    return a, b, c, fma(v, h, d)


@kernel
def _row_of_3_by_2(x, i, step, w, k, w_step, a, b, c, d):
    """Add one row where windows are two pixels apart: nine numbers meet twelve filters."""
    f, g, h = load(w, k), load(w, k + w_step), load(w, k + 2 * w_step)
    a = fma(load(x, i + step), g, fma(load(x, i), f, a))
    v = load(x, i + 2 * step)
    a, b = fma(v, h, a), fma(load(x, i + 3 * step), g, fma(v, f, b))
    v = load(x, i + 4 * step)
    b, c = fma(v, h, b), fma(load(x, i + 5 * step), g, fma(v, f, c))
    v = load(x, i + 6 * step)
    c, d = fma(v, h, c), fma(load(x, i + 7 * step), g, fma(v, f, d))
    return a, b, c, fma(load(x, i + 8 * step), h, d)


@kernel
def filter_gradient(x, x_col, dy, lines, W, N, dw, dbias):
    """dw[k] += Σ x[k] · dy and dbias += Σ dy, over all pixels of the lines; the sums stay in the first-level cache."""
    zero, x_step, dy_step = splat(x.data, x.data.dtype.type(0)), x.step, dy.step
    for line in range(lines):
        for j in range(0, W, 4):
            i, o, count = x.rows[line] + j * x_step, dy.rows[line] + j * dy_step, W - j
            # A tile that reaches beyond the line reads its first pixel again, with a gradient of zero.
            i1, i2, i3 = (
                (x_step if count > 1 else 0),
                (2 * x_step if count > 2 else 0),
                (3 * x_step if count > 3 else 0),
            )
            for n in range(0, N, lanes(x.data)):
                a, b, c, d = load(dy.data, o + n), zero, zero, zero
                if count > 1:
                    b = load(dy.data, o + n + dy_step)
                if count > 2:
                    c = load(dy.data, o + n + 2 * dy_step)
                if count > 3:
                    d = load(dy.data, o + n + 3 * dy_step)
                store(dbias, n, load(dbias, n) + ((a + b) + (c + d)))
                for k in range(x_col.size):
                    q, s = i + x_col[k] + n, load(dw.data, dw.rows[k] + n)
                    s = fma(load(x.data, q + i1), b, fma(load(x.data, q), a, s))
                    s = fma(load(x.data, q + i3), d, fma(load(x.data, q + i2), c, s))
                    store(dw.data, dw.rows[k] + n, s)


@kernel
def filter_gradient_3x3(x, stride, row_size, dy, lines, W, N, dw, dbias):
    """dw (9, N) and dbias as above for 3 x 3 neighbouring taps, stride 1 or 2, W >= 4."""
    zero, x_step, dy_step = splat(x.data, x.data.dtype.type(0)), x.step, dy.step
    for line in range(lines):
        for j0 in range(0, W, 4):
            j = min(j0, W - 4)
            i0, o = x.rows[line] + j * stride * x_step, dy.rows[line] + j * dy_step
            done = j0 - j  # pixels of the last tile that the one before it has counted
            for n in range(0, N, lanes(x.data)):
                a, b, c, d = zero, zero, zero, load(dy.data, o + n + 3 * dy_step)
                if done < 1:
                    a = load(dy.data, o + n)
                if done < 2:
                    b = load(dy.data, o + n + dy_step)
                if done < 3:
                    c = load(dy.data, o + n + 2 * dy_step)
                store(dbias, n, load(dbias, n) + ((a + b) + (c + d)))
                for r in range(3):
                    i, k = i0 + n + r * row_size, n + 3 * r * N
                    if stride == 1:
                        _row_of_3_gradient(x.data, i, x_step, dw, k, N, a, b, c, d)
                    else:
                        _row_of_3_by_2_gradient(x.data, i, x_step, dw, k, N, a, b, c, d)


@kernel
def _row_of_3_gradient(x, i, step, dw, k, N, a, b, c, d):
    """Add the products of six numbers and four neighbouring gradients to one row of the filters' gradient."""
    f, g, h = load(dw, k), load(dw, k + N), load(dw, k + 2 * N)
    v = load(x, i)
    f = fma(v, a, f)
    v = load(x, i + step)
    f, g = fma(v, b, f), fma(v, a, g)
    v = load(x, i + 2 * step)
    f, g, h = fma(v, c, f), fma(v, b, g), fma(v, a, h)
    v = load(x, i + 3 * step)
    f, g, h = fma(v, d, f), fma(v, c, g), fma(v, b, h)
    v = load(x, i + 4 * step)
    g, h = fma(v, d, g), fma(v, c, h)
    h = fma(load(x, i + 5 * step), d, h)
    store(dw, k, f)
    store(dw, k + N, g)
    store(dw, k + 2 * N, h)


@kernel
def _row_of_3_by_2_gradient(x, i, step, dw, k, N, a, b, c, d):
    """Add the products of nine numbers, where windows are two pixels apart."""
    f, g, h = load(dw, k), load(dw, k + N), load(dw, k + 2 * N)
    f, g = fma(load(x, i), a, f), fma(load(x, i + step), a, g)
    v = load(x, i + 2 * step)
    f, g, h = fma(v, b, f), fma(load(x, i + 3 * step), b, g), fma(v, a, h)
    v = load(x, i + 4 * step)
    f, g, h = fma(v, c, f), fma(load(x, i + 5 * step), c, g), fma(v, b, h)
    v = load(x, i + 6 * step)
    f, g, h = fma(v, d, f), fma(load(x, i + 7 * step), d, g), fma(v, c, h)
    store(dw, k, f)
    store(dw, k + N, g)
    store(dw, k + 2 * N, fma(load(x, i + 8 * step), d, h))


@kernel
def clear(a, size):
    """a[:size] = 0: where the sums of a gradient begin."""
    for i in range(size):
        a[i] = a.dtype.type(0)


@kernel
def repeat(x, y, lines, W, channels, times):
    """y has each channel of x `times` times, side by side."""
    for line in range(lines):
        for j in range(W):
            i, o = x.rows[line] + j * x.step, y.rows[line] + j * y.step
            for c in range(channels):
                for q in range(times):
                    y.data[o + c * times + q] = x.data[i + c]


@kernel
def repeat_backward(dy, dx, lines, W, channels, times):
    """dx = the sum of dy over the copies of each channel."""
    for line in range(lines):
        for j in range(W):
            i, o = dx.rows[line] + j * dx.step, dy.rows[line] + j * dy.step
            for c in range(channels):
                total = dy.data[o + c * times]
                for q in range(1, times):
                    total += dy.data[o + c * times + q]
                dx.data[i + c] = total
