"""Calls of operations: made one after another, or recorded while they are made."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

from ..jit.recorder import recording
from .tape import Tape


class Replayable(Protocol):
    """An operation, a loss, an optimizer: whether it only calls kernels, with the same arguments every time."""

    @property
    def replayable(self) -> bool: ...


class KernelCalls(NamedTuple):
    """The owner of calls of plain functions, which belong to no operation."""

    replayable: bool = True


class Call(NamedTuple):
    """A call of a method of `owner`."""

    owner: Replayable
    method: Callable[..., None]
    arguments: tuple[Any, ...]


def run_calls(calls: Iterable[Call]) -> None:
    """Make the calls."""
    for call in calls:
        call.method(*call.arguments)


def record_calls(calls: Iterable[Call]) -> Tape:
    """Make the calls, and return what repeats them: kernel calls of what is replayable, the others as they are."""
    tape = Tape()
    for call in calls:
        if call.owner.replayable:
            with recording(tape):
                call.method(*call.arguments)
        else:
            call.method(*call.arguments)
            tape.add(call.method, call.arguments)
    return tape
