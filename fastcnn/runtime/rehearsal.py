"""Calls gone through without being made, to learn which kernels they need, and to compile these side by side."""

from __future__ import annotations

from collections.abc import Iterable

from ..jit.ahead import compile_together
from ..jit.recorder import Rehearsal, rehearsal, rehearsing
from . import threads
from .record import Call


def rehearse(calls: Iterable[Call]) -> None:
    """Compile the kernels that calls of what is replayable need and that are nowhere yet, on all processors."""
    if rehearsal() is not None:  # a rehearsal of more than these calls is under way
        return
    these = Rehearsal()
    with rehearsing(these):
        for call in calls:
            if call.owner.replayable:
                call.method(*call.arguments)
    compile_together(these.needed, threads.get_num_threads())
