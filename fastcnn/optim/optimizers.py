"""Optimizers: each a rule and its kernel, which sums the shards' gradients and changes the parameters in one sweep."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

from ..exact import Powers
from ..kernels import update as kernels
from ..settings import flag, number
from ..typing import Array
from .muon import Muon
from .optimizer import Optimizer, pair_of_decays

Groups = Mapping[str, Mapping[str, Any]] | None


@final
class SGD(Optimizer):
    """Gradient descent with momentum μ and weight decay λ: `g ← g + λ·p`, `v ← μ·v + g`, `p ← p − learning_rate·v`.

    With `nesterov` the last is `p ← p − learning_rate·(g + μ·v)`.

    Parameters
    ----------
    learning_rate : float
        The factor of the gradient.
    momentum : float
        μ, at least 0.
    nesterov : bool
        Whether the gradient is taken one step of momentum ahead.
    weight_decay : float
        λ, at least 0.
    clip_norm : float, optional
        See `Optimizer`.
    no_decay : sequence of str
        See `Optimizer`.
    groups : dict, optional
        See `Optimizer`.

    See Also
    --------
    AdamW : Adaptive moments with decoupled weight decay.
    CosineDecay : Half a cosine, from the top to the minimum.

    Notes
    -----
    PyTorch's formula. Sutskever et al. and Keras put the learning rate inside v, which differs once it changes. The
    weight decay is part of the gradient (L2), as in PyTorch.

    References
    ----------
    Robbins and Monro, "A stochastic approximation method", Ann. Math. Statist. 22 (1951); Sutskever et al., "On the
    importance of initialization and momentum in deep learning", ICML 2013, section 2.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import Dense, Sequential, Trainer, SGD
    >>> model = Sequential([Dense(2)]).build((3,), random_state=0)
    >>> trainer = Trainer(model, optimizer=SGD(0.1, momentum=0.9))
    >>> losses = [trainer.step(np.eye(3), [0, 1, 1]) for _ in range(20)]
    >>> losses[-1] < losses[0]
    True
    """

    replayable = True
    momentum = number(at_least=0)
    nesterov = flag()
    weight_decay = number(at_least=0)

    def __init__(
        self,
        learning_rate: float = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        *,
        clip_norm: float | None = None,
        no_decay: Sequence[str] = (),
        groups: Groups = None,
    ) -> None:
        super().__init__(learning_rate, clip_norm, no_decay, groups)
        self.momentum, self.nesterov, self.weight_decay = momentum, nesterov, weight_decay
        self._settle()

    def _settle(self) -> None:
        if self.nesterov and self.momentum == 0:
            raise ValueError(f"{self.name}: nesterov: expected a momentum above 0 with it; got {self.momentum!r}")
        self._quantities = ("velocity",) if self.momentum else ()

    def _coefficients(self) -> tuple[float, ...]:
        rate = -self.learning_rate
        if not self._quantities:
            return self.weight_decay, rate
        steps = (rate, rate * self.momentum) if self.nesterov else (0.0, rate)
        return self.weight_decay, self.momentum, *steps

    def _rule(self, gradients: Array, shards: int, first: int, last: int, rates: Array) -> None:
        if self._quantities:
            (velocity,) = self._vectors
            kernels.sgd_momentum(self._theta, gradients, shards, first, last, velocity, rates)
        else:
            kernels.sgd(self._theta, gradients, shards, first, last, rates)


class _AdaptiveMoments(Optimizer):
    """What Adam and AdamW share."""

    replayable = True
    _quantities = ("first_moment", "second_moment")
    _skips_decay = True
    _coupled: bool
    betas = pair_of_decays()
    epsilon = number(above=0)
    weight_decay = number(at_least=0)

    def __init__(
        self,
        learning_rate: float,
        betas: tuple[float, float],
        epsilon: float,
        weight_decay: float,
        clip_norm: float | None,
        no_decay: Sequence[str],
        groups: Groups,
    ) -> None:
        super().__init__(learning_rate, clip_norm, no_decay, groups)
        self.betas, self.epsilon, self.weight_decay = betas, epsilon, weight_decay

    def _coefficients(self) -> tuple[float, ...]:
        (beta1, beta2), rate, decay = self.betas, self.learning_rate, self.weight_decay
        decays, (power1, power2) = (decay, 0.0) if self._coupled else (0.0, -rate * decay), self._powers
        root = 1 / math.sqrt(1 - power2(beta2, self.steps))
        step = -rate / (1 - power1(beta1, self.steps))
        return *decays, beta1, 1 - beta1, beta2, 1 - beta2, root, self._smallest(self.epsilon), step

    def _forget(self) -> None:
        super()._forget()
        self._powers = Powers(), Powers()  # of the betas

    def _rule(self, gradients: Array, shards: int, first: int, last: int, rates: Array) -> None:
        mean, square = self._vectors
        kernels.adam(self._theta, gradients, shards, first, last, self._edges, self._decayed, mean, square, rates)


@final
class Adam(_AdaptiveMoments):
    """Adaptive moments: `m ← β₁·m + (1 − β₁)·g`, `v ← β₂·v + (1 − β₂)·g²`, `p ← p − learning_rate·m̂ / (√v̂ + ε)`.

    `m̂ = m / (1 − β₁ᵗ)` and `v̂ = v / (1 − β₂ᵗ)` in step t = 1, 2, ...; with weight decay λ, `g ← g + λ·p` before (L2;
    `AdamW` decouples it).

    Parameters
    ----------
    learning_rate : float
        How far a step goes, about.
    betas : (float, float)
        β₁ and β₂, each in [0, 1).
    epsilon : float
        ε, above 0.
    weight_decay : float
        λ, at least 0.
    clip_norm : float, optional
        See `Optimizer`.
    no_decay : sequence of str
        See `Optimizer`.
    groups : dict, optional
        See `Optimizer`.

    See Also
    --------
    AdamW : Adaptive moments with decoupled weight decay.
    SGD : Gradient descent with momentum.

    Notes
    -----
    ε stands outside of the root of the corrected v̂, as in the paper's algorithm 1 and in PyTorch; Keras and the
    paper's section 2 put it beside the uncorrected root.

    References
    ----------
    Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import Dense, Sequential, Trainer, Adam
    >>> model = Sequential([Dense(2)]).build((3,), random_state=0)
    >>> trainer = Trainer(model, optimizer=Adam(0.1))
    >>> losses = [trainer.step(np.eye(3), [0, 1, 1]) for _ in range(20)]
    >>> losses[-1] < losses[0]
    True
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
        no_decay: Sequence[str] = (),
        groups: Groups = None,
    ) -> None:
        super().__init__(learning_rate, betas, epsilon, weight_decay, clip_norm, no_decay, groups)


@final
class AdamW(_AdaptiveMoments):
    """Adam with decoupled weight decay λ: `p ← p − learning_rate·λ·p`, then Adam's step, whose g knows no decay.

    Parameters
    ----------
    learning_rate : float
        How far a step goes, about.
    betas : (float, float)
        β₁ and β₂, each in [0, 1).
    epsilon : float
        ε, above 0.
    weight_decay : float
        λ, at least 0.
    no_decay : sequence of str
        By default all parameters are decayed, as in PyTorch; see `Optimizer`.
    clip_norm : float, optional
        See `Optimizer`.
    groups : dict, optional
        See `Optimizer`.

    See Also
    --------
    Adam : Adaptive moments.
    Lion : Steps of one size, by the sign of a momentum.

    References
    ----------
    Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019, algorithm 2. As in PyTorch the decay is
    multiplied by the learning rate, which the paper leaves to its schedule.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import Dense, Sequential, Trainer, AdamW
    >>> model = Sequential([Dense(2)]).build((3,), random_state=0)
    >>> trainer = Trainer(model, optimizer=AdamW(0.1, no_decay=("biases",)))
    >>> losses = [trainer.step(np.eye(3), [0, 1, 1]) for _ in range(20)]
    >>> losses[-1] < losses[0]
    True
    """

    _coupled = False

    def __init__(
        self,
        learning_rate: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        weight_decay: float = 0.01,
        no_decay: Sequence[str] = (),
        *,
        clip_norm: float | None = None,
        groups: Groups = None,
    ) -> None:
        super().__init__(learning_rate, betas, epsilon, weight_decay, clip_norm, no_decay, groups)


@final
class RMSprop(Optimizer):
    """Gradients divided by the root of their mean square: `v ← α·v + (1 − α)·g²`, `b ← μ·b + g / (√v + ε)`.

    `p ← p − learning_rate·b`; without momentum μ, b is `g / (√v + ε)`. With `centered`, `a ← α·a + (1 − α)·g`, and
    `√(v − a²)` stands in place of `√v`. With weight decay λ, `g ← g + λ·p` before (L2).

    Parameters
    ----------
    learning_rate : float
        How far a step goes, about.
    alpha : float
        α, in [0, 1): how long the mean remembers.
    epsilon : float
        ε, above 0.
    weight_decay : float
        λ, at least 0.
    momentum : float
        μ, at least 0.
    centered : bool
        Whether the variance of the gradients is taken, not their mean square.
    clip_norm : float, optional
        See `Optimizer`.
    no_decay : sequence of str
        See `Optimizer`.
    groups : dict, optional
        See `Optimizer`.

    See Also
    --------
    Adam : Adaptive moments.
    SGD : Gradient descent with momentum.

    Notes
    -----
    PyTorch's formula and defaults (ε outside of the root, α = 0.99; Keras: ε inside, α = 0.9); but `v − a²` is not let
    below 0, where PyTorch's root of what rounding has left can be NaN.

    References
    ----------
    Tieleman and Hinton, "Neural networks for machine learning", 2012, lecture 6.5; Graves, "Generating sequences with
    recurrent neural networks", 2013, section 4.2 (centered).

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import Dense, Sequential, Trainer, RMSprop
    >>> model = Sequential([Dense(2)]).build((3,), random_state=0)
    >>> trainer = Trainer(model, optimizer=RMSprop(0.05))
    >>> losses = [trainer.step(np.eye(3), [0, 1, 1]) for _ in range(20)]
    >>> losses[-1] < losses[0]
    True
    """

    replayable = True
    alpha = number(at_least=0, below=1)
    epsilon = number(above=0)
    weight_decay = number(at_least=0)
    momentum = number(at_least=0)
    centered = flag()

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
        no_decay: Sequence[str] = (),
        groups: Groups = None,
    ) -> None:
        super().__init__(learning_rate, clip_norm, no_decay, groups)
        self.alpha, self.epsilon, self.weight_decay = alpha, epsilon, weight_decay
        self.momentum, self.centered = momentum, centered
        self._settle()

    def _settle(self) -> None:
        optional = {"mean": self.centered, "velocity": self.momentum > 0}
        self._quantities = ("mean_square", *(name for name, wanted in optional.items() if wanted))

    def _coefficients(self) -> tuple[float, ...]:
        epsilon = self._smallest(self.epsilon)
        return self.weight_decay, self.alpha, 1 - self.alpha, epsilon, self.momentum, -self.learning_rate

    def _rule(self, gradients: Array, shards: int, first: int, last: int, rates: Array) -> None:
        if len(self._vectors) == 1:
            (square,) = self._vectors
            kernels.rmsprop(self._theta, gradients, shards, first, last, square, rates)
            return
        have = dict(zip(self._quantities, self._vectors, strict=True))
        nothing = self._theta[:0]
        square, mean, velocity = (have.get(name, nothing) for name in ("mean_square", "mean", "velocity"))
        kernels.rmsprop_with_means(self._theta, gradients, shards, first, last, square, mean, velocity, rates)


@final
class Lion(Optimizer):
    """Evolved sign momentum: `p ← p − learning_rate·(sign(β₁·m + (1 − β₁)·g) + λ·p)`, `m ← β₂·m + (1 − β₂)·g`.

    Parameters
    ----------
    learning_rate : float
        A third to a tenth of AdamW's, since every number moves by it (the paper's section 5).
    betas : (float, float)
        β₁ and β₂, each in [0, 1).
    weight_decay : float
        λ, decoupled.
    no_decay : sequence of str
        See `Optimizer`.
    clip_norm : float, optional
        See `Optimizer`.
    groups : dict, optional
        See `Optimizer`.

    See Also
    --------
    AdamW : Adaptive moments with decoupled weight decay.
    SGD : Gradient descent with momentum.

    References
    ----------
    Chen et al., "Symbolic discovery of optimization algorithms", NeurIPS 2023, algorithm 2. PyTorch has none; the
    authors' own implementation (github.com/google/automl, lion) is the same.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import Dense, Sequential, Trainer, Lion
    >>> model = Sequential([Dense(2)]).build((3,), random_state=0)
    >>> trainer = Trainer(model, optimizer=Lion(0.01))
    >>> losses = [trainer.step(np.eye(3), [0, 1, 1]) for _ in range(20)]
    >>> losses[-1] < losses[0]
    True
    """

    replayable = True
    _quantities = ("momentum",)
    _skips_decay = True
    betas = pair_of_decays()
    weight_decay = number(at_least=0)

    def __init__(
        self,
        learning_rate: float = 0.0001,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        no_decay: Sequence[str] = (),
        *,
        clip_norm: float | None = None,
        groups: Groups = None,
    ) -> None:
        super().__init__(learning_rate, clip_norm, no_decay, groups)
        self.betas, self.weight_decay = betas, weight_decay

    def _coefficients(self) -> tuple[float, ...]:
        (beta1, beta2), rate = self.betas, self.learning_rate
        return -rate * self.weight_decay, beta1, 1 - beta1, beta2, 1 - beta2, -rate

    def _rule(self, gradients: Array, shards: int, first: int, last: int, rates: Array) -> None:
        (mean,) = self._vectors
        kernels.lion(self._theta, gradients, shards, first, last, self._edges, self._decayed, mean, rates)


OPTIMIZERS: dict[str, Callable[[], Optimizer]] = {
    "adam": Adam, "adamw": AdamW, "lion": Lion, "muon": Muon, "rmsprop": RMSprop, "sgd": SGD,
}  # fmt: skip
