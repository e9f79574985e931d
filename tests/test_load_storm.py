"""Ctrl-C while machine code is read, compiled and loaded: a KeyboardInterrupt, never an abort; the next try works."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from fastcnn.jit import native
from tests.processes import finish, start_python

posix = pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")


@posix
def test_ctrl_c_leaves_the_work_to_its_end():
    """The caller is interrupted at once; who calls again waits for the first call."""
    begun, ended, order = threading.Event(), threading.Event(), []

    def work():
        with native.lock:
            assert threading.current_thread() is not threading.main_thread()
            begun.set()
            ended.wait(60)
            order.append("work")
            return 3

    def press():
        begun.wait(60)
        time.sleep(0.05)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=press)
    try:
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            native.undisturbed(work)
        thread.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert not order
    ended.set()
    assert native.undisturbed(work) == 3
    assert order == ["work", "work"]


def test_an_error_arrives():
    with pytest.raises(ZeroDivisionError):
        native.undisturbed(lambda: 1 / 0)


# Loads some fifty kernels, again and again from where a Ctrl-C has thrown it out; says how often, and what came out.
PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
import numpy as np
from fastcnn import (Adam, AvgPool2D, BatchNorm, Conv2D, Dense, Dropout, Flatten, GELU, LayerNorm, LeakyReLU, MaxPool2D,
    ReLU, Sequential, Tanh, Trainer)

def train():
    layers = [Conv2D(8, 3, padding=1), BatchNorm(), ReLU(), MaxPool2D(2), GELU(), Conv2D(9, 1), LeakyReLU(0.1),
        AvgPool2D(2), Dropout(0.2), Flatten(), Dense(16), Tanh(), LayerNorm(), Dense(5)]
    model = Sequential(layers).build((3, 12, 12), random_state=0)
    trainer, x = Trainer(model, optimizer=Adam(), threads=2), np.ones((8, 3, 12, 12), "f")
    return [trainer.step(x, np.arange(8) % 5) for _ in range(3)]

times, armed = 0, False

def press(number, frame):
    global armed
    if armed:
        armed = False
        raise KeyboardInterrupt

print("ready", flush=True)
signal.signal(signal.SIGINT, press)
while True:
    try:
        armed = True
        losses = train()
        armed = False
        break
    except KeyboardInterrupt:
        times += 1
assert losses == train()
print(times)
"""


@posix
def test_a_storm_while_kernels_are_loaded():
    times = 0
    for pause in (0.005, 0.013):
        process = start_python(PROGRAM)
        assert process.stdout.readline() == "ready\n"
        for _ in range(150):
            if process.poll() is not None:
                break
            process.send_signal(signal.SIGINT)
            time.sleep(pause)
        times += int(finish(process))
    assert times > 5
