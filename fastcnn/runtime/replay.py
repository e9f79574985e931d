"""Machine code that makes recorded calls one after another, without Python: what plays a `Tape`, fed or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

from llvmlite import ir

from ..jit.native import OBJECT, WORD, WORDS, compile_module, emit_python, python_function

VIEW = 16  # words, more than Python's `Py_buffer` has; the first is the address of the bytes
SHAPE_AND_FORMAT = 0x8 | 0x4  # what is asked of a buffer, beside the address: implies C order
_REPEATED = ir.FunctionType(ir.VoidType(), [WORDS])


class Player(NamedTuple):
    """What makes functions of Python that make the calls of a task, which is words: table, their number, and more.

    A table is of (machine code, words that it takes). `play` does no more and does not look at its argument; for `feed`
    see `Tape.fed`: there follow the place, and what the argument must be: the character of its format, the number of
    its dimensions, its shape.
    """

    play: Callable[[int], Callable[[None], Any]]
    feed: Callable[[int], Callable[[Any], bool]]


@cache
def player() -> Player:
    """Return the player, compiled at the first call; it lets go of the GIL while calls are made."""
    module = ir.Module()
    for name, emit in (("play", _emit_play), ("feed", _emit_feed)):
        function = ir.Function(module, ir.FunctionType(OBJECT, [OBJECT] * 2), name)
        emit(ir.IRBuilder(function.append_basic_block()))
    play, feed = compile_module(module, "play", "feed")
    return Player(python_function("play", play), python_function("feed", feed))


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


def _emit_feed(builder: ir.IRBuilder) -> None:
    """Emit a function of two objects of Python: the address of a task, and what may have a buffer."""
    itself, data = builder.function.args
    nothing, flags = ir.VoidType(), ir.IntType(32)
    task = emit_address(builder, itself)
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


def emit_address(builder: ir.IRBuilder, itself: ir.Value) -> ir.Value:
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
