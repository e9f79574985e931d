"""What operations share that go through maps line by line."""

from __future__ import annotations

from ..engine.ir import Op, Plan
from ..engine.workspace import Workspace
from ..kernels.maps import Maps


class LineOp(Op):
    """An operation on lines of pixels: where the lines of its maps begin, and how large an image is."""

    def bind(self, plan: Plan) -> None:
        x, y = plan.values[self.x], plan.values[self.y]
        dx, dy = plan.gradients[self.x], plan.gradients[self.y]
        self.x_row, self.y_row = x.line_table(plan.images), y.line_table(plan.images)
        self.dx_row = dx.line_table(plan.images) if dx else None
        self.dy_row = dy.line_table(plan.images) if dy else None
        self.channels, self.height, self.width, self.pitch = x.channels, x.height, x.width, x.pitch
        self.dtype = plan.dtype

    def overwrites_gradient(self, value: int) -> bool:
        return True

    def _values(self, workspace: Workspace) -> tuple[Maps, Maps]:
        """Return input and output."""
        return Maps(workspace.values[self.x], self.x_row), Maps(workspace.values[self.y], self.y_row)

    def _gradients(self, workspace: Workspace) -> tuple[Maps, Maps]:
        """Return their gradients."""
        return Maps(workspace.gradients[self.x], self.dx_row), Maps(workspace.gradients[self.y], self.dy_row)
