"""fastcnn's convolution algorithms, one direction at a time, below the layers: what `bench.kernels` times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastcnn import Conv2D
from fastcnn.engine.allocate import allocate
from fastcnn.engine.ir import Graph
from fastcnn.engine.load import load
from fastcnn.engine.planner import make_plan
from fastcnn.jit.recorder import recording
from fastcnn.runtime.tape import Tape

Direction = tuple[Callable[[], Any], Callable[[Any], np.ndarray]]


def directions(
    algorithm: str, x: np.ndarray, filters: np.ndarray, dL_dout: np.ndarray, padding: int
) -> dict[str, Direction]:
    """Return, for each direction, a call of the algorithm with all transforms of the filters, and its public result."""
    n, *shape = x.shape
    layer = Conv2D(len(filters), filters.shape[2:], padding=padding, bias=False, algorithm=algorithm)
    layer.build(tuple(shape), dtype=x.dtype)
    layer.filters = filters
    graph = Graph(tuple(shape), x.dtype)
    graph.output = layer._lower(graph, 0)
    plan = make_plan(graph, n, input_gradient=True)
    workspace = allocate(plan)
    load(plan, x, n, workspace)
    op = plan.ops[0]
    y, gradient = workspace.values[op.y], workspace.gradients[op.y]
    plan.gradients[op.y].view(gradient, n)[...] = dL_dout
    dx, scratch = workspace.gradients[0], workspace.scratchpad[0]
    dw, dbias = np.zeros_like(layer._flat), np.zeros_like(workspace.saved[0].dbias)

    def forward() -> None:
        op.prepare()
        op.algorithm.forward(n, workspace.values[0], op.post, y, scratch)

    def input_gradient() -> None:
        op.prepare()
        op.algorithm.input_gradient(n, gradient, dx, scratch)

    def filter_gradient() -> None:
        op.algorithm.filter_gradient(n, workspace.values[0], gradient, dw, dbias, scratch)

    call = recorded if op.traits.replayable else lambda direction: direction
    found: dict[str, Direction] = {
        "forward": (call(forward), lambda _: plan.values[op.y].view(y, n)),
        "filter gradient": (call(filter_gradient), lambda _: layer._show(dw)["filters"]),
    }
    if shape[0] > 3:  # the first layer of a network computes none
        found["input gradient"] = (call(input_gradient), lambda _: plan.gradients[0].view(dx, n))
    return found


def recorded(direction: Callable[[], Any]) -> Callable[[], Any]:
    """Return what repeats the kernel calls of a direction, as training does."""
    with recording(Tape()) as tape:
        direction()
    return tape.play
