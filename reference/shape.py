"""Layers that only move numbers: Flatten."""

from __future__ import annotations

import math
from typing import final

from reference.base import Array, Layer, Shape


@final
class Flatten(Layer):
    """Images to rows of features, in the order C, H, W: (N, C, H, W) to (N, C·H·W), y[n, (c·H+i)·W+j] = x[n,c,i,j]."""

    def _output_shape(self, input_shape: Shape) -> Shape:
        return (math.prod(input_shape),)

    def _forward(self, input: Array) -> Array:
        return input.reshape(len(input), -1)

    def _backward(self, input: Array, dL_dout: Array) -> Array:
        return dL_dout.reshape(input.shape)
