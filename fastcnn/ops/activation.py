"""Elementwise functions, and softmax over the channels, forward beside backward."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..codegen.blocking import SOFTMAX
from ..engine.arrays import aligned_zeros
from ..engine.ir import Op, Plan, RunContext, Traits
from ..engine.layout import padded
from ..engine.weights import Weights
from ..engine.workspace import Workspace
from ..kernels import activation as kernels
from ..kernels.maps import Maps
from ..typing import Array, Gradients
from .epilogue import Formula


class ElementwiseOp(Op):
    """A function of single numbers, swept line by line: the layouts of input and output may differ in their halos."""

    traits = Traits(replayable=True, forward_by_image=True, backward_by_image=True, micro_batches=True)

    def __init__(self, weights: Weights, x: int, y: int, formula: Formula, constants: tuple[float, ...] = ()) -> None:
        super().__init__(weights, x, y)
        self.formula, self.constants = formula, constants
        self.traits = replace(self.traits, link=formula.link)

    def bind(self, plan: Plan) -> None:
        x, y = plan.values[self.x], plan.values[self.y]
        dx, dy = plan.gradients[self.x], plan.gradients[self.y]
        images, dtype = plan.images, plan.dtype
        self.x_row, self.y_row = x.line_table(images), y.line_table(images)
        self.lines, self.length = x.height, x.width * x.pitch
        self.typed_constants: tuple[Any, ...] = tuple(dtype.type(c) for c in self.constants)
        self.stream = y.outlasts_cache(images, dtype)
        if dx and dy:
            self.dx_row, self.dy_row = dx.line_table(images), dy.line_table(images)
            self.dx_stream = dx.outlasts_cache(images, dtype)

    def fills_maps(self, plan: Plan) -> bool:
        return True

    @property
    def keeps_gradient(self) -> bool:
        return True

    def forward(self, n: int, workspace: Workspace, context: RunContext) -> None:
        self.formula.forward(
            Maps(workspace.values[self.x], self.x_row), Maps(workspace.values[self.y], self.y_row), n * self.lines,
            self.length, *self.typed_constants, self.stream,
        )  # fmt: skip

    def backward(self, n: int, workspace: Workspace, gradients: Gradients, context: RunContext) -> None:
        if workspace.gradients[self.x] is not None:
            of_output = self.formula.of_output
            self.formula.backward(
                Maps(workspace.values[self.y], self.y_row) if of_output else Maps(workspace.values[self.x], self.x_row),
                Maps(workspace.gradients[self.y], self.dy_row), Maps(workspace.gradients[self.x], self.dx_row),
                n * self.lines, self.length, *self.typed_constants, self.dx_stream,
            )  # fmt: skip


class ChannelSoftmaxOp(Op):
    """Softmax over the channels of each pixel."""

    traits = Traits(replayable=True, forward_by_image=True, backward_by_image=True, link="softmax")

    def bind(self, plan: Plan) -> None:
        x, y = plan.values[self.x], plan.values[self.y]
        dx, dy = plan.gradients[self.x], plan.gradients[self.y]
        self.x_row, self.y_row = x.pixel_table(plan.images), y.pixel_table(plan.images)
        self.pixels, self.channels = x.pixels, x.channels
        self.stream = y.outlasts_cache(plan.images, plan.dtype)
        if dx and dy:
            self.dx_row, self.dy_row = dx.pixel_table(plan.images), dy.pixel_table(plan.images)
            self.dx_stream = dx.outlasts_cache(plan.images, plan.dtype)

    def fills_maps(self, plan: Plan) -> bool:
        return True

    @property
    def keeps_gradient(self) -> bool:
        return True

    def allocate(self, plan: Plan) -> Array:
        return aligned_zeros(SOFTMAX * (padded(1) + padded(self.channels)), plan.dtype)

    def saved_from(self, plan: Plan, saved: Array, image: int) -> Array:
        return self.allocate(plan)

    def forward(self, n: int, workspace: Workspace, context: RunContext) -> None:
        kernels.channel_softmax(
            Maps(workspace.values[self.x], self.x_row), n * self.pixels, self.channels,
            Maps(workspace.values[self.y], self.y_row), workspace.saved[self.index], self.stream,
        )  # fmt: skip

    def backward(self, n: int, workspace: Workspace, gradients: Gradients, context: RunContext) -> None:
        if workspace.gradients[self.x] is not None:
            kernels.channel_softmax_backward(
                Maps(workspace.values[self.y], self.y_row), Maps(workspace.gradients[self.y], self.dy_row),
                n * self.pixels, self.channels, Maps(workspace.gradients[self.x], self.dx_row), self.dx_stream,
            )  # fmt: skip
