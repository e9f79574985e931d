"""A kernel as the layers call it: by the kinds of its arguments its machine code is found, read, or compiled.

What was compiled once is read from disk, without Numba: the source of a kernel is imported only to compile it.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import struct
import threading
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from . import cache as disk
from .native import define, is_known, load_object
from .tape import recorder


class ArrayKind(NamedTuple):
    """What machine code depends on in an array; never its shape."""

    dtype: str
    ndim: int
    layout: str
    writable: bool
    aligned: bool


Kind = ArrayKind | str  # or the dtype of a number


class Entry(NamedTuple):
    """Machine code that takes a kernel's arguments from words: its address, and a function that calls it."""

    address: int
    call: Callable[[int], None]


_lock = threading.RLock()


def _renew_lock() -> None:
    """In a forked child: whoever holds the lock has stayed behind."""
    global _lock  # noqa: PLW0603
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


class Kernel:
    """A kernel, by the names of its family (a file of this folder) and of its function.

    Attributes
    ----------
    entries : dict
        Its machine code, for each combination of kinds of arguments that it was called with.
    compiled : int
        How many of them this process has compiled; the others were read.
    """

    def __init__(self, family: str, name: str) -> None:
        self.family, self.name = family, name
        self.entries: dict[tuple[Kind, ...], Entry] = {}
        self.compiled = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return kernel_of, (self.family, self.name)

    def __call__(self, *arguments: Any) -> None:
        """Run the kernel; a tape that records notes it down."""
        kinds = tuple([kind_of(argument) for argument in arguments])
        entry = self.entries.get(kinds) or self._enter(kinds)
        words = words_of(arguments)
        entry.call(words.ctypes.data)
        tape = recorder()
        if tape is not None:
            tape.add_kernel(entry.address, words, arguments)

    def _enter(self, kinds: tuple[Kind, ...]) -> Entry:
        """Read or compile the machine code for such arguments."""
        with _lock:
            if kinds not in self.entries:
                # ctypes lets go of the GIL during the call.
                address = self._read(kinds) or self._compile(kinds)
                self.entries[kinds] = Entry(address, ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address))
            return self.entries[kinds]

    def _file_name(self, kinds: tuple[Kind, ...]) -> str:
        return disk.file_name(f"{self.family}.{self.name}", str([tuple(kind) for kind in kinds]))

    def _read(self, kinds: tuple[Kind, ...]) -> int | None:
        """Return the address of what was compiled before; None if there is nothing, or nothing that can be used."""
        found = disk.read(self._file_name(kinds))
        if found is None:
            return None
        entry, needs, code = found
        return load_object(code, entry) if all(map(find, needs)) else None

    def _compile(self, kinds: tuple[Kind, ...]) -> int:
        """Compile, keep the result on disk, and return its address."""
        from .compiler import compile_kernel

        source = getattr(importlib.import_module(f"{__package__}.{self.family}"), self.name)
        compiled = compile_kernel(source, kinds)
        self.compiled += 1
        disk.write(self._file_name(kinds), compiled)
        return load_object(compiled.code, compiled.entry)


def find(symbol: str) -> bool:
    """See to it that machine code which refers to a symbol can be loaded; False if nobody knows the symbol."""
    if not is_known(symbol):
        shared = disk.read(disk.file_name(symbol, "shared"))
        if shared is not None:
            define(symbol, load_object(shared.code, symbol))
        else:
            importlib.import_module("numba")  # some names are its own
    return is_known(symbol)


def keep(symbol: str, code: bytes) -> None:
    """Keep a function that kernels share, on disk and for this process."""
    disk.write(disk.file_name(symbol, "shared"), disk.ObjectFile(symbol, [], code))
    define(symbol, load_object(code, symbol))


def kind_of(argument: Any) -> Kind:
    """Return what machine code depends on in an argument: an array or a number of NumPy or Python."""
    if isinstance(argument, np.ndarray):
        flags = argument.flags
        layout = "C" if flags.c_contiguous else "F" if flags.f_contiguous else "A"
        return ArrayKind(argument.dtype.str, argument.ndim, layout, flags.writeable, flags.aligned)
    return str(np.result_type(argument)) if isinstance(argument, np.generic) else _NUMBERS[type(argument)]


_NUMBERS = {bool: "bool", int: "int64", float: "float64"}


def words_of(arguments: Sequence[Any]) -> np.ndarray:
    """Return arguments as Numba passes them, a word each.

    An array is passed as owner, parent, size, item size, data, shape, strides; kernels ask for no owner.
    """
    words: list[int] = []
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            words += (0, 0, argument.size, argument.itemsize, argument.ctypes.data, *argument.shape, *argument.strides)
        elif isinstance(argument, float | np.floating):
            form = "<f" if isinstance(argument, np.float32) else "<d"
            words.append(int.from_bytes(struct.pack(form, argument), "little"))
        else:
            words.append(int(argument))
    return np.array([word % 2**64 for word in words], np.uint64)


@cache
def kernel_of(family: str, name: str) -> Kernel:
    """Return a kernel; there is one object for each."""
    return Kernel(family, name)


class Family:
    """The kernels of one file of this folder, by their names; the file itself is not imported."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __getattr__(self, name: str) -> Kernel:
        if name.startswith("_") or not name.islower():
            raise AttributeError(f"kernels.{self.__name__} has no kernel {name!r}")
        kernel = kernel_of(self.__name__, name)
        setattr(self, name, kernel)
        return kernel
