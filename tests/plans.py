"""The plan of a model, as a training step or a prediction makes it."""

from __future__ import annotations

from fastcnn import Sequential
from fastcnn.engine.ir import Graph, Plan
from fastcnn.engine.planner import make_plan


def plan_of(
    model: Sequential, images: int, *, training: bool = True, fuse: bool = True, input_gradient: bool = False
) -> Plan:
    """Return the plan of a built model for up to `images` images."""
    graph = Graph(model.input_shape, model._flat.dtype, training=training, fuse=fuse)
    graph.output = model._lower(graph, 0)
    return make_plan(graph, images, input_gradient=input_gradient)
