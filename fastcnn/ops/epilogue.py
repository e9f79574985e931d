"""`Epilogue`: what is fused behind an operation, and computed while its result is still in registers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..engine.weights import Weights

Ties = Literal["first", "all"]  # which of equal maxima receive the gradient


@dataclass(frozen=True)
class FoldedNorm:
    """A batch normalisation that, in prediction, is a part of the filters and biases of a convolution."""

    weights: Weights
    epsilon: float


@dataclass(frozen=True)
class Formula:
    """The kernels of an elementwise function.

    Attributes
    ----------
    forward, backward : callable
    of_output : bool
        Whether the slope is computed from the output and not from the input.
    link : str
        See `Traits`.
    """

    forward: Callable[..., None]
    backward: Callable[..., None]
    of_output: bool = False
    link: str = ""


@dataclass(frozen=True)
class Activation:
    """A function of single numbers, with the constants that its kernels take."""

    formula: Formula
    constants: tuple[float, ...] = ()


@dataclass(frozen=True)
class Epilogue:
    """The operations behind a result, in this order.

    Attributes
    ----------
    norm : FoldedNorm or None
    activation : Activation or None
        Any but the ReLU, see `fused_activation`.
    clamp_min : float
        The least number of the output: 0 for a ReLU, minus infinity for nothing.
    pool : "first", "all" or None
        A max-pooling 2 x 2, and which of equal maxima receive the gradient.
    """

    norm: FoldedNorm | None = None
    activation: Activation | None = None
    clamp_min: float = -np.inf
    pool: Ties | None = None

    @property
    def rectifies(self) -> bool:
        """Whether a ReLU is a part of it."""
        return self.clamp_min == 0


NOTHING = Epilogue()
