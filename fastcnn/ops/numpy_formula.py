"""The block of a layer that says its formula in plain NumPy: maps in the public order, (n, C, H, W) or (n, D)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..engine.graph import Graph
from ..engine.ir import Block, Gradients, Memory, Pass
from ..engine.layout import Layout
from ..typing import Array, Shape

if TYPE_CHECKING:
    from ..layers.base import Layer


class NumpyBlock(Block):
    """Calls the layer's `_forward` and `_backward` on views of the buffers, and looks at the shapes that come back."""

    reads_any_pitch = True

    def __init__(self, layer: Layer, x: int, y: int, input_shape: Shape) -> None:
        super().__init__(layer, x, y)
        self.input_shape, self.output_shape = input_shape, layer.output_shape(input_shape)

    def plan(self, graph: Graph) -> None:
        self.layouts = graph.values[self.x], graph.values[self.y]
        self.gradient_layouts = graph.gradients[self.x], graph.gradients[self.y]

    def forward(self, n: int, memory: Memory, run: Pass) -> None:
        x, y = self._values(n, memory)
        x.flags.writeable = False  # a formula that writes to its input would change it for other layers too
        y[...] = self._checked("_forward", "output", self.layer._forward(x), y.shape)

    def backward(self, n: int, memory: Memory, gradients: Gradients, run: Pass) -> None:
        x, y = self._values(n, memory)
        x.flags.writeable = y.flags.writeable = False
        dx_layout, dy_layout = self.gradient_layouts
        dy, dx = memory.gradients[self.y], memory.gradients[self.x]
        assert dy is not None
        assert dy_layout is not None
        result = self.layer._backward(x, y, _public(dy_layout, dy, n, self.output_shape))
        dL_dinput, by_name = result if isinstance(result, tuple) else (result, {})
        if dx is not None:
            assert dx_layout is not None
            dL_dinput = self._checked("_backward", "dL_dinput", dL_dinput, x.shape)
            _public(dx_layout, dx, n, self.input_shape)[...] = dL_dinput
        self._leave(by_name, gradients)

    def _leave(self, by_name: dict[str, Array], gradients: Gradients) -> None:
        """Write the parameters' gradients to their storage."""
        specs = self.layer._specs
        if by_name.keys() != specs.keys():
            raise ValueError(
                f"{self.layer.name}: _backward: expected the gradients of {sorted(specs) or 'no parameters'}; "
                f"got {sorted(by_name) or 'none'}"
            )
        for name, spec in specs.items():
            spec.show(gradients[name])[...] = self._checked("_backward", name, by_name[name], spec.shape)

    def _values(self, n: int, memory: Memory) -> tuple[Array, Array]:
        """Return input and output as the layer wants to see them."""
        x, y = self.layouts
        xs = _public(x, memory.values[self.x], n, self.input_shape)
        return xs, _public(y, memory.values[self.y], n, self.output_shape)

    def _checked(self, method: str, what: str, array: Any, shape: Shape) -> Array:
        """Return `array` if it has the `shape`; NumPy would stretch others to it in silence."""
        got = getattr(array, "shape", None)
        if got != shape:
            raise ValueError(
                f"{self.layer.name}: {method}: {what}: expected shape {shape}; got "
                f"{type(array).__name__ if got is None else f'shape {got}'}"
            )
        result: Array = array
        return result


def _public(layout: Layout, buffer: Array, n: int, shape: Shape) -> Array:
    """Return the view of `n` samples of a public `shape`: (n, C, H, W) for maps, (n, D) for features."""
    view = layout.view(buffer, n)
    return view if len(shape) == 3 else view[:, :, 0, 0]
