"""Max-pooling: the notebook's, where every tied maximum receives the gradient; the field's, where the first does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..kernels import pool as kernels
from ..typing import Array, IntArray, Shape
from . import checks
from .base import Layer
from .block import Block, Gradients, Graph, Memory, Pass
from .geometry import Axis, Pair, Window, as_pair, resolve_window, windows_of_2


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

    def window(self, input_shape: Shape) -> Window:
        """Return the sliding window over images of `input_shape`."""
        size = input_shape[1], input_shape[2]
        return resolve_window(self.name, size, self.pool_size, self.stride, (1, 1), self.padding)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (C, oH, oW), rounded down."""
        if len(input_shape) != 3:
            raise ValueError(f"{self.name}: input: expected images (N, C, H, W); got samples of shape {input_shape}")
        return (input_shape[0], *self.window(input_shape).outputs)

    @property
    def halves(self) -> bool:
        """Whether the windows are 2 x 2, side by side: the case that has a kernel of its own."""
        return self.pool_size == self.stride == (2, 2) and self.padding == (0, 0)

    def _check_input(self, x: Array) -> None:
        checks.check_shape(x, (None, None, None, None), self.name, "input", "images (N, C, H, W)")

    def _connect(self, graph: Graph, x: int, followers: Sequence[Layer] = ()) -> int:
        block = _Pool2Block if self.halves else _PoolBlock
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
        self.pool_size = as_pair(pool_size, self.name, "pool_size", 1)
        self.stride = self.pool_size if stride is None else as_pair(stride, self.name, "stride", 1)
        self.padding = as_pair(padding, self.name, "padding", 0)
        if any(2 * pad > size for pad, size in zip(self.padding, self.pool_size, strict=True)):
            raise ValueError(
                f"{self.name}: padding: expected at most half of pool_size = {self.pool_size}; got {self.padding}"
            )


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
        self.pixels, self.pitch, self.none = y.pixels, y.pitch, graph.dtype.type(-np.inf)

    def allocate(self, graph: Graph) -> Array:
        return np.zeros(graph.images * self.pixels * self.pitch, np.uint8)

    def forward(self, n: int, memory: Memory, run: Pass) -> None:
        kernels.pool2(
            memory.values[self.x], self.x_row, 0, memory.values[self.y], self.y_row, memory.kept[self.index],
            0, n * self.pixels, self.pitch, self.none, self.layer.every,
        )  # fmt: skip

    def backward(self, n: int, memory: Memory, gradients: Gradients, run: Pass) -> None:
        dx = memory.gradients[self.x]
        if dx is not None:
            winners = memory.kept[self.index]
            kernels.pool2_backward(
                memory.gradients[self.y], self.dy_row, winners, n * self.pixels, self.pitch, dx, self.dx_row
            )


class _PoolBlock(Block):
    """Any window: the number of the first maximum within its window is kept."""

    replayable = True
    layer: Pooling

    def plan(self, graph: Graph) -> None:
        x, y = graph.values[self.x], graph.values[self.y]
        dx, dy = graph.gradients[self.x], graph.gradients[self.y]
        window = self.layer.window(x.shape)
        self.x_row, self.x_window = _clipped_windows(window, x, graph.images)
        self.y_row = y.pixel_table(graph.images)
        if dx and dy:
            self.dx_row, self.dx_window = _clipped_windows(window, dx, graph.images)
            self.dy_row, self.dx_size = dy.pixel_table(graph.images), dx.image_size
        taps = self.layer.pool_size[0] * self.layer.pool_size[1]
        self.winner_dtype = np.uint8 if taps <= np.iinfo(np.uint8).max else np.int32
        self.pixels, self.pitch = y.pixels, y.pitch

    def allocate(self, graph: Graph) -> Array:
        return np.zeros(graph.images * self.pixels * self.pitch, self.winner_dtype)

    def forward(self, n: int, memory: Memory, run: Pass) -> None:
        kernels.pool(
            memory.values[self.x], self.x_row, self.x_window, memory.values[self.y], self.y_row,
            memory.kept[self.index], n * self.pixels, self.pitch,
        )  # fmt: skip

    def backward(self, n: int, memory: Memory, gradients: Gradients, run: Pass) -> None:
        dx = memory.gradients[self.x]
        if dx is not None:
            kernels.pool_backward(
                memory.gradients[self.y], self.dy_row, self.dx_row, self.dx_window, memory.kept[self.index],
                n * self.pixels, self.pitch, dx, n * self.dx_size,
            )  # fmt: skip


def _clipped_windows(window: Window, layout: Any, images: int) -> tuple[IntArray, IntArray]:
    """Return each output pixel's (offset, kind of window), and each kind's (count, offsets...).

    Windows that reach beyond the image are cut there; all windows that are cut alike are of one kind.
    """
    vertical, vertical_kinds = _clip(window.vertical)
    horizontal, horizontal_kinds = _clip(window.horizontal)
    taps = window.vertical.taps * window.horizontal.taps
    kinds = np.zeros((len(vertical_kinds) * len(horizontal_kinds), 1 + taps), np.int32)
    for a, rows in enumerate(vertical_kinds):
        for b, columns in enumerate(horizontal_kinds):
            offsets = (rows[:, None] * layout.row_size + columns[None, :] * layout.pitch).ravel()
            kinds[a * len(horizontal_kinds) + b, : 1 + offsets.size] = [offsets.size, *offsets]
    h = np.arange(window.vertical.outputs) * window.vertical.stride - window.vertical.before
    w = np.arange(window.horizontal.outputs) * window.horizontal.stride - window.horizontal.before
    row = layout.table(images, h[:, None], w[None, :])
    kind = (vertical[:, None] * len(horizontal_kinds) + horizontal[None, :]).ravel()
    return np.stack([row, np.tile(kind, images)], axis=1).astype(np.int32), kinds


def _clip(axis: Axis) -> tuple[IntArray, list[IntArray]]:
    """Return the kind of each output's window in one direction, and the taps of each kind that lie in the image."""
    kinds: dict[tuple[int, ...], int] = {}
    numbers = []
    for output in range(axis.outputs):
        pixels = output * axis.stride - axis.before + np.arange(axis.taps)
        taps = tuple(np.flatnonzero((pixels >= 0) & (pixels < axis.size)).tolist())
        numbers.append(kinds.setdefault(taps, len(kinds)))
    return np.array(numbers), [np.array(taps) for taps in kinds]
