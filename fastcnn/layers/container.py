"""Layers that are made of layers: their parameters, by place, in one flat vector."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from .. import checks
from ..engine.arrays import aligned_zeros
from ..engine.executable_cache import ExecutableCache
from ..engine.weights import Weights
from ..typing import Array, Gradients, RandomState, Shape
from ..views import FixedList, Views
from .base import Layer
from .dropout import tell_streams_apart


class Container(Layer):
    """A layer whose parameters are those of other layers."""

    def __init__(self, *, name: str | None = None, trainable: bool = True) -> None:
        super().__init__(name=name, trainable=trainable)
        if not isinstance(self._trainable, bool):
            raise TypeError(f"{self.name}: trainable: expected True or False, for all layers inside; got {trainable!r}")

    def _children(self) -> Iterable[tuple[str, Layer]]:
        """Yield each inner layer and its place, the prefix of its parameters' names."""
        raise NotImplementedError

    def _inner_shapes(self, input_shape: Shape) -> Iterator[tuple[Layer, Shape]]:
        """Yield each inner layer, in the order of `_children`, with the shape of its input."""
        raise NotImplementedError

    def _inner_rows(self) -> Iterator[list[tuple[str, Layer]]]:
        """Yield the rows of inner layers with their places; the first of each takes the container's input."""
        raise NotImplementedError

    def _create(self, shape: Shape, dtype: np.dtype, random_state: RandomState) -> None:
        generator = checks.as_generator(random_state)
        self._executables = ExecutableCache()
        for (place, _), (layer, inside) in zip(self._children(), self._inner_shapes(shape), strict=True):
            try:
                self._expect_own_mode(layer)
                layer._join(self._flat, inside, dtype, generator)
            except ValueError as error:
                row, _, number = place.rpartition(".")
                raise ValueError(f"{self.name}: {row and row + ': '}layer {number}: {error}") from None
        tell_streams_apart(self._modes())
        if not self._trainable:
            self._freeze()
        self._enter_mode(self._training)
        self._keep(input_shape=shape)
        self._gradients = Views()
        self._gather(dtype)
        self._flat_gradients = np.zeros(0, dtype)

    def _check_resize(self, shape: Shape) -> None:
        for (place, _), (layer, inside) in zip(self._children(), self._inner_shapes(shape), strict=True):
            try:
                layer._check_resize(inside)
            except ValueError as error:
                raise ValueError(f"{self.name}: layer {place}: {error}") from None

    def _resize(self, shape: Shape) -> None:
        super()._resize(shape)
        for layer, inside in [*self._inner_shapes(shape)]:
            layer._resize(inside)

    def _freeze(self) -> None:
        """Let no parameter inside be trained; a layer is told so anew whenever it joins a model."""
        for layer in self._modes():
            if layer is not self:
                layer._frozen_outside = True

    def _expect_own_mode(self, layer: Layer) -> None:
        """Raise if a mode was set on a layer that is not the one that it gets here: it would be ignored."""
        mode = self._mode in (None, True)
        if layer._mode not in (None, mode):
            raise ValueError(
                f"{layer.name}: training: expected {mode}, as in the model, all of whose layers are in one mode; "
                f"got {layer._mode}: a step trains all layers; to train some alone, let a model of the others compute "
                "their input"
            )

    def _gather(self, dtype: np.dtype) -> None:
        """Let the parameters of all inner layers live in one new flat vector."""
        flat = aligned_zeros(self._size, dtype)
        for _, layer, piece in self._split(flat):
            piece[...] = layer._flat
        self._bind(flat)

    def _check_input(self, x: Array) -> None:
        super()._check_input(x)
        if self.input_shape is not None and self._size and x.shape[1:] != self.input_shape:
            raise ValueError(
                f"{self.name}: input: expected samples of shape {self.input_shape}; "
                f"got {x.shape[1:]} in shape {x.shape}"
            )

    def __getstate__(self) -> dict[str, Any]:
        """Leave the parameters to the inner layers."""
        return {**super().__getstate__(), "parameters": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Fix the lists of layers, which are ordinary ones in pickles of older versions."""
        rows = {name: FixedList(value) for name, value in state.items() if type(value) is list}
        super().__setstate__({**state, **rows})

    def _restore(self, parameters: dict[str, Array], dtype: np.dtype) -> None:
        self._gather(dtype)

    @property
    def _size(self) -> int:
        return sum(layer._size for _, layer in self._children())

    def _split(self, flat: Array) -> Iterator[tuple[str, Layer, Array]]:
        """Yield each inner layer with its place and its piece of a flat vector."""
        start = 0
        for place, layer in self._children():
            yield place, layer, flat[start : start + layer._size]
            start += layer._size

    def _bind(self, flat: Array) -> None:
        for _, layer, piece in self._split(flat):
            layer._bind(piece)
            layer._owner = flat
        self._executables = ExecutableCache()
        self._flat = flat
        self._keep(parameters=self._show(flat))

    def _show(self, flat: Array) -> Views:
        return Views(
            {
                f"{place}.{name}": view
                for place, layer, piece in self._split(flat)
                for name, view in layer._show(piece).items()
            }
        )

    def _state(self) -> dict[str, Array]:
        return {f"{place}.{name}": array for place, layer in self._children() for name, array in layer._state().items()}

    def _weights(self) -> dict[str, Array]:
        return {
            f"{place}.{name}": array for place, layer in self._children() for name, array in layer._weights().items()
        }

    def _gradients_by_layer(self, flat: Array) -> dict[Weights, Gradients]:
        merged: dict[Weights, Gradients] = {self: {}}
        for _, layer, piece in self._split(flat):
            merged.update(layer._gradients_by_layer(piece))
        return merged

    def _modes(self) -> Iterator[Layer]:
        yield self
        for _, layer in self._children():
            yield from layer._modes()


def row_shapes(layers: Sequence[Layer], input_shape: Shape, name: str) -> Iterator[tuple[Layer, Shape, Shape]]:
    """Yield the layers of a row with the shapes before and behind them; an error names the layer's place."""
    for place, layer in enumerate(layers):
        try:
            output_shape = layer.output_shape(input_shape)
        except ValueError as error:
            raise ValueError(f"{name}: layer {place}: {error}") from None
        yield layer, input_shape, output_shape
        input_shape = output_shape


def check_row(layers: Sequence[Layer], name: str, argument: str = "layers") -> FixedList[Layer]:
    """Return the layers of a row as a list that cannot be changed, if they are layers."""
    if isinstance(layers, Layer):
        raise TypeError(f"{name}: {argument}: expected a sequence of layers; got a single {layers.name}")
    row = list(layers)
    for place, layer in enumerate(row):
        if not isinstance(layer, Layer):
            call = f"; {layer.__name__}(...) makes one" if isinstance(layer, type) and issubclass(layer, Layer) else ""
            raise TypeError(f"{name}: {argument}[{place}]: expected a layer; got {layer!r}{call}")
        if any(layer is other for other in row[:place]):
            raise ValueError(f"{name}: {argument}[{place}]: the same {layer.name} object stands in the row twice")
    return FixedList(row)
