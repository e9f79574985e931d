"""`Sequential`: layers in a row, their shapes, and the one flat vector that holds all parameters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .layers import checks
from .layers.base import Layer
from .layers.block import Graph
from .layers.container import Container, check_row, row_shapes
from .layers.fusion import connect_row
from .typing import RandomState, Shape


class Sequential(Container):
    """Layers in a row: the output of each is the input of the next.

    Parameters
    ----------
    layers : sequence of Layer
    fuse : bool
        Whether runs such as `Conv2D, ReLU, MaxPool2D` are computed in one pass. The result is the same.

    Attributes
    ----------
    layers : list of Layer
    parameters, gradients : dict of str to array
        Named by the layer's place: `"0.filters"`, `"0.biases"`, ...; writable views in the public layout.

    Examples
    --------
    >>> from fastcnn import Conv2D, Dense, Flatten, MaxPool2D, ReLU, Sequential
    >>> model = Sequential([Conv2D(16, 3), ReLU(), MaxPool2D(2), Flatten(), Dense(10)])
    >>> model.build((1, 8, 8), random_state=0).output_shape((1, 8, 8))
    (10,)
    """

    def __init__(self, layers: Sequence[Layer], *, fuse: bool = True) -> None:
        super().__init__()
        self.layers = check_row(layers, self.name)
        self.fuse = fuse
        if not self.layers:
            raise ValueError(f"{self.name}: layers: expected at least one layer; got none")

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape behind the last layer."""
        *_, (_, _, shape) = row_shapes(self.layers, input_shape, self.name)
        return shape

    def build(  # type: ignore[override]
        self, input_shape: Shape, random_state: RandomState = None, dtype: Any = np.float32
    ) -> Sequential:
        """Create all parameters for inputs of `input_shape`, (C, H, W) or (D,), and return the model.

        Parameters
        ----------
        input_shape : tuple of int
        random_state : None, int, RandomState or Generator
            One generator serves all layers in order, except those with a `random_state` of their own.
        dtype : float32 or float64
        """
        shape = checks.check_input_shape(input_shape, self.name)
        self.output_shape(shape)
        self._create(shape, checks.as_float_dtype(dtype, self.name), random_state)
        return self

    def _children(self) -> Iterator[tuple[str, Layer]]:
        for place, layer in enumerate(self.layers):
            yield str(place), layer

    def _inner_shapes(self, input_shape: Shape) -> Iterator[tuple[Layer, Shape]]:
        for layer, inside, _ in row_shapes(self.layers, input_shape, self.name):
            yield layer, inside

    def _connect(self, graph: Graph, x: int, followers: Sequence[Layer] = ()) -> int:
        graph.fuse = graph.fuse and self.fuse
        return connect_row(graph, self.layers, x)
