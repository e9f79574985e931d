"""Pooling and its gradients.

Shape legend: P pooled pixels, N numbers per pixel (a multiple of the vector's lanes); `row` tables hold where pixels
begin. Windows of 2 x 2 keep four bits per unit, one for each pixel that was the maximum; other windows keep its tap.
With `past`, what is written goes past the caches.
"""

from __future__ import annotations

import numpy as np

from .cache import kernel
from .vector import fma, lanes, load, put, splat, store, where_beaten
from .vector_bits import keep_equal, keep_where, load_bits, splat_bits, store_bits, winners_of_four


@kernel
def larger(a, b):
    """Return the larger number of each lane, or the NaN."""
    return where_beaten(a, b, b, a)


@kernel
def pool2(x, x_row, x0, y, y_row, winners, p0, p1, N, floor, every):
    """y[p] = max of the four pixels x_row[x0 + 4(p-p0) ...]; `winners` (P, N): which, none if not above `floor`."""
    low = splat(x, floor)
    for p in range(p0, p1):
        i = x0 + 4 * (p - p0)
        r0, r1, r2, r3 = x_row[i], x_row[i + 1], x_row[i + 2], x_row[i + 3]
        for n in range(0, N, lanes(x)):
            a, b, c, d = load(x, r0 + n), load(x, r1 + n), load(x, r2 + n), load(x, r3 + n)
            best = larger(larger(a, b), larger(c, d))
            store(y, y_row[p] + n, best)
            store_bits(winners, p * N + n, winners_of_four(a, b, c, d, best, low, every))


@kernel
def pool2_backward(dy, dy_row, winners, P, N, dx, dx_row, past):
    """dx of the four pixels `dx_row[4p ...]`: dy where the bit is set, zero elsewhere."""
    for p in range(P):
        for n in range(0, N, lanes(dy)):
            value = load(dy, dy_row[p] + n)
            bits = load_bits(winners, p * N + n, value)
            put(dx, dx_row[4 * p] + n, keep_where(value, bits, 1), past)
            put(dx, dx_row[4 * p + 1] + n, keep_where(value, bits, 2), past)
            put(dx, dx_row[4 * p + 2] + n, keep_where(value, bits, 4), past)
            put(dx, dx_row[4 * p + 3] + n, keep_where(value, bits, 8), past)


@kernel
def pool(x, x_row, window, tap, y, y_row, winner, winner_row, P, N):
    """y[p] = the largest of the pixels x_row[p, 0] + window[kind], kind = x_row[p, 1]; `winner`: the first one's tap.

    Row `kind` of `window` is (count, offsets...), of `tap` the numbers (taps...) of the pixels in their window.
    """
    for p in range(P):
        i, kind, o = x_row[p, 0], x_row[p, 1], y_row[p]
        for n in range(0, N, lanes(x)):
            best = load(x, i + window[kind, 1] + n)
            which = splat_bits(best, tap[kind, 0])
            for q in range(1, window[kind, 0]):
                value = load(x, i + window[kind, 1 + q] + n)
                which = where_beaten(best, value, splat_bits(best, tap[kind, q]), which)
                best = where_beaten(best, value, value, best)
            store(y, o + n, best)
            store_bits(winner, winner_row[p] + n, which)


@kernel
def pool_backward(dy, dy_row, window, tap, winner, P, N, dx, dx_row, past):
    """dx[p] = the sum of dy over the windows that pixel p won: those at dy_row[p, 0] + window[kind], as its tap there.

    `winner` lies like dy.
    """
    for p in range(P):
        i, kind, o = dy_row[p, 0], dy_row[p, 1], dx_row[p]
        for n in range(0, N, lanes(dy)):
            total = splat(dy, dy.dtype.type(0))
            for q in range(window[kind, 0]):
                place = i + window[kind, 1 + q] + n
                value = load(dy, place)
                total = total + keep_equal(value, load_bits(winner, place, value), splat_bits(value, tap[kind, q]))
            put(dx, o + n, total, past)


@kernel
def window_sum(x, x_row, window, weight, P, N, y, y_row, past):
    """y[p] = Σ_q weight[kind, q] · x[x_row[p, 0] + window[kind, 1 + q]] for q < window[kind, 0], kind = x_row[p, 1].

    Averages of windows, copies of pixels, and the gradients of both.
    """
    for p in range(P):
        i, kind, o = x_row[p, 0], x_row[p, 1], y_row[p]
        for n in range(0, N, lanes(x)):
            total = splat(x, x.dtype.type(0))
            for q in range(window[kind, 0]):
                total = fma(splat(x, weight[kind, q]), load(x, i + window[kind, 1 + q] + n), total)
            put(y, o + n, total, past)


@kernel
def global_average(x, x_row, n, lines, width, N, y, y_row, scale):
    """y[i] = scale · the sum of all pixels of image i, each line (they begin at `x_row`) summed alone."""
    zero, factor = splat(x, x.dtype.type(0)), splat(x, scale)
    for i in range(n):
        o = y_row[i]
        for c in range(0, N, lanes(x)):
            store(y, o + c, zero)
        for r in range(i * lines, (i + 1) * lines):
            for c in range(0, N, lanes(x)):
                total = zero
                for k in range(x_row[r] + c, x_row[r] + c + width * N, N):
                    total = total + load(x, k)
                store(y, o + c, fma(factor, total, load(y, o + c)))


@kernel
def global_maximum(x, x_row, n, lines, width, N, y, y_row, winner):
    """y[i] = the largest of all pixels of image i; `winner` (n, N) the number of the first."""
    low = splat(x, x.dtype.type(-np.inf))
    for i in range(n):
        o = y_row[i]
        for c in range(0, N, lanes(x)):
            store(y, o + c, low)
            store_bits(winner, i * N + c, splat_bits(low, 0))
        for line in range(lines):
            r = x_row[i * lines + line]
            for c in range(0, N, lanes(x)):
                best = load(y, o + c)
                which = load_bits(winner, i * N + c, best)
                for w in range(width):
                    value = load(x, r + c + w * N)
                    which = where_beaten(best, value, splat_bits(best, line * width + w), which)
                    best = where_beaten(best, value, value, best)
                store(y, o + c, best)
                store_bits(winner, i * N + c, which)


@kernel
def global_maximum_backward(dy, dy_row, winner, n, lines, width, N, dx, dx_row, past):
    """dx = dy at the pixel that won, zero elsewhere."""
    zero = splat(dy, dy.dtype.type(0))
    for r in range(n * lines):
        for k in range(0, width * N, lanes(dy)):
            put(dx, dx_row[r] + k, zero, past)
    for i in range(n):
        for c in range(N):
            pixel = winner[i * N + c]
            dx[dx_row[i * lines + pixel // width] + pixel % width * N + c] = dy[dy_row[i] + c]
