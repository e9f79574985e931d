"""Ctrl-C during a fit: the first one ends it after the current step; the second one interrupts at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Self

from ..history import History


class Interrupts:
    """A context in which the first Ctrl-C only sets `asked`.

    Only in the main thread, and only where Python's own handler is set: another handler, or an ignored signal, stays.
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
        """Agree with the other ranks, if there are any, after each step and each epoch."""

    def begin_anew(self) -> None:
        """Begin again where the ranks that are left go back to an earlier step."""

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
