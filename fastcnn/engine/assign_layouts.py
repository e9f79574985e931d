"""A pass of the planner: the layout of each value and of its gradient, from the halos and pitches that are read."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from .ir import Graph
from .layout import Layout, padded


class Layouts(NamedTuple):
    """The layout of each value, and of its gradient; None where there is no gradient."""

    values: list[Layout]
    gradients: list[Layout | None]


def assign_layouts(graph: Graph, input_gradient: bool) -> Layouts:
    """Return the layouts: channels padded to whole vectors, with the widest halo that a reader asks for."""
    layouts = [Layout(*shape, padded(shape[0])) for shape in graph.shapes]
    gradients: list[Layout | None] = [layout if graph.training else None for layout in layouts]
    values = _with_halos(graph, layouts)
    if _may_have_any_pitch(graph):
        channels = graph.shapes[0][0]
        values[0] = replace(values[0], pitch=channels, is_padded=False)
        if gradients[0] is not None and not graph.aliases:
            gradients[0] = replace(gradients[0], pitch=padded(channels, graph.dtype))
    _share_with_aliases(graph, values)
    if not input_gradient:
        for value in (0, *(alias for alias, root in graph.aliases.items() if root == 0)):
            gradients[value] = None
        for value in _without_gradient(graph):
            gradients[value] = None
    for op in graph.ops:
        layout = gradients[op.y]
        if layout is not None:
            gradients[op.y] = layout.with_halo(layout.halo | op.gradient_halo())
    return Layouts(values, gradients)


def _without_gradient(graph: Graph) -> list[int]:
    """Return the values before which nothing is trained, of a network in which something is frozen.

    In others, a layer without parameters in front keeps its gradient, although nothing reads it: without it, another
    implementation, with other bits, would compute the gradients behind it.
    """
    if not any(op.is_frozen for op in graph.ops):
        return []
    needed: set[int] = set()
    for op in graph.ops:
        if op.trains or any(graph.aliases.get(value, value) in needed or value in needed for value in op.reads):
            needed.update(op.writes)
    # Where all is frozen, an optimizer says so; until then the loss can be measured.
    return [value for value in range(len(graph.shapes)) if needed and value not in needed]


def _with_halos(graph: Graph, layouts: list[Layout]) -> list[Layout]:
    values = list(layouts)
    for op in graph.ops:
        halo = op.input_halo()
        for value in op.reads:
            values[value] = values[value].with_halo(values[value].halo | halo)
    return values


def _may_have_any_pitch(graph: Graph) -> bool:
    """Tell whether all readers of the network's input find its channels through tables: then they need no padding."""
    readers = [op for op in graph.ops if any(graph.aliases.get(value, value) == 0 for value in op.reads)]
    return bool(readers) and all(op.traits.reads_any_pitch for op in readers)


def _share_with_aliases(graph: Graph, values: list[Layout]) -> None:
    """Give a value and its aliases one layout, with the halo of all."""
    for alias, root in graph.aliases.items():
        values[root] = values[root].with_halo(values[root].halo | values[alias].halo)
    for alias, root in graph.aliases.items():
        values[alias] = values[root]
