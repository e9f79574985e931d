"""Threads: what is shared out runs once, and on no more of them than allowed."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

import fastcnn
from fastcnn.runtime import threads as parallel
from tests.processes import run_python


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


LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "SLURM_CPUS_PER_TASK")


@pytest.fixture
def default(monkeypatch):
    """Return a function that says how many threads an environment leaves of 16 processors."""
    monkeypatch.setattr(parallel, "available_cpus", lambda: 16)

    def threads(**environment):
        for name in ("FASTCNN_NUM_THREADS", *LIMITS):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        fastcnn.set_num_threads(None)
        return fastcnn.get_num_threads()

    return threads


def test_the_number_of_threads(default):
    assert default() == 16
    fastcnn.set_num_threads(3)
    assert fastcnn.get_num_threads() == parallel.get_num_threads() == 3
    fastcnn.set_num_threads(None)
    assert fastcnn.get_num_threads() == 16


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_of_the_environment_lowers_the_default(default, name):
    assert default(**{name: "3"}) == 3
    assert default(**{name: " 3 "}) == 3
    assert default(**{name: "99"}) == 16
    assert default(**{name: "4,2"}) == default(**{name: "4 , 2"}) == 4
    for nothing in ("", " ", "0"):
        assert default(**{name: nothing}) == 16
    for wrong in ("abc", "-1", "2.5", ",2"):
        with pytest.warns(UserWarning, match=f"{name}='{wrong}': expected a positive int; it is ignored"):
            assert default(**{name: wrong}) == 16


def test_the_lowest_limit_counts_and_what_is_said_of_fastcnn_counts_more(default):
    assert default(OMP_NUM_THREADS="5", SLURM_CPUS_PER_TASK="4", MKL_NUM_THREADS="6") == 4
    assert default(OMP_NUM_THREADS="1", FASTCNN_NUM_THREADS="7") == 7
    assert default(OMP_NUM_THREADS="abc", FASTCNN_NUM_THREADS="20") == 20
    assert default(OMP_NUM_THREADS="3", FASTCNN_NUM_THREADS="") == 3
    for wrong in ("0", "abc", "4,2", "-1"):
        with pytest.raises(ValueError, match=f"FASTCNN_NUM_THREADS: expected a positive int; got '{wrong}'"):
            default(FASTCNN_NUM_THREADS=wrong)
        fastcnn.set_num_threads(2)
        assert fastcnn.get_num_threads() == 2


def test_the_limit_is_what_a_process_uses():
    """Estimators and steps heed it; `threads` and `n_jobs` are stronger."""
    code = (
        "import numpy as np, fastcnn, fastcnn.training.step\n"
        "from fastcnn.runtime import threads as parallel\n"
        "parallel.available_cpus = lambda: 16\n"
        "assert fastcnn.get_num_threads() == 3\n"
        "assert [fastcnn.CNNClassifier(n_jobs=n_jobs)._threads for n_jobs in (None, 5, -1)] == [3, 5, 16]\n"
        "asked = []\n"
        "parallel.run = lambda n, task, threads: [asked.append(threads), *(task(i, 0) for i in range(n))]\n"
        "fastcnn.training.step.SHARD_WORK, fastcnn.training.step.ROW_WORK = 1, 0\n"
        "x, y = np.ones((4, 3), np.float32), [0, 1, 0, 1]\n"
        "for threads in (None, 2):\n"
        "    fastcnn.Trainer(fastcnn.Sequential([fastcnn.Dense(2)]), threads=threads).step(x, y)\n"
        "assert set(asked) == {3, 2}, asked\n"
        "fastcnn.set_num_threads(4)\n"
        "assert fastcnn.get_num_threads() == 4\n"
    )
    run_python(code, FASTCNN_NUM_THREADS="", OMP_NUM_THREADS="8", OPENBLAS_NUM_THREADS="", NUMBA_NUM_THREADS="3")


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
    monkeypatch.setattr(fastcnn.training.step, "SHARD_WORK", 1)
    monkeypatch.setattr(fastcnn.training.step, "ROW_WORK", 0)
    model, x, y = fastcnn.Sequential([fastcnn.Dense(2)]), np.ones((4, 3), np.float32), [0, 1, 0, 1]
    for chosen, own, used in ((3, None, 3), (3, 2, 2), (1, None, 1)):
        fastcnn.set_num_threads(chosen)
        asked.clear()
        fastcnn.Trainer(model, threads=own).step(x, y)
        assert set(asked) == {used}
