"""Prediction: a model's blocks without a backward pass, and the little memory that any batch flows through."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import parallel
from .kernels.compare import same_words
from .kernels.tape import Tape
from .layers.block import Call, Graph, Memory, Pass, record_calls
from .layers.layout import padded
from .typing import Array

if TYPE_CHECKING:
    from .layers.container import Container

CACHE = 1 << 20  # bytes of the maps before and behind a block, for one piece of a batch
WORK = 10e6  # multiply-adds below which a piece is not worth a hand-over to a thread
TAPES = 64  # lengths of pieces whose calls are remembered


class Predictors:
    """The predictors of a model that nobody is using just now.

    Whoever predicts takes one or makes one, and leaves it here afterwards. So threads that predict at the same time
    share nothing that is written, and there is no lock; and the next call finds its tables and buffers.
    """

    def __init__(self, model: Container) -> None:
        self.flat = model._flat
        self.fitting = _images_in_cache(model)
        self.idle: dict[int, list[Predictor]] = {}

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
    """A model's blocks with packed parameters, and memory for each worker: for one call at a time.

    Attributes
    ----------
    images : int
        The most images of a piece.
    """

    def __init__(self, model: Container, images: int) -> None:
        assert model.input_shape is not None
        self.images, self.numbers = images, [model._flat, *model._state().values()]
        self.graph = Graph(model.input_shape, images, model._flat.dtype, training=False)
        self.graph.output = model._connect(self.graph, 0)
        self.graph.finish()
        self.output_shape = model.output_shape(model.input_shape)
        self.work = sum(block.work(self.graph) for block in self.graph.blocks)
        self.memories: dict[int, Memory] = {}
        self.tapes: dict[tuple[int, int], Tape] = {}
        self.packed: list[Array] = []
        self.run = Pass(training=False)

    def predict(self, x: Array, threads: int) -> Array:
        """Return the outputs for a batch, in pieces."""
        self._prepare()
        n, graph = len(x), self.graph
        output = np.empty((n, *self.output_shape), graph.dtype)
        maps = output.reshape(n, *graph.shapes[graph.output])
        layout = graph.values[graph.output]
        pieces = -(-n // self.images)

        def task(piece: int, worker: int) -> None:
            # Pieces of nearly equal length: no thread waits for a long last one.
            first, last = piece * n // pieces, (piece + 1) * n // pieces
            memory = self._memory(worker)
            graph.load(x[first:last], last - first, memory)
            self._play(worker, last - first, memory)
            maps[first:last] = layout.view(memory.values[graph.output], last - first)

        parallel.run(pieces, task, threads if n * self.work >= 2 * WORK else 1)
        return output

    def _prepare(self) -> None:
        """Pack the parameters, unless they are, bit by bit, those that have been packed."""
        now = [_words(array) for array in self.numbers]
        if self.packed and all(same_words(old, new, new.size) for old, new in zip(self.packed, now, strict=True)):
            return
        # What is written meanwhile differs from these copies, and is packed by the next call.
        self.packed = [array.copy() for array in now]
        self.tapes.clear()
        self.graph.prepare()

    def _memory(self, worker: int) -> Memory:
        if worker not in self.memories:
            self.memories[worker] = self.graph.allocate()
        return self.memories[worker]

    def _play(self, worker: int, n: int, memory: Memory) -> None:
        tape = self.tapes.get((worker, n))
        if tape is not None:
            tape.play()
            return
        tape = record_calls(Call(block, block.forward, (n, memory, self.run)) for block in self.graph.blocks)
        if len(self.tapes) < TAPES:
            self.tapes[worker, n] = tape


def _words(array: Array) -> Array:
    """Return the bits of an array as whole words."""
    flat = np.ascontiguousarray(array).reshape(-1)
    odd = -flat.nbytes % 8
    return np.append(flat.view(np.uint8), np.zeros(odd, np.uint8)).view(np.uint64) if odd else flat.view(np.uint64)


def _images_in_cache(model: Container) -> int:
    """Return of how many images the largest maps before and behind a block fit the cache; at least one."""
    assert model.input_shape is not None
    graph = Graph(model.input_shape, 1, model._flat.dtype, training=False)
    model._connect(graph, 0)
    sizes = [padded(channels) * height * width for channels, height, width in graph.shapes]
    most = max([sizes[0], *(sum(sizes[edge] for edge in block.reads) + sizes[block.y] for block in graph.blocks)])
    return max(1, CACHE // (most * graph.dtype.itemsize))
