"""Ctrl-C during a fit: the first one is a wish, kept until the step is done; the second one interrupts at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Self

from ..history import History


class Interrupts:
    """A context in which the first Ctrl-C only sets `asked`.

    Only where Python's own handler is in place, and in the main thread: whoever has a handler of its own, or ignores
    the signal, is left alone.
    """

    def __init__(self) -> None:
        self.asked = False
        self._ours = False

    def __enter__(self) -> Self:
        self._ours = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if self._ours:
            signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def meet(self, history: History) -> None:
        """Come after each step, and after each epoch: where there are ranks, they agree here."""

    def begin_anew(self) -> None:
        """Come where the ranks that are left go back to a step before."""

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
