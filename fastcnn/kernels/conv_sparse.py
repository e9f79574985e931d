"""The gradients of a convolution behind a max-pooling 2 x 2: of the four pixels of a window, one has a gradient.

So a quarter of the products is enough. Filter by filter, the pooled pixels that are alive become entries (see
`sparse.py`): their gradient, and where the window of the pixel that won begins.

Shape legend: P pooled pixels of N numbers, the first F of them filters; J vectors of a window; `place` and `value` are
scratch for as many entries as are taken at once, `pixels`.
"""

from __future__ import annotations

from .blocking import WINDOW
from .compiler import kernel
from .sparse import gather_entries, gather_windows, list_entries, scatter_windows
from .vector import lanes, splat, store
from .vector_bits import store_transposed


@kernel
def filter_gradient(
    x, x_row, x_col, dy, dy_row, winners, P, N, F, pixels, place, value, sums, sum_at, dw, w_row, dbias,
):  # fmt: skip
    """dw (K, N) and dbias (N,) from x and dy (P, N); `sums` (F, J · lanes) has tap k of a filter at sum_at[k]."""
    J, L, none = x_col.size, lanes(x), x.dtype.type(0)
    parts = (J + WINDOW - 1) // WINDOW
    for i in range(0, F * J * L, L):
        store(sums, i, splat(x, none))
    for f in range(N):
        dbias[f] = none
    for p0 in range(0, P, pixels):
        for f in range(F):
            p1 = min(p0 + pixels, P)
            if parts == 1:
                dbias[f] += gather_entries(J, x, x_col, 0, dy, dy_row, winners, p0, p1, N, f, x_row, sums, f * J * L)
                continue
            n, total = list_entries(dy, dy_row, winners, p0, p1, N, f, x_row, place, value)
            dbias[f] += total
            for part in range(parts):
                j, end = part * J // parts, (part + 1) * J // parts
                gather_windows(end - j, x, x_col, j, place, value, n, sums, (f * J + j) * L)
    for k in range(sum_at.size):
        for f in range(N):
            dw[w_row[k] + f] = sums[f * J * L + sum_at[k]] if f < F else none


@kernel
def input_gradient(dy, dy_row, winners, P, N, F, pixels, place, value, w, dx, dx_row, dx_col, size):
    """dx (size,) from dy (P, N) and the filters `w` (F, J · lanes)."""
    J, L = dx_col.size, lanes(dx)
    parts = (J + WINDOW - 1) // WINDOW
    for i in range(0, size, L):
        store(dx, i, splat(dx, dx.dtype.type(0)))
    for p0 in range(0, P, pixels):
        for f in range(F):
            n, _ = list_entries(dy, dy_row, winners, p0, min(p0 + pixels, P), N, f, dx_row, place, value)
            for part in range(parts):
                j, end = part * J // parts, (part + 1) * J // parts
                scatter_windows(end - j, dx, dx_col, j, place, value, n, w, (f * J + j) * L)


@kernel
def pack_by_filter(w, tap, F, channel, N, b):
    """b (F, taps · N): filter f of channel n and tap t, which is w[tap[t] + channel[n] + f]; none if channel[n] < 0."""
    length = tap.size * N
    for t in range(tap.size):
        for f in range(0, F, lanes(w)):
            for n in range(0, N, lanes(w)):
                store_transposed(w, tap[t] + f, channel, n, b, f * length + t * N + n, length, F - f)
