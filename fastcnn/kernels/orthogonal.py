"""Muon: a direction that is made orthogonal by Newton-Schulz iterations, and the step along it.

Shape legend: a matrix of n rows and N columns, n >= N, whose number (i, k) is that of the flat vector at
`places[i * N + k]`. X and Y (n, pitch), `gram` and `square` (N, pitch), `packed` (N * pitch,): rows are padded with
zeros to a pitch of whole cache lines, the same for all vector sets.

Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024.
"""

from __future__ import annotations

import numpy as np

from ..codegen.blocking import PIXELS
from ..jit.source import kernel
from .maps import Maps
from .product import gradient_product, pack, product


@kernel
def orthogonalise(direction, places, x, y, gram, square, packed, panel, sums, post, coefficients, steps):
    """X, or Y after an odd number of steps, = the direction, iterated: X ← X · (aI + bA + cA²) with A = Xᵀ · X.

    coefficients: a, b, c, epsilon. The direction begins divided by its norm + epsilon. `panel` and `sums` are scratch.
    """
    n, N = x.rows.size, x.columns.size
    pitch = packed.size // N
    _take(direction, places, x, coefficients[3])
    for step in range(steps):
        old, new = (x, y) if step % 2 == 0 else (y, x)
        gradient_product(
            old, n, Maps(old.data, old.rows), pitch, PIXELS, panel, Maps(gram.data, gram.rows), post.biases, sums,
            False,
        )  # fmt: skip
        pack(Maps(gram.data, gram.rows), pitch, packed)
        _polynomial(gram, coefficients[1], coefficients[2])
        product(gram, 0, N, packed, 0, square, pitch, post, post.biases)  # (bI + cA) · A
        for k in range(N):
            square.data[square.rows[k] + k] += coefficients[0]
        pack(square, pitch, packed)
        product(old, 0, n, packed, 0, Maps(new.data, new.rows), pitch, post, post.biases)


@kernel
def _take(direction, places, x, epsilon):
    """X = direction / (its norm + epsilon); squares are added up in double precision, in the order of the places."""
    N, total = x.columns.size, 0.0
    for p in places:
        total += np.float64(direction[p]) * np.float64(direction[p])
    factor = direction.dtype.type(1.0 / (np.sqrt(total) + epsilon))
    for i in range(x.rows.size):
        for k in range(N):
            x.data[x.rows[i] + k] = direction[places[i * N + k]] * factor


@kernel
def _polynomial(gram, b, c):
    """Let A be bI + cA."""
    N = gram.columns.size
    for i in range(N):
        row = gram.rows[i]
        for k in range(N):
            gram.data[row + k] *= c
        gram.data[row + i] += b


@kernel
def bring_to_norm(theta, places, norm):
    """Multiply a matrix by norm[0] / its Frobenius norm, summed up as in `_take`; one of zeros stays."""
    total = 0.0
    for p in places:
        total += np.float64(theta[p]) * np.float64(theta[p])
    if total > 0:
        factor = theta.dtype.type(np.float64(norm[0]) / np.sqrt(total))
        for p in places:
            theta[p] *= factor


@kernel
def descend(theta, places, x, scale, rates):
    """theta += rates[14] · scale · X + rates[15] · theta: minus the learning rate; that by the weight decay."""
    N, shrink = x.columns.size, rates[15]
    rate = rates[14] * scale[0]
    for i in range(x.rows.size):
        for k in range(N):
            p = places[i * N + k]
            theta[p] = (theta[p] + shrink * theta[p]) + rate * x.data[x.rows[i] + k]
