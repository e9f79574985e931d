"""Dense products and the softmax behind them, forward beside backward."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..codegen.blocking import PIXELS, is_panel
from ..engine.arrays import aligned_zeros, as_table, owned
from ..engine.ir import Graph, Op, Piece, Plan, RunContext, Traits
from ..engine.weights import Weights
from ..engine.workspace import Workspace
from ..jit.target import COMMON
from ..kernels import activation as activation_kernels
from ..kernels import dense as kernels
from ..kernels import loss as loss_kernels
from ..kernels import product
from ..kernels.maps import Maps, Matrix, PostOps
from ..typing import Array, Gradients
from .epilogue import NOTHING, Epilogue
from .fused_activation import FusedActivation

NEAR = COMMON.first // 8 // 4  # features that stay in the first-level cache, beside those of a tile's other examples
LINES = 48  # of the weights' gradient that are worth a thread
FEW = 2  # examples at once that are better multiplied by weights as they lie than by packed ones


class Scratch(NamedTuple):
    """What a worker needs: a panel of the gradient, a place for unwanted biases, what a fused activation reads."""

    panel: Array
    unused: Array
    before: Array | None


class DenseOp(Op):
    """`x · weights + biases` [+ activation]; maps are read in the public order C, H, W wherever their numbers lie."""

    traits = Traits(reads_any_pitch=True, replayable=True, forward_by_image=True, backward_by_image=True)

    def __init__(self, weights: Weights, x: int, y: int, epilogue: Epilogue = NOTHING) -> None:
        super().__init__(weights, x, y)
        self.epilogue = epilogue

    def work(self, graph: Graph) -> float:
        return math.prod(graph.shapes[self.x]) * math.prod(graph.shapes[self.y])

    def bind(self, plan: Plan) -> None:
        x, y = plan.values[self.x], plan.values[self.y]
        dx, dy = plan.gradients[self.x], plan.gradients[self.y]
        images = plan.images
        self.dtype, self.pitch, self.nodes = plan.dtype, y.pitch, y.channels
        # Wherever they lie, features are read in the public order, in which the weights stand: few columns of these are
        # a panel already.
        self.x_col, numbers = x.physical_order()
        order = np.argsort(numbers)
        self.x_col, numbers = owned(self.x_col[order]), numbers[order]
        self.is_panel = is_panel(y.pitch, plan.dtype)
        self.inputs = self.x_col.size
        self.w_row = as_table(numbers * y.pitch)
        self.x_row = as_table(np.arange(images) * x.image_size)
        self.y_row = y.pixel_table(images)
        self.few = images <= FEW
        self.packed = aligned_zeros(0 if self.few else self.inputs * y.pitch, plan.dtype)
        self.no_biases = aligned_zeros(y.pitch, plan.dtype)
        self.nothing = np.zeros(0, plan.dtype)  # to prefetch
        self.clamp_min = plan.dtype.type(self.epilogue.clamp_min)
        self.x_size, self.fused = x.image_size, None
        if self.epilogue.activation:
            self.fused = FusedActivation(self.epilogue.activation, plan, self.y)
        self.dx_size = 0
        if dy:
            self.dy_row = dy.pixel_table(images)
            self.dy_col = as_table(np.arange(y.channels))
        if dx and dy:
            self.dx_size = dx.image_size
            self.dx_row = as_table(np.arange(images) * dx.image_size)
            # Halo and padding channels are columns of zeros, so that whole images are stored without a gap.
            offsets, rows = dx.physical_order()
            self.lane_row = as_table(np.full(dx.image_size, -1))
            self.lane_row[offsets] = rows * y.pitch
            self.block = aligned_zeros(1, np.int32)
            self.packed_transposed = aligned_zeros(self.nodes * dx.image_size, plan.dtype)
            self.no_post = PostOps(aligned_zeros(dx.image_size, plan.dtype), plan.dtype.type(-np.inf))

    def allocate(self, plan: Plan) -> Any:
        panel, unused = aligned_zeros(PIXELS * self.pitch, self.dtype), aligned_zeros(self.pitch, self.dtype)
        return Scratch(panel, unused, self.fused.allocate() if self.fused else None)

    def fills_maps(self, plan: Plan) -> bool:
        return True

    @property
    def keeps_gradient(self) -> bool:
        return not (self.epilogue.rectifies or self.fused)

    def saved_from(self, plan: Plan, saved: Any, image: int) -> Any:
        return saved._replace(before=self.fused.saved_from(saved.before, image)) if self.fused else saved

    def copied(self) -> list[Array]:
        return [] if self.few or self.is_panel else super().copied()

    def prepare(self) -> None:
        weights, self.post = self._values()
        if self.is_panel or self.few:
            self.packed = weights
        else:
            product.pack(Maps(weights, self.w_row), self.pitch, self.packed)

    def _values(self) -> tuple[Array, PostOps]:
        """Return the weights, and the biases with the clamp."""
        weights = self.weights._values("weights", self.dtype)
        has_biases = "biases" in self.weights.parameters
        biases = self.weights._values("biases", self.dtype) if has_biases else self.no_biases
        return weights, PostOps(biases, self.clamp_min)

    def prepare_backward(self) -> None:
        if self.dx_size:
            weights = self.weights._values("weights", self.dtype)
            product.pack_transposed(Matrix(weights, self.block, self.lane_row), self.nodes, self.packed_transposed)

    def forward(self, n: int, workspace: Workspace, context: RunContext) -> None:
        x, y = workspace.values[self.x], workspace.values[self.y]
        if self.fused is None:
            self._multiply(n, x, y)
            return

        def compute(first: int, count: int, out: Array) -> None:
            self._multiply(count, x[first * self.x_size :], out)

        self.fused.forward(n, y, workspace.saved[self.index].before, compute)

    def _multiply(self, n: int, features: Array, output: Array) -> None:
        x, y = Matrix(features, self.x_row, self.x_col), Maps(output, self.y_row)
        if self.few:
            kernels.few_rows(x, n, Maps(self.packed, self.w_row), y, self.pitch, self.post)
        else:
            product.product(x, 0, n, self.packed, 0, y, self.pitch, self.post, self.nothing)

    def backward(self, n: int, workspace: Workspace, gradients: Gradients, context: RunContext) -> None:
        self._backward_epilogue(n, workspace, workspace.saved[self.index].before)
        self.parameter_gradients(n, workspace, gradients, context, Piece())
        self._backward_input(n, workspace)

    def backward_images(self, n: int, workspace: Workspace, context: RunContext) -> None:
        self._backward_epilogue(n, workspace, workspace.saved[self.index].before)
        self._backward_input(n, workspace)

    def pieces(self, most: int) -> int:
        return min(most, max(1, self.inputs // LINES)) if self.trains else 0

    def parameter_gradients(
        self, n: int, workspace: Workspace, gradients: Gradients, context: RunContext, piece: Piece
    ) -> None:
        if not self.trains:
            return
        scratch, dy = workspace.saved[self.index], workspace.gradients[self.y]
        assert dy is not None
        x_col, w_row, panel = self.x_col, self.w_row, scratch.panel
        biases = gradients.get("biases", scratch.unused)
        if piece.count > 1:  # each with scratch of its own; the first leaves the biases' gradient
            lines = piece.cut(self.inputs, LINES)
            x_col, w_row, panel = x_col[lines], w_row[lines], aligned_zeros(panel.size, self.dtype)
            biases = biases if piece.number == 0 else aligned_zeros(self.pitch, self.dtype)
        x = Matrix(workspace.values[self.x], self.x_row, x_col)
        product.gradient_product(
            x, n, Maps(dy, self.dy_row), self.pitch, PIXELS, panel, Maps(gradients["weights"], w_row), self.no_biases,
            biases, False,
        )  # fmt: skip

    def _backward_input(self, n: int, workspace: Workspace) -> None:
        dy, dx = workspace.gradients[self.y], workspace.gradients[self.x]
        assert dy is not None
        if dx is not None:
            product.product(
                Matrix(dy, self.dy_row, self.dy_col), 0, n, self.packed_transposed, 0, Maps(dx, self.dx_row),
                self.dx_size, self.no_post, self.nothing,
            )  # fmt: skip

    def _backward_epilogue(self, n: int, workspace: Workspace, before: Array | None) -> None:
        """Turn the gradient of the output, in place, into that of the product."""
        y, dy = workspace.values[self.y], workspace.gradients[self.y]
        assert dy is not None
        if self.epilogue.rectifies:
            gradient = Maps(dy, self.dy_row)
            activation_kernels.relu_backward(Maps(y, self.y_row), gradient, gradient, n, self.pitch, False)
        if self.fused:
            self.fused.backward(n, y, before, dy)


class SoftmaxOp(Op):
    """Logits to probabilities. The notebook's gradient belongs to the logits, so it passes as it is."""

    traits = Traits(
        replayable=True, forward_by_image=True, backward_by_image=True, link="softmax", passes_gradient=True
    )

    def bind(self, plan: Plan) -> None:
        x, y = plan.values[self.x], plan.values[self.y]
        self.begin = aligned_zeros(1, np.int32)
        self.x_row, self.y_row = x.pixel_table(plan.images), y.pixel_table(plan.images)
        self.classes = y.channels

    def fills_maps(self, plan: Plan) -> bool:
        return True

    @property
    def keeps_gradient(self) -> bool:
        return True

    def forward(self, n: int, workspace: Workspace, context: RunContext) -> None:
        loss_kernels.softmax(
            Maps(workspace.values[self.x], self.x_row), n, self.classes, Maps(workspace.values[self.y], self.y_row)
        )  # fmt: skip

    def backward(self, n: int, workspace: Workspace, gradients: Gradients, context: RunContext) -> None:
        dx, dy = workspace.gradients[self.x], workspace.gradients[self.y]
        assert dx is not None
        assert dy is not None
        activation_kernels.copy(Maps(dy, self.begin), Maps(dx, self.begin), 1, dx.size, False)
