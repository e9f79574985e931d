"""Ctrl-C while machine code is read, compiled and loaded: a KeyboardInterrupt, never an abort; the next try works."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from fastcnn.jit import native

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
