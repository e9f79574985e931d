"""Depthwise convolution, and the separable one: a depthwise and a 1 x 1 convolution in a row."""

from __future__ import annotations

from collections.abc import Sequence

from .. import checks
from ..engine.ir import Graph
from ..engine.parameter import Parameter
from ..engine.weights import ArrayProperty
from ..ops.convolution.op import Spec, lower_convolution
from ..ops.window import Padding, Pair, resolve_window
from ..typing import RandomState, Shape
from .base import Layer, epilogue_of, shape_behind
from .conv_base import (
    CONVOLUTION_ABSORBS,
    CONVOLUTION_ABSORBS_IN_PREDICTION,
    Convolving,
    WithFilters,
    drawn_filters,
)
from .initializers import Initializer


class DepthwiseConv2D(WithFilters):
    """Convolution of each channel by itself, with m filters each: `Conv2D` with as many groups as channels.

    With stride s, dilation d and zero padding p,

        y[n, c·m + q, i, j]
            = biases[c·m + q] + Σ_r Σ_t filters[c·m + q, 0, r, t] · x[n, c, i·s + r·d - p, j·s + t·d - p]

    Parameters
    ----------
    filter_size, stride, dilation : int or pair of int
        (vertical, horizontal).
    padding : int, pair of int, ((top, bottom), (left, right)), "same" or "valid"
        As in `Conv2D`.
    depth_multiplier : int
        m.
    bias : bool
        Whether biases are added.
    random_state : None, int, RandomState or Generator
        For the first filters; None is NumPy's global generator.
    initializer : Initializer, optional
        Of the filters; `HeNormal()` if not given.
    trainable : bool or sequence of str
        See `Layer`.
    name : str, optional
        By which messages call the layer, and searches find it.

    Attributes
    ----------
    filters : array of shape (C · m, 1, kH, kW)
        By default He initialisation: normal with variance 2 / (kH · kW).
    biases : array of shape (C · m,)
        Zero at first.

    See Also
    --------
    Conv2D : Two-dimensional convolution.
    SeparableConv2D : Depthwise convolution, then one of 1 x 1.

    References
    ----------
    Howard et al., "MobileNets: efficient convolutional neural networks for mobile vision applications",
    arXiv:1704.04861 (2017), section 3.1.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import DepthwiseConv2D
    >>> DepthwiseConv2D(3, padding=1).forward(np.ones((4, 3, 8, 8))).shape
    (4, 3, 8, 8)
    """

    absorbs = CONVOLUTION_ABSORBS
    absorbs_in_prediction = CONVOLUTION_ABSORBS_IN_PREDICTION

    def __init__(
        self,
        filter_size: int | Pair,
        stride: int | Pair = 1,
        padding: Padding = 0,
        dilation: int | Pair = 1,
        depth_multiplier: int = 1,
        bias: bool = True,
        random_state: RandomState = None,
        *,
        initializer: Initializer | None = None,
        trainable: bool | Sequence[str] = True,
        name: str | None = None,
    ) -> None:
        super().__init__(
            filter_size, stride, padding, dilation, bias, random_state, initializer=initializer, trainable=trainable,
            name=name,
        )  # fmt: skip
        self.depth_multiplier = checks.as_positive_int(depth_multiplier, self.name, "depth_multiplier")

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (C · m, oH, oW)."""
        self._expect_images(input_shape)
        return (input_shape[0] * self.depth_multiplier, *self.window(input_shape).outputs)

    def _parameters(self, input_shape: Shape) -> dict[str, Parameter]:
        num_filters = input_shape[0] * self.depth_multiplier
        filters = drawn_filters(num_filters, 1, self.filter_size, self.initializer, input_shape[0])
        return {"filters": filters, **self._bias_parameters(num_filters)}

    def _lower(self, graph: Graph, x: int, absorbed: Sequence[Layer] = ()) -> int:
        channels, window = graph.shapes[x][0], self.window(graph.shapes[x])
        part = Spec("filters", channels * self.depth_multiplier, window, channels, self.bias)
        shape = shape_behind(absorbed, self.output_shape(graph.shapes[x]))
        return lower_convolution(graph, self, part, x, epilogue_of(absorbed), shape)


class SeparableConv2D(Convolving):
    """Depthwise convolution, then a 1 x 1 convolution that mixes the channels.

    With stride s, dilation d and zero padding p,

        z[n, c, i, j] = Σ_r Σ_t depthwise_filters[c, 0, r, t] · x[n, c, i·s + r·d - p, j·s + t·d - p]
        y[n, f, i, j] = biases[f] + Σ_c pointwise_filters[f, c, 0, 0] · z[n, c, i, j]

    Parameters
    ----------
    num_filters : int
        Channels of the output.
    filter_size, stride, dilation : int or pair of int
        Of the depthwise convolution, (vertical, horizontal).
    padding : int, pair of int, ((top, bottom), (left, right)), "same" or "valid"
        Of the depthwise convolution, as in `Conv2D`.
    bias : bool
        Whether there are biases, behind the 1 x 1 convolution.
    random_state : None, int, RandomState or Generator
        For the first filters, the depthwise ones before the others; None is NumPy's global generator.
    initializer : Initializer, optional
        Of both kinds of filters; `HeNormal()` if not given.
    trainable : bool or sequence of str
        See `Layer`.
    name : str, optional
        By which messages call the layer, and searches find it.

    Attributes
    ----------
    depthwise_filters : array of shape (C, 1, kH, kW)
        By default He initialisation: normal with variance 2 / (kH · kW).
    pointwise_filters : array of shape (num_filters, C, 1, 1)
        Normal with variance 2 / C.
    biases : array of shape (num_filters,)
        Zero at first.

    See Also
    --------
    DepthwiseConv2D : Convolution of each channel by itself.
    Conv2D : Two-dimensional convolution.

    References
    ----------
    Chollet, "Xception: deep learning with depthwise separable convolutions", CVPR 2017, section 1.2.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import SeparableConv2D
    >>> SeparableConv2D(16, 3, padding=1).forward(np.ones((4, 3, 8, 8))).shape
    (4, 16, 8, 8)
    """

    absorbs = CONVOLUTION_ABSORBS
    absorbs_in_prediction = CONVOLUTION_ABSORBS_IN_PREDICTION
    depthwise_filters = ArrayProperty("The filters of each channel, (C, 1, kH, kW).")
    pointwise_filters = ArrayProperty("The filters that mix the channels, (num_filters, C, 1, 1).")

    def __init__(
        self,
        num_filters: int,
        filter_size: int | Pair,
        stride: int | Pair = 1,
        padding: Padding = 0,
        dilation: int | Pair = 1,
        bias: bool = True,
        random_state: RandomState = None,
        *,
        initializer: Initializer | None = None,
        trainable: bool | Sequence[str] = True,
        name: str | None = None,
    ) -> None:
        super().__init__(
            filter_size, stride, padding, dilation, bias, random_state, initializer=initializer, trainable=trainable,
            name=name,
        )  # fmt: skip
        self.num_filters = checks.as_positive_int(num_filters, self.name, "num_filters")

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (num_filters, oH, oW)."""
        self._expect_images(input_shape)
        return (self.num_filters, *self.window(input_shape).outputs)

    def _parameters(self, input_shape: Shape) -> dict[str, Parameter]:
        return {
            "depthwise_filters": drawn_filters(input_shape[0], 1, self.filter_size, self.initializer, input_shape[0]),
            "pointwise_filters": drawn_filters(self.num_filters, input_shape[0], (1, 1), self.initializer),
            **self._bias_parameters(self.num_filters),
        }

    def _lower(self, graph: Graph, x: int, absorbed: Sequence[Layer] = ()) -> int:
        channels, window = graph.shapes[x][0], self.window(graph.shapes[x])
        shape = shape_behind(absorbed, self.output_shape(graph.shapes[x]))
        x = lower_convolution(graph, self, Spec("depthwise_filters", channels, window, channels, bias=False), x)
        pixels = resolve_window(self.name, window.outputs, (1, 1), (1, 1), (1, 1), "valid")
        pointwise = Spec("pointwise_filters", self.num_filters, pixels, bias=self.bias)
        return lower_convolution(graph, self, pointwise, x, epilogue_of(absorbed), shape)
