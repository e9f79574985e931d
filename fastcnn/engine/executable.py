"""A layer alone, compiled for batches of one shape: `forward` and `backward` outside a training step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import Protocol

import numpy as np

from ..runtime.record import record_calls, run_calls
from ..runtime.tape import Tape
from ..typing import Array, Gradients, Shape
from . import schedule
from .allocate import allocate
from .arrays import aligned_zeros
from .binding import BoundPass, Port
from .ir import Graph, RunContext
from .layout import Layout
from .load import load
from .planner import make_plan
from .weights import Weights, gradient_places
from .workspace import Workspace

CHUNK = 1 << 26  # numbers of a batch that pass through one memory; longer batches are cut


class Lowerable(Protocol):
    """What is compiled: a layer."""

    @property
    def _flat(self) -> Array: ...

    @property
    def _size(self) -> int: ...

    def output_shape(self, input_shape: Shape) -> Shape: ...

    def _lower(self, graph: Graph, x: int) -> int: ...

    def _gradients_by_layer(self, flat: Array) -> dict[Weights, Gradients]: ...


class Executable:
    """Forward and backward of one layer for batches of one shape and dtype.

    Buffers and gradients are written anew by each call; what is returned is the caller's.

    Attributes
    ----------
    ready : bool
        Whether there is a forward pass to go back from.
    calls : int
        How often `forward` was called in training, executables before this one included: the step of dropout's masks.
    size : int
        Numbers of its largest buffers.
    gradient : array
        The flat gradient of the layer's parameters.
    """

    def __init__(self, layer: Lowerable, shape: Shape, dtype: np.dtype, calls: int = 0) -> None:
        self.layer, self.shape, self.dtype = layer, shape, dtype
        self.output_shape = (shape[0], *layer.output_shape(shape[1:]))
        images = min(shape[0], max(1, CHUNK // math.prod(shape[1:])))
        graph = Graph(shape[1:], dtype)
        graph.output = layer._lower(graph, 0)
        self.plan = plan = make_plan(graph, images, input_gradient=True)
        self.firsts = range(0, shape[0], images)
        self.shards: list[tuple[int, Workspace]] = [
            (min(images, shape[0] - first), allocate(plan)) for first in self.firsts
        ]
        last = plan.output
        self.outputs = [_view(plan.values[last], n, workspace.values[last]) for n, workspace in self.shards]
        self.output_gradients = [
            _view(plan.gradients[last], n, workspace.gradients[last]) for n, workspace in self.shards
        ]
        self.input_gradients = [_view(plan.gradients[0], n, workspace.gradients[0]) for n, workspace in self.shards]
        self.gradient = aligned_zeros(layer._size, dtype)
        self.parts = [self.gradient]
        if len(self.shards) > 1:
            self.parts = [aligned_zeros(layer._size, dtype) for _ in self.firsts]
        self.by_layer = [gradient_places(layer._gradients_by_layer(part)) for part in self.parts]
        self.number = aligned_zeros(1, np.int64)
        self.contexts = [RunContext(first=first, number=self.number) for first in self.firsts]
        self.tapes: dict[tuple[str, bool], Tape] = {}
        self.bound: dict[tuple[str, bool], BoundPass] = {}
        self.ready = False
        self.calls = calls
        self.size = sum(
            buffer.size
            for _, workspace in self.shards
            for buffer in (*workspace.values, *workspace.gradients)
            if buffer is not None
        )

    def forward(self, x: Array, training: bool) -> Array:
        """Return the output of a batch."""
        self.ready = False
        self.number[0] = self.calls
        for context in self.contexts:
            context.training = training
        bound = self.bound.get(("forward", training))
        output = self._forward(x, training) if bound is None else bound(x)
        self.ready, self.calls = True, self.calls + training
        return output

    def backward(self, dL_dout: Array) -> Array:
        """Return the gradient of the input; leave the parameters' in `gradient`."""
        training = self.contexts[0].training
        bound = self.bound.get(("backward", training))
        return self._backward(dL_dout, training) if bound is None else bound(dL_dout)

    def _forward(self, x: Array, training: bool) -> Array:
        for (n, workspace), context in zip(self.shards, self.contexts, strict=True):
            load(self.plan, x[context.first : context.first + n], n, workspace)
        self._play("forward", training)
        output = self._collect(self.outputs, self.output_shape)
        self._bind_forward(training)
        return output

    def _backward(self, dL_dout: Array, training: bool) -> Array:
        for view, first in zip(self.output_gradients, self.firsts, strict=True):
            view[...] = dL_dout[first : first + len(view)].reshape(view.shape)
        self._play("backward", training)
        if len(self.parts) > 1:
            self.gradient[...] = self.parts[0]
            for part in self.parts[1:]:
                self.gradient += part
        dL_dinput = self._collect(self.input_gradients, self.shape)
        self._bind_backward(training)
        self._bind_forward(training)  # once more: which maps backward reads is known now
        return dL_dinput

    def _bind_forward(self, training: bool) -> None:
        """Let further passes work on the caller's arrays, where backward does not read what these have become since."""
        plan, last = self.plan, self.plan.output
        values, back = self.shards[0][1].values, self.tapes.get(("backward", training))
        fills = all(op.fills_maps(plan) for op in plan.ops if last in op.writes)
        reads = [back is None or back.touches(values[value]) for value in (0, last)]
        self._bind("forward", training, plan.values, values, (0, not reads[0]), (last, fills and not reads[1]))

    def _bind_backward(self, training: bool) -> None:
        plan, last = self.plan, self.plan.output
        keeps = all(op.keeps_gradient for op in plan.ops if last in op.writes)
        readers = plan.graph.readers(0)
        fills = len(readers) == 1 and readers[0].fills_maps(plan)
        self._bind("backward", training, plan.gradients, self.shards[0][1].gradients, (last, keeps), (0, fills))

    def _bind(
        self,
        direction: str,
        training: bool,
        layouts: Sequence[Layout | None],
        buffers: Sequence[Array | None],
        source: tuple[int, bool],
        target: tuple[int, bool],
    ) -> None:
        """Bind a recorded pass from one value to another; with each goes whether the pass may use caller's memory."""
        tape = self.tapes.get((direction, training))
        if tape is None or len(self.shards) > 1 or tape.native() is None:
            return
        (layout, buffer), (to, result) = ((layouts[value], buffers[value]) for value, _ in (source, target))
        assert layout is not None
        assert buffer is not None
        assert to is not None
        assert result is not None
        shape, output_shape = self.shape, self.output_shape
        if direction == "backward":
            shape, output_shape = output_shape, shape
        if not np.may_share_memory(buffer, result):
            fits = not to.outlasts_cache(shape[0], self.dtype)  # else stores go past the caches, to whole registers
            ports = Port(layout, buffer, shape, source[1]), Port(to, result, output_shape, target[1] and fits)
            self.bound[direction, training] = BoundPass(tape, *ports)

    def _play(self, direction: str, training: bool) -> None:
        """Run all shards one way; where nothing but kernels is called, the calls are recorded and repeated."""
        plan = self.plan
        if plan.sync_points or self.layer._flat.dtype != self.dtype:
            if direction == "forward":
                run_calls(schedule.prepare_calls(plan))
                schedule.forward(plan, self.shards, self.contexts)
            else:
                schedule.backward(plan, self.shards, self.by_layer, self.contexts)
            return
        tape = self.tapes.get((direction, training))
        if tape is None:
            self.tapes[direction, training] = self._record(direction)
        else:
            tape.play()

    def _record(self, direction: str) -> Tape:
        plan = self.plan
        calls = schedule.prepare_calls(plan) if direction == "forward" else iter(())
        for (n, workspace), context, gradients in zip(self.shards, self.contexts, self.by_layer, strict=True):
            if direction == "forward":
                calls = chain(calls, schedule.forward_calls(plan, 0, n, workspace, context))
            else:
                calls = chain(calls, schedule.backward_calls(plan, 0, n, workspace, gradients, context))
        return record_calls(calls)

    def _collect(self, views: list[Array], shape: Shape) -> Array:
        """Return the maps of all shards as a new public array, channels last in memory as they are in the buffers."""
        _, channels, height, width = views[0].shape
        whole = np.empty((self.shape[0], height, width, channels), self.dtype).transpose(0, 3, 1, 2)
        for view, first in zip(views, self.firsts, strict=True):
            whole[first : first + len(view)] = view
        return whole if whole.shape == shape else whole.reshape(shape)


def _view(layout: Layout | None, n: int, buffer: Array | None) -> Array:
    """Return the public view of a value that has memory."""
    assert layout is not None
    assert buffer is not None
    return layout.view(buffer, n)
