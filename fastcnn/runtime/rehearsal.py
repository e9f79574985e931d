"""A rehearsal of calls: which kernels they need, without running any; those that are missing are compiled together."""

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
