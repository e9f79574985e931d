"""Dropout of single numbers and of whole channels: both passes compute the mask from the keys of the samples."""

from __future__ import annotations

import numpy as np

from ..engine.arrays import aligned_zeros
from ..engine.ir import Op, Plan, RunContext, Traits
from ..engine.weights import Weights
from ..engine.workspace import Workspace
from ..kernels import activation as activation_kernels
from ..kernels import dropout as kernels
from ..kernels.maps import Maps
from ..typing import Array, Gradients

WORD = 1 << 32  # random numbers of a unit are 32 bits


class DropoutOp(Op):
    """Keeps one key for each sample; both passes compute the mask from it."""

    traits = Traits(replayable=True, forward_by_image=True, backward_by_image=True)

    def __init__(self, weights: Weights, x: int, y: int, rate: float, seed: int, whole_channels: bool) -> None:
        super().__init__(weights, x, y)
        self.rate, self.seed, self.whole_channels = rate, seed, whole_channels

    def bind(self, plan: Plan) -> None:
        x, y = plan.values[self.x], plan.values[self.y]
        dx, dy = plan.gradients[self.x], plan.gradients[self.y]
        images = plan.images
        self.y_layout, self.dtype, self.images = y, plan.dtype, images
        self.x_row, self.y_row = x.line_table(images), y.line_table(images)
        self.stream = y.outlasts_cache(images, plan.dtype)
        if dx and dy:
            self.dx_row, self.dy_row = dx.line_table(images), dy.line_table(images)
            self.dx_stream = dx.outlasts_cache(images, plan.dtype)
        self.units = 0 if self.whole_channels else x.channels
        self.drop = min(WORD - 1, round(self.rate * WORD))
        self.scale = plan.dtype.type(1 / (1 - self.rate))
        self.one = plan.dtype.type(1)

    def allocate(self, plan: Plan) -> Array:
        return aligned_zeros(plan.images, np.uint64)

    def saved_from(self, plan: Plan, saved: Array, image: int) -> Array:
        return saved[image:]

    def forward(self, n: int, workspace: Workspace, context: RunContext) -> None:
        if context.training:
            kernels.sample_keys(self.seed, context.number, context.first, n, workspace.saved[self.index])
        self._pass(
            context, n, workspace.saved[self.index], Maps(workspace.values[self.x], self.x_row),
            Maps(workspace.values[self.y], self.y_row), self.stream,
        )  # fmt: skip

    def backward(self, n: int, workspace: Workspace, gradients: Gradients, context: RunContext) -> None:
        dx, dy = workspace.gradients[self.x], workspace.gradients[self.y]
        if dx is not None and dy is not None:
            self._pass(
                context, n, workspace.saved[self.index], Maps(dy, self.dy_row), Maps(dx, self.dx_row), self.dx_stream
            )

    def _pass(self, context: RunContext, n: int, keys: Array, x: Maps, y: Maps, stream: bool) -> None:
        layout = self.y_layout
        if context.training:
            kernels.dropout(
                x, y, keys, n, layout.height, layout.width, layout.pitch, self.units, self.drop,
                self.scale, stream,
            )  # fmt: skip
        else:
            activation_kernels.copy(x, y, n * layout.height, layout.width * layout.pitch, stream)

    def mask(self, n: int, workspace: Workspace) -> Array:
        """Return which units of `n` images passed, (n, C, H, W) of 0 and 1."""
        layout = self.y_layout
        ones, mask = (layout.allocate(self.images, self.dtype) for _ in range(2))
        ones[...] = 1
        kernels.dropout(
            Maps(ones, self.y_row), Maps(mask, self.y_row), workspace.saved[self.index], n, layout.height, layout.width,
            layout.pitch, self.units, self.drop, self.one, False,
        )  # fmt: skip
        return layout.view(mask, n)
