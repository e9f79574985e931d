"""Branches that fork and meet again: sums of maps, channels side by side, and their gradients.

Shape legend: the rows of maps are lines of an image or single pixels. The `length` of a row is a multiple of the
vector's lanes; `shared` and `C` need not be.
"""

from __future__ import annotations

from ..codegen.vector import keep_positive, lanes, load, maximum, splat, store
from ..jit.source import kernel


@kernel
def add(a, b, y, rows, length, shared, clamp_min):
    """y = max(clamp_min, a + b) for the first `shared` numbers of each row, max(clamp_min, a) for the others."""
    low = splat(a.data, clamp_min)
    whole = shared - shared % lanes(a.data)
    for r in range(rows):
        i, j, k = a.rows[r], b.rows[r], y.rows[r]
        for n in range(0, whole, lanes(a.data)):
            store(y.data, k + n, maximum(low, load(a.data, i + n) + load(b.data, j + n)))
        for n in range(whole, length, lanes(a.data)):
            store(y.data, k + n, maximum(low, load(a.data, i + n)))
        for n in range(whole, shared):
            value = a.data[i + n] + b.data[j + n]
            y.data[k + n] = clamp_min if clamp_min > value else value


@kernel
def add_backward(y, dy, da, db, rows, length, shared, masked):
    """da = dy, where y > 0 if `masked`; db = the first `shared` numbers of each row of da."""
    whole = shared - shared % lanes(dy.data)
    for r in range(rows):
        i, j, k = da.rows[r], db.rows[r], dy.rows[r]
        for n in range(0, length, lanes(dy.data)):
            gradient = load(dy.data, k + n)
            if masked:
                gradient = keep_positive(gradient, load(y.data, y.rows[r] + n))
            store(da.data, i + n, gradient)
            if n < whole:
                store(db.data, j + n, gradient)
        for n in range(whole, shared):
            db.data[j + n] = da.data[i + n]


@kernel
def copy_channels(x, x0, y, y0, P, C):
    """y[p, y0 : y0 + C] = x[p, x0 : x0 + C] for P pixels; nothing beyond the C channels is written."""
    whole = C - C % lanes(x.data)
    for p in range(P):
        i, k = x.rows[p] + x0, y.rows[p] + y0
        for n in range(0, whole, lanes(x.data)):
            store(y.data, k + n, load(x.data, i + n))
        for n in range(whole, C):
            y.data[k + n] = x.data[i + n]
