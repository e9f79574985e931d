"""Threads that share out recorded kernel calls without Python: the native half of `threads`.

Waking a thread takes as long as a small step, and so does a hand-over of the GIL. So helpers spin in machine code for a
while before they sleep, and take tasks without the GIL.

A job is `count` tasks for up to `threads` workers. Its state is one word, the ticket: how many tasks are taken, `count`
and `threads`, 16 bits each. A worker takes a task by compare-and-swap of the ticket. So a worker that has slept past
the end of a job takes nothing by mistake: it finds another ticket, or one without tasks. Row `w · count + i` of the
job's table has what worker w calls for task i, as (address of calls, number of calls).

Jobs follow each other without Python too: a row for each, as (ticket, address of its table). Once begun, all of them
are done, and no thread writes any more, before Python goes on: no exception can come in between.

A worker sleeps on a lock of Python's, which needs no GIL. It first sets its flag, and then checks once more what it
waits for: a helper for tasks, the leader for the end of the last task. Another worker that brings this about first
writes the ticket, or counts the task, and then reads the flag. So at least one of the two sees the other, and the one
that clears the flag, by an atomic exchange, decides: the other worker then opens the lock, the sleeper then stays
awake. The leader wakes some helpers, and each that still finds tasks wakes some more.

Before it sleeps, a worker spins: that saves the wake-up, which takes longer than many jobs. It spins for the jobs'
patience, the leader for LEADER times as long. A worker that has to share its processor slows others down by spinning,
among them those that it waits for. It shares when the system has preempted it since it last looked, and for CAUTION
more spins; then it spins for a turn in BRIEF of the patience, and wakes one helper at a time. Measured with 8 threads
on one busy core, LeNet-5 and four batch norms of 16 x 16 maps: 1.64 and 2.2 times the time of one thread without this,
1.09 and 1.10 with it.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from llvmlite import binding, ir

from ..jit.native import OBJECT, WORD, WORDS, compile_module, emit_python, python_function, undisturbed
from .replay import emit_address, emit_calls

# Words of the state, those that different threads write in cache lines of their own; then a line for each worker.
TICKET, FINISHED, TABLE, CLOSING, PATIENCE, WORKERS, LINE = 0, 8, 16, 24, 25, 32, 8
ASLEEP, LOCK, PREEMPTED, CAUTIOUS = 0, 1, 2, 3  # words of a worker's line; the third counts, the last has spins left
LEADER, BRIEF, CAUTION = 16, 1000, 256
SLEEPERS = 2  # that each wakes who has a processor of its own
RUSAGE_THREAD, RUSAGE_WORDS, RUSAGE_PREEMPTED = 1, 18, 17  # of Linux: struct rusage, and its ru_nivcsw
WORKERS_AT_MOST = 256
MOST = (1 << 16) - 1  # tasks or threads of a job
HEAD = 2  # words of jobs before their rows: how many jobs, and the patience


class Functions(NamedTuple):
    """The native functions.

    Attributes
    ----------
    serve : function (state, worker)
        Take tasks, of any jobs, until the state is closing; sleep when none has come for the jobs' patience.
    wake : function (state, threads, most)
        Wake up to `most` of the helpers below `threads` that sleep.
    lead : function (address of jobs) -> function (address of a state)
        Do job after job, as worker 0, and wait for the others.
    """

    serve: Callable[[int, int], None]
    wake: Callable[[int, int, int], None]
    lead: Callable[[int], Callable[[int], Any]]


def ticket(count: int, threads: int) -> int:
    """Return the ticket of a job of which nothing is taken."""
    return threads << 32 | count << 16


@cache
def functions() -> Functions:
    """Return the functions, compiled at the first call; all of them let go of the GIL while they run."""
    return undisturbed(_compile)


def _compile() -> Functions:
    module = ir.Module()
    rouse, shares = _emit_rouse(module), _emit_shares(module)
    take, wake = _emit_take(module, rouse), _emit_wake(module, rouse)
    wait = _emit_wait(module, shares)
    _emit_serve(module, take, wake, shares)
    _emit_lead(module, take, wait, wake)
    serve_address, wake_address, lead_address = compile_module(module, "serve", "wake", "lead")
    state, number = ctypes.c_void_p, ctypes.c_int64
    serve = ctypes.CFUNCTYPE(None, state, number)(serve_address)
    wake_ = ctypes.CFUNCTYPE(None, state, number, number)(wake_address)
    return Functions(serve, wake_, python_function("lead", lead_address))


def _begin(module: ir.Module, name: str, arguments: int, result: ir.Type) -> tuple[ir.Function, ir.IRBuilder]:
    """Return a function of the state and whole numbers, and a builder at its beginning."""
    function = ir.Function(module, ir.FunctionType(result, [WORDS, *[WORD] * arguments]), name)
    return function, ir.IRBuilder(function.append_basic_block("begin"))


def _at(builder: ir.IRBuilder, state: ir.Value, word: int) -> ir.Value:
    return builder.gep(state, [WORD(word)])


def _emit_take(module: ir.Module, rouse: ir.Function) -> ir.Function:
    """Emit `take(state, worker)`: take one task and do it; 0 if there is none for this worker."""
    function, builder = _begin(module, "take", 1, WORD)
    state, worker = function.args
    again, mine, run, none = (function.append_basic_block(name) for name in ("again", "mine", "run", "none"))
    builder.branch(again)
    builder.position_at_end(again)
    now = builder.load_atomic(_at(builder, state, TICKET), "acquire", 8)
    low = WORD(MOST)
    taken, count = builder.and_(now, low), builder.and_(builder.lshr(now, WORD(16)), low)
    builder.cbranch(_emit_has_tasks(builder, now, worker), mine, none)
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
    finished = builder.atomic_rmw("add", _at(builder, state, FINISHED), WORD(1), "seq_cst")
    with builder.if_then(builder.icmp_unsigned("==", builder.add(finished, WORD(1)), count)):
        builder.call(rouse, [state, WORD(0)])
    builder.ret(WORD(1))
    builder.position_at_end(none)
    builder.ret(WORD(0))
    return function


def _emit_has_tasks(builder: ir.IRBuilder, ticket: ir.Value, worker: ir.Value) -> ir.Value:
    """Emit whether the job with this ticket has tasks left for a worker."""
    taken, count = builder.and_(ticket, WORD(MOST)), builder.and_(builder.lshr(ticket, WORD(16)), WORD(MOST))
    threads = builder.lshr(ticket, WORD(32))
    return builder.and_(builder.icmp_unsigned("<", taken, count), builder.icmp_unsigned("<", worker, threads))


def _emit_pause(builder: ir.IRBuilder) -> None:
    """Emit the processor's hint that this loop waits."""
    machine = binding.get_process_triple().split("-")[0]
    if machine in {"x86_64", "amd64"}:
        hint = ir.FunctionType(ir.VoidType(), [])
        builder.call(builder.module.declare_intrinsic("llvm.x86.sse2.pause", fnty=hint), [])
    elif machine in {"aarch64", "arm64"}:
        hint = ir.FunctionType(ir.VoidType(), [ir.IntType(32)])
        builder.call(builder.module.declare_intrinsic("llvm.aarch64.hint", fnty=hint), [ir.IntType(32)(1)])


def _worker(builder: ir.IRBuilder, state: ir.Value, worker: ir.Value, word: int) -> ir.Value:
    """Emit where a word of a worker's line is."""
    return builder.gep(state, [builder.add(builder.mul(worker, WORD(LINE)), WORD(WORKERS + word))])


def _emit_shares(module: ir.Module) -> ir.Function:
    """Emit `shares(state, worker)`: whether the worker, who calls, has to share its processor: it spins briefly then.

    Linux alone tells a thread how often it was preempted; elsewhere no worker is known to share.
    """
    function, builder = _begin(module, "shares", 1, WORD)
    if sys.platform != "linux":
        builder.ret(WORD(0))
        return function
    state, worker = function.args
    usage = builder.alloca(WORD, RUSAGE_WORDS)
    address = ctypes.cast(ctypes.CDLL(None).getrusage, ctypes.c_void_p).value
    getrusage = ir.FunctionType(ir.IntType(32), [ir.IntType(32), WORDS])
    builder.call(builder.inttoptr(WORD(address), getrusage.as_pointer()), [ir.IntType(32)(RUSAGE_THREAD), usage])
    preempted = builder.load(builder.gep(usage, [WORD(RUSAGE_PREEMPTED)]))
    before, left = (_worker(builder, state, worker, word) for word in (PREEMPTED, CAUTIOUS))
    spins = builder.load(left)
    fewer = builder.select(builder.icmp_signed(">", spins, WORD(0)), builder.sub(spins, WORD(1)), spins)
    again = builder.icmp_signed("!=", preempted, builder.load(before))
    spins = builder.select(again, WORD(CAUTION), fewer)
    builder.store(preempted, before)
    builder.store(spins, left)
    builder.ret(builder.zext(builder.icmp_signed(">", spins, WORD(0)), WORD))
    return function


def _emit_sleepers(builder: ir.IRBuilder, state: ir.Value, worker: ir.Value) -> ir.Value:
    """Emit how many helpers a worker wakes."""
    cautious = builder.icmp_signed(">", builder.load(_worker(builder, state, worker, CAUTIOUS)), WORD(0))
    return builder.select(cautious, WORD(1), WORD(SLEEPERS))


def _emit_patience(builder: ir.IRBuilder, state: ir.Value, worker: ir.Value, shares: ir.Function) -> ir.Value:
    """Emit how many turns the worker spins for before it looks whether it still may."""
    patience = builder.load_atomic(_at(builder, state, PATIENCE), "monotonic", 8)
    brief = builder.icmp_signed("!=", builder.call(shares, [state, worker]), WORD(0))
    return builder.select(brief, builder.udiv(patience, WORD(BRIEF)), patience)


def _emit_sleep(builder: ir.IRBuilder, state: ir.Value, worker: ir.Value) -> None:
    """Emit that a worker whose flag says so sleeps, until another one opens its lock."""
    lock = builder.inttoptr(builder.load(_worker(builder, state, worker, LOCK)), OBJECT)
    emit_python(builder, "PyThread_acquire_lock", ir.IntType(32), [lock, ir.IntType(32)(1)])


def _emit_lie_down(builder: ir.IRBuilder, state: ir.Value, worker: ir.Value, has_come: Callable[[], ir.Value]) -> None:
    """Emit that a worker sleeps unless what it waits for has come meanwhile."""
    asleep = _worker(builder, state, worker, ASLEEP)
    builder.store_atomic(WORD(1), asleep, "seq_cst", 8)
    with builder.if_else(has_come()) as (come, not_come):
        with come:
            was = builder.atomic_rmw("xchg", asleep, WORD(0), "seq_cst")
            with builder.if_then(builder.icmp_signed("==", was, WORD(0))):  # the lock is just being opened
                _emit_sleep(builder, state, worker)
        with not_come:
            _emit_sleep(builder, state, worker)


def _emit_spin(
    builder: ir.IRBuilder, patience: ir.Value, has_come: Callable[[], ir.Value], come: ir.Block, tired: ir.Block
) -> None:
    """Emit a loop of so many turns that goes to `come` when what it waits for has come, and to `tired` at its end."""
    begin = builder.block
    look, pause = (builder.append_basic_block(name) for name in ("look", "pause"))
    builder.branch(look)
    builder.position_at_end(look)
    turn = builder.phi(WORD)
    builder.cbranch(has_come(), come, pause)
    builder.position_at_end(pause)
    _emit_pause(builder)
    following = builder.add(turn, WORD(1))
    builder.cbranch(builder.icmp_unsigned("<", following, patience), look, tired)
    for value, block in ((WORD(0), begin), (following, pause)):
        turn.add_incoming(value, block)


def _emit_wait(module: ir.Module, shares: ir.Function) -> ir.Function:
    """Emit `wait(state)`: return when all tasks are finished."""
    function, builder = _begin(module, "wait", 0, ir.VoidType())
    (state,) = function.args
    leader = WORD(0)
    ticket = builder.load_atomic(_at(builder, state, TICKET), "acquire", 8)
    count = builder.and_(builder.lshr(ticket, WORD(16)), WORD(MOST))

    def is_finished() -> ir.Value:
        finished = builder.load_atomic(_at(builder, state, FINISHED), "seq_cst", 8)
        return builder.icmp_unsigned(">=", finished, count)

    spin, round_, tired, sleep, end = (
        function.append_basic_block(name) for name in ("spin", "round", "tired", "sleep", "end")
    )
    builder.cbranch(is_finished(), end, spin)

    builder.position_at_end(spin)
    builder.branch(round_)

    builder.position_at_end(round_)
    rounds = builder.phi(WORD)
    full = builder.load_atomic(_at(builder, state, PATIENCE), "monotonic", 8)
    patience = _emit_patience(builder, state, leader, shares)
    most = builder.select(builder.icmp_unsigned("<", patience, full), WORD(1), WORD(LEADER))
    _emit_spin(builder, patience, is_finished, end, tired)

    builder.position_at_end(tired)
    another = builder.add(rounds, WORD(1))
    builder.cbranch(builder.icmp_unsigned("<", another, most), round_, sleep)
    for value, block in ((WORD(0), spin), (another, tired)):
        rounds.add_incoming(value, block)

    builder.position_at_end(sleep)
    _emit_lie_down(builder, state, leader, is_finished)
    builder.cbranch(is_finished(), end, spin)  # one who was late to open the lock may have woken us

    builder.position_at_end(end)
    builder.ret_void()
    return function


def _emit_rouse(module: ir.Module) -> ir.Function:
    """Emit `rouse(state, worker)`: wake a worker if it sleeps; 1 if it did."""
    function, builder = _begin(module, "rouse", 1, WORD)
    state, worker = function.args
    asleep = _worker(builder, state, worker, ASLEEP)

    def is_up(flag: ir.Value) -> ir.Value:
        return builder.icmp_signed("!=", flag, WORD(0))

    with builder.if_then(is_up(builder.load_atomic(asleep, "seq_cst", 8))):
        was = builder.atomic_rmw("xchg", asleep, WORD(0), "seq_cst")
        with builder.if_then(is_up(was)):
            lock = builder.inttoptr(builder.load(_worker(builder, state, worker, LOCK)), OBJECT)
            emit_python(builder, "PyThread_release_lock", ir.VoidType(), [lock])
            builder.ret(WORD(1))
    builder.ret(WORD(0))
    return function


def _emit_wake(module: ir.Module, rouse: ir.Function) -> ir.Function:
    """Emit `wake(state, threads, most)`."""
    function, builder = _begin(module, "wake", 2, ir.VoidType())
    state, threads, most = function.args
    before = builder.block
    look, next_, end = (function.append_basic_block(name) for name in ("look", "next", "end"))
    within = builder.select(builder.icmp_unsigned("<", threads, WORD(WORKERS_AT_MOST)), threads, WORD(WORKERS_AT_MOST))
    builder.cbranch(builder.icmp_unsigned("<", WORD(1), within), look, end)
    builder.position_at_end(look)
    worker, woken = builder.phi(WORD), builder.phi(WORD)
    now = builder.add(woken, builder.call(rouse, [state, worker]))
    builder.cbranch(builder.icmp_unsigned("<", now, most), next_, end)
    builder.position_at_end(next_)
    following = builder.add(worker, WORD(1))
    builder.cbranch(builder.icmp_unsigned("<", following, within), look, end)
    for number, first, later in ((worker, WORD(1), following), (woken, WORD(0), now)):
        number.add_incoming(first, before)
        number.add_incoming(later, next_)
    builder.position_at_end(end)
    builder.ret_void()
    return function


def _emit_serve(module: ir.Module, take: ir.Function, wake: ir.Function, shares: ir.Function) -> None:
    """Emit `serve(state, worker)`: each task taken renews the patience."""
    function, builder = _begin(module, "serve", 1, ir.VoidType())
    state, worker = function.args

    def has_work(now: ir.Value) -> ir.Value:
        closing = builder.icmp_signed("!=", builder.load_atomic(_at(builder, state, CLOSING), "seq_cst", 8), WORD(0))
        return builder.or_(closing, _emit_has_tasks(builder, now, worker))

    def ticket() -> ir.Value:
        return builder.load_atomic(_at(builder, state, TICKET), "seq_cst", 8)

    names = ("work", "spin", "tired", "awake", "share", "end")
    work, spin, tired, awake, share, end = (function.append_basic_block(name) for name in names)
    builder.branch(work)

    builder.position_at_end(work)
    worked = builder.icmp_unsigned("!=", builder.call(take, [state, worker]), WORD(0))
    builder.cbranch(worked, work, spin)

    builder.position_at_end(spin)
    patience = _emit_patience(builder, state, worker, shares)
    _emit_spin(builder, patience, lambda: _emit_has_tasks(builder, ticket(), worker), work, tired)

    builder.position_at_end(tired)
    _emit_lie_down(builder, state, worker, lambda: has_work(ticket()))
    builder.branch(awake)

    builder.position_at_end(awake)
    closed = builder.load_atomic(_at(builder, state, CLOSING), "seq_cst", 8)
    builder.cbranch(builder.icmp_signed("!=", closed, WORD(0)), end, share)

    builder.position_at_end(share)
    now = ticket()
    with builder.if_then(_emit_has_tasks(builder, now, worker)):
        builder.call(wake, [state, builder.lshr(now, WORD(32)), _emit_sleepers(builder, state, worker)])
    builder.branch(work)

    builder.position_at_end(end)
    builder.ret_void()


def _emit_lead(module: ir.Module, take: ir.Function, wait: ir.Function, wake: ir.Function) -> None:
    """Emit `lead`, a function of two objects of Python: the addresses of jobs and of a state."""
    function = ir.Function(module, ir.FunctionType(OBJECT, [OBJECT] * 2), "lead")
    builder = ir.IRBuilder(function.append_basic_block("begin"))
    jobs, state = (emit_address(builder, argument) for argument in function.args)
    count, patience = (builder.load(builder.gep(jobs, [WORD(k)])) for k in range(HEAD))
    names = ("next", "start", "shared", "work", "through", "end")
    next_, start, shared, work, through, end = (function.append_basic_block(name) for name in names)
    thread = emit_python(builder, "PyEval_SaveThread", OBJECT)
    builder.store_atomic(patience, _at(builder, state, PATIENCE), "monotonic", 8)
    before = builder.block
    builder.branch(next_)

    builder.position_at_end(next_)
    job = builder.phi(WORD)
    builder.cbranch(builder.icmp_signed("<", job, count), start, end)

    builder.position_at_end(start)
    threads = _emit_start(builder, state, jobs, job)
    builder.cbranch(builder.icmp_unsigned(">", threads, WORD(1)), shared, work)

    builder.position_at_end(shared)
    builder.call(wake, [state, threads, _emit_sleepers(builder, state, WORD(0))])
    builder.branch(work)

    builder.position_at_end(work)
    worked = builder.icmp_unsigned("!=", builder.call(take, [state, WORD(0)]), WORD(0))
    builder.cbranch(worked, work, through)

    builder.position_at_end(through)
    builder.call(wait, [state])
    job.add_incoming(WORD(0), before)
    job.add_incoming(builder.add(job, WORD(1)), through)
    builder.branch(next_)

    builder.position_at_end(end)
    emit_python(builder, "PyEval_RestoreThread", ir.VoidType(), [thread])
    builder.ret(emit_python(builder, "PyBool_FromLong", OBJECT, [WORD(1)]))


def _emit_start(builder: ir.IRBuilder, state: ir.Value, jobs: ir.Value, job: ir.Value) -> ir.Value:
    """Emit that a job of a table is there for all workers, its ticket last; return how many threads it is for."""
    row = builder.add(builder.mul(job, WORD(2)), WORD(HEAD))
    ticket, table = (builder.load(builder.gep(jobs, [builder.add(row, WORD(k))])) for k in range(2))
    builder.store(table, _at(builder, state, TABLE))
    builder.store_atomic(WORD(0), _at(builder, state, FINISHED), "monotonic", 8)
    builder.store_atomic(ticket, _at(builder, state, TICKET), "seq_cst", 8)
    return builder.lshr(ticket, WORD(32))


def new_state() -> np.ndarray:
    """Return the state of a team that has no job."""
    return np.zeros(WORKERS + WORKERS_AT_MOST * LINE, np.int64)


def new_lock() -> int:
    """Return the address of a lock that is closed; it stays as long as the process."""
    allocate = ctypes.PYFUNCTYPE(ctypes.c_void_p)(("PyThread_allocate_lock", ctypes.pythonapi))
    acquire = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)(
        ("PyThread_acquire_lock", ctypes.pythonapi)
    )
    address = allocate()
    if not address:
        raise MemoryError("no lock for another thread")
    acquire(address, 1)
    return int(address)
