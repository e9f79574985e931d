"""The gradients of a convolution behind a max-pooling 2 x 2: of the four pixels of a window, one has a gradient.

So a quarter of the products is enough: a step of LeNet-5 takes 1.64 times as long without it. What a filter has in a
pooled pixel is an entry (see `codegen/gather.py`): the gradient, 0 in a dead unit, and a place that depends on which
pixel has won. For the filter gradient, that is where the winner's window of the input begins; all entries of a filter
are a group, which sums what they see. For the input gradient it is a place in the filter, of which every winner's
window is a part if there are zeros around it; all entries of a pooled pixel are a group, which sums the filters that
lie there.

Shape legend: P pooled pixels of N numbers, the first F of them filters; J vectors of a window. Entries are scratch
for those of as many pixels as are taken at once, `pixels`, and for a list of those that count.
"""

from __future__ import annotations

from ..codegen.blocking import WINDOW
from ..codegen.gather import gather_windows, list_entries
from ..codegen.vector import lanes, load, splat, store
from ..codegen.vector_bits import add_where, keep_where, load_bits, splat_bits, store_bits, store_transposed
from ..jit.source import kernel, macro


@macro
def _find(dy, o, b, start, right, down, entries, i):
    """Write one vector of entries, and return their numbers: `start` is the place of the first pixel of the window.

    That of the others is so much further to the right, or down; bit 1, 2, 4 or 8 of `argmax` says which one won.
    """
    number = load(dy.data, o)
    bits = load_bits(dy.argmax, b, number)
    number = keep_where(number, bits, 15)
    store_bits(entries.place, i, add_where(add_where(start, bits, 10, right), bits, 12, down))
    store(entries.value, i, number)
    return number


@kernel
def filter_gradient(x, right, down, dy, P, N, F, pixels, entries, sums, dw, dbias):
    """dw (K, N) and dbias (N,) from x and dy (P, N); the window of the first pixel of p begins at `x.rows[p]`."""
    J, L, none = x.columns.size, lanes(x.data), x.data.dtype.type(0)
    parts = (J + WINDOW - 1) // WINDOW
    for i in range(0, F * J * L, L):
        store(sums.data, i, splat(x.data, none))
    for f in range(N):
        dbias[f] = none
    for p0 in range(0, P, pixels):
        p1 = min(p0 + pixels, P)
        count = (p1 - p0) * N
        for f in range(0, N, L):
            total = load(dbias, f)
            for p in range(p0, p1):
                start, i = splat_bits(total, x.rows[p]), (p - p0) * N + f
                total = total + _find(dy, dy.rows[p] + f, p * N + f, start, right, down, entries, i)
            store(dbias, f, total)
        if parts == 1:
            for f in range(F):
                entries.begin[f], entries.end[f] = f, count
            gather_windows(J, 0, x, entries, N, F, sums, 0)
            continue
        n = pixels * N
        for f in range(F):
            entries.begin[f] = n
            n = list_entries(entries, f, count, N, n)
            entries.end[f] = n
        for part in range(parts):
            j, last = part * J // parts, (part + 1) * J // parts
            gather_windows(last - j, j, x, entries, 1, F, sums, 0)
    for k in range(sums.taps.size):
        for f in range(N):
            dw.data[dw.rows[k] + f] = sums.data[sums.rows[f] + sums.taps[k]] if f < F else none


@kernel
def input_gradient(dy, P, N, F, pixels, entries, w, right, down, dx, cuts, size):
    """dx (size,) from dy (P, N) and the filters `w`.

    Row f of w is filter f as the window's first pixel adds it to row p of dx. The vectors from cuts[k] to cuts[k + 1]
    are taken at once.
    """
    L = lanes(dx.data)
    zero = splat(dx.data, dx.data.dtype.type(0))
    for i in range(0, size, L):
        store(dx.data, i, zero)
    for p0 in range(0, P, pixels):
        p1 = min(p0 + pixels, P)
        n = pixels * N
        for p in range(p0, p1):
            i = (p - p0) * N
            for f in range(0, N, L):
                first = load_bits(w.rows, f, zero)
                _find(dy, dy.rows[p] + f, p * N + f, first, right, down, entries, i + f)
            entries.begin[p - p0] = n
            n = list_entries(entries, i, i + F, 1, n)
            entries.end[p - p0] = n
        for k in range(cuts.size - 1):
            j = cuts[k]
            gather_windows(cuts[k + 1] - j, j, w, entries, 1, p1 - p0, dx, p0)


@kernel
def pack_by_filter(w, F, b, length):
    """b (F, length): filter f of channel n and tap t at `b.rows[t] + n`; it is w.data[w.rows[t] + w.columns[n] + f].

    There is none if `w.columns[n]` is negative.
    """
    for t in range(w.rows.size):
        for f in range(0, F, lanes(w.data)):
            for n in range(0, w.columns.size, lanes(w.data)):
                o = f * length + b.rows[t] + n
                store_transposed(w.data, w.rows[t] + f, w.columns, n, b.data, o, length, F - f)
