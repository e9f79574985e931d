"""How a layer is written: the call that makes it, as short as a person would write it."""

from __future__ import annotations

import inspect
import textwrap
from typing import Any

WIDTH = 80  # characters of a row of layers that stays in one line


def call(kind: type, arguments: dict[str, Any]) -> str:
    """Return the call that makes a `kind`, without the arguments that are as usual.

    >>> from fastcnn import Conv2D
    >>> Conv2D(32, (3, 3), stride=1, padding=(1, 1))
    Conv2D(32, 3, padding=1)
    """
    usual, shown = inspect.signature(kind).parameters, []
    for name, value in arguments.items():
        text, default = _text(value), usual[name].default
        if default is inspect.Parameter.empty:
            shown.append(text)
        elif text != _text(default):
            shown.append(f"{name}={text}")
    return f"{kind.__name__}({', '.join(shown)})"


def _text(value: Any) -> str:
    """Return an argument: a pair of equal numbers as one number, a long row of layers in lines."""
    if isinstance(value, tuple) and len(value) == 2 and value[0] == value[1] and isinstance(value[0], int):
        return repr(value[0])
    if not isinstance(value, list | tuple) or all(_is_plain(part) for part in value):
        return repr(value)
    parts = [_text(part) for part in value]
    row = f"[{', '.join(parts)}]"
    if len(row) <= WIDTH and "\n" not in row:
        return row
    lines = textwrap.indent("".join(f"{part},\n" for part in parts), "    ")
    return f"[\n{lines}]"


def _is_plain(value: Any) -> bool:
    return isinstance(value, int | float | str) or (isinstance(value, tuple) and all(_is_plain(part) for part in value))


def arguments(thing: Any) -> dict[str, Any]:
    """Return the arguments of a thing's constructor that it keeps as attributes of the same names."""
    return {name: getattr(thing, name) for name in inspect.signature(type(thing)).parameters if hasattr(thing, name)}


class ShownAsCall:
    """A thing that prints as the call that makes it, and keeps its arguments as attributes of the same names."""

    def _arguments(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return arguments(self)

    def __repr__(self) -> str:
        """Return the call that makes such a thing; what is as usual is left out."""
        return call(type(self), self._arguments())
