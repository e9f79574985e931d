"""Kernel calls that are recorded once and repeated as one native call, whatever their number.

Each call from Python costs what a small kernel costs, and holds the GIL while it finds the machine addresses of its
arguments. A tape has written them down: a loop in machine code takes them from there, and other threads run meanwhile.
"""

from __future__ import annotations

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
SHAPE_AND_FORMAT = 0x8 | 0x4  # what is asked of a buffer, beside the address: implies C order
_REPEATED = ir.FunctionType(ir.VoidType(), [WORDS])


class Tape:
    """Calls, to be made again in their order with the same arguments.

    Where kernels follow each other they become one call. Their arguments are kept alive, and must stay where they are
    in memory.
    """

    def __init__(self) -> None:
        self._calls: list[tuple[Function | int, Any, tuple[Any, ...]]] = []
        self._steps: list[tuple[Function, tuple[Any, ...]]] | None = None
        self._tables: list[np.ndarray] = []  # what machine code reads: alive

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
        if any(callable(function) for function, *_ in self._calls):
            return None
        if self._steps is None:
            self._join()
        return (self._tables[0].ctypes.data, len(self._calls)) if self._calls else (0, 0)

    def fed(self, place: np.ndarray, like: np.ndarray) -> Callable[[Any], bool]:
        """Return a function that makes all calls, as long as the tape is there, its argument's bytes at `place[0]`.

        So kernels find a user's numbers, and Python need not ask for their address, which costs it more than a copy.
        The function returns whether its argument is an array, or what else has a buffer, in C order and of the shape
        and dtype of `like`; if not, no call is made.
        """
        example = like.data
        native = self.native()
        if native is not None:
            kind = int.from_bytes(example.format.encode(), "little")
            task = np.array([*native, place.ctypes.data, kind, like.ndim, *like.shape], np.int64)
            self._tables.append(task)
            return _loops().feed(int(task.ctypes.data))

        def feed(data: Any) -> bool:
            try:
                view = memoryview(data)
            except TypeError:
                return False
            if not (view.c_contiguous and view.format == example.format and view.shape == example.shape):
                return False
            place[0] = _address(view)
            self.play()
            return True

        return feed

    def _join(self) -> list[tuple[Function, tuple[Any, ...]]]:
        """Turn each run of kernel calls into one."""
        steps: list[tuple[Function, tuple[Any, ...]]] = []
        for is_python, calls in groupby(self._calls, key=lambda call: callable(call[0])):
            if is_python:
                steps += [(function, arguments) for function, _, arguments in calls if callable(function)]
            else:
                table = np.array([(address, _address(words)) for address, words, _ in calls], np.int64)
                task = np.array([table.ctypes.data, len(table)])
                self._tables += [table, task]
                steps.append((_loops().play(int(task.ctypes.data)), (None,)))
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
    """What makes functions of Python that make the calls of a task, which is words: table, their number, and more.

    A table is of (machine code, words that it takes). `play` does no more and does not look at its argument; for `feed`
    see `Tape.fed`: there follow the place, and what the argument must be: the character of its format, the number of
    its dimensions, its shape.
    """

    play: Callable[[int], Callable[[None], Any]]
    feed: Callable[[int], Callable[[Any], bool]]


@cache
def _loops() -> _Loops:
    """Return the loops, compiled at the first call; they let go of the GIL while they run."""
    module = ir.Module()
    for name, emit in (("play", _emit_play), ("feed", _emit_feed)):
        function = ir.Function(module, ir.FunctionType(OBJECT, [OBJECT] * 2), name)
        emit(ir.IRBuilder(function.append_basic_block()))
    play, feed = compile_module(module, "play", "feed")
    return _Loops(python_function("play", play), python_function("feed", feed))


def _emit_play(builder: ir.IRBuilder) -> None:
    """Emit a function of two objects of Python: the address of a task, and anything."""
    _emit_task(builder, _emit_address(builder, builder.function.args[0]))
    builder.ret(emit_python(builder, "PyBool_FromLong", OBJECT, [WORD(1)]))


def _emit_feed(builder: ir.IRBuilder) -> None:
    """Emit a function of two objects of Python: the address of a task, and what may have a buffer."""
    itself, data = builder.function.args
    nothing, flags = ir.VoidType(), ir.IntType(32)
    task = _emit_address(builder, itself)
    view = builder.alloca(WORD, VIEW)
    refused = emit_python(builder, "PyObject_GetBuffer", flags, [data, view, flags(SHAPE_AND_FORMAT)])
    with builder.if_then(builder.icmp_signed("!=", refused, flags(0))):
        emit_python(builder, "PyErr_Clear", nothing)
        builder.ret(emit_python(builder, "PyBool_FromLong", OBJECT, [WORD(0)]))
    fits = _emit_fits(builder, view, task)
    with builder.if_then(fits):
        (place,) = _emit_words(builder, task, 2)
        builder.store(builder.load(view), builder.inttoptr(place, WORDS))
        _emit_task(builder, task)
    emit_python(builder, "PyBuffer_Release", nothing, [view])
    builder.ret(emit_python(builder, "PyBool_FromLong", OBJECT, [builder.zext(fits, WORD)]))


def _emit_address(builder: ir.IRBuilder, itself: ir.Value) -> ir.Value:
    """Emit the pointer to words that an integer of Python stands for."""
    return builder.bitcast(emit_python(builder, "PyLong_AsVoidPtr", OBJECT, [itself]), WORDS)


def _emit_task(builder: ir.IRBuilder, task: ir.Value) -> None:
    """Emit the calls of a task, without the GIL."""
    table, count = _emit_words(builder, task, 0, 1)
    thread = emit_python(builder, "PyEval_SaveThread", OBJECT)
    emit_calls(builder, builder.inttoptr(table, WORDS), count)
    emit_python(builder, "PyEval_RestoreThread", ir.VoidType(), [thread])


def _emit_fits(builder: ir.IRBuilder, view: ir.Value, task: ir.Value) -> ir.Value:
    """Emit whether a buffer is what a task expects.

    The words of Python's `Py_buffer`: address, owner, length, item size, then two halves: whether it is read-only, the
    number of its dimensions; format, a string; shape.
    """
    dimensions, format, shape = _emit_words(builder, view, 4, 5, 6)
    dimensions = builder.lshr(dimensions, WORD(32))
    kind, expected = _emit_words(builder, task, 3, 4)
    # A string of one character: the second byte is looked at if the first is not the end.
    bytes_ = builder.inttoptr(format, OBJECT)
    first = builder.load(bytes_)
    second = builder.load(builder.gep(bytes_, [builder.zext(builder.icmp_unsigned("!=", first, first.type(0)), WORD)]))
    fits = builder.icmp_unsigned("==", builder.zext(first, WORD), kind)
    fits = builder.and_(fits, builder.icmp_unsigned("==", second, second.type(0)))
    fits = builder.and_(fits, builder.icmp_unsigned("==", dimensions, expected))
    differences = builder.alloca(WORD)
    builder.store(WORD(0), differences)
    with _repeat(builder, builder.select(fits, dimensions, WORD(0))) as i:
        length = builder.load(builder.gep(builder.inttoptr(shape, WORDS), [i]))
        wanted = builder.load(builder.gep(task, [builder.add(i, WORD(5))]))
        found = builder.or_(builder.load(differences), builder.xor(length, wanted))
        builder.store(found, differences)
    return builder.and_(fits, builder.icmp_unsigned("==", builder.load(differences), WORD(0)))


def _emit_words(builder: ir.IRBuilder, words: ir.Value, *places: int) -> list[ir.Value]:
    """Emit the loads of some of the words behind a pointer."""
    return [builder.load(builder.gep(words, [WORD(place)])) for place in places]


def emit_calls(builder: ir.IRBuilder, table: ir.Value, count: ir.Value) -> None:
    """Emit the calls of a table of (machine code, words that it takes)."""
    with _repeat(builder, count) as i:
        row = builder.mul(i, WORD(2))
        code, words = (builder.load(builder.gep(table, [builder.add(row, WORD(k))])) for k in range(2))
        builder.call(builder.inttoptr(code, _REPEATED.as_pointer()), [builder.inttoptr(words, WORDS)])


@contextmanager
def _repeat(builder: ir.IRBuilder, count: ir.Value) -> Iterator[ir.Value]:
    """Emit a loop around what is emitted meanwhile, which finds in `i` the number of its turn."""
    before, function = builder.block, builder.function
    head, body, after = (function.append_basic_block(name) for name in ("head", "body", "after"))
    builder.branch(head)
    builder.position_at_end(head)
    i = builder.phi(WORD)
    builder.cbranch(builder.icmp_unsigned("<", i, count), body, after)
    builder.position_at_end(body)
    yield i
    i.add_incoming(WORD(0), before)
    i.add_incoming(builder.add(i, WORD(1)), builder.block)
    builder.branch(head)
    builder.position_at_end(after)
