"""Pooling: the maximum or the mean of windows and of whole images; and the opposite of pooling, upsampling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..kernels import pool as kernels
from ..kernels.machine import vector_set
from ..typing import Array, Shape
from . import checks
from .base import Layer
from .block import Block, Gradients, Graph, Memory, Pass
from .geometry import Pair, Window, as_pair, resolve_window, windows_of_2
from .layout import Layout, aligned_zeros
from .taps import Reach, Table, inside, owners, windows

NOBODY = 255  # the mark of no pixel


class Pooling(Layer):
    """What all poolings share: images in, images out, a window.

    Attributes
    ----------
    every : bool
        Whether every tied maximum receives the gradient, or only the first.
    """

    every = False
    pool_size: Pair
    stride: Pair
    padding: Pair
    _stride_follows = False

    def _set_window(self, pool_size: int | Pair, stride: int | Pair | None, padding: int | Pair) -> None:
        """Take the arguments that poolings with any window share."""
        self.pool_size = as_pair(pool_size, self.name, "pool_size", 1)
        self.stride = self.pool_size if stride is None else as_pair(stride, self.name, "stride", 1)
        self._stride_follows = stride is None
        self.padding = as_pair(padding, self.name, "padding", 0)
        if any(2 * pad > size for pad, size in zip(self.padding, self.pool_size, strict=True)):
            raise ValueError(
                f"{self.name}: padding: expected at most half of pool_size = {self.pool_size}; got {self.padding}"
            )

    def _arguments(self) -> dict[str, Any]:
        arguments = super()._arguments()
        return {**arguments, "stride": None} if self._stride_follows else arguments

    def window(self, input_shape: Shape) -> Window:
        """Return the sliding window over images of `input_shape`."""
        size = input_shape[1], input_shape[2]
        return resolve_window(self.name, size, self.pool_size, self.stride, (1, 1), self.padding)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (C, oH, oW), rounded down."""
        checks.check_maps(input_shape, self.name)
        return (input_shape[0], *self.window(input_shape).outputs)

    @property
    def halves(self) -> bool:
        """Whether the windows are 2 x 2, side by side: the case that has a kernel of its own."""
        return self.pool_size == self.stride == (2, 2) and self.padding == (0, 0)

    @property
    def surrounds(self) -> bool:
        """Whether the windows are 3 x 3, around every pixel: they have kernels of their own too."""
        return self.pool_size == (3, 3) and self.stride == self.padding == (1, 1)

    def _check_input(self, x: Array) -> None:
        checks.check_shape(x, (None, None, None, None), self.name, "input", "images (N, C, H, W)")

    def _connect(self, graph: Graph, x: int, followers: Sequence[Layer] = ()) -> int:
        block = _Pool2Block if self.halves else _Pool3Block if self.surrounds else _PoolBlock
        return graph.add(block(self, x, graph.edge(self.output_shape(graph.shapes[x]))))


class MaxPool2(Pooling):
    """Max-pooling 2 x 2 as in the notebook: every tied maximum receives the gradient.

    The output is `max(x[2i, 2j], x[2i, 2j+1], x[2i+1, 2j], x[2i+1, 2j+1])`; a last odd row or column is left out.
    """

    every = True
    pool_size = stride = (2, 2)
    padding = (0, 0)


class MaxPool2D(Pooling):
    """Max-pooling as the field has it: the first maximum of a window, row by row, receives the gradient.

    Parameters
    ----------
    pool_size : int or pair of int
    stride : int or pair of int, optional
        `pool_size` if not given.
    padding : int or pair of int
        Pixels around the image that never win; at most half the window.

    Notes
    -----
    Sizes are rounded down: `floor((size + 2 · padding - pool_size) / stride) + 1`. Ties as in PyTorch, Keras and ONNX.
    """

    def __init__(self, pool_size: int | Pair = 2, stride: int | Pair | None = None, padding: int | Pair = 0) -> None:
        super().__init__()
        self._set_window(pool_size, stride, padding)


class _Pool2Block(Block):
    """Windows of 2 x 2: four bits per unit tell which pixels won."""

    replayable = True
    layer: Pooling

    def plan(self, graph: Graph) -> None:
        x, y = graph.values[self.x], graph.values[self.y]
        dx, dy = graph.gradients[self.x], graph.gradients[self.y]
        h, w = windows_of_2(x.height, x.width)
        self.x_row, self.y_row = x.table(graph.images, h, w), y.pixel_table(graph.images)
        self.dx_row = dx.table(graph.images, h, w) if dx else None
        self.dy_row = dy.pixel_table(graph.images) if dy else None
        self.dx_past = dx.outlasts_cache(graph.images, graph.dtype) if dx else False
        self.pixels, self.pitch, self.none = y.pixels, y.pitch, graph.dtype.type(-np.inf)
        self.pairs = y.pitch % (2 * vector_set().lanes(graph.dtype)) == 0

    def allocate(self, graph: Graph) -> Array:
        return np.zeros(graph.training * graph.images * self.pixels * self.pitch, np.uint8)

    def forward(self, n: int, memory: Memory, run: Pass) -> None:
        kernels.pool2(
            memory.values[self.x], self.x_row, 0, memory.values[self.y], self.y_row, memory.kept[self.index],
            0, n * self.pixels, self.pitch, self.none, self.layer.every,
        )  # fmt: skip

    def backward(self, n: int, memory: Memory, gradients: Gradients, run: Pass) -> None:
        dx = memory.gradients[self.x]
        if dx is not None:
            common = (
                memory.gradients[self.y], self.dy_row, memory.kept[self.index], n * self.pixels, self.pitch, dx,
                self.dx_row,
            )  # fmt: skip
            if self.dx_past and self.pairs:
                kernels.pool2_backward_past(*common)
            else:
                kernels.pool2_backward(*common, self.dx_past)


class _PoolBlock(Block):
    """The maximum of any window: the number of the tap that won is kept, in the layout of the output's gradient."""

    replayable = True

    layer: Pooling

    def plan(self, graph: Graph) -> None:
        x, y = graph.values[self.x], graph.values[self.y]
        dx, dy = graph.gradients[self.x], graph.gradients[self.y]
        axes = self.layer.window(x.shape)
        one = [1.0] * max(axes.outputs)
        taps, images, dtype = axes.horizontal.taps, graph.images, graph.dtype
        self.table = Table.of(windows(axes.vertical, one), windows(axes.horizontal, one), taps, x, images, dtype)
        self.y_row = y.pixel_table(images)
        self.kept_layout = dy or y
        self.kept_row = self.kept_layout.pixel_table(images)
        if dx and dy:
            self.back = Table.of(owners(axes.vertical, one), owners(axes.horizontal, one), taps, dy, images, dtype)
            self.dx_row, self.dx_pixels = dx.pixel_table(images), dx.pixels
            self.dx_past = dx.outlasts_cache(images, dtype)
        self.winner_dtype = np.uint8 if axes.vertical.taps * taps <= 1 + np.iinfo(np.uint8).max else np.int32
        self.pixels, self.pitch = y.pixels, y.pitch

    def allocate(self, graph: Graph) -> Array:
        return np.zeros(graph.images * self.kept_layout.image_size, self.winner_dtype)

    def forward(self, n: int, memory: Memory, run: Pass) -> None:
        kernels.pool(
            memory.values[self.x], self.table.row, self.table.window, self.table.number, memory.values[self.y],
            self.y_row, memory.kept[self.index], self.kept_row, n * self.pixels, self.pitch,
        )  # fmt: skip

    def backward(self, n: int, memory: Memory, gradients: Gradients, run: Pass) -> None:
        dx = memory.gradients[self.x]
        if dx is not None:
            kernels.pool_backward(
                memory.gradients[self.y], self.back.row, self.back.window, self.back.number, memory.kept[self.index],
                n * self.dx_pixels, self.pitch, dx, self.dx_row, self.dx_past,
            )  # fmt: skip


class _Pool3Block(Block):
    """The maximum of 3 x 3 around every pixel: the mark of the pixel that won is kept."""

    replayable = True

    def plan(self, graph: Graph) -> None:
        x, y = graph.values[self.x], graph.values[self.y]
        dx, dy = graph.gradients[self.x], graph.gradients[self.y]
        self.size = x.height, x.width, y.pitch
        self.x_line, self.y_line = x.line_table(graph.images), y.line_table(graph.images)
        # Not past the caches, however large: measured alone, one thread would take 5 % longer, and two 5 % less.
        self.past = False
        if dx and dy:
            self.dx_line, self.dy_line = dx.line_table(graph.images), dy.line_table(graph.images)
            self.dx_past = dx.outlasts_cache(graph.images, graph.dtype)

    def allocate(self, graph: Graph) -> tuple[Array, Array]:
        height, width, pitch = self.size
        winner = aligned_zeros(graph.images * height * (width + 2) * pitch, np.uint8)
        winner[:] = NOBODY
        return winner, aligned_zeros(4 * width * pitch, graph.dtype)

    def forward(self, n: int, memory: Memory, run: Pass) -> None:
        winner, scratch = memory.kept[self.index]
        kernels.pool3(
            memory.values[self.x], self.x_line, memory.values[self.y], self.y_line, winner, n, *self.size, scratch,
            self.past,
        )  # fmt: skip

    def backward(self, n: int, memory: Memory, gradients: Gradients, run: Pass) -> None:
        dx, (winner, scratch) = memory.gradients[self.x], memory.kept[self.index]
        if dx is not None:
            kernels.pool3_backward(
                memory.gradients[self.y], self.dy_line, winner, n, *self.size, dx, self.dx_line, scratch, self.dx_past
            )


class AvgPool2D(Pooling):
    """Average pooling: the mean of each window, the padding being zero.

    Parameters
    ----------
    pool_size : int or pair of int
    stride : int or pair of int, optional
        `pool_size` if not given.
    padding : int or pair of int
        Pixels of zeros around the image; at most half the window.
    count_include_pad : bool
        Whether the padding counts in the mean. True is PyTorch's default; Keras ("same") and ONNX do not count it.

    Notes
    -----
    Sizes are rounded down as in `MaxPool2D`. Each pixel of a window receives the output's gradient, divided by the
    number of pixels that counted.

    References
    ----------
    LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition", 1998, section II.A.
    """

    def __init__(
        self,
        pool_size: int | Pair = 2,
        stride: int | Pair | None = None,
        padding: int | Pair = 0,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__()
        self._set_window(pool_size, stride, padding)
        self.count_include_pad = bool(count_include_pad)

    halves = False

    def _connect(self, graph: Graph, x: int, followers: Sequence[Layer] = ()) -> int:
        axes = self.window(graph.shapes[x])
        weights = tuple(
            [1 / (axis.taps if self.count_include_pad else count) for count in inside(axis)]
            for axis in (axes.vertical, axes.horizontal)
        )
        return graph.add(_WindowSumBlock(self, x, graph.edge(self.output_shape(graph.shapes[x])), axes, weights))


class UpSample2D(Layer):
    """Nearest-neighbour upsampling: each pixel becomes a block of pixels, `y[i, j] = x[i // size, j // size]`.

    A pixel's gradient is the sum of its block's.

    Parameters
    ----------
    size : int or pair of int
        Rows and columns of a block.

    References
    ----------
    Odena, Dumoulin and Olah, "Deconvolution and checkerboard artifacts", Distill, 2016.
    """

    def __init__(self, size: int | Pair = 2) -> None:
        super().__init__()
        self.size = as_pair(size, self.name, "size", 1)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (C, size · H, size · W)."""
        checks.check_maps(input_shape, self.name)
        return input_shape[0], input_shape[1] * self.size[0], input_shape[2] * self.size[1]

    def _connect(self, graph: Graph, x: int, followers: Sequence[Layer] = ()) -> int:
        shape = self.output_shape(graph.shapes[x])
        axes = resolve_window(self.name, (shape[1], shape[2]), self.size, self.size, (1, 1), "valid")
        weights = [1.0] * axes.vertical.outputs, [1.0] * axes.horizontal.outputs
        return graph.add(_WindowSumBlock(self, x, graph.edge(shape), axes, weights, spreads=True))


class _WindowSumBlock(Block):
    """Weighted sums over windows; or, if it `spreads`, the opposite: each output of the window goes to all its taps."""

    replayable = True

    def __init__(
        self,
        layer: Layer,
        x: int,
        y: int,
        axes: Window,
        weights: tuple[Sequence[float], ...],
        spreads: bool = False,
    ) -> None:
        super().__init__(layer, x, y)
        self.axes, self.weights, self.spreads = axes, weights, spreads

    def plan(self, graph: Graph) -> None:
        x, y = graph.values[self.x], graph.values[self.y]
        dx, dy = graph.gradients[self.x], graph.gradients[self.y]
        images, dtype = graph.images, graph.dtype
        there, back = (owners, windows) if self.spreads else (windows, owners)
        self.x_table = self._table(there, x, images, dtype)
        self.y_row, self.y_pixels, self.pitch = y.pixel_table(images), y.pixels, y.pitch
        self.past = y.outlasts_cache(images, dtype)
        if dx and dy:
            self.dy_table = self._table(back, dy, images, dtype)
            self.dx_row, self.dx_pixels = dx.pixel_table(images), dx.pixels
            self.dx_past = dx.outlasts_cache(images, dtype)

    def _table(self, side: Callable[..., Reach], layout: Layout, images: int, dtype: np.dtype) -> Table:
        vertical, horizontal = self.axes.vertical, self.axes.horizontal
        reaches = side(vertical, self.weights[0]), side(horizontal, self.weights[1])
        return Table.of(*reaches, horizontal.taps, layout, images, dtype)

    def forward(self, n: int, memory: Memory, run: Pass) -> None:
        table = self.x_table
        kernels.window_sum(
            memory.values[self.x], table.row, table.window, table.weight, n * self.y_pixels, self.pitch,
            memory.values[self.y], self.y_row, self.past,
        )  # fmt: skip

    def backward(self, n: int, memory: Memory, gradients: Gradients, run: Pass) -> None:
        if memory.gradients[self.x] is not None:
            table = self.dy_table
            kernels.window_sum(
                memory.gradients[self.y], table.row, table.window, table.weight, n * self.dx_pixels, self.pitch,
                memory.gradients[self.x], self.dx_row, self.dx_past,
            )  # fmt: skip


class _GlobalPooling(Layer):
    """Whole images to one number a channel."""

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (C,)."""
        checks.check_maps(input_shape, self.name)
        return input_shape[:1]


class GlobalAvgPool2D(_GlobalPooling):
    """Mean of each channel: (N, C, H, W) to (N, C). Each pixel receives the gradient divided by H · W.

    References
    ----------
    Lin, Chen and Yan, "Network in network", ICLR 2014, section 3.2.
    """

    def _connect(self, graph: Graph, x: int, followers: Sequence[Layer] = ()) -> int:
        return graph.add(_GlobalAverageBlock(self, x, graph.edge(self.output_shape(graph.shapes[x]))))


class GlobalMaxPool2D(_GlobalPooling):
    """Maximum of each channel: (N, C, H, W) to (N, C). The first maximum, row by row, receives the gradient.

    References
    ----------
    Oquab, Bottou, Laptev and Sivic, "Is object localization for free?", CVPR 2015, section 3.
    """

    def _connect(self, graph: Graph, x: int, followers: Sequence[Layer] = ()) -> int:
        return graph.add(_GlobalMaximumBlock(self, x, graph.edge(self.output_shape(graph.shapes[x]))))


class _GlobalBlock(Block):
    replayable = True

    def plan(self, graph: Graph) -> None:
        x, y = graph.values[self.x], graph.values[self.y]
        dx, dy = graph.gradients[self.x], graph.gradients[self.y]
        self.x_row, self.y_row = x.line_table(graph.images), y.pixel_table(graph.images)
        self.lines, self.width, self.pitch, self.pixels = x.height, x.width, x.pitch, x.pixels
        if dx and dy:
            self.dy_row = dy.pixel_table(graph.images)
            self.dx_past = dx.outlasts_cache(graph.images, graph.dtype)
            self.plan_backward(graph, dx)

    def plan_backward(self, graph: Graph, dx: Layout) -> None:
        self.dx_row = dx.line_table(graph.images)


class _GlobalAverageBlock(_GlobalBlock):
    def plan(self, graph: Graph) -> None:
        super().plan(graph)
        self.scale = graph.dtype.type(1 / self.pixels)

    def plan_backward(self, graph: Graph, dx: Layout) -> None:
        self.dx_row = dx.pixel_table(graph.images)
        one_kind = np.zeros(self.dx_row.size, np.int32)
        self.row = np.stack([np.repeat(self.dy_row, self.pixels), one_kind], axis=1)
        self.window = np.array([[1, 0]], np.int32)
        self.weight = np.full((1, 1), 1 / self.pixels, graph.dtype)

    def forward(self, n: int, memory: Memory, run: Pass) -> None:
        kernels.global_average(
            memory.values[self.x], self.x_row, n, self.lines, self.width, self.pitch, memory.values[self.y], self.y_row,
            self.scale,
        )  # fmt: skip

    def backward(self, n: int, memory: Memory, gradients: Gradients, run: Pass) -> None:
        if memory.gradients[self.x] is not None:
            kernels.window_sum(
                memory.gradients[self.y], self.row, self.window, self.weight, n * self.pixels, self.pitch,
                memory.gradients[self.x], self.dx_row, self.dx_past,
            )  # fmt: skip


class _GlobalMaximumBlock(_GlobalBlock):
    def allocate(self, graph: Graph) -> Array:
        return np.zeros(graph.images * self.pitch, np.int32)

    def forward(self, n: int, memory: Memory, run: Pass) -> None:
        kernels.global_maximum(
            memory.values[self.x], self.x_row, n, self.lines, self.width, self.pitch, memory.values[self.y], self.y_row,
            memory.kept[self.index],
        )  # fmt: skip

    def backward(self, n: int, memory: Memory, gradients: Gradients, run: Pass) -> None:
        if memory.gradients[self.x] is not None:
            kernels.global_maximum_backward(
                memory.gradients[self.y], self.dy_row, memory.kept[self.index], n, self.lines, self.width, self.pitch,
                memory.gradients[self.x], self.dx_row, self.dx_past,
            )  # fmt: skip
