"""The recorder of each thread: a kernel reports its calls here, and `runtime` records them.

A `Rehearsal` takes note of kernels instead: a call only tells which machine code it needs, and nothing is run.
"""

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
    rehearsal: Rehearsal | None = None


class Rehearsal:
    """Takes note of the kernels that calls need.

    Attributes
    ----------
    needed : dict of (kernel, kinds of its arguments)
        In the order in which they are needed first; only the keys matter.
    """

    def __init__(self) -> None:
        self.needed: dict[tuple[Any, tuple[Any, ...]], None] = {}


_current = _Current()


def recorder() -> Recorder | None:
    """Return the recorder of this thread; None if it does not record."""
    return _current.recorder


def rehearsal() -> Rehearsal | None:
    """Return what notes the kernels that this thread needs instead of running them; None if they are run."""
    return _current.rehearsal


@contextmanager
def rehearsing(rehearsal: Rehearsal) -> Iterator[None]:
    """Let `rehearsal` take note of the kernels of this thread's calls, which are not run."""
    _current.rehearsal = rehearsal
    try:
        yield
    finally:
        if _current.rehearsal is rehearsal:  # as below
            _current.rehearsal = None


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
