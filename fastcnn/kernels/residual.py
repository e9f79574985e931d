"""Branches that fork and meet again: sums of maps, channels side by side, and their gradients.

Shape legend: `rows` runs of numbers, lines of an image or single pixels, that begin where the `_row` tables say. The
`length` of a run is a multiple of the vector's lanes; `shared` and `C` need not be.
"""

from __future__ import annotations

from ..codegen.vector import keep_positive, lanes, load, maximum, splat, store
from ..jit.source import kernel


@kernel
def add(a, a_row, b, b_row, y, y_row, rows, length, shared, floor):
    """y = max(floor, a + b) for the first `shared` numbers of each run, max(floor, a) for the others."""
    low = splat(a, floor)
    whole = shared - shared % lanes(a)
    for r in range(rows):
        i, j, k = a_row[r], b_row[r], y_row[r]
        for n in range(0, whole, lanes(a)):
            store(y, k + n, maximum(low, load(a, i + n) + load(b, j + n)))
        for n in range(whole, length, lanes(a)):
            store(y, k + n, maximum(low, load(a, i + n)))
        for n in range(whole, shared):
            value = a[i + n] + b[j + n]
            y[k + n] = floor if floor > value else value


@kernel
def add_backward(y, y_row, dy, dy_row, da, da_row, db, db_row, rows, length, shared, masked):
    """da = dy, where y > 0 if `masked`; db = the first `shared` numbers of each run of da."""
    whole = shared - shared % lanes(dy)
    for r in range(rows):
        i, j, k = da_row[r], db_row[r], dy_row[r]
        for n in range(0, length, lanes(dy)):
            gradient = load(dy, k + n)
            if masked:
                gradient = keep_positive(gradient, load(y, y_row[r] + n))
            store(da, i + n, gradient)
            if n < whole:
                store(db, j + n, gradient)
        for n in range(whole, shared):
            db[j + n] = da[i + n]


@kernel
def copy_channels(x, x_row, x0, y, y_row, y0, P, C):
    """y[p, y0 : y0 + C] = x[p, x0 : x0 + C] for P pixels; nothing beyond the C channels is written."""
    whole = C - C % lanes(x)
    for p in range(P):
        i, k = x_row[p] + x0, y_row[p] + y0
        for n in range(0, whole, lanes(x)):
            store(y, k + n, load(x, i + n))
        for n in range(whole, C):
            y[k + n] = x[i + n]
