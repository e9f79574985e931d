"""Activations of straight and clipped pieces, and their gradients: ReLU6, HardSigmoid, HardSwish.

Shape legend: as in `activation.py`.
"""

from __future__ import annotations

from ..codegen import vector_math
from ..codegen.vector import lanes, load, splat, store_or_stream
from ..jit.source import kernel
from .elementwise import apply, chain


@kernel
def clip(x, y, rows, length, low, high, stream):
    """y = x, between low and high."""
    apply(vector_math.clamp, (splat(x.data, low), splat(x.data, high)), x, y, rows, length, stream)


@kernel
def clip_backward(y, dy, dx, rows, length, low, high, stream):
    """dx = dy where low < y < high, else 0."""
    low_, high_ = splat(y.data, low), splat(y.data, high)
    for r in range(rows):
        i, g, o = y.rows[r], dy.rows[r], dx.rows[r]
        for k in range(0, length, lanes(dy.data)):
            kept = vector_math.keep_between(load(dy.data, g + k), load(y.data, i + k), low_, high_)
            store_or_stream(dx.data, o + k, kept, stream)


@kernel
def hard_sigmoid(x, y, rows, length, stream):
    """y = (x + 3) / 6, between 0 and 1."""
    apply(vector_math.hard_sigmoid, (), x, y, rows, length, stream)


@kernel
def hard_sigmoid_backward(x, dy, dx, rows, length, stream):
    """dx = dy / 6 where -3 < x < 3, else 0."""
    chain(vector_math.hard_sigmoid_slope, (), x, dy, dx, rows, length, stream)


@kernel
def hard_swish(x, y, rows, length, stream):
    """y = x · (x + 3) / 6 where -3 < x < 3; 0 below, x above."""
    apply(vector_math.hard_swish, (), x, y, rows, length, stream)


@kernel
def hard_swish_backward(x, dy, dx, rows, length, stream):
    """dx = dy · (x / 3 + 1 / 2) where -3 < x < 3; 0 below, dy above."""
    chain(vector_math.hard_swish_slope, (), x, dy, dx, rows, length, stream)
