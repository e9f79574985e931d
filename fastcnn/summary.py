"""The summary of a model: a table of its layers, their shapes, parameters and work, and the memory of a step."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from . import markup
from .engine.allocate import allocate
from .engine.ir import Graph, Store
from .engine.planner import make_plan
from .engine.weights import Weights
from .layers.container import Container
from .typing import Array, Shape


class Row(NamedTuple):
    """A layer in the table; the layers inside a container have rows of their own.

    Attributes
    ----------
    place : str
        Prefix of its parameters' names.
    layer : str
    output_shape : tuple of int
    parameters : int or None
        How many numbers are trained; None for a container.
    flops : int or None
        Two for each product of one image's forward pass.
    """

    place: str
    layer: str
    output_shape: Shape
    parameters: int | None
    flops: int | None

    @property
    def cells(self) -> tuple[str, ...]:
        """The texts of the row."""
        numbers = ("" if number is None else f"{number:,}" for number in (self.parameters, self.flops))
        depth = self.place.count(".")
        return self.place, "  " * depth + self.layer, " × ".join(map(str, self.output_shape)), *numbers


def rows(model: Container) -> list[Row]:
    """Return the rows of a built model's layers, in order."""
    assert model.input_shape is not None
    graph = Graph(model.input_shape, model._flat.dtype, fuse=False)
    model._lower(graph, 0)
    flops: dict[Weights, int] = {}
    for op in graph.ops:
        flops[op.weights] = flops.get(op.weights, 0) + 2 * round(op.work(graph))
    return list(_rows(model, model.input_shape, "", flops))


def _rows(model: Container, input_shape: Shape, prefix: str, flops: dict[Weights, int]) -> Iterator[Row]:
    for (place, layer), (_, inside) in zip(model._children(), model._inner_shapes(input_shape), strict=True):
        name, output_shape = prefix + place, layer.output_shape(inside)
        if isinstance(layer, Container):
            yield Row(name, _label(layer), output_shape, None, None)
            yield from _rows(layer, inside, name + ".", flops)
        else:
            count = sum(array.size for array in layer.parameters.values())
            yield Row(name, _label(layer), output_shape, count, flops.get(layer, 0))


def _label(layer: Any) -> str:
    """Return the class of a layer, and its own name where it has one."""
    kind = type(layer).__name__
    return kind if layer.name == kind else f"{kind} {layer.name}"


def step_flops(table: list[Row], images: int) -> int:
    """Return the work of a training step: backward is twice forward, less the first layer's input gradient."""
    forward = [row.flops for row in table if row.flops]
    return images * (3 * sum(forward) - sum(forward[:1]))


def step_memory(model: Container, images: int) -> int:
    """Return the bytes of a step with all images at once: parameters, maps, the gradients of both, scratch."""
    assert model.input_shape is not None
    sizes = []
    for n in (1, 2):
        graph = Graph(model.input_shape, model._flat.dtype)
        graph.output = model._lower(graph, 0)
        stores: tuple[Store, Store] = ({}, {})
        allocate(make_plan(graph, n), *stores)
        arrays = {id(array): array for array in _arrays(stores)}
        sizes.append(sum(array.nbytes for array in arrays.values()))
    return 2 * model._flat.nbytes + sizes[0] + (images - 1) * (sizes[1] - sizes[0])


def _arrays(thing: Any) -> Iterator[Array]:
    """Yield the arrays in lists, tuples, dicts and dataclasses."""
    if isinstance(thing, np.ndarray):
        yield thing
    elif isinstance(thing, list | tuple):
        for part in thing:
            yield from _arrays(part)
    elif isinstance(thing, dict):
        yield from _arrays(list(thing.values()))
    elif dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        yield from _arrays([getattr(thing, part.name) for part in dataclasses.fields(thing)])


class Summary(str):
    """A table as text, which a notebook shows as a table."""

    _html: str

    def _repr_html_(self) -> str:
        return self._html


def summarize(model: Container, batch_size: int) -> Summary:
    """Return the table of a built model, with the work and the memory of a training step of `batch_size` images."""
    table = rows(model)
    total = sum(row.parameters or 0 for row in table), sum(row.flops or 0 for row in table)
    head = ("place", "layer", "output", "parameters", "FLOP")
    lines = [head, *(row.cells for row in table), ("total", "", "", *(f"{number:,}" for number in total))]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["  ".join(_aligned(line, widths)).rstrip() for line in lines]
    work, memory = step_flops(table, batch_size) / 1e6, step_memory(model, batch_size) / 1e6
    images = "1 image" if batch_size == 1 else f"{batch_size:,} images"
    text.append(f"A training step of {images}: {work:,.2f} MFLOP, about {memory:,.1f} MB in memory.")
    summary = Summary("\n".join(text))
    summary._html = markup.framed(markup.table(head, lines[1:]) + f"<p>{markup.text(text[-1])}</p>")
    return summary


def _aligned(line: tuple[str, ...], widths: list[int]) -> Iterator[str]:
    """Yield the cells of a line: words to the left, numbers to the right."""
    for column, (cell, width) in enumerate(zip(line, widths, strict=True)):
        yield cell.rjust(width) if column > 2 else cell.ljust(width)
