"""Convolutions: three functions, each a loop over the positions of the window, and the layers made of them.

Shapes: N examples, C channels, F filters, G groups, images H×W, windows kH×kW. In group g, filters g·F/G … (g+1)·F/G
− 1 see channels g·C/G … (g+1)·C/G − 1. Window row u at output row i touches row i·s_H + u·d_H of the padded image
(stride s, dilation d), and likewise for columns.
"""

from __future__ import annotations

import math
from typing import final

import numpy as np

from reference.base import (
    Array,
    Layer,
    Pair,
    Parameter,
    RandomState,
    Shape,
    check_random_state,
    he_normal,
    integer,
    pair,
)
from reference.windows import Axes, Margins, Padding, Window, as_padding, crop, image_size, margins, pad


def convolve(input: Array, filters: Array, window: Window, groups: int = 1) -> Array:
    """Cross-correlate: Y[n,f,i,j] = Σ_{c,u,v} W[f,c,u,v] · X[n, g·C/G + c, i·s_H + u·d_H, j·s_W + v·d_W], X padded.

    ``input`` (N, C, H, W), ``filters`` (F, C/G, kH, kW); returns (N, F, H_out, W_out).
    """
    N, F = len(input), len(filters)
    X, W = pad(input, window.padding), filters.reshape(groups, F // groups, -1)
    size = window.output_size(image_size(input))
    Y = np.empty((N, F, *size))
    for i, j, rows, columns in window.positions(size):
        x = X[:, :, rows, columns].reshape(N, groups, -1)
        Y[:, :, i, j] = np.einsum("ngk,gfk->ngf", x, W).reshape(N, F)
    return Y


def convolve_input_gradient(dL_dout: Array, filters: Array, window: Window, size: Axes, groups: int = 1) -> Array:
    """Gradient of ``convolve`` by its input: dL/dX[n, window at i,j] += Σ_f dL/dY[n,f,i,j] · W[f].

    ``dL_dout`` (N, F, H_out, W_out), ``size`` (H, W) of the input; returns (N, C, H, W).
    """
    (N, F, *_), C = dL_dout.shape, groups * filters.shape[1]
    W = filters.reshape(groups, F // groups, -1)
    dL_dX = pad(np.zeros((N, C, *size)), window.padding)
    for i, j, rows, columns in window.positions(image_size(dL_dout)):
        g = dL_dout[:, :, i, j].reshape(N, groups, -1)
        dL_dX[:, :, rows, columns] += np.einsum("ngf,gfk->ngk", g, W).reshape(N, C, *window.size)
    return crop(dL_dX, window.padding)


def convolve_filter_gradient(input: Array, dL_dout: Array, window: Window, groups: int = 1) -> Array:
    """Gradient of ``convolve`` by its filters: dL/dW[f] = Σ_{n,i,j} dL/dY[n,f,i,j] · X[n, window at i,j].

    ``input`` (N, C, H, W), ``dL_dout`` (N, F, H_out, W_out); returns (F, C/G, kH, kW).
    """
    (N, C, *_), F = input.shape, dL_dout.shape[1]
    X = pad(input, window.padding)
    dL_dW = np.zeros((groups, F // groups, C // groups * math.prod(window.size)))
    for i, j, rows, columns in window.positions(image_size(dL_dout)):
        x = X[:, :, rows, columns].reshape(N, groups, -1)
        g = dL_dout[:, :, i, j].reshape(N, groups, -1)
        dL_dW += np.einsum("ngf,ngk->gfk", g, x)
    return dL_dW.reshape(F, C // groups, *window.size)


class _Convolution(Layer):
    """The arguments that all convolutions share."""

    ranks = (4,)
    biases = Parameter()

    def __init__(
        self,
        filter_size: Pair,
        stride: Pair,
        padding: Padding,
        dilation: Pair,
        bias: bool,
        random_state: RandomState,
    ) -> None:
        super().__init__()
        self.filter_size = pair(self.name, "filter_size", filter_size, at_least=1)
        self.stride = pair(self.name, "stride", stride, at_least=1)
        self.dilation = pair(self.name, "dilation", dilation, at_least=1)
        self.padding = as_padding(self.name, padding)
        self.bias = bias
        self.random_state = random_state

    def _window(self, image: Axes) -> Window:
        window = Window(self.filter_size, self.stride, dilation=self.dilation)
        return Window(self.filter_size, self.stride, margins(self.padding, image, window), self.dilation)

    def _add_biases(self, filters: int) -> None:
        if self.bias:
            self._add("biases", np.zeros(filters))

    def _with_biases(self, output: Array) -> Array:
        return output + self.biases[:, None, None] if self.bias else output

    def _bias_gradient(self, dL_dout: Array) -> None:
        if self.bias:
            self.gradients["biases"][...] = dL_dout.sum(axis=(0, 2, 3))


@final
class Conv2D(_Convolution):
    """Convolution (cross-correlation) of images with filters.

    Y[n,f,i,j] = b[f] + Σ_{c,u,v} W[f,c,u,v] · X[n, g·C/G + c, i·s_H + u·d_H − top, j·s_W + v·d_W − left], with
    g = ⌊f / (F/G)⌋ and X = 0 outside of the image; H_out = ⌊(H + top + bottom − d_H·(kH − 1) − 1) / s_H⌋ + 1.

    dL/dX, dL/dW: see ``convolve_input_gradient``, ``convolve_filter_gradient``; dL/db[f] = Σ_{n,i,j} dL/dY[n,f,i,j].

    Parameters
    ----------
    num_filters : int
        F, the channels of the output.
    filter_size, stride, dilation : int or pair of int
        Vertical and horizontal.
    padding : int, pair of int, ((top, bottom), (left, right)), "same" or "valid"
        Zeros on both sides of each axis, or on each side. "same": the output has ⌈size / stride⌉ pixels, and of an odd
        number of zeros the larger part stands at the bottom and at the right (as in Keras).
    groups : int
        G; divides the channels and the filters.
    bias : bool
        Whether b is added.
    random_state : None, int, RandomState or Generator
        Source of the initial filters, ``normal((F, C/G, kH, kW)) * sqrt(2 / (C/G·kH·kW))``; biases are 0.

    Attributes
    ----------
    filters : ndarray, (F, C/G, kH, kW)
    biases : ndarray, (F,)

    Raises
    ------
    ValueError
        If the window is larger than the padded image, or the groups do not divide channels and filters.

    References
    ----------
    Dumoulin and Visin 2016, "A guide to convolution arithmetic for deep learning", §2 (sizes) and §5.1 (dilation);
    Krizhevsky et al. 2012, "ImageNet classification with deep convolutional neural networks", §3.2 and §3.5 (groups);
    He et al. 2015, "Delving deep into rectifiers", §2.2 (initialisation).
    """

    filters = Parameter()

    def __init__(
        self,
        num_filters: int,
        filter_size: Pair,
        stride: Pair = 1,
        padding: Padding = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        random_state: RandomState = None,
    ) -> None:
        super().__init__(filter_size, stride, padding, dilation, bias, random_state)
        self.num_filters = integer(self.name, "num_filters", num_filters, at_least=1)
        self.groups = integer(self.name, "groups", groups, at_least=1)
        if self.num_filters % self.groups:
            raise ValueError(f"{self.name}: groups: expected a divisor of num_filters={num_filters}, got {groups}")

    def _output_shape(self, input_shape: Shape) -> Shape:
        C = input_shape[0]
        if self.built:
            self._expect_size("channels", self.filters.shape[1] * self.groups, C)
        if C % self.groups:
            raise ValueError(f"{self.name}: groups: expected a divisor of the input's {C} channels, got {self.groups}")
        image = image_size(input_shape)
        return (self.num_filters, *self._window(image).output_size(image, self.name))

    def _build(self, input_shape: Shape) -> None:
        shape = (self.num_filters, input_shape[0] // self.groups, *self.filter_size)
        self._add("filters", he_normal(check_random_state(self.random_state), shape, fan_in=math.prod(shape[1:])))
        self._add_biases(self.num_filters)

    def _forward(self, input: Array) -> Array:
        return self._with_biases(convolve(input, self.filters, self._window(image_size(input)), self.groups))

    def _backward(self, input: Array, dL_dout: Array) -> Array:
        size = image_size(input)
        window = self._window(size)
        self.gradients["filters"][...] = convolve_filter_gradient(input, dL_dout, window, self.groups)
        self._bias_gradient(dL_dout)
        return convolve_input_gradient(dL_dout, self.filters, window, size, self.groups)


@final
class Conv2DTranspose(_Convolution):
    """Transposed convolution: the input gradient of a ``Conv2D`` from F channels to C, as a layer that enlarges images.

    Y = b + Σ_{n,c,i,j} X[n,c,i,j] · W[c] laid on the window at (i, j), of which the padding is cut off:
    Y[n, g·F/G + f, i·s_H + u·d_H − top, j·s_W + v·d_W − left] += X[n,c,i,j] · W[c,f,u,v], with g = ⌊c / (C/G)⌋;
    H_out = (H − 1)·s_H − top − bottom + d_H·(kH − 1) + output_padding + 1.

    Parameters
    ----------
    num_filters : int
        F, the channels of the output.
    filter_size, stride, dilation, groups, bias
        As in the ``Conv2D`` whose input gradient this is.
    padding : int, pair of int or ((top, bottom), (left, right))
        Rows and columns cut off at both sides of each axis, or at each side.
    output_padding : int or pair of int
        Rows at the bottom and columns at the right that the output has in addition; less than stride or dilation.
    random_state : None, int, RandomState or Generator
        Source of the initial filters, ``normal((C, F/G, kH, kW)) * sqrt(2 / (C/G·kH·kW))``; biases start at
        0. (PyTorch and Keras take F/G for C/G here, the fan-in of that ``Conv2D``.)

    Attributes
    ----------
    filters : ndarray, (C, F/G, kH, kW)
    biases : ndarray, (F,)

    References
    ----------
    Dumoulin and Visin 2016, "A guide to convolution arithmetic for deep learning", §4.
    """

    filters = Parameter()

    def __init__(
        self,
        num_filters: int,
        filter_size: Pair,
        stride: Pair = 1,
        padding: Pair | Margins = 0,
        output_padding: Pair = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        random_state: RandomState = None,
    ) -> None:
        if isinstance(padding, str):
            raise TypeError(f"{type(self).__name__}: padding: expected an integer or pairs of them, got {padding!r}")
        super().__init__(filter_size, stride, padding, dilation, bias, random_state)
        self.num_filters = integer(self.name, "num_filters", num_filters, at_least=1)
        self.output_padding = pair(self.name, "output_padding", output_padding, at_least=0)
        for extra, stride_, dilation_ in zip(self.output_padding, self.stride, self.dilation, strict=True):
            if extra >= max(stride_, dilation_):
                raise ValueError(
                    f"{self.name}: output_padding: expected less than stride {self.stride} or "
                    f"dilation {self.dilation}, got {self.output_padding}"
                )
        self.groups = integer(self.name, "groups", groups, at_least=1)
        if self.num_filters % self.groups:
            raise ValueError(f"{self.name}: groups: expected a divisor of num_filters={num_filters}, got {groups}")

    def _output_shape(self, input_shape: Shape) -> Shape:
        C, H, W = input_shape
        if self.built:
            self._expect_size("channels", len(self.filters), C)
        if C % self.groups:
            raise ValueError(f"{self.name}: groups: expected a divisor of the input's {C} channels, got {self.groups}")
        window = self._window((H, W))
        (top, bottom), (left, right) = window.padding
        H_out = (H - 1) * self.stride[0] - top - bottom + window.span[0] + self.output_padding[0]
        W_out = (W - 1) * self.stride[1] - left - right + window.span[1] + self.output_padding[1]
        if H_out < 1 or W_out < 1:
            raise ValueError(
                f"{self.name}: input: expected an image that padding {self.padding} leaves something of, "
                f"got {H}×{W}, which would become {H_out}×{W_out}"
            )
        return (self.num_filters, H_out, W_out)

    def _build(self, input_shape: Shape) -> None:
        C = input_shape[0]
        shape = (C, self.num_filters // self.groups, *self.filter_size)
        fan_in = C // self.groups * math.prod(self.filter_size)
        self._add("filters", he_normal(check_random_state(self.random_state), shape, fan_in))
        self._add_biases(self.num_filters)

    def _forward(self, input: Array) -> Array:
        size = image_size(self._output_shape(input.shape[1:]))
        window = self._window(size)
        return self._with_biases(convolve_input_gradient(input, self.filters, window, size, self.groups))

    def _backward(self, input: Array, dL_dout: Array) -> Array:
        window, (H, W) = self._window(image_size(dL_dout)), image_size(input)
        self.gradients["filters"][...] = convolve_filter_gradient(dL_dout, input, window, self.groups)
        self._bias_gradient(dL_dout)
        return convolve(dL_dout, self.filters, window, self.groups)[:, :, :H, :W]  # more if output_padding ≥ stride
