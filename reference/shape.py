"""Layers without arithmetic or with constants alone: Flatten and Scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import numpy as np

from reference.base import Array, Layer, Shape, real


@final
class Flatten(Layer):
    """Images to rows of features, in the order C, H, W: (N, C, H, W) to (N, C·H·W), y[n, (c·H+i)·W+j] = x[n,c,i,j]."""

    def _output_shape(self, input_shape: Shape) -> Shape:
        return (math.prod(input_shape),)

    def _forward(self, input: Array) -> Array:
        return input.reshape(len(input), -1)

    def _backward(self, input: Array, dL_dout: Array) -> Array:
        return dL_dout.reshape(input.shape)


@final
class Scale(Layer):
    """Constants for all channels, or one for each channel c: y[n,c,...] = factor_c·x[n,c,...] + shift_c.

    dL/dx[n,c,...] = factor_c·dL/dy[n,c,...].
    """

    ranks = (2, 4)

    def __init__(self, factor: float | Sequence[float], shift: float | Sequence[float] = 0.0) -> None:
        super().__init__()
        self.factor, self.shift = (
            tuple(real(self.name, name, one) for one in value)
            if isinstance(value, Sequence)
            else real(self.name, name, value)
            for name, value in (("factor", factor), ("shift", shift))
        )

    def _output_shape(self, input_shape: Shape) -> Shape:
        for name, value in (("factor", self.factor), ("shift", self.shift)):
            if isinstance(value, tuple) and len(value) != input_shape[0]:
                raise ValueError(f"{self.name}: {name}: expected one number a channel, {input_shape[0]}, got {value}")
        return input_shape

    def _by_channel(self, value: float | tuple[float, ...], x: Array) -> Array:
        return np.broadcast_to(value, x.shape[1:2]).reshape(1, -1, *[1] * (x.ndim - 2))

    def _forward(self, input: Array) -> Array:
        return self._by_channel(self.factor, input) * input + self._by_channel(self.shift, input)

    def _backward(self, input: Array, dL_dout: Array) -> Array:
        return self._by_channel(self.factor, input) * dL_dout
