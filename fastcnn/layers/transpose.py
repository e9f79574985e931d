"""Transposed convolution: the input gradient of a convolution, as a layer that enlarges images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import checks
from ..engine.graph import Graph
from ..engine.ir import Block, Gradients, Memory, Pass
from ..engine.layout import Halo, aligned_zeros
from ..engine.parameter import Parameter
from ..kernels import activation as activation_kernels
from ..kernels import conv_depthwise, conv_direct
from ..ops.convolution.algorithm import Convolution
from ..ops.convolution.direct import Direct
from ..ops.convolution.groups import Grouped
from ..ops.window import Axis, Pair, Window, as_pair
from ..typing import Array, RandomState, Shape
from .activation import ReLU
from .base import Layer
from .conv_base import WithFilters, filter_parameter


class Conv2DTranspose(WithFilters):
    """Transposed convolution: the input gradient of a `Conv2D` from `num_filters` channels to C, as a layer.

    With stride s, dilation d and padding p, every input number lays its filter, multiplied by it, on the output:

        y[n, g·F/groups + f, i·s + r·d - p, j·s + t·d - p] += x[n, c, i, j] · filters[c, f, r, t], g the group of c

    plus biases[f]; what falls into the padding is cut off. The output has
    (H - 1)·s - 2·p + d·(kH - 1) + 1 + output_padding rows.

    Parameters
    ----------
    num_filters : int
        F, the channels of the output.
    filter_size, stride, dilation : int or pair of int
        (vertical, horizontal), of the `Conv2D` whose input gradient this is.
    padding : int or pair of int
        Rows and columns cut off on both sides.
    output_padding : int or pair of int
        Rows at the bottom and columns at the right in addition; less than stride or dilation.
    groups : int
        Channels and filters are split into that many independent convolutions.
    bias : bool
    random_state : None, int, RandomState or Generator
        For the first filters; None is NumPy's global generator.

    Attributes
    ----------
    filters : array of shape (C, num_filters / groups, kH, kW)
        Normal with variance 2 / (kH · kW · C / groups). (PyTorch and Keras take num_filters in the place of C.)
    biases : array of shape (num_filters,)
        Zero at first.

    References
    ----------
    Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285 (2016), section 4.
    """

    def __init__(
        self,
        num_filters: int,
        filter_size: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        output_padding: int | Pair = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = True,
        random_state: RandomState = None,
    ) -> None:
        before = as_pair(padding, type(self).__name__, "padding", 0)
        super().__init__(filter_size, stride, before, dilation, bias, random_state)
        self.num_filters = checks.as_positive_int(num_filters, self.name, "num_filters")
        self.before = before
        self.output_padding = as_pair(output_padding, self.name, "output_padding", 0)
        steps = zip(self.output_padding, self.stride, self.dilation, strict=True)
        if any(extra >= max(stride, dilation) for extra, stride, dilation in steps):
            raise ValueError(
                f"{self.name}: output_padding: expected less than stride {self.stride} or dilation {self.dilation}; "
                f"got {self.output_padding}"
            )
        self.groups = checks.as_positive_int(groups, self.name, "groups")
        if self.num_filters % self.groups:
            raise ValueError(
                f"{self.name}: groups: expected a divisor of num_filters = {self.num_filters}; got {self.groups}"
            )

    def window(self, input_shape: Shape) -> Window:
        """Return the window that slides over the output: its positions are the pixels of the input."""
        axes = []
        for k in range(2):
            span = (self.filter_size[k] - 1) * self.dilation[k] + 1
            size = (input_shape[1 + k] - 1) * self.stride[k] - 2 * self.before[k] + span + self.output_padding[k]
            after = self.before[k] - self.output_padding[k]
            axes.append(Axis(size, self.filter_size[k], self.stride[k], self.dilation[k], self.before[k], after))
        return Window(*axes)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (num_filters, oH, oW)."""
        self._expect_images(input_shape)
        if input_shape[0] % self.groups:
            raise ValueError(
                f"{self.name}: input: expected channels in {self.groups} equal groups; got {input_shape[0]} channels"
            )
        window = self.window(input_shape)
        size = window.vertical.size, window.horizontal.size
        if min(size) < 1:
            raise ValueError(
                f"{self.name}: input: expected an image that padding {self.before} leaves something of; "
                f"got {input_shape[1]} x {input_shape[2]}, which would become {size[0]} x {size[1]}"
            )
        return (self.num_filters, *size)

    def _parameters(self, input_shape: Shape) -> dict[str, Parameter]:
        channels = input_shape[0]
        fan_in = channels // self.groups * math.prod(self.filter_size)
        filters = filter_parameter(channels, self.num_filters // self.groups, self.filter_size, fan_in)
        return {"filters": filters, **self._bias_parameters(self.num_filters)}

    def _connect(self, graph: Graph, x: int, followers: Sequence[Layer] = ()) -> int:
        return graph.add(_TransposeBlock(self, x, graph.edge(self.output_shape(graph.shapes[x])), followers))


class _TransposeBlock(Block):
    """Transposed convolution + bias [+ ReLU]: the direct algorithm with forward and input gradient exchanged."""

    replayable = True
    layer: Conv2DTranspose

    def __init__(self, layer: Conv2DTranspose, x: int, y: int, followers: Sequence[Layer]) -> None:
        super().__init__(layer, x, y)
        self.has_relu = self.rectifies = any(isinstance(follower, ReLU) for follower in followers)

    def input_halo(self, graph: Graph) -> Halo:
        return self.layer.window(graph.shapes[self.x]).gradient_halo

    def gradient_halo(self, graph: Graph) -> Halo:
        return self.layer.window(graph.shapes[self.x]).input_halo

    def work(self, graph: Graph) -> float:
        products = math.prod(graph.shapes[self.x]) * math.prod(self.layer.filter_size)
        return float(products * self.layer.num_filters / self.layer.groups)

    def plan(self, graph: Graph) -> None:
        x, y = graph.values[self.x], graph.values[self.y]
        dx, dy = graph.gradients[self.x], graph.gradients[self.y]
        # What the convolution calls its output is this layer's input.
        convolution = Convolution(
            self.layer.window(x.shape), y.channels, x.channels, self.layer.groups, graph.images,
            dy or y, dx or x, x, y, graph.dtype,
        )  # fmt: skip
        self.algorithm = (Direct if self.layer.groups == 1 else Grouped)(convolution)
        self.dtype, self.filters = graph.dtype, (convolution.taps, x.pitch, x.channels)
        self.zeros = aligned_zeros(max(x.pitch, y.pitch), graph.dtype)
        self.none = graph.dtype.type(-np.inf)
        self.floor = graph.dtype.type(0) if self.has_relu else self.none
        self.height, self.width, self.pitch = y.height, y.width, y.pitch
        self.y_row, self.dy_row = y.line_table(graph.images), dy and dy.line_table(graph.images)
        self.no_taps = np.zeros(0, np.int32)

    def allocate(self, graph: Graph) -> _Kept:
        return _Kept(self.algorithm.allocate(), aligned_zeros(self.zeros.size, self.dtype))

    def prepare(self) -> None:
        self.algorithm.pack(self.layer._values("filters", self.dtype))
        self.biases = self.layer._values("biases", self.dtype) if self.layer.bias else self.zeros

    def forward(self, n: int, memory: Memory, run: Pass) -> None:
        self.algorithm.transposed(n, memory.values[self.x], self.biases, self.floor, memory.values[self.y])

    def backward(self, n: int, memory: Memory, gradients: Gradients, run: Pass) -> None:
        kept, x = memory.kept[self.index], memory.values[self.x]
        dy, dx = memory.gradients[self.y], memory.gradients[self.x]
        assert dy is not None
        lines, dw = n * self.height, gradients["filters"]
        if self.has_relu:
            activation_kernels.relu_backward(
                memory.values[self.y], self.y_row, dy, self.dy_row, dy, self.dy_row, lines, self.width * self.pitch,
                False,
            )  # fmt: skip
        if self.layer.bias:
            # A depthwise filter gradient without taps is the sum over the pixels.
            dbias = gradients["biases"]
            conv_depthwise.clear(dbias, dbias.size)
            conv_depthwise.filter_gradient(
                dy, self.dy_row, self.pitch, self.no_taps, 0, dy, self.dy_row, self.pitch, lines, self.width,
                self.pitch, dw, self.no_taps, dbias,
            )  # fmt: skip
        self.algorithm.filter_gradient(n, dy, x, dw, kept.unused, kept.scratch)
        conv_direct.clear_columns(dw, *self.filters)
        if dx is not None:
            self.algorithm.forward(n, dy, self.zeros, self.none, dx, kept.scratch)


@dataclass
class _Kept:
    """Scratch of a transposed convolution; `unused` takes sums that nobody asks for."""

    scratch: Any
    unused: Array
