"""Loops over maps that are computed number by number: a function of vectors, and its gradient.

Shape legend: as in `activation.py`. `constants` are a tuple of vectors, behind the number in the function's arguments.
"""

from __future__ import annotations

from ..codegen.vector import lanes, load, store_or_stream
from ..jit.source import macro


@macro
def apply(function, constants, x, y, rows, length, stream):
    """y = function(x)."""
    for r in range(rows):
        i, o = x.rows[r], y.rows[r]
        for k in range(0, length, lanes(x.data)):
            store_or_stream(y.data, o + k, function(load(x.data, i + k), *constants), stream)


@macro
def chain(slope, constants, x, dy, dx, rows, length, stream):
    """dx = dy · slope(x)."""
    for r in range(rows):
        i, g, o = x.rows[r], dy.rows[r], dx.rows[r]
        for k in range(0, length, lanes(dy.data)):
            store_or_stream(dx.data, o + k, load(dy.data, g + k) * slope(load(x.data, i + k), *constants), stream)
