"""Threads: how many there may be, and the work that they share out.

Kernels are serial and release the GIL; threads take whole tasks: shards of a batch, chunks of the flat vector. The
thread that asks always works too, so a step ends even if no other is free: two fits at once, a forked child, an
interpreter that is closing.

`Jobs` share out recorded kernel calls in machine code; all steady work of a training step goes through them. `run`
shares out calls of Python: what is recorded just now, layers, losses and optimizers that are not made of kernels, and
the chunks of a long prediction.
"""

from __future__ import annotations

import atexit
import itertools
import operator
import os
import threading
import warnings
from _thread import start_new_thread
from collections.abc import Callable, Sequence
from functools import cache, reduce
from numbers import Integral
from queue import SimpleQueue

import numpy as np

from ..typing import IntArray
from . import work_queue as native
from .record import Call, record_calls
from .tape import Tape

VARIABLE = "FASTCNN_NUM_THREADS"  # wins over the limits below: BLAS often has one thread where fastcnn shall have more
LIMITS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "SLURM_CPUS_PER_TASK",
)  # fmt: skip
PATIENCE = 10000  # turns of a native loop, about 0.2 ms, that a helper spins for before it sleeps

_chosen: int | None = None
_share: int | None = None


@cache
def available_cpus() -> int:
    """Return the processors that this process may use: affinity and container quota are respected."""
    import joblib

    return int(joblib.cpu_count())


def at_once(threads: int) -> int:
    """Return how many of so many threads run at the same time: those that share a processor take turns."""
    return min(threads, available_cpus())


def set_num_threads(threads: int | None) -> None:
    """Set how many threads a step or a prediction may use where `threads` is not given.

    Parameters
    ----------
    threads : int or None
        None returns to the default: `FASTCNN_NUM_THREADS` if it is set; else the processors that this process may use
        (affinity and container quota count), or fewer where `OMP_NUM_THREADS`, `OPENBLAS_NUM_THREADS`,
        `MKL_NUM_THREADS`, `NUMBA_NUM_THREADS` or `SLURM_CPUS_PER_TASK` says so.

    Raises
    ------
    ValueError
        If `threads` is not a positive int or None.

    See Also
    --------
    get_num_threads : How many threads a call may use.

    Notes
    -----
    From the strongest to the weakest: `threads=` (of an estimator, a positive `n_jobs`), this function,
    `FASTCNN_NUM_THREADS`, the other variables. The variables are read when the number is first needed, and again by
    `set_num_threads(None)`. Of a list, as in `OMP_NUM_THREADS=4,2`, the first number counts. An empty value and 0 set
    nothing; anything else that is not a number is ignored with a warning, and refused for `FASTCNN_NUM_THREADS`.

    Examples
    --------
    >>> import fastcnn
    >>> fastcnn.set_num_threads(2)
    >>> fastcnn.get_num_threads()
    2
    >>> fastcnn.set_num_threads(None)
    """
    global _chosen  # noqa: PLW0603
    _chosen = None if threads is None else check_threads(threads)
    _default_threads.cache_clear()


def get_num_threads() -> int:
    """Return how many threads a step or a prediction may use where `threads` is not given; see `set_num_threads`.

    Returns
    -------
    int
        At least 1.

    Raises
    ------
    ValueError
        If `FASTCNN_NUM_THREADS` is no positive int.

    See Also
    --------
    set_num_threads : Sets how many threads a call may use.

    Examples
    --------
    >>> import fastcnn
    >>> fastcnn.get_num_threads() >= 1
    True
    """
    return _chosen or _default_threads()


@cache
def _default_threads() -> int:
    """Return what the environment says; without any setting, all available processors."""
    own = os.environ.get(VARIABLE, "").strip()
    if own:
        if not own.isdecimal() or int(own) < 1:
            raise ValueError(f"{VARIABLE}: expected a positive int; got {own!r}")
        return int(own)
    return min([available_cpus(), *_limits(), *([] if _share is None else [_share])])


def asked_threads() -> int | None:
    """Return the default number of threads that the user has set; None if none is set."""
    if _chosen or os.environ.get(VARIABLE, "").strip():
        return get_num_threads()
    return min(_limits(), default=None)


def _limits() -> list[int]:
    """Return the limits that the environment sets."""
    return [limit for name in LIMITS if (limit := _limit(name)) is not None]


def limit_threads(share: int) -> None:
    """Limit the default number of threads to this process's share of the processors: it runs beside others."""
    global _share  # noqa: PLW0603
    _share = share
    _default_threads.cache_clear()


def _limit(name: str) -> int | None:
    """Return the number that an environment variable sets; None if it sets none."""
    value = os.environ.get(name, "")
    first = value.split(",")[0].strip()
    if not value.strip() or first == "0":
        return None
    if not first.isdecimal():
        warnings.warn(f"{name}={value!r}: expected a positive int; it is ignored", stacklevel=2)
        return None
    return int(first)


def check_threads(threads: int) -> int:
    """Return `threads` if it is a positive int."""
    if isinstance(threads, bool) or not isinstance(threads, Integral) or threads < 1:
        raise ValueError(f"threads: expected a positive int or None; got {threads!r}")
    return int(threads)


# Threads begin by `start_new_thread`, and wait in C: an exception in the middle of `Thread.start`, or of a method of
# `ThreadPoolExecutor`, can leave one of their locks closed for ever.


class _Pool:
    """The process's threads for calls of Python, made when first needed."""

    def __init__(self) -> None:
        self.calls: SimpleQueue[tuple[Callable[[int], None], int]] = SimpleQueue()
        self.size = 0

    def submit(self, count: int, work: Callable[[int], None]) -> None:
        """Ask `count` threads to run `work(1)`, `work(2)`, ...; fewer, if the interpreter is closing."""
        while self.size < count:
            if not _begin(self._serve):
                break
            self.size += 1
        for worker in range(1, min(count, self.size) + 1):
            self.calls.put((work, worker))

    def _serve(self) -> None:
        while True:
            work, worker = self.calls.get()
            work(worker)
            del work


def _begin(function: Callable[[], None]) -> bool:
    """Run a function in a new daemon thread; return False if the system, or a closing interpreter, gives none."""
    if _teams.closing:
        return False
    try:
        start_new_thread(function, ())
    except RuntimeError:
        return False
    return True


class _Crew:
    """The threads that share out the tasks of one `run`.

    Each holds a lock while it works, which a `with` opens whatever happens: so it can be told at any later time whether
    a thread still works, also if the `run` was torn off while it waited.
    """

    def __init__(self, count: int, task: Callable[[int, int], None], threads: int) -> None:
        self.count, self.task, self.queue = count, task, itertools.count()
        self.errors: list[BaseException] = []
        self.closed = False
        self.waits, self.works = threading.Lock(), [threading.Lock() for _ in range(threads)]

    def work(self, worker: int) -> None:
        """Do tasks while there are some."""
        with self.works[worker]:
            try:
                # next() on a counter is atomic: each index is handed out once.
                while not self.closed and (i := next(self.queue)) < self.count:
                    self.task(i, worker)
            except BaseException as error:
                self.errors.append(error)
                if worker == 0:
                    self.closed = True

    def finish(self) -> None:
        """Wait for the threads that run a task; a thread that begins later finds none."""
        self.closed = True
        for lock in self.works:
            with lock:
                pass


_pool, _crews = _Pool(), set[_Crew]()


def run(count: int, task: Callable[[int, int], None], threads: int) -> None:
    """Call `task(i, worker)` once for each i < count on up to `threads` threads; the first error is raised again.

    `worker` is below `threads`, and no two calls with the same worker overlap.
    """
    if threads <= 1 or count <= 1:
        for i in range(count):
            task(i, 0)
        return
    crew = _Crew(count, task, min(threads, count))
    with crew.waits:
        _crews.add(crew)
        try:
            _pool.submit(min(threads, count) - 1, crew.work)
            crew.work(0)
        finally:
            crew.finish()
    _crews.discard(crew)
    if crew.errors:
        error = crew.errors[0]
        crew.errors.clear()  # else crew and traceback would keep each other, and buffers, until they are collected
        try:
            raise error
        finally:
            del error


def drain() -> None:
    """Wait for the tasks of each `run` that was torn off, by a second Ctrl-C for instance, while others worked."""
    for crew in list(_crews):
        if not crew.waits.locked():
            crew.finish()
            _crews.discard(crew)


class _Team:
    """A leader, which submits jobs, and helper threads, which run recorded calls without the GIL; one job at a time."""

    def __init__(self, owner: threading.Thread) -> None:
        self.owner = owner
        self.state = native.new_state()
        self.address = int(self.state.ctypes.data)
        self.state[native.WORKERS + native.LOCK] = native.new_lock()  # the leader's own
        self.helpers: list[_Helper] = []
        self.ready = 0  # helpers that were started

    def start(self, count: int) -> None:
        """See to it that so many helpers serve; fewer, if the interpreter is closing and gives no more."""
        count = min(count, native.WORKERS_AT_MOST - 1)
        while len(self.helpers) < count:
            self.helpers.append(_Helper(self, len(self.helpers) + 1))
        for helper in self.helpers[self.ready : count]:
            if not helper.serves and not _begin(helper.serve):
                return
        self.ready = max(self.ready, count)

    def close(self) -> None:
        """Let all helpers end."""
        self.state[native.CLOSING] = 1
        native.functions().wake(self.address, native.WORKERS_AT_MOST, native.WORKERS_AT_MOST)
        for helper in self.helpers:
            if helper.serves:
                helper.claim.acquire(timeout=1)


class _Helper:
    """A thread that serves a team.

    An exception may leave it open whether the thread was asked for; then another one is. The first to take the claim
    serves, the others end: never do two threads work as the same worker.
    """

    def __init__(self, team: _Team, worker: int) -> None:
        self.team, self.worker = team, worker
        self.claim, self.serves = threading.Lock(), False
        team.state[native.WORKERS + native.LINE * worker + native.LOCK] = native.new_lock()

    def serve(self) -> None:
        """Take tasks, until the team is closed."""
        if self.claim.acquire(blocking=False):
            self.serves = True
            native.functions().serve(self.team.address, self.worker)
            self.claim.release()


class _Teams:
    """The process's teams: one for each thread that plays jobs, and then for another one."""

    def __init__(self) -> None:
        self.all: list[_Team] = []
        self.lock = threading.RLock()
        self.own = threading.local()
        self.closing = False

    def mine(self) -> _Team:
        """Return the team of this thread; it is known by its owner, so no exception can lose it."""
        team: _Team | None = getattr(self.own, "team", None)
        if team is None:
            me = threading.current_thread()
            with self.lock:
                team = next((one for one in self.all if one.owner is me or not one.owner.is_alive()), None)
                if team is None:
                    self.all.append(team := _Team(me))
                team.owner = me
            self.own.team = team
        return team


_teams = _Teams()


class Jobs:
    """Recorded calls that threads share out, job after job: none begins before the last one is finished.

    Parameters
    ----------
    parts : sequence of int64 array of shape (threads, tasks, 2), or of Tape
        What each worker would call for each task: address and number, see `Tape.native`. A tape is for one thread.
    """

    def __init__(self, parts: Sequence[IntArray | Tape]) -> None:
        tables = [np.array([[part.native()]], np.int64) if isinstance(part, Tape) else part for part in parts]
        self.kept = parts, tables  # alive
        rows = [(native.ticket(table.shape[1], table.shape[0]), table.ctypes.data) for table in tables]
        self.words = np.array([len(rows), PATIENCE, *(word for row in rows for word in row)], np.int64)
        self.lead = native.functions().lead(int(self.words.ctypes.data))
        self.helpers = max(len(table) for table in tables) - 1

    def play(self) -> None:
        """Do all jobs, each task once; as `run`, without Python in between.

        No exception, not Ctrl-C either, can end it in the middle.
        """
        team = _teams.mine()
        if team.ready < self.helpers:
            team.start(self.helpers)
        self.lead(team.address)


def part_of_jobs(tapes: Sequence[Sequence[Tape]]) -> Tape | IntArray | None:
    """Return the part of `Jobs` in which each worker would play these tapes for the tasks; None if Python does more."""
    calls = [[tape.native() for tape in own] for own in tapes]
    if any(None in own for own in calls):
        return None
    return np.array(calls, np.int64) if len(tapes) > 1 else reduce(operator.add, tapes[0], Tape())


class Tasks:
    """Tasks that need not wait for each other, recorded by the first run, and shared out by the others."""

    def __init__(self, tasks: Sequence[Sequence[Call]]) -> None:
        self.tasks = tasks
        self.tapes: list[Tape] = []
        self.jobs: dict[int, Jobs | None] = {}

    def run(self, threads: int) -> None:
        """Make the calls of all tasks."""
        if not self.tapes:
            self.tapes = [record_calls(task) for task in self.tasks]
            return
        if threads not in self.jobs:
            part = self.part(threads)
            self.jobs[threads] = None if part is None else Jobs([part])
        jobs = self.jobs[threads]
        if jobs is None:
            run(len(self.tapes), lambda task, worker: self.tapes[task].play(), threads)
        else:
            jobs.play()

    def part(self, threads: int) -> Tape | IntArray | None:
        """Return what was recorded as a part of `Jobs`, if it is nothing but kernels."""
        return part_of_jobs([self.tapes] * min(threads, len(self.tapes)))


def _forget() -> None:
    """Begin anew in a forked child: a fork copies no threads."""
    global _pool, _crews, _teams
    _pool, _crews, _teams = _Pool(), set[_Crew](), _Teams()


def _close() -> None:
    """Let all helpers end: when the interpreter goes, so does the code that they wait in."""
    _teams.closing = True
    for team in _teams.all:
        team.close()


atexit.register(_close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
