"""Activations: a function of each number by itself, and softmax over the features."""

from __future__ import annotations

import math
from typing import Literal, final

import numpy as np

from reference.base import Array, Layer, Shape, real


class _Activation(Layer):
    """A function that keeps the shape; any shape with a batch axis."""

    def _output_shape(self, input_shape: Shape) -> Shape:
        return input_shape


@final
class ReLU(_Activation):
    """Rectifier: y = max(x, 0), dy/dx = 1 where x > 0 and 0 elsewhere (also at 0).

    References
    ----------
    Nair and Hinton 2010, "Rectified linear units improve restricted Boltzmann machines", §2.
    """

    def _forward(self, input: Array) -> Array:
        return np.maximum(input, 0)

    def _backward(self, input: Array, dL_dout: Array) -> Array:
        return dL_dout * (input > 0)


@final
class LeakyReLU(_Activation):
    """Leaky rectifier: y = x where x > 0 and a·x elsewhere; dy/dx = 1 where x > 0 and a elsewhere (also at 0).

    Parameters
    ----------
    negative_slope : float
        a. PyTorch's default of 0.01 is followed; Keras has 0.3.

    References
    ----------
    Maas et al. 2013, "Rectifier nonlinearities improve neural network acoustic models", §2.
    """

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__()
        self.negative_slope = real(self.name, "negative_slope", negative_slope)

    def _forward(self, input: Array) -> Array:
        return np.where(input > 0, input, self.negative_slope * input)

    def _backward(self, input: Array, dL_dout: Array) -> Array:
        return dL_dout * np.where(input > 0, 1, self.negative_slope)


@final
class ELU(_Activation):
    """Exponential linear unit: y = x where x > 0 and α·(eˣ − 1) elsewhere; dy/dx = 1 where x > 0 and α·eˣ elsewhere.

    Parameters
    ----------
    alpha : float
        α.

    References
    ----------
    Clevert et al. 2016, "Fast and accurate deep network learning by exponential linear units", §3.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = real(self.name, "alpha", alpha)

    def _forward(self, input: Array) -> Array:
        return np.where(input > 0, input, self.alpha * np.expm1(np.minimum(input, 0)))

    def _backward(self, input: Array, dL_dout: Array) -> Array:
        return dL_dout * np.where(input > 0, 1, self.alpha * np.exp(np.minimum(input, 0)))


@final
class GELU(_Activation):
    """Gaussian error linear unit: y = x·Φ(x), dy/dx = Φ(x) + x·φ(x) with the normal distribution Φ and its density φ.

    Φ(x) = (1 + erf(x/√2)) / 2 and φ(x) = e^(−x²/2) / √(2π).

    With ``approximate="tanh"``: y = x·(1 + t)/2, t = tanh(u), u = √(2/π)·(x + 0.044715·x³), and
    dy/dx = (1 + t)/2 + x·(1 − t²)/2 · √(2/π)·(1 + 3·0.044715·x²).

    Parameters
    ----------
    approximate : {"none", "tanh"}
        The exact function is the default, as in PyTorch and Keras; the paper's authors used the approximation.

    References
    ----------
    Hendrycks and Gimpel 2016, "Gaussian error linear units", §2.
    """

    def __init__(self, approximate: Literal["none", "tanh"] = "none") -> None:
        super().__init__()
        if approximate not in ("none", "tanh"):
            raise ValueError(f"{self.name}: approximate: expected 'none' or 'tanh', got {approximate!r}")
        self.approximate = approximate

    def _forward(self, input: Array) -> Array:
        if self.approximate == "tanh":
            return input * (1 + _gelu_tanh(input)) / 2
        return input * _normal_distribution(input)

    def _backward(self, input: Array, dL_dout: Array) -> Array:
        if self.approximate == "tanh":
            t = _gelu_tanh(input)
            dt_dx = (1 - t**2) * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * input**2)
            return dL_dout * ((1 + t) / 2 + input * dt_dx / 2)
        density = np.exp(-(input**2) / 2) / math.sqrt(2 * math.pi)
        return dL_dout * (_normal_distribution(input) + input * density)


@final
class SiLU(_Activation):
    """Sigmoid linear unit, or swish: y = x·σ(x); dy/dx = σ(x)·(1 + x·(1 − σ(x))).

    References
    ----------
    Elfwing et al. 2018, "Sigmoid-weighted linear units for neural network function approximation in reinforcement
    learning", §2.2.
    """

    def _forward(self, input: Array) -> Array:
        return input * sigmoid(input)

    def _backward(self, input: Array, dL_dout: Array) -> Array:
        s = sigmoid(input)
        return dL_dout * s * (1 + input * (1 - s))


@final
class Sigmoid(_Activation):
    """Logistic function: y = σ(x) = 1 / (1 + e⁻ˣ); dy/dx = y·(1 − y).

    References
    ----------
    Bishop 2006, "Pattern Recognition and Machine Learning", §4.2.
    """

    def _forward(self, input: Array) -> Array:
        return sigmoid(input)

    def _backward(self, input: Array, dL_dout: Array) -> Array:
        y = sigmoid(input)
        return dL_dout * y * (1 - y)


@final
class Tanh(_Activation):
    """Hyperbolic tangent: y = tanh(x); dy/dx = 1 − y².

    References
    ----------
    LeCun et al. 1998, "Efficient backprop", §4.4.
    """

    def _forward(self, input: Array) -> Array:
        return np.tanh(input)

    def _backward(self, input: Array, dL_dout: Array) -> Array:
        y: Array = np.tanh(input)
        return dL_dout * (1 - y * y)


@final
class SoftmaxActivation(_Activation):
    """Softmax over axis 1, features or channels: p_k = exp(x_k) / Σ_m exp(x_m).

    dL/dx_k = p_k·(dL/dp_k − Σ_m p_m·dL/dp_m).

    A plain layer with its own derivative; ``backward`` of ``Softmax`` takes the gradient by the logits instead.

    References
    ----------
    Bishop 2006, "Pattern Recognition and Machine Learning", §4.3.4.
    """

    def _forward(self, input: Array) -> Array:
        return softmax(input)

    def _backward(self, input: Array, dL_dout: Array) -> Array:
        p = softmax(input)
        expected: Array = np.sum(p * dL_dout, axis=1, keepdims=True)
        return p * (dL_dout - expected)


def softmax(logits: Array) -> Array:
    """exp(x_k) / Σ_m exp(x_m) along axis 1; the largest is subtracted first, so that nothing overflows."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def sigmoid(x: Array) -> Array:
    """1 / (1 + e⁻ˣ), as e^min(x,0) / (1 + e^−|x|), which overflows nowhere."""
    return np.asarray(np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x))))


def _normal_distribution(x: Array) -> Array:
    """Φ(x) = erfc(−x/√2) / 2, exact in the lower tail too; NumPy has no erf."""
    return np.asarray(np.vectorize(math.erfc, otypes=[np.float64])(-x / math.sqrt(2)) / 2)


def _gelu_tanh(x: Array) -> Array:
    return np.asarray(np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
