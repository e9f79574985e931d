"""Layers without arithmetic or with constants alone: Flatten, Pad and Scale."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal, final

import numpy as np

from reference.base import Array, Layer, Shape, real
from reference.windows import Margins, Padding, as_padding


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
class Pad(Layer):
    """Rows and columns around images: y[n,c,i,j] = x[n,c,s(i),t(j)], s and t the rows and columns that are repeated.

    (N, C, H, W) to (N, C, top + H + bottom, left + W + right). With ``mode="constant"`` a pixel beyond the image is
    ``value``; with ``"reflect"`` the one as far on the other side of the border's pixel, which is not repeated; with
    ``"edge"`` the border's. dL/dx[n,c,h,w] is the sum of dL/dy over all pixels that are x[n,c,h,w].

    Parameters
    ----------
    padding : int, pair of int or ((top, bottom), (left, right))
    mode : {"constant", "reflect", "edge"}
    value : float
        With ``mode="constant"``.
    """

    ranks = (4,)

    def __init__(
        self,
        padding: Padding,
        mode: Literal["constant", "reflect", "edge"] = "constant",
        value: float = 0.0,
    ) -> None:
        super().__init__()
        if isinstance(padding, str):
            raise TypeError(f"{self.name}: padding: expected an integer or pairs of them, got {padding!r}")
        self.padding = as_padding(self.name, padding)
        if mode not in ("constant", "reflect", "edge"):
            raise ValueError(f"{self.name}: mode: expected 'constant', 'reflect' or 'edge', got {mode!r}")
        self.mode, self.value = mode, real(self.name, "value", value)

    def _output_shape(self, input_shape: Shape) -> Shape:
        (top, bottom), (left, right) = self._margins()
        channels, height, width = input_shape
        if self.mode == "reflect" and not (max(top, bottom) < height and max(left, right) < width):
            raise ValueError(
                f"{self.name}: input: expected images larger than the padding {self.padding}, which are reflected, "
                f"got {height} x {width}"
            )
        return channels, top + height + bottom, left + width + right

    def _margins(self) -> Margins:
        """Return (top, bottom), (left, right)."""
        assert not isinstance(self.padding, str)
        rows, columns = ((sides, sides) if isinstance(sides, int) else sides for sides in self.padding)
        return rows, columns

    def _source(self, place: int, size: int) -> int | None:
        """Which of ``size`` rows or columns the one at ``place``, counted from the image's first, repeats."""
        if 0 <= place < size:
            return place
        if self.mode == "edge":
            return 0 if place < 0 else size - 1
        if self.mode == "reflect":
            return -place if place < 0 else 2 * (size - 1) - place
        return None

    def _pixels(self, input: Array) -> Iterator[tuple[int, int, int, int]]:
        """All pixels (i, j) of the output that repeat a pixel (h, w) of the input."""
        (top, _), (left, _) = self._margins()
        _, height, width = self._output_shape(input.shape[1:])
        for i in range(height):
            for j in range(width):
                h, w = self._source(i - top, input.shape[2]), self._source(j - left, input.shape[3])
                if h is not None and w is not None:
                    yield i, j, h, w

    def _forward(self, input: Array) -> Array:
        output = np.full((len(input), *self._output_shape(input.shape[1:])), self.value)
        for i, j, h, w in self._pixels(input):
            output[:, :, i, j] = input[:, :, h, w]
        return output

    def _backward(self, input: Array, dL_dout: Array) -> Array:
        dL_dx = np.zeros_like(input)
        for i, j, h, w in self._pixels(input):
            dL_dx[:, :, h, w] += dL_dout[:, :, i, j]
        return dL_dx


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
