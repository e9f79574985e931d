"""Threads: how many there may be, and the shards that they share out.

Kernels are serial and release the GIL; threads take whole shards. The main thread always works too, so a step ends
even if no other thread is free: two fits at once, a forked child, an interpreter that is closing.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from numbers import Integral

_chosen: int | None = None


@cache
def available_cpus() -> int:
    """Return the processors that this process may use: affinity and container quota are respected."""
    import joblib

    return int(joblib.cpu_count())


def set_num_threads(threads: int | None) -> None:
    """Set how many threads a step may use where `threads` is not given; None means all available processors.

    Raises
    ------
    ValueError
        If `threads` is not a positive int or None.
    """
    global _chosen  # noqa: PLW0603
    _chosen = None if threads is None else check_threads(threads)


def get_num_threads() -> int:
    """Return how many threads a step may use where `threads` is not given."""
    return _chosen or available_cpus()


def check_threads(threads: int) -> int:
    """Return `threads` if it is a positive int."""
    if isinstance(threads, bool) or not isinstance(threads, Integral) or threads < 1:
        raise ValueError(f"threads: expected a positive int or None; got {threads!r}")
    return int(threads)


class _Helpers:
    """The process's helper threads; made when first needed, forgotten in a forked child."""

    def __init__(self) -> None:
        self.pool: ThreadPoolExecutor | None = None
        self.size = 0

    def submit(self, count: int, work: Callable[[int], None]) -> list[Future[None]]:
        """Ask `count` helpers to run `work(1)`, `work(2)`, ...; fewer, if the interpreter is closing."""
        if self.pool is None or self.size < count:
            self.pool = ThreadPoolExecutor(count, thread_name_prefix="fastcnn")
            self.size = count
        try:
            return [self.pool.submit(work, helper) for helper in range(1, count + 1)]
        except RuntimeError:
            return []

    def forget(self) -> None:
        """Begin anew: a fork copies no threads."""
        self.pool = None


_helpers = _Helpers()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helpers.forget)


def run(count: int, task: Callable[[int, int], None], threads: int) -> None:
    """Call `task(i, worker)` once for each i < count on up to `threads` threads; the first error is raised again.

    `worker` is below `threads`, and no two calls with the same worker overlap.
    """
    if count == 1:
        task(0, 0)
        return
    if threads <= 1 or count <= 1:
        for i in range(count):
            task(i, 0)
        return
    queue = itertools.count()

    def work(worker: int) -> None:
        # next() on a counter is atomic: each index is handed out once.
        while (i := next(queue)) < count:
            task(i, worker)

    futures = _helpers.submit(min(threads, count) - 1, work)
    try:
        work(0)
    finally:
        # Helpers that have not begun are not waited for; the others finish the shard they have.
        queue = itertools.count(count)
        running = [future for future in futures if not future.cancel()]
        errors = [error for future in running if (error := future.exception())]
    if errors:
        raise errors[0]
