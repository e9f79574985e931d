"""Convolutions as loops: plain, in groups, depthwise, separable and transposed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..layers.depthwise import SeparableConv2D
from ..ops.window import Window, resolve_window
from ..typing import Array, Shape
from .loop import Loop
from .steps import Position, Step, Term


def pad(x: Array, window: Window, value: float = 0.0) -> Array:
    """Return (N, C, H, W) with the window's padding around it."""
    margins = [(max(axis.before, 0), max(axis.after, 0)) for axis in (window.vertical, window.horizontal)]
    return np.pad(x, ((0, 0), (0, 0), *margins), constant_values=value)


def crop(padded: Array, window: Window) -> Array:
    """Return what `pad` was given."""
    rows, columns = window.vertical, window.horizontal
    return padded[:, :, rows.before : rows.before + rows.size, columns.before : columns.before + columns.size]


def positions(window: Window, size: tuple[int, int]) -> Iterator[tuple[int, int, slice, slice]]:
    """Yield i, j and the rows and columns of the padded image under the window there."""
    rows, columns = window.vertical, window.horizontal
    for i, j in np.ndindex(size):
        top, left = i * rows.stride, j * columns.stride
        yield (
            i, j, slice(top, top + rows.span, rows.dilation), slice(left, left + columns.span, columns.dilation)
        )  # fmt: skip


def pixel(window: Window, i: int, j: int, u: int, v: int) -> tuple[int, int] | None:
    """Return the pixel of the image under tap (u, v) of the window at (i, j); None in the padding."""
    rows, columns = window.vertical, window.horizontal
    row = i * rows.stride + u * rows.dilation - rows.before
    column = j * columns.stride + v * columns.dilation - columns.before
    return (row, column) if 0 <= row < rows.size and 0 <= column < columns.size else None


def convolve(x: Array, filters: Array, window: Window, groups: int) -> Array:
    """Cross-correlate; see `reference.conv.convolve`."""
    N, F = len(x), len(filters)
    X, W = pad(x, window), filters.reshape(groups, F // groups, -1)
    Y = np.empty((N, F, *window.outputs))
    for i, j, rows, columns in positions(window, window.outputs):
        Y[:, :, i, j] = np.einsum("ngk,gfk->ngf", X[:, :, rows, columns].reshape(N, groups, -1), W).reshape(N, F)
    return Y


def convolve_input_gradient(dL_dy: Array, filters: Array, window: Window, groups: int) -> Array:
    """Return the gradient of `convolve` by its input; see `reference.conv`."""
    (N, F, *size), C = dL_dy.shape, groups * filters.shape[1]
    W = filters.reshape(groups, F // groups, -1)
    taps = window.vertical.taps, window.horizontal.taps
    dL_dX = pad(np.zeros((N, C, window.vertical.size, window.horizontal.size)), window)
    for i, j, rows, columns in positions(window, (size[0], size[1])):
        g = dL_dy[:, :, i, j].reshape(N, groups, -1)
        dL_dX[:, :, rows, columns] += np.einsum("ngf,gfk->ngk", g, W).reshape(N, C, *taps)
    return crop(dL_dX, window)


def convolve_filter_gradient(x: Array, dL_dy: Array, window: Window, groups: int) -> Array:
    """Return the gradient of `convolve` by its filters; see `reference.conv`."""
    (N, C, *_), (_, F, *size) = x.shape, dL_dy.shape
    taps = window.vertical.taps, window.horizontal.taps
    X = pad(x, window)
    dL_dW = np.zeros((groups, F // groups, C // groups * taps[0] * taps[1]))
    for i, j, rows, columns in positions(window, (size[0], size[1])):
        windows = X[:, :, rows, columns].reshape(N, groups, -1)
        dL_dW += np.einsum("ngf,ngk->gfk", dL_dy[:, :, i, j].reshape(N, groups, -1), windows)
    return dL_dW.reshape(F, C // groups, *taps)


class Filtering(Loop):
    """A convolution with one array of filters, named `name`, in `groups`, with biases or without."""

    name = "filters"

    def __init__(self, layer: Any, path: str, source: str, input_shape: Shape) -> None:
        super().__init__(layer, path, source, input_shape)
        self.window, self.groups = self._geometry()

    def _geometry(self) -> tuple[Window, int]:
        return self.layer.window(self.input_shape), getattr(self.layer, "groups", self.input_shape[0])

    @property
    def filters(self) -> Array:
        """The filters, in float64."""
        return self.parameters[self.name]

    def _with_biases(self, sums: Array) -> Array:
        self.sums = sums
        return sums + self.parameters["biases"][:, None, None] if "biases" in self.parameters else sums

    def _bias_gradient(self, dL_dy: Array) -> None:
        if "biases" in self.parameters:
            self.gradients["biases"] = dL_dy.sum(axis=(0, 2, 3))

    def _numbers(self, at: Position) -> dict[str, float]:
        numbers = {"sum": float(self.sums[(0, *at)])}
        if "biases" in self.parameters:
            numbers["bias"] = float(self.parameters["biases"][at[0]])
        return numbers

    def _forward(self, x: Array) -> Array:
        return self._with_biases(convolve(x, self.filters, self.window, self.groups))

    def _backward(self, x: Array, dL_dy: Array) -> Array:
        self.gradients[self.name] = convolve_filter_gradient(x, dL_dy, self.window, self.groups)
        self._bias_gradient(dL_dy)
        return convolve_input_gradient(dL_dy, self.filters, self.window, self.groups)

    def _first_channel(self, f: int) -> int:
        """Return the first of the channels that filter f sees."""
        return int(f // (len(self.filters) // self.groups) * self.filters.shape[1])

    def explain(self, at: Position) -> Step:
        f, i, j = at
        first, weights = self._first_channel(f), self.filters[f]
        terms = []
        for c, u, v in np.ndindex(weights.shape):
            place = pixel(self.window, i, j, u, v)
            x = 0.0 if place is None else float(self.x[0, first + c, place[0], place[1]])
            w = float(weights[c, u, v])
            terms.append(Term((x, w), x * w, self.source, None if place is None else (first + c, *place)))
        words = f"Of {self.groups} groups this filter sees {weights.shape[0]} channels." if self.groups > 1 else ""
        return self._step(
            "sum", at, "y = Σ input · filter" + (" + bias" if "biases" in self.parameters else ""), terms=tuple(terms),
            grid=weights.shape, labels=("input", "filter"), numbers=self._numbers(at), words=words,
        )  # fmt: skip

    def explain_gradient(self, name: str, at: Position) -> Step:
        size = self.output_gradient.shape[2:]
        if name == "biases":
            terms = [self._slope_at((at[0], i, j)) for i, j in np.ndindex(size)]
            return self._gradient_step(
                name, at, "dL/db = Σ dL/dy, over all pixels", terms, grid=size, labels=("dL/dy",)
            )
        f, c, u, v = at
        channel, terms = self._first_channel(f) + c, []
        for i, j in np.ndindex(size):
            place = pixel(self.window, i, j, u, v)
            terms.append(self._slope_at((f, i, j), 0.0 if place is None else float(self.x[0, channel, *place])))
        return self._gradient_step(name, at, "dL/dw = Σ dL/dy · x, over all pixels", terms, grid=size)


class SeparableHalf(Filtering):
    """One of the two convolutions of a separable one, known by a path of its own."""

    def __init__(self, whole: Separable, path: str, source: str, name: str, window: Window, groups: int) -> None:
        self.layer, self.path, self.source, self.name = whole.layer, path, source, name
        self.window, self.groups, self.gradients = window, groups, {}
        self.parameters = {key: value for key, value in whole.parameters.items() if key in (name, *self._also(name))}

    def _also(self, name: str) -> tuple[str, ...]:
        return ("biases",) if name == "pointwise_filters" else ()


class Separable(Loop):
    """A depthwise and a 1 x 1 convolution; the numbers in between have the path `"<place>.depthwise"`."""

    layer: SeparableConv2D

    def __init__(self, layer: Any, path: str, source: str, input_shape: Shape) -> None:
        super().__init__(layer, path, source, input_shape)
        window, inside = layer.window(input_shape), f"{path}.depthwise"
        pixels = resolve_window(layer.name, window.outputs, (1, 1), (1, 1), (1, 1), "valid")
        self.depthwise = SeparableHalf(self, inside, source, "depthwise_filters", window, input_shape[0])
        self.pointwise = SeparableHalf(self, path, inside, "pointwise_filters", pixels, 1)

    def inner(self) -> Iterator[Loop]:
        yield self.depthwise

    def _forward(self, x: Array) -> Array:
        return self.pointwise.forward(self.depthwise.forward(x))

    def _backward(self, x: Array, dL_dy: Array) -> Array:
        dL_dx = self.depthwise.backward(self.pointwise.backward(dL_dy))
        self.gradients = {**self.pointwise.gradients, **self.depthwise.gradients}
        return dL_dx

    def explain(self, at: Position) -> Step:
        return self.pointwise.explain(at)

    def explain_gradient(self, name: str, at: Position) -> Step:
        part = self.depthwise if name == "depthwise_filters" else self.pointwise
        return part.explain_gradient(name, at)


class Transposed(Filtering):
    """A transposed convolution: each input number lays its filter on the output."""

    def _geometry(self) -> tuple[Window, int]:
        return self.layer.window(self.input_shape), self.layer.groups

    def _forward(self, x: Array) -> Array:
        return self._with_biases(self._spread(x))

    def _spread(self, x: Array) -> Array:
        """Lay the filters on an image with its margins, and cut these off."""
        (N, C, *size), groups = x.shape, self.groups
        rows, columns = self.window.vertical, self.window.horizontal
        W = self.filters.reshape(groups, C // groups, -1)
        F = groups * self.filters.shape[1]
        # As the twin: the padding is cut off on both sides, and what output_padding adds stays inside.
        whole = np.zeros((N, F, *(axis.before + axis.size + max(axis.before, axis.after) for axis in (rows, columns))))
        for i, j, down, across in positions(self.window, (size[0], size[1])):
            g = x[:, :, i, j].reshape(N, groups, -1)
            whole[:, :, down, across] += np.einsum("ngf,gfk->ngk", g, W).reshape(N, F, rows.taps, columns.taps)
        return crop(whole, self.window)

    def _padded(self, dL_dy: Array) -> Array:
        margins = [
            (axis.before, max(axis.before, axis.after)) for axis in (self.window.vertical, self.window.horizontal)
        ]
        return np.pad(dL_dy, ((0, 0), (0, 0), *margins))

    def _backward(self, x: Array, dL_dy: Array) -> Array:
        (N, C, *size), groups = x.shape, self.groups
        padded, W = self._padded(dL_dy), self.filters.reshape(groups, C // groups, -1)
        dL_dW, dL_dx = np.zeros_like(W), np.empty_like(x)
        for i, j, rows, columns in positions(self.window, (size[0], size[1])):
            windows = padded[:, :, rows, columns].reshape(N, groups, -1)
            dL_dW += np.einsum("ngf,ngk->gfk", x[:, :, i, j].reshape(N, groups, -1), windows)
            dL_dx[:, :, i, j] = np.einsum("ngk,gfk->ngf", windows, W).reshape(N, C)
        self.gradients["filters"] = dL_dW.reshape(self.filters.shape)
        self._bias_gradient(dL_dy)
        return dL_dx

    def explain(self, at: Position) -> Step:
        f, row, column = at
        channels, filters = len(self.filters) // self.groups, self.filters.shape[1]
        group, terms = f // filters, []
        for i, j in np.ndindex(self.x.shape[2:]):
            taps = self._taps(i, j, row, column)
            if taps is None:
                continue
            for c in range(group * channels, (group + 1) * channels):
                x, w = float(self.x[0, c, i, j]), float(self.filters[c, f % filters, taps[0], taps[1]])
                terms.append(Term((x, w), x * w, self.source, (c, i, j)))
        return self._step(
            "sum", at, "y = Σ input · filter" + (" + bias" if "biases" in self.parameters else ""), terms=tuple(terms),
            grid=(len(terms) // channels, channels), labels=("input", "filter"), numbers=self._numbers(at),
            words="Each input number lays its filter, times itself, on the output; these are the ones that meet here.",
        )  # fmt: skip

    def _taps(self, i: int, j: int, row: int, column: int) -> tuple[int, int] | None:
        """Return which tap of the filter laid at (i, j) falls on a pixel of the output, if any does."""
        taps = []
        for axis, first, place in ((self.window.vertical, i, row), (self.window.horizontal, j, column)):
            tap, rest = divmod(place + axis.before - first * axis.stride, axis.dilation)
            if rest or not 0 <= tap < axis.taps:
                return None
            taps.append(tap)
        return taps[0], taps[1]

    def explain_gradient(self, name: str, at: Position) -> Step:
        if name == "biases":
            return super().explain_gradient(name, at)
        c, f, u, v = at
        rows, columns = self.window.vertical, self.window.horizontal
        channel = c // (len(self.filters) // self.groups) * self.filters.shape[1] + f
        padded, terms, size = self._padded(self.output_gradient), [], self.x.shape[2:]
        for i, j in np.ndindex(size):
            row, column = i * rows.stride + u * rows.dilation, j * columns.stride + v * columns.dilation
            g, x = float(padded[0, channel, row, column]), float(self.x[0, c, i, j])
            terms.append(Term((g, x), g * x, None, (channel, row - rows.before, column - columns.before)))
        return self._gradient_step(name, at, "dL/dw = Σ dL/dy · x, over all input pixels", terms, grid=size)
