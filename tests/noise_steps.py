"""Steps that are noise divided by itself: which numbers of the parameters take them, and how far they can go.

Adam, AdamW, RMSprop and Muon divide a gradient by its own size. Where the true gradient is 0, as that of a bias in
front of a batch normalisation, they divide rounding noise by the size of this noise: the number moves by about the
learning rate in each step, in a direction that no specification tells. Training does not see it, since the
normalisation takes away what the bias adds. Predictions do: running means follow such a bias late.

No tolerance can be drawn for that from a few noisy runs: the effects of several such numbers cancel in one run, and
add up in another. What is compared is derived instead:

1. Such numbers are found by the gradients of the exact run: everything that a number has seen up to this step lies
   within the noise, and the noise is above the ε that the optimizer adds to the divisor (below it, a step is at most
   the learning rate times noise / ε, which the noisy runs show).
2. The optimizer's formula bounds each of their steps, whatever the noise is (`reach`). The engine's step keeps within
   it, or it is wrong.
3. The specification goes on with the engine's number in this place. So running statistics, predictions and evaluation
   are compared as closely as without such numbers.

The gradients themselves are compared before the first step, and the steps of SGD follow them: a wrong gradient is seen
there. In double precision the noise is below ε, so that Adam's steps show it too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import reference
from reference.optimizers import as_matrix
from tests.rounding import NEAR

ORTHOGONAL = 1.2025  # the largest singular value that a step of Newton and Schulz's makes of one in [0, 1.2025]
NORM_EPSILON = 1e-7  # what Muon adds to the norm by which it divides

Array = np.ndarray
Arrays = dict[str, Array]


def divides(optimizer: Any) -> bool:
    """Tell whether an optimizer divides gradients by their size."""
    return isinstance(optimizer, reference.Adam | reference.AdamW | reference.RMSprop | reference.Muon)


def divided(optimizer: Any, parameters: Arrays, gradients: Arrays) -> Arrays:
    """Return what the optimizer divides by its size: gradients, with the decay that is part of them."""
    is_part = isinstance(optimizer, reference.Adam | reference.RMSprop)
    decay = optimizer.weight_decay if is_part else 0.0
    return {name: gradient + decay * parameters[name] for name, gradient in gradients.items()}


def reach(optimizer: Any, name: str, parameter: Array) -> float:
    """Return how far the optimizer's last step can have moved a number, whatever all gradients were until then.

    Adam's m̂ / √v̂ = Σ aᵢ·gᵢ / √(Σ bᵢ·gᵢ²) is at most √(Σ aᵢ² / bᵢ), by Cauchy and Schwarz. RMSprop's g / √v is at most
    1 / √(1 − α); centered, v − a² ≥ αᵗ·v in step t (again by Cauchy and Schwarz, as the weights of both means add up to
    1 − αᵗ). Muon's matrix has singular values of at most `ORTHOGONAL`, so no number above that.
    """
    rate, t = _rate(optimizer, name, parameter), optimizer.steps
    if isinstance(optimizer, reference.RMSprop):
        alpha, steps = optimizer.alpha, np.arange(1, t + 1)
        largest = 1 / np.sqrt((1 - alpha) * (alpha**steps if optimizer.centered else 1.0))
        return float(rate * np.sum(optimizer.momentum ** (t - steps) * largest))
    if isinstance(optimizer, reference.Muon) and optimizer._is_matrix(name, parameter):
        rows, columns = as_matrix(parameter).shape
        original = optimizer.adjust_learning_rate == "original"
        return float(
            rate * ORTHOGONAL * (max(1, rows / columns) ** 0.5 if original else 0.2 * max(rows, columns) ** 0.5)
        )
    beta1, beta2 = optimizer.adam_betas if isinstance(optimizer, reference.Muon) else optimizer.betas
    age = np.arange(t)
    a, b = ((1 - beta) * beta**age / (1 - beta**t) for beta in (beta1, beta2))
    return float(rate * np.sqrt(np.sum(a * a / b)))


def kept(optimizer: Any, name: str, parameter: Array) -> float:
    """Return the share of a number that a step of gradient 0 leaves: 1, less the decay that is no part of gradients."""
    if isinstance(optimizer, reference.Adam | reference.RMSprop) or name.rpartition(".")[2] in optimizer.no_decay:
        return 1.0
    return float(1 - _rate(optimizer, name, parameter) * optimizer.weight_decay)


def _rate(optimizer: Any, name: str, parameter: Array) -> float:
    """Return the learning rate of a parameter: Muon's other parameters have a smaller one."""
    is_muon = isinstance(optimizer, reference.Muon)
    is_other = is_muon and not optimizer._is_matrix(name, parameter)
    return float(optimizer.learning_rate * (optimizer.adam_factor if is_other else 1.0))


class NoiseSteps:
    """Follows the runs of a case, step by step, and puts the engine's numbers where noise decides.

    Attributes
    ----------
    carried : dict
        True where everything that the steps of a number have divided by its size so far may be noise.
    """

    def __init__(self) -> None:
        self.carried: Arrays = {}
        self.still: Arrays = {}
        self.size: Arrays = {}
        self.noise: dict[str, float] = {}

    def __bool__(self) -> bool:
        return any(carried.any() for carried in self.carried.values())

    def see(self, optimizer: Any, exact: Arrays, others: list[Arrays]) -> None:
        """Take in what the last step has divided, in the exact run and in those with roundings."""
        for name, gradient in exact.items():
            moved = max(float(np.abs(other[name] - gradient).max(initial=0)) for other in others)
            self.noise[name] = max(moved, self.noise.get(name, 0.0))
            self.size[name] = size = np.maximum(np.abs(gradient), self.size.get(name, 0.0))
            noise, epsilon = NEAR * self.noise[name], optimizer.epsilon
            if isinstance(optimizer, reference.Muon) and optimizer._is_matrix(name, gradient):  # divided by its norm
                size, noise, epsilon = np.full_like(size, np.linalg.norm(size)), noise * size.size**0.5, NORM_EPSILON
            nothing = np.all(
                [other[name] == 0 for other in (exact, *others)], axis=0
            )  # a dead unit's 0 is 0 everywhere
            self.still[name] = still = nothing & self.still.get(name, True)
            self.carried[name] = (size <= noise) & (noise > epsilon) & ~still

    def follow(self, optimizer: Any, before: Arrays, after: Arrays, chains: list[Arrays]) -> None:
        """Check the engine's step from `before` to `after` where noise decides, and let all chains go on from there."""
        for name, carried in self.carried.items():
            if not carried.any():
                continue
            from_, to = (numbers[name].astype(np.float64)[carried] for numbers in (before, after))
            expected, far = kept(optimizer, name, after[name]) * from_, reach(optimizer, name, after[name])
            slack = 8 * float(np.finfo(after[name].dtype).eps) * (np.abs(from_) + far)
            wrong = ~(np.abs(to - expected) <= far + slack)
            assert not wrong.any(), (
                f"step {optimizer.steps}, {name}: {wrong.sum()} of {wrong.size} numbers without gradient moved by "
                f"up to {np.abs(to - expected).max():.3g}, where {type(optimizer).__name__} reaches {far:.3g}"
            )
            for chain in chains:
                chain[name][carried] = to
