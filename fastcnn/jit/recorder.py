"""Who notes down the kernel calls of a thread: a kernel reports each of its calls here, `runtime` records them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar


class Recorder(Protocol):
    """Takes note of kernel calls."""

    def add_kernel(self, address: int, words: bytes, arguments: tuple[Any, ...]) -> None:
        """Note down a call of machine code at `address`, which reads its arguments from `words`."""


AnyRecorder = TypeVar("AnyRecorder", bound=Recorder)


class _Current(threading.local):
    """Each thread's recorder, while it records."""

    recorder: Recorder | None = None


_current = _Current()


def recorder() -> Recorder | None:
    """Return the recorder of this thread; None if it does not record."""
    return _current.recorder


@contextmanager
def recording(recorder: AnyRecorder) -> Iterator[AnyRecorder]:
    """Let `recorder` take note of every kernel call of this thread."""
    _current.recorder = recorder
    try:
        yield recorder
    finally:
        # An interrupted `with` may end much later, when its traceback is collected, in the middle of another one.
        if _current.recorder is recorder:
            _current.recorder = None
