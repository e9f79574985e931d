"""Dense layers, the notebook's `Softmax`, and layers that only move numbers, as loops."""

from __future__ import annotations

import math

import numpy as np

from ..typing import Array
from .activation import softmax
from .loop import Loop
from .steps import Position, Step, Term


class Affine(Loop):
    """A dense layer."""

    def _features(self, x: Array) -> Array:
        return x.reshape(len(x), -1)

    def _affine(self, x: Array) -> Array:
        self.sums = self._features(x) @ self.parameters["weights"]
        return self.sums + self.parameters["biases"] if "biases" in self.parameters else self.sums

    def _forward(self, x: Array) -> Array:
        return self._affine(x)

    def _backward(self, x: Array, dL_dy: Array) -> Array:
        self.gradients["weights"] = self._features(x).T @ dL_dy
        if "biases" in self.parameters:
            self.gradients["biases"] = dL_dy.sum(axis=0)
        return (dL_dy @ self.parameters["weights"].T).reshape(x.shape)

    def _place(self, d: int) -> Position:
        """Return where feature d lies in the input."""
        return tuple(int(k) for k in np.unravel_index(d, self.x.shape[1:]))

    def _sum(self, at: Position, formula: str, **numbers: float) -> Step:
        x, weights = self._features(self.x)[0], self.parameters["weights"][:, at[0]]
        terms = [
            Term((float(x[d]), float(w)), float(x[d] * w), self.source, self._place(d)) for d, w in enumerate(weights)
        ]
        numbers = {"sum": float(self.sums[0, at[0]]), **numbers}
        if "biases" in self.parameters:
            numbers["bias"] = float(self.parameters["biases"][at[0]])
        return self._step(
            "sum", at, formula, terms=tuple(terms), grid=(len(terms),), labels=("input", "weight"), numbers=numbers
        )

    def explain(self, at: Position) -> Step:
        return self._sum(at, "y = Σ input · weight" + (" + bias" if "biases" in self.parameters else ""))

    def explain_gradient(self, name: str, at: Position) -> Step:
        words = "Of one image each weight of a dense layer has one product; over a batch these are averaged."
        if name == "biases":
            return self._gradient_step(
                name, at, "dL/db = dL/dy", [self._slope_at(at)], grid=(1,), labels=("dL/dy",), words=words
            )
        d, k = at
        terms = [self._slope_at((k,), float(self._features(self.x)[0, d]))]
        return self._gradient_step(name, at, "dL/dw = dL/dy · x", terms, grid=(1,), words=words)


class DenseSoftmax(Affine):
    """The notebook's last layer; its gradient is that of the logits."""

    def _forward(self, x: Array) -> Array:
        self.logits = self._affine(x)
        return softmax(self.logits)

    def explain(self, at: Position) -> Step:
        shifted = np.exp(self.logits - self.logits.max(axis=1, keepdims=True))
        numbers = {
            "z": float(self.logits[0, at[0]]), "largest z": float(self.logits.max()),
            "e^(z − largest z)": float(shifted[0, at[0]]), "Σ e^(z − largest z)": float(shifted.sum()),
        }  # fmt: skip
        return self._sum(at, "z = Σ input · weight + bias, y = e^z / Σ e^z over all classes", **numbers)


class Flattened(Loop):
    """Flatten: maps as features."""

    def _forward(self, x: Array) -> Array:
        return x.reshape(len(x), -1)

    def _backward(self, x: Array, dL_dy: Array) -> Array:
        return dL_dy.reshape(x.shape)

    def explain(self, at: Position) -> Step:
        place = tuple(int(k) for k in np.unravel_index(at[0], self.x.shape[1:]))
        return self._step("copy", at, "y = the number there, channels one after another", terms=(self._input(place),))


class Passed(Loop):
    """Dropout in prediction: numbers pass."""

    def _forward(self, x: Array) -> Array:
        return x.copy()

    def _backward(self, x: Array, dL_dy: Array) -> Array:
        return dL_dy.copy()

    def explain(self, at: Position) -> Step:
        return self._step(
            "copy", at, "y = input", terms=(self._input(at),),
            words="Dropout lets all numbers pass in prediction; in training it drops some by chance.",
        )  # fmt: skip


class Own(Loop):
    """A layer of a person's own, in plain NumPy: its formula is not taken apart."""

    def _forward(self, x: Array) -> Array:
        return np.asarray(self.layer._forward(x), np.float64).reshape(1, *self.output_shape)

    def _backward(self, x: Array, dL_dy: Array) -> Array:
        found = self.layer._backward(x, self.y, dL_dy)
        dL_dx, gradients = found if isinstance(found, tuple) else (found, {})
        self.gradients = {
            name: np.asarray(each, np.float64).reshape(self.parameters[name].shape) for name, each in gradients.items()
        }
        return np.asarray(dL_dx, np.float64).reshape(x.shape)

    def explain(self, at: Position) -> Step:
        alike = math.prod(self.output_shape) == math.prod(self.input_shape) and len(at) == len(self.input_shape)
        terms = (self._input(at),) if alike else ()
        return self._step(
            "own", at, f"y = {type(self.layer).__name__}._forward(x)", terms=terms, labels=("input there",),
            words="A layer of one's own: its class has the formula, which is not taken apart here.",
        )  # fmt: skip

    def explain_gradient(self, name: str, at: Position) -> Step:
        words = "A layer of one's own: its class has the formula, which is not taken apart here."
        return self._gradient_step(name, at, f"{type(self.layer).__name__}._backward", [], grid=(0,), words=words)
