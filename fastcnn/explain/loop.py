"""The base of all loops: a layer for one sample, in float64, by the formulas of `reference/`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np

from ..layers.base import Layer
from ..typing import Array, Shape
from .steps import Position, Step, Term

L = TypeVar("L", bound=Layer)


class Loop(ABC):
    """A layer, its parameters in float64, and what the last sample left.

    The sums are those of the layer's twin in `reference/`, in the same order, so that they have the same bits. A sample
    is a batch of one.

    Attributes
    ----------
    path, source : str
        The place of the layer, and of the one whose output it reads; "" is the network's input.
    x, y, input_gradient, output_gradient : array of shape (1, ...)
    parameters, gradients : dict of str to array
    """

    x: Array
    y: Array
    input_gradient: Array
    output_gradient: Array

    def __init__(self, layer: Layer, path: str, source: str, input_shape: Shape) -> None:
        self.layer: Any = layer
        self.path, self.source, self.input_shape = path, source, input_shape
        self.output_shape = layer.output_shape(input_shape)
        self.parameters = {name: np.array(view, np.float64, order="C") for name, view in self._weights().items()}
        self.gradients: dict[str, Array] = {}

    def _weights(self) -> dict[str, Array]:
        return dict(self.layer.parameters)

    def forward(self, x: Array) -> Array:
        """Return the output of a sample, as in prediction."""
        self.x = np.ascontiguousarray(x)  # one order, so that sums have the same bits
        self.y = self._forward(self.x)
        return self.y

    def backward(self, dL_dy: Array) -> Array:
        """Return the gradient of the input; leave those of the parameters."""
        self.output_gradient = np.ascontiguousarray(dL_dy)
        self.input_gradient = self._backward(self.x, self.output_gradient)
        return self.input_gradient

    @abstractmethod
    def _forward(self, x: Array) -> Array:
        """Return the output."""

    @abstractmethod
    def _backward(self, x: Array, dL_dy: Array) -> Array:
        """Return the gradient of the input."""

    @abstractmethod
    def explain(self, at: Position) -> Step:
        """Return what the layer does for one number of its output."""

    def explain_gradient(self, name: str, at: Position) -> Step:
        """Return the sum behind one number of a parameter's gradient."""
        raise KeyError(name)

    def inner(self) -> Iterator[Loop]:
        """Yield the loops inside, by whose paths numbers can be asked for."""
        return iter(())

    def last(self) -> str:
        """Return the path of the layer that writes the output."""
        return self.path

    # What the steps are made of.

    def _step(self, kind: str, at: Position, formula: str, **more: Any) -> Step:
        return Step(self.path, repr(self.layer), kind, at, formula, self._value(at), **more)

    def _value(self, at: Position) -> float:
        return float(self.y[(0, *at)])

    def _input(self, at: Position) -> Term:
        """Return one number of the input as a term."""
        x = float(self.x[(0, *at)])
        return Term((x,), x, self.source, at)

    def _gradient_step(self, name: str, at: Position, formula: str, terms: list[Term], **more: Any) -> Step:
        value = float(self.gradients[name][at])
        return Step(
            f"{self.path}.{name}", repr(self.layer), "sum", at, formula, value, tuple(terms), numbers={"sum": value},
            **{"labels": ("dL/dy", "x"), **more},
        )  # fmt: skip

    def _slope_at(self, at: Position, factor: float | None = None) -> Term:
        """Return one number of the output's gradient as a term, multiplied by another."""
        g = float(self.output_gradient[(0, *at)])
        factors = (g,) if factor is None else (g, factor)
        return Term(factors, g if factor is None else g * factor, None, at)
