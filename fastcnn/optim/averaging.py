"""Averages of the parameters: a second set of weights, often better than the last, or one that the last go back to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, final

from .. import checks
from ..engine.arrays import aligned_zeros
from ..kernels import update as kernels
from ..layers.base import Layer
from ..settings import Setting, flag, number, whole
from ..typing import Array
from ..views import Views
from .flat_state import FlatState


class Average(FlatState, ABC):
    """What a `Trainer` updates after each step of the optimizer, chunk by chunk: an average of the parameters.

    Attributes
    ----------
    averages : dict of str to array
        Under the names of the parameters; empty before the first step.
    steps : int
        Steps taken in.
    """

    replayable = True  # as an optimizer's `_update`
    statistics = flag()
    _of_statistics: dict[str, Array]  # averages of running statistics, by their names
    _running: dict[str, Array]
    _rates: Array

    @property
    def averages(self) -> Views:
        """The averages, writable views."""
        return self.state[self._quantities[0]] if self.steps else Views()

    def update(self, model: Layer) -> None:
        """Take in a model's parameters after a step; a `Trainer` does this by itself.

        Parameters
        ----------
        model : Sequential
            The model whose parameters are taken in.
        """
        with model._lock:
            self._begin(model)
            self._update(0, self._theta.size)

    @abstractmethod
    def _begin(self, model: Layer) -> None:
        """Settle the numbers of a step."""

    @abstractmethod
    def _update(self, first: int, last: int) -> None:
        """Take in the parameters from `first` to `last`; with the first of them, running statistics."""

    def _expect_own(self, method: str) -> None:
        """Raise if the model computes with other weights than its own."""

    def _allocate(self, model: Layer) -> None:
        super()._allocate(model)
        self._rates = aligned_zeros(3, self._theta.dtype)
        self._running = dict(model._state()) if self.statistics else {}
        self._of_statistics = {name: aligned_zeros(array.size, array.dtype) for name, array in self._running.items()}

    def _named(self) -> dict[str, Array]:
        return {**super()._named(), **{f"statistics.{name}": array for name, array in self._of_statistics.items()}}

    def _blend(self, first: int, back: bool) -> None:
        """Take in the running statistics, with the chunk that begins the vector."""
        for name, average in self._of_statistics.items() if first == 0 else ():
            kernels.blend(average, self._running[name], self._rates, back)

    def _forget(self) -> None:
        super()._forget()
        self._of_statistics, self._running = {}, {}

    def _changed(self, name: str) -> None:
        if name == "statistics" and self._model is not None:
            with self._model._lock:
                self._rebind(self._model)


@final
class ExponentialMovingAverage(Average):
    """Average of the parameters over the steps: `a ← d·a + (1 − d)·p`; the first step takes `a = p`, as in PyTorch.

    `Trainer(model, ..., ema=ExponentialMovingAverage(0.999))` updates it after each step of the optimizer, chunk by
    chunk while the parameters are still in the cache. Running statistics of norms are not averaged (as in PyTorch's
    `AveragedModel` by default), unless `statistics` says so.

    Parameters
    ----------
    decay : float
        d, in [0, 1). May be changed between steps.
    statistics : bool
        Whether running means and variances are averaged too. Set later, it lets the average begin anew.

    Attributes
    ----------
    averages : dict of str to array
        a, under the names of the parameters; empty before the first step. While they are swapped in, the last
        parameters stand here.
    steps : int
        Steps taken in.

    See Also
    --------
    Trainer : Trains a model step by step.

    References
    ----------
    Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", SIAM J. Control Optim. 30 (1992);
    Tarvainen and Valpola, "Mean teachers are better role models", NeurIPS 2017, section 2.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import Dense, ExponentialMovingAverage, Sequential, Trainer
    >>> model = Sequential([Dense(3)]).build((4,), random_state=0)
    >>> trainer = Trainer(model, ema=ExponentialMovingAverage(0.9))
    >>> loss = trainer.step(np.ones((2, 4)), [0, 1])
    >>> with trainer.ema.swapped_in():
    ...     output = model.predict(np.ones((1, 4)))
    """

    _quantities = ("averages",)
    decay = number(at_least=0, below=1)

    def __init__(self, decay: float = 0.999, *, statistics: bool = False) -> None:
        super().__init__()
        self.decay, self.statistics = decay, statistics
        self._swapped = False

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Let the model compute with the averages inside of `with`, and give it its last parameters back behind it.

        Raises
        ------
        RuntimeError
            If there is no average yet, or if it is swapped in already.
        """
        if not self.steps:
            raise RuntimeError(f"{self.name}: swapped_in: no average yet: take a step first")
        self._expect_own("swapped_in")
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        assert self._model is not None
        with self._model._lock:
            (averages,) = self._vectors
            last = self._theta.copy()
            self._theta[...] = averages
            averages[...] = last
            for name, average in self._of_statistics.items():
                running = self._running[name]
                average[...], running[...] = running.copy(), average.copy()
            self._swapped = not self._swapped

    def _expect_own(self, method: str) -> None:
        if self._swapped:
            raise RuntimeError(f"{self.name}: {method}: the model computes with the averages: leave `with` first")

    def _begin(self, model: Layer) -> None:
        self._expect_own("update")
        self._bind(model)
        self.steps += 1
        decay = self.decay if self.steps > 1 else 0.0
        self._rates[:] = decay, 1 - decay, 1

    def _update(self, first: int, last: int) -> None:
        kernels.average(self._vectors[0], self._theta, first, last, self._rates)
        self._blend(first, False)

    def _forget(self) -> None:
        super()._forget()
        self._swapped = False


def _as_share(value: Any, owner: str, name: str) -> float | Callable[[int], float]:
    """Return a number of [0, 1], or a function of the steps."""
    if callable(value):
        function: Callable[[int], float] = value
        return function
    return checks.as_number(value, owner, name, at_least=0, at_most=1)


@final
class Lookahead(Average):
    """Every few steps, slow weights go a part of the way to the fast ones, which go on from there.

    After steps k, 2k, ...: `s ← s + α·(p − s)`, `p ← s`; the slow weights s begin as the parameters are before the
    first step. `Trainer(model, ..., ema=Lookahead(5, 0.5))` does this after the step of the optimizer, whose own state
    stays as it is.

    Parameters
    ----------
    every : int
        k.
    alpha : float or function
        α, in [0, 1]; or a schedule of the steps, such as `PowerDecay`.
    statistics : bool
        Whether running means and variances go the same way; the slow ones begin as those of the first step.

    Attributes
    ----------
    averages : dict of str to array
        s, under the names of the parameters; empty before the first step.
    steps : int
        Steps taken in.

    See Also
    --------
    ExponentialMovingAverage : Average of the parameters over the steps.

    References
    ----------
    Zhang, Lucas, Hinton and Ba, "Lookahead optimizer: k steps forward, 1 step back", NeurIPS 2019, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import SGD, Dense, Lookahead, Sequential, Trainer
    >>> model = Sequential([Dense(3)]).build((4,), random_state=0)
    >>> trainer = Trainer(model, optimizer=SGD(0.1), ema=Lookahead(every=2))
    >>> losses = [trainer.step(np.ones((2, 4)), [0, 1]) for _ in range(4)]
    """

    _quantities = ("slow",)
    every = whole(at_least=1)
    alpha: Setting[float | Callable[[int], float]] = Setting(_as_share)

    def __init__(self, every: int = 5, alpha: float | Callable[[int], float] = 0.5, *, statistics: bool = True) -> None:
        super().__init__()
        self.every, self.alpha, self.statistics = every, alpha, statistics

    def _begin(self, model: Layer) -> None:
        self._bind(model)
        if not self.steps:
            self._vectors[0][...] = self._theta
            for name, average in self._of_statistics.items():
                average[...] = self._running[name]
        self.steps += 1
        alpha = float(self.alpha(self.steps)) if callable(self.alpha) else self.alpha
        self._rates[:] = 1 - alpha, alpha, self.steps % self.every == 0

    def _update(self, first: int, last: int) -> None:
        kernels.look_ahead(self._vectors[0], self._theta, first, last, self._rates)
        self._blend(first, True)
