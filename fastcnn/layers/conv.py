"""Convolution, alone or with the ReLU and the max-pooling that follow it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..kernels import activation as activation_kernels
from ..kernels import pool as pool_kernels
from ..typing import Array, RandomState, Shape
from . import checks
from .activation import ReLU
from .algorithms import Algorithm, Convolution, Im2col
from .base import Layer, Parameter
from .block import Block, Gradients, Graph, Memory, Pass
from .geometry import Pair, Window, as_pair, resolve_window
from .layout import Halo, Layout, aligned_zeros, padded
from .pool import Pooling
from .winograd import ALGORITHMS, Winograd, choose


class Conv2D(Layer):
    """Two-dimensional convolution (cross-correlation, as the field has it).

    For filter f of group g(f), with stride s, dilation d and zero padding p,

        y[n, f, i, j] = biases[f] + Σ_c Σ_r Σ_t filters[f, c, r, t] · x[n, g·C/groups + c, i·s + r·d - p, j·s + t·d - p]

    Parameters
    ----------
    num_filters : int
    filter_size, stride, dilation : int or pair of int
        (vertical, horizontal).
    padding : int, pair of int, "same" or "valid"
        Zeros around the image. `"same"` gives ceil(size / stride) outputs, as in Keras: the odd zero comes last.
    groups : int
        Channels and filters are split into that many independent convolutions.
    bias : bool
    random_state : None, int, RandomState or Generator
        For the first filters; None is NumPy's global generator.
    algorithm : {"auto", "direct", "im2col", "winograd", "winograd4"}
        How it is computed. `"auto"` chooses by shape; an algorithm that does not know the case gives way to a more
        general one. `"winograd"` is F(2 x 2, 3 x 3); `"winograd4"`, F(4 x 4, 3 x 3), is faster, with twice the
        rounding error.

    Attributes
    ----------
    filters : array of shape (num_filters, C / groups, kH, kW)
        He initialisation: normal with variance 2 / (kH · kW · C / groups).
    biases : array of shape (num_filters,)
        Zero at first.

    References
    ----------
    LeCun et al., "Gradient-based learning applied to document recognition", Proc. IEEE 86 (1998), section II.
    He et al., "Delving deep into rectifiers", ICCV 2015, section 2.2, for the initialisation.
    """

    def __init__(
        self,
        num_filters: int,
        filter_size: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair | str = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = True,
        random_state: RandomState = None,
        *,
        algorithm: str = "auto",
    ) -> None:
        super().__init__()
        self.num_filters = checks.as_positive_int(num_filters, self.name, "num_filters")
        self.filter_size = as_pair(filter_size, self.name, "filter_size", 1)
        self.stride = as_pair(stride, self.name, "stride", 1)
        self.dilation = as_pair(dilation, self.name, "dilation", 1)
        if isinstance(padding, str) and padding not in ("same", "valid"):
            raise ValueError(
                f'{self.name}: padding: expected "same", "valid", an int or a pair of ints; got {padding!r}'
            )
        self.padding = padding if isinstance(padding, str) else as_pair(padding, self.name, "padding", 0)
        self.groups = checks.as_positive_int(groups, self.name, "groups")
        if self.num_filters % self.groups:
            raise ValueError(
                f"{self.name}: groups: expected a divisor of num_filters = {self.num_filters}; got {self.groups}"
            )
        if algorithm != "auto" and algorithm not in ALGORITHMS:
            raise ValueError(
                f"{self.name}: algorithm: expected 'auto' or one of {sorted(ALGORITHMS)}; got {algorithm!r}"
            )
        self.bias, self.random_state, self.algorithm = bool(bias), random_state, algorithm

    @property
    def filters(self) -> Array:
        """The filters, (num_filters, C / groups, kH, kW)."""
        return self._get("filters")

    @filters.setter
    def filters(self, value: Any) -> None:
        self._set("filters", value)

    @property
    def biases(self) -> Array:
        """The biases, (num_filters,)."""
        return self._get("biases")

    @biases.setter
    def biases(self, value: Any) -> None:
        self._set("biases", value)

    def window(self, input_shape: Shape) -> Window:
        """Return the sliding window over images of `input_shape`."""
        return resolve_window(
            self.name, (input_shape[1], input_shape[2]), self.filter_size, self.stride, self.dilation, self.padding
        )

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (num_filters, oH, oW)."""
        if len(input_shape) != 3:
            raise ValueError(f"{self.name}: input: expected images (N, C, H, W); got samples of shape {input_shape}")
        if input_shape[0] % self.groups:
            raise ValueError(
                f"{self.name}: input: expected channels in {self.groups} equal groups; got {input_shape[0]} channels"
            )
        return (self.num_filters, *self.window(input_shape).outputs)

    def _check_input(self, x: Array) -> None:
        channels = self.input_shape[0] if self.input_shape else None
        checks.check_shape(x, (None, channels, None, None), self.name, "input", "images (N, C, H, W)")

    def _parameters(self, input_shape: Shape) -> dict[str, Parameter]:
        channels = input_shape[0] // self.groups
        pitch = padded(self.num_filters)
        shape = (self.num_filters, channels, *self.filter_size)
        deviation = np.sqrt(2.0 / (channels * self.filter_size[0] * self.filter_size[1]))
        specs = {
            "filters": Parameter(
                shape,
                (*self.filter_size, channels, pitch),
                lambda stored: stored[..., : self.num_filters].transpose(3, 2, 0, 1),
                lambda generator: generator.standard_normal(shape) * deviation,
            )
        }
        if self.bias:
            specs["biases"] = Parameter(
                (self.num_filters,),
                (pitch,),
                lambda stored: stored[: self.num_filters],
                lambda generator: np.zeros(self.num_filters),
            )
        return specs

    def _connect(self, graph: Graph, x: int, followers: Sequence[Layer] = ()) -> int:
        shape: Shape = graph.shapes[x]
        for layer in (self, *followers):
            shape = layer.output_shape(shape)
        return graph.add(_ConvBlock(self, x, graph.edge(shape), followers))


class _ConvBlock(Block):
    """Convolution + bias [+ ReLU] [+ max-pool 2 x 2], forward and backward."""

    reads_any_pitch = True

    def __init__(self, layer: Conv2D, x: int, y: int, followers: Sequence[Layer]) -> None:
        super().__init__(layer, x, y)
        self.conv = layer
        self.has_relu = any(isinstance(follower, ReLU) for follower in followers)
        self.pooling = next((follower for follower in followers if isinstance(follower, Pooling)), None)

    def _choose(self, graph: Graph) -> tuple[Window, type[Algorithm]]:
        """Return the window and the algorithm."""
        shape = graph.shapes[self.x]
        window = self.conv.window(shape)
        return window, choose(self.conv.algorithm, window, shape[0], self.conv.num_filters, self.conv.groups)

    def input_halo(self, graph: Graph) -> Halo:
        window, algorithm = self._choose(graph)
        self.reads_any_pitch = not issubclass(algorithm, Winograd)
        return algorithm.input_halo(window)

    def gradient_halo(self, graph: Graph) -> Halo:
        window, algorithm = self._choose(graph)
        return Halo() if self.pooling else algorithm.gradient_halo(window)

    def work(self, graph: Graph) -> float:
        filters = self.conv.num_filters * math.prod(self.conv.filter_size) * graph.shapes[self.x][0] / self.conv.groups
        return filters * math.prod(self.conv.window(graph.shapes[self.x]).outputs)

    def plan(self, graph: Graph) -> None:
        window, algorithm = self._choose(graph)
        y, dy, dx = graph.values[self.y], graph.gradients[self.y], graph.gradients[self.x]
        self.gradient, value = dy, y
        if self.pooling:
            value = Layout(y.channels, *window.outputs, y.pitch)
            self.gradient = dy and value.with_halo(algorithm.gradient_halo(window))
        convolution = Convolution(
            window, graph.shapes[self.x][0], self.conv.num_filters, self.conv.groups, graph.images,
            graph.values[self.x], value, self.gradient, dx, graph.dtype, y if self.pooling else None,
        )  # fmt: skip
        self.algorithm = algorithm(convolution)
        self.replayable = algorithm is not Im2col
        self.pitch, self.dtype, self.pixels = y.pitch, graph.dtype, y.pixels
        self.no_biases = aligned_zeros(y.pitch, graph.dtype)
        self.floor = graph.dtype.type(0 if self.has_relu else -np.inf)
        self.lines = None
        if self.pooling and dy and self.gradient:
            self.dy_row = dy.pixel_table(graph.images)
            self.conv_row = self.gradient.table(graph.images, *convolution.output_pixels())
        elif self.has_relu and dy:
            self.lines = y.line_table(graph.images), dy.line_table(graph.images), y.height, y.width * y.pitch

    def allocate(self, graph: Graph) -> _Kept:
        kept = _Kept(self.algorithm.allocate(), aligned_zeros(self.pitch, self.dtype))
        if self.pooling:
            kept.winners = np.zeros(graph.images * self.pixels * self.pitch, np.uint8)
            kept.gradient = self.gradient.allocate(graph.images, self.dtype) if self.gradient else None
        return kept

    def prepare(self) -> None:
        self.algorithm.pack(self.layer._values("filters", self.dtype))
        self.biases = self.layer._values("biases", self.dtype) if self.conv.bias else self.no_biases

    def forward(self, n: int, memory: Memory, run: Pass) -> None:
        x, y, kept = memory.values[self.x], memory.values[self.y], memory.kept[self.index]
        if self.pooling:
            self.algorithm.forward_pool(
                n, x, self.biases, self.floor, self.pooling.every, y, kept.winners, kept.scratch
            )
        else:
            self.algorithm.forward(n, x, self.biases, self.floor, y, kept.scratch)

    def backward(self, n: int, memory: Memory, gradients: Gradients, run: Pass) -> None:
        kept, dy, dx = memory.kept[self.index], memory.gradients[self.y], memory.gradients[self.x]
        assert dy is not None
        if self.pooling:
            pool_kernels.pool2_backward(
                dy, self.dy_row, kept.winners, n * self.pixels, self.pitch, kept.gradient, self.conv_row
            )
            dy = kept.gradient
            assert dy is not None
        elif self.lines:
            y_row, dy_row, lines, length = self.lines
            activation_kernels.relu_backward(memory.values[self.y], y_row, dy, dy_row, dy, dy_row, n * lines, length)
        dbias = gradients.get("biases", kept.dbias)
        self.algorithm.filter_gradient(n, memory.values[self.x], dy, gradients["filters"], dbias, kept.scratch)
        if dx is not None:
            self.algorithm.input_gradient(n, dy, dx, kept.scratch)


@dataclass
class _Kept:
    """What a convolution block keeps, and its scratch."""

    scratch: Any
    dbias: Array
    winners: Array | None = None
    gradient: Array | None = None
