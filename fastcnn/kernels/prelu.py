"""PReLU: rectifiers whose slopes below zero are trained, and the gradients of maps and slopes.

Shape legend: the rows of maps are lines of W pixels; a pixel is P numbers, a multiple of the vector's lanes, of which
the first C are channels. `slopes` (P,) has one for each. `block` lines are summed by themselves.
"""

from __future__ import annotations

from ..codegen.vector import fma, lanes, load, splat, store
from ..codegen.vector_math import where_positive
from ..jit.source import kernel


@kernel
def spread(slope, P, slopes):
    """slopes[:P] = slope[0]."""
    for c in range(0, P, lanes(slopes)):
        store(slopes, c, splat(slopes, slope[0]))


@kernel
def prelu(x, y, lines, W, P, slopes):
    """y = x where x > 0, else slopes · x."""
    for r in range(lines):
        i, o = x.rows[r], y.rows[r]
        for _ in range(W):
            for c in range(0, P, lanes(x.data)):
                v = load(x.data, i + c)
                store(y.data, o + c, where_positive(v, v, load(slopes, c) * v))
            i += P
            o += P


@kernel
def prelu_backward(x, dy, dx, lines, W, P, block, slopes, s, accumulate):
    """dx = dy where x > 0, else slopes · dy; s[:P] = Σ min(0, x) · dy, added to what is there if `accumulate`.

    One sweep for both. `s` (2, P): short sums round less, those of a block of lines join the others.
    """
    zero = splat(x.data, x.data.dtype.type(0))
    for c in range(0, P, lanes(x.data)):
        if not accumulate:
            store(s, c, zero)
    for first in range(0, lines, block):
        for c in range(P, 2 * P, lanes(x.data)):
            store(s, c, zero)
        for r in range(first, min(first + block, lines)):
            i, g, o = x.rows[r], dy.rows[r], dx.rows[r]
            for _ in range(W // 4):
                for c in range(0, P, lanes(x.data)):
                    slope, total = load(slopes, c), load(s, P + c)
                    for k in range(c, c + 4 * P, 2 * P):
                        v0, v1 = load(x.data, i + k), load(x.data, i + P + k)
                        d0, d1 = load(dy.data, g + k), load(dy.data, g + P + k)
                        store(dx.data, o + k, where_positive(v0, d0, slope * d0))
                        store(dx.data, o + P + k, where_positive(v1, d1, slope * d1))
                        total = total + fma(where_positive(v0, zero, v0), d0, where_positive(v1, zero, v1) * d1)
                    store(s, P + c, total)
                i += 4 * P
                g += 4 * P
                o += 4 * P
            for _ in range(W % 4):
                for c in range(0, P, lanes(x.data)):
                    v, d = load(x.data, i + c), load(dy.data, g + c)
                    store(dx.data, o + c, where_positive(v, d, load(slopes, c) * d))
                    store(s, P + c, fma(where_positive(v, zero, v), d, load(s, P + c)))
                i += P
                g += P
                o += P
        for c in range(0, P, lanes(x.data)):
            store(s, c, load(s, c) + load(s, P + c))


@kernel
def slope_gradient(s, C, shared, dslope):
    """dslope = the sums s (C,) of the channels; their sum, in order, if one slope is `shared` by all."""
    if shared:
        total = 0.0
        for c in range(C):
            total += float(s[c])
        dslope[0] = total
    else:
        for c in range(C):
            dslope[c] = s[c]
