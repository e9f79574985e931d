"""Optimizers: one sweep over the flat vector of all parameters, which also sums the shards' gradients."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from .kernels import update as kernels
from .typing import Array


class Optimizer(ABC):
    """Changes parameters along their gradients."""

    learning_rate: float

    @abstractmethod
    def _update(self, theta: Array, gradients: Array, shards: int, first: int, last: int) -> None:
        """Change `theta[first:last]`; `gradients` (S, size) are summed over the first `shards` rows, into row 0."""


class SGD(Optimizer):
    """Stochastic gradient descent, `p -= learning_rate · gradient`.

    Parameters
    ----------
    learning_rate : float

    References
    ----------
    Robbins and Monro, "A stochastic approximation method", Ann. Math. Statist. 22 (1951).
    """

    def __init__(self, learning_rate: float = 0.01) -> None:
        if not (np.isfinite(learning_rate) and learning_rate >= 0):
            raise ValueError(f"SGD: learning_rate: expected a finite number of at least 0; got {learning_rate!r}")
        self.learning_rate = float(learning_rate)

    def _update(self, theta: Array, gradients: Array, shards: int, first: int, last: int) -> None:
        kernels.sgd(theta, gradients, shards, theta.size, first, last, theta.dtype.type(self.learning_rate))
