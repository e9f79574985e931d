"""Where the time of our training step goes, operation by operation, on one thread.

The step's own calls are made in their order, each on its own, so every operation finds the caches as it does in a step.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from fastcnn import SGD, Trainer
from fastcnn.engine import schedule
from fastcnn.engine.ir import Op
from fastcnn.runtime.record import Call, KernelCalls, record_calls
from fastcnn.runtime.tape import Tape
from fastcnn.training.step import Program, Step

from .networks import LEARNING_RATE, Network, batches
from .sides.ours import model_of

ROUNDS = 15
SECONDS = 0.3  # for all rounds of a network; at least three are made
LEAST = 0.02  # of the step: operations with less are left out

DIRECTIONS = {
    "prepare": "prepare",
    "prepare_backward": "prepare",
    "backward": "backward",
    "backward_partial": "backward",
    "sync_backward": "backward",
}


class Line(NamedTuple):
    """What one operation takes in one direction: seconds, their share of the step, FLOPs, bytes read and written."""

    name: str
    direction: str
    seconds: float
    share: float
    flops: float
    traffic: float


def profile(network: Network) -> list[Line]:
    """Return the operations of a step, the longest first."""
    trainer = Trainer(model_of(network), optimizer=SGD(LEARNING_RATE), threads=1)
    x, y = batches(network)[0]
    trainer.step(x, y)
    program = trainer._program
    assert program is not None
    (step,) = program.steps.values()
    tapes = [(call, record_calls([call])) for call in _calls(program, step)]
    seconds = np.median([_round(tapes) for _ in range(_rounds(tapes))], axis=0)
    spent: dict[tuple[Any, str], float] = {}
    for (call, _), one in zip(tapes, seconds, strict=True):
        key = call.owner, DIRECTIONS.get(call.method.__name__, "forward")
        spent[key] = spent.get(key, 0.0) + one
    total = sum(spent.values())
    lines = [
        Line(_name(program, owner), direction, one, one / total, *_work(program, owner, direction, len(x)))
        for (owner, direction), one in spent.items()
        if one / total >= LEAST
    ]
    return sorted(lines, key=lambda line: -line.seconds)


def _calls(program: Program, step: Step) -> Iterator[Call]:
    """Yield the calls of a step in their order."""
    graph = program.graph
    yield from schedule.prepare_calls(graph)
    for direction, stage in step._parts():
        if direction.startswith("meet"):
            op = graph.ops[graph.sync_points[stage]]
            method = op.sync_forward if direction == "meet_forward" else op.sync_backward
            yield Call(op, method, (program.at_sync(step.slices),))
            continue
        if direction == "prepare":
            yield from schedule.late_calls(graph, stage)
            continue
        if direction == "sum":
            yield from (call for task in step.stage_sums[stage].tasks for call in task)
            continue
        for shard in range(len(step.slices)):
            yield from step._calls(direction, stage, shard, 0)
    update = step.update
    assert update is not None
    yield from (call for each in update.passes for task in each.tasks for call in task)


def _rounds(tapes: list[tuple[Call, Tape]]) -> int:
    """Return how many rounds fill the time, after one that warms up."""
    _round(tapes)
    return max(3, min(ROUNDS, int(SECONDS / sum(_round(tapes)))))


def _round(tapes: list[tuple[Call, Tape]]) -> list[float]:
    """Return the seconds of each call, in one step."""
    seconds = []
    for _, tape in tapes:
        began = time.perf_counter()
        tape.play()
        seconds.append(time.perf_counter() - began)
    return seconds


def _name(program: Program, owner: Any) -> str:
    """Return an operation with its shapes, and the implementation of a convolution."""
    if not isinstance(owner, Op):
        return "loading the batch" if isinstance(owner, KernelCalls) else type(owner).__name__
    x, y = (program.graph.graph.shapes[value] for value in (owner.x, owner.y))
    how = getattr(owner, "implementation", None)
    name = f"{type(owner).__name__.removesuffix('Op')}{f' {how.__name__}' if how else ''}"
    return f"{owner.index} {name} {'x'.join(map(str, x))} to {'x'.join(map(str, y))}"


def _work(program: Program, owner: Any, direction: str, n: int) -> tuple[float, float]:
    """Return the FLOPs of an operation, and the bytes that it reads and writes."""
    size = program.flat.itemsize
    if isinstance(owner, KernelCalls):
        return 0.0, float(2 * n * program.graph.values[0].image_size * size)
    if not isinstance(owner, Op):
        return 0.0, float(2 * program.flat.nbytes if direction == "forward" and owner is not program.loss else 0)
    if direction == "prepare":
        return 0.0, float(2 * owner.weights._flat.nbytes)
    graph = program.graph
    values = sum(graph.values[value].image_size for value in (*owner.reads, *owner.writes))
    back = sum(layout.image_size for value in (*owner.reads, *owner.writes) if (layout := graph.gradients[value]))
    weights = owner.weights._flat.nbytes
    flops = 2 * n * owner.work(graph.graph)
    if direction == "forward":
        return flops, float(n * values * size + weights)
    return flops * (1 + any(graph.gradients[value] is not None for value in owner.reads)), float(
        n * (values + back) * size + weights
    )
