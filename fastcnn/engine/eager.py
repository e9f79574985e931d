"""The notebook's way of working: a layer's operations with a workspace of their own, kept from call to call."""

from __future__ import annotations

import math
from itertools import chain
from typing import Protocol

import numpy as np

from ..runtime.record import record_calls, run_calls
from ..runtime.tape import Tape
from ..typing import Array, Gradients, Shape
from . import schedule
from .allocate import allocate
from .arrays import aligned_zeros
from .ir import Graph, RunContext
from .layout import Layout
from .load import load
from .planner import make_plan
from .weights import Weights, gradient_places
from .workspace import Workspace

CHUNK = 1 << 26  # numbers of a batch that pass through one memory; longer batches are cut
KEPT = 4  # sessions of a layer: for whole batches, for the last one of an epoch, and for as many of a test


class Lowerable(Protocol):
    """What a session runs: a layer."""

    @property
    def _flat(self) -> Array: ...

    @property
    def _size(self) -> int: ...

    def output_shape(self, input_shape: Shape) -> Shape: ...

    def _lower(self, graph: Graph, x: int) -> int: ...

    def _gradients_by_layer(self, flat: Array) -> dict[Weights, Gradients]: ...


class Sessions:
    """The sessions of a layer by shape and dtype of the batch: a few, as long as they fit CHUNK numbers together.

    Attributes
    ----------
    last : Session or None
        That of the last forward pass.
    """

    def __init__(self) -> None:
        self.last: Session | None = None
        self._kept: dict[tuple[Shape, np.dtype], Session] = {}  # the one that was used last stands last

    def find(self, x: Array) -> Session | None:
        """Return the session for batches such as `x`, if there is one; it is the last one from now on."""
        last = self.last
        if last is not None and x.shape == last.shape and x.dtype == last.dtype:
            return last
        session = self._kept.pop((x.shape, x.dtype), None)
        return None if session is None else self._enter(session)

    def open(self, layer: Lowerable, x: Array, calls: int) -> Session:
        """Return a new session for batches such as `x`, when there were so many calls before."""
        session = Session(layer, x.shape, x.dtype, calls)
        while self._kept and not self._has_room(session):
            del self._kept[next(iter(self._kept))]
        return self._enter(session)

    def _enter(self, session: Session) -> Session:
        """Let a session follow the last one: it counts the calls on."""
        if self.last is not None:
            session.calls, self.last.ready = self.last.calls, False
        self._kept[session.shape, session.dtype] = self.last = session
        return session

    def _has_room(self, session: Session) -> bool:
        size = session.size + sum(kept.size for kept in self._kept.values())
        return len(self._kept) < KEPT and size <= CHUNK


class Session:
    """Forward and backward of one layer for batches of one shape and dtype.

    Buffers and gradients are written anew by each call; what is returned is the caller's.

    Attributes
    ----------
    ready : bool
        Whether there is a forward pass to go back from.
    calls : int
        How often `forward` was called in training, sessions before this one included: the step of dropout's masks.
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
        for (n, workspace), context in zip(self.shards, self.contexts, strict=True):
            context.training = training
            load(self.plan, x[context.first : context.first + n], n, workspace)
        self._play("forward", training)
        self.ready, self.calls = True, self.calls + training
        return self._collect(self.outputs, self.output_shape)

    def backward(self, dL_dout: Array) -> Array:
        """Return the gradient of the input; leave the parameters' in `gradient`."""
        for view, first in zip(self.output_gradients, self.firsts, strict=True):
            view[...] = dL_dout[first : first + len(view)].reshape(view.shape)
        self._play("backward", self.contexts[0].training)
        if len(self.parts) > 1:
            self.gradient[...] = self.parts[0]
            for part in self.parts[1:]:
                self.gradient += part
        return self._collect(self.input_gradients, self.shape)

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
    """Return the public view of an edge that has memory."""
    assert layout is not None
    assert buffer is not None
    return layout.view(buffer, n)
