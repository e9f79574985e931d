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


def softplus(x: Array) -> Array:
    """Return log(1 + eˣ)."""
    return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))


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


class Parametric(Function):
    """PReLU: each channel has a slope of its own, or all have one."""

    def _slopes(self) -> Array:
        return self.parameters["negative_slope"].reshape(-1, *[1] * (len(self.input_shape) - 1))

    def _formula(self) -> str:
        return "y = x where x > 0, else slope · x"

    def _forward(self, x: Array) -> Array:
        return np.where(x > 0, x, self._slopes() * x)

    def _backward(self, x: Array, dL_dy: Array) -> Array:
        others = tuple(axis for axis in range(x.ndim) if axis != 1 or self.layer.num_parameters == 1)
        self.gradients["negative_slope"] = np.asarray((np.minimum(x, 0) * dL_dy).sum(axis=others)).reshape(-1)
        return np.asarray(dL_dy * np.where(x > 0, 1, self._slopes()))

    def explain(self, at: Position) -> Step:
        slope = float(self.parameters["negative_slope"][at[0] if self.layer.num_parameters > 1 else 0])
        return self._step(
            "function", at, self._formula(), terms=(self._input(at),), labels=("input",), numbers={"slope": slope}
        )

    def explain_gradient(self, name: str, at: Position) -> Step:
        channels = range(self.input_shape[0]) if self.layer.num_parameters == 1 else at
        places = [(c, *rest) for c in channels for rest in np.ndindex(self.input_shape[1:])]
        terms = [self._slope_at(place, min(float(self.x[(0, *place)]), 0.0)) for place in places]
        return self._gradient_step(
            name, at, "dL/da = Σ dL/dy · min(x, 0)", terms, grid=(len(terms),), labels=("dL/dy", "min(x, 0)")
        )


class ContinuousExponential(Function):
    """CELU."""

    def _formula(self) -> str:
        return f"y = x where x > 0, else {self.layer.alpha:g} · (e^(x / {self.layer.alpha:g}) − 1)"

    def _forward(self, x: Array) -> Array:
        return np.where(x > 0, x, self.layer.alpha * np.expm1(np.minimum(x, 0) / self.layer.alpha))

    def _backward(self, x: Array, dL_dy: Array) -> Array:
        return np.asarray(dL_dy * np.where(x > 0, 1, np.exp(np.minimum(x, 0) / self.layer.alpha)))


class SmoothRectified(Function):
    """Softplus."""

    def _formula(self) -> str:
        beta, threshold = self.layer.beta, self.layer.threshold
        return f"y = log(1 + e^({beta:g} · x)) / {beta:g}, x itself where {beta:g} · x > {threshold:g}"

    def _forward(self, x: Array) -> Array:
        beta = self.layer.beta
        return np.where(beta * x > self.layer.threshold, x, softplus(beta * x) / beta)

    def _backward(self, x: Array, dL_dy: Array) -> Array:
        beta = self.layer.beta
        return np.asarray(dL_dy * np.where(beta * x > self.layer.threshold, 1, sigmoid(beta * x)))


class Gated(Function):
    """Mish."""

    formula = "y = x · tanh(log(1 + e^x))"

    def _forward(self, x: Array) -> Array:
        return np.asarray(x * np.tanh(softplus(x)))

    def _backward(self, x: Array, dL_dy: Array) -> Array:
        t = np.tanh(softplus(x))
        return np.asarray(dL_dy * (t + x * (1 - t**2) * sigmoid(x)))


class Clipped(Function):
    """ReLU6."""

    formula = "y = min(max(x, 0), 6)"

    def _forward(self, x: Array) -> Array:
        return np.clip(x, 0, 6)

    def _backward(self, x: Array, dL_dy: Array) -> Array:
        return np.asarray(dL_dy * ((x > 0) & (x < 6)))


class HardLogistic(Function):
    """HardSigmoid."""

    formula = "y = min(max(x + 3, 0), 6) / 6"

    def _forward(self, x: Array) -> Array:
        return np.asarray(np.clip(x + 3, 0, 6) / 6)

    def _backward(self, x: Array, dL_dy: Array) -> Array:
        return np.asarray(dL_dy * ((x > -3) & (x < 3)) / 6)


class HardGated(Function):
    """HardSwish."""

    formula = "y = x · min(max(x + 3, 0), 6) / 6"

    def _forward(self, x: Array) -> Array:
        return np.asarray(x * np.clip(x + 3, 0, 6) / 6)

    def _backward(self, x: Array, dL_dy: Array) -> Array:
        return np.asarray(dL_dy * np.where(x <= -3, 0, np.where(x >= 3, 1, x / 3 + 0.5)))


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
