"""Kernel calls that are recorded once and repeated as one native call, whatever their number.

Each call from Python costs what a small kernel costs, and holds the GIL while it finds the machine addresses of its
arguments. A tape has written them down: a loop in machine code takes them from there, and other threads run meanwhile.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir

from .native import WORD, WORDS, compile_module

Function = Callable[..., Any]

_REPEATED = ir.FunctionType(ir.VoidType(), [WORDS])


class Tape:
    """Calls, to be made again in their order with the same arguments.

    Where kernels follow each other they become one call. Their arguments are kept alive, and must stay where they are
    in memory.
    """

    def __init__(self) -> None:
        self._calls: list[tuple[Function | int, Any, tuple[Any, ...]]] = []
        self._steps: list[tuple[Function, tuple[Any, ...]]] | None = None
        self._tables: list[np.ndarray] = []

    def add(self, function: Function, arguments: tuple[Any, ...]) -> None:
        """Append a call of Python."""
        self._calls.append((function, None, arguments))

    def add_kernel(self, address: int, words: bytes, arguments: tuple[Any, ...]) -> None:
        """Append the call of a kernel: of machine code that takes its arguments from `words`."""
        self._calls.append((address, words, arguments))

    def play(self) -> None:
        """Make all calls."""
        for function, arguments in self._steps or self._join():
            function(*arguments)

    def __add__(self, other: Tape) -> Tape:
        """Return the calls of both in one tape."""
        both = Tape()
        both._calls = self._calls + other._calls
        return both

    def native(self) -> tuple[int, int] | None:
        """Return the address and the number of its kernel calls, if it is nothing else."""
        steps = self._steps or self._join()
        if not all(function is _loops().loop for function, _ in steps):
            return None
        address, count = steps[0][1] if steps else (0, 0)
        return address, count

    def fed(self, place: np.ndarray) -> Callable[[bytes], None]:
        """Return a function that makes all calls, as long as there is the tape, with its argument at `place[0]`.

        So kernels find a user's numbers, and Python need not ask for their address, which costs it more than a copy.
        """
        native = self.native()
        if native is not None:
            self._tables.append(task := np.array([*native, place.ctypes.data]))
            return partial(_loops().feed, ctypes.c_void_p(task.ctypes.data))

        def feed(data: bytes) -> None:
            place[0] = _address(data)
            self.play()

        return feed

    def _join(self) -> list[tuple[Function, tuple[Any, ...]]]:
        """Turn each run of kernel calls into one."""
        steps: list[tuple[Function, tuple[Any, ...]]] = []
        for is_python, calls in groupby(self._calls, key=lambda call: callable(call[0])):
            if is_python:
                steps += [(function, arguments) for function, _, arguments in calls if callable(function)]
            else:
                table = np.array([(address, _address(words)) for address, words, _ in calls], np.int64)
                self._tables.append(table)
                steps.append((_loops().loop, (table.ctypes.data, len(table))))
        self._steps = steps
        return steps


def _address(words: bytes) -> int:
    """Return where bytes lie."""
    return int(np.frombuffer(words, np.uint8).ctypes.data)


class _Recorder(threading.local):
    """Each thread's tape, while it records."""

    tape: Tape | None = None


_recorder = _Recorder()


def recorder() -> Tape | None:
    """Return the tape that this thread records, if it does."""
    return _recorder.tape


@contextmanager
def recording(tape: Tape) -> Iterator[Tape]:
    """Note down every kernel call of this thread."""
    _recorder.tape = tape
    try:
        yield tape
    finally:
        _recorder.tape = None


class _Loops(NamedTuple):
    """`loop(table, count)` makes the calls of a table of (machine code, words that it takes).

    `feed(task, data)` finds table, count and a place in three words, and begins with the address of `data` there.
    """

    loop: Function
    feed: Function


@cache
def _loops() -> _Loops:
    """Return the loops, compiled at the first call; ctypes lets go of the GIL while they run."""
    module = ir.Module()
    for name in ("loop", "feed"):
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), [WORDS, WORD]), name)
        builder = ir.IRBuilder(function.append_basic_block())
        table, count = function.args
        if name == "feed":
            task, data = function.args
            first, count, place = (builder.load(builder.gep(task, [WORD(k)])) for k in range(3))
            builder.store(data, builder.inttoptr(place, WORDS))
            table = builder.inttoptr(first, WORDS)
        emit_calls(builder, table, count)
        builder.ret_void()
    loop, feed = compile_module(module, "loop", "feed")
    address, word = ctypes.c_void_p, ctypes.c_int64
    return _Loops(
        ctypes.CFUNCTYPE(None, address, word)(loop),
        ctypes.CFUNCTYPE(None, address, ctypes.c_char_p)(feed),
    )


def emit_calls(builder: ir.IRBuilder, table: ir.Value, count: ir.Value) -> None:
    """Emit the calls of a table of (machine code, words that it takes)."""
    before, function = builder.block, builder.function
    head, body, after = (function.append_basic_block(name) for name in ("head", "body", "after"))
    builder.branch(head)
    builder.position_at_end(head)
    i = builder.phi(WORD)
    builder.cbranch(builder.icmp_unsigned("<", i, count), body, after)
    builder.position_at_end(body)
    row = builder.mul(i, WORD(2))
    code, words = (builder.load(builder.gep(table, [builder.add(row, WORD(k))])) for k in range(2))
    builder.call(builder.inttoptr(code, _REPEATED.as_pointer()), [builder.inttoptr(words, WORDS)])
    i.add_incoming(WORD(0), before)
    i.add_incoming(builder.add(i, WORD(1)), body)
    builder.branch(head)
    builder.position_at_end(after)
