"""PReLU: a rectifier with trained slopes, forward beside backward."""

from __future__ import annotations

from ..engine.arrays import aligned_zeros
from ..engine.ir import Op, Plan, RunContext, Traits
from ..engine.weights import Weights
from ..engine.workspace import Workspace
from ..kernels import prelu as kernels
from ..kernels.maps import Maps
from ..typing import Array, Gradients

BLOCK = 256  # pixels whose sums are added up before they meet those of all others
SLOPE = "negative_slope"


class PReLUOp(Op):
    """`max(0, x) + slope · min(0, x)`, one slope for each channel, or for all of them."""

    traits = Traits(replayable=True, forward_by_image=True, micro_batches=True)

    def __init__(self, weights: Weights, x: int, y: int, shared: bool) -> None:
        super().__init__(weights, x, y)
        self.shared = shared

    def overwrites_gradient(self, value: int) -> bool:
        return True

    def bind(self, plan: Plan) -> None:
        x, y = plan.values[self.x], plan.values[self.y]
        dx, dy = plan.gradients[self.x], plan.gradients[self.y]
        self.x_row, self.y_row = x.line_table(plan.images), y.line_table(plan.images)
        self.dy_row = dy.line_table(plan.images) if dy else None
        self.dx_row = dx.line_table(plan.images) if dx else self.dy_row
        self.channels, self.height, self.width, self.pitch = x.channels, x.height, x.width, x.pitch
        self.block, self.dtype = max(1, BLOCK // x.width), plan.dtype

    def allocate(self, plan: Plan) -> tuple[Array, Array, Array]:
        """Return slopes of all channels, sums, and a place for a slope's gradient that is not needed."""
        slopes, unused = aligned_zeros(self.pitch, self.dtype), aligned_zeros(self.pitch, self.dtype)
        return slopes, aligned_zeros(2 * self.pitch, self.dtype), unused

    def saved_from(self, plan: Plan, saved: tuple[Array, Array, Array], image: int) -> tuple[Array, Array, Array]:
        return self.allocate(plan)

    def prepare(self) -> None:
        self.slope = self.weights._values(SLOPE, self.dtype)

    def _slopes(self, workspace: Workspace) -> Array:
        slopes: Array = workspace.saved[self.index][0]
        if not self.shared:
            return self.slope
        kernels.spread(self.slope, self.pitch, slopes)
        return slopes

    def forward(self, n: int, workspace: Workspace, context: RunContext) -> None:
        kernels.prelu(
            Maps(workspace.values[self.x], self.x_row), Maps(workspace.values[self.y], self.y_row), n * self.height,
            self.width, self.pitch, self._slopes(workspace),
        )  # fmt: skip

    def backward(self, n: int, workspace: Workspace, gradients: Gradients, context: RunContext) -> None:
        _, sums, unused = workspace.saved[self.index]
        dx, dy = workspace.gradients[self.x], workspace.gradients[self.y]
        kernels.prelu_backward(
            Maps(workspace.values[self.x], self.x_row), Maps(dy, self.dy_row),
            Maps(dy if dx is None else dx, self.dx_row),  # in place where it is not needed: only the sums are
            n * self.height, self.width, self.pitch, self.block, self._slopes(workspace), sums, workspace.done > 0,
        )  # fmt: skip
        kernels.slope_gradient(sums, self.channels, self.shared, gradients.get(SLOPE, unused))
