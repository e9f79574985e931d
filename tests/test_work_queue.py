"""Threads that share out jobs: when they sleep, who wakes them, and that they give way on a busy processor."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from fastcnn.runtime import threads as parallel
from fastcnn.runtime import work_queue as native

LONG = 60  # seconds: what has not happened by then does not happen
CODE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Jobs:
    """A job of `workers` tasks for as many threads, each a call of a function of Python; what that raises is kept."""

    def __init__(self, workers: int, function: Callable[[], object]) -> None:
        self.errors: list[BaseException] = []

        def task(_: int | None) -> None:
            try:
                function()
            except BaseException as error:
                self.errors.append(error)

        self.code = CODE(task)
        self.calls = np.array([ctypes.cast(self.code, ctypes.c_void_p).value, 0], np.int64)
        table = np.empty((workers, workers, 2), np.int64)
        table[...] = self.calls.ctypes.data, 1
        self.jobs = parallel.Jobs([table])

    def play(self) -> None:
        """Do the job; raise what a task has raised."""
        self.jobs.play()
        if self.errors:
            raise self.errors[0]


def word(worker: int, place: int) -> int:
    """Return a word of a worker's line, of this thread's team."""
    return int(parallel._teams.mine().state[native.WORKERS + native.LINE * worker + place])


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def meeting(workers: int) -> Callable[[], object]:
    """Return a task that ends when all workers have come to it."""
    barrier = threading.Barrier(workers)
    return lambda: barrier.wait(LONG)


def test_helpers_give_up_when_nothing_comes():
    Jobs(4, meeting(4)).play()
    wait_until(lambda: all(word(helper, native.ASLEEP) for helper in (1, 2, 3)))


def test_all_helpers_are_woken_where_all_are_needed():
    """The leader wakes two; each that finds tasks wakes more, until none sleeps."""
    jobs = Jobs(9, meeting(9))
    for _ in range(20):
        jobs.play()
        wait_until(lambda: all(word(helper, native.ASLEEP) for helper in range(1, 9)))


def test_helpers_that_share_their_processor_wake_each_other():
    jobs = Jobs(5, meeting(5))
    jobs.play()
    state = parallel._teams.mine().state
    for _ in range(20):
        wait_until(lambda: all(word(helper, native.ASLEEP) for helper in range(1, 5)))
        for worker in range(5):
            state[native.WORKERS + native.LINE * worker + native.CAUTIOUS] = native.CAUTION
        jobs.play()


@pytest.mark.parametrize("cautious", [0, native.CAUTION])
def test_a_leader_that_waits_for_long_sleeps(cautious):
    """The last task to be finished is the helper's, which goes on until the leader sleeps: that one must be woken."""
    barrier, leader = threading.Barrier(2), threading.current_thread()
    state = parallel._teams.mine().state

    def task() -> None:
        barrier.wait(LONG)
        if threading.current_thread() is not leader:
            wait_until(lambda: state[native.WORKERS + native.ASLEEP] == 1)

    jobs = Jobs(2, task)
    for _ in range(20):
        state[native.WORKERS + native.CAUTIOUS] = cautious
        jobs.play()
        assert word(0, native.ASLEEP) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a thread how often it was preempted")
def test_threads_on_one_processor_notice_that_they_share_it():
    """Helpers inherit the leader's one processor. Somebody is preempted before long, and is cautious from then on."""
    noticed = []

    def work() -> None:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # of this thread alone
        numbers = np.zeros(1 << 16)
        jobs = Jobs(3, lambda: np.sqrt(numbers, out=numbers))
        end = time.monotonic() + LONG
        while not noticed and time.monotonic() < end:
            jobs.play()
            noticed.extend(worker for worker in range(3) if word(worker, native.CAUTIOUS))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert noticed
