"""What a kernel's machine code depends on in its arguments, and how they are passed to it: the ABI."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class RecordKind(NamedTuple):
    """The kind of a record, a named tuple of arrays and numbers: its class, and the kinds of its fields."""

    record: type
    fields: tuple[Kind, ...]


# What machine code depends on in an argument. Of an array: dtype, number of dimensions, flags, never its shape. Of a
# number: its class.
Kind = tuple[np.dtype, int, int] | type | RecordKind
C_ORDER, FORTRAN_ORDER, ALIGNED, WRITABLE = 0x1, 0x2, 0x100, 0x400  # bits of `array.flags.num`
FLAGS = C_ORDER | FORTRAN_ORDER | ALIGNED | WRITABLE


def kind_of(argument: Any) -> Kind:
    """Return the kind of an argument: an array, a record, or a number of NumPy or Python."""
    if isinstance(argument, np.ndarray):
        return argument.dtype, argument.ndim, argument.flags.num & FLAGS
    if isinstance(argument, tuple):
        return RecordKind(type(argument), tuple([kind_of(field) for field in argument]))
    return type(argument)


def values_of(arguments: Sequence[Any]) -> list[Any]:
    """Return arguments as Numba passes them: an array as owner, parent, size, item size, data, shape, strides.

    Kernels ask for no owner. A record is passed as its fields, one after another: it costs nothing.
    """
    values: list[Any] = []
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            values += (0, 0, argument.size, argument.itemsize, argument.ctypes.data, *argument.shape, *argument.strides)
        elif isinstance(argument, tuple):
            values += values_of(argument)
        else:
            values.append(argument)
    return values


def form_of(kinds: Sequence[Kind]) -> struct.Struct:
    """Return how the values of such arguments become words of eight bytes."""
    return struct.Struct("<" + "".join(map(_format, kinds)))


def _format(kind: Kind) -> str:
    """Return the words of one argument, as `struct` writes them."""
    if isinstance(kind, RecordKind):
        return "".join(map(_format, kind.fields))
    if isinstance(kind, tuple):
        return f"{5 + 2 * kind[1]}q"
    forms = {np.dtype(np.float64): "d", np.dtype(np.float32): "f4x", np.dtype(np.uint64): "Q", np.dtype(bool): "?7x"}
    return forms.get(np.dtype(kind), "q")
