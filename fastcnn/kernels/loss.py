"""Softmax; and losses: value, gradient and accuracy of a batch in one pass.

Shape legend: n rows of `classes` numbers, that begin where the `_row` tables say; behind each there is room for whole
vectors, and zeros are written to it.
"""

from __future__ import annotations

import numpy as np

from .cache import kernel
from .vector import first_lanes, lanes, largest_lane, load, maximum, splat, store, sum_of_lanes
from .vector_math import exp


@kernel
def _exponentials(x, r, classes, y, s):
    """y[s:] = exp(x[r:] - largest), so that nothing overflows; return the largest and the sum."""
    low, top = splat(x, x.dtype.type(-np.inf)), splat(x, x.dtype.type(-np.inf))
    for k in range(0, classes, lanes(x)):
        top = maximum(top, first_lanes(load(x, r + k), classes - k, low))
    largest, total = largest_lane(top), splat(x, x.dtype.type(0))
    for k in range(0, classes, lanes(x)):
        value = exp(first_lanes(load(x, r + k), classes - k, low) - splat(x, largest))
        store(y, s + k, value)
        total = total + value
    return largest, sum_of_lanes(total)


@kernel
def softmax(x, x_row, n, classes, y, y_row):
    """y = softmax(x) along the classes."""
    for i in range(n):
        s = y_row[i]
        _, total = _exponentials(x, x_row[i], classes, y, s)
        factor = splat(y, x.dtype.type(1) / total)
        for k in range(0, classes, lanes(x)):
            store(y, s + k, factor * load(y, s + k))


@kernel
def softmax_backward(y, y_row, dy, dy_row, n, classes, dx, dx_row):
    """dx = y · (dy - Σ y · dy); y and dy are zero behind the classes."""
    for i in range(n):
        s, g, o = y_row[i], dy_row[i], dx_row[i]
        total = splat(y, y.dtype.type(0))
        for k in range(0, classes, lanes(y)):
            total = total + load(y, s + k) * load(dy, g + k)
        expected = splat(y, sum_of_lanes(total))
        for k in range(0, classes, lanes(y)):
            store(dx, o + k, load(y, s + k) * (load(dy, g + k) - expected))


@kernel
def softmax_cross_entropy(x, x_row, n, classes, target, t0, scale, dx, dx_row, totals):
    """dx = scale · (softmax(x) - onehot(target[t0:])); add loss, hits and classes out of range to `totals` (3,)."""
    loss = 0.0
    for i in range(n):
        r, s = x_row[i], dx_row[i]
        label = target[t0 + i]
        if label < 0 or label >= classes:
            totals[2] += 1.0
            label = 0
        largest, total = _exponentials(x, r, classes, dx, s)
        factor = splat(x, scale / total)
        for k in range(0, classes, lanes(x)):
            store(dx, s + k, factor * load(dx, s + k))
        dx[s + label] -= scale
        loss += np.log(total) - (x[r + label] - largest)
        first = 0
        while first < label and x[r + first] != largest:
            first += 1
        if first == label and x[r + label] == largest:
            totals[1] += 1.0
    totals[0] += loss
