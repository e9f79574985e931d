"""Prediction: a model's operations without a backward pass, and the little memory that any batch flows through."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .engine import schedule
from .engine.allocate import allocate
from .engine.arrays import aligned_zeros, owned
from .engine.ir import Graph, RunContext
from .engine.layout import padded
from .engine.load import load, load_from
from .engine.planner import make_plan
from .engine.workspace import Workspace
from .jit.recorder import recording
from .jit.target import COMMON
from .kernels import compare
from .runtime import threads as parallel
from .runtime.record import Call, record_calls, run_calls
from .runtime.rehearsal import rehearse
from .runtime.tape import Tape
from .typing import Array, IntArray, Shape

if TYPE_CHECKING:
    from .layers.container import Container
    from .layers.segment import Segment

CACHE = 2 * COMMON.second  # bytes of the maps before and behind an operation, for one chunk of a batch
WORK = 10e6  # multiply-adds below which a chunk is not worth a hand-over to a thread
SMALL = 1 << 14  # bytes: a smaller batch is copied, which is cheaper than `array.ctypes.data` (about 0.8 µs)
TAPES = 64  # lengths of chunks whose calls are remembered


class Predictors:
    """The predictors of a model that no call is using just now.

    A call takes one or makes one, and leaves it here afterwards. So threads that predict at the same time
    share nothing that is written, and there is no lock; and the next call finds its tables and buffers.
    """

    def __init__(self, model: Container) -> None:
        self.flat = model._flat
        self.fitting = images_in_cache(model)
        self.singles: list[Predictor] = []  # those that are made for one image
        self.idle = {1: self.singles}

    def repeat(self, x: Any, batch_size: Any, threads: Any) -> Array | None:
        """Fast path: replay the last one-image record. None if shape, dtype or weights differ.

        For one image neither `batch_size` nor `threads` matters, as long as they are what they should be.
        """
        if type(batch_size) is not int or batch_size < 1:
            return None
        if not (threads is None or (type(threads) is int and threads > 0)):
            return None
        try:
            predictor = self.singles.pop()
        except IndexError:
            return None
        record = predictor.last
        is_right = record.play(x) and (record.changed is None or not record.changed[0])
        result = record.output.copy() if is_right else None
        self.singles.append(predictor)
        return result

    def predict(self, model: Container, x: Array, batch_size: int, threads: int) -> Array:
        """Return the outputs for a batch, with at most `batch_size` images in memory."""
        threads = min(threads, batch_size)
        images = min(self.fitting, batch_size // threads, -(-len(x) // threads))
        images = 1 << (images.bit_length() - 1)
        idle = self.idle.setdefault(images, [])
        try:
            predictor = idle.pop()
        except IndexError:
            predictor = Predictor(model, images)
        output = predictor.predict(x, threads)
        idle.append(predictor)  # unless something went wrong
        return output


class Predictor:
    """A model's operations with packed parameters, and memory for each worker: for one call at a time.

    Attributes
    ----------
    images : int
        The most images of a chunk.
    """

    def __init__(self, model: Container | Segment, images: int) -> None:
        assert model.input_shape is not None
        self.images = images
        graph = Graph(model.input_shape, model._flat.dtype, training=False)
        graph.output = model._lower(graph, 0)
        self.plan = make_plan(graph, images)
        self.output_shape = model.output_shape(model.input_shape)
        self.work = sum(op.work(graph) for op in graph.ops)
        self.workspaces: dict[int, Workspace] = {}
        self.chunks: dict[tuple[int, int], _Chunk] = {}
        self.records: dict[tuple[Shape, np.dtype], _Record] = {}
        self.last = NONE
        self.copies = _Copies(array for op in graph.ops for array in op.copied())
        self.context = RunContext(training=False)

    def predict(self, x: Array, threads: int) -> Array:
        """Return the outputs for a batch, in chunks."""
        output = self.repeat(x)
        if output is not None:
            return output
        n = len(x)
        if self.copies.are_stale():
            self.chunks.clear()
            self.records.clear()
            self.last = NONE
            if not self.workspaces:
                self.workspaces[0] = workspace = allocate(self.plan)
                rehearse([*schedule.prepare_calls(self.plan), *self._calls(min(n, self.images), workspace)])
            run_calls(schedule.prepare_calls(self.plan))
        output = np.empty((n, *self.output_shape), self.plan.dtype)
        chunks = -(-n // self.images)
        if chunks == 1:
            self._predict(x, output, 0)
            self._record(x)
            return output

        def task(chunk: int, worker: int) -> None:
            # Chunks of nearly equal length: no thread waits for a long last one.
            first, last = chunk * n // chunks, (chunk + 1) * n // chunks
            self._predict(x[first:last], output[first:last], worker)

        parallel.run(chunks, task, threads if n * self.work >= 2 * WORK else 1)
        return output

    def repeat(self, x: Array) -> Array | None:
        """Return the output for a batch of a kind that is recorded, if the weights are those of then; else None."""
        record = self.records.get((x.shape, x.dtype))
        if record is None or not record.play(x):
            return None
        self.last = record
        return None if self.copies.changed[0] else record.output.copy()

    def _record(self, x: Array) -> None:
        """Keep all calls of the prediction of a small batch, which was one chunk just now."""
        n, chunk = len(x), self.chunks.get((0, len(x)))
        if chunk is None or x.nbytes > SMALL or x.dtype not in (self.plan.dtype, np.uint8):
            return
        images = owned(np.empty(x.shape, x.dtype))
        source = owned(np.array([images.ctypes.data]))
        with recording(Tape()) as load:
            load_from(self.plan, source, np.zeros(0, x.dtype), 0, n, chunk.workspace)
        changed = self.copies.changed if self.copies.now else None
        record = _Record(images, self.copies.look + load + chunk.tape, changed, chunk.output)
        self.records[x.shape, x.dtype] = self.last = record

    def _predict(self, x: Array, output: Array, worker: int) -> None:
        """Write the output of one chunk; what the first of its length records is repeated later."""
        n, plan = len(x), self.plan
        chunk = self.chunks.get((worker, n))
        if chunk is not None:
            load(plan, x, n, chunk.workspace)
            chunk.tape.play()
            output[...] = chunk.output
            return
        if worker not in self.workspaces:
            self.workspaces[worker] = allocate(plan)
        workspace = self.workspaces[worker]
        load(plan, x, n, workspace)
        tape = record_calls(self._calls(n, workspace))
        maps = plan.values[plan.output].view(workspace.values[plan.output], n)
        chunk = _Chunk(workspace, tape, maps if len(self.output_shape) == 3 else maps[:, :, 0, 0])
        output[...] = chunk.output
        if len(self.chunks) < TAPES:
            self.chunks[worker, n] = chunk

    def _calls(self, n: int, workspace: Workspace) -> Iterator[Call]:
        for op in self.plan.ops:
            yield Call(op, op.forward, (n, workspace, self.context))


class _Chunk(NamedTuple):
    """A worker's memory, the recorded calls that compute the output of so many images in it, and the output."""

    workspace: Workspace
    tape: Tape
    output: Array


class _Record(NamedTuple):
    """The recorded prediction of a small batch.

    Attributes
    ----------
    images : array
        Where the calls read the batch; only batches of its shape and dtype can be predicted so.
    tape : Tape
    changed : int64 array of shape (1,) or None
        Not 0 after the calls if parameters were written, of which there are copies: then the output is worth nothing.
        None if there are no copies.
    output : array
        Where the calls write the output.
    """

    images: Array
    tape: Tape
    changed: IntArray | None
    output: Array

    def play(self, x: Any) -> bool:
        """Compute the output of `x`; False if it is a batch of another kind."""
        if type(x) is not np.ndarray or x.shape != self.images.shape or x.dtype != self.images.dtype:
            return False
        self.images[...] = x
        self.tape.play()
        return True


NONE = _Record(np.empty(0, "V1"), Tape(), None, np.empty(0))


class _Copies:
    """Copies of arrays, to see whether a bit of them has changed."""

    def __init__(self, arrays: Iterable[Array]) -> None:
        # As whole words: the arrays are contiguous, of 4 or 8 bytes a number.
        distinct = {array.ctypes.data: array.reshape(-1).view(np.uint32) for array in arrays if array.size}
        self.now = list(distinct.values())
        self.then = [aligned_zeros(words.size, words.dtype) for words in self.now]
        self.changed = owned(np.ones(1, np.int64))  # nothing has been copied yet
        with recording(Tape()) as self.look:
            for now, then in zip(self.now, self.then, strict=True):
                compare.note_change(now, then, now.size, self.changed)

    def are_stale(self) -> bool:
        """Tell whether the arrays have changed since the last call; a change during this call is found by the next."""
        self.look.play()
        if not self.changed[0]:
            return False
        for now, then in zip(self.now, self.then, strict=True):
            then[...] = now
        self.changed[0] = 0
        return True


def images_in_cache(model: Container | Segment) -> int:
    """Return of how many images the largest maps before and behind an operation fit the cache; at least one."""
    assert model.input_shape is not None
    graph = Graph(model.input_shape, model._flat.dtype, training=False)
    model._lower(graph, 0)
    sizes = [padded(channels) * height * width for channels, height, width in graph.shapes]
    most = max([sizes[0], *(sum(sizes[value] for value in op.reads) + sizes[op.y] for op in graph.ops)])
    return max(1, CACHE // (most * graph.dtype.itemsize))
