"""Attributes that can be set after an object is made: `Setting` is checked and takes effect; `Fixed` is refused."""

from __future__ import annotations

import inspect
import reprlib
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from . import checks

T = TypeVar("T")


class Setting(Generic[T]):
    """An attribute that may be set at any time: the value is checked, and the owner's `_changed(name)` is called.

    `check(value, owner, name)` returns the value to keep, or raises. A value that `_changed` refuses is taken back. The
    first value, which the constructor sets, is only checked.

    There is no `__get__`: the value lies in the instance's `__dict__`, where an attribute is read without Python code.
    """

    def __init__(self, check: Callable[[Any, str, str], T]) -> None:
        self.check = check

    def __set_name__(self, kind: type, name: str) -> None:
        self.name = name

    if TYPE_CHECKING:

        def __get__(self, owner: object, kind: type | None = None) -> T: ...

    def __set__(self, owner: Any, value: Any) -> None:
        values, name = vars(owner), self.name
        checked = self.check(value, type(owner).__name__, name)
        if name not in values:
            values[name] = checked
            return
        before, values[name] = values[name], checked
        try:
            owner._changed(name)
        except Exception:
            values[name] = before
            raise


def number(**bounds: float) -> Setting[float]:
    """Return a setting that is a finite number within bounds."""
    return Setting(lambda value, owner, name: checks.as_number(value, owner, name, **bounds))


def optional_number(**bounds: float) -> Setting[float | None]:
    """Return a setting that is None or a finite number within bounds."""
    return Setting(lambda value, owner, name: None if value is None else checks.as_number(value, owner, name, **bounds))


def whole(at_least: int) -> Setting[int]:
    """Return a setting that is a whole number of at least `at_least`."""
    return Setting(lambda value, owner, name: as_whole(value, owner, name, at_least))


def optional_whole() -> Setting[int | None]:
    """Return a setting that is None or any whole number."""
    return Setting(lambda value, owner, name: None if value is None else as_whole(value, owner, name, -(1 << 63)))


def flag() -> Setting[bool]:
    """Return a setting that is on or off."""
    return Setting(checks.as_bool)


def one_of(*choices: Any) -> Setting[Any]:
    """Return a setting that is one of some values."""

    def check(value: Any, owner: str, name: str) -> Any:
        if value not in choices:
            raise ValueError(f"{owner}: {name}: expected one of {', '.join(map(repr, choices))}; got {value!r}")
        return value

    return Setting(check)


def as_whole(value: Any, owner: str, name: str, at_least: int) -> int:
    """Return `value` if it is a whole number of at least `at_least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{owner}: {name}: expected a whole number; got {value!r}")
    if value < at_least:
        raise ValueError(f"{owner}: {name}: expected a whole number of at least {at_least}; got {value}")
    return int(value)


class Fixed:
    """An object whose constructor arguments are read-only, because recorded calls hold copies of them.

    The constructor sets them, once. Read-only are also the public attributes that the classes annotate, once they are
    set, and the constants of the classes. A `Setting`, a property with a setter, private attributes and names that no
    class knows can be set.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name[0] != "_" and self._is_fixed(name):
            raise AttributeError(
                f"{type(self).__name__}: {name}: read-only, since recorded steps and predictions depend on it; "
                f"got {reprlib.repr(value)}: {self._instead(name)}"
            )
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if name[0] != "_" and self._is_fixed(name):
            raise AttributeError(f"{type(self).__name__}: {name}: read-only; it cannot be deleted")
        super().__delattr__(name)

    def _is_fixed(self, name: str) -> bool:
        kind = self._fixed_by()
        if kind is None:
            return False
        once, never = _fixed_names(kind)
        return name in never or (name in once and name in self.__dict__)

    def _fixed_by(self) -> type | None:
        """Return the class that says which attributes are read-only; None if none are."""
        return type(self)

    def _instead(self, name: str) -> str:
        """Return what to do instead of setting the attribute."""
        return f"make a new {type(self).__name__}"


@cache
def _fixed_names(kind: type) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names that can be set once, and those that can never be set: constants and computed properties."""
    arguments = {*inspect.signature(kind).parameters}
    annotated = {name for base in kind.__mro__ for name in inspect.get_annotations(base)}
    settings, constants = set(), set()
    for name in dir(kind):
        value = inspect.getattr_static(kind, name)
        if isinstance(value, Setting):
            settings.add(name)
        elif isinstance(value, property):
            if value.fset is None:
                constants.add(name)
        elif name not in arguments and not callable(getattr(kind, name)):
            constants.add(name)
    return frozenset(arguments | annotated) - settings, frozenset(constants)
