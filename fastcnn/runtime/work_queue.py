"""Threads that share out recorded kernel calls without Python: the native half of `threads`.

Waking a thread costs as long as a small step, and so does handing over the GIL. So helpers wait a while in machine code
for the next tasks before they go to sleep, and take them without the GIL.

A job is `count` tasks for up to `threads` workers. Its state is one word, the ticket: how many tasks are taken, `count`
and `threads`, 16 bits each. A task is taken by exchanging the ticket for the next one, and only if it still is what was
read: whoever has slept over the end of a job finds another ticket, or one with nothing left, and does no harm. What
worker w calls for task i stands in row `w · count + i` of the job's table, as (address of calls, number of calls).

Jobs follow each other without Python too: a row for each, as (ticket, address of its table).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from llvmlite import binding, ir

from ..jit.native import WORD, WORDS, compile_module
from .replay import emit_calls

TICKET, FINISHED, TABLE, SLEEPS = 0, 8, 16, 24  # words of the state, each in a cache line of its own
SIZE = 32
MOST = (1 << 16) - 1  # tasks or threads of a job


class Functions(NamedTuple):
    """The native functions.

    Attributes
    ----------
    serve : function (state, worker, patience)
        Take tasks, of any jobs, until none has come for `patience` turns.
    lead : function (state, jobs, first, last, patience) -> int
        Begin job after job, work as worker 0, wait for the others; return the job to begin next. It ends before `last`
        where the others are not through after `patience` turns, and before a job for helpers of whom one sleeps.
    wait : function (state, patience) -> int
        Wait for the last job: whether it is finished after `patience` turns.
    """

    serve: Callable[[int, int, int], None]
    lead: Callable[[int, int, int, int, int], int]
    wait: Callable[[int, int], int]


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
        ctypes.CFUNCTYPE(word, address, word, word, word, word)(lead),
        ctypes.CFUNCTYPE(word, address, word)(wait_address),
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
    """Emit `wait(state, patience)`: 1 as soon as all tasks are finished, 0 if patience ends before."""
    function, builder = _begin(module, "wait", 1, WORD)
    state, patience = function.args
    ticket = builder.load_atomic(_at(builder, state, TICKET), "acquire", 8)
    count = builder.and_(builder.lshr(ticket, WORD(16)), WORD(MOST))
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
    """Emit `lead(state, jobs, first, last, patience)`."""
    function, builder = _begin(module, "lead", 4, WORD)
    state, jobs, first, last, patience = function.args
    rows, before = builder.inttoptr(jobs, WORDS), builder.block
    names = ("next", "look", "start", "work", "through", "end")
    next_, look, start, work, through, end = (function.append_basic_block(name) for name in names)
    builder.branch(next_)

    builder.position_at_end(next_)
    job = builder.phi(WORD)
    builder.cbranch(builder.icmp_signed("<", job, last), look, end)

    builder.position_at_end(look)
    row = builder.mul(job, WORD(2))
    ticket, table = (builder.load(builder.gep(rows, [builder.add(row, WORD(k))])) for k in range(2))
    sleeps = builder.load_atomic(_at(builder, state, SLEEPS), "acquire", 8)
    is_shared = builder.icmp_unsigned(">", builder.lshr(ticket, WORD(32)), WORD(1))
    is_missed = builder.and_(is_shared, builder.icmp_signed("!=", sleeps, WORD(0)))
    builder.cbranch(builder.and_(is_missed, builder.icmp_signed(">", job, first)), end, start)

    builder.position_at_end(start)
    builder.store(table, _at(builder, state, TABLE))
    builder.store_atomic(WORD(0), _at(builder, state, FINISHED), "monotonic", 8)
    builder.store_atomic(ticket, _at(builder, state, TICKET), "release", 8)
    builder.branch(work)

    builder.position_at_end(work)
    worked = builder.icmp_unsigned("!=", builder.call(take, [state, WORD(0)]), WORD(0))
    builder.cbranch(worked, work, through)

    builder.position_at_end(through)
    following = builder.add(job, WORD(1))
    finished = builder.icmp_unsigned("!=", builder.call(wait, [state, patience]), WORD(0))
    job.add_incoming(first, before)
    job.add_incoming(following, through)
    builder.cbranch(finished, next_, end)

    builder.position_at_end(end)
    result = builder.phi(WORD)
    for value, block in ((job, next_), (job, look), (following, through)):
        result.add_incoming(value, block)
    builder.ret(result)


def new_state() -> np.ndarray:
    """Return the state of a team that has no job."""
    return np.zeros(SIZE, np.int64)
