"""Optimizers: one sweep over the flat vector of all parameters, which also sums the shards' gradients."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import final

import numpy as np

from .flat_state import FlatState
from .kernels import update as kernels
from .layers import checks
from .layers.base import Layer
from .layers.layout import aligned_zeros
from .typing import Array, IntArray

LINE = 16  # numbers: each parameter begins at a multiple of them


class Optimizer(FlatState, ABC):
    """A rule `p -= step(gradient, state)` for all parameters at once.

    An optimizer serves one model: with another one, or one that is built anew, it begins anew.

    Attributes
    ----------
    learning_rate : float
        May be changed between steps; a `schedule` of the Trainer does so before each.
    clip_norm : float or None
        The gradients of all parameters together are shortened to this norm before anything else,
        `g ← g·min(1, clip_norm / (‖g‖ + 10⁻⁶))`, as PyTorch's `clip_grad_norm_` (Keras: `global_clipnorm`). The sum of
        the squares is taken over fixed pieces in their order, so the bits do not depend on the number of threads.
    gradient_norm : float
        ‖g‖ of the last step, before it was shortened; NaN without `clip_norm`.
    steps : int
        Steps taken.
    replayable : bool
        Whether `_update` does nothing but call kernels, with the same arguments at every step: then they are recorded.
    state : dict of str to dict of str to array
        What the rule remembers of each parameter: `state[quantity][name]`, writable views, zeros before the first step.

    References
    ----------
    Pascanu et al., "On the difficulty of training recurrent neural networks", ICML 2013, section 3.2 (clipping).
    """

    no_decay: tuple[str, ...] = ()
    replayable = False

    def __init__(self, learning_rate: float, clip_norm: float | None) -> None:
        super().__init__()
        self.learning_rate = self._number("learning_rate", learning_rate, at_least=0)
        self.clip_norm = None if clip_norm is None else self._number("clip_norm", clip_norm, above=0)
        self.gradient_norm = math.nan

    def step(self, model: Layer) -> None:
        """Change a model's or layer's parameters along the gradients that its `backward` has left.

        A `Trainer` does this by itself; the method is for loops of one's own.

        Raises
        ------
        RuntimeError
            If there was no `backward` before.
        """
        size = model._flat.size
        if model._flat_gradients.size != size or not model.gradients:
            raise RuntimeError(f"{self.name}: step: {model.name} has no gradients: call its backward first")
        self._begin(model)
        gradients = model._flat_gradients.astype(model._flat.dtype, copy=False)
        if self.clip_norm is not None:
            squares = np.zeros(1)
            kernels.sum_squares(gradients, 1, size, 0, size, self._scratch(1), squares, 0)
            self._clip(squares)
        self._update(gradients, 1, 0, size)
        if gradients is not model._flat_gradients:
            model._flat_gradients[...] = gradients

    # What a Trainer calls, in this order; the two middle ones for pieces of the vector, on several threads.

    def _begin(self, model: Layer) -> None:
        """Get ready for a step."""
        self._bind(model)
        self.steps += 1
        self.gradient_norm = math.nan
        rates = self._coefficients()
        self._rates[0] = 1
        self._rates[1 : 1 + len(rates)] = rates

    def _scratch(self, pieces: int) -> Array:
        return aligned_zeros(pieces * LINE, self._theta.dtype)

    def _clip(self, squares: Array) -> None:
        """Settle by how much the gradients are shortened: `squares` are the sums of all pieces."""
        assert self.clip_norm is not None
        self.gradient_norm = math.sqrt(math.fsum(squares)) if np.isfinite(squares).all() else float(squares.sum())
        self._rates[0] = min(1.0, self.clip_norm / (self.gradient_norm + 1e-6))

    @abstractmethod
    def _update(self, gradients: Array, shards: int, first: int, last: int) -> None:
        """Change the parameters from `first` to `last`; `gradients` (S, size) are summed over `shards` rows, into 0."""

    @abstractmethod
    def _coefficients(self) -> tuple[float, ...]:
        """Return the numbers of this step, in the kernel's order."""

    def _allocate(self, model: Layer) -> None:
        super()._allocate(model)
        dtype = self._theta.dtype
        self._rates = np.zeros(16, dtype)
        self._edges, self._decayed = _spans(model, self.no_decay)

    def _number(self, name: str, value: float, **bounds: float) -> float:
        return checks.as_number(value, self.name, name, **bounds)

    def _pair(self, betas: tuple[float, float]) -> tuple[float, float]:
        try:
            beta1, beta2 = betas
        except (TypeError, ValueError):
            raise TypeError(f"{self.name}: betas: expected a pair of numbers; got {betas!r}") from None
        return (
            self._number("betas[0]", beta1, at_least=0, below=1),
            self._number("betas[1]", beta2, at_least=0, below=1),
        )

    def _names(self, no_decay: Sequence[str]) -> tuple[str, ...]:
        if isinstance(no_decay, str) or not all(isinstance(name, str) for name in no_decay):
            raise TypeError(f"{self.name}: no_decay: expected a sequence of names; got {no_decay!r}")
        return tuple(no_decay)

    def _smallest(self, epsilon: float) -> float:
        """Return an epsilon that is not zero in the dtype: what has never had a gradient would become 0/0."""
        return max(epsilon, float(np.finfo(self._theta.dtype).tiny))


@final
class SGD(Optimizer):
    """Gradient descent with momentum μ and weight decay λ: `g ← g + λ·p`, `v ← μ·v + g`, `p ← p − learning_rate·v`.

    With `nesterov` the last is `p ← p − learning_rate·(g + μ·v)`.

    Parameters
    ----------
    learning_rate, momentum : float
    nesterov : bool
    weight_decay : float
    clip_norm : float, optional
        See `Optimizer`.

    Notes
    -----
    PyTorch's formula. Sutskever et al. and Keras put the learning rate inside v, which differs once it changes. The
    weight decay is part of the gradient (L2), as in PyTorch.

    References
    ----------
    Robbins and Monro, "A stochastic approximation method", Ann. Math. Statist. 22 (1951); Sutskever et al., "On the
    importance of initialization and momentum in deep learning", ICML 2013, section 2.
    """

    replayable = True

    def __init__(
        self,
        learning_rate: float = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        *,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(learning_rate, clip_norm)
        self.momentum = self._number("momentum", momentum, at_least=0)
        self.nesterov = bool(nesterov)
        self.weight_decay = self._number("weight_decay", weight_decay, at_least=0)
        if nesterov and momentum == 0:
            raise ValueError(f"{self.name}: nesterov: expected a momentum above 0 with it; got {momentum!r}")
        self._quantities = ("velocity",) if momentum else ()

    def _coefficients(self) -> tuple[float, ...]:
        rate = -self.learning_rate
        if not self._quantities:
            return self.weight_decay, rate
        steps = (rate, rate * self.momentum) if self.nesterov else (0.0, rate)
        return self.weight_decay, self.momentum, *steps

    def _update(self, gradients: Array, shards: int, first: int, last: int) -> None:
        if self._quantities:
            (velocity,) = self._vectors
            kernels.sgd_momentum(self._theta, gradients, shards, first, last, velocity, self._rates)
        else:
            kernels.sgd(self._theta, gradients, shards, first, last, self._rates)


class _AdaptiveMoments(Optimizer):
    """What Adam and AdamW share."""

    replayable = True
    _quantities = ("first_moment", "second_moment")
    _coupled: bool

    def __init__(
        self,
        learning_rate: float,
        betas: tuple[float, float],
        epsilon: float,
        weight_decay: float,
        clip_norm: float | None,
    ) -> None:
        super().__init__(learning_rate, clip_norm)
        self.betas = self._pair(betas)
        self.epsilon = self._number("epsilon", epsilon, above=0)
        self.weight_decay = self._number("weight_decay", weight_decay, at_least=0)

    def _coefficients(self) -> tuple[float, ...]:
        (beta1, beta2), rate, decay = self.betas, self.learning_rate, self.weight_decay
        decays = (decay, 0.0) if self._coupled else (0.0, -rate * decay)
        root = 1 / math.sqrt(1 - beta2**self.steps)
        step = -rate / (1 - beta1**self.steps)
        return *decays, beta1, 1 - beta1, beta2, 1 - beta2, root, self._smallest(self.epsilon), step

    def _update(self, gradients: Array, shards: int, first: int, last: int) -> None:
        kernels.adam(
            self._theta, gradients, shards, first, last, self._edges, self._decayed, *self._vectors, self._rates
        )


@final
class Adam(_AdaptiveMoments):
    """Adaptive moments: `m ← β₁·m + (1 − β₁)·g`, `v ← β₂·v + (1 − β₂)·g²`, `p ← p − learning_rate·m̂ / (√v̂ + ε)`.

    `m̂ = m / (1 − β₁ᵗ)` and `v̂ = v / (1 − β₂ᵗ)` in step t = 1, 2, ...; with weight decay λ, `g ← g + λ·p` before (L2;
    `AdamW` decouples it).

    Parameters
    ----------
    learning_rate : float
    betas : (float, float)
    epsilon : float
        ε, above 0.
    weight_decay : float
    clip_norm : float, optional
        See `Optimizer`.

    Notes
    -----
    ε stands outside of the root of the corrected v̂, as in the paper's algorithm 1 and in PyTorch; Keras and the
    paper's section 2 put it beside the uncorrected root.

    References
    ----------
    Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1.
    """

    _coupled = True

    def __init__(
        self,
        learning_rate: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(learning_rate, betas, epsilon, weight_decay, clip_norm)


@final
class AdamW(_AdaptiveMoments):
    """Adam with decoupled weight decay λ: `p ← p − learning_rate·λ·p`, then Adam's step, whose g knows no decay.

    Parameters
    ----------
    learning_rate : float
    betas : (float, float)
    epsilon : float
        ε, above 0.
    weight_decay : float
    no_decay : sequence of str
        Parameters that are not decayed, by the last part of their names: `("biases", "gamma", "beta")` leaves biases
        and norms alone (in timm: `filter_bias_and_bn`; in Keras: `exclude_from_weight_decay(var_names=...)`). By
        default all are decayed, as in PyTorch.
    clip_norm : float, optional
        See `Optimizer`.

    References
    ----------
    Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019, algorithm 2. As in PyTorch the decay is
    multiplied by the learning rate, which the paper leaves to its schedule.
    """

    _coupled = False

    def __init__(
        self,
        learning_rate: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        weight_decay: float = 0.01,
        no_decay: tuple[str, ...] = (),
        *,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(learning_rate, betas, epsilon, weight_decay, clip_norm)
        self.no_decay = self._names(no_decay)


@final
class RMSprop(Optimizer):
    """Gradients divided by the root of their mean square: `v ← α·v + (1 − α)·g²`, `b ← μ·b + g / (√v + ε)`.

    `p ← p − learning_rate·b`; without momentum μ, b is `g / (√v + ε)`. With `centered`, `a ← α·a + (1 − α)·g`, and
    `√(v − a²)` stands in place of `√v`. With weight decay λ, `g ← g + λ·p` before (L2).

    Parameters
    ----------
    learning_rate, alpha : float
    epsilon : float
        ε, above 0.
    weight_decay, momentum : float
    centered : bool
    clip_norm : float, optional
        See `Optimizer`.

    Notes
    -----
    PyTorch's formula and defaults (ε outside of the root, α = 0.99; Keras: ε inside, α = 0.9); but `v − a²` is not let
    below 0, where PyTorch's root of what rounding has left can be NaN.

    References
    ----------
    Tieleman and Hinton, "Neural networks for machine learning", 2012, lecture 6.5; Graves, "Generating sequences with
    recurrent neural networks", 2013, section 4.2 (centered).
    """

    replayable = True

    def __init__(
        self,
        learning_rate: float = 0.01,
        alpha: float = 0.99,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(learning_rate, clip_norm)
        self.alpha = self._number("alpha", alpha, at_least=0, below=1)
        self.epsilon = self._number("epsilon", epsilon, above=0)
        self.weight_decay = self._number("weight_decay", weight_decay, at_least=0)
        self.momentum = self._number("momentum", momentum, at_least=0)
        self.centered = bool(centered)
        optional = {"mean": self.centered, "velocity": momentum > 0}
        self._quantities = ("mean_square", *(name for name, wanted in optional.items() if wanted))

    def _coefficients(self) -> tuple[float, ...]:
        epsilon = self._smallest(self.epsilon)
        return self.weight_decay, self.alpha, 1 - self.alpha, epsilon, self.momentum, -self.learning_rate

    def _update(self, gradients: Array, shards: int, first: int, last: int) -> None:
        if len(self._vectors) == 1:
            kernels.rmsprop(self._theta, gradients, shards, first, last, *self._vectors, self._rates)
            return
        have = dict(zip(self._quantities, self._vectors, strict=True))
        nothing = self._theta[:0]
        square, mean, velocity = (have.get(name, nothing) for name in ("mean_square", "mean", "velocity"))
        kernels.rmsprop_with_means(self._theta, gradients, shards, first, last, square, mean, velocity, self._rates)


@final
class Lion(Optimizer):
    """Evolved sign momentum: `p ← p − learning_rate·(sign(β₁·m + (1 − β₁)·g) + λ·p)`, `m ← β₂·m + (1 − β₂)·g`.

    Parameters
    ----------
    learning_rate : float
        A third to a tenth of AdamW's, since every number moves by it (the paper's section 5).
    betas : (float, float)
    weight_decay : float
        λ, decoupled.
    no_decay : sequence of str
        As in `AdamW`.
    clip_norm : float, optional
        See `Optimizer`.

    References
    ----------
    Chen et al., "Symbolic discovery of optimization algorithms", NeurIPS 2023, algorithm 2. PyTorch has none; the
    authors' own implementation (github.com/google/automl, lion) is the same.
    """

    replayable = True
    _quantities = ("momentum",)

    def __init__(
        self,
        learning_rate: float = 0.0001,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        no_decay: tuple[str, ...] = (),
        *,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(learning_rate, clip_norm)
        self.betas = self._pair(betas)
        self.weight_decay = self._number("weight_decay", weight_decay, at_least=0)
        self.no_decay = self._names(no_decay)

    def _coefficients(self) -> tuple[float, ...]:
        (beta1, beta2), rate = self.betas, self.learning_rate
        return -rate * self.weight_decay, beta1, 1 - beta1, beta2, 1 - beta2, -rate

    def _update(self, gradients: Array, shards: int, first: int, last: int) -> None:
        kernels.lion(
            self._theta, gradients, shards, first, last, self._edges, self._decayed, *self._vectors, self._rates
        )


def clip_by_global_norm(gradients: Mapping[str, Array], max_norm: float) -> float:
    """Shorten all gradients together, in place: `g ← g·min(1, max_norm / (‖g‖ + 10⁻⁶))`; return ‖g‖ as it was.

    ‖g‖ is the root of the sum of the squares of all numbers in all gradients. For loops of one's own; optimizers do it
    themselves with `clip_norm`. The 10⁻⁶ is PyTorch's.

    References
    ----------
    Pascanu et al., "On the difficulty of training recurrent neural networks", ICML 2013, section 3.2.
    """
    max_norm = checks.as_number(max_norm, "clip_by_global_norm", "max_norm", above=0)
    norm = math.sqrt(sum(float(np.sum(np.square(gradient, dtype=np.float64))) for gradient in gradients.values()))
    for gradient in gradients.values():
        np.multiply(gradient, min(1.0, max_norm / (norm + 1e-6)), out=gradient)
    return norm


def _spans(model: Layer, no_decay: tuple[str, ...]) -> tuple[IntArray, Array]:
    """Return where stretches of the flat vector begin and end, and 1 for those that decay, 0 for those that do not."""
    decayed = np.ones(model._flat.size, model._flat.dtype)
    for pieces in model._gradients_by_layer(decayed).values():
        for name, piece in pieces.items():
            piece[...] = name.rpartition(".")[2] not in no_decay
    lines: Array = decayed[::LINE]  # every line belongs to one parameter
    begins = np.flatnonzero(np.diff(lines, prepend=-1))
    return np.append(begins * LINE, decayed.size), np.ascontiguousarray(lines[begins])
