"""Smooth rectifiers and their gradients: CELU, Softplus, Mish.

Shape legend: as in `activation.py`.
"""

from __future__ import annotations

from ..codegen import vector_math
from ..codegen.vector import splat
from ..jit.source import kernel
from .elementwise import apply, chain


@kernel
def celu(x, y, rows, length, alpha, rate, stream):
    """y = x where x > 0, else alpha · (e^(x · rate) - 1); rate = 1 / alpha."""
    constants = splat(x.data, alpha), splat(x.data, rate)
    apply(vector_math.celu, constants, x, y, rows, length, stream)


@kernel
def celu_backward(x, dy, dx, rows, length, alpha, rate, stream):
    """dx = dy where x > 0, else e^(x · rate) · dy."""
    constants = splat(x.data, alpha), splat(x.data, rate)
    chain(vector_math.celu_slope, constants, x, dy, dx, rows, length, stream)


@kernel
def softplus(x, y, rows, length, beta, width, threshold, stream):
    """y = x where beta · x > threshold, else log(1 + e^(beta · x)) · width; width = 1 / beta."""
    constants = splat(x.data, beta), splat(x.data, width), splat(x.data, threshold)
    apply(vector_math.softplus, constants, x, y, rows, length, stream)


@kernel
def softplus_backward(x, dy, dx, rows, length, beta, width, threshold, stream):
    """dx = dy where beta · x > threshold, else σ(beta · x) · dy."""
    constants = splat(x.data, beta), splat(x.data, width), splat(x.data, threshold)
    chain(vector_math.softplus_slope, constants, x, dy, dx, rows, length, stream)


@kernel
def mish(x, y, rows, length, stream):
    """y = x · tanh(log(1 + e^x))."""
    apply(vector_math.mish, (), x, y, rows, length, stream)


@kernel
def mish_backward(x, dy, dx, rows, length, stream):
    """dx = dy · (t + x · (1 - t²) · σ(x)), t = tanh(log(1 + e^x))."""
    chain(vector_math.mish_slope, (), x, dy, dx, rows, length, stream)
