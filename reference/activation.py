"""Activations: a function of each number by itself, and softmax over the features."""

from __future__ import annotations

import math
from typing import Literal, final

import numpy as np

from reference.base import Array, Layer, Parameter, Shape, integer, real


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
class CELU(_Activation):
    """Continuously differentiable ELU: y = x where x > 0 and α·(e^(x/α) − 1) elsewhere; dy/dx = 1 and e^(x/α).

    Parameters
    ----------
    alpha : float
        α > 0.

    References
    ----------
    Barron 2017, "Continuously differentiable exponential linear units", eq. 3.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = real(self.name, "alpha", alpha, above=0)

    def _forward(self, input: Array) -> Array:
        return np.where(input > 0, input, self.alpha * np.expm1(np.minimum(input, 0) / self.alpha))

    def _backward(self, input: Array, dL_dout: Array) -> Array:
        return dL_dout * np.where(input > 0, 1, np.exp(np.minimum(input, 0) / self.alpha))


@final
class Softplus(_Activation):
    """Smooth rectifier: y = log(1 + e^(β·x)) / β, and x itself where β·x > threshold; dy/dx = σ(β·x), and 1 there.

    Parameters
    ----------
    beta : float
        β > 0.
    threshold : float
        PyTorch's default.

    References
    ----------
    Dugas et al. 2000, "Incorporating second-order functional knowledge for better option pricing", §2.
    """

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta = real(self.name, "beta", beta, above=0)
        self.threshold = real(self.name, "threshold", threshold)

    def _forward(self, input: Array) -> Array:
        return np.where(self.beta * input > self.threshold, input, softplus(self.beta * input) / self.beta)

    def _backward(self, input: Array, dL_dout: Array) -> Array:
        return dL_dout * np.where(self.beta * input > self.threshold, 1, sigmoid(self.beta * input))


@final
class Mish(_Activation):
    """Self-regularised rectifier: y = x·t with t = tanh(log(1 + eˣ)); dy/dx = t + x·(1 − t²)·σ(x).

    References
    ----------
    Misra 2020, "Mish: a self regularized non-monotonic activation function", §3.
    """

    def _forward(self, input: Array) -> Array:
        return input * np.tanh(softplus(input))

    def _backward(self, input: Array, dL_dout: Array) -> Array:
        t: Array = np.tanh(softplus(input))
        return dL_dout * (t + input * (1 - t**2) * sigmoid(input))


@final
class ReLU6(_Activation):
    """Rectifier of at most 6: y = min(max(x, 0), 6); dy/dx = 1 where 0 < x < 6 and 0 elsewhere (also at 0 and 6).

    References
    ----------
    Krizhevsky 2010, "Convolutional deep belief networks on CIFAR-10", §3.
    """

    def _forward(self, input: Array) -> Array:
        return np.clip(input, 0, 6)

    def _backward(self, input: Array, dL_dout: Array) -> Array:
        return dL_dout * ((input > 0) & (input < 6))


@final
class HardSigmoid(_Activation):
    """Logistic function of straight pieces: y = min(max(x + 3, 0), 6) / 6; dy/dx = 1/6 where −3 < x < 3, 0 elsewhere.

    References
    ----------
    Howard et al. 2019, "Searching for MobileNetV3", §5.2.
    """

    def _forward(self, input: Array) -> Array:
        return np.clip(input + 3, 0, 6) / 6

    def _backward(self, input: Array, dL_dout: Array) -> Array:
        return dL_dout * ((input > -3) & (input < 3)) / 6


@final
class HardSwish(_Activation):
    """Swish of straight pieces: y = x·min(max(x + 3, 0), 6) / 6; dy/dx = x/3 + 1/2 where −3 < x < 3, 0 below, 1 above.

    References
    ----------
    Howard et al. 2019, "Searching for MobileNetV3", §5.2.
    """

    def _forward(self, input: Array) -> Array:
        return input * np.clip(input + 3, 0, 6) / 6

    def _backward(self, input: Array, dL_dout: Array) -> Array:
        return dL_dout * np.where(input <= -3, 0, np.where(input >= 3, 1, input / 3 + 0.5))


@final
class PReLU(_Activation):
    """Parametric rectifier: y = x where x > 0 and a_c·x elsewhere; dy/dx = 1 where x > 0 and a_c elsewhere (also at 0).

    dL/da_c = Σ min(x, 0)·dL/dy over all numbers of channel c, or of all channels where they share one slope.

    Parameters
    ----------
    num_parameters : int
        1, one slope for all channels, or one for each.
    init : float
        The slopes at the start.

    References
    ----------
    He et al. 2015, "Delving deep into rectifiers", §2.1.
    """

    ranks = (2, 4)
    negative_slope = Parameter()

    def __init__(self, num_parameters: int = 1, init: float = 0.25) -> None:
        super().__init__()
        self.num_parameters = integer(self.name, "num_parameters", num_parameters, at_least=1)
        self.init = real(self.name, "init", init)

    def _output_shape(self, input_shape: Shape) -> Shape:
        if self.num_parameters not in (1, input_shape[0]):
            raise ValueError(
                f"{self.name}: num_parameters: expected 1 or the number of channels, {input_shape[0]}, "
                f"got {self.num_parameters}"
            )
        return input_shape

    def _build(self, input_shape: Shape) -> None:
        self._add("negative_slope", np.full(self.num_parameters, self.init))

    def _slope(self, input: Array) -> Array:
        """Return a as it meets the channels of the input."""
        return self.negative_slope.reshape(-1, *[1] * (input.ndim - 2))

    def _forward(self, input: Array) -> Array:
        return np.where(input > 0, input, self._slope(input) * input)

    def _backward(self, input: Array, dL_dout: Array) -> Array:
        below = np.minimum(input, 0) * dL_dout
        others = tuple(axis for axis in range(input.ndim) if axis != 1 or self.num_parameters == 1)
        self.gradients["negative_slope"][...] = below.sum(axis=others)
        return dL_dout * np.where(input > 0, 1, self._slope(input))


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


def softplus(x: Array) -> Array:
    """log(1 + eˣ), as max(x, 0) + log(1 + e^−|x|), which overflows nowhere."""
    return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))


def _normal_distribution(x: Array) -> Array:
    """Φ(x) = erfc(−x/√2) / 2, exact in the lower tail too; NumPy has no erf."""
    return np.asarray(np.vectorize(math.erfc, otypes=[np.float64])(-x / math.sqrt(2)) / 2)


def _gelu_tanh(x: Array) -> Array:
    return np.asarray(np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
