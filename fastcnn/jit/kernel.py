"""A kernel as the layers call it: by the kinds of its arguments its machine code is found, read, or compiled.

What was compiled once is read from disk, without Numba: the source of a kernel is imported only to compile it.
"""

from __future__ import annotations

import ctypes
import importlib
import struct
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

from . import cache as disk
from .native import define, is_known, load_object, lock, undisturbed
from .recorder import recorder, rehearsal
from .signature import Kind, form_of, kind_of, values_of


class Entry(NamedTuple):
    """Machine code that takes a kernel's arguments as words: its address, what calls it, and the form of the words."""

    address: int
    call: Callable[[bytes], None]
    form: struct.Struct


class Kernel:
    """A kernel, by the names of its family (a file of `kernels/`) and of its function.

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
        plan = rehearsal()
        if plan is not None:
            plan.needed[self, kinds] = None
            return
        entry = self.entries.get(kinds) or self._enter(kinds)
        words = entry.form.pack(*values_of(arguments))
        entry.call(words)
        tape = recorder()
        if tape is not None:
            tape.add_kernel(entry.address, words, arguments)

    def _enter(self, kinds: tuple[Kind, ...]) -> Entry:
        """Read or compile the machine code for such arguments."""

        def enter() -> Entry:
            with lock:
                if kinds not in self.entries:
                    self._add(kinds, self._read(kinds) or self._compile(kinds))
                return self.entries[kinds]

        return undisturbed(enter)

    def is_there(self, kinds: tuple[Kind, ...]) -> bool:
        """Load the machine code for such arguments, and tell whether there is some."""
        return kinds in self.entries or undisturbed(lambda: self._load(kinds))

    def _load(self, kinds: tuple[Kind, ...]) -> bool:
        with lock:
            address = self._read(kinds)
            if address is not None:
                self._add(kinds, address)
            return address is not None

    def compile(self, kinds: tuple[Kind, ...]) -> None:
        """Compile the machine code for such arguments, unless it is there."""
        if kinds not in self.entries:
            self._enter(kinds)

    def _add(self, kinds: tuple[Kind, ...], address: int) -> None:
        # ctypes lets go of the GIL during the call.
        call = ctypes.CFUNCTYPE(None, ctypes.c_char_p)(address)
        self.entries[kinds] = Entry(address, call, form_of(kinds))

    def _read(self, kinds: tuple[Kind, ...]) -> int | None:
        """Return the address of what was compiled before; None if there is nothing, or nothing that can be used."""
        found = disk.read(f"{self.family}.{self.name}", str(kinds))
        if found is None:
            return None
        entry, needs, code = found
        return load_object(code, entry) if all(map(find, needs)) else None

    def _compile(self, kinds: tuple[Kind, ...]) -> int:
        """Compile, keep the result on disk, and return its address."""
        from .compiler import compile_kernel

        source = getattr(importlib.import_module(f"fastcnn.kernels.{self.family}"), self.name)
        compiled = compile_kernel(source, kinds)
        self.compiled += 1
        disk.write(f"{self.family}.{self.name}", str(kinds), compiled)
        return load_object(compiled.code, compiled.entry)


def find(symbol: str) -> bool:
    """Load what defines a symbol to which machine code refers; False if nothing does."""
    if not is_known(symbol):
        shared = disk.read(symbol, "shared")
        if shared is not None:
            define(symbol, load_object(shared.code, symbol))
        else:
            importlib.import_module("numba")  # some names are its own
    return is_known(symbol)


def keep(symbol: str, code: bytes) -> None:
    """Write a function that kernels share to disk, and define it in this process."""
    disk.write(symbol, "shared", disk.ObjectFile(symbol, [], code))
    define(symbol, load_object(code, symbol))


@cache
def kernel_of(family: str, name: str) -> Kernel:
    """Return a kernel; there is one object for each."""
    return Kernel(family, name)


class Family:
    """The kernels of one file of `kernels/`, by their names; the file itself is not imported."""

    def __init__(self, name: str, kernels: Sequence[str]) -> None:
        self.__name__ = name
        for each in kernels:
            setattr(self, each, kernel_of(name, each))
