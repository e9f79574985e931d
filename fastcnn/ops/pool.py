"""Poolings, forward beside backward; `layers/pool.py` has the formulas."""

from __future__ import annotations

import numpy as np

from ..engine.arrays import aligned_zeros, owned
from ..engine.ir import Op, Plan, RunContext, Traits
from ..engine.layout import Layout
from ..engine.weights import Weights
from ..engine.workspace import Workspace
from ..jit.target import vector_set
from ..kernels import pool as kernels
from ..kernels.maps import Maps
from ..typing import Array, Gradients
from .epilogue import Ties
from .window import Window, windows_of_2
from .window_tables import Reach, Table, owners, windows

NOBODY = 255  # the mark of no pixel
NO_NUMBERS = 1  # of taps: sums need none
Reaches = tuple[Reach, Reach]  # vertical, horizontal


class Pool2Op(Op):
    """Windows of 2 x 2: four bits per unit tell which pixels won."""

    traits = Traits(replayable=True, forward_by_image=True, backward_by_image=True)

    def __init__(self, weights: Weights, x: int, y: int, ties: Ties) -> None:
        super().__init__(weights, x, y)
        self.ties_all = ties == "all"

    def bind(self, plan: Plan) -> None:
        x, y = plan.values[self.x], plan.values[self.y]
        dx, dy = plan.gradients[self.x], plan.gradients[self.y]
        h, w = windows_of_2(x.height, x.width)
        self.x_row, self.y_row = x.table(plan.images, h, w), y.pixel_table(plan.images)
        self.dx_row = dx.table(plan.images, h, w) if dx else None
        self.dy_row = dy.pixel_table(plan.images) if dy else None
        self.dx_stream = dx.outlasts_cache(plan.images, plan.dtype) if dx else False
        self.pixels, self.pitch, self.none = y.pixels, y.pitch, plan.dtype.type(-np.inf)
        self.pairs = y.pitch % (2 * vector_set().lanes(plan.dtype)) == 0

    def fills_maps(self, plan: Plan) -> bool:
        return plan.values[self.x].pixels == 4 * self.pixels

    @property
    def keeps_gradient(self) -> bool:
        return True

    def allocate(self, plan: Plan) -> Array:
        return aligned_zeros(plan.training * plan.images * self.pixels * self.pitch, np.uint8)

    def saved_from(self, plan: Plan, saved: Array, image: int) -> Array:
        return saved[image * self.pixels * self.pitch :]

    def forward(self, n: int, workspace: Workspace, context: RunContext) -> None:
        kernels.pool2(
            Maps(workspace.values[self.x], self.x_row), 0, Maps(workspace.values[self.y], self.y_row),
            workspace.saved[self.index], 0, n * self.pixels, self.pitch, self.none, self.ties_all,
        )  # fmt: skip

    def backward(self, n: int, workspace: Workspace, gradients: Gradients, context: RunContext) -> None:
        dx = workspace.gradients[self.x]
        if dx is not None:
            common = (
                Maps(workspace.gradients[self.y], self.dy_row), workspace.saved[self.index], n * self.pixels,
                self.pitch, Maps(dx, self.dx_row),
            )  # fmt: skip
            if self.dx_stream and self.pairs:
                kernels.pool2_backward_stream(*common)
            else:
                kernels.pool2_backward(*common, self.dx_stream)


class PoolOp(Op):
    """The maximum of any window: the number of the tap that won is kept, in the layout of the output's gradient."""

    traits = Traits(replayable=True, forward_by_image=True, backward_by_image=True)

    def __init__(self, weights: Weights, x: int, y: int, window: Window) -> None:
        super().__init__(weights, x, y)
        self.axes = window

    def bind(self, plan: Plan) -> None:
        x, y = plan.values[self.x], plan.values[self.y]
        dx, dy = plan.gradients[self.x], plan.gradients[self.y]
        axes = self.axes
        one = [1.0] * max(axes.outputs)
        taps, images, dtype = axes.horizontal.taps, plan.images, plan.dtype
        self.table = Table.of(windows(axes.vertical, one), windows(axes.horizontal, one), taps, x, images, dtype)
        self.y_row = y.pixel_table(images)
        self.argmax_layout = dy or y
        self.argmax_row = self.argmax_layout.pixel_table(images)
        if dx and dy:
            self.back = Table.of(owners(axes.vertical, one), owners(axes.horizontal, one), taps, dy, images, dtype)
            self.dx_row, self.dx_pixels = dx.pixel_table(images), dx.pixels
            self.dx_stream = dx.outlasts_cache(images, dtype)
        self.argmax_dtype = np.uint8 if axes.vertical.taps * taps <= 1 + np.iinfo(np.uint8).max else np.int32
        self.pixels, self.pitch = y.pixels, y.pitch

    def allocate(self, plan: Plan) -> Array:
        return aligned_zeros(plan.images * self.argmax_layout.image_size, self.argmax_dtype)

    def saved_from(self, plan: Plan, saved: Array, image: int) -> Array:
        return saved[image * self.argmax_layout.image_size :]

    def forward(self, n: int, workspace: Workspace, context: RunContext) -> None:
        kernels.pool(
            Maps(workspace.values[self.x], self.table.row), self.table.window, self.table.number,
            Maps(workspace.values[self.y], self.y_row), Maps(workspace.saved[self.index], self.argmax_row),
            n * self.pixels, self.pitch,
        )  # fmt: skip

    def backward(self, n: int, workspace: Workspace, gradients: Gradients, context: RunContext) -> None:
        dx = workspace.gradients[self.x]
        if dx is not None:
            kernels.pool_backward(
                Maps(workspace.gradients[self.y], self.back.row), self.back.window, self.back.number,
                workspace.saved[self.index], n * self.dx_pixels, self.pitch, Maps(dx, self.dx_row), self.dx_stream,
            )  # fmt: skip


class Pool3Op(Op):
    """The maximum of 3 x 3 around every pixel: the mark of the pixel that won is kept."""

    traits = Traits(replayable=True, forward_by_image=True, backward_by_image=True)

    def bind(self, plan: Plan) -> None:
        x, y = plan.values[self.x], plan.values[self.y]
        dx, dy = plan.gradients[self.x], plan.gradients[self.y]
        self.size = x.height, x.width, y.pitch
        self.x_line, self.y_line = x.line_table(plan.images), y.line_table(plan.images)
        # Not past the caches, however large: measured alone, one thread would take 5 % longer, and two 5 % less.
        self.stream = False
        if dx and dy:
            self.dx_line, self.dy_line = dx.line_table(plan.images), dy.line_table(plan.images)
            self.dx_stream = dx.outlasts_cache(plan.images, plan.dtype)

    def allocate(self, plan: Plan) -> tuple[Array, Array]:
        height, width, pitch = self.size
        argmax = aligned_zeros(plan.images * height * (width + 2) * pitch, np.uint8)
        argmax[:] = NOBODY
        return argmax, aligned_zeros(4 * width * pitch, plan.dtype)

    def saved_from(self, plan: Plan, saved: tuple[Array, Array], image: int) -> tuple[Array, Array]:
        height, width, pitch = self.size
        return saved[0][image * height * (width + 2) * pitch :], aligned_zeros(4 * width * pitch, plan.dtype)

    def forward(self, n: int, workspace: Workspace, context: RunContext) -> None:
        argmax, scratch = workspace.saved[self.index]
        kernels.pool3(
            Maps(workspace.values[self.x], self.x_line), Maps(workspace.values[self.y], self.y_line), argmax, n,
            *self.size, scratch, self.stream,
        )  # fmt: skip

    def backward(self, n: int, workspace: Workspace, gradients: Gradients, context: RunContext) -> None:
        dx, (argmax, scratch) = workspace.gradients[self.x], workspace.saved[self.index]
        if dx is not None:
            kernels.pool3_backward(
                Maps(workspace.gradients[self.y], self.dy_line),
                argmax,
                n,
                *self.size,
                Maps(dx, self.dx_line),
                scratch,
                self.dx_stream,
            )


class WindowSumOp(Op):
    """Weighted sums over windows: `sums` says what each output reads, `returned` what each gradient of the input."""

    traits = Traits(replayable=True, forward_by_image=True, backward_by_image=True)

    def __init__(self, weights: Weights, x: int, y: int, sums: Reaches, returned: Reaches) -> None:
        super().__init__(weights, x, y)
        self.sums, self.returned = sums, returned

    def bind(self, plan: Plan) -> None:
        x, y = plan.values[self.x], plan.values[self.y]
        dx, dy = plan.gradients[self.x], plan.gradients[self.y]
        images, dtype = plan.images, plan.dtype
        self.x_table = Table.of(*self.sums, NO_NUMBERS, x, images, dtype)
        self.y_row, self.y_pixels, self.pitch = y.pixel_table(images), y.pixels, y.pitch
        self.stream = y.outlasts_cache(images, dtype)
        if dx and dy:
            self.dy_table = Table.of(*self.returned, NO_NUMBERS, dy, images, dtype)
            self.dx_row, self.dx_pixels = dx.pixel_table(images), dx.pixels
            self.dx_stream = dx.outlasts_cache(images, dtype)

    def forward(self, n: int, workspace: Workspace, context: RunContext) -> None:
        table = self.x_table
        kernels.window_sum(
            Maps(workspace.values[self.x], table.row), table.window, table.weight, n * self.y_pixels, self.pitch,
            Maps(workspace.values[self.y], self.y_row), self.stream,
        )  # fmt: skip

    def backward(self, n: int, workspace: Workspace, gradients: Gradients, context: RunContext) -> None:
        if workspace.gradients[self.x] is not None:
            table = self.dy_table
            kernels.window_sum(
                Maps(workspace.gradients[self.y], table.row), table.window, table.weight, n * self.dx_pixels,
                self.pitch, Maps(workspace.gradients[self.x], self.dx_row), self.dx_stream,
            )  # fmt: skip


class _GlobalPoolOp(Op):
    traits = Traits(replayable=True, forward_by_image=True, backward_by_image=True)

    def bind(self, plan: Plan) -> None:
        x, y = plan.values[self.x], plan.values[self.y]
        dx, dy = plan.gradients[self.x], plan.gradients[self.y]
        self.x_row, self.y_row = x.line_table(plan.images), y.pixel_table(plan.images)
        self.lines, self.width, self.pitch, self.pixels = x.height, x.width, x.pitch, x.pixels
        if dx and dy:
            self.dy_row = dy.pixel_table(plan.images)
            self.dx_stream = dx.outlasts_cache(plan.images, plan.dtype)
            self.bind_backward(plan, dx)

    def bind_backward(self, plan: Plan, dx: Layout) -> None:
        self.dx_row = dx.line_table(plan.images)


class GlobalAverageOp(_GlobalPoolOp):
    """The mean of whole images: backward is a window of one pixel."""

    def bind(self, plan: Plan) -> None:
        super().bind(plan)
        self.scale = plan.dtype.type(1 / self.pixels)

    def bind_backward(self, plan: Plan, dx: Layout) -> None:
        self.dx_row = dx.pixel_table(plan.images)
        self.row = aligned_zeros((self.dx_row.size, 2), np.int32)  # of one kind
        self.row[:, 0] = np.repeat(self.dy_row, self.pixels)
        self.window = owned(np.array([[1, 0]], np.int32))
        self.weight = owned(np.full((1, 1), 1 / self.pixels, plan.dtype))

    def forward(self, n: int, workspace: Workspace, context: RunContext) -> None:
        kernels.global_average(
            Maps(workspace.values[self.x], self.x_row), n, self.lines, self.width, self.pitch,
            Maps(workspace.values[self.y], self.y_row), self.scale,
        )  # fmt: skip

    def backward(self, n: int, workspace: Workspace, gradients: Gradients, context: RunContext) -> None:
        if workspace.gradients[self.x] is not None:
            kernels.window_sum(
                Maps(workspace.gradients[self.y], self.row), self.window, self.weight, n * self.pixels, self.pitch,
                Maps(workspace.gradients[self.x], self.dx_row), self.dx_stream,
            )  # fmt: skip


class GlobalMaximumOp(_GlobalPoolOp):
    """The maximum of whole images: the number of the pixel that won is kept."""

    def allocate(self, plan: Plan) -> Array:
        return aligned_zeros(plan.images * self.pitch, np.int32)

    def saved_from(self, plan: Plan, saved: Array, image: int) -> Array:
        return saved[image * self.pitch :]

    def forward(self, n: int, workspace: Workspace, context: RunContext) -> None:
        kernels.global_maximum(
            Maps(workspace.values[self.x], self.x_row), n, self.lines, self.width, self.pitch,
            Maps(workspace.values[self.y], self.y_row), workspace.saved[self.index],
        )  # fmt: skip

    def backward(self, n: int, workspace: Workspace, gradients: Gradients, context: RunContext) -> None:
        if workspace.gradients[self.x] is not None:
            kernels.global_maximum_backward(
                Maps(workspace.gradients[self.y], self.dy_row), workspace.saved[self.index], n, self.lines, self.width,
                self.pitch, Maps(workspace.gradients[self.x], self.dx_row), self.dx_stream,
            )  # fmt: skip
