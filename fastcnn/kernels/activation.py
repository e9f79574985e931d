"""Elementwise activations and their gradients.

Shape legend: `rows` runs of `length` numbers (a multiple of the vector's lanes) that begin where the `_row` tables say:
the lines of an image, halos left out. With `past`, what is written goes past the caches.
"""

from __future__ import annotations

import math

from numba.extending import register_jitable

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
    put,
    splat,
    splat_sixteen,
    store,
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
from ..jit.source import kernel

TANH_SCALE, TANH_CUBE = math.sqrt(8 / math.pi), 0.044715  # of the approximation of GELU: twice √(2/π)
FAR = 9.0  # where the slope of that approximation is 0 or 1 to the last bit, and 2u is within GATE


inlined = register_jitable(inline="always")  # a call would count references to the arrays, for every vector


@inlined
def _apply(function, x, x_row, y, y_row, rows, length, past):
    """y = function(x)."""
    for r in range(rows):
        i, o = x_row[r], y_row[r]
        for k in range(0, length, lanes(x)):
            put(y, o + k, function(load(x, i + k)), past)


@inlined
def _chain(slope, x, x_row, dy, dy_row, dx, dx_row, rows, length, past):
    """dx = dy · slope(x)."""
    for r in range(rows):
        i, g, o = x_row[r], dy_row[r], dx_row[r]
        for k in range(0, length, lanes(dy)):
            put(dx, o + k, load(dy, g + k) * slope(load(x, i + k)), past)


@kernel
def relu(x, x_row, y, y_row, rows, length, past):
    """y = max(0, x)."""
    zero = splat(x, x.dtype.type(0))
    for r in range(rows):
        i, o = x_row[r], y_row[r]
        for k in range(0, length, lanes(x)):
            put(y, o + k, maximum(zero, load(x, i + k)), past)


@kernel
def relu_backward(y, y_row, dy, dy_row, dx, dx_row, rows, length, past):
    """dx = dy where y > 0, else 0."""
    for r in range(rows):
        i, g, o = y_row[r], dy_row[r], dx_row[r]
        for k in range(0, length, lanes(dy)):
            put(dx, o + k, keep_positive(load(dy, g + k), load(y, i + k)), past)


@kernel
def leaky_relu(x, x_row, y, y_row, rows, length, parameter, past):
    """y = x where x > 0, else slope · x."""
    slope = splat(x, parameter)
    for r in range(rows):
        i, o = x_row[r], y_row[r]
        for k in range(0, length, lanes(x)):
            v = load(x, i + k)
            put(y, o + k, where_positive(v, v, slope * v), past)


@kernel
def leaky_relu_backward(x, x_row, dy, dy_row, dx, dx_row, rows, length, parameter, past):
    """dx = dy where x > 0, else slope · dy."""
    slope = splat(x, parameter)
    for r in range(rows):
        i, g, o = x_row[r], dy_row[r], dx_row[r]
        for k in range(0, length, lanes(dy)):
            d = load(dy, g + k)
            put(dx, o + k, where_positive(load(x, i + k), d, slope * d), past)


@kernel
def elu(x, x_row, y, y_row, rows, length, parameter, past):
    """y = x where x > 0, else alpha · (e^x - 1)."""
    alpha = splat(x, parameter)
    for r in range(rows):
        i, o = x_row[r], y_row[r]
        for k in range(0, length, lanes(x)):
            v = load(x, i + k)
            below = alpha * expm1_negative(v)
            put(y, o + k, where_positive(v, v, below), past)


@kernel
def elu_backward(x, x_row, dy, dy_row, dx, dx_row, rows, length, parameter, past):
    """dx = dy where x > 0, else alpha · e^x · dy."""
    alpha = splat(x, parameter)
    for r in range(rows):
        i, g, o = x_row[r], dy_row[r], dx_row[r]
        for k in range(0, length, lanes(dy)):
            v, d = load(x, i + k), load(dy, g + k)
            below = alpha * exp_negative(v) * d
            put(dx, o + k, where_positive(v, d, below), past)


@kernel
def gelu(x, x_row, y, y_row, rows, length, past):
    """y = x · Φ(x)."""
    _apply(normal_gated, x, x_row, y, y_row, rows, length, past)


@kernel
def gelu_backward(x, x_row, dy, dy_row, dx, dx_row, rows, length, past):
    """dx = dy · (Φ(x) + x · φ(x))."""
    _chain(normal_gated_slope, x, x_row, dy, dy_row, dx, dx_row, rows, length, past)


@kernel
def gelu_tanh(x, x_row, y, y_row, rows, length, past):
    """y = x · (1 + tanh(u)) / 2 = x / (1 + e^(-2u)), u = √(2/π) · (x + 0.044715 · x³)."""
    scale = splat(x, x.dtype.type(-TANH_SCALE))
    cube = splat(x, x.dtype.type(-TANH_SCALE * TANH_CUBE))
    for r in range(rows):
        i, o = x_row[r], y_row[r]
        for k in range(0, length, lanes(x)):
            v = load(x, i + k)
            put(y, o + k, over_one_plus_exp(v, v * fma(cube, v * v, scale)), past)


@kernel
def gelu_tanh_backward(x, x_row, dy, dy_row, dx, dx_row, rows, length, past):
    """dx = dy · (σ(2u) + x · σ'(2u) · 2u'), u as in `gelu_tanh`."""
    scale = splat(x, x.dtype.type(TANH_SCALE))
    cube = splat(x, x.dtype.type(TANH_SCALE * TANH_CUBE))
    triple = splat(x, x.dtype.type(3 * TANH_SCALE * TANH_CUBE))
    low = splat(x, x.dtype.type(-FAR))
    high = splat(x, x.dtype.type(FAR))
    for r in range(rows):
        i, g, o = x_row[r], dy_row[r], dx_row[r]
        for k in range(0, length, lanes(dy)):
            v = clamp(load(x, i + k), low, high)
            square = v * v
            slope = gated_slope(v * fma(cube, square, scale), v * fma(triple, square, scale))
            put(dx, o + k, load(dy, g + k) * slope, past)


@kernel
def silu(x, x_row, y, y_row, rows, length, past):
    """y = x · σ(x)."""
    _apply(self_gated, x, x_row, y, y_row, rows, length, past)


@kernel
def silu_backward(x, x_row, dy, dy_row, dx, dx_row, rows, length, past):
    """dx = dy · (σ(x) + x · σ'(x))."""
    _chain(self_gated_slope, x, x_row, dy, dy_row, dx, dx_row, rows, length, past)


@kernel
def sigmoid(x, x_row, y, y_row, rows, length, past):
    """y = σ(x)."""
    _apply(logistic, x, x_row, y, y_row, rows, length, past)


@kernel
def sigmoid_backward(y, y_row, dy, dy_row, dx, dx_row, rows, length, past):
    """dx = dy · y · (1 - y)."""
    _chain(logistic_slope, y, y_row, dy, dy_row, dx, dx_row, rows, length, past)


@kernel
def hyperbolic_tangent(x, x_row, y, y_row, rows, length, past):
    """y = tanh(x)."""
    _apply(tanh, x, x_row, y, y_row, rows, length, past)


@kernel
def hyperbolic_tangent_backward(y, y_row, dy, dy_row, dx, dx_row, rows, length, past):
    """dx = dy · (1 - y²)."""
    _chain(tanh_slope, y, y_row, dy, dy_row, dx, dx_row, rows, length, past)


@kernel
def copy(x, x_row, y, y_row, rows, length, past):
    """y = x."""
    for r in range(rows):
        i, o = x_row[r], y_row[r]
        for k in range(0, length, lanes(x)):
            put(y, o + k, load(x, i + k), past)


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
def channel_softmax(x, x_row, n, channels, y, y_row, scratch, past):
    """y = softmax(x) along the channels of n pixels.

    Three passes over SOFTMAX pixels, so that one pixel's sums need not be waited for: the largest number of each,
    the exponentials, the quotients. Memory is asked meanwhile for pixels to come. `scratch` (SOFTMAX, lanes + channels
    in whole vectors): a pixel's largest number, its exponentials.
    """
    low = splat(x, x.dtype.type(-math.inf))
    whole = channels - channels % lanes(x)
    size = lanes(x) + (channels + lanes(x) - 1) // lanes(x) * lanes(x)
    for first in range(0, n, SOFTMAX):
        count = min(SOFTMAX, n - first)
        for i in range(count):
            r, top = x_row[first + i], low
            for k in range(0, whole, lanes(x)):
                top = maximum(top, load(x, r + k))
            if whole < channels:
                top = maximum(top, first_lanes(load(x, r + whole), channels - whole, low))
            store(scratch, i * size, splat(x, largest_lane(top)))
        for i in range(count):
            r, s, largest = x_row[first + i], i * size + lanes(x), load(scratch, i * size)
            for k in range(0, whole, lanes(x)):
                prefetch(x, r + k + 2 * SOFTMAX * channels)
                store(scratch, s + k, exp_short(load(x, r + k) - largest))
            if whole < channels:
                rest = first_lanes(load(x, r + whole), channels - whole, low)
                store(scratch, s + whole, exp_short(rest - largest))
        for i in range(count):
            o, s = y_row[first + i], i * size + lanes(x)
            factor = splat(x, x.dtype.type(1) / _sum(scratch, s, channels))
            for k in range(0, channels, lanes(x)):
                put(y, o + k, factor * load(scratch, s + k), past)


@kernel
def channel_softmax_backward(y, y_row, dy, dy_row, n, channels, dx, dx_row, past):
    """dx = y · (dy - Σ y · dy); y and dy are zero behind the channels."""
    for i in range(n):
        s, g, o = y_row[i], dy_row[i], dx_row[i]
        expected = splat(y, _sum_of_products(y, s, dy, g, channels))
        for k in range(0, channels, lanes(y)):
            put(dx, o + k, load(y, s + k) * (load(dy, g + k) - expected), past)
