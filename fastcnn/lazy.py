"""Names that a package imports when they are first asked for."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` of a package whose names live in its modules (PEP 562).

    Parameters
    ----------
    package : str
        The package's `__name__`.
    modules : dict of str to str
        For each name the module that defines it, relative to the package; for a submodule "".
    """

    def get(name: str) -> Any:
        if name not in modules:
            # With these two, the interpreter says which name was meant.
            raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name, obj=sys.modules[package])
        if not modules[name]:
            return importlib.import_module(f"{package}.{name}")
        value = getattr(importlib.import_module(f"{package}.{modules[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*modules, *(name for name in vars(sys.modules[package]) if name.startswith("__"))})

    return get, names


def from_above(module: str, name: str) -> Any:
    """Return a name of a module of this package on a higher floor, for a method that is asked for it."""
    return getattr(importlib.import_module(f"{__package__}.{module}"), name)
