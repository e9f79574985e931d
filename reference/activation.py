"""Activations: one function of each number, and softmax over the features."""

from __future__ import annotations

from typing import final

import numpy as np

from reference.base import Array, Layer, Shape


class _Elementwise(Layer):
    """A function applied to each number; any shape with a batch axis."""

    def _output_shape(self, input_shape: Shape) -> Shape:
        return input_shape


@final
class ReLU(_Elementwise):
    """Rectifier: y = max(x, 0), dy/dx = 1 where x > 0 and 0 elsewhere (also at 0).

    References
    ----------
    Nair and Hinton 2010, "Rectified linear units improve restricted Boltzmann machines", §2.
    """

    def _forward(self, input: Array) -> Array:
        return np.maximum(input, 0)

    def _backward(self, input: Array, dL_dout: Array) -> Array:
        return dL_dout * (input > 0)
