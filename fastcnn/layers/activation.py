"""Activations: elementwise functions of the maps."""

from __future__ import annotations

from collections.abc import Sequence

from ..kernels import activation as kernels
from ..typing import Shape
from .base import Layer
from .block import Block, Gradients, Graph, Memory, Pass


class ElementwiseBlock(Block):
    """A function of single numbers, swept line by line: the layouts of input and output may differ in their halos."""

    def plan(self, graph: Graph) -> None:
        x, y = graph.values[self.x], graph.values[self.y]
        dx, dy = graph.gradients[self.x], graph.gradients[self.y]
        self.x_row, self.y_row = x.line_table(graph.images), y.line_table(graph.images)
        self.dx_row = dx.line_table(graph.images) if dx else None
        self.dy_row = dy.line_table(graph.images) if dy else None
        self.lines, self.length = x.height, x.width * x.pitch


class ReLU(Layer):
    """Rectified linear unit, `max(0, x)`.

    The gradient passes where the output is positive.

    References
    ----------
    Nair and Hinton, "Rectified linear units improve restricted Boltzmann machines", ICML 2010.
    """

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return `input_shape`."""
        return input_shape

    def _connect(self, graph: Graph, x: int, followers: Sequence[Layer] = ()) -> int:
        return graph.add(_ReLUBlock(self, x, graph.edge(graph.shapes[x])))


class _ReLUBlock(ElementwiseBlock):
    replayable = True

    def forward(self, n: int, memory: Memory, run: Pass) -> None:
        kernels.relu(
            memory.values[self.x], self.x_row, memory.values[self.y], self.y_row, n * self.lines, self.length
        )  # fmt: skip

    def backward(self, n: int, memory: Memory, gradients: Gradients, run: Pass) -> None:
        if memory.gradients[self.x] is not None:
            kernels.relu_backward(
                memory.values[self.y], self.y_row, memory.gradients[self.y], self.dy_row,
                memory.gradients[self.x], self.dx_row, n * self.lines, self.length,
            )  # fmt: skip
