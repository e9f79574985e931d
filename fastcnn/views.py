"""Lists and dictionaries that show what an object has, and cannot come to show anything else."""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar

import numpy as np

from .typing import Array

T = TypeVar("T")
K = TypeVar("K")


def _refuse_layers(self: Any, *arguments: Any, **named: Any) -> NoReturn:
    raise TypeError(
        "layers: the layers of a model or a branch cannot be exchanged, since recorded steps depend on them: make a "
        "new model; layer.copy() has the weights of a layer"
    )


def _refuse_names(self: Any, *arguments: Any, **named: Any) -> NoReturn:
    raise TypeError(
        "the names in this dictionary are those of the model: none can be added or removed; arrays are set by "
        "parameters[name] = array"
    )


class FixedList(list[T]):
    """A list of layers that cannot be changed; slices, sums and copies are ordinary lists."""

    append = extend = insert = pop = remove = clear = sort = reverse = _refuse_layers
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse_layers

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and unpickle without `append`."""
        return type(self), (list(self),)


class FixedDict(dict[K, T]):
    """A dictionary that cannot be changed."""

    __setitem__ = __delitem__ = __ior__ = _refuse_names
    pop = popitem = clear = update = setdefault = _refuse_names

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and unpickle without item assignment."""
        return type(self), (dict(self),)


class Views(FixedDict[str, Array]):
    """Writable views of arrays by name: what is assigned to a name is copied into its array.

    Copies and pickles are ordinary dictionaries, whose arrays are independent.
    """

    def __setitem__(self, name: str, value: Any) -> None:  # type: ignore[override]
        if name not in self:
            raise KeyError(f"{name}: expected one of the names {[*self]}")
        array, target = np.asarray(value), self[name]
        if array.shape != target.shape:
            raise ValueError(f"{name}: expected shape {target.shape}; got shape {array.shape}")
        target[...] = array

    def update(self, *others: Any, **named: Any) -> None:  # type: ignore[override]
        """Copy arrays into those of the same names."""
        for name, value in dict(*others, **named).items():
            self[name] = value

    def __ior__(self, other: Any) -> Views:  # type: ignore[override,misc]
        self.update(other)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)
