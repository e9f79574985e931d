"""A pass of the planner: which values share memory, because they are never in use at the same time.

A step of a network with batch normalisation goes through all maps of the whole batch many times. What is written where
something else has just been read is still in the caches; what has a buffer of its own comes from memory each time.

Each value has a lifetime: from the operation that writes it to the last that reads it. In the order in which lifetimes
begin, each value takes the first buffer whose last lifetime is over.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

from .ir import Allocation, Graph, Plan
from .layout import Halo, Layout
from .stages import stage_of


class Lifetime(NamedTuple):
    """A value that is in use from one operation to another, both included, in the order of the pass.

    Attributes
    ----------
    images : int
        How many are there at a time.
    stages : pair of int
        Of the first operation and of the last.
    descending : bool or None
        Whether the first stage begins with the last image; None where it takes all images at a time.
    """

    first: int
    last: int
    value: int
    layout: Layout
    images: int
    stages: tuple[int, int] = (0, 1)
    descending: bool | None = None

    @property
    def persistent(self) -> bool:
        """Whether it is in use in several stages."""
        return self.stages[0] != self.stages[1]

    def can_reuse(self, other: Lifetime) -> bool:
        """Tell whether the other's buffer is free by then.

        Where one stage takes micro-batches of both, the later value must not overtake the earlier one: it may be
        smaller, or larger where the stage begins with the last image.
        """
        if other.last >= self.first:
            return False
        if not self.persistent or self.descending is None or other.stages[1] != self.stages[0]:
            return True
        grows = self.layout.image_size - other.layout.image_size
        return grows >= 0 if self.descending else grows <= 0


def unsaved_values(graph: Graph, sync_points: Sequence[int]) -> dict[int, bool]:
    """Return the values that are not saved, because all their readers are in the stage that writes them.

    True for those that backward reads: it computes them again.
    """
    found = {}
    for op in (graph.ops[point] for point in sync_points):
        readers = graph.readers(op.y)
        stage = stage_of(sync_points, op.index + 1)
        here = all(stage_of(sync_points, one.index) == stage and one.index not in sync_points for one in readers)
        if readers and here and op.y != graph.output:
            found[op.y] = any(reader.traits.backward_reads_input for reader in readers)
    return found


def allocate_values(plan: Plan) -> list[Allocation]:
    """Return the allocation of each value; an alias has that of its root."""
    graph = plan.graph
    root = [graph.aliases.get(value, value) for value in range(len(plan.values))]
    if plan.training:
        shared = {value: _unsaved(plan, value) for value in unsaved_values(graph, plan.sync_points)}
    else:
        shared = _reuse("values", _value_lifetimes(plan))
    own = [
        Allocation(True, ("values", root[v]), layout.image_size, plan.images) for v, layout in enumerate(plan.values)
    ]
    return [shared.get(root[value], allocation) for value, allocation in enumerate(own)]


def allocate_gradients(plan: Plan) -> list[Allocation | None]:
    """Return the allocation of each value's gradient, None where there is none."""
    shared = _reuse("gradients", _gradient_lifetimes(plan))
    for value, blocked in plan.blocked_gradients.items():
        producer = plan.graph.producer(value)
        assert producer is not None
        images = plan.microbatches[stage_of(plan.sync_points, producer.index)]
        allocation = shared.get(value, Allocation(False, ("gradients", value), 0, images))
        shared[value] = allocation._replace(size=blocked.image_size(plan.values[value], allocation.images))
    return [
        None
        if layout is None
        else shared.get(value, Allocation(True, ("gradients", value), layout.image_size, plan.images))
        for value, layout in enumerate(plan.gradients)
    ]


def _unsaved(plan: Plan, value: int) -> Allocation:
    """Return the allocation of a value behind a sync point that is not saved."""
    layout, producer = plan.values[value], plan.graph.producer(value)
    assert producer is not None
    blocked, images = plan.blocked_values.get(value), plan.microbatches[stage_of(plan.sync_points, producer.index + 1)]
    size = blocked.image_size(layout, images) if blocked else layout.image_size
    return Allocation(False, ("unsaved values", layout), size, images)


def _value_lifetimes(plan: Plan) -> Iterable[Lifetime]:
    """Yield the values that live between two operations of a pass without backward."""
    graph = plan.graph
    for op in graph.ops:
        readers = graph.readers(op.y)
        if readers and op.y not in graph.aliases and op.y != graph.output:
            yield Lifetime(op.index, max(one.index for one in readers), op.y, plan.values[op.y], plan.images)


def _gradient_lifetimes(plan: Plan) -> Iterable[Lifetime]:
    """Yield the values whose gradient one operation writes, all of it, and another reads: in backward's order."""
    graph = plan.graph
    for op in reversed(graph.ops):
        for value in op.reads:
            layout, producer = plan.gradients[value], graph.producer(value)
            if layout and producer and op.overwrites_gradient(value) and value != graph.output:
                stages = stage_of(plan.sync_points, op.index), stage_of(plan.sync_points, producer.index)
                images = plan.microbatches[stages[0]]
                descending = plan.descending[stages[0]] if images < plan.images else None
                images = images if stages[0] == stages[1] else plan.images
                yield Lifetime(-op.index, -producer.index, value, layout, images, stages, descending)


def _reuse(kind: str, lifetimes: Iterable[Lifetime]) -> dict[int, Allocation]:
    """Return the allocations of values in the order in which they begin: each takes the first that is free by then.

    Buffers with halos are for one layout, whose zeros stay zeros.
    """
    taken: dict[Hashable, list[Lifetime]] = {}
    allocations = {}
    for lifetime in lifetimes:
        halo = None if lifetime.layout.halo == Halo() else lifetime.layout
        key = kind, lifetime.persistent, halo
        latest = taken.setdefault(key, [])
        number = next((n for n, other in enumerate(latest) if lifetime.can_reuse(other)), len(latest))
        latest[number : number + 1] = [lifetime]
        allocations[lifetime.value] = Allocation(
            lifetime.persistent, (*key, number), lifetime.layout.image_size, lifetime.images
        )
    return allocations
