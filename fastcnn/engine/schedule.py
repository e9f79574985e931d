"""The calls of a plan's operations in their order: stage by stage, micro-batch by micro-batch, forward and backward."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from ..runtime.record import Call, run_calls
from ..typing import Array, Gradients
from .ir import Allocation, Plan, RunContext
from .weights import Weights
from .workspace import Workspace


def prepare_calls(plan: Plan) -> Iterator[Call]:
    """Yield the calls that bring all parameters into the kernels' order: in any order, or at the same time."""
    late = {op.index for ops in plan.late.values() for op in ops}
    for op in plan.ops:
        yield Call(op, op.prepare, ())
        if op.index not in late:
            yield Call(op, op.prepare_backward, ())


def late_calls(plan: Plan, stage: int) -> list[Call]:
    """Return the calls that prepare a stage's backward pass just before it, where operations share memory for it."""
    return [Call(op, op.prepare_backward, ()) for op in plan.late.get(stage, ())]


def forward_calls(plan: Plan, stage: int, n: int, workspace: Workspace, context: RunContext) -> Iterator[Call]:
    """Yield the calls of one stage, to the next sync point; prediction does not stop there."""
    points, ops = plan.sync_points, plan.ops
    first = points[stage - 1] if stage else 0
    last = points[stage] if stage < len(points) else len(ops)
    for count, part in microbatches(plan, stage, n, workspace):
        for op in ops[first:last]:
            yield Call(op, op.forward, (count, part, context))
        for op in ops[last : last + 1] if context.training else ():
            yield Call(op, op.forward_partial, (count, part, context))


def backward_calls(
    plan: Plan, stage: int, n: int, workspace: Workspace, gradients: Mapping[Weights, Gradients], context: RunContext
) -> Iterator[Call]:
    """Yield the calls of one stage backward, from the sync point that ends it to the one before it."""
    points, ops = plan.sync_points, plan.ops
    first = points[stage - 1] if stage else -1
    last = points[stage] if stage < len(points) else len(ops) - 1
    for count, part in microbatches(plan, stage, n, workspace, backward=True):
        # The last stage goes straight back: the values of its only micro-batch are still there.
        remains = stage == len(points) and count == n
        going = [op for op in reversed(ops[first + 1 : last + 1]) if plan.goes_back(op)]
        if stage and going and ops[first].y in (plan.blocked_values if remains else plan.recomputed):
            yield Call(ops[first], ops[first].recompute, (count, part, context))
        for op in going:
            yield Call(op, op.backward, (count, part, gradients[op.weights], context))
        if stage and plan.goes_back(ops[first]):
            yield Call(ops[first], ops[first].backward_partial, (count, part, context))


def forward(plan: Plan, shards: Sequence[tuple[int, Workspace]], contexts: Sequence[RunContext]) -> None:
    """Run all operations on a batch that is cut into `shards`, in this thread."""
    for stage in range(len(plan.sync_points) + 1):
        if stage and contexts[0].training:
            plan.ops[plan.sync_points[stage - 1]].sync_forward(shards)
        for (n, workspace), context in zip(shards, contexts, strict=True):
            run_calls(forward_calls(plan, stage, n, workspace, context))


def backward(
    plan: Plan,
    shards: Sequence[tuple[int, Workspace]],
    gradients: Sequence[Mapping[Weights, Gradients]],
    contexts: Sequence[RunContext],
) -> None:
    """Run all operations backward, from the gradients of the shards' outputs."""
    for stage in range(len(plan.sync_points), -1, -1):
        run_calls(late_calls(plan, stage))
        for (n, workspace), of_shard, context in zip(shards, gradients, contexts, strict=True):
            run_calls(backward_calls(plan, stage, n, workspace, of_shard, context))
        if stage and plan.goes_back(point := plan.ops[plan.sync_points[stage - 1]]):
            point.sync_backward(shards)


def microbatches(
    plan: Plan, stage: int, n: int, workspace: Workspace, backward: bool = False
) -> Iterator[tuple[int, Workspace]]:
    """Yield a shard's images a few at a time: how many, and the workspace from the first of them on."""
    step, done = plan.microbatches[stage], 0
    parts = []
    for first in range(0, n, step)[:: -1 if backward and plan.descending[stage] else 1]:
        count = min(step, n - first)
        parts.append((count, _from_image(plan, first, done, workspace) if count < n else workspace))
        done += count
    for (_, part), (count, following) in pairwise(parts):
        part.prefetch = _read_first(plan, stage, count, following, backward)
    yield from parts


def _read_first(plan: Plan, stage: int, n: int, workspace: Workspace, backward: bool) -> list[Array]:
    """Return what a micro-batch of `n` images reads that the caches do not hold: it was written before a sync point."""
    found = []
    if backward and stage < len(plan.sync_points):
        op = plan.ops[plan.sync_points[stage]]
        found = [
            (workspace.values[op.x], plan.values[op.x]),
            (workspace.gradients[op.y], plan.gradients[op.y]),
        ]
    if stage:
        value = plan.ops[plan.sync_points[stage - 1]].x
        found.append((workspace.values[value], plan.values[value]))
    return [buffer[: n * layout.image_size] for buffer, layout in found if buffer is not None and layout is not None]


def _from_image(plan: Plan, first: int, done: int, workspace: Workspace) -> Workspace:
    """Return the workspace of operations that begin with an image of the shard, when so many were `done`."""

    def later(buffer: Array, allocation: Allocation) -> Array:
        return buffer[first * allocation.size :] if allocation.persistent else buffer

    values, gradients = plan.allocations
    return replace(
        workspace,
        values=[later(buffer, allocation) for buffer, allocation in zip(workspace.values, values, strict=True)],
        gradients=[
            None if buffer is None or allocation is None else later(buffer, allocation)
            for buffer, allocation in zip(workspace.gradients, gradients, strict=True)
        ],
        done=done,
    )
