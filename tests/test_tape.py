"""Recorded kernel calls: what is repeated, in which order, and by whom."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from fastcnn.engine.arrays import aligned_zeros
from fastcnn.jit.recorder import recording
from fastcnn.kernels import activation, update
from fastcnn.kernels.maps import Maps
from fastcnn.runtime import threads as parallel
from fastcnn.runtime.tape import Tape
from tests.arrays import both_dtypes

SIZE = 16


def counter(dtype=np.float32) -> np.ndarray:
    return aligned_zeros(SIZE, dtype)


def add_one(theta: np.ndarray) -> None:
    """theta += 1, with a kernel of the updates."""
    rates = np.array([1, 0, 1], theta.dtype)  # scale, decay, minus the learning rate
    update.sgd(theta, np.ones_like(theta), 1, 0, theta.size, rates)


def recorded(theta: np.ndarray) -> Tape:
    tape = Tape()
    with recording(tape):
        add_one(theta)
    return tape


@both_dtypes
def test_a_recorded_call_is_repeated(dtype):
    theta = counter(dtype)
    tape = recorded(theta)
    for _ in range(3):
        tape.play()
    np.testing.assert_array_equal(theta, 4)


@both_dtypes
def test_arguments_of_all_kinds_arrive(dtype):
    """Whole numbers, truth values, floats of both widths, arrays of one and two dimensions, records: as in a call."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(64).astype(dtype)
    row = np.arange(4, dtype=np.int32) * 16
    y, again = np.zeros_like(x), np.zeros_like(x)
    tape = Tape()
    with recording(tape):
        activation.copy(Maps(x, row), Maps(y, row), 4, 16, False)
        update.average(again, x, 0, 64, np.array([0.5, 0.25], dtype))
    y[...], again[...] = 0, 1
    x += 1
    tape.play()
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(again, dtype(0.5) + dtype(0.25) * x)


def test_a_recording_that_is_torn_off_disturbs_no_later_one():
    """Its generator is closed when the traceback that holds it is collected, which may be in the middle of another."""
    torn, tape, theta = recording(Tape()), Tape(), counter()
    torn.__enter__()
    with recording(tape):
        add_one(theta)
        del torn
        add_one(theta)
    tape.play()
    np.testing.assert_array_equal(theta, 4)


def test_other_calls_keep_their_place():
    """A call of Python between kernels sees what those before it have done, and not more."""
    theta, seen = counter(), []
    tape = recorded(theta)
    tape.add(lambda: seen.append(theta[0]), ())
    for call in tape._calls[:1] * 2:
        tape.add_kernel(*call)
    tape.play()
    tape.play()
    assert seen == [2, 5]
    assert theta[0] == 7
    assert tape.native() is None


def test_a_tape_of_nothing_but_kernels_is_one_native_call():
    address, count = recorded(counter()).native()
    assert address
    assert count == 1
    assert Tape().native() == (0, 0)


def job(workers: int, tasks: int) -> tuple[np.ndarray, list[np.ndarray], list[Tape]]:
    """Return a table in which task i counts up `counters[i]`, whoever does it."""
    counters = [counter() for _ in range(tasks)]
    tapes = [recorded(theta) for _ in range(workers) for theta in counters]
    for theta in counters:
        theta[...] = 0
    return np.array([tape.native() for tape in tapes], np.int64).reshape(workers, tasks, 2), counters, tapes


@pytest.mark.parametrize(("workers", "tasks"), [(2, 8), (4, 8), (3, 1), (5, 3)])
def test_each_task_is_done_once_in_each_job(workers, tasks):
    table, counters, _tapes = job(workers, tasks)
    for turn in range(300):
        parallel.Jobs([table]).play()
        assert [int(theta[0]) for theta in counters] == [turn + 1] * tasks


def test_jobs_of_several_threads_do_not_mix():
    """Each caller has helpers of its own; what one finds finished is its own job."""
    jobs = [job(2, 4) for _ in range(3)]
    errors = []

    def work(table: np.ndarray, counters: list[np.ndarray]) -> None:
        for turn in range(200):
            parallel.Jobs([table]).play()
            if [int(theta[0]) for theta in counters] != [turn + 1] * 4:
                errors.append(turn)

    threads = [threading.Thread(target=work, args=(table, counters)) for table, counters, _ in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not errors
    assert not any(thread.is_alive() for thread in threads)


def test_fewer_threads_after_more():
    """Helpers that a job does not want leave its tasks alone: they have no row in its table."""
    wide, wide_counters, _wide_tapes = job(4, 6)
    narrow, narrow_counters, _narrow_tapes = job(2, 6)
    for _ in range(100):
        parallel.Jobs([wide]).play()
        parallel.Jobs([narrow]).play()
    assert all(theta[0] == 100 for theta in wide_counters + narrow_counters)


@pytest.mark.parametrize("patience", [1, parallel.PATIENCE], ids=["asleep", "awake"])
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_job_begins_when_the_last_one_is_finished(workers, patience, monkeypatch):
    """Between two jobs of several tasks one of a single task reads what the first has left; whether helpers sleep."""
    monkeypatch.setattr(parallel, "PATIENCE", patience)
    table, counters, _tapes = job(workers, 4)
    total = counter()
    with recording(Tape()) as tape:
        for theta in counters:
            update.sgd(total, theta, 1, 0, total.size, np.array([1, 0, 1], theta.dtype))
    jobs = parallel.Jobs([table, tape, table])
    total[...] = 0
    for turn in range(1, 101):
        jobs.play()
        assert [int(theta[0]) for theta in counters] == [2 * turn] * 4
        assert int(total[0]) == 4 * turn**2
