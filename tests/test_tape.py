"""Recorded kernel calls: what is repeated, in which order, and by whom."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest

from fastcnn.engine.arrays import aligned_zeros
from fastcnn.jit.recorder import recording
from fastcnn.kernels import activation, load, update
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
    """Whole numbers, truth values, floats of both widths, arrays of one and two dimensions: as in a direct call."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(64).astype(dtype)
    row = np.arange(4, dtype=np.int32) * 16
    y, again = np.zeros_like(x), np.zeros_like(x)
    tape = Tape()
    with recording(tape):
        activation.copy(x, row, y, row, 4, 16, False)
        update.average(again, x, 0, 64, np.array([0.5, 0.25], dtype))
    y[...], again[...] = 0, 1
    x += 1
    tape.play()
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(again, dtype(0.5) + dtype(0.25) * x)


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


@pytest.mark.parametrize("calls_python", [False, True])
def test_what_is_fed_is_found(calls_python):
    """By kernels that read at the address in an array, whatever was there when they were recorded."""
    first, y = np.arange(SIZE, dtype=np.uint8), counter()
    place, tape, seen = np.array([first.ctypes.data]), Tape(), []
    with recording(tape):
        load.load(place, first, 0, 1, 1, 1, SIZE, y, 0, SIZE, SIZE, 1, np.float32(0.5))
    if calls_python:
        tape.add(lambda: seen.append(y.copy()), ())
    feed = tape.fed(place, first)
    for k in range(3):
        pixels = np.roll(first, k)
        pixels.flags.writeable = k > 0
        assert feed(pixels if k < 2 else pixels.tobytes()) is True
        np.testing.assert_array_equal(y, pixels / np.float32(2))
    assert len(seen) == 3 * calls_python
    before = y.copy()
    other = np.zeros((SIZE, 2), np.uint8)
    for wrong in (3, None, [0] * SIZE, "x" * SIZE, other, other[:, 0], other[: SIZE // 2].ravel()[:-1]):
        assert feed(wrong) is False
    np.testing.assert_array_equal(y, before)


@pytest.mark.parametrize("calls_python", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_only_what_is_alike_is_fed(calls_python, dtype):
    """The same shape, the same dtype, the same order of bytes; the owner of the buffer does not matter."""
    like, y = np.arange(SIZE).reshape(1, 2, 2, 4).astype(dtype), counter()
    place, tape, seen = np.array([like.ctypes.data]), Tape(), []
    with recording(tape):
        load.load(place, like, 0, 1, 1, 1, SIZE, y, 0, SIZE, SIZE, 1, np.float32(1))
    if calls_python:
        tape.add(lambda: seen.append(0), ())
    feed = tape.fed(place, like)
    borrowed = np.frombuffer(like.tobytes(), dtype).reshape(like.shape)
    alike = [like, like + 1, memoryview(like), like.view(np.recarray), borrowed]
    for one in alike:
        y[...] = -1
        assert feed(one)
        np.testing.assert_array_equal(y, np.asarray(one).ravel())
    y[...] = -1
    shapes = [(SIZE,), (2, 2, 4), (1, 2, 4, 2), (1, 1, 2, 2, 4), (2, 2, 2, 2), (0, 2, 2, 4), (1, 2, 2, 5)]
    dtypes = {np.dtype(kind) for kind in ("u1", "i1", "?", "f2", "f4", "f8", ">f4", ">f8", "i4", "c8")}
    pair = np.dtype([("x", dtype), ("y", dtype)])
    unlike = [np.zeros(shape, dtype) for shape in shapes]
    unlike += [np.zeros(like.shape, kind) for kind in dtypes - {like.dtype}]
    unlike += [np.zeros(like.shape, pair), np.zeros(like.shape, "U1"), np.asfortranarray(like), like[..., ::-1]]
    assert not any(feed(one) for one in unlike)
    np.testing.assert_array_equal(y, -1)


def test_what_is_fed_is_given_back():
    """No reference is kept, and none is lost: not to the array, whose buffer is free again, nor to the result."""
    pixels, y = np.arange(SIZE, dtype=np.uint8), counter()
    place, tape = np.array([pixels.ctypes.data]), Tape()
    with recording(tape):
        load.load(place, pixels, 0, 1, 1, 1, SIZE, y, 0, SIZE, SIZE, 1, np.float32(1))
    feed, held = tape.fed(place, pixels), bytearray(pixels)
    objects = pixels, pixels[:-1], True, False
    before = [sys.getrefcount(one) for one in objects]
    for _ in range(1000):
        assert feed(pixels)
        assert not feed(objects[1])
    assert feed(held)
    held.append(0)  # a BufferError, if the buffer were still in use
    assert not feed(held)
    held.append(0)
    after = [sys.getrefcount(one) for one in objects]
    assert after[:2] == before[:2]
    assert np.abs(np.subtract(after, before)).max() < 100


def test_other_threads_run_while_kernels_are_fed():
    """Python gives no turn by itself here: whoever has one was let in by the call."""
    pixels, y, seen = np.arange(SIZE, dtype=np.uint8), counter(), []
    place, tape = np.array([pixels.ctypes.data]), Tape()
    with recording(tape):
        load.load(place, pixels, 0, 1, 1, 1, SIZE, y, 0, SIZE, SIZE, 1, np.float32(1))
    for _ in range(14):
        tape = tape + tape
    feed, interval, ready = tape.fed(place, pixels), sys.getswitchinterval(), threading.Event()
    other = threading.Thread(target=lambda: (ready.wait(), seen.append(1)))
    other.start()
    sys.setswitchinterval(1000)
    try:
        ready.set()
        turns = next((turn for turn in range(2000) if seen or not feed(pixels)), None)
    finally:
        sys.setswitchinterval(interval)
        other.join()
    assert turns is not None
    assert seen


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
