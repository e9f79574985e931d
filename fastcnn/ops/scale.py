"""Channels times constants, plus constants: a normalisation whose coefficients are given."""

from __future__ import annotations

import numpy as np

from ..engine.arrays import aligned_zeros
from ..engine.ir import Op, Plan, RunContext, Traits
from ..engine.weights import Weights
from ..engine.workspace import Workspace
from ..kernels import norm as kernels
from ..kernels.maps import Maps
from ..typing import Array, Gradients

Constants = float | tuple[float, ...]


class ScaleOp(Op):
    """`factor · x + shift`, channel by channel."""

    traits = Traits(
        replayable=True, forward_by_image=True, backward_by_image=True, micro_batches=True, backward_reads_input=False
    )

    def __init__(self, weights: Weights, x: int, y: int, factor: Constants, shift: Constants) -> None:
        super().__init__(weights, x, y)
        self.factor, self.shift = factor, shift

    def overwrites_gradient(self, value: int) -> bool:
        return True

    def bind(self, plan: Plan) -> None:
        x, y = plan.values[self.x], plan.values[self.y]
        dx, dy = plan.gradients[self.x], plan.gradients[self.y]
        self.x_row, self.y_row = x.line_table(plan.images), y.line_table(plan.images)
        self.dx_row = dx.line_table(plan.images) if dx else None
        self.dy_row = dy.line_table(plan.images) if dy else None
        self.height, self.width, self.pitch = x.height, x.width, x.pitch
        self.none = plan.dtype.type(-np.inf)
        self.forward_table = self._table(plan, x.channels, self.shift)
        self.backward_table = self._table(plan, x.channels, 0.0)

    def _table(self, plan: Plan, channels: int, shift: Constants) -> Array:
        """Return what the kernels read: a mean of 0, the factors, the shifts; zeros where there is no channel."""
        table = aligned_zeros(3 * self.pitch, plan.dtype)
        table[self.pitch : self.pitch + channels] = self.factor
        table[2 * self.pitch : 2 * self.pitch + channels] = shift
        return table

    def forward(self, n: int, workspace: Workspace, context: RunContext) -> None:
        kernels.normalise(
            Maps(workspace.values[self.x], self.x_row), Maps(workspace.values[self.y], self.y_row), 0,
            n * self.height, self.width, self.pitch, self.forward_table, self.none,
        )  # fmt: skip

    def backward(self, n: int, workspace: Workspace, gradients: Gradients, context: RunContext) -> None:
        dx = workspace.gradients[self.x]
        if dx is not None:
            kernels.normalise(
                Maps(workspace.gradients[self.y], self.dy_row), Maps(dx, self.dx_row), 0, n * self.height, self.width,
                self.pitch, self.backward_table, self.none,
            )  # fmt: skip
