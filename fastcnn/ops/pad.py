"""Rows and columns around images: each pixel of the output repeats one of the input, or is a constant."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..engine.arrays import aligned_zeros, as_table
from ..engine.ir import Op, Plan, RunContext, Traits
from ..engine.weights import Weights
from ..engine.workspace import Workspace
from ..kernels import activation as activation_kernels
from ..kernels import pool as kernels
from ..kernels.maps import Maps
from ..typing import Gradients
from .window_tables import Reach, Table

Sources = Sequence[int | None]  # for each row or column of the output that of the input, None for a constant


class PadOp(Op):
    """Copies of pixels, as sums over windows of one pixel; backward each pixel sums the gradients of its copies."""

    traits = Traits(
        replayable=True, forward_by_image=True, backward_by_image=True, micro_batches=True, backward_reads_input=False
    )

    def __init__(self, weights: Weights, x: int, y: int, sources: tuple[Sources, Sources], constant: float) -> None:
        super().__init__(weights, x, y)
        self.sources, self.constant = sources, constant

    def overwrites_gradient(self, value: int) -> bool:
        return True

    def bind(self, plan: Plan) -> None:
        x, y = plan.values[self.x], plan.values[self.y]
        dx, dy = plan.gradients[self.x], plan.gradients[self.y]
        images, dtype = plan.images, plan.dtype
        copied = [_copied(sources) for sources in self.sources]
        self.table = Table.of(copied[0], copied[1], 1, x, images, dtype)
        self.y_row, self.y_pixels, self.pitch = y.pixel_table(images), y.pixels, y.pitch
        self.stream = y.outlasts_cache(images, dtype)
        if self.constant:
            rows, columns = (np.array([source is None for source in sources]) for sources in self.sources)
            h, w = np.nonzero(rows[:, None] | columns[None, :])
            self.border_row, self.border = y.table(images, h, w), h.size
            self.pixel, self.pixel_row = aligned_zeros(y.pitch, dtype), as_table(np.zeros(images * h.size))
            self.pixel[: y.channels] = self.constant
        if dx and dy:
            summed = [_summed(sources, size) for sources, size in zip(self.sources, x.shape[1:], strict=True)]
            self.back = Table.of(summed[0], summed[1], 1, dy, images, dtype)
            self.dx_row, self.dx_pixels = dx.pixel_table(images), dx.pixels
            self.dx_stream = dx.outlasts_cache(images, dtype)

    def forward(self, n: int, workspace: Workspace, context: RunContext) -> None:
        y = workspace.values[self.y]
        kernels.window_sum(
            Maps(workspace.values[self.x], self.table.row), self.table.window, self.table.weight, n * self.y_pixels,
            self.pitch, Maps(y, self.y_row), self.stream,
        )  # fmt: skip
        if self.constant:
            activation_kernels.copy(
                Maps(self.pixel, self.pixel_row), Maps(y, self.border_row), n * self.border, self.pitch, self.stream
            )

    def backward(self, n: int, workspace: Workspace, gradients: Gradients, context: RunContext) -> None:
        dx = workspace.gradients[self.x]
        if dx is not None:
            kernels.window_sum(
                Maps(workspace.gradients[self.y], self.back.row), self.back.window, self.back.weight,
                n * self.dx_pixels, self.pitch, Maps(dx, self.dx_row), self.dx_stream,
            )  # fmt: skip


def _copied(sources: Sources) -> Reach:
    """Return what each row or column of the output reads: its source, or nothing."""
    return Reach.of(((0, ()) if source is None else (source, ((0, 0, 1.0),))) for source in sources)


def _summed(sources: Sources, size: int) -> Reach:
    """Return what each row or column of the input's gradient reads: those that repeat it, in their order."""
    copies: list[list[int]] = [[] for _ in range(size)]
    for place, source in enumerate(sources):
        if source is not None:
            copies[source].append(place)
    return Reach.of((places[0], tuple((place - places[0], 0, 1.0) for place in places)) for places in copies)
