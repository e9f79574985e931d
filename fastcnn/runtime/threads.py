"""Threads: how many there may be, and the work that they share out.

Kernels are serial and release the GIL; threads take whole tasks: shards of a batch, pieces of the flat vector. The
thread that asks always works too, so a step ends even if no other is free: two fits at once, a forked child, an
interpreter that is closing.

`Jobs` share out recorded kernel calls in machine code; all steady work of a training step goes through them. `run`
shares out calls of Python: what is recorded just now, layers, losses and optimizers that are not made of kernels, and
the pieces of a long prediction.
"""

from __future__ import annotations

import atexit
import itertools
import operator
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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
PATIENCE = 10000  # turns of a native loop, about 0.2 ms, that are waited before other threads get the processor

_chosen: int | None = None


@cache
def available_cpus() -> int:
    """Return the processors that this process may use: affinity and container quota are respected."""
    import joblib

    return int(joblib.cpu_count())


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

    Raises
    ------
    ValueError
        If `FASTCNN_NUM_THREADS` is no positive int.
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
    limits = [limit for name in LIMITS if (limit := _limit(name)) is not None]
    return min([available_cpus(), *limits])


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


class _Pool:
    """The process's threads for calls of Python, made when first needed."""

    def __init__(self) -> None:
        self.executor: ThreadPoolExecutor | None = None
        self.size = 0

    def submit(self, count: int, work: Callable[[int], None]) -> list[Future[None]]:
        """Ask `count` threads to run `work(1)`, `work(2)`, ...; fewer, if the interpreter is closing."""
        if self.executor is None or self.size < count:
            self.executor = ThreadPoolExecutor(count, thread_name_prefix="fastcnn")
            self.size = count
        try:
            return [self.executor.submit(work, worker) for worker in range(1, count + 1)]
        except RuntimeError:
            return []


_pool = _Pool()


def run(count: int, task: Callable[[int, int], None], threads: int) -> None:
    """Call `task(i, worker)` once for each i < count on up to `threads` threads; the first error is raised again.

    `worker` is below `threads`, and no two calls with the same worker overlap.
    """
    if threads <= 1 or count <= 1:
        for i in range(count):
            task(i, 0)
        return
    queue = itertools.count()

    def work(worker: int) -> None:
        # next() on a counter is atomic: each index is handed out once.
        while (i := next(queue)) < count:
            task(i, worker)

    futures = _pool.submit(min(threads, count) - 1, work)
    try:
        work(0)
    finally:
        # Threads that have not begun are not waited for; the others finish the task they have.
        queue = itertools.count(count)
        running = [future for future in futures if not future.cancel()]
        errors = [error for future in running if (error := future.exception())]
    if errors:
        raise errors[0]


class _Team:
    """A leader, who asks, and helpers, who take recorded calls without the GIL; for one job at a time."""

    def __init__(self) -> None:
        self.state = native.new_state()
        self.functions = native.functions()
        self.helpers: list[_Helper] = []

    def play(self, jobs: Jobs) -> None:
        """Do jobs, on fewer threads if the interpreter is closing and gives no more."""
        while len(self.helpers) < jobs.threads - 1 and not _teams.closing:
            try:
                self.helpers.append(_Helper(self.functions.serve, self.state, len(self.helpers) + 1))
            except RuntimeError:
                break
        address, job = self.state.ctypes.data, 0
        try:
            while job < jobs.count:
                self.state[native.SLEEPS] = 0
                for helper in self.helpers[: jobs.threads - 1]:
                    helper.wake()
                job = self.functions.lead(address, jobs.address, job, jobs.count, PATIENCE)
                self._wait(address)
        finally:
            self._wait(address)

    def _wait(self, address: int) -> None:
        """Wait until the last job that was begun is finished."""
        while not self.functions.wait(address, PATIENCE):
            time.sleep(0)  # a helper with a task left may be waiting for this processor


class _Helper:
    """A thread that serves a team: it waits in native code for a while, then asleep."""

    def __init__(self, serve: Callable[[int, int, int], None], state: IntArray, worker: int) -> None:
        self.asleep, self.closing = False, False
        self.calls: SimpleQueue[None] = SimpleQueue()
        self.thread = threading.Thread(
            target=self._work, args=(serve, state, worker), name=f"fastcnn_{worker}", daemon=True
        )
        self.thread.start()

    def _work(self, serve: Callable[[int, int, int], None], state: IntArray, worker: int) -> None:
        while not self.closing:
            serve(state.ctypes.data, worker, PATIENCE)
            self.asleep = True
            state[native.SLEEPS] = 1
            # Until it had the GIL to say so, a job may have begun that counts on this thread.
            if not native.has_tasks(int(state[native.TICKET]), worker):
                self.calls.get()
            self.asleep = False

    def wake(self) -> None:
        """Let the thread look for tasks, if it does not; a call too many does no harm."""
        if self.asleep:
            self.calls.put(None)

    def close(self) -> None:
        """Let the thread end."""
        self.closing = True
        self.wake()
        self.thread.join(timeout=1)


class _Teams:
    """The process's teams: as many as there are threads that have played at the same time."""

    def __init__(self) -> None:
        self.all: list[_Team] = []
        self.idle: list[_Team] = []
        self.closing = False

    def take(self) -> _Team:
        """Return a team that nobody uses."""
        try:
            return self.idle.pop()
        except IndexError:
            self.all.append(team := _Team())
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
        self.rows = np.array([(native.ticket(t.shape[1], t.shape[0]), t.ctypes.data) for t in tables], np.int64)
        self.address, self.count = self.rows.ctypes.data, len(tables)
        self.threads = max(len(table) for table in tables)

    def play(self) -> None:
        """Do all jobs, each task once; as `run`, without Python in between."""
        team = _teams.take()
        team.play(self)
        _teams.idle.append(team)  # unless something went wrong


def part_of_jobs(tapes: Sequence[Sequence[Tape]]) -> Tape | IntArray | None:
    """Return the part of `Jobs` in which each worker would play these tapes for the tasks; None if Python does more."""
    calls = [[tape.native() for tape in own] for own in tapes]
    if any(None in own for own in calls):
        return None
    return np.array(calls, np.int64) if len(tapes) > 1 else reduce(operator.add, tapes[0], Tape())


class Tasks:
    """Tasks that need not wait for each other, recorded by the first run, and shared out by the others."""

    def __init__(self, tasks: Sequence[Iterable[Call]]) -> None:
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
    global _pool, _teams
    _pool, _teams = _Pool(), _Teams()


def _close() -> None:
    """Let all helpers end: when the interpreter goes, so does the code that they wait in."""
    _teams.closing = True
    for team in _teams.all:
        for helper in team.helpers:
            helper.close()


atexit.register(_close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
