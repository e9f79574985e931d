"""Threads: what is shared out runs once, and on no more of them than allowed."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

import fastcnn
from fastcnn import parallel


def sum_of_squares(count: int, threads: int) -> int:
    results = [0] * count

    def task(i: int, worker: int) -> None:
        results[i] += i * i

    parallel.run(count, task, threads)
    return sum(results)


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 100])
def test_each_task_runs_once(count, threads):
    assert sum_of_squares(count, threads) == sum(i * i for i in range(count))


def test_no_worker_is_in_two_places():
    """A worker's number stands for its memory: two calls with one number never overlap."""
    busy, lock, clashes, seen = set(), threading.Lock(), [], set()

    def task(i: int, worker: int) -> None:
        with lock:
            clashes.extend([i] if worker in busy else [])
            busy.add(worker)
            seen.add(worker)
        time.sleep(0.001)
        with lock:
            busy.remove(worker)

    for _ in range(10):
        parallel.run(16, task, 4)
    assert not clashes
    assert seen <= {0, 1, 2, 3}


def test_an_error_in_a_task_arrives_and_leaves_the_helpers_whole():
    def task(i: int, worker: int) -> None:
        if i % 3 == 2:
            raise LookupError(f"task {i}")

    for threads in (1, 2, 4):
        with pytest.raises(LookupError, match="task"):
            parallel.run(8, task, threads)
        assert sum_of_squares(50, threads) == 40425


def test_tasks_within_tasks():
    """A task may itself share out work, though all helpers are busy."""
    totals = [0] * 6

    def task(i: int, worker: int) -> None:
        totals[i] = sum_of_squares(20, 3)

    parallel.run(6, task, 3)
    assert totals == [2470] * 6


def test_more_threads_later():
    for threads in (2, 5, 3):
        assert sum_of_squares(50, threads) == 40425


def test_the_number_of_threads():
    available = fastcnn.parallel.available_cpus()
    assert parallel.get_num_threads() == available >= 1
    fastcnn.set_num_threads(3)
    assert parallel.get_num_threads() == 3
    fastcnn.set_num_threads(None)
    assert parallel.get_num_threads() == available


def test_numpys_whole_numbers_are_whole_numbers():
    fastcnn.set_num_threads(np.int64(2))
    assert parallel.get_num_threads() == 2


@pytest.mark.parametrize("threads", [0, -1, True, 1.5, "2"])
def test_what_is_no_number_of_threads(threads):
    model = fastcnn.Sequential([fastcnn.Dense(2)])
    for ask in (fastcnn.set_num_threads, lambda threads: fastcnn.Trainer(model, threads=threads)):
        with pytest.raises(
            (ValueError, TypeError), match=rf"threads: expected a positive int or None; got {threads!r}"
        ):
            ask(threads)
    assert parallel.get_num_threads() == parallel.available_cpus()


def test_the_chosen_number_is_what_a_step_uses(monkeypatch):
    asked = []
    run = parallel.run

    def watched(count, task, threads):
        asked.append(threads)
        run(count, task, threads)

    monkeypatch.setattr(parallel, "run", watched)
    monkeypatch.setattr(fastcnn.step, "SHARD_WORK", 1)
    model, x, y = fastcnn.Sequential([fastcnn.Dense(2)]), np.ones((4, 3), np.float32), [0, 1, 0, 1]
    for chosen, own, used in ((3, None, 3), (3, 2, 2), (1, None, 1)):
        fastcnn.set_num_threads(chosen)
        asked.clear()
        fastcnn.Trainer(model, threads=own).step(x, y)
        assert set(asked) == {used}
