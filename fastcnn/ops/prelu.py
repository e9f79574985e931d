"""PReLU: a rectifier with trained slopes, forward beside backward."""

from __future__ import annotations

from ..engine.arrays import aligned_zeros
from ..engine.ir import Plan, RunContext, Traits
from ..engine.weights import Weights
from ..engine.workspace import Workspace
from ..kernels import prelu as kernels
from ..typing import Array, Gradients
from .lines import LineOp
from .norm import BLOCK

SLOPE = "negative_slope"


class PReLUOp(LineOp):
    """`max(0, x) + slope · min(0, x)`, one slope for each channel, or for all of them."""

    traits = Traits(replayable=True, forward_by_image=True, micro_batches=True)

    def __init__(self, weights: Weights, x: int, y: int, shared: bool) -> None:
        super().__init__(weights, x, y)
        self.shared = shared

    def bind(self, plan: Plan) -> None:
        super().bind(plan)
        self.block = max(1, BLOCK // self.width)

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
        x, y = self._values(workspace)
        kernels.prelu(x, y, n * self.height, self.width, self.pitch, self._slopes(workspace))

    def backward(self, n: int, workspace: Workspace, gradients: Gradients, context: RunContext) -> None:
        _, sums, unused = workspace.saved[self.index]
        (x, _), (dx, dy) = self._values(workspace), self._gradients(workspace)
        target = dy if dx.data is None else dx  # in place where it is not needed: only the sums are
        kernels.prelu_backward(
            x, dy, target, n * self.height, self.width, self.pitch, self.block, self._slopes(workspace), sums,
            workspace.done > 0,
        )  # fmt: skip
        kernels.slope_gradient(sums, self.channels, self.shared, gradients.get(SLOPE, unused))
