"""Machine code that makes recorded calls one after another, without Python: what plays a `Tape`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from llvmlite import ir

from ..jit.native import OBJECT, WORD, WORDS, compile_module, emit_python, python_function

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
