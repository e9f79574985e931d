"""A pass of the planner: operations of different stages take turns in the memory of what they prepare for backward.

Winograd's transformed filters are several times as large as the filters. Those of the backward pass are made just
before their stage goes backward, where that saves much memory: for a ResNet-18, 71 of 1,258 MB.
"""

from __future__ import annotations

from .arrays import aligned_zeros
from .ir import Op, Plan
from .stages import stage_of

LEAST = 1 << 25  # bytes of all: with fewer, they are made at the step's begin, by all threads at a time


def share_backward_filters(plan: Plan) -> dict[int, list[Op]]:
    """Give these operations one memory, and return them by stage.

    The last stage goes straight back, before anything could be prepared: its operations have memory of their own.
    """
    last, found = len(plan.sync_points), dict[int, list[Op]]()
    for op in plan.ops:
        stage = stage_of(plan.sync_points, op.index)
        if op.backward_filters and stage < last:
            found.setdefault(stage, []).append(op)
    sizes = {stage: [op.backward_filters for op in ops] for stage, ops in found.items()}
    if sum(map(sum, sizes.values())) * plan.dtype.itemsize < LEAST or len(found) < 2:
        return {}
    memory = aligned_zeros(max(map(sum, sizes.values())), plan.dtype)
    for ops in found.values():
        first = 0
        for op in ops:
            op.take_turns_in(memory[first : first + op.backward_filters])
            first += op.backward_filters
    return found
