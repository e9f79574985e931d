"""Elementwise activations and their gradients.

Shape legend: `rows` runs of `length` numbers (a multiple of the vector's lanes) that begin where the `_row` tables say:
the lines of an image, halos left out. With `past`, what is written goes past the caches.
"""

from __future__ import annotations

import math

from .cache import kernel
from .vector import fma, keep_positive, lanes, load, maximum, put, splat
from .vector_math import (
    clamp,
    exp_negative,
    expm1_negative,
    logistic,
    logistic_beside_slope,
    logistic_slope,
    normal_density,
    normal_distribution,
    tanh,
    where_positive,
)

TANH_SCALE, TANH_CUBE = math.sqrt(8 / math.pi), 0.044715  # of the approximation of GELU: twice √(2/π)
FAR = 1e4  # where the slope of that approximation is 0 or 1 to the last bit, and its square is still finite


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
    for r in range(rows):
        i, o = x_row[r], y_row[r]
        for k in range(0, length, lanes(x)):
            v = load(x, i + k)
            put(y, o + k, v * normal_distribution(v), past)


@kernel
def gelu_backward(x, x_row, dy, dy_row, dx, dx_row, rows, length, past):
    """dx = dy · (Φ(x) + x · φ(x))."""
    for r in range(rows):
        i, g, o = x_row[r], dy_row[r], dx_row[r]
        for k in range(0, length, lanes(dy)):
            v = load(x, i + k)
            slope = fma(v, normal_density(v), normal_distribution(v))
            put(dx, o + k, load(dy, g + k) * slope, past)


@kernel
def gelu_tanh(x, x_row, y, y_row, rows, length, past):
    """y = x · (1 + tanh(u)) / 2 = x · σ(2u), u = √(2/π) · (x + 0.044715 · x³)."""
    scale = splat(x, x.dtype.type(TANH_SCALE))
    cube = splat(x, x.dtype.type(TANH_SCALE * TANH_CUBE))
    for r in range(rows):
        i, o = x_row[r], y_row[r]
        for k in range(0, length, lanes(x)):
            v = load(x, i + k)
            put(y, o + k, v * logistic(v * fma(cube, v * v, scale)), past)


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
            u = v * fma(cube, square, scale)
            slope = fma(v * fma(triple, square, scale), logistic_slope(u), logistic_beside_slope(u))
            put(dx, o + k, load(dy, g + k) * slope, past)


@kernel
def silu(x, x_row, y, y_row, rows, length, past):
    """y = x · σ(x)."""
    for r in range(rows):
        i, o = x_row[r], y_row[r]
        for k in range(0, length, lanes(x)):
            v = load(x, i + k)
            put(y, o + k, v * logistic(v), past)


@kernel
def silu_backward(x, x_row, dy, dy_row, dx, dx_row, rows, length, past):
    """dx = dy · (σ(x) + x · σ'(x))."""
    for r in range(rows):
        i, g, o = x_row[r], dy_row[r], dx_row[r]
        for k in range(0, length, lanes(dy)):
            v = load(x, i + k)
            slope = fma(v, logistic_slope(v), logistic_beside_slope(v))
            put(dx, o + k, load(dy, g + k) * slope, past)


@kernel
def sigmoid(x, x_row, y, y_row, rows, length, past):
    """y = σ(x)."""
    for r in range(rows):
        i, o = x_row[r], y_row[r]
        for k in range(0, length, lanes(x)):
            put(y, o + k, logistic(load(x, i + k)), past)


@kernel
def sigmoid_backward(y, y_row, dy, dy_row, dx, dx_row, rows, length, past):
    """dx = dy · y · (1 - y)."""
    one = splat(y, y.dtype.type(1))
    for r in range(rows):
        i, g, o = y_row[r], dy_row[r], dx_row[r]
        for k in range(0, length, lanes(dy)):
            v = load(y, i + k)
            put(dx, o + k, load(dy, g + k) * (v * (one - v)), past)


@kernel
def hyperbolic_tangent(x, x_row, y, y_row, rows, length, past):
    """y = tanh(x)."""
    for r in range(rows):
        i, o = x_row[r], y_row[r]
        for k in range(0, length, lanes(x)):
            put(y, o + k, tanh(load(x, i + k)), past)


@kernel
def hyperbolic_tangent_backward(y, y_row, dy, dy_row, dx, dx_row, rows, length, past):
    """dx = dy · (1 - y²)."""
    one = splat(y, y.dtype.type(1))
    for r in range(rows):
        i, g, o = y_row[r], dy_row[r], dx_row[r]
        for k in range(0, length, lanes(dy)):
            v = load(y, i + k)
            put(dx, o + k, load(dy, g + k) * (one - v * v), past)


@kernel
def copy(x, x_row, y, y_row, rows, length, past):
    """y = x."""
    for r in range(rows):
        i, o = x_row[r], y_row[r]
        for k in range(0, length, lanes(x)):
            put(y, o + k, load(x, i + k), past)
