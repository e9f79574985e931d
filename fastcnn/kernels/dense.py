"""Dense layers for a single example or two: the weights are read once, as they lie, line after line.

Packing them first, as the tiles of `product.py` want it, would cost more than the product.

Shape legend: y (n, N) = start (N,) + A (n, K) · W (K, N); A[i, k] = a[a_row[i] + a_col[k]], line k of W begins at
`w[w_row[k]]`, row i of y at `y[y_row[i]]`. N is a multiple of the vector's lanes.
"""

from __future__ import annotations

from .compiler import kernel
from .vector import fma, lanes, load, maximum, splat, store


@kernel
def few_rows(a, a_row, n, a_col, K, w, w_row, y, y_row, N, start, floor):
    """y = max(floor, start + A · W); the sums in the order of `product`, so with the same bits."""
    L = lanes(a)
    for i in range(n):
        if 8 * L > N:
            for c in range(0, N, L):
                _one(a, a_row[i], a_col, K, w, w_row, c, y, y_row[i] + c, start, floor)
            continue
        for c0 in range(0, N, 8 * L):
            c = min(c0, N - 8 * L)  # the last eight overlap those before
            _eight(a, a_row[i], a_col, K, w, w_row, c, y, y_row[i] + c, start, floor)


@kernel
def _eight(a, a0, a_col, K, w, w_row, c, y, o, start, floor):
    """Eight vectors of a row of y."""
    L = lanes(a)
    low = splat(a, floor)
    s0, s1, s2, s3 = load(start, c), load(start, c + L), load(start, c + 2 * L), load(start, c + 3 * L)
    s4, s5, s6, s7 = load(start, c + 4 * L), load(start, c + 5 * L), load(start, c + 6 * L), load(start, c + 7 * L)
    for k in range(K):
        v, q = splat(a, a[a0 + a_col[k]]), w_row[k] + c
        s0, s1 = fma(v, load(w, q), s0), fma(v, load(w, q + L), s1)
        s2, s3 = fma(v, load(w, q + 2 * L), s2), fma(v, load(w, q + 3 * L), s3)
        s4, s5 = fma(v, load(w, q + 4 * L), s4), fma(v, load(w, q + 5 * L), s5)
        s6, s7 = fma(v, load(w, q + 6 * L), s6), fma(v, load(w, q + 7 * L), s7)
    store(y, o, maximum(low, s0))
    store(y, o + L, maximum(low, s1))
    store(y, o + 2 * L, maximum(low, s2))
    store(y, o + 3 * L, maximum(low, s3))
    store(y, o + 4 * L, maximum(low, s4))
    store(y, o + 5 * L, maximum(low, s5))
    store(y, o + 6 * L, maximum(low, s6))
    store(y, o + 7 * L, maximum(low, s7))


@kernel
def _one(a, a0, a_col, K, w, w_row, c, y, o, start, floor):
    """One vector of a row of y."""
    total = load(start, c)
    for k in range(K):
        total = fma(splat(a, a[a0 + a_col[k]]), load(w, w_row[k] + c), total)
    store(y, o, maximum(splat(a, floor), total))
