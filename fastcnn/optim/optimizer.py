"""What all optimizers have in common: one sweep over the flat vector of parameters, clipping, and what decays."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np

from .. import checks, exact
from ..engine.arrays import aligned_zeros, owned
from ..kernels import update as kernels
from ..layers.base import Layer
from ..typing import Array, IntArray
from .flat_state import FlatState

LINE = 16  # numbers: each parameter begins at a multiple of them
CHUNK = 4096  # numbers whose squares are summed in their own precision


class Optimizer(FlatState, ABC):
    """A rule `p -= step(gradient, state)` for all parameters at once.

    An optimizer serves one model: with another one, or one that is built anew, it begins anew.

    Attributes
    ----------
    learning_rate : float
        May be changed between steps; a `schedule` of the Trainer does so before each.
    clip_norm : float or None
        The gradients of all parameters together are shortened to this norm before anything else,
        `g ← g·min(1, clip_norm / (‖g‖ + 10⁻⁶))`, as PyTorch's `clip_grad_norm_` (Keras: `global_clipnorm`). The squares
        are summed in fixed chunks, so the bits depend neither on the number of threads nor on the processor.
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
    _written: tuple[float, ...] | None  # what stands in `_rates`, if that is known

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
        with model._lock:
            self._step(model)

    def _step(self, model: Layer) -> None:
        size = model._flat.size
        if model._flat_gradients.size != size or not model.gradients:
            raise RuntimeError(f"{self.name}: step: {model.name} has no gradients: call its backward first")
        self._begin(model)
        gradients = model._flat_gradients.astype(model._flat.dtype, copy=False)
        if self.clip_norm is not None:
            squares = aligned_zeros(self._chunks[0].size, np.float64)
            kernels.sum_squares(gradients, 1, size, *self._chunks, 0, squares.size, squares)
            self._clip(squares)
        self._update(gradients, 1, 0, size)
        if gradients is not model._flat_gradients:
            model._flat_gradients[...] = gradients

    # What a Trainer calls, in this order; the two middle ones for pieces of the vector, on several threads.

    def _begin(self, model: Layer) -> None:
        """Get ready for a step."""
        if self._bound is not model._flat:
            self._bind(model)
        self.steps += 1
        self.gradient_norm = math.nan
        rates = self._coefficients()
        if rates != self._written:  # to write a tuple to an array takes Python as long as all the rest here
            self._rates_are_stale()
            self._rates[0] = 1
            self._rates[1 : 1 + len(rates)] = rates
            self._written = rates

    def _rates_are_stale(self) -> None:
        self._written = None

    def _clip(self, squares: Array) -> None:
        """Settle by how much the gradients are shortened: `squares` are the sums of all chunks."""
        assert self.clip_norm is not None
        self._rates_are_stale()
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
        self._rates = aligned_zeros(16, dtype)
        self._rates_are_stale()
        self._edges, self._decayed = _spans(model, self.no_decay)
        self._chunks = _chunks(model)

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


def clip_by_global_norm(gradients: Mapping[str, Array], max_norm: float) -> float:
    """Shorten all gradients together, in place: `g ← g·min(1, max_norm / (‖g‖ + 10⁻⁶))`; return ‖g‖ as it was.

    ‖g‖ is the root of the sum of the squares of all numbers in all gradients. For loops of one's own; optimizers do it
    themselves with `clip_norm`. The 10⁻⁶ is PyTorch's.

    References
    ----------
    Pascanu et al., "On the difficulty of training recurrent neural networks", ICML 2013, section 3.2.
    """
    max_norm = checks.as_number(max_norm, "clip_by_global_norm", "max_norm", above=0)
    norm = math.sqrt(math.fsum(_sum_of_squares(gradient) for gradient in gradients.values()))
    for gradient in gradients.values():
        np.multiply(gradient, min(1.0, max_norm / (norm + 1e-6)), out=gradient)
    return norm


def _sum_of_squares(gradient: Array) -> float:
    return float(exact.total(np.square(gradient, dtype=np.float64).ravel()))


def _chunks(model: Layer) -> tuple[IntArray, IntArray, IntArray]:
    """Return where chunks of the flat vector begin, how many rows each has, and how many numbers a row."""
    chunks: list[tuple[int, int, int]] = []
    for layer, pieces in model._gradients_by_layer(np.arange(model._flat.size)).items():
        for name, places in pieces.items():
            count, pitch = layer._specs[name].rows
            step = max(1, CHUNK // (-(-pitch // LINE) * LINE))  # the same where rows are padded to other widths
            chunks += [(places[0] + r * pitch, min(step, count - r), pitch) for r in range(0, count, step)]
    begin, rows, pitches = (owned(column) for column in np.array(chunks, np.int64).reshape(-1, 3).T)
    return begin, rows, pitches


def _spans(model: Layer, no_decay: tuple[str, ...]) -> tuple[IntArray, Array]:
    """Return where stretches of the flat vector begin and end, and 1 for those that decay, 0 for those that do not."""
    decayed = np.ones(model._flat.size, model._flat.dtype)
    for pieces in model._gradients_by_layer(decayed).values():
        for name, piece in pieces.items():
            piece[...] = name.rpartition(".")[2] not in no_decay
    lines: Array = decayed[::LINE]  # every line belongs to one parameter
    begins = np.flatnonzero(np.diff(lines, prepend=-1))
    return owned(np.append(begins * LINE, decayed.size)), owned(lines[begins])
