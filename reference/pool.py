"""Pooling: the maximum or the mean of each window, and of whole images."""

from __future__ import annotations

from typing import final

import numpy as np

from reference.base import Array, Layer, Pair, Shape, pair
from reference.windows import Window, crop, image_size, pad


@final
class MaxPool2(Layer):
    """The notebook's max-pooling: 2×2 windows side by side, y[n,c,i,j] = max of x[n,c,2i:2i+2,2j:2j+2].

    EVERY tied maximum receives the gradient: dL/dx = dL/dy wherever x = y in the window. (``MaxPool2D`` gives it to the
    first.) A last odd row or column is left out, and its gradient is 0; the notebook crashed there.

    References
    ----------
    The notebook that fastcnn grew out of.
    """

    ranks = (4,)
    _window = Window((2, 2), (2, 2))

    def _output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], *self._window.output_size(image_size(input_shape), self.name))

    def _forward(self, input: Array) -> Array:
        N, C, *_ = input.shape
        size = self._window.output_size(image_size(input))
        output = np.empty((N, C, *size))
        for i, j, rows, columns in self._window.positions(size):
            output[:, :, i, j] = input[:, :, rows, columns].max(axis=(2, 3))
        return output

    def _backward(self, input: Array, dL_dout: Array) -> Array:
        dL_dinput = np.zeros_like(input)
        for i, j, rows, columns in self._window.positions(image_size(dL_dout)):
            x = input[:, :, rows, columns]
            is_maximum = x == x.max(axis=(2, 3), keepdims=True)
            dL_dinput[:, :, rows, columns] = is_maximum * dL_dout[:, :, i, j, None, None]
        return dL_dinput


class _Pooling(Layer):
    """The arguments that poolings with any window share."""

    ranks = (4,)

    def __init__(self, pool_size: Pair, stride: Pair | None, padding: Pair) -> None:
        super().__init__()
        self.pool_size = pair(self.name, "pool_size", pool_size, at_least=1)
        self.stride = self.pool_size if stride is None else pair(self.name, "stride", stride, at_least=1)
        self.padding = pair(self.name, "padding", padding, at_least=0)
        if 2 * self.padding[0] > self.pool_size[0] or 2 * self.padding[1] > self.pool_size[1]:
            raise ValueError(
                f"{self.name}: padding: expected at most half of pool_size={self.pool_size}, got {self.padding}: "
                "each window must see the image"
            )
        p_H, p_W = self.padding
        self._window = Window(self.pool_size, self.stride, ((p_H, p_H), (p_W, p_W)))

    def _output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], *self._window.output_size(image_size(input_shape), self.name))


@final
class MaxPool2D(_Pooling):
    """Maximum of each window: y[n,c,i,j] = max_{u,v} x[n,c,i·s_H + u − p_H,j·s_W + v − p_W], the padding being −∞.

    The FIRST maximum in the row-major order of the window receives the gradient, as in PyTorch, Keras and ONNX; windows
    that overlap add up. H_out = ⌊(H + 2·p_H − kH) / s_H⌋ + 1: rows that no window reaches are left out.

    Parameters
    ----------
    pool_size : int or pair of int
    stride : int or pair of int, optional
        Default: ``pool_size``.
    padding : int or pair of int
        At most half of ``pool_size``.

    References
    ----------
    Goodfellow, Bengio and Courville 2016, "Deep Learning", §9.3.
    """

    def __init__(self, pool_size: Pair = 2, stride: Pair | None = None, padding: Pair = 0) -> None:
        super().__init__(pool_size, stride, padding)

    def _forward(self, input: Array) -> Array:
        N, C, *_ = input.shape
        size = self._window.output_size(image_size(input))
        padded = pad(input, self._window.padding, -np.inf)
        output = np.empty((N, C, *size))
        for i, j, rows, columns in self._window.positions(size):
            output[:, :, i, j] = padded[:, :, rows, columns].max(axis=(2, 3))
        return output

    def _backward(self, input: Array, dL_dout: Array) -> Array:
        N, C, *_ = input.shape
        n, c = np.ogrid[:N, :C]
        padded = pad(input, self._window.padding, -np.inf)
        dL_dpadded = np.zeros_like(padded)
        for i, j, rows, columns in self._window.positions(image_size(dL_dout)):
            first = padded[:, :, rows, columns].reshape(N, C, -1).argmax(axis=2)
            u, v = np.divmod(first, self.pool_size[1])
            dL_dpadded[n, c, rows.start + u, columns.start + v] += dL_dout[:, :, i, j]
        return crop(dL_dpadded, self._window.padding)
