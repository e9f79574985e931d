"""Dense products with many weights: nothing is packed beforehand, and maps are brought into the weights' order."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..engine.arrays import aligned_zeros, as_table
from ..engine.ir import Graph, Piece, Plan, RunContext
from ..engine.layout import Layout
from ..engine.weights import Weights
from ..engine.workspace import Workspace
from ..jit.target import LANES
from ..kernels import dense as few_kernels
from ..kernels import dense_wide as kernels
from ..kernels.maps import Maps, Matrix
from ..typing import Array, Gradients
from .dense import FEW, NEAR, DenseOp
from .epilogue import NOTHING, Epilogue
from .fused_activation import FusedActivation

PACKED = 1 << 14  # numbers of packed weights, or gradients, at a time: they stay in the second-level cache
ROWS = 48  # lines of the weights' gradient that are written at a time, for the same reason
FITTING = 1 << 16  # weights that stay in the second-level cache: all shards read them as they are packed once


def lower_dense(graph: Graph, weights: Weights, nodes: int, x: int, epilogue: Epilogue = NOTHING) -> int:
    """Add a dense layer of the value `x`; return the output value."""
    features = math.prod(graph.shapes[x])
    implementation = WideDenseOp if features > NEAR or features * nodes > FITTING else DenseOp
    return graph.add(implementation(weights, x, graph.value((nodes,)), epilogue))


class WideDenseOp(DenseOp):
    """The same as `DenseOp`, for many weights; the sums are in the same order."""

    def bind(self, plan: Plan) -> None:
        x, y = plan.values[self.x], plan.values[self.y]
        dx, dy = plan.gradients[self.x], plan.gradients[self.y]
        images, self.dtype = plan.images, plan.dtype
        self.pitch, self.nodes, self.inputs = y.pitch, y.channels, x.channels * x.pixels
        self.few = images <= FEW
        self.y_row = y.pixel_table(images)
        self.x_row = as_table(np.arange(images) * x.image_size)
        self.w_row = as_table(np.arange(self.inputs) * y.pitch)
        self.no_biases = aligned_zeros(y.pitch, plan.dtype)
        self.clamp_min = plan.dtype.type(self.epilogue.clamp_min)
        self.fused = None
        if self.epilogue.activation:
            self.fused = FusedActivation(self.epilogue.activation, plan, self.y)
            self.fused.at_once = images  # the features of all are saved
        self.size = -(-self.inputs // LANES) * LANES
        self.order = None if x.pixels == 1 or x.is_public else Order(x, images)
        self.col = as_table(np.arange(self.inputs))
        self.features_row = as_table(np.arange(images) * self.size)
        self.a_row = self.features_row if self.order else self.x_row
        self.images = images
        self.dx_size = 0
        if dy:
            self.dy_row = dy.pixel_table(images)
            self.dy_col = as_table(np.arange(y.channels))
        if dx and dy:
            self.back = Order(dx, images) if dx.pixels > 1 else None
            self.dx_size = self.size if self.back else dx.image_size
            self.dx_row = self.features_row if self.back else as_table(np.arange(images) * dx.image_size)
            self.line = as_table(np.full(self.dx_size, -1))
            self.line[: self.inputs] = self.w_row
            self.zeros = aligned_zeros(self.dx_size, plan.dtype)

    def allocate(self, plan: Plan) -> Any:
        room = self.images * self.size + LANES
        panels = max(PACKED, 2 * LANES * self.pitch)  # two vectors of each line, at least
        back = room if self.dx_size and self.back else 0
        sizes = room if self.order else 0, back, panels, self.pitch
        features, gradients, packed, unused = (aligned_zeros(size, self.dtype) for size in sizes)
        return Scratch(features, gradients, packed, unused, self.fused.allocate() if self.fused else None)

    def saved_from(self, plan: Plan, saved: Scratch, image: int) -> Scratch:
        first = image * self.size
        return saved._replace(
            features=saved.features[first:],
            gradients=saved.gradients[first:],
            panels=aligned_zeros(saved.panels.size, self.dtype),
            before=self.fused.saved_from(saved.before, image) if self.fused else None,
        )

    def copied(self) -> list[Array]:
        return []

    def prepare(self) -> None:
        self.w, self.post = self._values()

    def prepare_backward(self) -> None:
        pass

    def forward(self, n: int, workspace: Workspace, context: RunContext) -> None:
        scratch, x, y = workspace.saved[self.index], workspace.values[self.x], workspace.values[self.y]
        if self.fused:
            self.fused.forward(n, y, scratch.before, lambda _, count, out: self._multiply_wide(count, x, out, scratch))
        else:
            self._multiply_wide(n, x, y, scratch)

    def _multiply_wide(self, n: int, x: Array, y: Array, scratch: Scratch) -> None:
        if self.order:
            order = self.order
            kernels.features(
                Matrix(x, self.x_row, order.pixel), n, order.pitch, order.channels,
                Maps(scratch.features, self.features_row),
            )  # fmt: skip
            x = scratch.features
        matrix, output = Matrix(x, self.a_row, self.col), Maps(y, self.y_row)
        if self.few:
            few_kernels.few_rows(matrix, n, Maps(self.w, self.w_row), output, self.pitch, self.post)
        else:
            kernels.product(matrix, n, self.w, output, self.pitch, self.post, scratch.panels)

    def parameter_gradients(
        self, n: int, workspace: Workspace, gradients: Gradients, context: RunContext, piece: Piece
    ) -> None:
        if not self.trains:
            return
        scratch, dy = workspace.saved[self.index], workspace.gradients[self.y]
        col, w_row, panels = self.col, self.w_row, scratch.panels
        biases = gradients.get("biases", scratch.unused)
        if piece.count > 1:  # each with scratch of its own; the first leaves the biases' gradient
            lines = piece.cut(self.inputs, ROWS)
            col, w_row, panels = col[lines], w_row[lines], aligned_zeros(panels.size, self.dtype)
            biases = biases if piece.number == 0 else aligned_zeros(self.pitch, self.dtype)
        x = scratch.features if self.order else workspace.values[self.x]
        kernels.weight_gradient(
            Matrix(x, self.a_row, col), n, Maps(dy, self.dy_row), self.pitch, ROWS, panels,
            Maps(gradients["weights"], w_row), self.no_biases, biases,
        )  # fmt: skip

    def _backward_input(self, n: int, workspace: Workspace) -> None:
        scratch = workspace.saved[self.index]
        dy, dx = workspace.gradients[self.y], workspace.gradients[self.x]
        assert dy is not None
        if dx is None:
            return
        kernels.input_gradient(
            Matrix(dy, self.dy_row, self.dy_col), n, Maps(self.w, self.line), self.dx_size,
            Maps(scratch.gradients if self.back else dx, self.dx_row), self.zeros, scratch.panels,
        )  # fmt: skip
        if self.back:
            order = self.back
            kernels.maps(
                Maps(scratch.gradients, self.features_row), n, order.line, order.width, order.pitch, order.channel,
                Maps(dx, order.row), order.size,
            )  # fmt: skip


class Scratch(NamedTuple):
    """What a worker needs: features of all images and their gradients, where they come from maps; panels; biases."""

    features: Array
    gradients: Array
    panels: Array
    unused: Array
    before: Array | None  # what a fused activation reads


class Order:
    """Tables that bring maps into the order C, H, W, and back."""

    def __init__(self, layout: Layout, images: int) -> None:
        self.channels, self.width, self.pitch, self.size = (
            layout.channels, layout.width, layout.pitch, layout.image_size
        )  # fmt: skip
        self.pixel, self.line = layout.pixel_table(1), layout.line_table(1)
        self.row = as_table(np.arange(images) * layout.image_size)
        self.channel = as_table(np.full(layout.pitch, -1))
        self.channel[: layout.channels] = np.arange(layout.channels) * layout.pixels
