"""Elementwise activations and their gradients.

Shape legend: `rows` runs of `length` numbers (a multiple of the vector's lanes) that begin where the `_row` tables say:
the lines of an image, halos left out.
"""

from __future__ import annotations

from .cache import kernel
from .vector import keep_positive, lanes, load, maximum, splat, store


@kernel
def relu(x, x_row, y, y_row, rows, length):
    """y = max(0, x)."""
    zero = splat(x, x.dtype.type(0))
    for r in range(rows):
        for i in range(0, length, lanes(x)):
            store(y, y_row[r] + i, maximum(zero, load(x, x_row[r] + i)))


@kernel
def relu_backward(y, y_row, dy, dy_row, dx, dx_row, rows, length):
    """dx = dy where y > 0, else 0."""
    for r in range(rows):
        for i in range(0, length, lanes(dy)):
            store(dx, dx_row[r] + i, keep_positive(load(dy, dy_row[r] + i), load(y, y_row[r] + i)))
