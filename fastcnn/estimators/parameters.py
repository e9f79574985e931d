"""Parameters that lie inside of others: `layers__0__num_filters`, `solver__learning_rate`, `augmentation__shift`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

from sklearn.base import BaseEstimator

from ..layers.base import Layer


class Change:
    """A change of a parameter: a new value in its place, or changes of the parameters inside of it."""

    def __init__(self) -> None:
        self.replaced = False
        self.value: Any = None
        self.inside: dict[str, Change] = {}

    def at(self, path: list[str]) -> Change:
        """Return the change at a place inside."""
        if not path:
            return self
        return self.inside.setdefault(path[0], Change()).at(path[1:])

    def apply(self, old: Any, where: str) -> Any:
        """Return the new value; nothing is changed in place. `where` is for the words of an error."""
        value = self.value if self.replaced else old
        if not self.inside:
            return value
        if isinstance(value, list | tuple):
            row = [*value]
            for name, change in self.inside.items():
                place = _place(row, name, where)
                row[place] = change.apply(row[place], where)
            return type(value)(row)
        if not hasattr(value, "_arguments"):
            names = sorted(self.inside)
            raise ValueError(f"Invalid parameters {names} of {value!r} for {where}: it has no parameters of its own.")
        known = value._arguments()
        for argument in self.inside:
            if argument not in known:
                raise ValueError(
                    f"Invalid parameter {argument!r} for {_kind(value)} of {where}. Valid parameters are: {[*known]}."
                )
        changed = {name: change.apply(known[name], where) for name, change in self.inside.items()}
        return type(value)(**{**known, **changed})


class NestedParameters(BaseEstimator):  # type: ignore[misc]
    """`get_params` and `set_params` that reach into lists of layers, optimizers, schedules, losses and augmentation."""

    layers: Any

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters; with `deep`, also those that lie inside, as `layers__0__num_filters`."""
        params: dict[str, Any] = super().get_params(deep=False)
        if deep:
            for name, value in [*params.items()]:
                params.update(_inside(value, name))
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters; what has a changed one inside is replaced by a new object, never changed in place."""
        nested = {key: params.pop(key) for key in [*params] if "__" in key}
        known, name = self.get_params(deep=False), type(self).__name__
        changes: dict[str, Change] = {}
        for key, value in nested.items():
            head, *path = key.split("__")
            if head not in known:
                raise ValueError(f"Invalid parameter {head!r} for estimator {self}. Valid parameters are: {[*known]}.")
            change = changes.setdefault(head, Change()).at(path)
            change.replaced, change.value = True, value
        super().set_params(**params)
        for head, change in changes.items():
            value = getattr(self, head)
            if head == "layers" and not isinstance(value, list | tuple):
                raise ValueError(f"Invalid parameters {sorted(nested)}: layers={value!r} is no list of layers.")
            setattr(self, head, change.apply(value, name))
        return self


def _inside(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield what lies inside of a value, by path; of a named layer by its name too."""
    if isinstance(value, list | tuple) and any(isinstance(one, Layer) for one in value):
        for place, one in enumerate(value):
            for name in (str(place), getattr(one, "_name", None)):
                if name:
                    yield f"{path}__{name}", one
                    yield from _inside(one, f"{path}__{name}")
    elif hasattr(value, "_arguments") and not isinstance(value, type):
        for name, one in value._arguments().items():
            yield f"{path}__{name}", one
            yield from _inside(one, f"{path}__{name}")


def _place(row: list[Any], name: str, where: str) -> int:
    """Return where in a row of layers one is, by its number or its name."""
    if name.isdecimal() and int(name) < len(row):
        return int(name)
    named = [place for place, one in enumerate(row) if getattr(one, "_name", None) == name]
    if len(named) != 1:
        what = "none" if not named else f"{len(named)}"
        raise ValueError(
            f"Invalid parameter {name!r} for the layers of {where}: there are {len(row)} layers, {what} of that name."
        )
    return named[0]


def _kind(value: Any) -> str:
    name = type(value).__name__
    return f"layer {name}" if isinstance(value, Layer) else name
