"""Max-pooling and its gradient.

Shape legend: P pooled pixels, N numbers per pixel (a multiple of the vector's lanes); `row` tables hold where pixels
begin. Windows of 2 x 2 keep four bits per unit, one for each pixel that was the maximum; other windows keep its number.
"""

from __future__ import annotations

from .cache import kernel
from .vector import keep_where, lanes, load, load_bytes, maximum, splat, store, store_bytes, winners_of_four


@kernel
def pool2(x, x_row, x0, y, y_row, winners, p0, p1, N, floor, every):
    """y[p] = max of the four pixels x_row[x0 + 4(p-p0) ...]; `winners` (P, N): which, none if not above `floor`."""
    low = splat(x, floor)
    for p in range(p0, p1):
        i = x0 + 4 * (p - p0)
        r0, r1, r2, r3 = x_row[i], x_row[i + 1], x_row[i + 2], x_row[i + 3]
        for n in range(0, N, lanes(x)):
            a, b, c, d = load(x, r0 + n), load(x, r1 + n), load(x, r2 + n), load(x, r3 + n)
            best = maximum(maximum(a, b), maximum(c, d))
            store(y, y_row[p] + n, best)
            store_bytes(winners, p * N + n, winners_of_four(a, b, c, d, best, low, every))


@kernel
def pool2_backward(dy, dy_row, winners, P, N, dx, dx_row):
    """dx of the four pixels `dx_row[4p ...]`: dy where the bit is set, zero elsewhere."""
    for p in range(P):
        for n in range(0, N, lanes(dy)):
            value = load(dy, dy_row[p] + n)
            bits = load_bytes(winners, p * N + n, value)
            store(dx, dx_row[4 * p] + n, keep_where(value, bits, 1))
            store(dx, dx_row[4 * p + 1] + n, keep_where(value, bits, 2))
            store(dx, dx_row[4 * p + 2] + n, keep_where(value, bits, 4))
            store(dx, dx_row[4 * p + 3] + n, keep_where(value, bits, 8))


@kernel
def pool(x, x_row, window, y, y_row, winner, P, N):
    """y[p] = max over x[x_row[p] + window]; `winner` (P, N) is the number of the first maximum in its window.

    A window entry beyond the image is told by `window` having no such entry: rows of `window` are (count, offsets...),
    and `x_row` (P, 2) holds the pixel and the row of `window` that fits it.
    """
    for p in range(P):
        origin, kind = x_row[p, 0], x_row[p, 1]
        for n in range(N):
            best = x[origin + window[kind, 1] + n]
            which = 0
            for q in range(1, window[kind, 0]):
                value = x[origin + window[kind, 1 + q] + n]
                if value > best:
                    best = value
                    which = q
            y[y_row[p] + n] = best
            winner[p * N + n] = which


@kernel
def pool_backward(dy, dy_row, x_row, window, winner, P, N, dx, size):
    """dx = the sum of dy over the windows whose first maximum the number was."""
    for i in range(size):
        dx[i] = dx.dtype.type(0)
    for p in range(P):
        origin, kind = x_row[p, 0], x_row[p, 1]
        for n in range(N):
            dx[origin + window[kind, 1 + winner[p * N + n]] + n] += dy[dy_row[p] + n]
