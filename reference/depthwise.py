"""Depthwise convolution, and depthwise followed by pointwise."""

from __future__ import annotations

import math
from typing import final

from reference.base import (
    Array,
    Pair,
    Parameter,
    RandomState,
    Shape,
    check_random_state,
    he_normal,
    integer,
)
from reference.conv import _Convolution, convolve, convolve_filter_gradient, convolve_input_gradient
from reference.windows import Padding, Window, image_size


@final
class DepthwiseConv2D(_Convolution):
    """Convolution of each channel by itself, with m filters each: ``Conv2D`` with as many groups as channels.

    Y[n,c·m+q,i,j] = b[c·m+q] + Σ_{u,v} W[c·m+q,0,u,v] · X[n, c, i·s_H + u·d_H − top, j·s_W + v·d_W − left], q < m.

    Parameters
    ----------
    filter_size, stride, padding, dilation, bias
        As in ``Conv2D``.
    depth_multiplier : int
        m.
    random_state : None, int, RandomState or Generator
        Source of the initial filters, ``normal((C·m, 1, kH, kW)) * sqrt(2 / (kH·kW))``; biases start at 0.

    Attributes
    ----------
    filters : ndarray, (C·m, 1, kH, kW)
    biases : ndarray, (C·m,)

    References
    ----------
    Howard et al. 2017, "MobileNets: efficient convolutional neural networks for mobile vision applications", §3.1.
    """

    filters = Parameter()

    def __init__(
        self,
        filter_size: Pair,
        stride: Pair = 1,
        padding: Padding = 0,
        dilation: Pair = 1,
        depth_multiplier: int = 1,
        bias: bool = True,
        random_state: RandomState = None,
    ) -> None:
        super().__init__(filter_size, stride, padding, dilation, bias, random_state)
        self.depth_multiplier = integer(self.name, "depth_multiplier", depth_multiplier, at_least=1)

    def _output_shape(self, input_shape: Shape) -> Shape:
        C, image = input_shape[0], image_size(input_shape)
        if self.built:
            self._expect_size("channels", len(self.filters) // self.depth_multiplier, C)
        return (C * self.depth_multiplier, *self._window(image).output_size(image, self.name))

    def _build(self, input_shape: Shape) -> None:
        shape = (input_shape[0] * self.depth_multiplier, 1, *self.filter_size)
        self._add(
            "filters", he_normal(check_random_state(self.random_state), shape, fan_in=math.prod(self.filter_size))
        )
        self._add_biases(shape[0])

    def _forward(self, input: Array) -> Array:
        C = input.shape[1]
        return self._with_biases(convolve(input, self.filters, self._window(image_size(input)), groups=C))

    def _backward(self, input: Array, dL_dout: Array) -> Array:
        C, size = input.shape[1], image_size(input)
        window = self._window(size)
        self.gradients["filters"][...] = convolve_filter_gradient(input, dL_dout, window, groups=C)
        self._bias_gradient(dL_dout)
        return convolve_input_gradient(dL_dout, self.filters, window, size, groups=C)


@final
class SeparableConv2D(_Convolution):
    """Depthwise convolution, then a 1×1 convolution that mixes the channels: Y = b + P ∗ (D ∗ X).

    Z[n,c,i,j] = Σ_{u,v} D[c,0,u,v] · X[n, c, i·s_H + u·d_H − top, j·s_W + v·d_W − left] and
    Y[n,f,i,j] = b[f] + Σ_c P[f,c,0,0] · Z[n,c,i,j].

    Parameters
    ----------
    num_filters : int
        F, the channels of the output.
    filter_size, stride, padding, dilation
        Of the depthwise convolution, as in ``Conv2D``.
    bias : bool
        Whether b is added, behind the 1×1 convolution.
    random_state : None, int, RandomState or Generator
        Source of the initial filters, in this order: ``normal((C, 1, kH, kW)) * sqrt(2 / (kH·kW))``,
        then ``normal((F, C, 1, 1)) * sqrt(2 / C)``; biases start at 0.

    Attributes
    ----------
    depthwise_filters : ndarray, (C, 1, kH, kW)
    pointwise_filters : ndarray, (F, C, 1, 1)
    biases : ndarray, (F,)

    References
    ----------
    Chollet 2017, "Xception: deep learning with depthwise separable convolutions", §1.2.
    """

    depthwise_filters = Parameter()
    pointwise_filters = Parameter()
    _pointwise = Window((1, 1))

    def __init__(
        self,
        num_filters: int,
        filter_size: Pair,
        stride: Pair = 1,
        padding: Padding = 0,
        dilation: Pair = 1,
        bias: bool = True,
        random_state: RandomState = None,
    ) -> None:
        super().__init__(filter_size, stride, padding, dilation, bias, random_state)
        self.num_filters = integer(self.name, "num_filters", num_filters, at_least=1)

    def _output_shape(self, input_shape: Shape) -> Shape:
        C, image = input_shape[0], image_size(input_shape)
        if self.built:
            self._expect_size("channels", len(self.depthwise_filters), C)
        return (self.num_filters, *self._window(image).output_size(image, self.name))

    def _build(self, input_shape: Shape) -> None:
        C, generator = input_shape[0], check_random_state(self.random_state)
        fan_in = math.prod(self.filter_size)
        self._add("depthwise_filters", he_normal(generator, (C, 1, *self.filter_size), fan_in))
        self._add("pointwise_filters", he_normal(generator, (self.num_filters, C, 1, 1), fan_in=C))
        self._add_biases(self.num_filters)

    def _depthwise(self, input: Array) -> Array:
        return convolve(input, self.depthwise_filters, self._window(image_size(input)), groups=input.shape[1])

    def _forward(self, input: Array) -> Array:
        return self._with_biases(convolve(self._depthwise(input), self.pointwise_filters, self._pointwise))

    def _backward(self, input: Array, dL_dout: Array) -> Array:
        C, size, Z = input.shape[1], image_size(input), self._depthwise(input)
        window = self._window(size)
        dL_dZ = convolve_input_gradient(dL_dout, self.pointwise_filters, self._pointwise, image_size(Z))
        self.gradients["pointwise_filters"][...] = convolve_filter_gradient(Z, dL_dout, self._pointwise)
        self.gradients["depthwise_filters"][...] = convolve_filter_gradient(input, dL_dZ, window, groups=C)
        self._bias_gradient(dL_dout)
        return convolve_input_gradient(dL_dZ, self.depthwise_filters, window, size, groups=C)
