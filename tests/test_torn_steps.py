"""Exceptions at any moment of a step: it was taken as a whole or not at all, and threads do not grow."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading

import numpy as np
import pytest

import fastcnn
from fastcnn import SGD, Adam, BatchNorm, Conv2D, Dense, ExponentialMovingAverage, Flatten, ReLU, Sequential, Trainer
from fastcnn.runtime import threads as parallel
from fastcnn.training.step import Program
from fastcnn.training.update import Update

SIZES = (6, 6, 6, 4, 6, 4, 4, 6, 6, 4, 6, 6)
rng = np.random.default_rng(0)
X, Y = rng.random((len(SIZES), 6, 2, 6, 6), np.float32), rng.integers(0, 3, (len(SIZES), 6))


FAILS: list[bool] = []


class Tripled(fastcnn.Layer):
    """A layer in Python, which may have an error."""

    def _forward(self, x):
        return 3 * x

    def _backward(self, x, y, dL_dout):
        return 3 * dL_dout / (0 if FAILS else 1)


class Plain(fastcnn.Optimizer):
    """An optimizer in Python."""

    def __init__(self) -> None:
        super().__init__(0.1, None)

    def _coefficients(self):
        return ()

    def _update(self, gradients, shards, first, last):
        rows = gradients.reshape(-1, self._theta.size)[:shards]
        self._theta[first:last] -= self.learning_rate * rows[:, first:last].sum(axis=0)


OPTIMIZERS = {
    "recorded": lambda: Adam(0.01),
    "clipped": lambda: Adam(0.01, clip_norm=0.1),
    "python": Plain,
}

PLACES = {"recorded": 1, "clipped": 3, "python": 11}  # of so many one is tried: where Python works, there are many


def trainer(kind: str, threads: int) -> Trainer:
    layers = [Conv2D(4, 3), BatchNorm(), ReLU(), *([Tripled()] if kind == "python" else []), Flatten(), Dense(3)]
    model = Sequential(layers).build((2, 6, 6), random_state=0)
    return Trainer(model, optimizer=OPTIMIZERS[kind](), ema=ExponentialMovingAverage(0.9), threads=threads)


def state(one: Trainer) -> tuple:
    """Return all that a step changes."""
    things = one.optimizer, one.ema
    arrays = [*one.model._weights().values(), *(vector for thing in things for vector in thing._vectors)]
    return one.steps, *(thing.steps for thing in things), *(array.tobytes() for array in arrays)


def take(one: Trainer) -> None:
    """Take the step whose turn it is."""
    n = SIZES[one.steps]
    one.step(X[one.steps, :n], Y[one.steps, :n])


def trajectory(one: Trainer) -> list[tuple]:
    """Return the states before and after all steps."""
    states = [state(one)]
    for _ in SIZES:
        take(one)
        states.append(state(one))
    return states


class Interrupt:
    """Raises KeyboardInterrupt where Ctrl-C does: at the beginning of a function, or behind a call of C, the n-th."""

    def __init__(self, n: int) -> None:
        self.left, self.event = n, self._event  # the event outlives the call that raises, in which Python lets go of it

    def __enter__(self):
        sys.setprofile(self.event)
        return self

    def __exit__(self, *_) -> None:
        sys.setprofile(None)

    def _event(self, frame, event, argument):
        if event in ("call", "c_return") and "fastcnn" in frame.f_code.co_filename:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt


# Where an interrupted generator is closed, Python can only print the exception.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("kind", "threads"), [*((kind, n) for kind in OPTIMIZERS for n in (1, 2)), ("clipped", 12)])
def test_a_step_is_taken_or_not(kind, threads, monkeypatch):
    monkeypatch.setattr(fastcnn.training.step, "SHARD_WORK", 1e3)
    monkeypatch.setattr(fastcnn.training.division, "PART_WORK", 1.0)  # of 12 threads, some share a shard
    expected = trajectory(trainer(kind, threads))
    one, place, torn = trainer(kind, threads), 0, 0
    while one.steps < len(SIZES):
        before = one.steps
        try:
            with Interrupt(place):
                take(one)
            place = 0
            continue
        except KeyboardInterrupt:
            torn += 1
        assert state(one) == expected[one.steps]
        place = 0 if one.steps > before else place + PLACES[kind]
    assert state(one) == expected[-1]
    assert torn > 200


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("half", [False, True])
def test_a_second_interrupt_while_the_first_is_dealt_with(kind, half, monkeypatch):
    """A step that has moved half of everything is torn off, and so is taking it back, twice."""
    expected, one = trajectory(trainer(kind, 1)), trainer(kind, 1)
    settle, update, begin, left = Program.settle, Update.run, fastcnn.Optimizer._begin, []

    def torn(self, *arguments):
        """Interrupt the step when the optimizer has begun, or has done half of its work."""
        begin(self, *arguments)
        left.extend([1, 1, 1])
        raise KeyboardInterrupt

    def half_done(self, threads):
        if self._native(threads) is not None:
            return update(self, threads)
        self.model._flat[::2] += 1
        for vector in self.optimizer._vectors:
            vector[::2] += 1
        left.extend([1, 1, 1])
        raise KeyboardInterrupt

    def settled(plan):
        taken = None if half and left else settle(plan)
        if left:
            left.pop()
            raise KeyboardInterrupt
        return taken

    for n in range(len(SIZES)):
        with monkeypatch.context() as patch:
            patch.setattr(Program, "settle", settled)
            patch.setattr(*((Update, "run", half_done) if n % 3 == 1 else (fastcnn.Optimizer, "_begin", torn)))
            with contextlib.suppress(KeyboardInterrupt):
                take(one)
        left.clear()
        if one.steps == n:
            take(one)
        assert state(one) == expected[n + 1]


def test_an_error_in_a_layer_leaves_the_step_untaken():
    expected, one = trajectory(trainer("python", 1)), trainer("python", 1)
    for n in range(len(SIZES)):
        FAILS.append(True)
        with pytest.raises(RuntimeWarning, match="divide by zero"):
            take(one)
        FAILS.clear()
        assert state(one) == expected[n]
        take(one)
    assert state(one) == expected[-1]


posix = pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")


@posix
def test_two_signals_close_together(monkeypatch):
    """At moments that differ by microseconds; helpers are at work on both sides of the step."""
    monkeypatch.setattr(fastcnn.training.step, "SHARD_WORK", 1e3)
    model = Sequential([Conv2D(24, 3, padding=1), BatchNorm(), ReLU(), Conv2D(24, 3), Flatten(), Dense(3)])
    model.build((2, 16, 16), random_state=0)
    one = Trainer(model, optimizer=SGD(0.0), threads=3)
    x, y = rng.random((16, 2, 16, 16), np.float32), rng.integers(0, 3, 16)
    losses = {one.step(x, y) for _ in range(8)}
    threads, torn = len(sys._current_frames()), 0

    def press(number, frame):
        if not second:
            second.append(1)
            signal.setitimer(signal.ITIMER_REAL, 2e-5 * (k % 11) + 1e-6)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, press)
    try:
        for k in range(200):
            second: list[int] = []
            try:
                try:
                    signal.setitimer(signal.ITIMER_REAL, 1e-5 + 1.3e-5 * k)
                    while True:
                        losses.add(one.step(x, y))
                except KeyboardInterrupt:
                    torn += 1
                    losses.add(one.step(x, y))
            except KeyboardInterrupt:
                pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    losses.add(one.step(x, y))
    assert torn >= 190
    assert len(losses) == 1
    assert len(sys._current_frames()) == threads
    assert len(parallel._teams.all) <= threads


def test_tasks_of_python_that_are_torn_off_are_waited_for():
    """A second Ctrl-C ends the wait for another thread's task; the next step's `drain` ends when that task does."""
    begun, go, done = threading.Event(), threading.Event(), []

    def task(i, worker):
        if worker == 0:
            begun.wait()
            raise KeyboardInterrupt
        begun.set()
        go.wait()
        done.append(i)

    finish = parallel._Crew.finish
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel._Crew, "finish", lambda crew: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            parallel.run(2, task, 2)
    assert finish is parallel._Crew.finish
    assert not done
    timer = threading.Timer(0.05, go.set)
    timer.start()
    parallel.drain()
    assert len(done) == 1
    assert not parallel._crews
