"""`Muon`: momentum whose matrices are made orthogonal; Adam, or plain momentum, for all other parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, final

import numpy as np

from ..codegen.blocking import PIXELS
from ..engine.arrays import aligned_zeros, as_table
from ..exact import Powers
from ..kernels import orthogonal
from ..kernels import update as kernels
from ..kernels.maps import Maps, Matrix, PostOps
from ..layers.base import Layer
from ..settings import Setting, flag, number, one_of, whole
from ..typing import Array, IntArray, Shape
from .groups import frozen_parameters, parameter_places
from .optimizer import LINE, Optimizer, as_names, pair_of_decays

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of X, XXᵀX and XXᵀXXᵀX: Jordan's, steepest at 0
EPSILON = 1e-7  # beside a direction's norm
WIDEST = 32  # numbers of two vectors, of whatever vector set


@final
class Muon(Optimizer):
    """Momentum, orthogonalised by Newton–Schulz iterations: each singular value of a step is about the same.

    For a matrix G of gradients, `M ← μ·M + (1 − μ)·G`, `U = (1 − μ)·G + μ·M` with `nesterov`, else `U = M`;
    `X = U / (‖U‖ + 10⁻⁷)`, then `ns_steps` times `X ← a·X + (b·A + c·A²)·X` with `A = X·Xᵀ`; at last
    `p ← p − learning_rate·(s·X + λ·p)`. Filters are taken as a matrix (filters, all else), weights of dense layers as
    (outputs, inputs). Parameters that have less than two dimensions, a single row or a single column take AdamW's step.

    Parameters
    ----------
    learning_rate : float
        Of the matrices.
    momentum : float
        μ, in [0, 1).
    nesterov : bool
        Whether the gradient is taken one step of momentum ahead.
    weight_decay : float
        λ, decoupled, of all parameters.
    no_decay : sequence of str
        See `Optimizer`.
    ns_steps : int
        Newton–Schulz iterations, at least 1.
    adjust_learning_rate : {"original", "match_rms_adamw"}
        What s is: √max(1, rows / columns), Jordan's; or 0.2·√max(rows, columns), by which a learning rate of AdamW can
        be kept (Moonshot). PyTorch's words.
    normalize : bool
        Whether a matrix is brought to the Frobenius norm √rows before each step, as in Jordan's records on CIFAR-10: of
        filters in front of a normalisation only the direction counts, and the learning rate is how far it turns.
    adam : sequence of str
        Names of parameters, with `*` and `?`, that take AdamW's step although they are matrices, such as the last
        layer's.
    adam_factor : float
        AdamW's learning rate, as a factor of `learning_rate`, so that a schedule is one of both.
    adam_betas : (float, float)
        β₁ and β₂ of AdamW, each in [0, 1).
    epsilon : float
        AdamW's ε.
    sgd : sequence of str
        Names of parameters, with `*` and `?`, that take a step of plain momentum, in place of one of AdamW or an
        orthogonal one: `p ← p − sgd_factor·learning_rate·(U + λ·p)`.
    sgd_factor : float
        The learning rate of plain momentum, as a factor of `learning_rate`.
    clip_norm : float, optional
        See `Optimizer`.
    groups : dict, optional
        See `Optimizer`.

    See Also
    --------
    AdamW : Adaptive moments with decoupled weight decay.
    SGD : Gradient descent with momentum.

    Notes
    -----
    Coefficients (3.4445, −4.7750, 2.0315), five iterations and the factors are those of Jordan's own implementation; of
    PyTorch's, learning rate (0.001) and weight decay (0.1) differ, and it takes matrices only. Both iterate in
    bfloat16, this one in the dtype of the parameters. The coefficients are chosen for their slope at zero, not for
    convergence: singular values come to lie between about 0.7 and 1.2. An iteration takes `2·n·N² + N³` multiplications
    for a matrix of n by N, N the smaller: little beside convolutions, much for dense layers of thousands of nodes.

    References
    ----------
    Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024),
    https://kellerjordan.github.io/posts/muon/; code: github.com/KellerJordan/Muon. Liu et al., "Muon is scalable for
    LLM training", arXiv:2502.16982 (match_rms_adamw).

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import Dense, Sequential, Trainer, Muon
    >>> model = Sequential([Dense(2)]).build((3,), random_state=0)
    >>> trainer = Trainer(model, optimizer=Muon(0.02))
    >>> losses = [trainer.step(np.eye(3), [0, 1, 1]) for _ in range(20)]
    >>> losses[-1] < losses[0]
    True
    """

    replayable = True
    _quantities = ("momentum", "second_moment")
    _laid_out_by = (
        *Optimizer._laid_out_by, "ns_steps", "adjust_learning_rate", "normalize", "adam", "sgd", "sgd_factor",
    )  # fmt: skip
    momentum = number(at_least=0, below=1)
    nesterov = flag()
    weight_decay = number(at_least=0)
    ns_steps = whole(at_least=1)
    adjust_learning_rate = one_of("original", "match_rms_adamw")
    normalize = flag()
    adam: Setting[tuple[str, ...]] = Setting(as_names)
    adam_factor = number(at_least=0)
    adam_betas = pair_of_decays()
    epsilon = number(above=0)
    sgd: Setting[tuple[str, ...]] = Setting(as_names)
    sgd_factor = number(at_least=0)
    _matrices: Sequence[_Matrix]

    def __init__(
        self,
        learning_rate: float = 0.02,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.0,
        no_decay: Sequence[str] = (),
        *,
        ns_steps: int = 5,
        adjust_learning_rate: str = "original",
        normalize: bool = False,
        adam: Sequence[str] = (),
        adam_factor: float = 0.015,
        adam_betas: tuple[float, float] = (0.9, 0.95),
        epsilon: float = 1e-10,
        sgd: Sequence[str] = (),
        sgd_factor: float = 1.0,
        clip_norm: float | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(learning_rate, clip_norm, no_decay, groups)
        self.momentum, self.nesterov, self.weight_decay, self.ns_steps = momentum, nesterov, weight_decay, ns_steps
        self.adjust_learning_rate, self.normalize, self.adam = adjust_learning_rate, normalize, adam
        self.adam_factor, self.adam_betas, self.epsilon = adam_factor, adam_betas, epsilon
        self.sgd, self.sgd_factor = sgd, sgd_factor

    def _coefficients(self) -> tuple[float, ...]:
        """Return the numbers of `kernels.adam`, then those of momentum, direction and step of the matrices."""
        (beta1, beta2), rate, (power1, power2) = self.adam_betas, self.learning_rate, self._powers
        slow, mu = rate * self.adam_factor, self.momentum
        root = 1 / math.sqrt(1 - power2(beta2, self.steps))
        adam = (
            0.0, -slow * self.weight_decay, beta1, 1 - beta1, beta2, 1 - beta2, root, self._smallest(self.epsilon),
            -slow / (1 - power1(beta1, self.steps)),
        )  # fmt: skip
        direction = (1 - mu, mu) if self.nesterov else (0.0, 1.0)
        return *adam, mu, 1 - mu, *direction, -rate, -rate * self.weight_decay

    def _rule(self, gradients: Array, shards: int, first: int, last: int, rates: Array) -> None:
        moment, square = self._vectors
        for begin, end, rule in self._stretches:
            i, j = max(first, begin), min(last, end)
            if i < j and rule == "orthogonal":
                kernels.momentum_direction(self._theta, gradients, shards, i, j, moment, self._direction, rates)
            elif i < j and rule == "sgd":
                kernels.momentum_step(self._theta, gradients, shards, i, j, moment, self._sgd_factor, rates)
            elif i < j:
                kernels.adam(
                    self._theta, gradients, shards, i, j, self._edges, self._decayed, moment, square, rates
                )  # fmt: skip

    def _update_whole(self, place: int) -> None:
        matrix = self._matrices[place]
        orthogonal.orthogonalise(
            self._direction, matrix.places, matrix.x, matrix.y, matrix.gram, matrix.square, matrix.packed, matrix.panel,
            matrix.sums, matrix.post, self._polynomial, self.ns_steps,
        )  # fmt: skip
        x = matrix.y if self.ns_steps % 2 else matrix.x
        if self.normalize:
            orthogonal.bring_to_norm(self._theta, matrix.places, matrix.norm)
        orthogonal.descend(self._theta, matrix.places, x, matrix.scale, self._rates_at(matrix.first))

    def _rates_at(self, place: int) -> Array:
        """Return the numbers of a step for the parameter that begins at a place."""
        return next((span.rates for span in self._spans if span.first <= place < span.last), self._rates)

    def _allocate(self, model: Layer) -> None:
        places = _matrix_places(model, self.adam, self.sgd, self.name)
        super()._allocate(model)
        dtype = self._theta.dtype
        self._direction = aligned_zeros(self._theta.size, dtype)
        self._polynomial = aligned_zeros(4, dtype)
        self._polynomial[:] = *COEFFICIENTS, EPSILON
        spans = parameter_places(model)
        self._sgd_factor = aligned_zeros(1, dtype)
        self._sgd_factor[0] = self.sgd_factor
        self._stretches = [
            (*span, "orthogonal" if name in places else "sgd" if _matches(name, self.sgd) else "adam")
            for name, span in spans.items()
        ]
        found = [
            _Matrix.of(spans[name][0], own, _scale(own.shape, self.adjust_learning_rate), dtype)
            for name, own in places.items()
        ]
        # The largest first, so that no thread begins it when all others are done.
        self._matrices = sorted(found, key=lambda matrix: -matrix.work)
        self._wholes = len(found)

    def _forget(self) -> None:
        super()._forget()
        self._powers = Powers(), Powers()  # of the betas
        self._matrices, self._wholes, self._stretches = (), 0, []


@dataclass(frozen=True)
class _Matrix:
    """A matrix in the flat vector, tall or turned so, and the memory of its iterations: see `kernels/orthogonal.py`."""

    first: int
    work: int
    places: IntArray
    x: Matrix
    y: Matrix
    gram: Matrix
    square: Maps
    packed: Array
    panel: Array
    sums: Array
    post: PostOps
    scale: Array
    norm: Array

    @classmethod
    def of(cls, first: int, places: IntArray, scale: float, dtype: np.dtype) -> _Matrix:
        """Return the matrix with these places, and memory for it."""
        tall = places if places.shape[0] >= places.shape[1] else places.T
        n, N = tall.shape
        pitch = -(-N // LINE) * LINE
        rows, columns = as_table(np.arange(n) * pitch), as_table(np.arange(N))
        x, y, gram, square = (aligned_zeros(count * pitch, dtype) for count in (n, n, N, N))
        factor, norm = aligned_zeros(1, dtype), aligned_zeros(1, np.dtype(np.float64))
        factor[0], norm[0] = scale, math.sqrt(len(places))
        return cls(
            first, n * N * N, as_table(tall), Matrix(x, rows, columns), Matrix(y, rows, columns),
            Matrix(gram, as_table(np.arange(N) * pitch), columns), Maps(square, as_table(np.arange(N) * pitch)),
            aligned_zeros(N * pitch, dtype), aligned_zeros(PIXELS * WIDEST, dtype), aligned_zeros(pitch, dtype),
            PostOps(aligned_zeros(pitch, dtype), dtype.type(-np.inf)), factor, norm,
        )  # fmt: skip


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _matrix_places(model: Layer, adam: tuple[str, ...], sgd: tuple[str, ...], owner: str) -> dict[str, IntArray]:
    """Return where in the flat vector the numbers of each matrix (outputs, all else) lie, but for those named.

    Raises
    ------
    ValueError
        If a pattern matches no parameter, or a parameter is named by both.
    """
    for argument, patterns in (("adam", adam), ("sgd", sgd)):
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in model.parameters):
                known = ", ".join(model.parameters)
                raise ValueError(
                    f"{owner}: {argument}: expected patterns of names of parameters, of {known[:200]}; got "
                    f"{pattern!r}, which matches none"
                )
    for name in model.parameters:
        if _matches(name, adam) and _matches(name, sgd):
            raise ValueError(f"{owner}: sgd: expected names that adam does not have; both match {name!r}")
    frozen, found = frozen_parameters(model), {}
    for name, places in model._show(np.arange(model._flat.size)).items():
        if name in frozen or places.ndim < 2 or _matches(name, adam + sgd):
            continue
        matrix = places.T if places.ndim == 2 else places.reshape(len(places), -1)
        if min(matrix.shape) > 1:
            found[name] = matrix
    return found


def _scale(shape: Shape, adjust: str) -> float:
    """Return the factor of a matrix's learning rate."""
    rows, columns = shape
    return math.sqrt(max(1.0, rows / columns)) if adjust == "original" else 0.2 * math.sqrt(max(rows, columns))
