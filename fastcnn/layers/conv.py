"""Convolution, alone or with the ReLU and the max-pooling that follow it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .. import checks
from ..engine.graph import Graph
from ..engine.ir import Block, Gradients, Memory, Pass, Store
from ..engine.layout import Halo, Layout, aligned_zeros
from ..engine.parameter import Parameter
from ..jit.target import vector_set
from ..kernels import activation as activation_kernels
from ..kernels import pool as pool_kernels
from ..ops.convolution.algorithm import Algorithm, Convolution, Piece
from ..ops.convolution.behind_max_pool import Entries, Sparse
from ..ops.convolution.depthwise import Depthwise
from ..ops.convolution.direct import Direct
from ..ops.convolution.groups import Grouped
from ..ops.convolution.pointwise import Pointwise
from ..ops.convolution.winograd import ALGORITHMS, choose
from ..ops.window import Pair, Window
from ..typing import Array, RandomState, Shape
from .activation import ReLU
from .base import Layer
from .conv_base import WithFilters, he_filters
from .norm import BatchNorm
from .pool import Pooling


class Conv2D(WithFilters):
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
        super().__init__(filter_size, stride, padding, dilation, bias, random_state)
        self.num_filters = checks.as_positive_int(num_filters, self.name, "num_filters")
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
        filters = he_filters(self.num_filters, input_shape[0] // self.groups, self.filter_size)
        return {"filters": filters, **self._bias_parameters(self.num_filters)}

    def _connect(self, graph: Graph, x: int, followers: Sequence[Layer] = ()) -> int:
        part = Part("filters", self.num_filters, self.window(graph.shapes[x]), self.groups, self.bias, self.algorithm)
        return connect_convolution(graph, self, part, x, followers)


@dataclass(frozen=True)
class Part:
    """One convolution of a layer.

    Attributes
    ----------
    filters : str
        Name of the filters among the layer's parameters; the biases are called `"biases"`.
    num_filters : int
    window : Window
    groups : int
    bias : bool
    algorithm : str
    """

    filters: str
    num_filters: int
    window: Window
    groups: int = 1
    bias: bool = True
    algorithm: str = "auto"

    def choose(self, channels: int) -> type[Algorithm]:
        """Return the algorithm for images of so many channels."""
        if self.groups > 1 and (self.algorithm != "im2col" and (vector_set().known or self.algorithm != "auto")):
            return Depthwise if self.groups == channels else Grouped
        return choose(self.algorithm, self.window, channels, self.num_filters, self.groups)


def connect_convolution(graph: Graph, layer: Layer, part: Part, x: int, followers: Sequence[Layer] = ()) -> int:
    """Add the block of a convolution, fused with the layers that follow it, behind edge `x`; return the output edge."""
    shape: Shape = (part.num_filters, *part.window.outputs)
    for follower in followers:
        shape = follower.output_shape(shape)
    return graph.add(_ConvBlock(layer, part, x, graph.edge(shape), followers))


class _ConvBlock(Block):
    """Convolution + bias [+ ReLU] [+ max-pool 2 x 2], forward and backward; in prediction also [+ batch norm]."""

    reads_any_pitch = True

    def __init__(self, layer: Layer, part: Part, x: int, y: int, followers: Sequence[Layer]) -> None:
        super().__init__(layer, x, y)
        self.conv = part
        self.norm = next((follower for follower in followers if isinstance(follower, BatchNorm)), None)
        self.has_relu = self.rectifies = any(isinstance(follower, ReLU) for follower in followers)
        self.pooling = next((follower for follower in followers if isinstance(follower, Pooling)), None)

    def input_halo(self, graph: Graph) -> Halo:
        algorithm = self.conv.choose(graph.shapes[self.x][0])
        self.reads_any_pitch = algorithm.reads_any_pitch
        self.in_pieces = algorithm.in_pieces and not self.pooling
        self.skips_zeros = algorithm is Direct and not self.pooling and self._finds_zeros(graph)
        self.reads_panels = algorithm.reads_panels(self.conv.window) and not self.pooling
        self.reads_gradient_panels = self.reads_panels and not (self.conv.bias or self.has_relu)
        return algorithm.input_halo(self.conv.window)

    def _finds_zeros(self, graph: Graph) -> bool:
        """Tell whether a ReLU is before it, and it is a convolution that can skip its zeros."""
        x = graph.aliases.get(self.x, self.x)
        rectified = any(block.rectifies for block in graph.blocks if block.y == x)
        pitches = graph.values[self.x].pitch, graph.values[self.y].pitch
        return rectified and Pointwise.knows(self.conv.window, pitches, graph.dtype)

    def gradient_halo(self, graph: Graph) -> Halo:
        return Halo() if self.pooling else self.conv.choose(graph.shapes[self.x][0]).gradient_halo(self.conv.window)

    def work(self, graph: Graph) -> float:
        window = self.conv.window
        taps = window.vertical.taps * window.horizontal.taps * graph.shapes[self.x][0] / self.conv.groups
        return self.conv.num_filters * taps * math.prod(window.outputs)

    def plan(self, graph: Graph) -> None:
        channels, window = graph.shapes[self.x][0], self.conv.window
        algorithm = Pointwise if self.skips_zeros else self.conv.choose(channels)
        y, dy, dx = graph.values[self.y], graph.gradients[self.y], graph.gradients[self.x]
        self.gradient, value = dy, y
        if self.pooling:
            value = Layout(y.channels, *window.outputs, y.pitch)
            self.gradient = dy and value.with_halo(algorithm.gradient_halo(window))
        convolution = Convolution(
            window, channels, self.conv.num_filters, self.conv.groups, graph.images,
            graph.values[self.x], value, self.gradient, dx, graph.dtype, y if self.pooling else None,
            graph.value_panels.get(self.x), graph.gradient_panels.get(self.y),
        )  # fmt: skip
        self.sparse = None
        if dy and algorithm is Direct and self.pooling and not self.pooling.every and Sparse.pays(convolution):
            self.sparse = Sparse(convolution, dy)
            convolution, self.gradient = replace(convolution, dy=None, dx=None), None
        self.algorithm = algorithm(convolution)
        self.replayable = algorithm.replayable
        self.spreads_pooling = algorithm.spreads_pooling and dx is None
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
        kept = _Kept(aligned_zeros(self.pitch, self.dtype))
        if self.pooling:
            # Only a backward pass asks which pixel was the largest.
            kept.winners = np.zeros(graph.training * graph.images * self.pixels * self.pitch, np.uint8)
            if self.sparse:
                kept.entries = self.sparse.allocate()
            elif self.gradient and not self.spreads_pooling:
                kept.gradient = self.gradient.allocate(graph.images, self.dtype)
        return kept

    def borrow(self, shared: Store) -> Any:
        key = "scratch", self.algorithm.scratch_key
        if key not in shared:
            shared[key] = self.algorithm.allocate()
        return shared[key]

    def fills(self, edge: int) -> bool:
        return self.algorithm.fills

    def copied(self) -> list[Array]:
        folded = [self.norm._flat, *self.norm._state().values()] if self.norm else []
        return [*super().copied(), *folded] if folded or self.algorithm.copies else []

    def prepare(self) -> None:
        filters = self.layer._values(self.conv.filters, self.dtype)
        self.biases = self.layer._values("biases", self.dtype) if self.conv.bias else self.no_biases
        if self.norm:
            filters, self.biases = self.norm.folded(filters, self.biases)
        self.algorithm.pack(filters)
        if self.sparse:
            self.sparse.pack(filters)

    def forward(self, n: int, memory: Memory, run: Pass) -> None:
        x, y, kept = memory.values[self.x], memory.values[self.y], memory.kept[self.index]
        scratch = memory.scratch[self.index]
        if self.pooling:
            self.algorithm.forward_pool(n, x, self.biases, self.floor, self.pooling.every, y, kept.winners, scratch)
        else:
            self.algorithm.forward(n, x, self.biases, self.floor, y, scratch, Piece(ahead=memory.ahead))

    def backward(self, n: int, memory: Memory, gradients: Gradients, run: Pass) -> None:
        kept, dy, dx = memory.kept[self.index], memory.gradients[self.y], memory.gradients[self.x]
        scratch = memory.scratch[self.index]
        assert dy is not None
        dw = gradients[self.conv.filters]
        dbias = gradients["biases"] if self.conv.bias else kept.dbias
        if self.sparse:
            self.sparse.backward(n, memory.values[self.x], dy, kept.winners, dx, dw, dbias, kept.entries)
            return
        if self.pooling and self.spreads_pooling:
            x = memory.values[self.x]
            self.algorithm.filter_gradient_pool(n, x, dy, self.dy_row, kept.winners, dw, dbias, scratch)
            return
        if self.pooling:
            pool_kernels.pool2_backward(
                dy, self.dy_row, kept.winners, n * self.pixels, self.pitch, kept.gradient, self.conv_row, False
            )
            dy = kept.gradient
            assert dy is not None
        elif self.lines:
            y_row, dy_row, lines, length = self.lines
            activation_kernels.relu_backward(
                memory.values[self.y], y_row, dy, dy_row, dy, dy_row, n * lines, length, False
            )
        piece = Piece(memory.done == 0, memory.ahead)
        self.algorithm.backward(n, memory.values[self.x], dy, dx, dw, dbias, scratch, piece)


@dataclass
class _Kept:
    """What a convolution block keeps."""

    dbias: Array
    winners: Array | None = None
    gradient: Array | None = None
    entries: Entries | None = None
