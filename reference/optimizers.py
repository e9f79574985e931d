"""Optimizers: rules by which gradients change parameters, written out parameter by parameter."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
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
