"""Flatten: before a dense layer a change of tables that moves no number, elsewhere a copy."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..engine.graph import Graph
from ..engine.ir import Block, Gradients, Memory, Pass
from ..engine.layout import Layout
from ..typing import Array, Shape
from .base import Layer


class Flatten(Layer):
    """Maps (N, C, H, W) as features (N, C·H·W), in the order C, H, W."""

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (C · H · W,)."""
        return (math.prod(input_shape),)

    def _connect(self, graph: Graph, x: int, followers: Sequence[Layer] = ()) -> int:
        if followers:  # a dense layer, which reads maps in the public order through its tables
            return followers[0]._connect(graph, x, followers[1:])
        if graph.shapes[x][1:] == (1, 1):
            return x
        return graph.add(_FlattenBlock(self, x, graph.edge((math.prod(graph.shapes[x]),))))


class _FlattenBlock(Block):
    """Maps to features: memory has the channels last, features come in the order C, H, W."""

    reads_any_pitch = True

    def plan(self, graph: Graph) -> None:
        self.x_layout, self.y_layout = graph.values[self.x], graph.values[self.y]
        self.dx_layout, self.dy_layout = graph.gradients[self.x], graph.gradients[self.y]

    def forward(self, n: int, memory: Memory, run: Pass) -> None:
        x = self.x_layout.view(memory.values[self.x], n)
        self._maps(self.y_layout, memory.values[self.y], n)[...] = x

    def backward(self, n: int, memory: Memory, gradients: Gradients, run: Pass) -> None:
        dx, dy = memory.gradients[self.x], memory.gradients[self.y]
        if dx is not None:
            assert self.dx_layout is not None
            assert self.dy_layout is not None
            assert dy is not None
            self.dx_layout.view(dx, n)[...] = self._maps(self.dy_layout, dy, n)

    def _maps(self, layout: Layout, buffer: Array, n: int) -> Array:
        """Return the view (n, C, H, W) of the features of `n` images."""
        features = layout.view(buffer, n)[:, :, 0, 0]
        return features.reshape(n, *self.x_layout.shape)
