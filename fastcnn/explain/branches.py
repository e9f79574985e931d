"""Layers made of layers, as loops: rows, a row with a shortcut around it, and rows side by side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..ops.branches import strides_between
from ..typing import Array, Shape
from .loop import Loop
from .steps import Position, Step, Term
from .table import loop_of


class LayerRow:
    """Layers one after another; none of them: the input itself."""

    def __init__(self, layers: Any, path: str, source: str, shape: Shape) -> None:
        self.loops: list[Loop] = []
        self.source, self.output_shape = source, shape
        for place, layer in enumerate(layers):
            loop = loop_of(layer, f"{path}{place}", self.last(), self.output_shape)
            self.loops.append(loop)
            self.output_shape = loop.output_shape

    def last(self) -> str:
        """Return the path of the layer that writes the output."""
        return self.loops[-1].last() if self.loops else self.source

    def forward(self, x: Array) -> Array:
        for loop in self.loops:
            x = loop.forward(x)
        return x

    def backward(self, dL_dy: Array) -> Array:
        for loop in reversed(self.loops):
            dL_dy = loop.backward(dL_dy)
        return dL_dy


class Compound(Loop):
    """A layer whose parameters are those of its rows."""

    rows: list[LayerRow]

    def _weights(self) -> dict[str, Array]:
        return {}

    def inner(self) -> Iterator[Loop]:
        for row in self.rows:
            for loop in row.loops:
                yield loop
                yield from loop.inner()


class Nested(Compound):
    """A `Sequential` in another one."""

    def __init__(self, layer: Any, path: str, source: str, input_shape: Shape) -> None:
        super().__init__(layer, path, source, input_shape)
        self.rows = [LayerRow(layer.layers, f"{path}.", source, input_shape)]

    def last(self) -> str:
        return self.rows[0].last()

    def _forward(self, x: Array) -> Array:
        return self.rows[0].forward(x)

    def _backward(self, x: Array, dL_dy: Array) -> Array:
        return self.rows[0].backward(dL_dy)

    def explain(self, at: Position) -> Step:
        return self.rows[0].loops[-1].explain(at)


class Shortcut(Compound):
    """A row with a shortcut around it."""

    def __init__(self, layer: Any, path: str, source: str, input_shape: Shape) -> None:
        super().__init__(layer, path, source, input_shape)
        self.main = LayerRow(layer.rows["layers"], f"{path}.layers.", source, input_shape)
        self.side = LayerRow(layer.rows["shortcut"], f"{path}.shortcut.", source, input_shape)
        self.rows = [self.main, self.side]
        self.pads = isinstance(layer.shortcut, str)
        self.strides = strides_between(input_shape, self.output_shape) if self.pads else (1, 1)

    def _forward(self, x: Array) -> Array:
        self.row_output = self.main.forward(x)
        if self.pads:
            self.side_output = np.zeros_like(self.row_output)
            self.side_output[:, : x.shape[1]] = x[:, :, :: self.strides[0], :: self.strides[1]]
        else:
            self.side_output = self.side.forward(x)
        return self.row_output + self.side_output

    def _backward(self, x: Array, dL_dy: Array) -> Array:
        dL_dx = self.main.backward(dL_dy)
        if not self.pads:
            return dL_dx + self.side.backward(dL_dy)
        spread = np.zeros_like(x)
        spread[:, :, :: self.strides[0], :: self.strides[1]] = dL_dy[:, : x.shape[1]]
        return dL_dx + spread

    def explain(self, at: Position) -> Step:
        a, b = float(self.row_output[(0, *at)]), float(self.side_output[(0, *at)])
        place: Position | None = at
        words = "The row's number and the shortcut's are added."
        if self.pads:
            c, i, j = at
            place = (c, i * self.strides[0], j * self.strides[1]) if c < self.x.shape[1] else None
            words += " The shortcut takes every so-many-th pixel, and zeros for channels that the input lacks."
        terms = Term((a,), a, self.main.last(), at), Term((b,), b, self.side.last(), place)
        return self._step("add", at, "y = F(x) + S(x)", terms=terms, grid=(2,), labels=("number",), words=words)


class SideBySide(Compound):
    """Rows side by side."""

    def __init__(self, layer: Any, path: str, source: str, input_shape: Shape) -> None:
        super().__init__(layer, path, source, input_shape)
        self.rows = [LayerRow(layers, f"{path}.{name}.", source, input_shape) for name, layers in layer.rows.items()]
        self.ends = list(np.cumsum([row.output_shape[0] for row in self.rows]))

    def _forward(self, x: Array) -> Array:
        return np.concatenate([row.forward(x) for row in self.rows], axis=1)

    def _backward(self, x: Array, dL_dy: Array) -> Array:
        dL_dx = np.zeros_like(x)
        for row, part in zip(self.rows, np.split(dL_dy, self.ends[:-1], axis=1), strict=True):
            dL_dx += row.backward(part)
        return dL_dx

    def explain(self, at: Position) -> Step:
        b = next(b for b, end in enumerate(self.ends) if at[0] < end)
        place = (at[0] - (int(self.ends[b - 1]) if b else 0), *at[1:])
        value = self._value(at)
        return self._step(
            "copy", at, f"y = the number of branch {b}", terms=(Term((value,), value, self.rows[b].last(), place),)
        )
