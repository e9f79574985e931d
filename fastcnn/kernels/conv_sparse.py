"""The gradients of a convolution behind a max-pooling 2 x 2: of the four pixels of a window, one has a gradient.

So a quarter of the products is enough. What a filter has in a pooled pixel is an entry (see `sparse.py`): the gradient,
0 in a dead unit, and a place that depends on which pixel has won. For the filter gradient, that is where the winner's
window of the input begins; all entries of a filter are a group, which sums what they see. For the input gradient it is
a place in the filter, of which every winner's window is a part if there are zeros around it; all entries of a pooled
pixel are a group, which sums the filters that lie there.

Shape legend: P pooled pixels of N numbers, the first F of them filters; J vectors of a window. Entries are scratch:
`place` and `value` for those of as many pixels as are taken at once, `pixels`, and for a list of those that count;
`begin` and `end` for the groups.
"""

from __future__ import annotations

from numba.extending import register_jitable

from ..codegen.blocking import WINDOW
from ..codegen.gather import gather_windows, list_entries
from ..codegen.vector import lanes, load, splat, store
from ..codegen.vector_bits import add_where, keep_where, load_bits, splat_bits, store_bits, store_transposed
from ..jit.source import kernel

inlined = register_jitable(inline="always")  # a call would count references to the arrays, for every vector


@inlined
def _find(dy, o, winners, b, start, right, down, place, value, i):
    """Write one vector of entries, and return their numbers: `start` is the place of the first pixel of the window.

    That of the others is so much further to the right, or down; bit 1, 2, 4 or 8 of `winners` says which one won.
    """
    number = load(dy, o)
    bits = load_bits(winners, b, number)
    number = keep_where(number, bits, 15)
    store_bits(place, i, add_where(add_where(start, bits, 10, right), bits, 12, down))
    store(value, i, number)
    return number


@kernel
def filter_gradient(
    x, x_row, right, down, x_col, dy, dy_row, winners, P, N, F, pixels, place, value, begin, end, sums, sum_row,
    sum_col, sum_at, dw, w_row, dbias,
):  # fmt: skip
    """dw (K, N) and dbias (N,) from x and dy (P, N).

    The window of the first pixel of p begins at x_row[p]. `sums` has those of filter f at sum_row[f], vector j at
    sum_col[j] there, and tap k at sum_at[k].
    """
    J, L, none = x_col.size, lanes(x), x.dtype.type(0)
    parts = (J + WINDOW - 1) // WINDOW
    for i in range(0, F * J * L, L):
        store(sums, i, splat(x, none))
    for f in range(N):
        dbias[f] = none
    for p0 in range(0, P, pixels):
        p1 = min(p0 + pixels, P)
        count = (p1 - p0) * N
        for f in range(0, N, L):
            total = load(dbias, f)
            for p in range(p0, p1):
                start, i = splat_bits(total, x_row[p]), (p - p0) * N + f
                total = total + _find(dy, dy_row[p] + f, winners, p * N + f, start, right, down, place, value, i)
            store(dbias, f, total)
        if parts == 1:
            for f in range(F):
                begin[f], end[f] = f, count
            gather_windows(J, x, x_col, 0, place, value, begin, end, N, F, sums, sum_row, 0, sum_col)
            continue
        n = pixels * N
        for f in range(F):
            begin[f] = n
            n = list_entries(place, value, f, count, N, n)
            end[f] = n
        for part in range(parts):
            j, last = part * J // parts, (part + 1) * J // parts
            gather_windows(last - j, x, x_col, j, place, value, begin, end, 1, F, sums, sum_row, 0, sum_col)
    for k in range(sum_at.size):
        for f in range(N):
            dw[w_row[k] + f] = sums[sum_row[f] + sum_at[k]] if f < F else none


@kernel
def input_gradient(
    dy, dy_row, winners, P, N, F, pixels, place, value, begin, end, w, start, right, down, w_col, dx, dx_row, dx_col,
    cuts, size,
):  # fmt: skip
    """dx (size,) from dy (P, N) and the filters `w`.

    What the first pixel of a window lays over the windows of all four, from dx_row[p] on, begins for filter f at
    w[start[f]]. The vectors from cuts[k] to cuts[k + 1] are taken at once.
    """
    L = lanes(dx)
    for i in range(0, size, L):
        store(dx, i, splat(dx, dx.dtype.type(0)))
    for p0 in range(0, P, pixels):
        p1 = min(p0 + pixels, P)
        n = pixels * N
        for p in range(p0, p1):
            i = (p - p0) * N
            for f in range(0, N, L):
                first = load_bits(start, f, splat(dx, dx.dtype.type(0)))
                _find(dy, dy_row[p] + f, winners, p * N + f, first, right, down, place, value, i + f)
            begin[p - p0] = n
            n = list_entries(place, value, i, i + F, 1, n)
            end[p - p0] = n
        for k in range(cuts.size - 1):
            j = cuts[k]
            gather_windows(cuts[k + 1] - j, w, w_col, j, place, value, begin, end, 1, p1 - p0, dx, dx_row, p0, dx_col)


@kernel
def pack_by_filter(w, tap, F, channel, N, b, length, b_row):
    """b (F, length): filter f of channel n and tap t at b_row[t] + n, which is w[tap[t] + channel[n] + f].

    There is none if channel[n] < 0.
    """
    for t in range(tap.size):
        for f in range(0, F, lanes(w)):
            for n in range(0, N, lanes(w)):
                store_transposed(w, tap[t] + f, channel, n, b, f * length + b_row[t] + n, length, F - f)
