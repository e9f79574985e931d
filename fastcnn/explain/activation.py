"""Activations as loops: a function of each number by itself, and softmax."""

from __future__ import annotations

import math

import numpy as np

from ..typing import Array
from .loop import Loop
from .steps import Position, Step


def softmax(logits: Array) -> Array:
    """Return exp(x_k) / Σ_m exp(x_m) along axis 1."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def sigmoid(x: Array) -> Array:
    """Return 1 / (1 + e⁻ˣ)."""
    return np.asarray(np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x))))


def normal_distribution(x: Array) -> Array:
    """Return Φ(x)."""
    return np.asarray(np.vectorize(math.erfc, otypes=[np.float64])(-x / math.sqrt(2)) / 2)


class Function(Loop):
    """A function of single numbers."""

    formula = "y = f(x)"

    def _formula(self) -> str:
        return self.formula

    def explain(self, at: Position) -> Step:
        return self._step("function", at, self._formula(), terms=(self._input(at),), labels=("input",))


class Rectified(Function):
    """ReLU."""

    formula = "y = max(x, 0)"

    def _forward(self, x: Array) -> Array:
        return np.maximum(x, 0)

    def _backward(self, x: Array, dL_dy: Array) -> Array:
        return np.asarray(dL_dy * (x > 0))


class Leaky(Function):
    """LeakyReLU."""

    def _formula(self) -> str:
        return f"y = x where x > 0, else {self.layer.negative_slope:g} · x"

    def _forward(self, x: Array) -> Array:
        return np.where(x > 0, x, self.layer.negative_slope * x)

    def _backward(self, x: Array, dL_dy: Array) -> Array:
        return np.asarray(dL_dy * np.where(x > 0, 1, self.layer.negative_slope))


class Exponential(Function):
    """ELU."""

    def _formula(self) -> str:
        return f"y = x where x > 0, else {self.layer.alpha:g} · (e^x − 1)"

    def _forward(self, x: Array) -> Array:
        return np.where(x > 0, x, self.layer.alpha * np.expm1(np.minimum(x, 0)))

    def _backward(self, x: Array, dL_dy: Array) -> Array:
        return np.asarray(dL_dy * np.where(x > 0, 1, self.layer.alpha * np.exp(np.minimum(x, 0))))


class Gaussian(Function):
    """GELU."""

    def _formula(self) -> str:
        if self.layer.approximate == "tanh":
            return "y = x · (1 + tanh(√(2/π) · (x + 0.044715 · x³))) / 2"
        return "y = x · Φ(x), Φ the normal distribution"

    def _tanh(self, x: Array) -> Array:
        return np.asarray(np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

    def _forward(self, x: Array) -> Array:
        if self.layer.approximate == "tanh":
            return np.asarray(x * (1 + self._tanh(x)) / 2)
        return np.asarray(x * normal_distribution(x))

    def _backward(self, x: Array, dL_dy: Array) -> Array:
        if self.layer.approximate == "tanh":
            t = self._tanh(x)
            dt_dx = (1 - t**2) * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2)
            return np.asarray(dL_dy * ((1 + t) / 2 + x * dt_dx / 2))
        density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
        return np.asarray(dL_dy * (normal_distribution(x) + x * density))


class Swish(Function):
    """SiLU."""

    formula = "y = x / (1 + e^−x)"

    def _forward(self, x: Array) -> Array:
        return x * sigmoid(x)

    def _backward(self, x: Array, dL_dy: Array) -> Array:
        s = sigmoid(x)
        return np.asarray(dL_dy * s * (1 + x * (1 - s)))


class Logistic(Function):
    """Sigmoid."""

    formula = "y = 1 / (1 + e^−x)"

    def _forward(self, x: Array) -> Array:
        return sigmoid(x)

    def _backward(self, x: Array, dL_dy: Array) -> Array:
        y = sigmoid(x)
        return np.asarray(dL_dy * y * (1 - y))


class HyperbolicTangent(Function):
    """Tanh."""

    formula = "y = tanh(x)"

    def _forward(self, x: Array) -> Array:
        return np.tanh(x)

    def _backward(self, x: Array, dL_dy: Array) -> Array:
        y: Array = np.tanh(x)
        return np.asarray(dL_dy * (1 - y * y))


class ChannelSoftmax(Loop):
    """Softmax over axis 1."""

    def _forward(self, x: Array) -> Array:
        return softmax(x)

    def _backward(self, x: Array, dL_dy: Array) -> Array:
        p = softmax(x)
        expected: Array = np.sum(p * dL_dy, axis=1, keepdims=True)
        return np.asarray(p * (dL_dy - expected))

    def _pixel(self, at: Position) -> int:
        return int(np.ravel_multi_index(at[1:], self.x.shape[2:])) if len(at) > 1 else 0

    def explain(self, at: Position) -> Step:
        column = self.x[0].reshape(len(self.x[0]), -1)[:, self._pixel(at)]
        shifted = np.exp(column - column.max())
        numbers = {"e^(x − largest x)": float(shifted[at[0]]), "Σ e^(x − largest x)": float(shifted.sum())}
        terms = tuple(self._input((k, *at[1:])) for k in range(len(column)))
        return self._step(
            "function", at, "y = e^x / Σ e^x over all of these", terms=terms, grid=(len(terms),), labels=("input",),
            numbers=numbers, chosen=at[0],
        )  # fmt: skip
