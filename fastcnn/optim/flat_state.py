"""State that lies beside a model's flat vector of parameters, number for number: of optimizers, of averages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import hints
from ..engine.arrays import aligned_zeros
from ..layers.base import Layer
from ..layers.repr import ShownAsCall
from ..runtime.exclusive import Exclusive
from ..typing import Array
from ..views import FixedDict, Views


class FlatState(ShownAsCall, Exclusive, hints.Called):
    """Named vectors beside a model's parameters, allocated once for each model, and the number of steps.

    Copied or pickled with its `Trainer`, it goes on where it was. A copy or a pickle of it alone has the settings only:
    it begins anew, as there is no model beside it. `get_state` and `set_state` carry everything that an exact
    continuation needs.
    """

    _quantities: tuple[str, ...] = ()
    _model: Layer | None
    _bound: Array | None  # the parameters that all vectors lie beside
    _theta: Array
    _vectors: list[Array]

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0
        self._forget()

    @property
    def name(self) -> str:
        """The name that error messages use."""
        return type(self).__name__

    @property
    def state(self) -> FixedDict[str, Views]:
        """Writable views, by quantity and by the parameter's name; empty before it is known which model it is."""
        if self._model is None:
            return FixedDict()
        vectors = zip(self._quantities, self._vectors, strict=True)
        return FixedDict({quantity: self._model._show(vector) for quantity, vector in vectors})

    def get_state(self) -> dict[str, Array]:
        """Return copies of everything remembered: `"steps"`, and `"quantity.parameter"` for each parameter.

        Raises
        ------
        RuntimeError
            If it is not known yet which model it is for: a `Trainer` with a built model says so.
        """
        self._expect_model("get_state")
        return {name: array.copy() for name, array in self._named().items()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take in what `get_state` has returned, from a model of the same parameters.

        Raises
        ------
        RuntimeError
            If it is not known yet which model it is for: a `Trainer` with a built model says so.
        ValueError
            If names or shapes differ; nothing is changed then.
        """
        self._expect_model("set_state")
        own = self._named()
        if own.keys() != state.keys():
            raise ValueError(f"{self.name}: set_state: expected names {sorted(own)}; got {sorted(state)}")
        arrays = {name: np.asarray(array) for name, array in state.items()}
        for name, target in own.items():
            if arrays[name].shape != target.shape:
                raise ValueError(
                    f"{self.name}: set_state: {name}: expected shape {target.shape}; got shape {arrays[name].shape}"
                )
        for name, target in own.items():
            target[...] = arrays[name]
        self.steps = int(arrays["steps"])

    def _named(self) -> dict[str, Array]:
        """Return the steps, a copy, and all views, by name."""
        views = {f"{quantity}.{name}": view for quantity, named in self.state.items() for name, view in named.items()}
        return {"steps": np.array(self.steps, np.int64), **views}

    def _changed(self, name: str) -> None:
        """Take in that a setting has a new value: here each step reads it."""

    def _expect_model(self, method: str) -> None:
        if self._model is None:
            raise RuntimeError(f"{self.name}: {method}: no model yet: give it to a Trainer with a built model first")

    def _bind(self, model: Layer) -> None:
        """Begin anew, unless these are the parameters that it knows."""
        if self._bound is model._flat:
            return
        with self._lock:
            before = self._model
            if before is None or before is model:
                self._rebind(model)
            elif before._lock.acquire(blocking=False):
                try:
                    self._rebind(model)
                finally:
                    before._lock.release()
            else:
                raise RuntimeError(
                    f"{self.name}: it is at work on another model, in another thread; give each Trainer one of its own"
                )

    def _rebind(self, model: Layer) -> None:
        self._bound, self.steps = None, 0
        self._allocate(model)
        self._bound = model._flat  # last: an exception in the middle leaves nothing half-made in use

    def _allocate(self, model: Layer) -> None:
        self._model, self._theta = model, model._flat
        self._vectors = [aligned_zeros(self._theta.size, self._theta.dtype) for _ in self._quantities]

    def _rates_are_stale(self) -> None:
        """Forget the numbers of a step that was interrupted, perhaps between two of them."""

    def _forget(self) -> None:
        self._model, self._bound = None, None
        self._theta = np.zeros(0)
        self._vectors = []

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the model and what lies beside it."""
        kept = {name: value for name, value in self.__dict__.items() if not name.startswith("_")}
        return {**kept, "_quantities": self._quantities, "steps": 0}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Begin anew with the settings."""
        self.__dict__.update(state)
        self._open()
        self._forget()
