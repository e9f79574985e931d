"""`Segment`: some layers of a built model, computed by themselves; it owns nothing and changes nothing in the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..engine.ir import Graph
from ..engine.weights import Weights
from ..typing import Array, Gradients, Shape
from .base import Layer
from .fusion import lower_row


class Segment:
    """Layers in a row, for predictors and executables: the parameters are the model's, wherever they live.

    Parameters
    ----------
    layers : sequence of Layer
        Built; those of one model, or a part of them.
    input_shape : tuple of int
        Of one sample, (C, H, W) or (D,).
    dtype : dtype
        Of the model's parameters.
    behind : dict of Layer to Layer, optional
        Layers without parameters that are put behind those of the segment, or of a container in it.

    Notes
    -----
    Layers are not fused: each has an output of its own.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        input_shape: Shape,
        dtype: np.dtype,
        behind: Mapping[Layer, Layer] | None = None,
    ) -> None:
        self.layers, self.input_shape, self.behind = list(layers), input_shape, behind or {}
        self._flat: Array = np.zeros(0, dtype)
        self._size = sum(layer._size for layer in self.layers)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape behind the last layer."""
        for layer in self.layers:
            input_shape = layer.output_shape(input_shape)
        return input_shape

    def _lower(self, graph: Graph, x: int) -> int:
        graph.fuse = False
        if self.behind:
            graph.watch = self._lower_behind
        return lower_row(graph, self.layers, x)

    def _lower_behind(self, graph: Graph, layer: Layer, y: int) -> int:
        return self.behind[layer]._lower(graph, y) if layer in self.behind else y

    def _gradients_by_layer(self, flat: Array) -> dict[Weights, Gradients]:
        merged: dict[Weights, Gradients] = {layer: {} for layer in self.behind.values()}
        start = 0
        for layer in self.layers:
            merged.update(layer._gradients_by_layer(flat[start : start + layer._size]))
            start += layer._size
        return merged
