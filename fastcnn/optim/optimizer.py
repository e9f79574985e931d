"""What all optimizers have in common: one sweep over the flat vector of parameters, clipping, and what decays."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from .. import checks, exact
from ..engine.arrays import aligned_zeros, owned
from ..kernels import update as kernels
from ..layers.base import Layer
from ..settings import Setting, number, optional_number
from ..typing import Array, IntArray
from .flat_state import FlatState
from .groups import Span, group_factors, spans_of

LINE = 16  # numbers: each parameter begins at a multiple of them
CHUNK = 4096  # numbers whose squares are summed in their own precision


def as_names(value: Any, owner: str, name: str) -> tuple[str, ...]:
    """Return a sequence of names of parameters."""
    is_row = isinstance(value, Collection) and not isinstance(value, str)
    if not (is_row and all(isinstance(one, str) for one in value)):
        raise TypeError(f"{owner}: {name}: expected a sequence of names; got {value!r}")
    return tuple(value)


class Optimizer(FlatState, ABC):
    """A rule `p -= step(gradient, state)` for all parameters at once.

    An optimizer serves one model: with another one, or one that is built anew, it begins anew. All arguments may be
    changed between steps; the next step takes them in. What a rule remembers begins at zero when it is first needed,
    such as the velocity of `SGD` if its momentum was 0.

    Parameters
    ----------
    learning_rate : float
        The factor of a step.
    clip_norm : float, optional
        The norm to which the gradients of all parameters together are shortened; not given, they are left as they are.
    no_decay : sequence of str
        Parameters that are not decayed, see below.
    groups : dict, optional
        Factors for parameters by their names, see below.

    Attributes
    ----------
    learning_rate : float
        A `schedule` of the Trainer changes it before each step.
    clip_norm : float or None
        The gradients of all parameters together are shortened to this norm before anything else,
        `g ← g·min(1, clip_norm / (‖g‖ + 10⁻⁶))`, as PyTorch's `clip_grad_norm_` (Keras: `global_clipnorm`). The squares
        are summed in fixed chunks, so the bits depend neither on the number of threads nor on the processor.
    no_decay : tuple of str
        Parameters that are not decayed, by the last part of their names: `("biases", "gamma", "beta")` leaves biases
        and norms alone (in timm: `filter_bias_and_bn`; in Keras: `exclude_from_weight_decay(var_names=...)`).
    groups : dict or None
        Factors of `learning_rate` and `weight_decay` for parameters by their names, which may have `*`, `?` and
        `[...]` as those of files: `{"*.biases": {"learning_rate": 64.0, "weight_decay": 1 / 64}}`. A factor is a
        number, or a schedule of the steps, such as `StepDecay(1.0, 100, 0.0)`; a factor of 0 freezes. Of several that
        match a name the product counts; one that matches none is an error.
    gradient_norm : float
        ‖g‖ of the last step, before it was shortened; NaN without `clip_norm`.
    steps : int
        Steps taken.
    replayable : bool
        Whether `_update` does nothing but call kernels, with the same arguments at every step: then they are recorded.
    state : dict of str to dict of str to array
        What the rule remembers of each parameter: `state[quantity][name]`, writable views, zeros before the first step.

    See Also
    --------
    SGD : Gradient descent with momentum.
    AdamW : Adaptive moments with decoupled weight decay.
    Trainer : Trains a model step by step.

    References
    ----------
    Pascanu et al., "On the difficulty of training recurrent neural networks", ICML 2013, section 3.2 (clipping).

    Examples
    --------
    >>> from fastcnn import SGD, Optimizer
    >>> isinstance(SGD(0.1), Optimizer)
    True
    >>> SGD(0.1, clip_norm=1.0).clip_norm
    1.0
    """

    replayable = False
    _wholes = 0  # parameters of which the rule must see all numbers, after the sweep: one task each
    _laid_out_by: tuple[str, ...] = ("no_decay", "groups")  # settings that decide what lies in which array
    _skips_decay = False  # whether the kernel itself leaves out what is not decayed
    _written: tuple[float, ...] | None  # the numbers in `_rates`, where they are known
    _spans: Sequence[Span] = ()  # where parameters have factors of their own, or are frozen; empty where all are alike
    learning_rate = number(at_least=0)
    clip_norm = optional_number(above=0)
    no_decay: Setting[tuple[str, ...]] = Setting(as_names)
    groups = group_factors()

    def __init__(
        self,
        learning_rate: float,
        clip_norm: float | None,
        no_decay: Sequence[str] = (),
        groups: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        self.learning_rate, self.clip_norm = learning_rate, clip_norm
        self.no_decay, self.groups = no_decay, groups
        self.gradient_norm = math.nan

    def step(self, model: Layer) -> None:
        """Change a model's or layer's parameters along the gradients that its `backward` has left.

        A `Trainer` does this by itself; the method is for loops of one's own.

        Parameters
        ----------
        model : Sequential
            A built model that `backward` was called on.

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
        for place in range(self._wholes):
            self._update_whole(place)
        if gradients is not model._flat_gradients:
            model._flat_gradients[...] = gradients

    # What a Trainer calls, in this order; the two middle ones for chunks of the vector, on several threads.

    def _begin(self, model: Layer) -> None:
        """Get ready for a step."""
        if self._bound is not model._flat:
            self._bind(model)
        self.steps += 1
        self.gradient_norm = math.nan
        if self._spans:
            self._begin_spans()
            return
        rates = self._coefficients()
        if rates != self._written:  # to write a tuple to an array takes Python as long as all the rest here
            self._rates_are_stale()
            self._rates[0] = 1
            self._rates[1 : 1 + len(rates)] = rates
            self._written = rates

    def _begin_spans(self) -> None:
        """Write the numbers of this step for each span, from learning rate and weight decay times its factors."""
        own, step = vars(self), self.steps - 1
        usual = self.learning_rate, own.get("weight_decay")
        try:
            for span in self._spans:
                rate, decay = span.factors(step)
                own["learning_rate"] = usual[0] * rate
                if usual[1] is not None:
                    own["weight_decay"] = usual[1] * decay
                rates = self._coefficients()
                span.rates[0] = 1
                span.rates[1 : 1 + len(rates)] = rates
        finally:
            own["learning_rate"] = usual[0]
            if usual[1] is not None:
                own["weight_decay"] = usual[1]

    def _rates_are_stale(self) -> None:
        self._written = None

    def _clip(self, squares: Array) -> None:
        """Settle by how much the gradients are shortened: `squares` are the sums of all chunks."""
        assert self.clip_norm is not None
        self._rates_are_stale()
        self.gradient_norm = math.sqrt(math.fsum(squares)) if np.isfinite(squares).all() else float(squares.sum())
        for rates in (self._rates, *(span.rates for span in self._spans)):
            rates[0] = min(1.0, self.clip_norm / (self.gradient_norm + 1e-6))

    def _update(self, gradients: Array, shards: int, first: int, last: int) -> None:
        """Change the parameters from `first` to `last`; `gradients` (S, size) are summed over `shards` rows, into 0."""
        if not self._spans:
            self._rule(gradients, shards, first, last, self._rates)
        for span in self._spans:
            begin, end = max(first, span.first), min(last, span.last)
            if begin < end:
                self._rule(gradients, shards, begin, end, span.rates)

    def _rule(self, gradients: Array, shards: int, first: int, last: int, rates: Array) -> None:
        """Run the rule's kernel on them, with the numbers `rates`."""
        raise NotImplementedError

    def _update_whole(self, place: int) -> None:
        """Change a parameter whose numbers depend on each other, when all of `_update` is done; there are `_wholes`."""

    @abstractmethod
    def _coefficients(self) -> tuple[float, ...]:
        """Return the numbers of this step, in the kernel's order."""

    def _take_rate(self, learning_rate: float) -> None:
        """Set the learning rate before a step, as a schedule does: a fast path around the check of the setting."""
        if 0 <= learning_rate < math.inf:
            self.__dict__["learning_rate"] = learning_rate
        else:
            self.learning_rate = learning_rate  # which says what is wrong

    def _changed(self, name: str) -> None:
        model = self._model
        if model is None:
            self._settle()
            return
        with model._lock:  # a step in another thread ends first
            kept = dict(zip(self._quantities, self._vectors, strict=True))
            self._settle()
            if self._quantities != tuple(kept) or name in self._laid_out_by:
                self._allocate(model)  # with new arrays, which recorded updates are compared by
                for quantity, vector in zip(self._quantities, self._vectors, strict=True):
                    vector[...] = kept.get(quantity, 0)

    def _settle(self) -> None:
        """Settle what follows from several settings; raise if they contradict each other."""

    def _allocate(self, model: Layer) -> None:
        super()._allocate(model)
        dtype = self._theta.dtype
        self._rates = aligned_zeros(16, dtype)
        self._rates_are_stale()
        self._spans = spans_of(self, model)
        self._edges, self._decayed = _stretches(model, () if self._spans else self.no_decay)
        self._chunks = _chunks(model)

    def _smallest(self, epsilon: float) -> float:
        """Return an epsilon that is not zero in the dtype: what has never had a gradient would become 0/0."""
        return max(epsilon, float(np.finfo(self._theta.dtype).tiny))


def pair_of_decays() -> Setting[tuple[float, float]]:
    """Return a setting that is a pair of numbers in [0, 1), such as Adam's betas."""

    def check(value: Any, owner: str, name: str) -> tuple[float, float]:
        try:
            first, second = value
        except (TypeError, ValueError):
            raise TypeError(f"{owner}: {name}: expected a pair of numbers; got {value!r}") from None
        return (
            checks.as_number(first, owner, f"{name}[0]", at_least=0, below=1),
            checks.as_number(second, owner, f"{name}[1]", at_least=0, below=1),
        )

    return Setting(check)


def clip_by_global_norm(gradients: Mapping[str, Array], max_norm: float) -> float:
    """Shorten all gradients together, in place: `g ← g·min(1, max_norm / (‖g‖ + 10⁻⁶))`; return ‖g‖ as it was.

    ‖g‖ is the root of the sum of the squares of all numbers in all gradients. For loops of one's own; optimizers do it
    themselves with `clip_norm`. The 10⁻⁶ is PyTorch's.

    Parameters
    ----------
    gradients : dict of str to array
        Changed in place.
    max_norm : float
        The norm that they have at most.

    Returns
    -------
    float
        ‖g‖ as it was before.

    See Also
    --------
    Optimizer : What all optimizers share.

    References
    ----------
    Pascanu et al., "On the difficulty of training recurrent neural networks", ICML 2013, section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import clip_by_global_norm
    >>> gradients = {"weights": np.array([3.0, 4.0])}
    >>> clip_by_global_norm(gradients, 1.0)
    5.0
    >>> gradients["weights"].round(3)
    array([0.6, 0.8])
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


def _stretches(model: Layer, no_decay: tuple[str, ...]) -> tuple[IntArray, Array]:
    """Return where stretches of the flat vector begin and end, and 1 for those that decay, 0 for those that do not."""
    decayed = np.ones(model._flat.size, model._flat.dtype)
    for pieces in model._gradients_by_layer(decayed).values():
        for name, piece in pieces.items():
            piece[...] = name.rpartition(".")[2] not in no_decay
    lines: Array = decayed[::LINE]  # every line belongs to one parameter
    begins = np.flatnonzero(np.diff(lines, prepend=-1))
    return owned(np.append(begins * LINE, decayed.size)), owned(lines[begins])
