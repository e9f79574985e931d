"""What Ctrl-C does to a command: it ends the process with one line, unless a fit or a page is to end by it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


class Leave:
    """A handler of SIGINT that ends the process at once.

    An exception would not do: while kernels are compiled it can be lost in a callback, or come out as another error.
    """

    def __init__(self, command: str) -> None:
        self.command = command

    def __call__(self, number: int, frame: FrameType | None) -> NoReturn:
        line = f"{self.command}: interrupted\n"
        os.write(2, (f"\n{line}" if os.isatty(2) else line).encode())
        os._exit(130)


@contextmanager
def ends_the_process(command: str) -> Iterator[None]:
    """Let Ctrl-C end the process at once, with one line.

    Another handler, an ignored signal (nohup) and calls from other threads are left as they are.
    """
    handler = signal.getsignal(signal.SIGINT)
    ours = handler is signal.default_int_handler or isinstance(handler, Leave)  # that of the whole process
    if not (ours and threading.current_thread() is threading.main_thread()):
        yield
        return
    with _handled_by(Leave(command)):
        yield


@contextmanager
def raises() -> Iterator[None]:
    """Let Ctrl-C be a KeyboardInterrupt, where it would end the process."""
    if _leave() is None:
        yield
        return
    with _handled_by(signal.default_int_handler):
        yield


@contextmanager
def ends_the_fit() -> Iterator[None]:
    """Let the first Ctrl-C end the fit after its step, and a second one the process."""
    leave = _leave()
    if leave is None:
        yield
        return
    with _handled_by(signal.default_int_handler):
        try:
            yield
        except KeyboardInterrupt:
            leave(signal.SIGINT, None)


def _leave() -> Leave | None:
    """Return the handler that ends the process, where this thread may put another in its place."""
    handler = signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()
    return handler if is_main and isinstance(handler, Leave) else None


@contextmanager
def _handled_by(handler: signal._HANDLER) -> Iterator[None]:
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
