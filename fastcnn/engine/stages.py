"""Stages: the runs of operations between the sync points, at which all shards of a batch meet."""

from __future__ import annotations

from collections.abc import Sequence

from .ir import Graph, Op


def sync_points(graph: Graph) -> list[int]:
    """Return the places of the operations that reduce over the whole batch; there are none in prediction."""
    return [op.index for op in graph.ops if op.traits.syncs and graph.training]


def stage_of(sync_points: Sequence[int], index: int) -> int:
    """Return the stage of an operation: how many sync points are before it."""
    return sum(point < index for point in sync_points)


def stage_ops(graph: Graph, sync_points: Sequence[int], stage: int) -> Sequence[Op]:
    """Return the operations that have work in a stage; a sync point belongs to both stages beside it."""
    first = sync_points[stage - 1] if stage else 0
    last = sync_points[stage] if stage < len(sync_points) else len(graph.ops) - 1
    return graph.ops[first : last + 1]
