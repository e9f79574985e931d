"""Elementwise activations and their gradients.

Shape legend: `rows` rows of maps, the lines of an image without its halo, of `length` numbers (a multiple of the
vector's lanes). With `stream`, stores go past the caches.
"""

from __future__ import annotations

import math

from ..codegen.blocking import SOFTMAX
from ..codegen.vector import (
    first_lanes,
    fma,
    keep_positive,
    lanes,
    lanes_like,
    largest_lane,
    load,
    load_first,
    maximum,
    prefetch,
    splat,
    splat_sixteen,
    store,
    store_or_stream,
    sum_of_lanes,
)
from ..codegen.vector_math import (
    clamp,
    exp_negative,
    exp_short,
    expm1_negative,
    gated_slope,
    logistic,
    logistic_slope,
    normal_gated,
    normal_gated_slope,
    over_one_plus_exp,
    self_gated,
    self_gated_slope,
    tanh,
    tanh_slope,
    where_positive,
)
from ..jit.source import kernel, macro
from .elementwise import apply, chain

# GELU by tanh (Hendrycks and Gimpel, "Gaussian error linear units", 2016) is x · σ(2u), 2u = SCALE · (x + CUBE · x³).
TANH_SCALE, TANH_CUBE = math.sqrt(8 / math.pi), 0.044715
FAR = 9.0  # where the slope of that approximation is 0 or 1 to the last bit, and 2u is within GATE


@macro
def _leaky(v, slope):
    return where_positive(v, v, slope * v)


@macro
def _leaky_slope(v, slope, one):
    return where_positive(v, one, slope)


@macro
def _elu(v, alpha):
    return where_positive(v, v, alpha * expm1_negative(v))


@macro
def _elu_slope(v, alpha, one):
    return where_positive(v, one, alpha * exp_negative(v))


@macro
def _gelu_tanh(v, scale, cube):
    return over_one_plus_exp(v, v * fma(cube, v * v, scale))


@macro
def _gelu_tanh_slope(v, scale, cube, triple, low, high):
    v = clamp(v, low, high)
    square = v * v
    return gated_slope(v * fma(cube, square, scale), v * fma(triple, square, scale))


@kernel
def relu(x, y, rows, length, stream):
    """y = max(0, x)."""
    zero = splat(x.data, x.data.dtype.type(0))
    for r in range(rows):
        i, o = x.rows[r], y.rows[r]
        for k in range(0, length, lanes(x.data)):
            store_or_stream(y.data, o + k, maximum(zero, load(x.data, i + k)), stream)


@kernel
def relu_backward(y, dy, dx, rows, length, stream):
    """dx = dy where y > 0, else 0."""
    for r in range(rows):
        i, g, o = y.rows[r], dy.rows[r], dx.rows[r]
        for k in range(0, length, lanes(dy.data)):
            store_or_stream(dx.data, o + k, keep_positive(load(dy.data, g + k), load(y.data, i + k)), stream)


@kernel
def leaky_relu(x, y, rows, length, parameter, stream):
    """y = x where x > 0, else slope · x."""
    apply(_leaky, (splat(x.data, parameter),), x, y, rows, length, stream)


@kernel
def leaky_relu_backward(x, dy, dx, rows, length, parameter, stream):
    """dx = dy where x > 0, else slope · dy."""
    constants = splat(x.data, parameter), splat(x.data, x.data.dtype.type(1))
    chain(_leaky_slope, constants, x, dy, dx, rows, length, stream)


@kernel
def elu(x, y, rows, length, parameter, stream):
    """y = x where x > 0, else alpha · (e^x - 1)."""
    apply(_elu, (splat(x.data, parameter),), x, y, rows, length, stream)


@kernel
def elu_backward(x, dy, dx, rows, length, parameter, stream):
    """dx = dy where x > 0, else alpha · e^x · dy."""
    constants = splat(x.data, parameter), splat(x.data, x.data.dtype.type(1))
    chain(_elu_slope, constants, x, dy, dx, rows, length, stream)


@kernel
def gelu(x, y, rows, length, stream):
    """y = x · Φ(x)."""
    apply(normal_gated, (), x, y, rows, length, stream)


@kernel
def gelu_backward(x, dy, dx, rows, length, stream):
    """dx = dy · (Φ(x) + x · φ(x))."""
    chain(normal_gated_slope, (), x, dy, dx, rows, length, stream)


@kernel
def gelu_tanh(x, y, rows, length, stream):
    """y = x · (1 + tanh(u)) / 2 = x / (1 + e^(-2u)), u = √(2/π) · (x + 0.044715 · x³)."""
    scale = splat(x.data, x.data.dtype.type(-TANH_SCALE))
    cube = splat(x.data, x.data.dtype.type(-TANH_SCALE * TANH_CUBE))
    apply(_gelu_tanh, (scale, cube), x, y, rows, length, stream)


@kernel
def gelu_tanh_backward(x, dy, dx, rows, length, stream):
    """dx = dy · (σ(2u) + x · σ'(2u) · 2u'), u as in `gelu_tanh`."""
    scale = splat(x.data, x.data.dtype.type(TANH_SCALE))
    cube = splat(x.data, x.data.dtype.type(TANH_SCALE * TANH_CUBE))
    triple = splat(x.data, x.data.dtype.type(3 * TANH_SCALE * TANH_CUBE))
    low = splat(x.data, x.data.dtype.type(-FAR))
    high = splat(x.data, x.data.dtype.type(FAR))
    chain(_gelu_tanh_slope, (scale, cube, triple, low, high), x, dy, dx, rows, length, stream)


@kernel
def silu(x, y, rows, length, stream):
    """y = x · σ(x)."""
    apply(self_gated, (), x, y, rows, length, stream)


@kernel
def silu_backward(x, dy, dx, rows, length, stream):
    """dx = dy · (σ(x) + x · σ'(x))."""
    chain(self_gated_slope, (), x, dy, dx, rows, length, stream)


@kernel
def sigmoid(x, y, rows, length, stream):
    """y = σ(x)."""
    apply(logistic, (), x, y, rows, length, stream)


@kernel
def sigmoid_backward(y, dy, dx, rows, length, stream):
    """dx = dy · y · (1 - y)."""
    chain(logistic_slope, (), y, dy, dx, rows, length, stream)


@kernel
def hyperbolic_tangent(x, y, rows, length, stream):
    """y = tanh(x)."""
    apply(tanh, (), x, y, rows, length, stream)


@kernel
def hyperbolic_tangent_backward(y, dy, dx, rows, length, stream):
    """dx = dy · (1 - y²)."""
    chain(tanh_slope, (), y, dy, dx, rows, length, stream)


@kernel
def copy(x, y, rows, length, stream):
    """y = x."""
    for r in range(rows):
        i, o = x.rows[r], y.rows[r]
        for k in range(0, length, lanes(x.data)):
            store_or_stream(y.data, o + k, load(x.data, i + k), stream)


@kernel
def _sum(a, i, count):
    """Σ a[i : i + count]; behind these numbers, to the end of the register, there are zeros."""
    if count <= lanes(a):
        return sum_of_lanes(load(a, i))  # what sixteen lanes would give
    total = zero = splat_sixteen(a, a.dtype.type(0))
    for k in range(0, count, lanes_like(zero)):
        total = total + load_first(zero, a, i + k, count - k)
    return sum_of_lanes(total)


@kernel
def _sum_of_products(a, i, b, j, count):
    """Σ a[i : i + count] · b[j : j + count], likewise."""
    if count <= lanes(a):
        return sum_of_lanes(load(a, i) * load(b, j))
    total = zero = splat_sixteen(a, a.dtype.type(0))
    for k in range(0, count, lanes_like(zero)):
        total = fma(load_first(zero, a, i + k, count - k), load_first(zero, b, j + k, count - k), total)
    return sum_of_lanes(total)


@kernel
def channel_softmax(x, n, channels, y, scratch, stream):
    """y = softmax(x) along the channels of n pixels.

    Three passes over SOFTMAX pixels, so that one pixel's sums need not be waited for: the largest number of each,
    the exponentials, the quotients. Pixels to come are prefetched meanwhile. `scratch` (SOFTMAX, lanes + channels
    in whole vectors): a pixel's largest number, its exponentials.
    """
    low = splat(x.data, x.data.dtype.type(-math.inf))
    whole = channels - channels % lanes(x.data)
    size = lanes(x.data) + (channels + lanes(x.data) - 1) // lanes(x.data) * lanes(x.data)
    for first in range(0, n, SOFTMAX):
        count = min(SOFTMAX, n - first)
        for i in range(count):
            r, top = x.rows[first + i], low
            for k in range(0, whole, lanes(x.data)):
                top = maximum(top, load(x.data, r + k))
            if whole < channels:
                top = maximum(top, first_lanes(load(x.data, r + whole), channels - whole, low))
            store(scratch, i * size, splat(x.data, largest_lane(top)))
        for i in range(count):
            r, s, largest = x.rows[first + i], i * size + lanes(x.data), load(scratch, i * size)
            for k in range(0, whole, lanes(x.data)):
                prefetch(x.data, r + k + 2 * SOFTMAX * channels)
                store(scratch, s + k, exp_short(load(x.data, r + k) - largest))
            if whole < channels:
                rest = first_lanes(load(x.data, r + whole), channels - whole, low)
                store(scratch, s + whole, exp_short(rest - largest))
        for i in range(count):
            o, s = y.rows[first + i], i * size + lanes(x.data)
            factor = splat(x.data, x.data.dtype.type(1) / _sum(scratch, s, channels))
            for k in range(0, channels, lanes(x.data)):
                store_or_stream(y.data, o + k, factor * load(scratch, s + k), stream)


@kernel
def channel_softmax_backward(y, dy, n, channels, dx, stream):
    """dx = y · (dy - Σ y · dy); y and dy are zero behind the channels."""
    for i in range(n):
        s, g, o = y.rows[i], dy.rows[i], dx.rows[i]
        expected = splat(y.data, _sum_of_products(y.data, s, dy.data, g, channels))
        for k in range(0, channels, lanes(y.data)):
            store_or_stream(dx.data, o + k, load(y.data, s + k) * (load(dy.data, g + k) - expected), stream)
