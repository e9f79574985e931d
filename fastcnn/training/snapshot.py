"""Copies of what a step changes: weights, running statistics, what optimizer and average remember."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..model import Sequential
from ..typing import Array


class Snapshot:
    """Copies of all that a step changes besides the trainer's own numbers; `restore` may be called more than once."""

    def __init__(self) -> None:
        self._copies: list[tuple[Array, Array]] = []
        self._of_model: list[Array] = []
        self._beside: list[tuple[Any, dict[str, Any]]] = []

    def take(self, model: Sequential, things: Sequence[Any]) -> None:
        """Copy what the model and `things` consist of now; into the copies of last time, where the arrays are those."""
        if not self._of_model or self._of_model[0] is not model._flat:  # a model that is built anew has a new vector
            self._of_model = [model._flat, *model._state().values()]
        arrays, copies = [*self._of_model, *_arrays(things, model._flat)], self._copies
        if len(arrays) != len(copies) or any(array is not own for array, (own, _) in zip(arrays, copies, strict=True)):
            self._copies = [(array, array.copy()) for array in arrays]
        else:
            for array, copy in copies:
                copy[...] = array
        self._beside = [(thing, _shallow(thing)) for thing in things]

    def take_statistics(self, model: Sequential, things: Sequence[Any]) -> None:
        """Copy only running statistics and plain numbers: for a step that changes the vectors all at once."""
        self._copies = [(array, array.copy()) for array in model._state().values()]
        self._beside = [(thing, _shallow(thing)) for thing in things]

    def restore(self) -> None:
        """Bring everything back."""
        for array, copy in self._copies:
            array[...] = copy
        for thing, before in self._beside:
            for name in vars(thing).keys() - before.keys():
                del vars(thing)[name]
            vars(thing).update({name: _of_its_own(value) for name, value in before.items()})

    @property
    def model_is_finite(self) -> bool:
        """Whether all numbers of the model are finite now."""
        # A sum of squares is finite only if all numbers are; it may overflow though they are, then all are looked at.
        return all(np.isfinite(np.vdot(array, array)) or np.isfinite(array).all() for array in self._of_model)


def _arrays(things: Sequence[Any], parameters: Array) -> list[Array]:
    """Return every array that optimizers and averages have, but for the parameters."""
    arrays = []
    for thing in things:
        for value in vars(thing).values():
            inner = (
                value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else [value]
            )
            arrays += [array for array in inner if isinstance(array, np.ndarray) and array is not parameters]
    return arrays


def _shallow(thing: Any) -> dict[str, Any]:
    return {name: _of_its_own(value) for name, value in vars(thing).items()}


def _of_its_own(value: Any) -> Any:
    return type(value)(value) if type(value) in (dict, list) else value
