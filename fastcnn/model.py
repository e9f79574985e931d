"""`Sequential`: layers in a row, their shapes, and the one flat vector that holds all parameters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .fusion import find_runs
from .layers import checks
from .layers.base import Layer
from .layers.block import Gradients, Graph
from .layers.layout import aligned_zeros
from .typing import Array, RandomState, Shape


class Sequential(Layer):
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
        self.layers = list(layers)
        self.fuse = fuse
        for place, layer in enumerate(self.layers):
            if not isinstance(layer, Layer):
                raise TypeError(f"{self.name}: layers[{place}]: expected a layer; got {layer!r}")
            if any(layer is other for other in self.layers[:place]):
                raise ValueError(f"{self.name}: layers[{place}]: {layer.name} stands in the row twice")
        if not self.layers:
            raise ValueError(f"{self.name}: layers: expected at least one layer; got none")

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape behind the last layer."""
        for _, shape in self._shapes(input_shape):
            input_shape = shape
        return input_shape

    def _shapes(self, input_shape: Shape) -> Iterator[tuple[Layer, Shape]]:
        """Yield each layer with its output shape; an error names the layer's place."""
        for place, layer in enumerate(self.layers):
            try:
                input_shape = layer.output_shape(input_shape)
            except ValueError as error:
                raise ValueError(f"{self.name}: layer {place}: {error}") from None
            yield layer, input_shape

    def build(self, input_shape: Shape, random_state: RandomState = None, dtype: Any = np.float32) -> Sequential:  # type: ignore[override]
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
        self._create(shape, np.dtype(dtype), random_state)
        return self

    def _create(self, shape: Shape, dtype: np.dtype, random_state: RandomState) -> None:
        self.input_shape = shape
        self._plan, self._last = None, []
        generator = checks.as_generator(random_state)
        inside = shape
        for layer, outside in self._shapes(shape):
            layer.build(inside, dtype=dtype, random_state=generator)
            inside = outside
        flat = aligned_zeros(self._size, dtype)
        for layer, piece in self._split(flat):
            piece[...] = layer._flat
        self._bind(flat)
        self._flat_gradients, self.gradients = np.zeros(0, dtype), {}

    @property
    def _size(self) -> int:
        return sum(layer._size for layer in self.layers)

    def _split(self, flat: Array) -> Iterator[tuple[Layer, Array]]:
        """Yield each layer with its piece of a flat vector."""
        start = 0
        for layer in self.layers:
            yield layer, flat[start : start + layer._size]
            start += layer._size

    def _bind(self, flat: Array) -> None:
        for layer, piece in self._split(flat):
            layer._bind(piece)
        super()._bind(flat)

    def _show(self, flat: Array) -> dict[str, Array]:
        return {
            f"{place}.{name}": view
            for place, (layer, piece) in enumerate(self._split(flat))
            for name, view in layer._show(piece).items()
        }

    def _gradients_by_layer(self, flat: Array) -> dict[Layer, Gradients]:
        merged: dict[Layer, Gradients] = {}
        for layer, piece in self._split(flat):
            merged.update(layer._gradients_by_layer(piece))
        return merged

    def _check_input(self, x: Array) -> None:
        super()._check_input(x)
        if self.input_shape is not None and x.shape[1:] != self.input_shape:
            raise ValueError(
                f"{self.name}: input: expected samples of shape {self.input_shape}; "
                f"got {x.shape[1:]} in shape {x.shape}"
            )

    def _connect(self, graph: Graph, x: int, followers: Sequence[Layer] = ()) -> int:
        runs = find_runs(self.layers) if self.fuse else ((layer, ()) for layer in self.layers)
        for head, behind in runs:
            x = head._connect(graph, x, behind)
        return x
