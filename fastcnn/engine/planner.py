"""The planner: passes over a graph, one file each, in this order; `make_plan` runs them.

1. `assign_layouts`: halos and pitches of all values and gradients;
2. `stages`: where the shards of a batch meet;
3. `microbatch`: how many images go through each stage at a time;
4. `memory_plan.unsaved_values`: what is computed again instead of saved;
5. `blocked_layout`: what lies in blocks of channels meanwhile;
6. the operations write their tables (`Op.bind`);
7. `memory_plan`: which values share memory;
8. `backward_filters`: what is prepared for backward in turns.
"""

from __future__ import annotations

from dataclasses import replace

from .assign_layouts import assign_layouts
from .backward_filters import share_backward_filters
from .blocked_layout import blocked_gradients, blocked_values
from .ir import Graph, Plan
from .memory_plan import allocate_gradients, allocate_values, unsaved_values
from .microbatch import descends, microbatch_size
from .stages import sync_points


def make_plan(graph: Graph, images: int, *, input_gradient: bool = False) -> Plan:
    """Return the plan for up to `images` images at once, all operations bound to it.

    Parameters
    ----------
    graph : Graph
    images : int
    input_gradient : bool
        Whether the gradient with respect to the network's input is wanted.
    """
    layouts = assign_layouts(graph, input_gradient)
    points = sync_points(graph)
    stages = range(len(points) + 1)
    sizes = [microbatch_size(graph, layouts, points, stage, images) for stage in stages]
    descending = [descends(graph, layouts, points, stage) for stage in stages]
    recomputed = {value for value, again in unsaved_values(graph, points).items() if again}
    values = blocked_values(graph, layouts, points, sizes, recomputed)
    gradients = blocked_gradients(graph, layouts, points, sizes, values)
    plan = Plan(graph, images, *layouts, points, sizes, descending, recomputed, values, gradients)
    for op in graph.ops:
        op.bind(plan)
    allocations = allocate_values(plan), allocate_gradients(plan)
    return replace(plan, allocations=allocations, late=share_backward_filters(plan))
