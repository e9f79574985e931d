"""The feature maps of one image behind every layer, by the engine, fast enough for every frame of a page."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..engine.executable import Executable
from ..layers.base import Layer
from ..layers.branches import Concat, Residual
from ..layers.container import Container
from ..layers.segment import Segment
from ..maps import shapes
from ..model import Sequential
from ..ops.branches import strides_between
from ..typing import Array

CHUNK = 32  # held-out images that are guessed at once, at most
NUMBERS = 4_000_000  # of all their maps, at most: an executable keeps them


class Camera:
    """Executables of single layers for batches of one image, kept from frame to frame.

    Unlike the predictors of `model.outputs` they record the packing of the filters too, which is what the weights of
    every frame need: measured on the network of the digits, 0.2 ms a frame in place of 0.9.

    Parameters
    ----------
    model : Sequential
        Built.
    """

    def __init__(self, model: Sequential) -> None:
        self.model, self.flat = model, model._flat
        self.executables: dict[str, Executable] = {}
        each = sum(math.prod(shape) for shape in shapes(model).values())
        self.chunk = max(1, min(CHUNK, NUMBERS // each))

    def guess(self, x: Array) -> Array:
        """Return the outputs for at most `chunk` samples, as in prediction."""
        if self.flat is not self.model._flat:
            self.flat, self.executables = self.model._flat, {}
        executable = self.executables.get("")
        if executable is None:
            segment = Segment(self.model.layers, x.shape[1:], self.flat.dtype)
            executable = self.executables[""] = Executable(segment, (self.chunk, *x.shape[1:]), self.flat.dtype)
        batch = np.zeros(executable.shape, self.flat.dtype)
        batch[: len(x)] = x
        return executable.forward(batch, training=False)[: len(x)]

    def take(self, x: Array) -> dict[str, Array]:
        """Return the output of every layer for one sample, as in prediction, by place; changes nothing in the model."""
        if self.flat is not self.model._flat:  # built anew
            self.flat, self.executables = self.model._flat, {}
        maps: dict[str, Array] = {}
        self._row(self.model.layers, "", x[None].astype(self.flat.dtype), maps)
        return {place: output[0] for place, output in maps.items()}

    def _row(self, layers: Any, prefix: str, x: Array, maps: dict[str, Array]) -> Array:
        for place, layer in enumerate(layers):
            name = f"{prefix}{place}"
            maps[name] = x  # its place among the others is before those inside
            maps[name] = x = self._output(layer, name, x, maps)
        return x

    def _output(self, layer: Layer, name: str, x: Array, maps: dict[str, Array]) -> Array:
        if isinstance(layer, Sequential):
            return self._row(layer.layers, f"{name}.", x, maps)
        if isinstance(layer, Concat):
            rows = [self._row(row, f"{name}.{place}.", x, maps) for place, row in layer.rows.items()]
            return np.concatenate(rows, axis=1)
        if isinstance(layer, Residual):
            main = self._row(layer.rows["layers"], f"{name}.layers.", x, maps)
            if isinstance(layer.shortcut, str):
                return main + _padded(x, main)
            return main + self._row(layer.rows["shortcut"], f"{name}.shortcut.", x, maps)
        assert not isinstance(layer, Container)
        executable = self.executables.get(name)
        if executable is None or executable.shape != x.shape:
            segment = Segment([layer], x.shape[1:], self.flat.dtype)
            executable = self.executables[name] = Executable(segment, x.shape, self.flat.dtype)
        return executable.forward(x, training=False)


def _padded(x: Array, like: Array) -> Array:
    """Return every s-th pixel, with zeros for the channels that are missing."""
    vertical, horizontal = strides_between(x.shape[1:], like.shape[1:])
    side = np.zeros_like(like)
    side[:, : x.shape[1]] = x[:, :, ::vertical, ::horizontal]
    return side
