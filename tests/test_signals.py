"""Ctrl-C in a fit: the first one ends it after the step, the second one at once; both leave everything usable."""

from __future__ import annotations

import os
import signal
import threading
import time

import numpy as np
import pytest

from fastcnn import Callback
from fastcnn.training.update import Update
from tests.fits import Each, samples, trainer, weights

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")


@pytest.fixture(autouse=True)
def _pythons_own_handler():
    """Set Python's handler: a shell that starts the tests in the background lets them ignore the signal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press(step: int, times: int = 1):
    """Return what presses Ctrl-C after a step."""

    def act(moment, run):
        if moment == "batch" and run.step == step:
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGINT)

    return Each(act)


def test_the_first_one_ends_the_fit_after_the_step():
    (X, y), one, other = samples(64), trainer(), trainer()
    each = press(6)
    history = one.fit(X, y, epochs=9, batch_size=16, X_val=X, y_val=y, callbacks=[each], verbose=0)
    assert history.stopped == "Ctrl-C"
    assert each.moments[-3:] == ["batch", "epoch", "end"]
    assert each.moments.count("batch") == 6
    assert len(history) == 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    # These are the weights after six steps; and the trainer can go on.
    other.fit(X, y, epochs=9, batch_size=16, callbacks=[Stop(6)], verbose=0)
    assert weights(one) == weights(other)
    assert np.isfinite(one.model.forward(X)).all()
    assert one.fit(X, y, epochs=1, batch_size=16, verbose=0).stopped is None


class Stop(Callback):
    """Stops after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def batch(self, run):
        """Look at the step."""
        if run.step == self.step:
            run.stop("enough")


def test_the_second_one_interrupts_at_once():
    (X, y), one = samples(64), trainer()
    with pytest.raises(KeyboardInterrupt):
        one.fit(X, y, epochs=9, batch_size=16, callbacks=[press(6, times=2)], verbose=0)
    assert len(one.history) == 1
    assert np.isfinite(one.model.forward(X)).all()
    assert np.isfinite(one.fit(X, y, epochs=1, batch_size=16, verbose=0)[0].loss)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_step_that_is_torn_off_is_taken_back(monkeypatch):
    (X, y), one = samples(64), trainer()
    one._build(X)
    before = weights(one)

    def torn(update, threads):
        update.model._flat[::2] = 7
        raise KeyboardInterrupt

    monkeypatch.setattr(Update, "run", torn)
    with pytest.raises(KeyboardInterrupt):
        one.fit(X, y, epochs=1, batch_size=16, verbose=0)
    assert weights(one) == before


def test_a_handler_of_ones_own_is_left_alone():
    pressed = []
    signal.signal(signal.SIGINT, lambda *_: pressed.append(1))
    (X, y), one = samples(64), trainer()
    history = one.fit(X, y, epochs=3, batch_size=16, callbacks=[press(2)], verbose=0)
    assert pressed == [1]
    assert history.stopped is None
    assert len(history) == 3


def test_a_fit_in_another_thread_leaves_the_signal_alone():
    (X, y), one, handlers = samples(64), trainer(), []
    each = Each(lambda moment, run: handlers.append(signal.getsignal(signal.SIGINT)))
    thread = threading.Thread(
        target=lambda: one.fit(X, y, epochs=1, batch_size=16, callbacks=[each], verbose=0), daemon=True
    )
    thread.start()
    thread.join(60)
    assert handlers
    assert set(handlers) == {signal.default_int_handler}


def test_from_outside_in_the_middle_of_a_step():
    """Wherever it falls, a fit that would last for minutes ends, whole."""
    (X, y), one = samples(64), trainer(threads=2)
    one.fit(X, y, epochs=1, batch_size=16, verbose=0)
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    began = time.perf_counter()
    history = one.fit(X, y, epochs=10**6, batch_size=16, verbose=0)
    assert history.stopped == "Ctrl-C"
    assert time.perf_counter() - began < 30
