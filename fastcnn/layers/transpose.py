"""Transposed convolution: the input gradient of a convolution, as a layer that enlarges images."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .. import checks
from ..engine.ir import Graph
from ..engine.parameter import Parameter
from ..ops.convolution.op import Spec
from ..ops.convolution.transpose import TransposedConvolutionOp
from ..ops.window import Axis, Margins, Pair, Window, as_margins, as_padding, as_pair
from ..typing import RandomState, Shape
from .base import Layer, epilogue_of
from .conv_base import WithFilters, filter_parameter
from .initializers import Initializer


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
    padding : int, pair of int or ((top, bottom), (left, right))
        Rows and columns cut off on both sides, or on each side.
    output_padding : int or pair of int
        Rows at the bottom and columns at the right in addition; less than stride or dilation.
    groups : int
        Channels and filters are split into that many independent convolutions.
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
    filters : array of shape (C, num_filters / groups, kH, kW)
        By default normal with variance 2 / (kH · kW · C / groups). (PyTorch and Keras take num_filters in the place of
        C.)
    biases : array of shape (num_filters,)
        Zero at first.

    See Also
    --------
    Conv2D : Two-dimensional convolution.
    UpSample2D : Enlarges images by whole factors.

    References
    ----------
    Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285 (2016), section 4.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import Conv2DTranspose
    >>> Conv2DTranspose(16, 2, stride=2).forward(np.ones((4, 3, 8, 8))).shape
    (4, 16, 16, 16)
    """

    absorbs = (("relu",),)
    margins: Margins  # what the padding cuts off at each side

    def __init__(
        self,
        num_filters: int,
        filter_size: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair | Margins = 0,
        output_padding: int | Pair = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = True,
        random_state: RandomState = None,
        *,
        initializer: Initializer | None = None,
        trainable: bool | Sequence[str] = True,
        name: str | None = None,
    ) -> None:
        cut = as_padding(padding, type(self).__name__)
        if isinstance(cut, str):
            raise TypeError(
                f"{type(self).__name__}: padding: expected an int, a pair of ints or ((top, bottom), (left, right)); "
                f"got {padding!r}"
            )
        super().__init__(
            filter_size, stride, cut, dilation, bias, random_state, initializer=initializer, trainable=trainable,
            name=name,
        )  # fmt: skip
        self.num_filters = checks.as_positive_int(num_filters, self.name, "num_filters")
        self.margins = as_margins(cut)
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
            (before, after), extra = self.margins[k], self.output_padding[k]
            size = (input_shape[1 + k] - 1) * self.stride[k] - before - after + span + extra
            axes.append(Axis(size, self.filter_size[k], self.stride[k], self.dilation[k], before, after - extra))
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
                f"{self.name}: input: expected an image that padding {self.padding} leaves something of; "
                f"got {input_shape[1]} x {input_shape[2]}, which would become {size[0]} x {size[1]}"
            )
        return (self.num_filters, *size)

    def _parameters(self, input_shape: Shape) -> dict[str, Parameter]:
        channels = input_shape[0]
        fan_in = channels // self.groups * math.prod(self.filter_size)
        filters = filter_parameter(
            channels, self.num_filters // self.groups, self.filter_size, fan_in, self.initializer, self.groups
        )
        return {"filters": filters, **self._bias_parameters(self.num_filters)}

    def _lower(self, graph: Graph, x: int, absorbed: Sequence[Layer] = ()) -> int:
        shape = graph.shapes[x]
        part = Spec("filters", self.num_filters, self.window(shape), self.groups, self.bias)
        y = graph.value(self.output_shape(shape))
        return graph.add(TransposedConvolutionOp(self, part, x, y, epilogue_of(absorbed)))
