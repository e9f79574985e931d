"""Gradients against finite differences: points away from kinks, and the check along random directions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def away_from_kinks(shape: tuple[int, ...], seed: int = 0, gap: float = 0.01) -> np.ndarray:
    """Return float64 numbers of both signs of which no two are closer than `gap`, and none closer than gap/2 to 0.

    Where no comparison of two numbers, or of one with 0, changes its outcome for small steps, ReLU and max-pooling are
    differentiable.
    """
    size = int(np.prod(shape))
    ranks = np.random.RandomState(seed).permutation(size)
    return ((ranks - size // 2 + 0.5) * gap).reshape(shape)


def directional_gradient_check(
    loss: Callable[[], float],
    array: np.ndarray,
    gradient: np.ndarray,
    *,
    seed: int = 0,
    directions: int = 3,
    step: float = 1e-5,
    tolerance: float = 1e-6,
) -> None:
    """Assert that the slope of a loss along random directions is that which the gradient promises.

    For directions v ~ N(0, I), |⟨gradient, v⟩ − (loss(array + step·v) − loss(array − step·v)) / 2·step| must be below
    tolerance·(‖gradient‖ + 1): ‖gradient‖ is the slope to expect, and the 1 is for gradients that are zero.

    Parameters
    ----------
    loss : callable without arguments
        Computes the loss from `array`, which is changed in place and put back.
    array, gradient : ndarray of float64
        The point, and dL/d(array) there; of equal shape.
    """
    assert gradient.shape == array.shape, f"gradient {gradient.shape} of an array {array.shape}"
    rng, point, gradient = np.random.RandomState(seed), array.copy(), gradient.copy()
    for _ in range(directions):
        v = rng.standard_normal(array.shape)
        array[...] = point + step * v
        above = loss()
        array[...] = point - step * v
        below = loss()
        array[...] = point
        measured, promised = (above - below) / (2 * step), float(np.sum(gradient * v))
        error = abs(measured - promised)
        assert error <= tolerance * (np.linalg.norm(gradient) + 1), (
            f"slope {measured}, but the gradient says {promised}"
        )
