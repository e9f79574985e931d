"""The operation of a layer that says its formula in plain NumPy: maps in the public order, (n, C, H, W) or (n, D)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..engine.ir import Op, Plan, RunContext, Traits
from ..engine.layout import Layout
from ..engine.weights import Weights
from ..engine.workspace import Workspace
from ..typing import Array, Gradients, Shape


@dataclass(frozen=True)
class NumpyFormula:
    """A layer's formula and its gradient in plain NumPy, see `Layer`, and the shapes of one sample."""

    forward: Callable[[Array], Array]
    backward: Callable[[Array, Array, Array], Array | tuple[Array, dict[str, Array]]]
    input_shape: Shape
    output_shape: Shape


class NumpyOp(Op):
    """Calls the layer's `_forward` and `_backward` on views of the buffers, and looks at the shapes that come back."""

    traits = Traits(reads_any_pitch=True)

    def __init__(self, weights: Weights, x: int, y: int, formula: NumpyFormula) -> None:
        super().__init__(weights, x, y)
        self.formula, self.input_shape, self.output_shape = formula, formula.input_shape, formula.output_shape

    def bind(self, plan: Plan) -> None:
        self.layouts = plan.values[self.x], plan.values[self.y]
        self.gradient_layouts = plan.gradients[self.x], plan.gradients[self.y]

    def forward(self, n: int, workspace: Workspace, context: RunContext) -> None:
        x, y = self._values(n, workspace)
        x.flags.writeable = False  # a formula that writes to its input would change it for other layers too
        y[...] = self._checked("_forward", "output", self.formula.forward(x), y.shape)

    def backward(self, n: int, workspace: Workspace, gradients: Gradients, context: RunContext) -> None:
        x, y = self._values(n, workspace)
        x.flags.writeable = y.flags.writeable = False
        dx_layout, dy_layout = self.gradient_layouts
        dy, dx = workspace.gradients[self.y], workspace.gradients[self.x]
        assert dy is not None
        assert dy_layout is not None
        result = self.formula.backward(x, y, _public(dy_layout, dy, n, self.output_shape))
        dL_dinput, by_name = result if isinstance(result, tuple) else (result, {})
        if dx is not None:
            assert dx_layout is not None
            dL_dinput = self._checked("_backward", "dL_dinput", dL_dinput, x.shape)
            _public(dx_layout, dx, n, self.input_shape)[...] = dL_dinput
        self._leave(by_name, gradients)

    def _leave(self, by_name: dict[str, Array], gradients: Gradients) -> None:
        """Write the parameters' gradients to their storage."""
        specs = self.weights._specs
        if by_name.keys() != specs.keys():
            raise ValueError(
                f"{self.weights.name}: _backward: expected the gradients of {sorted(specs) or 'no parameters'}; "
                f"got {sorted(by_name) or 'none'}"
            )
        for name, spec in specs.items():
            spec.show(gradients[name])[...] = self._checked("_backward", name, by_name[name], spec.shape)

    def _values(self, n: int, workspace: Workspace) -> tuple[Array, Array]:
        """Return input and output as the layer wants to see them."""
        x, y = self.layouts
        xs = _public(x, workspace.values[self.x], n, self.input_shape)
        return xs, _public(y, workspace.values[self.y], n, self.output_shape)

    def _checked(self, method: str, what: str, array: Any, shape: Shape) -> Array:
        """Return `array` if it has the `shape`; NumPy would stretch others to it in silence."""
        got = getattr(array, "shape", None)
        if got != shape:
            raise ValueError(
                f"{self.weights.name}: {method}: {what}: expected shape {shape}; got "
                f"{type(array).__name__ if got is None else f'shape {got}'}"
            )
        result: Array = array
        return result


def _public(layout: Layout, buffer: Array, n: int, shape: Shape) -> Array:
    """Return the view of `n` samples of a public `shape`: (n, C, H, W) for maps, (n, D) for features."""
    view = layout.view(buffer, n)
    return view if len(shape) == 3 else view[:, :, 0, 0]
