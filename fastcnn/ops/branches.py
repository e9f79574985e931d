"""Branches: a fork, and the sum or the concatenation that joins them again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..engine.ir import Op, Plan, RunContext, Traits
from ..engine.weights import Weights
from ..engine.workspace import Workspace
from ..kernels import residual as kernels
from ..kernels.maps import Maps
from ..typing import Gradients, Shape
from .epilogue import NOTHING, Epilogue
from .window import Pair


class ForkOp(Op):
    """The same maps into all branches: nothing to do, until their gradients are summed, in order."""

    traits = Traits(
        reads_any_pitch=True,
        replayable=True,
        forward_by_image=True,
        backward_by_image=True,
        backward_reads_input=False,
        micro_batches=True,
    )

    def __init__(self, weights: Weights, x: int, branches: list[int]) -> None:
        super().__init__(weights, x, branches[0])
        self.branches = branches

    @property
    def writes(self) -> tuple[int, ...]:
        """All branches."""
        return tuple(self.branches)

    def overwrites_gradient(self, value: int) -> bool:
        return True

    def bind(self, plan: Plan) -> None:
        dx = plan.gradients[self.x]
        self.rows = []
        if dx:
            self.rows = [layout.line_table(plan.images) for value in self.branches if (layout := plan.gradients[value])]
            self.dx_row, self.lines, self.length = dx.line_table(plan.images), dx.height, dx.width * dx.pitch
            self.none = plan.dtype.type(-np.inf)

    def forward(self, n: int, workspace: Workspace, context: RunContext) -> None:
        pass

    def backward(self, n: int, workspace: Workspace, gradients: Gradients, context: RunContext) -> None:
        dx = workspace.gradients[self.x]
        if dx is None:
            return
        first, *others = map(Maps, (workspace.gradients[value] for value in self.branches), self.rows)
        if not others:
            kernels.copy_channels(first, 0, Maps(dx, self.dx_row), 0, n * self.lines, self.length)
        for gradient in others:
            maps = Maps(dx, self.dx_row)
            kernels.add(first, gradient, maps, n * self.lines, self.length, self.length, self.none)
            first = Maps(dx, self.dx_row)


class AddOp(Op):
    """`a + b` [+ ReLU]; where b is smaller, every s-th pixel of b, and its channels are the first ones of a."""

    traits = Traits(
        replayable=True, forward_by_image=True, backward_by_image=True, backward_reads_input=False, micro_batches=True
    )

    def __init__(self, weights: Weights, a: int, b: int, y: int, alike: bool, epilogue: Epilogue = NOTHING) -> None:
        super().__init__(weights, a, y)
        self.b, self.alike, self.epilogue = b, alike, epilogue
        self.traits = replace(self.traits, rectifies=epilogue.rectifies)

    @property
    def reads(self) -> tuple[int, ...]:
        """Both summands."""
        return self.x, self.b

    def overwrites_gradient(self, value: int) -> bool:
        return value == self.x or self.alike

    def bind(self, plan: Plan) -> None:
        a, b, y = (plan.values[value] for value in (self.x, self.b, self.y))
        da, db, dy = (plan.gradients[value] for value in (self.x, self.b, self.y))
        images = plan.images
        self.clamp_min = plan.dtype.type(self.epilogue.clamp_min)
        if self.alike:
            self.runs, self.length = y.height, y.width * y.pitch
            self.shared = self.length
            self.a_row, self.b_row, self.y_row = (layout.line_table(images) for layout in (a, b, y))
            self.da_row, self.db_row, self.dy_row = (
                layout.line_table(images) if layout else None for layout in (da, db, dy)
            )
            return
        self.runs, self.length, self.shared = y.pixels, y.pitch, b.channels
        strides = strides_between(b.shape, y.shape)
        h, w = strides[0] * np.arange(y.height)[:, None], strides[1] * np.arange(y.width)[None, :]
        self.a_row, self.y_row = a.pixel_table(images), y.pixel_table(images)
        self.da_row, self.dy_row = (layout.pixel_table(images) if layout else None for layout in (da, dy))
        self.b_row, self.db_row = b.table(images, h, w), db.table(images, h, w) if db else None

    def forward(self, n: int, workspace: Workspace, context: RunContext) -> None:
        kernels.add(
            Maps(workspace.values[self.x], self.a_row), Maps(workspace.values[self.b], self.b_row),
            Maps(workspace.values[self.y], self.y_row), n * self.runs, self.length, self.shared, self.clamp_min,
        )  # fmt: skip

    def backward(self, n: int, workspace: Workspace, gradients: Gradients, context: RunContext) -> None:
        # In db, pixels that are left out and channels that are not there have been zero from the beginning.
        first = Maps(workspace.gradients[self.x], self.da_row)
        second = Maps(workspace.gradients[self.b], self.db_row)
        shared = self.shared
        if first.data is None:
            first, second = second, first
        if first.data is None:
            return
        if second.data is None:
            second, shared = first, 0
        kernels.add_backward(
            Maps(workspace.values[self.y], self.y_row), Maps(workspace.gradients[self.y], self.dy_row), first, second,
            n * self.runs, self.length, shared, self.epilogue.rectifies,
        )  # fmt: skip


class ConcatOp(Op):
    """The channels of several maps side by side."""

    traits = Traits(
        reads_any_pitch=True, replayable=True, forward_by_image=True, backward_by_image=True, micro_batches=True
    )

    def __init__(self, weights: Weights, parts: list[int], y: int) -> None:
        super().__init__(weights, parts[0], y)
        self.parts = parts

    @property
    def reads(self) -> tuple[int, ...]:
        """All branches."""
        return tuple(self.parts)

    def bind(self, plan: Plan) -> None:
        images, y, dy = plan.images, plan.values[self.y], plan.gradients[self.y]
        self.channels = [plan.graph.shapes[value][0] for value in self.parts]
        self.first = np.cumsum([0, *self.channels[:-1]]).tolist()
        self.x_rows = [plan.values[value].pixel_table(images) for value in self.parts]
        self.dx_rows = [
            layout.pixel_table(images) if layout else None for layout in map(plan.gradients.__getitem__, self.parts)
        ]
        self.y_row, self.dy_row = y.pixel_table(images), dy.pixel_table(images) if dy else None
        self.pixels = y.pixels

    def forward(self, n: int, workspace: Workspace, context: RunContext) -> None:
        y = workspace.values[self.y]
        for value, row, first, channels in zip(self.parts, self.x_rows, self.first, self.channels, strict=True):
            kernels.copy_channels(
                Maps(workspace.values[value], row), 0, Maps(y, self.y_row), first, n * self.pixels, channels
            )  # fmt: skip

    def backward(self, n: int, workspace: Workspace, gradients: Gradients, context: RunContext) -> None:
        dy = workspace.gradients[self.y]
        for value, row, first, channels in zip(self.parts, self.dx_rows, self.first, self.channels, strict=True):
            dx = workspace.gradients[value]
            if dx is not None:
                kernels.copy_channels(Maps(dy, self.dy_row), first, Maps(dx, row), 0, n * self.pixels, channels)


def strides_between(input_shape: Shape, output_shape: Shape) -> Pair:
    """Return s, where every s-th pixel of the input, row by row and column by column, makes the output."""
    return -(-input_shape[1] // output_shape[1]), -(-input_shape[2] // output_shape[2])
