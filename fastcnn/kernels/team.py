"""Threads that share out recorded kernel calls without Python: the native half of `fastcnn.parallel`.

Waking a thread costs as long as a small step, and so does handing over the GIL. So helpers wait a while in machine code
for the next tasks before they go to sleep, and take them without the GIL.

A job is `count` tasks for up to `threads` workers. Its state is one word, the ticket: how many tasks are taken, `count`
and `threads`, 16 bits each. A task is taken by exchanging the ticket for the next one, and only if it still is what was
read: whoever has slept over the end of a job finds another ticket, or one with nothing left, and does no harm. What
worker w calls for task i stands in row `w · count + i` of the job's table, as (address of calls, number of calls).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from llvmlite import binding, ir

from .native import WORD, WORDS, compile_module
from .tape import emit_calls

TICKET, FINISHED, TABLE = 0, 8, 16  # words of the state, each in a cache line of its own
SIZE = 24
MOST = (1 << 16) - 1  # tasks or threads of a job


class Functions(NamedTuple):
    """The native functions.

    Attributes
    ----------
    serve : function (state, worker, patience)
        Take tasks, of any jobs, until none has come for `patience` turns.
    lead : function (state, ticket, count, patience) -> int
        Begin a job, work as worker 0, wait for the others: whether all is finished after `patience` turns.
    wait : function (state, count, patience) -> int
        Go on waiting.
    """

    serve: Callable[[int, int, int], None]
    lead: Callable[[int, int, int, int], int]
    wait: Callable[[int, int, int], int]


def ticket(count: int, threads: int) -> int:
    """Return the ticket of a job of which nothing is taken."""
    return threads << 32 | count << 16


def has_tasks(now: int, worker: int) -> bool:
    """Tell whether the job with this ticket has tasks left for a worker."""
    return now & MOST < now >> 16 & MOST and worker < now >> 32


@cache
def functions() -> Functions:
    """Return the functions, compiled at the first call; ctypes lets go of the GIL while they run."""
    module = ir.Module()
    take, wait = _emit_take(module), _emit_wait(module)
    _emit_serve(module, take)
    _emit_lead(module, take, wait)
    serve, lead, wait_address = compile_module(module, "serve", "lead", "wait")
    address, word = ctypes.c_void_p, ctypes.c_int64
    return Functions(
        ctypes.CFUNCTYPE(None, address, word, word)(serve),
        ctypes.CFUNCTYPE(word, address, word, word, word)(lead),
        ctypes.CFUNCTYPE(word, address, word, word)(wait_address),
    )


def _begin(module: ir.Module, name: str, arguments: int, result: ir.Type) -> tuple[ir.Function, ir.IRBuilder]:
    """Return a function of the state and whole numbers, and a builder at its beginning."""
    function = ir.Function(module, ir.FunctionType(result, [WORDS, *[WORD] * arguments]), name)
    return function, ir.IRBuilder(function.append_basic_block("begin"))


def _at(builder: ir.IRBuilder, state: ir.Value, word: int) -> ir.Value:
    return builder.gep(state, [WORD(word)])


def _emit_take(module: ir.Module) -> ir.Function:
    """Emit `take(state, worker)`: take one task and do it; 0 if there is none for this worker."""
    function, builder = _begin(module, "take", 1, WORD)
    state, worker = function.args
    again, mine, run, none = (function.append_basic_block(name) for name in ("again", "mine", "run", "none"))
    builder.branch(again)
    builder.position_at_end(again)
    now = builder.load_atomic(_at(builder, state, TICKET), "acquire", 8)
    low = WORD(MOST)
    taken = builder.and_(now, low)
    count = builder.and_(builder.lshr(now, WORD(16)), low)
    threads = builder.lshr(now, WORD(32))
    open_ = builder.and_(builder.icmp_unsigned("<", taken, count), builder.icmp_unsigned("<", worker, threads))
    builder.cbranch(open_, mine, none)
    builder.position_at_end(mine)
    exchanged = builder.cmpxchg(
        _at(builder, state, TICKET), now, builder.add(now, WORD(1)), ordering="acq_rel", failordering="acquire"
    )
    builder.cbranch(builder.extract_value(exchanged, 1), run, again)
    builder.position_at_end(run)
    table = builder.inttoptr(builder.load(_at(builder, state, TABLE)), WORDS)
    row = builder.mul(builder.add(builder.mul(worker, count), taken), WORD(2))
    calls, size = (builder.load(builder.gep(table, [builder.add(row, WORD(k))])) for k in range(2))
    emit_calls(builder, builder.inttoptr(calls, WORDS), size)
    # Beside its own sense, the locked instruction lets stores past the caches arrive.
    builder.atomic_rmw("add", _at(builder, state, FINISHED), WORD(1), "acq_rel")
    builder.ret(WORD(1))
    builder.position_at_end(none)
    builder.ret(WORD(0))
    return function


def _emit_pause(builder: ir.IRBuilder) -> None:
    """Emit the processor's hint that this loop waits."""
    machine = binding.get_process_triple().split("-")[0]
    if machine in {"x86_64", "amd64"}:
        hint = ir.FunctionType(ir.VoidType(), [])
        builder.call(builder.module.declare_intrinsic("llvm.x86.sse2.pause", fnty=hint), [])
    elif machine in {"aarch64", "arm64"}:
        hint = ir.FunctionType(ir.VoidType(), [ir.IntType(32)])
        builder.call(builder.module.declare_intrinsic("llvm.aarch64.hint", fnty=hint), [ir.IntType(32)(1)])


def _emit_wait(module: ir.Module) -> ir.Function:
    """Emit `wait(state, count, patience)`: 1 as soon as `count` tasks are finished, 0 if patience ends before."""
    function, builder = _begin(module, "wait", 2, WORD)
    state, count, patience = function.args
    before = builder.block
    look, pause, yes, no = (function.append_basic_block(name) for name in ("look", "pause", "yes", "no"))
    builder.branch(look)
    builder.position_at_end(look)
    turn = builder.phi(WORD)
    finished = builder.load_atomic(_at(builder, state, FINISHED), "acquire", 8)
    builder.cbranch(builder.icmp_unsigned(">=", finished, count), yes, pause)
    builder.position_at_end(pause)
    _emit_pause(builder)
    following = builder.add(turn, WORD(1))
    turn.add_incoming(WORD(0), before)
    turn.add_incoming(following, pause)
    builder.cbranch(builder.icmp_unsigned("<", following, patience), look, no)
    for block, value in ((yes, 1), (no, 0)):
        builder.position_at_end(block)
        builder.ret(WORD(value))
    return function


def _emit_serve(module: ir.Module, take: ir.Function) -> None:
    """Emit `serve(state, worker, patience)`: each task taken renews the patience."""
    function, builder = _begin(module, "serve", 2, ir.VoidType())
    state, worker, patience = function.args
    before = builder.block
    look, pause, end = (function.append_basic_block(name) for name in ("look", "pause", "end"))
    builder.branch(look)
    builder.position_at_end(look)
    turn = builder.phi(WORD)
    worked = builder.icmp_unsigned("!=", builder.call(take, [state, worker]), WORD(0))
    following = builder.select(worked, WORD(0), builder.add(turn, WORD(1)))
    builder.cbranch(builder.icmp_unsigned("<", following, patience), pause, end)
    builder.position_at_end(pause)
    _emit_pause(builder)
    turn.add_incoming(WORD(0), before)
    turn.add_incoming(following, pause)
    builder.branch(look)
    builder.position_at_end(end)
    builder.ret_void()


def _emit_lead(module: ir.Module, take: ir.Function, wait: ir.Function) -> None:
    """Emit `lead(state, ticket, count, patience)`."""
    function, builder = _begin(module, "lead", 3, WORD)
    state, first, count, patience = function.args
    work, end = function.append_basic_block("work"), function.append_basic_block("end")
    builder.store_atomic(first, _at(builder, state, TICKET), "release", 8)
    builder.branch(work)
    builder.position_at_end(work)
    worked = builder.icmp_unsigned("!=", builder.call(take, [state, WORD(0)]), WORD(0))
    builder.cbranch(worked, work, end)
    builder.position_at_end(end)
    builder.ret(builder.call(wait, [state, count, patience]))


def new_state() -> np.ndarray:
    """Return the state of a team that has no job."""
    return np.zeros(SIZE, np.int64)
