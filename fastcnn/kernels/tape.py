"""Kernel calls that are recorded once and repeated as one native call, whatever their number.

Each call from Python costs what a small kernel costs, and holds the GIL while it finds the machine addresses of its
arguments. A tape has written them down: a loop in machine code takes them from there, and other threads run meanwhile.
"""

from __future__ import annotations

import ctypes
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core.compiler_lock import global_compiler_lock

Function = Callable[..., Any]

WORD = ir.IntType(64)
WORDS = WORD.as_pointer()
_REPEATED = ir.FunctionType(ir.VoidType(), [WORDS])


class Tape:
    """Calls, to be made again in their order with the same arguments.

    Where kernels follow each other they become one call. Their arguments are kept alive, and must stay where they are
    in memory.
    """

    def __init__(self) -> None:
        self._calls: list[tuple[Any, Function, tuple[Any, ...]]] = []
        self._steps: list[tuple[Function, tuple[Any, ...]]] | None = None
        self._tables: list[tuple[Any, ...]] = []

    def add(self, function: Function, arguments: tuple[Any, ...], compiled: Any = None) -> None:
        """Append a call; `compiled` is Numba's result for the kernel that it calls."""
        self._calls.append((compiled, function, arguments))

    def play(self) -> None:
        """Make all calls."""
        for function, arguments in self._steps or self._join():
            function(*arguments)

    def native(self) -> tuple[int, int] | None:
        """Return the address and the number of its kernel calls, if it is nothing else."""
        steps = self._steps or self._join()
        if not all(function is _loop() for function, _ in steps):
            return None
        address, count = steps[0][1] if steps else (0, 0)
        return address, count

    def _join(self) -> list[tuple[Function, tuple[Any, ...]]]:
        """Turn each run of kernel calls into one."""
        steps: list[tuple[Function, tuple[Any, ...]]] = []
        run: list[Any] = []
        for compiled, function, arguments in self._calls:
            entry = None if compiled is None else _entry(compiled)
            words = None if entry is None else _words(entry, arguments)
            if entry is not None and words is not None:
                run.append((entry.caller, words))
                continue
            if run:
                steps.append(self._native(run))
                run = []
            steps.append((function, arguments))
        if run:
            steps.append(self._native(run))
        self._steps = steps
        return steps

    def _native(self, run: list[tuple[int, np.ndarray]]) -> tuple[Function, tuple[Any, ...]]:
        """Return one call for a run of (machine code that makes a call, words that it takes it from)."""
        table = np.array([(caller, words.ctypes.data) for caller, words in run], np.int64)
        self._tables.append((table, run))
        return _loop(), (table.ctypes.data, len(run))


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


class _Entry(NamedTuple):
    """A kernel as machine code: its address, that of the code that calls it, and Numba's types of its arguments."""

    address: int
    caller: int
    types: tuple[types.Type, ...]


# One look-up for each kernel and process: LLVM's lock, if another thread has it, is not for a forked child to wait for.
_entries: dict[str, _Entry] = {}


def _entry(compiled: Any) -> _Entry:
    """Return what is to be known of a compiled kernel."""
    name = compiled.fndesc.llvm_func_name
    if name not in _entries:
        convention, signature = compiled.target_context.call_conv, compiled.signature
        function = convention.get_function_type(compiled.fndesc.restype, compiled.fndesc.argtypes)
        kinds = (str(WORD) if isinstance(kind, ir.PointerType) else str(kind) for kind in function.args[2:])
        _entries[name] = _Entry(compiled.library.get_pointer_to_function(name), _caller(tuple(kinds)), signature.args)
    return _entries[name]


def _words(entry: _Entry, arguments: tuple[Any, ...]) -> np.ndarray | None:
    """Return the kernel's address and its arguments as Numba passes them, a word each; None for kinds not known here.

    An array is passed as owner, parent, size, item size, data, shape, strides; kernels ask for no owner.
    """
    words = [entry.address]
    for kind, argument in zip(entry.types, arguments, strict=True):
        if isinstance(kind, types.Array):
            words += [0, 0, argument.size, argument.itemsize, argument.ctypes.data, *argument.shape, *argument.strides]
        elif isinstance(kind, types.Integer | types.Boolean):
            words.append(int(argument))
        elif isinstance(kind, types.Float):
            form = "<d" if kind.bitwidth == 64 else "<f"
            words.append(int.from_bytes(struct.pack(form, argument), "little"))
        else:
            return None
    return np.array([word % 2**64 for word in words], np.uint64)


_TYPES = {str(kind): kind for kind in (*map(ir.IntType, (1, 8, 16, 32, 64)), ir.FloatType(), ir.DoubleType())}


@cache
def _caller(kinds: tuple[str, ...]) -> int:
    """Return the address of `call(words)`, which calls the function at words[0] with the arguments behind it."""
    module = ir.Module()
    function = ir.Function(module, _REPEATED, "call")
    builder = ir.IRBuilder(function.append_basic_block())
    # Numba's convention: places for a result and for an exception, then the arguments; a status is returned.
    place = WORDS.as_pointer()
    arguments = [builder.alloca(place), builder.alloca(place)]
    target_type = ir.FunctionType(ir.IntType(32), [place.as_pointer()] * 2 + [_TYPES[kind] for kind in kinds])
    words = [builder.load(builder.gep(function.args[0], [WORD(k)])) for k in range(len(kinds) + 1)]
    target = builder.inttoptr(words[0], target_type.as_pointer())
    for word, kind in zip(words[1:], kinds, strict=True):
        arguments.append(_from_word(builder, word, _TYPES[kind]))
    builder.call(target, arguments)
    builder.ret_void()
    return compile_module(module, "call")[0]


def _from_word(builder: ir.IRBuilder, word: Any, kind: ir.Type) -> Any:
    """Emit the argument that the low bits of a word stand for."""
    if isinstance(kind, ir.IntType):
        return word if kind == WORD else builder.trunc(word, kind)
    if isinstance(kind, ir.FloatType):
        return builder.bitcast(builder.trunc(word, ir.IntType(32)), kind)
    return builder.bitcast(word, kind)


@cache
def _loop() -> Function:
    """Return `loop(table, count)`, which makes the calls of a table of (caller, words)."""
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [WORDS, WORD]), "loop")
    builder = ir.IRBuilder(function.append_basic_block())
    emit_calls(builder, *function.args)
    builder.ret_void()
    # ctypes lets go of the GIL during the call.
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(*compile_module(module, "loop"))


def emit_calls(builder: ir.IRBuilder, table: ir.Value, count: ir.Value) -> None:
    """Emit the calls of a table of (caller, words)."""
    before, function = builder.block, builder.function
    head, body, after = (function.append_basic_block(name) for name in ("head", "body", "after"))
    builder.branch(head)
    builder.position_at_end(head)
    i = builder.phi(WORD)
    builder.cbranch(builder.icmp_unsigned("<", i, count), body, after)
    builder.position_at_end(body)
    row = builder.mul(i, WORD(2))
    caller, words = (builder.load(builder.gep(table, [builder.add(row, WORD(k))])) for k in range(2))
    builder.call(builder.inttoptr(caller, _REPEATED.as_pointer()), [builder.inttoptr(words, WORDS)])
    i.add_incoming(WORD(0), before)
    i.add_incoming(builder.add(i, WORD(1)), body)
    builder.branch(head)
    builder.position_at_end(after)


_engines: list[Any] = []  # machine code lives as long as its engine


def compile_module(module: ir.Module, *names: str) -> list[int]:
    """Return the addresses of functions; little would be gained by optimising them, and much time lost."""
    with global_compiler_lock:
        module.triple = binding.get_process_triple()
        machine = binding.Target.from_default_triple().create_target_machine(opt=0)
        engine = binding.create_mcjit_compiler(binding.parse_assembly(str(module)), machine)
        engine.finalize_object()
        _engines.append(engine)
        return [int(engine.get_function_address(name)) for name in names]
