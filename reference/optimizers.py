"""Optimizers: rules by which gradients change parameters, one parameter after the other; clipping and averaging."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import final

import numpy as np

from reference.base import Array, real


class Optimizer(ABC):
    """A rule p ← p − step(gradient, state), applied in place to each parameter by itself.

    Attributes
    ----------
    learning_rate : float
        May be changed between steps, by a schedule for instance.
    steps : int
        Steps taken.
    state : dict
        What the rule remembers of each parameter: ``state[quantity][name]``, zeros before the first step.
    """

    def __init__(self, learning_rate: float) -> None:
        self.name = type(self).__name__
        self.learning_rate = real(self.name, "learning_rate", learning_rate, at_least=0)
        self.steps = 0
        self.state: dict[str, dict[str, Array]] = {}

    def step(self, parameters: Mapping[str, Array], gradients: Mapping[str, Array]) -> None:
        """Change the parameters in place, given the gradients of the mean loss under the same names.

        Raises
        ------
        ValueError
            If names or shapes differ; nothing is changed then.
        """
        if parameters.keys() != gradients.keys():
            raise ValueError(f"{self.name}: gradients: expected names {sorted(parameters)}, got {sorted(gradients)}")
        for name, parameter in parameters.items():
            if gradients[name].shape != parameter.shape:
                raise ValueError(
                    f"{self.name}: gradients[{name!r}]: expected shape {parameter.shape}, got {gradients[name].shape}"
                )
        self.steps += 1
        for name, parameter in parameters.items():
            self._update(name, parameter, gradients[name])

    @abstractmethod
    def _update(self, name: str, parameter: Array, gradient: Array) -> None:
        """Change one parameter in place."""

    def _decay(self, name: str, parameter: Array, weight_decay: float, no_decay: tuple[str, ...]) -> None:
        """Decoupled weight decay: p ← p − learning_rate·λ·p, unless the last part of the name is in `no_decay`."""
        if name.rpartition(".")[2] not in no_decay:
            parameter -= self.learning_rate * weight_decay * parameter

    def _betas(self, betas: tuple[float, float]) -> tuple[float, float]:
        beta1, beta2 = betas
        return (
            real(self.name, "betas[0]", beta1, at_least=0, below=1),
            real(self.name, "betas[1]", beta2, at_least=0, below=1),
        )

    def _remembered(self, quantity: str, name: str, like: Array) -> Array:
        return self.state.setdefault(quantity, {}).setdefault(name, np.zeros_like(like))


@final
class SGD(Optimizer):
    """Gradient descent with momentum μ and weight decay λ: g ← g + λ·p, v ← μ·v + g, p ← p − learning_rate·v.

    With ``nesterov`` the last is p ← p − learning_rate·(g + μ·v).

    Notes
    -----
    PyTorch's formula. Sutskever et al. and Keras put the learning rate inside v, which differs once it changes. The
    weight decay is part of the gradient (L2), as in PyTorch.

    References
    ----------
    Sutskever et al. 2013, "On the importance of initialization and momentum in deep learning", §2.
    """

    def __init__(
        self, learning_rate: float = 0.01, momentum: float = 0.0, nesterov: bool = False, weight_decay: float = 0.0
    ) -> None:
        super().__init__(learning_rate)
        self.momentum = real(self.name, "momentum", momentum, at_least=0)
        self.nesterov = nesterov
        self.weight_decay = real(self.name, "weight_decay", weight_decay, at_least=0)
        if nesterov and momentum == 0:
            raise ValueError(f"{self.name}: nesterov: expected a momentum above 0 with it, got {momentum}")

    def _update(self, name: str, parameter: Array, gradient: Array) -> None:
        g = gradient + self.weight_decay * parameter
        v = self._remembered("velocity", name, parameter)
        v[...] = self.momentum * v + g
        parameter -= self.learning_rate * (g + self.momentum * v if self.nesterov else v)


class _AdaptiveMoments(Optimizer):
    """What Adam and AdamW share."""

    def __init__(self, learning_rate: float, betas: tuple[float, float], epsilon: float, weight_decay: float) -> None:
        super().__init__(learning_rate)
        self.betas = self._betas(betas)
        self.epsilon = real(self.name, "epsilon", epsilon, above=0)
        self.weight_decay = real(self.name, "weight_decay", weight_decay, at_least=0)

    def _adam(self, name: str, parameter: Array, g: Array) -> None:
        (beta1, beta2), t = self.betas, self.steps
        m, v = self._remembered("first_moment", name, parameter), self._remembered("second_moment", name, parameter)
        m[...] = beta1 * m + (1 - beta1) * g
        v[...] = beta2 * v + (1 - beta2) * g * g
        m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
        parameter -= self.learning_rate * m_hat / (np.sqrt(v_hat) + self.epsilon)


@final
class Adam(_AdaptiveMoments):
    """Adaptive moments: m ← β₁·m + (1 − β₁)·g, v ← β₂·v + (1 − β₂)·g², p ← p − learning_rate·m̂ / (√v̂ + ε).

    m̂ = m / (1 − β₁ᵗ) and v̂ = v / (1 − β₂ᵗ) in step t = 1, 2, …; with weight decay λ, g ← g + λ·p before (L2;
    ``AdamW`` decouples it).

    Notes
    -----
    ε stands outside of the root of the corrected v̂, as in the paper's algorithm 1 and in PyTorch; Keras and the
    paper's §2 put it beside the uncorrected root.

    References
    ----------
    Kingma and Ba 2015, "Adam: a method for stochastic optimization", algorithm 1.
    """

    def __init__(
        self,
        learning_rate: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(learning_rate, betas, epsilon, weight_decay)

    def _update(self, name: str, parameter: Array, gradient: Array) -> None:
        self._adam(name, parameter, gradient + self.weight_decay * parameter)


@final
class AdamW(_AdaptiveMoments):
    """Adam with decoupled weight decay λ: p ← p − learning_rate·λ·p, then Adam's step, of whose g the decay is no part.

    Parameters
    ----------
    no_decay : tuple of str
        Parameters that are not decayed, by the last part of their names: ("biases", "gamma", "beta") leaves biases
        and norms alone. By default all are decayed, as in PyTorch.

    References
    ----------
    Loshchilov and Hutter 2019, "Decoupled weight decay regularization", algorithm 2. As in PyTorch the decay is
    multiplied by the learning rate, which the paper leaves to its schedule.
    """

    def __init__(
        self,
        learning_rate: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        weight_decay: float = 0.01,
        no_decay: tuple[str, ...] = (),
    ) -> None:
        super().__init__(learning_rate, betas, epsilon, weight_decay)
        self.no_decay = tuple(no_decay)

    def _update(self, name: str, parameter: Array, gradient: Array) -> None:
        self._decay(name, parameter, self.weight_decay, self.no_decay)
        self._adam(name, parameter, gradient)


@final
class RMSprop(Optimizer):
    """Gradients divided by the root of their running mean square: v ← α·v + (1 − α)·g², b ← μ·b + g / (√v + ε).

    p ← p − learning_rate·b; without momentum μ, b is g / (√v + ε). ``centered``: a ← α·a + (1 − α)·g, and √(v − a²)
    in place of √v. With weight decay λ, g ← g + λ·p before (L2).

    Notes
    -----
    PyTorch's formula and defaults (ε outside of the root, α = 0.99; Keras: ε inside, α = 0.9).

    References
    ----------
    Tieleman and Hinton 2012, "Neural networks for machine learning", lecture 6.5; Graves 2013, "Generating sequences
    with recurrent neural networks", §4.2 (centered).
    """

    def __init__(
        self,
        learning_rate: float = 0.01,
        alpha: float = 0.99,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ) -> None:
        super().__init__(learning_rate)
        self.alpha = real(self.name, "alpha", alpha, at_least=0, below=1)
        self.epsilon = real(self.name, "epsilon", epsilon, above=0)
        self.weight_decay = real(self.name, "weight_decay", weight_decay, at_least=0)
        self.momentum = real(self.name, "momentum", momentum, at_least=0)
        self.centered = centered

    def _update(self, name: str, parameter: Array, gradient: Array) -> None:
        g = gradient + self.weight_decay * parameter
        v, b = self._remembered("mean_square", name, parameter), self._remembered("velocity", name, parameter)
        v[...] = self.alpha * v + (1 - self.alpha) * g * g
        variance = v
        if self.centered:
            a = self._remembered("mean", name, parameter)
            a[...] = self.alpha * a + (1 - self.alpha) * g
            variance = np.maximum(v - a * a, 0)  # rounding must not make it negative; PyTorch lets it
        b[...] = self.momentum * b + g / (np.sqrt(variance) + self.epsilon)
        parameter -= self.learning_rate * b


@final
class Lion(Optimizer):
    """Evolved sign momentum: p ← p − learning_rate·(sign(β₁·m + (1 − β₁)·g) + λ·p), then m ← β₂·m + (1 − β₂)·g.

    Parameters
    ----------
    learning_rate : float
        A third to a tenth of AdamW's, since every number moves by it (the paper's §5).
    no_decay : tuple of str
        As in ``AdamW``.

    References
    ----------
    Chen et al. 2023, "Symbolic discovery of optimization algorithms", algorithm 2. PyTorch has none.
    """

    def __init__(
        self,
        learning_rate: float = 0.0001,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        no_decay: tuple[str, ...] = (),
    ) -> None:
        super().__init__(learning_rate)
        self.betas = self._betas(betas)
        self.weight_decay = real(self.name, "weight_decay", weight_decay, at_least=0)
        self.no_decay = tuple(no_decay)

    def _update(self, name: str, parameter: Array, gradient: Array) -> None:
        self._decay(name, parameter, self.weight_decay, self.no_decay)
        m, (beta1, beta2) = self._remembered("momentum", name, parameter), self.betas
        parameter -= self.learning_rate * np.sign(beta1 * m + (1 - beta1) * gradient)
        m[...] = beta2 * m + (1 - beta2) * gradient


@final
class Muon(Optimizer):
    """Momentum whose matrices are made orthogonal; all other parameters take AdamW's step.

    M ← μ·M + (1 − μ)·G, U = (1 − μ)·G + μ·M (without ``nesterov`` U = M), X = ``newton_schulz(U)``,
    p ← p − learning_rate·(s·X + λ·p). Filters are a matrix (filters, all else), weights of two dimensions, (inputs,
    outputs), one of (outputs, inputs). What has fewer dimensions, one row or one column is no matrix here.

    Parameters
    ----------
    adjust_learning_rate : str
        "original": s = √max(1, rows / columns); "match_rms_adamw": s = 0.2·√max(rows, columns).
    normalize : bool
        Before a step, p ← p·√rows / ‖p‖, unless p is 0.
    adam : tuple of str
        Names, with ``*``, of matrices that take AdamW's step too.
    sgd : tuple of str
        Names, with ``*``, of parameters that take a step of plain momentum: p ← p − sgd_factor·learning_rate·(U + λ·p).
    adam_factor : float
        AdamW's learning rate, as a factor of ``learning_rate``; λ is the same.

    References
    ----------
    Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"; github.com/KellerJordan/Muon.
    """

    def __init__(
        self,
        learning_rate: float = 0.02,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.0,
        no_decay: tuple[str, ...] = (),
        *,
        ns_steps: int = 5,
        adjust_learning_rate: str = "original",
        normalize: bool = False,
        adam: tuple[str, ...] = (),
        adam_factor: float = 0.015,
        adam_betas: tuple[float, float] = (0.9, 0.95),
        epsilon: float = 1e-10,
        sgd: tuple[str, ...] = (),
        sgd_factor: float = 1.0,
    ) -> None:
        super().__init__(learning_rate)
        self.sgd, self.sgd_factor = tuple(sgd), real(self.name, "sgd_factor", sgd_factor, at_least=0)
        self.momentum = real(self.name, "momentum", momentum, at_least=0, below=1)
        self.nesterov, self.ns_steps, self.normalize = nesterov, ns_steps, normalize
        self.weight_decay = real(self.name, "weight_decay", weight_decay, at_least=0)
        self.no_decay, self.adjust_learning_rate, self.adam = tuple(no_decay), adjust_learning_rate, tuple(adam)
        self.adam_factor = real(self.name, "adam_factor", adam_factor, at_least=0)
        self.adam_betas = self._betas(adam_betas)
        self.epsilon = real(self.name, "epsilon", epsilon, above=0)

    def _update(self, name: str, parameter: Array, gradient: Array) -> None:
        momentum = self._remembered("momentum", name, parameter)
        square = self._remembered("second_moment", name, parameter)
        plain = any(fnmatchcase(name, pattern) for pattern in self.sgd)
        if not plain and not self._is_matrix(name, parameter):
            self._adam(name, parameter, gradient, momentum, square)
            return
        mu = self.momentum
        momentum[...] = mu * momentum + (1 - mu) * gradient
        direction = (1 - mu) * gradient + mu * momentum if self.nesterov else momentum
        if plain:
            decay = 0.0 if name.rpartition(".")[2] in self.no_decay else self.weight_decay
            parameter -= self.sgd_factor * self.learning_rate * (direction + decay * parameter)
            return
        rows, columns = as_matrix(direction).shape
        scale = max(1, rows / columns) ** 0.5 if self.adjust_learning_rate == "original" else (
            0.2 * max(rows, columns) ** 0.5
        )  # fmt: skip
        step = newton_schulz(as_matrix(direction), self.ns_steps)
        step = step.T if parameter.ndim == 2 else step.reshape(parameter.shape)
        norm = np.sqrt(np.sum(parameter * parameter))
        if self.normalize and norm > 0:
            parameter *= rows**0.5 / norm
        self._decay(name, parameter, self.weight_decay, self.no_decay)
        parameter -= self.learning_rate * scale * step

    def _is_matrix(self, name: str, parameter: Array) -> bool:
        if parameter.ndim < 2 or any(fnmatchcase(name, pattern) for pattern in self.adam):
            return False
        rows, columns = as_matrix(parameter).shape
        return bool(rows > 1 and columns > 1)

    def _adam(self, name: str, parameter: Array, gradient: Array, mean: Array, square: Array) -> None:
        (beta1, beta2), rate = self.adam_betas, self.learning_rate * self.adam_factor
        mean[...] = beta1 * mean + (1 - beta1) * gradient
        square[...] = beta2 * square + (1 - beta2) * gradient * gradient
        if name.rpartition(".")[2] not in self.no_decay:
            parameter -= rate * self.weight_decay * parameter
        root = np.sqrt(square / (1 - beta2**self.steps))
        parameter -= rate * (mean / (1 - beta1**self.steps)) / (root + self.epsilon)


def as_matrix(array: Array) -> Array:
    """Return filters as (filters, all else), and weights (inputs, outputs) as (outputs, inputs)."""
    return array.T if array.ndim == 2 else array.reshape(len(array), -1)


def newton_schulz(matrix: Array, steps: int) -> Array:
    """Return U·f(Σ)·Vᵀ for a matrix U·Σ·Vᵀ, where f, a polynomial iterated, leads singular values to about 1.

    X = matrix / (‖matrix‖ + 10⁻⁷), then X ← 3.4445·X − 4.7750·XXᵀX + 2.0315·XXᵀXXᵀX.
    """
    x: Array = matrix / (np.sqrt(np.sum(matrix * matrix)) + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x


def clip_by_global_norm(gradients: Mapping[str, Array], max_norm: float) -> float:
    """Shorten all gradients together, in place: g ← g·min(1, max_norm / (‖g‖ + 10⁻⁶)).

    ‖g‖ is the root of the sum of the squares of all numbers in all gradients, as it was before.

    Returns ‖g‖. The 10⁻⁶ is PyTorch's.

    References
    ----------
    Pascanu et al. 2013, "On the difficulty of training recurrent neural networks", §3.2.
    """
    max_norm = real("clip_by_global_norm", "max_norm", max_norm, above=0)
    norm = math.sqrt(sum(float(np.sum(gradient * gradient)) for gradient in gradients.values()))
    for gradient in gradients.values():
        gradient[...] = gradient * min(1.0, max_norm / (norm + 1e-6))
    return norm


@final
class ExponentialMovingAverage:
    """Average of the parameters over the steps: a ← d·a + (1 − d)·p; the first ``update`` takes a = p, as in PyTorch.

    Parameters
    ----------
    decay : float
        d, in [0, 1).

    Attributes
    ----------
    averages : dict of str to ndarray
        a, under the names of the parameters; empty before the first ``update``.

    References
    ----------
    Polyak and Juditsky 1992, "Acceleration of stochastic approximation by averaging"; Tarvainen and Valpola 2017,
    "Mean teachers are better role models", §2.
    """

    def __init__(self, decay: float = 0.999) -> None:
        self.decay = real(type(self).__name__, "decay", decay, at_least=0, below=1)
        self.averages: dict[str, Array] = {}

    def update(self, parameters: Mapping[str, Array]) -> None:
        """Take in the parameters after a step."""
        for name, parameter in parameters.items():
            if name in self.averages:
                self.averages[name][...] = self.decay * self.averages[name] + (1 - self.decay) * parameter
            else:
                self.averages[name] = parameter.copy()
