"""Workspaces for a plan: one buffer for each allocation, and what the operations save."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import chain

from ..typing import Array
from .arrays import zeros_together
from .ir import Allocation, Plan, Store
from .workspace import Workspace


def allocate(plan: Plan, own: Store | None = None, shared: Store | None = None) -> Workspace:
    """Return zeroed buffers for one shard.

    Parameters
    ----------
    plan : Plan
    own : dict, optional
        Of the shard: where it finds again what persists from stage to stage.
    shared : dict, optional
        Of the worker: what its shards reuse.
    """
    own, shared = {} if own is None else own, {} if shared is None else shared
    values, gradients = plan.allocations
    for store, persistent in ((own, True), (shared, False)):
        if "buffers" not in store:
            store["buffers"] = _buffers(
                plan, [one for one in chain(values, gradients) if one and one.persistent == persistent]
            )
    if "saved" not in own:
        own["saved"] = [op.allocate(plan) for op in plan.ops]

    def buffer(allocation: Allocation) -> Array:
        whole: Array = (own if allocation.persistent else shared)["buffers"][allocation.name]
        return whole[: allocation.images * allocation.size]

    buffers = [buffer(allocation) for allocation in values]
    return Workspace(
        buffers,
        [None if allocation is None else buffer(allocation) for allocation in gradients],
        own["saved"],
        [op.scratchpad(shared) for op in plan.ops],
        plan.values[0].view(buffers[0], plan.images),
    )


def _buffers(plan: Plan, allocations: Sequence[Allocation]) -> dict[Hashable, Array]:
    """Return zeroed buffers for all allocations, in one piece, for which the system can give large pages."""
    sizes: dict[Hashable, int] = {}
    for allocation in allocations:
        sizes[allocation.name] = max(allocation.images * allocation.size, sizes.get(allocation.name, 0))
    # Networks with sync points sweep all maps many times, so large pages pay; elsewhere they only waste the last page.
    return zeros_together(sizes, plan.dtype, large=bool(plan.sync_points))
