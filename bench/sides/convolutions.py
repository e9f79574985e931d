"""fastcnn's convolution algorithms, one direction at a time, below the layers: what `bench.kernels` times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastcnn import Conv2D
from fastcnn.engine.graph import Graph
from fastcnn.runtime.tape import Tape, recording

Direction = tuple[Callable[[], Any], Callable[[Any], np.ndarray]]


def directions(
    algorithm: str, x: np.ndarray, filters: np.ndarray, dL_dout: np.ndarray, padding: int
) -> dict[str, Direction]:
    """Return, for each direction, a call of the algorithm with all transforms of the filters, and its public result."""
    n, *shape = x.shape
    layer = Conv2D(len(filters), filters.shape[2:], padding=padding, bias=False, algorithm=algorithm)
    layer.build(tuple(shape), dtype=x.dtype)
    layer.filters = filters
    graph = Graph(tuple(shape), n, x.dtype, input_gradient=True)
    graph.output = layer._connect(graph, 0)
    graph.finish()
    memory = graph.allocate()
    graph.load(x, n, memory)
    block = graph.blocks[0]
    y, gradient = memory.values[block.y], memory.gradients[block.y]
    graph.gradients[block.y].view(gradient, n)[...] = dL_dout
    dx, scratch = memory.gradients[0], memory.scratch[0]
    dw, dbias = np.zeros_like(layer._flat), np.zeros_like(memory.kept[0].dbias)

    def forward() -> None:
        block.prepare()
        block.algorithm.forward(n, memory.values[0], block.biases, block.floor, y, scratch)

    def input_gradient() -> None:
        block.prepare()
        block.algorithm.input_gradient(n, gradient, dx, scratch)

    def filter_gradient() -> None:
        block.algorithm.filter_gradient(n, memory.values[0], gradient, dw, dbias, scratch)

    call = recorded if block.replayable else lambda direction: direction
    found: dict[str, Direction] = {
        "forward": (call(forward), lambda _: graph.values[block.y].view(y, n)),
        "filter gradient": (call(filter_gradient), lambda _: layer._show(dw)["filters"]),
    }
    if shape[0] > 3:  # the first layer of a network computes none
        found["input gradient"] = (call(input_gradient), lambda _: graph.gradients[0].view(dx, n))
    return found


def recorded(direction: Callable[[], Any]) -> Callable[[], Any]:
    """Return what repeats the kernel calls of a direction, as training does."""
    with recording(Tape()) as tape:
        direction()
    return tape.play
