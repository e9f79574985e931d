"""The notebook's way of working: a layer's blocks with memory of their own, kept from call to call."""

from __future__ import annotations

import math
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from ..runtime.record import record_calls
from ..runtime.tape import Tape
from ..typing import Array, Shape
from .graph import Graph
from .ir import Memory, Pass
from .layout import Layout, aligned_zeros

if TYPE_CHECKING:
    from ..layers.base import Layer

CHUNK = 1 << 26  # numbers of a batch that pass through one memory; longer batches are cut


class Session:
    """Forward and backward of one layer for batches of one shape and dtype.

    Buffers and gradients are written anew by each call; what is returned is the caller's.

    Attributes
    ----------
    ready : bool
        Whether there is a forward pass to go back from.
    calls : int
        How often `forward` was called, sessions before this one included: the step of dropout's masks.
    gradient : array
        The flat gradient of the layer's parameters.
    """

    def __init__(self, layer: Layer, shape: Shape, dtype: np.dtype, calls: int = 0) -> None:
        self.layer, self.shape, self.dtype = layer, shape, dtype
        self.output_shape = (shape[0], *layer.output_shape(shape[1:]))
        images = min(shape[0], max(1, CHUNK // math.prod(shape[1:])))
        self.graph = Graph(shape[1:], images, dtype, input_gradient=True)
        self.graph.output = layer._connect(self.graph, 0)
        self.graph.finish()
        self.firsts = range(0, shape[0], images)
        self.shards: list[tuple[int, Memory]] = [
            (min(images, shape[0] - first), self.graph.allocate()) for first in self.firsts
        ]
        last, graph = self.graph.output, self.graph
        self.outputs = [_view(graph.values[last], n, memory.values[last]) for n, memory in self.shards]
        self.output_gradients = [_view(graph.gradients[last], n, memory.gradients[last]) for n, memory in self.shards]
        self.input_gradients = [_view(graph.gradients[0], n, memory.gradients[0]) for n, memory in self.shards]
        self.gradient = aligned_zeros(layer._size, dtype)
        self.parts = [self.gradient]
        if len(self.shards) > 1:
            self.parts = [aligned_zeros(layer._size, dtype) for _ in self.firsts]
        self.by_layer = [layer._gradients_by_layer(part) for part in self.parts]
        self.number = np.zeros(1, np.int64)
        self.passes = [Pass(first=first, number=self.number) for first in self.firsts]
        self.tapes: dict[tuple[str, bool], Tape] = {}
        self.ready = False
        self.calls = calls

    def forward(self, x: Array, training: bool) -> Array:
        """Return the output of a batch."""
        self.ready = False
        graph = self.graph
        self.number[0] = self.calls
        for (n, memory), run in zip(self.shards, self.passes, strict=True):
            run.training = training
            graph.load(x[run.first : run.first + n], n, memory)
        self._play("forward", training)
        self.ready, self.calls = True, self.calls + 1
        return self._collect(self.outputs, self.output_shape)

    def backward(self, dL_dout: Array) -> Array:
        """Return the gradient of the input; leave the parameters' in `gradient`."""
        for view, first in zip(self.output_gradients, self.firsts, strict=True):
            view[...] = dL_dout[first : first + len(view)].reshape(view.shape)
        self._play("backward", self.passes[0].training)
        if len(self.parts) > 1:
            np.sum(self.parts, axis=0, out=self.gradient)
        return self._collect(self.input_gradients, self.shape)

    def _play(self, direction: str, training: bool) -> None:
        """Run all shards one way; where nothing but kernels is called, the calls are recorded and repeated."""
        graph = self.graph
        if graph.cuts or self.layer._flat.dtype != self.dtype:
            if direction == "forward":
                graph.prepare()
                graph.forward(self.shards, self.passes)
            else:
                graph.backward(self.shards, self.by_layer, self.passes)
            return
        tape = self.tapes.get((direction, training))
        if tape is None:
            self.tapes[direction, training] = self._record(direction)
        else:
            tape.play()

    def _record(self, direction: str) -> Tape:
        graph = self.graph
        calls = graph.prepare_calls() if direction == "forward" else iter(())
        for (n, memory), run, gradients in zip(self.shards, self.passes, self.by_layer, strict=True):
            if direction == "forward":
                calls = chain(calls, graph.forward_calls(0, n, memory, run))
            else:
                calls = chain(calls, graph.backward_calls(0, n, memory, gradients, run))
        return record_calls(calls)

    def _collect(self, views: list[Array], shape: Shape) -> Array:
        """Return the maps of all shards as a new public array, channels last in memory as they are in the buffers."""
        _, channels, height, width = views[0].shape
        whole = np.empty((self.shape[0], height, width, channels), self.dtype).transpose(0, 3, 1, 2)
        for view, first in zip(views, self.firsts, strict=True):
            whole[first : first + len(view)] = view
        return whole if whole.shape == shape else whole.reshape(shape)


def _view(layout: Layout | None, n: int, buffer: Array | None) -> Array:
    """Return the public view of an edge that has memory."""
    assert layout is not None
    assert buffer is not None
    return layout.view(buffer, n)
