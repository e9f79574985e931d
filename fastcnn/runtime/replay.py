"""Machine code that makes recorded calls one after another, without Python: what plays a `Tape`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir

from ..jit.native import OBJECT, WORD, WORDS, compile_module, emit_python, python_function

# Bytes before the items of a tuple, and before the address of an array's numbers: the binary interfaces of Python and
# of NumPy, whose arrays begin with it (`PyArrayObject_fields`).
TUPLE_HEAD, HEAD = tuple.__basicsize__, object.__basicsize__
_REPEATED = ir.FunctionType(ir.VoidType(), [WORDS])


@cache
def player() -> Callable[[int], Callable[[None], Any]]:
    """Return a factory of built-in functions that run a task; they release the GIL while calls are made.

    A task is two words: the address of its table of (machine code, words that it takes), and the number of calls. The
    functions do not look at their argument.
    """
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(OBJECT, [OBJECT] * 2), "play")
    _emit_play(ir.IRBuilder(function.append_basic_block()))
    (play,) = compile_module(module, "play")
    return python_function("play", play)


@cache
def player_on_arrays() -> Callable[[int], Callable[[tuple[np.ndarray, ...]], Any]]:
    """Return a factory of built-in functions that run a task on the arrays of a tuple; they release the GIL as above.

    The task's words are followed by two more: the address of a table of (address of a word that some call takes, number
    of an array, bytes from the array's begin on), and its length. These words are set first: the calls then work on
    the arrays. Nothing is checked: the tuple must have an array for each number.
    """
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(OBJECT, [OBJECT] * 2), "play_on_arrays")
    builder = ir.IRBuilder(function.append_basic_block())
    task = emit_address(builder, function.args[0])
    table, count = _emit_words(builder, task, 2, 3)
    _emit_addresses(builder, table, count, function.args[1])
    _emit_task(builder, task)
    builder.ret(emit_python(builder, "PyBool_FromLong", OBJECT, [WORD(1)]))
    (play,) = compile_module(module, "play_on_arrays")
    return python_function("play_on_arrays", play)


@cache
def inverter() -> int:
    """Return the address of a call for a table: it inverts all bits of the word whose address it takes."""
    module = ir.Module()
    function = ir.Function(module, _REPEATED, "invert")
    builder = ir.IRBuilder(function.append_basic_block())
    (word,) = (builder.inttoptr(address, WORDS) for address in _emit_words(builder, function.args[0], 0))
    builder.store(builder.not_(builder.load(word)), word)
    builder.ret_void()
    (address,) = compile_module(module, "invert")
    return address


def _emit_play(builder: ir.IRBuilder) -> None:
    """Emit a function of two objects of Python: the address of a task, and anything."""
    _emit_task(builder, emit_address(builder, builder.function.args[0]))
    builder.ret(emit_python(builder, "PyBool_FromLong", OBJECT, [WORD(1)]))


def emit_address(builder: ir.IRBuilder, itself: ir.Value) -> ir.Value:
    """Emit the pointer to words that an integer of Python stands for."""
    return builder.bitcast(emit_python(builder, "PyLong_AsVoidPtr", OBJECT, [itself]), WORDS)


def _emit_task(builder: ir.IRBuilder, task: ir.Value) -> None:
    """Emit the calls of a task, without the GIL."""
    table, count = _emit_words(builder, task, 0, 1)
    thread = emit_python(builder, "PyEval_SaveThread", OBJECT)
    emit_calls(builder, builder.inttoptr(table, WORDS), count)
    emit_python(builder, "PyEval_RestoreThread", ir.VoidType(), [thread])


def _emit_addresses(builder: ir.IRBuilder, table: ir.Value, count: ir.Value, arrays: ir.Value) -> None:
    """Emit the writing of addresses inside arrays, which a tuple of Python has, to words."""
    table = builder.inttoptr(table, WORDS)
    items = builder.bitcast(builder.gep(arrays, [WORD(TUPLE_HEAD)]), WORDS)
    with _repeat(builder, count) as i:
        row = builder.mul(i, WORD(3))
        word, number, offset = (builder.load(builder.gep(table, [builder.add(row, WORD(k))])) for k in range(3))
        array = builder.add(builder.load(builder.gep(items, [number])), WORD(HEAD))
        data = builder.load(builder.inttoptr(array, WORDS))
        builder.store(builder.add(data, offset), builder.inttoptr(word, WORDS))


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
