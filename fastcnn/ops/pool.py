"""Poolings as blocks: pixel by pixel, where the layers in `pool.py` say what and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..engine.graph import Graph
from ..engine.ir import Block, Gradients, Memory, Pass
from ..engine.layout import Layout, aligned_zeros
from ..jit.target import vector_set
from ..kernels import pool as kernels
from ..layers.base import Layer
from ..typing import Array
from .window import Window, windows_of_2
from .window_tables import Reach, Table, owners, windows

if TYPE_CHECKING:
    from ..layers.pool import Pooling

NOBODY = 255  # the mark of no pixel


class Pool2Block(Block):
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


class PoolBlock(Block):
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


class Pool3Block(Block):
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


class WindowSumBlock(Block):
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


class GlobalAverageBlock(_GlobalBlock):
    """The mean of whole images: backward is a window of one pixel."""

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


class GlobalMaximumBlock(_GlobalBlock):
    """The maximum of whole images: the number of the pixel that won is kept."""

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
