"""A training step on ranks: each computes some of a batch's shards, and what these come to is added in their order.

A batch is cut into shards as ever, by its work alone; a rank has a run of them. So the numbers are those of one
process:

- *syncs*: what the shards of others have come to, moments of batch normalisation for instance, is gathered, and
  every rank reduces all of it, in the order of the shards;
- *gradients*: a rank owns a chunk of the flat vector. It gets that chunk of all shards' rows, sums it up in the order
  of the shards, and all sums are gathered;
- *update*: every rank takes the optimizer's step with the same gradient. To divide the optimizer's state would spare
  memory, but then no rank alone could show it, write it, or go on when another one dies;
- *loss and accuracy*: the shards' totals are gathered.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np

from ..engine.arrays import aligned_zeros
from ..engine.workspace import Workspace
from ..kernels import update as kernels
from ..losses import Loss, Targets
from ..model import Sequential
from ..optim.averaging import Average
from ..optim.optimizer import Optimizer
from ..ranks.communicator import Communicator, check_alike
from ..runtime import threads as parallel
from ..runtime.record import Call, KernelCalls
from ..typing import Array, IntArray
from .step import SHARDS, Program, Step
from .update import SWEEP, Update


class RankedProgram(Program):
    """A program for the shards of one rank; of the others there is only what a sync needs."""

    sums_by_stage = False  # ranks exchange rows of all parameters

    def __init__(self, model: Sequential, loss: Loss, n: int, communicator: Communicator) -> None:
        super().__init__(model, loss, n)
        self.communicator = communicator
        self.absent: dict[int, Workspace] = {}

    def images(self, n: int) -> slice:
        """Return which images of a batch of `n` this rank reads."""
        slices = self.slices(n)
        shards = self.communicator.share(len(slices), self.communicator.rank)
        return slice(slices[shards[0]][0], slices[shards[-1]][1]) if shards else slice(0, 0)

    def step(self, x: Array, targets: Targets) -> Step:
        if not self.is_fed:
            facts = {"targets": _digest(*targets.arrays), "x": _digest(x)}
            check_alike(self.communicator, "Trainer: batch", facts)
        return super().step(x, targets)

    def _new_step(self, x: Array, targets: Targets) -> Step:
        return RankedStep(self, x, targets)

    def at_sync(self, slices: list[tuple[int, int]]) -> list[tuple[int, Workspace]]:
        shards = self.communicator.share(len(slices), self.communicator.rank)
        return [
            (last - first, self.at_shard(s) if s in shards else self._absent(s))
            for s, (first, last) in enumerate(slices)
        ]

    def _absent(self, shard: int) -> Workspace:
        """Return a workspace with room for what a shard of another rank leaves at sync points."""
        if shard not in self.absent:
            saved = [op.allocate(self.graph) if op.traits.syncs else None for op in self.graph.ops]
            self.absent[shard] = Workspace([], [], saved, [], np.zeros(0))
        return self.absent[shard]


class RankedStep(Step):
    """A step of which this rank computes its own shards."""

    program: RankedProgram

    def __init__(self, program: RankedProgram, x: Array, targets: Targets) -> None:
        super().__init__(program, x, targets)
        self.communicator = program.communicator
        self.bounds = self.communicator.bounds(len(self.slices))
        self.met: dict[tuple[str, int], tuple[Array, list[tuple[Array, Array]], list[tuple[Array, Array]]]] = {}
        self.sums: parallel.Tasks | None = None

    def _own_shards(self) -> range:
        communicator = self.program.communicator
        return communicator.share(len(self.slices), communicator.rank)

    def run(self, direction: str, stage: int, threads: int) -> None:
        if self.shards:
            super().run(direction, stage, threads)

    def _is_recorded(self, threads: int) -> bool:
        return False  # as a whole: there are exchanges in between

    def _rehearse(self, update: Update) -> None:
        """Compile what is nowhere yet: rank 0 before all others, who find it where they have the cache in common."""
        if self.communicator.rank == 0:
            super()._rehearse(update)
        self.communicator.decide(True)
        if self.communicator.rank > 0:
            super()._rehearse(update)

    # Sync points.

    def _meet(self, direction: str, stage: int) -> None:
        self._gather_shared(direction, stage)
        super()._meet(direction, stage)

    def _gather_shared(self, direction: str, stage: int) -> None:
        """Gather the moments and the like of all ranks' shards, from which each rank reduces them."""
        key = direction, stage
        if key not in self.met:
            self.met[key] = self._places(direction, stage)
        rows, own, others = self.met[key]
        for row, array in own:
            row[...] = array
        self.communicator.gather(rows.reshape(-1), [bound * rows.shape[1] for bound in self.bounds])
        for row, array in others:
            array[...] = row

    def _places(self, direction: str, stage: int) -> tuple[Array, list[tuple[Array, Array]], list[tuple[Array, Array]]]:
        """Return rows for what is gathered, and pairs of a row and of where it comes from, or goes to."""
        op = self.program.graph.ops[self.program.graph.sync_points[stage]]
        shared = op.shared_forward if direction == "meet_forward" else op.shared_backward
        arrays = [shared(workspace) for _, workspace in self.program.at_sync(self.slices)]
        rows = aligned_zeros((len(arrays), arrays[0].size), arrays[0].dtype)
        pairs = list(zip(rows, arrays, strict=True))
        own = pairs[self.shards.start : self.shards.stop]
        return rows, own, pairs[: self.shards.start] + pairs[self.shards.stop :]

    def _means(self) -> tuple[float, float]:
        self.communicator.gather(self.totals.reshape(-1), [2 * bound for bound in self.bounds])
        return super()._means()

    # Gradients.

    def _new_update(self, optimizer: Optimizer, ema: Average | None) -> Update:
        """Return the update by one row: that of the sums."""
        update = self.program.new_update(1, optimizer, ema)
        program, rank, count = self.program, self.communicator.rank, len(self.slices)
        self.chunks, self.pieces = _pieces(optimizer._chunks[0], program.flat.size, self.communicator)
        squares = aligned_zeros(optimizer._chunks[0].size, np.float64)
        first, last = self.chunks[rank], self.chunks[rank + 1]
        tasks = min(SHARDS, 1 + (self.pieces[rank + 1] - self.pieces[rank]) * count // SWEEP)

        def summed(task: int) -> Iterator[Call]:
            span = (first + (last - first) * part // tasks for part in (task, task + 1))
            arguments = program.gradients, count, program.flat.size, *optimizer._chunks, *span, squares
            yield Call(KernelCalls(), kernels.sum_squares, arguments)

        self.sums = parallel.Tasks([list(summed(task)) for task in range(tasks)])
        return update

    def _reduce(self, threads: int) -> None:
        """Leave the sum of all shards' gradients in the first row."""
        assert self.sums is not None
        size, gradients = self.program.flat.size, self.program.gradients
        if len(self.slices) == 1:
            self.communicator.gather(gradients[:size], [size * bound for bound in self.bounds])
            return
        self.communicator.exchange(gradients.reshape(SHARDS, -1)[: len(self.slices)], self.bounds, self.pieces)
        self.sums.run(threads)
        self.communicator.gather(gradients[:size], self.pieces)


def _pieces(begins: IntArray, size: int, communicator: Communicator) -> tuple[list[int], list[int]]:
    """Return where the ranks' pieces of the flat vector begin and end: as numbers of chunks, and as places."""
    inner = np.searchsorted(begins, communicator.bounds(size)[1:-1])
    places = [int(begins[chunk]) if chunk < len(begins) else size for chunk in inner]
    return [0, *inner.tolist(), len(begins)], [0, *places, size]


def _digest(*arrays: Array) -> str:
    """Return words that tell arrays from others, quickly made."""
    return str([(array.shape, zlib.crc32(np.ascontiguousarray(array).data)) for array in arrays])
