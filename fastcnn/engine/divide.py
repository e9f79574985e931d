"""The tasks of a stage for more threads than shards: no sum is cut, so the bits are those of whole shards.

A stage goes through *phases*, one after the other, whose tasks need not wait for each other:

- operations whose images do not depend on each other go through parts of the shards, all of a run in one task;
- what sums over the images of a shard, such as the moments of a batch normalisation, is a task for each shard;
- no other operation waits for the gradients of the parameters, so they come last, cut along the parameters.

Threads that work on a shard together cannot take turns with its buffers: here each gradient has its own, with room for
all images of the shard, and so has each value that is computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

from ..runtime.record import Call
from ..typing import Array, Gradients
from .allocate import allocate
from .ir import Allocation, Op, Piece, Plan, RunContext, Store
from .schedule import microbatches
from .stages import stage_of
from .weights import Weights
from .workspace import Workspace

Task = list[Call]
Make = Callable[[int, Workspace, "DividedShard", RunContext], Call]  # of so many images in a workspace


@dataclass
class DividedShard:
    """A shard that several threads work on.

    Attributes
    ----------
    number, n : int
    workspace : Workspace
        Of `roomy` allocations.
    context : RunContext
    gradients : dict of Weights to Gradients
        Where it leaves those of the parameters.
    parts : dict of (first image, images, images of a whole, number of the part) to Workspace
    """

    number: int
    n: int
    workspace: Workspace
    context: RunContext
    gradients: dict[Weights, Gradients]
    parts: dict[tuple[int, int, int, int], Workspace]


class StageCall(NamedTuple):
    """A call in a stage: for each part of a shard, where it goes image by image, or for a shard as a whole."""

    by_image: bool
    make: Make


def roomy(plan: Plan) -> Plan:
    """Return the plan with buffers that hold all images of a shard, and with a buffer for each gradient."""
    values, gradients = plan.allocations
    root = [plan.graph.aliases.get(value, value) for value in range(len(values))]

    def room(kind: str, value: int, allocation: Allocation) -> Allocation:
        images = -(-plan.images // allocation.images) * allocation.images  # blocked maps: whole micro-batches
        return Allocation(True, (kind, value), allocation.size, images)

    return replace(
        plan,
        allocations=(
            [room("values", root[value], one) for value, one in enumerate(values)],
            [one and room("gradients", value, one) for value, one in enumerate(gradients)],
        ),
    )


def allocate_divided(plan: Plan, own: Store, images: Array | None) -> Workspace:
    """Return the workspace of a shard for a `roomy` plan.

    `own` has what the shard saves, however it is worked on; `images` is the first value, if it has a place already.
    """
    if "saved" not in own:
        own["saved"] = [op.allocate(plan) for op in plan.ops]
    workspace = allocate(plan, {"saved": own["saved"]}, {})
    if images is None:
        return workspace
    first, values = plan.allocations[0][0], zip(workspace.values, plan.allocations[0], strict=True)
    return replace(workspace, values=[images if one.name == first.name else value for value, one in values])


class Divider:
    """The phases of a plan's stages, for shards that are cut into `count` parts each.

    Parameters
    ----------
    plan : Plan
        A `roomy` one.
    shards : list of DividedShard
    count : int
    """

    def __init__(self, plan: Plan, shards: Sequence[DividedShard], count: int) -> None:
        self.plan, self.shards, self.count = plan, shards, count
        self.scratch: dict[Any, Store] = {}
        self.waiting: list[tuple[Op, int]] = []  # operations whose parameters' gradients are still to come, their stage

    def forward(self, stage: int, first: Iterable[StageCall] = ()) -> Iterator[list[Task]]:
        """Yield the phases of a stage forward; `first` comes before its operations."""
        points, ops = self.plan.sync_points, self.plan.ops
        begin = points[stage - 1] if stage else 0
        end = points[stage] if stage < len(points) else len(ops)
        calls = [*first, *(StageCall(op.forward_by_image, partial(_forward, op)) for op in ops[begin:end])]
        calls += [StageCall(False, partial(_forward_partial, op)) for op in ops[end : end + 1]]
        yield from self._phases(calls, stage, backward=False)

    def backward(self, stage: int) -> Iterator[list[Task]]:
        """Yield the phases of a stage backward, without the gradients of the parameters."""
        plan, points, ops = self.plan, self.plan.sync_points, self.plan.ops
        first = points[stage - 1] if stage else -1
        last = points[stage] if stage < len(points) else len(ops) - 1
        going = [op for op in reversed(ops[first + 1 : last + 1]) if plan.goes_back(op)]
        calls = []
        # The last stage goes straight back: its values are still there.
        if stage and going and ops[first].y in (plan.blocked_values if stage == len(points) else plan.recomputed):
            calls.append(StageCall(ops[first].forward_by_image, partial(_recompute, ops[first])))
        for op in going:
            if op.backward_by_image:
                calls.append(StageCall(True, partial(_backward_images, op)))
                self.waiting.append((op, stage))
            else:
                calls.append(StageCall(False, partial(_backward, op)))
        if stage and plan.goes_back(ops[first]):
            calls.append(StageCall(False, partial(_backward_partial, ops[first])))
        yield from self._phases(calls, stage, backward=True)

    def parameter_gradients(self) -> Iterator[list[Task]]:
        """Yield a phase of the gradients of the parameters of all that has gone backward, if there are any."""
        pieces = [
            (op.work(self.plan.graph) / count, op, stage, Piece(number, count))
            for op, stage in self.waiting
            for count in [op.pieces(self.count)]
            for number in range(count)
        ]
        self.waiting = []
        pieces.sort(key=lambda one: -one[0])
        # A few tasks for each thread, about as long as each other, so that pieces take turns with scratch.
        bins = min(2 * self.count * len(self.shards), len(pieces) * len(self.shards))
        tasks: list[Task] = [[] for _ in range(bins)]
        load = [0.0] * bins
        for work, op, stage, piece in pieces:
            for shard in self.shards:
                place = min(range(bins), key=load.__getitem__)
                load[place] += max(work, 1.0)
                scratch = self.scratch.setdefault(("parameters", place), {})
                tasks[place] += self._piece(op, stage, piece, shard, scratch)
        if tasks:
            yield tasks

    def _piece(self, op: Op, stage: int, piece: Piece, shard: DividedShard, scratch: Store) -> Iterator[Call]:
        pads = [op.scratchpad(scratch) if one is op else None for one in self.plan.ops]
        workspace = replace(shard.workspace, scratchpad=pads)
        for n, part in microbatches(self.plan, stage, shard.n, workspace, backward=True):
            yield Call(op, op.parameter_gradients, (n, part, shard.gradients[op.weights], shard.context, piece))

    def _phases(self, calls: Sequence[StageCall], stage: int, backward: bool) -> Iterator[list[Task]]:
        for by_image, run in groupby(calls, key=lambda call: call.by_image):
            makes = [call.make for call in run]
            yield list(self._by_image(makes, stage) if by_image else self._by_shard(makes, stage, backward))

    def _by_shard(self, makes: Sequence[Make], stage: int, backward: bool) -> Iterator[Task]:
        for shard in self.shards:
            parts = microbatches(self.plan, stage, shard.n, shard.workspace, backward)
            yield [make(n, part, shard, shard.context) for n, part in parts for make in makes]

    def _by_image(self, makes: Sequence[Make], stage: int) -> Iterator[Task]:
        """Yield a task for each part of each shard, which goes through it a micro-batch at a time."""
        step = self.plan.microbatches[stage]
        unit = step if self._is_blocked(stage) else 1
        for shard in self.shards:
            for k in range(self.count):
                cut = Piece(k, self.count).cut(shard.n, unit)
                parts = [(first, min(step, cut.stop - first)) for first in range(cut.start, cut.stop, step)]
                workspaces = [(n, *self._part(shard, first, n, unit, k)) for first, n in parts]
                if parts:
                    yield [make(n, part, shard, context) for n, part, context in workspaces for make in makes]

    def _is_blocked(self, stage: int) -> bool:
        """Tell whether maps lie in blocks that have the pixels of a micro-batch side by side."""
        plan = self.plan
        producers = [(value, plan.graph.producer(value)) for value in plan.blocked_values]
        found = [stage_of(plan.sync_points, op.index + 1) for _, op in producers if op]
        readers = [op for value in plan.blocked_gradients for op in plan.graph.readers(value)]
        return stage in [*found, *(stage_of(plan.sync_points, op.index) for op in readers)]

    def _part(self, shard: DividedShard, first: int, n: int, unit: int, k: int) -> tuple[Workspace, RunContext]:
        """Return the workspace and the context of `n` images from `first` on, of the shard's part `k`."""
        context = replace(shard.context, first=shard.context.first + first)
        key = first, n, unit, k
        if key not in shard.parts:
            plan, whole, last = self.plan, shard.workspace, first + -(-n // unit) * unit
            scratch = self.scratch.setdefault((shard.number, k), {})
            values, gradients = plan.allocations
            own = _cut(whole.values, values, first, last)
            shard.parts[key] = replace(
                whole,
                values=own,
                gradients=_cut(whole.gradients, gradients, first, last),
                saved=[op.saved_from(plan, saved, first) for op, saved in zip(plan.ops, whole.saved, strict=True)],
                scratchpad=[op.scratchpad(scratch) for op in plan.ops],
                input=plan.values[0].view(own[0], n),
            )
        return shard.parts[key], context


def _cut(buffers: Sequence[Array | None], allocations: Sequence[Allocation | None], first: int, last: int) -> list[Any]:
    """Return of each buffer the images from `first` up to `last`."""
    pairs = zip(buffers, allocations, strict=True)
    return [
        None if buffer is None or one is None else buffer[first * one.size : last * one.size] for buffer, one in pairs
    ]


def _forward(op: Op, n: int, workspace: Workspace, shard: DividedShard, context: RunContext) -> Call:
    return Call(op, op.forward, (n, workspace, context))


def _recompute(op: Op, n: int, workspace: Workspace, shard: DividedShard, context: RunContext) -> Call:
    return Call(op, op.recompute, (n, workspace, context))


def _forward_partial(op: Op, n: int, workspace: Workspace, shard: DividedShard, context: RunContext) -> Call:
    return Call(op, op.forward_partial, (n, workspace, context))


def _backward_partial(op: Op, n: int, workspace: Workspace, shard: DividedShard, context: RunContext) -> Call:
    return Call(op, op.backward_partial, (n, workspace, context))


def _backward_images(op: Op, n: int, workspace: Workspace, shard: DividedShard, context: RunContext) -> Call:
    return Call(op, op.backward_images, (n, workspace, context))


def _backward(op: Op, n: int, workspace: Workspace, shard: DividedShard, context: RunContext) -> Call:
    return Call(op, op.backward, (n, workspace, shard.gradients[op.weights], context))
