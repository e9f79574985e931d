"""Exponential moving average of the parameters: a second set of weights, often better than the last."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

from ..engine.arrays import aligned_zeros
from ..kernels import update as kernels
from ..layers.base import Layer
from ..settings import number
from ..views import Views
from .flat_state import FlatState


@final
class ExponentialMovingAverage(FlatState):
    """Average of the parameters over the steps: `a ← d·a + (1 − d)·p`; the first step takes `a = p`, as in PyTorch.

    `Trainer(model, ..., ema=ExponentialMovingAverage(0.999))` updates it after each step of the optimizer, piece by
    piece while the parameters are still in the cache. Running statistics of norms are not averaged (as in PyTorch's
    `AveragedModel` by default).

    Parameters
    ----------
    decay : float
        d, in [0, 1). May be changed between steps.

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

    replayable = True  # as an optimizer's `_update`
    _quantities = ("averages",)
    decay = number(at_least=0, below=1)

    def __init__(self, decay: float = 0.999) -> None:
        super().__init__()
        self.decay = decay
        self._swapped = False

    @property
    def averages(self) -> Views:
        """The averages, writable views."""
        return self.state["averages"] if self.steps else Views()

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
            self._swapped = not self._swapped

    def _expect_own(self, method: str) -> None:
        if self._swapped:
            raise RuntimeError(f"{self.name}: {method}: the model computes with the averages: leave `with` first")

    def _begin(self, model: Layer) -> None:
        self._expect_own("update")
        self._bind(model)
        self.steps += 1
        decay = self.decay if self.steps > 1 else 0.0
        self._rates[:] = decay, 1 - decay

    def _update(self, first: int, last: int) -> None:
        kernels.average(self._vectors[0], self._theta, first, last, self._rates)

    def _allocate(self, model: Layer) -> None:
        super()._allocate(model)
        self._rates = aligned_zeros(2, self._theta.dtype)

    def _forget(self) -> None:
        super()._forget()
        self._swapped = False
