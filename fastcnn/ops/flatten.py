"""Maps to features, where no dense layer reads them through tables: a copy."""

from __future__ import annotations

from ..engine.ir import Op, Plan, RunContext, Traits
from ..engine.layout import Layout
from ..engine.workspace import Workspace
from ..typing import Array, Gradients


class FlattenOp(Op):
    """Maps to features: memory has the channels last, features come in the order C, H, W."""

    traits = Traits(reads_any_pitch=True)

    def bind(self, plan: Plan) -> None:
        self.x_layout, self.y_layout = plan.values[self.x], plan.values[self.y]
        self.dx_layout, self.dy_layout = plan.gradients[self.x], plan.gradients[self.y]

    def forward(self, n: int, workspace: Workspace, context: RunContext) -> None:
        x = self.x_layout.view(workspace.values[self.x], n)
        self._maps(self.y_layout, workspace.values[self.y], n)[...] = x

    def backward(self, n: int, workspace: Workspace, gradients: Gradients, context: RunContext) -> None:
        dx, dy = workspace.gradients[self.x], workspace.gradients[self.y]
        if dx is not None:
            assert self.dx_layout is not None
            assert self.dy_layout is not None
            assert dy is not None
            self.dx_layout.view(dx, n)[...] = self._maps(self.dy_layout, dy, n)

    def _maps(self, layout: Layout, buffer: Array, n: int) -> Array:
        """Return the view (n, C, H, W) of the features of `n` images."""
        features = layout.view(buffer, n)[:, :, 0, 0]
        return features.reshape(n, *self.x_layout.shape)
