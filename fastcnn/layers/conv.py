"""Convolution, alone or with the ReLU and the max-pooling that follow it."""

from __future__ import annotations

from collections.abc import Sequence

from .. import caller, checks
from ..engine.ir import Graph
from ..engine.parameter import Parameter
from ..ops.convolution.op import Spec, lower_convolution
from ..ops.convolution.select import ALGORITHMS
from ..ops.window import Padding, Pair
from ..typing import RandomState, Shape
from .base import Layer, epilogue_of, shape_behind
from .conv_base import CONVOLUTION_ABSORBS, CONVOLUTION_ABSORBS_IN_PREDICTION, WithFilters, drawn_filters
from .initializers import Initializer


class Conv2D(WithFilters):
    """Two-dimensional convolution (cross-correlation, as the field has it).

    For filter f of group g(f), with stride s, dilation d and zero padding p,

        y[n, f, i, j] = biases[f] + Σ_c Σ_r Σ_t filters[f, c, r, t] · x[n, g·C/groups + c, i·s + r·d - p, j·s + t·d - p]

    Parameters
    ----------
    num_filters : int
        F, the channels of the output.
    filter_size, stride, dilation : int or pair of int
        (vertical, horizontal).
    padding : int, pair of int, ((top, bottom), (left, right)), "same" or "valid"
        Zeros around the image: for all sides, for (vertical, horizontal), or for each side. `"same"` gives
        ceil(size / stride) outputs, as in Keras: the odd zero comes last.
    groups : int
        Channels and filters are split into that many independent convolutions.
    bias : bool
        Whether biases are added.
    random_state : None, int, RandomState or Generator
        For the first filters; None is NumPy's global generator.
    algorithm : {"auto", "direct", "im2col", "winograd", "winograd4"}
        How it is computed. `"auto"` chooses by shape; an algorithm that does not know the case gives way to a more
        general one. `"winograd"` is F(2 x 2, 3 x 3) or F(2 x 2, 5 x 5), by the window, or F(3 x 3, 4 x 4) for the
        four parts of one of 7 x 7; `"winograd4"`, F(4 x 4, 3 x 3), is faster, with twice the rounding error.
        `"im2col"` is one matrix product of NumPy's, of all windows of a batch: unlike those of the others, the last
        bits of its outputs depend on the size of the batch, on the threads and on the BLAS library.
    initializer : Initializer, optional
        Of the filters; `HeNormal()` if not given.
    trainable : bool or sequence of str
        See `Layer`.
    name : str, optional
        By which messages call the layer, and searches find it.

    Attributes
    ----------
    filters : array of shape (num_filters, C / groups, kH, kW)
        By default He initialisation: normal with variance 2 / (kH · kW · C / groups).
    biases : array of shape (num_filters,)
        Zero at first.

    See Also
    --------
    DepthwiseConv2D : Convolution of each channel by itself.
    SeparableConv2D : Depthwise convolution, then one of 1 x 1.
    Conv2DTranspose : The input gradient of a convolution, as a layer.

    References
    ----------
    LeCun et al., "Gradient-based learning applied to document recognition", Proc. IEEE 86 (1998), section II.
    He et al., "Delving deep into rectifiers", ICCV 2015, section 2.2, for the initialisation.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import Conv2D
    >>> Conv2D(16, 3, padding="same").forward(np.ones((4, 3, 8, 8))).shape
    (4, 16, 8, 8)
    """

    absorbs = CONVOLUTION_ABSORBS
    absorbs_in_prediction = CONVOLUTION_ABSORBS_IN_PREDICTION

    def __init__(
        self,
        num_filters: int,
        filter_size: int | Pair,
        stride: int | Pair = 1,
        padding: Padding = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = True,
        random_state: RandomState = None,
        *,
        algorithm: str = "auto",
        initializer: Initializer | None = None,
        trainable: bool | Sequence[str] = True,
        name: str | None = None,
    ) -> None:
        super().__init__(
            filter_size, stride, padding, dilation, bias, random_state, initializer=initializer, trainable=trainable,
            name=name,
        )  # fmt: skip
        self.num_filters = checks.as_positive_int(num_filters, self.name, "num_filters")
        if num_filters in (1, 3) and filter_size in range(6, 513, 2) and stride in (3, 5, 7):
            caller.warn(
                f"{self.name}: {num_filters} filter(s) of {filter_size} x {filter_size} pixels at stride {stride}; "
                f"if these are PyTorch's in_channels, out_channels, kernel_size: Conv2D({filter_size}, {stride}), "
                "which finds the channels in its input"
            )
        self.groups = checks.as_positive_int(groups, self.name, "groups")
        if self.num_filters % self.groups:
            raise ValueError(
                f"{self.name}: groups: expected a divisor of num_filters = {self.num_filters}; got {self.groups}"
            )
        if algorithm != "auto" and algorithm not in ALGORITHMS:
            raise ValueError(
                f"{self.name}: algorithm: expected 'auto' or one of {sorted(ALGORITHMS)}; got {algorithm!r}"
            )
        self.algorithm = algorithm

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (num_filters, oH, oW)."""
        self._expect_images(input_shape)
        if input_shape[0] % self.groups:
            raise ValueError(
                f"{self.name}: input: expected channels in {self.groups} equal groups; got {input_shape[0]} channels"
            )
        return (self.num_filters, *self.window(input_shape).outputs)

    def _parameters(self, input_shape: Shape) -> dict[str, Parameter]:
        channels = input_shape[0] // self.groups
        filters = drawn_filters(self.num_filters, channels, self.filter_size, self.initializer, self.groups)
        return {"filters": filters, **self._bias_parameters(self.num_filters)}

    def _lower(self, graph: Graph, x: int, absorbed: Sequence[Layer] = ()) -> int:
        part = Spec("filters", self.num_filters, self.window(graph.shapes[x]), self.groups, self.bias, self.algorithm)
        shape = shape_behind(absorbed, self.output_shape(graph.shapes[x]))
        return lower_convolution(graph, self, part, x, epilogue_of(absorbed), shape)
