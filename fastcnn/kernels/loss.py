"""Losses: value, gradient and accuracy of a batch in one pass."""

from __future__ import annotations

import numpy as np

from .cache import kernel


@kernel
def softmax(x, x_row, n, classes, y, y_row):
    """y = softmax(x) along the classes, shifted by the largest logit so that nothing overflows."""
    for i in range(n):
        r, s = x_row[i], y_row[i]
        largest = x[r]
        for k in range(1, classes):
            largest = max(largest, x[r + k])
        total = x.dtype.type(0)
        for k in range(classes):
            y[s + k] = np.exp(x[r + k] - largest)
            total += y[s + k]
        for k in range(classes):
            y[s + k] /= total


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
        best = 0
        for k in range(1, classes):
            if x[r + k] > x[r + best]:
                best = k
        largest = x[r + best]
        total = x.dtype.type(0)
        for k in range(classes):
            value = np.exp(x[r + k] - largest)
            dx[s + k] = value
            total += value
        factor = scale / total
        for k in range(classes):
            dx[s + k] *= factor
        dx[s + label] -= scale
        loss += np.log(total) - (x[r + label] - largest)
        if best == label:
            totals[1] += 1.0
    totals[0] += loss
