"""Kernel calls that are recorded once and repeated as one native call, whatever their number.

Each call from Python costs what a small kernel costs, and holds the GIL while it finds the machine addresses of its
arguments. A tape has written them down: a loop in machine code takes them from there, and other threads run meanwhile.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir

from .native import OBJECT, WORD, WORDS, compile_module, emit_python, python_function

Function = Callable[..., Any]

VIEW = 16  # words, more than Python's `Py_buffer` has; the first is the address of the bytes
SIMPLE = 0  # the kind of buffer: bytes side by side
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

    def fed(self, place: np.ndarray) -> Callable[[Any], None]:
        """Return a function that makes all calls, as long as the tape is there, its argument's bytes at `place[0]`.

        So kernels find a user's numbers, and Python need not ask for their address, which costs it more than a copy.
        The argument is an array, or what else has a buffer, in C order: a ValueError tells if it is not.
        """
        native = self.native()
        if native is not None:
            self._tables.append(task := np.array([*native, place.ctypes.data]))
            return _loops().feed(int(task.ctypes.data))

        def feed(data: Any) -> None:
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


def _address(words: Any) -> int:
    """Return where bytes, or an array's numbers, lie."""
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

    `feed(task)` is a function of Python: it finds table, count and a place in three words, and begins with the address
    of its argument's bytes there.
    """

    loop: Function
    feed: Callable[[int], Callable[[Any], None]]


@cache
def _loops() -> _Loops:
    """Return the loops, compiled at the first call; they let go of the GIL while they run."""
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [WORDS, WORD]), "loop")
    builder = ir.IRBuilder(function.append_basic_block())
    emit_calls(builder, *function.args)
    builder.ret_void()
    _emit_feed(ir.IRBuilder(ir.Function(module, ir.FunctionType(OBJECT, [OBJECT] * 2), "feed").append_basic_block()))
    loop, feed = compile_module(module, "loop", "feed")
    return _Loops(ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(loop), python_function("feed", feed))


def _emit_feed(builder: ir.IRBuilder) -> None:
    """Emit a function of two objects of Python: the address of a task, and what has a buffer."""
    itself, data = builder.function.args
    nothing, flags, failed = ir.VoidType(), ir.IntType(32), ir.Constant(OBJECT, None)
    task = builder.bitcast(emit_python(builder, "PyLong_AsVoidPtr", OBJECT, [itself]), WORDS)
    view = builder.alloca(WORD, VIEW)
    refused = emit_python(builder, "PyObject_GetBuffer", flags, [data, view, flags(SIMPLE)])
    with builder.if_then(builder.icmp_signed("!=", refused, flags(0))):
        builder.ret(failed)  # the error is set
    table, count, place = (builder.load(builder.gep(task, [WORD(k)])) for k in range(3))
    builder.store(builder.load(view), builder.inttoptr(place, WORDS))
    thread = emit_python(builder, "PyEval_SaveThread", OBJECT)
    emit_calls(builder, builder.inttoptr(table, WORDS), count)
    emit_python(builder, "PyEval_RestoreThread", nothing, [thread])
    emit_python(builder, "PyBuffer_Release", nothing, [view])
    none = builder.inttoptr(WORD(id(None)), OBJECT)
    emit_python(builder, "Py_IncRef", nothing, [none])
    builder.ret(none)


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
