"""Pooling: the maximum or the mean of each window, or of whole images; and its opposite, upsampling."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import final

import numpy as np

from reference.base import Array, Layer, Pair, Shape, pair
from reference.windows import Axes, Padding, Window, as_padding, crop, image_size, margins, pad


@final
class MaxPool2(Layer):
    """The notebook's max-pooling: 2×2 windows side by side, y[n,c,i,j] = max of x[n,c,2i:2i+2,2j:2j+2].

    EVERY tied maximum receives the gradient: dL/dx = dL/dy wherever x = y in the window. (``MaxPool2D`` gives it to
    the first.) A last odd row or column is left out, and its gradient is 0; the notebook crashed there.

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

    def __init__(self, pool_size: Pair, stride: Pair | None, padding: Padding, dilation: Pair, ceil_mode: bool) -> None:
        super().__init__()
        self.pool_size = pair(self.name, "pool_size", pool_size, at_least=1)
        self.stride = self.pool_size if stride is None else pair(self.name, "stride", stride, at_least=1)
        self.dilation = pair(self.name, "dilation", dilation, at_least=1)
        self.padding = as_padding(self.name, padding)
        self.ceil_mode = ceil_mode

    def _window(self, image: Axes) -> Window:
        window = Window(self.pool_size, self.stride, dilation=self.dilation)
        padding = margins(self.padding, image, window)
        return Window(self.pool_size, self.stride, padding, self.dilation, self.ceil_mode)

    def _output_shape(self, input_shape: Shape) -> Shape:
        image = image_size(input_shape)
        window = self._window(image)
        size = window.output_size(image, self.name)
        inside = pad(np.ones((1, 1, *image)), window.padding)
        if not all(inside[:, :, rows, columns].any() for _, _, rows, columns in window.positions(size)):
            raise ValueError(
                f"{self.name}: padding: expected that each window sees the image of {image[0]}×{image[1]}, "
                f"got {self.padding}"
            )
        return (input_shape[0], *size)


@final
class MaxPool2D(_Pooling):
    """Maximum of each window: y[n,c,i,j] = max_{u,v} x[n,c,i·s_H + u·d_H − top,j·s_W + v·d_W − left].

    The padding is −∞. The FIRST maximum in the row-major order of the window receives the gradient, as in PyTorch,
    Keras and ONNX; windows that overlap add up. H_out = ⌊(H + top + bottom − d_H·(kH − 1) − 1) / s_H⌋ + 1: rows that
    no window reaches are left out; with ``ceil_mode`` ⌈…⌉, without a last window that would start behind H + top.

    Parameters
    ----------
    pool_size : int or pair of int
    stride : int or pair of int, optional
        Default: ``pool_size``.
    padding : int, pair of int, ((top, bottom), (left, right)), "same" or "valid"
        As in ``Conv2D``; each window must see a pixel of the image.
    dilation : int or pair of int
    ceil_mode : bool
        Whether sizes are rounded up, as in PyTorch.

    References
    ----------
    Goodfellow, Bengio and Courville 2016, "Deep Learning", §9.3.
    """

    def __init__(
        self,
        pool_size: Pair = 2,
        stride: Pair | None = None,
        padding: Padding = 0,
        *,
        dilation: Pair = 1,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__(pool_size, stride, padding, dilation, ceil_mode)

    def _forward(self, input: Array) -> Array:
        N, C, *_ = input.shape
        window = self._window(image_size(input))
        size = window.output_size(image_size(input))
        padded = pad(input, window.padding, -np.inf)
        output = np.empty((N, C, *size))
        for i, j, rows, columns in window.positions(size):
            output[:, :, i, j] = padded[:, :, rows, columns].max(axis=(2, 3))
        return output

    def _backward(self, input: Array, dL_dout: Array) -> Array:
        N, C, *_ = input.shape
        n, c = np.ogrid[:N, :C]
        window = self._window(image_size(input))
        padded = pad(input, window.padding, -np.inf)
        dL_dpadded = np.zeros_like(padded)
        for i, j, rows, columns in window.positions(image_size(dL_dout)):
            x = padded[:, :, rows, columns]
            u, v = np.divmod(x.reshape(N, C, -1).argmax(axis=2), x.shape[3])
            d_H, d_W = self.dilation
            dL_dpadded[n, c, rows.start + u * d_H, columns.start + v * d_W] += dL_dout[:, :, i, j]
        return crop(dL_dpadded, window.padding)


@final
class AvgPool2D(_Pooling):
    """Mean of each window: y[n,c,i,j] = Σ_{u,v} x[n,c,i·s_H + u·d_H − top,j·s_W + v·d_W − left] / m[i,j].

    The padding is 0; m is the number of pixels in the window, with those of the padding if it is counted; what
    ``ceil_mode`` lets reach beyond the padding is never counted. Each pixel of the window receives dL/dy / m.

    Parameters
    ----------
    pool_size, stride, padding, dilation, ceil_mode
        As in ``MaxPool2D``.
    count_include_pad : bool
        Whether the padding is counted. True is PyTorch's default; Keras ("same") and ONNX do not count it.

    References
    ----------
    LeCun et al. 1998, "Gradient-based learning applied to document recognition", §II.A.
    """

    def __init__(
        self,
        pool_size: Pair = 2,
        stride: Pair | None = None,
        padding: Padding = 0,
        count_include_pad: bool = True,
        *,
        dilation: Pair = 1,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__(pool_size, stride, padding, dilation, ceil_mode)
        self.count_include_pad = count_include_pad

    def _counted(self, input: Array, window: Window) -> Array:
        """1 at each pixel that counts, 0 elsewhere, padded."""
        return pad(np.ones((1, 1, *image_size(input))), window.padding, float(self.count_include_pad))

    def _forward(self, input: Array) -> Array:
        N, C, *_ = input.shape
        window = self._window(image_size(input))
        size = window.output_size(image_size(input))
        padded, counted = pad(input, window.padding), self._counted(input, window)
        output = np.empty((N, C, *size))
        for i, j, rows, columns in window.positions(size):
            output[:, :, i, j] = padded[:, :, rows, columns].sum(axis=(2, 3)) / counted[:, :, rows, columns].sum()
        return output

    def _backward(self, input: Array, dL_dout: Array) -> Array:
        window = self._window(image_size(input))
        counted = self._counted(input, window)
        dL_dpadded = pad(np.zeros_like(input), window.padding)
        for i, j, rows, columns in window.positions(image_size(dL_dout)):
            dL_dpadded[:, :, rows, columns] += dL_dout[:, :, i, j, None, None] / counted[:, :, rows, columns].sum()
        return crop(dL_dpadded, window.padding)


@final
class GlobalAvgPool2D(Layer):
    """Mean of each channel: (N, C, H, W) to (N, C), y[n,c] = Σ_{i,j} x[n,c,i,j] / (H·W).

    dL/dx[n,c,i,j] = dL/dy[n,c] / (H·W).

    References
    ----------
    Lin et al. 2014, "Network in network", §3.2.
    """

    ranks = (4,)

    def _output_shape(self, input_shape: Shape) -> Shape:
        return input_shape[:1]

    def _forward(self, input: Array) -> Array:
        return np.asarray(input.mean(axis=(2, 3)))

    def _backward(self, input: Array, dL_dout: Array) -> Array:
        H, W = image_size(input)
        return dL_dout[:, :, None, None] * np.ones_like(input) / (H * W)


@final
class GlobalMaxPool2D(Layer):
    """Maximum of each channel: (N, C, H, W) to (N, C), y[n,c] = max_{i,j} x[n,c,i,j].

    The FIRST maximum in the row-major order of the image receives the gradient.

    References
    ----------
    Oquab et al. 2015, "Is object localization for free?", §3.
    """

    ranks = (4,)

    def _output_shape(self, input_shape: Shape) -> Shape:
        return input_shape[:1]

    def _forward(self, input: Array) -> Array:
        return np.asarray(input.max(axis=(2, 3)))

    def _backward(self, input: Array, dL_dout: Array) -> Array:
        (N, C, *_), (_, W) = input.shape, image_size(input)
        n, c = np.ogrid[:N, :C]
        i, j = np.divmod(input.reshape(N, C, -1).argmax(axis=2), W)
        dL_dinput = np.zeros_like(input)
        dL_dinput[n, c, i, j] = dL_dout
        return dL_dinput


@final
class UpSample2D(Layer):
    """Upsampling: each pixel becomes a block of a×b.

    Nearest: y[n,c,i,j] = x[n,c,⌊i/a⌋,⌊j/b⌋]; a pixel's gradient is the sum of its block's. Bilinear: with
    p = (i + ½)/a − ½ within [0, H−1], f = p − ⌊p⌋, and q, g likewise from j, b and W,
    y[n,c,i,j] = Σ over r in {⌊p⌋, ⌊p⌋+1}, t in {⌊q⌋, ⌊q⌋+1} of (1 − |p−r|)·(1 − |q−t|)·x[n,c,r,t].

    Parameters
    ----------
    size : int or pair of int
        a and b.
    mode : "nearest" or "bilinear"

    References
    ----------
    Odena et al. 2016, "Deconvolution and checkerboard artifacts", Distill.
    """

    ranks = (4,)

    def __init__(self, size: Pair = 2, mode: str = "nearest") -> None:
        super().__init__()
        self.size = pair(self.name, "size", size, at_least=1)
        if mode not in ("nearest", "bilinear"):
            raise ValueError(f"{self.name}: mode: expected 'nearest' or 'bilinear', got {mode!r}")
        self.mode = mode
        self._window = Window(self.size, self.size)

    def _output_shape(self, input_shape: Shape) -> Shape:
        C, H, W = input_shape
        return C, H * self.size[0], W * self.size[1]

    def _forward(self, input: Array) -> Array:
        output = np.zeros((len(input), *self._output_shape(input.shape[1:])))
        if self.mode == "bilinear":
            for i, j, r, t, weight in self._pairs(image_size(input)):
                output[:, :, i, j] += weight * input[:, :, r, t]
            return output
        for i, j, rows, columns in self._window.positions(image_size(input)):
            output[:, :, rows, columns] = input[:, :, i, j, None, None]
        return output

    def _backward(self, input: Array, dL_dout: Array) -> Array:
        dL_dinput = np.zeros_like(input)
        if self.mode == "bilinear":
            for i, j, r, t, weight in self._pairs(image_size(input)):
                dL_dinput[:, :, r, t] += weight * dL_dout[:, :, i, j]
            return dL_dinput
        for i, j, rows, columns in self._window.positions(image_size(input)):
            dL_dinput[:, :, i, j] = dL_dout[:, :, rows, columns].sum(axis=(2, 3))
        return dL_dinput

    def _pairs(self, size: tuple[int, int]) -> Iterator[tuple[int, int, int, int, float]]:
        """Yield output pixel (i, j), input pixel (r, t) beside its centre, and the weight between them."""
        for i, j in np.ndindex(size[0] * self.size[0], size[1] * self.size[1]):
            for r, vertical in _between(i, self.size[0], size[0]):
                for t, horizontal in _between(j, self.size[1], size[1]):
                    yield i, j, r, t, vertical * horizontal


def _between(i: int, factor: int, size: int) -> list[tuple[int, float]]:
    """Return the pixels on both sides of p, the centre of output i, and their weights 1 − |p − pixel|."""
    p = min(max(Fraction(2 * i + 1, 2 * factor) - Fraction(1, 2), Fraction(0)), Fraction(size - 1))
    return [(r, float(1 - abs(p - r))) for r in (math.floor(p), math.floor(p) + 1) if abs(p - r) < 1]
