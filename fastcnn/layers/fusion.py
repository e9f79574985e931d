"""Which runs of layers become one operation: what the layers declare, `fuses_as` and `absorbs`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..engine.ir import Graph
from .base import Layer


def find_runs(layers: Sequence[Layer], training: bool = True) -> Iterator[tuple[Layer, Sequence[Layer]]]:
    """Yield each layer with the layers behind it that it absorbs: they are computed in the same pass."""
    start = 0
    while start < len(layers):
        head, behind = layers[start], layers[start + 1 :]
        words = tuple(layer.fuses_as for layer in behind)
        rows = head.absorbs if training or head.absorbs_in_prediction is None else head.absorbs_in_prediction
        count = next((len(row) for row in rows if words[: len(row)] == row), 0)
        yield head, behind[:count]
        start += 1 + count


def lower_row(graph: Graph, layers: Sequence[Layer], x: int) -> int:
    """Add the operations of layers in a row behind the value `x`; return the last value."""
    runs = find_runs(layers, graph.training) if graph.fuse else ((layer, ()) for layer in layers)
    for head, absorbed in runs:
        x = head._lower(graph, x, absorbed)
        if graph.watch is not None:
            x = graph.watch(graph, head, x)
    return x
