"""Poolings, upsampling and padding as loops."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..ops.window import Window, resolve_window
from ..ops.window_tables import interpolations
from ..typing import Array, Shape
from .conv import crop, pad, pixel, positions
from .loop import Loop
from .steps import Position, Step, Term


class Windowed(Loop):
    """A pooling with windows."""

    def __init__(self, layer: Any, path: str, source: str, input_shape: Shape) -> None:
        super().__init__(layer, path, source, input_shape)
        self.window: Window = layer.window(input_shape)

    def _seen(self, at: Position, outside: float) -> tuple[Term, ...]:
        """Return the numbers of the window."""
        c, i, j = at
        terms = []
        for u, v in np.ndindex(self.window.vertical.taps, self.window.horizontal.taps):
            place = pixel(self.window, i, j, u, v)
            x = outside if place is None else float(self.x[0, c, place[0], place[1]])
            terms.append(Term((x,), x, self.source, None if place is None else (c, *place)))
        return tuple(terms)

    @property
    def _grid(self) -> tuple[int, int]:
        return self.window.vertical.taps, self.window.horizontal.taps


class MaximumPool(Windowed):
    """Max-pooling, with ties as the layer has them."""

    def _forward(self, x: Array) -> Array:
        padded = pad(x, self.window, -np.inf)
        y = np.empty((len(x), *self.output_shape))
        for i, j, rows, columns in positions(self.window, self.window.outputs):
            y[:, :, i, j] = padded[:, :, rows, columns].max(axis=(2, 3))
        return y

    def _backward(self, x: Array, dL_dy: Array) -> Array:
        padded = pad(x, self.window, -np.inf)
        dL_dpadded = np.zeros_like(padded)
        for i, j, rows, columns in positions(self.window, self.window.outputs):
            seen, g = padded[:, :, rows, columns], dL_dy[:, :, i, j, None, None]
            if self.layer.ties == "all":
                dL_dpadded[:, :, rows, columns] += (seen == seen.max(axis=(2, 3), keepdims=True)) * g
                continue
            first = seen.reshape(*seen.shape[:2], -1).argmax(axis=2)
            chosen = np.arange(seen.shape[2] * seen.shape[3]) == first[..., None]
            dL_dpadded[:, :, rows, columns] += chosen.reshape(seen.shape) * g
        return crop(dL_dpadded, self.window)

    def explain(self, at: Position) -> Step:
        terms = self._seen(at, -np.inf)
        values = [term.value for term in terms]
        chosen = int(np.argmax(values))
        ties = values.count(values[chosen])
        words = ""
        if ties > 1:
            who = "each of them receives the gradient" if self.layer.ties == "all" else "the first is chosen"
            words = f"{ties} numbers of the window are the largest; {who}."
        return self._step(
            "choice", at, "y = the largest number of the window", terms=terms, grid=self._grid, labels=("input",),
            chosen=chosen, words=words,
        )  # fmt: skip


class AveragePool(Windowed):
    """Average pooling."""

    def _counted(self) -> Array:
        size = self.window.vertical.size, self.window.horizontal.size
        return pad(np.ones((1, 1, *size)), self.window, float(self.layer.count_include_pad))

    def _forward(self, x: Array) -> Array:
        padded, counted = pad(x, self.window), self._counted()
        y = np.empty((len(x), *self.output_shape))
        for i, j, rows, columns in positions(self.window, self.window.outputs):
            y[:, :, i, j] = padded[:, :, rows, columns].sum(axis=(2, 3)) / counted[:, :, rows, columns].sum()
        return y

    def _backward(self, x: Array, dL_dy: Array) -> Array:
        counted, dL_dpadded = self._counted(), pad(np.zeros_like(x), self.window)
        for i, j, rows, columns in positions(self.window, self.window.outputs):
            dL_dpadded[:, :, rows, columns] += dL_dy[:, :, i, j, None, None] / counted[:, :, rows, columns].sum()
        return crop(dL_dpadded, self.window)

    def explain(self, at: Position) -> Step:
        c, i, j = at
        terms = self._seen(at, 0.0)
        rows, columns = next((r, s) for a, b, r, s in positions(self.window, self.window.outputs) if (a, b) == (i, j))
        count = float(self._counted()[:, :, rows, columns].sum())
        total = float(pad(self.x, self.window)[:, :, rows, columns].sum(axis=(2, 3))[0, c])
        return self._step(
            "mean", at, "y = Σ input / count", terms=terms, grid=self._grid, labels=("input",),
            numbers={"sum": total, "count": count},
        )  # fmt: skip


class GlobalAverage(Loop):
    """The mean of each channel."""

    def _forward(self, x: Array) -> Array:
        return np.asarray(x.mean(axis=(2, 3)))

    def _backward(self, x: Array, dL_dy: Array) -> Array:
        H, W = x.shape[2:]
        return np.asarray(dL_dy[:, :, None, None] * np.ones_like(x) / (H * W))

    def explain(self, at: Position) -> Step:
        size = self.x.shape[2:]
        terms = tuple(self._input((at[0], i, j)) for i, j in np.ndindex(size))
        numbers = {"sum": float(self.x.sum(axis=(2, 3))[0, at[0]]), "count": float(len(terms))}
        return self._step("mean", at, "y = Σ input / count", terms=terms, grid=size, labels=("input",), numbers=numbers)


class GlobalMaximum(Loop):
    """The maximum of each channel."""

    def _forward(self, x: Array) -> Array:
        return np.asarray(x.max(axis=(2, 3)))

    def _backward(self, x: Array, dL_dy: Array) -> Array:
        N, C, _, W = x.shape
        n, c = np.ogrid[:N, :C]
        i, j = np.divmod(x.reshape(N, C, -1).argmax(axis=2), W)
        dL_dx = np.zeros_like(x)
        dL_dx[n, c, i, j] = dL_dy
        return dL_dx

    def explain(self, at: Position) -> Step:
        size = self.x.shape[2:]
        terms = tuple(self._input((at[0], i, j)) for i, j in np.ndindex(size))
        chosen = int(np.argmax([term.value for term in terms]))
        return self._step(
            "choice", at, "y = the largest number of the channel", terms=terms, grid=size, labels=("input",),
            chosen=chosen,
        )  # fmt: skip


class Enlarged(Loop):
    """Upsampling: each pixel becomes a block, or its pixels lie between those of the input."""

    def _blocks(self) -> Window:
        size = self.layer.size
        return resolve_window(
            self.layer.name, (self.output_shape[1], self.output_shape[2]), size, size, (1, 1), "valid"
        )

    def _between(self) -> Iterator[tuple[int, int, list[tuple[int, int, float]]]]:
        """Yield the pixels (i, j) of the output; the pixels (r, t) that each is made of, with their weights."""
        rows, columns = (
            [
                [(base + offset, weight) for offset, _, weight in reach.kinds[kind]]
                for base, kind in zip(reach.base.tolist(), reach.kind.tolist(), strict=True)
            ]
            for reach in map(interpolations, self.input_shape[1:], self.layer.size)
        )
        for i, j in np.ndindex(len(rows), len(columns)):
            yield i, j, [(r, t, a * b) for r, a in rows[i] for t, b in columns[j]]

    def _forward(self, x: Array) -> Array:
        y = np.zeros((len(x), *self.output_shape))
        if self.layer.mode == "bilinear":
            for i, j, pixels in self._between():
                for r, t, weight in pixels:
                    y[:, :, i, j] += weight * x[:, :, r, t]
            return y
        for i, j, rows, columns in positions(self._blocks(), (x.shape[2], x.shape[3])):
            y[:, :, rows, columns] = x[:, :, i, j, None, None]
        return y

    def _backward(self, x: Array, dL_dy: Array) -> Array:
        dL_dx = np.zeros_like(x)
        if self.layer.mode == "bilinear":
            for i, j, pixels in self._between():
                for r, t, weight in pixels:
                    dL_dx[:, :, r, t] += weight * dL_dy[:, :, i, j]
            return dL_dx
        for i, j, rows, columns in positions(self._blocks(), (x.shape[2], x.shape[3])):
            dL_dx[:, :, i, j] = dL_dy[:, :, rows, columns].sum(axis=(2, 3))
        return dL_dx

    def explain(self, at: Position) -> Step:
        (a, b), (c, i, j) = self.layer.size, at
        if self.layer.mode == "bilinear":
            pixels = next(pixels for k, m, pixels in self._between() if (k, m) == (i, j))
            terms = [(float(self.x[0, c, r, t]), weight, (c, r, t)) for r, t, weight in pixels]
            return self._step(
                "sum", at, "y = Σ input · weight", labels=("input", "weight"), numbers={"sum": self._value(at)},
                terms=tuple(Term((x, weight), x * weight, self.source, place) for x, weight, place in terms),
            )  # fmt: skip
        return self._step(
            "copy", at, f"y = the pixel of its block of {a} x {b}", terms=(self._input((c, i // a, j // b)),)
        )


class Framed(Loop):
    """Padding: each pixel repeats one of the input, or is a constant."""

    def _pixels(self) -> Iterator[tuple[int, int, int, int]]:
        """Yield all pixels (i, j) of the output that repeat a pixel (h, w) of the input."""
        rows, columns = self.layer._sources(self.input_shape[1:])
        for i, h in enumerate(rows):
            for j, w in enumerate(columns):
                if h is not None and w is not None:
                    yield i, j, h, w

    def _forward(self, x: Array) -> Array:
        y = np.full((len(x), *self.output_shape), self.layer.value)
        for i, j, h, w in self._pixels():
            y[:, :, i, j] = x[:, :, h, w]
        return y

    def _backward(self, x: Array, dL_dy: Array) -> Array:
        dL_dx = np.zeros_like(x)
        for i, j, h, w in self._pixels():
            dL_dx[:, :, h, w] += dL_dy[:, :, i, j]
        return dL_dx

    def explain(self, at: Position) -> Step:
        rows, columns = self.layer._sources(self.input_shape[1:])
        h, w = rows[at[1]], columns[at[2]]
        if h is None or w is None:
            return self._step("copy", at, f"y = {self.layer.value:g}, around the image")
        return self._step("copy", at, "y = the pixel that it repeats", terms=(self._input((at[0], h, w)),))
