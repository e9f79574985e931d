"""Channels times constants, plus constants: a normalisation whose coefficients are given."""

from __future__ import annotations

import numpy as np

from ..engine.arrays import aligned_zeros
from ..engine.ir import Plan, RunContext, Traits
from ..engine.weights import Weights
from ..engine.workspace import Workspace
from ..kernels import norm as kernels
from ..typing import Array, Gradients
from .lines import LineOp

Constants = float | tuple[float, ...]


class ScaleOp(LineOp):
    """`factor · x + shift`, channel by channel."""

    traits = Traits(
        replayable=True, forward_by_image=True, backward_by_image=True, micro_batches=True, backward_reads_input=False
    )

    def __init__(self, weights: Weights, x: int, y: int, factor: Constants, shift: Constants) -> None:
        super().__init__(weights, x, y)
        self.factor, self.shift = factor, shift

    def bind(self, plan: Plan) -> None:
        super().bind(plan)
        self.none = plan.dtype.type(-np.inf)
        self.forward_table, self.backward_table = self._table(self.shift), self._table(0.0)

    def _table(self, shift: Constants) -> Array:
        """Return what the kernels read: a mean of 0, the factors, the shifts; zeros where there is no channel."""
        table = aligned_zeros(3 * self.pitch, self.dtype)
        table[self.pitch : self.pitch + self.channels] = self.factor
        table[2 * self.pitch : 2 * self.pitch + self.channels] = shift
        return table

    def forward(self, n: int, workspace: Workspace, context: RunContext) -> None:
        x, y = self._values(workspace)
        kernels.normalise(x, y, 0, n * self.height, self.width, self.pitch, self.forward_table, self.none)

    def backward(self, n: int, workspace: Workspace, gradients: Gradients, context: RunContext) -> None:
        dx, dy = self._gradients(workspace)
        if dx.data is not None:
            kernels.normalise(dy, dx, 0, n * self.height, self.width, self.pitch, self.backward_table, self.none)
