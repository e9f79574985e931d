"""The last part of a step: the shards' gradients are summed, and the optimizer and the average take their step."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from functools import reduce

import numpy as np

from ..engine.arrays import aligned_zeros
from ..kernels import update as kernels
from ..model import Sequential
from ..optim.averaging import Average
from ..optim.flat_state import FlatState
from ..optim.optimizer import Optimizer
from ..runtime import threads as parallel
from ..runtime.record import Call
from ..runtime.tape import Tape
from ..typing import Array, IntArray
from .snapshot import Snapshot

SWEEP = 1 << 17  # numbers that are worth a thread in the update
SWEEPS = 64  # the most tasks of it

Span = tuple[int, int]  # a chunk of the flat vector


class Update:
    """The step of an optimizer and of an average, in chunks of the flat vector.

    Parameters
    ----------
    model : Sequential
    gradients : array of shape (rows · size,)
        A row of each shard, or of sums.
    rows : int
    number : array of shape (1,)
        That of the step; it is inverted when the step is taken.
    optimizer : Optimizer
    ema : Average or None
    """

    replayable = True  # so far as `sum_squares` goes

    def __init__(
        self,
        model: Sequential,
        gradients: Array,
        rows: int,
        number: IntArray,
        optimizer: Optimizer,
        ema: Average | None,
    ) -> None:
        self.model, self.optimizer, self.ema = model, optimizer, ema
        for thing, _ in self.steps():
            thing._bind(model)
        self.rates = optimizer._rates, None if ema is None else ema._rates
        self.clips = optimizer.clip_norm is not None
        self.gradients, self.rows, self.size = gradients, rows, model._flat.size
        tasks = min(SWEEPS, 1 + self.size * rows // SWEEP)
        self.squares = aligned_zeros(optimizer._chunks[0].size, np.float64)
        self.norm = parallel.Tasks([list(self._square(task, tasks)) for task in range(tasks)])
        self.passes = [parallel.Tasks(each) for each in self._passes(tasks)]
        self.mark = Tape()
        self.mark.add_inversion(number)
        self.recorded: dict[int, Tape | parallel.Jobs | None] = {}  # the sweep and the mark, as one native call

    def _passes(self, tasks: int) -> list[list[list[Call]]]:
        """Return the tasks of each pass over the parameters: more than one where a rule must see whole parameters."""
        optimizer, size = self.optimizer, self.size
        length = -(-size // (16 * tasks)) * 16
        spans = [(first, min(first + length, size)) for first in range(0, size, length)]
        sweeps = [list(self._sweep(span)) for span in spans]
        if not optimizer._wholes:
            return [sweeps]
        wholes = [[Call(optimizer, optimizer._update_whole, (k,))] for k in range(optimizer._wholes)]
        averages = [] if self.ema is None else [[list(self._average(span)) for span in spans]]
        return [sweeps, wholes, *averages]

    def _square(self, task: int, tasks: int) -> Iterator[Call]:
        """Yield the call that sums rows up, and the squares of the sums, in some of the optimizer's chunks."""
        chunks = self.optimizer._chunks
        span = task * chunks[0].size // tasks, (task + 1) * chunks[0].size // tasks
        arguments = self.gradients, self.rows, self.size, *chunks, *span, self.squares
        yield Call(self, kernels.sum_squares, arguments)

    def _sweep(self, span: Span) -> Iterator[Call]:
        optimizer = self.optimizer
        yield Call(optimizer, optimizer._update, (self.gradients, 1 if self.clips else self.rows, *span))
        if not optimizer._wholes:
            yield from self._average(span)

    def _average(self, span: Span) -> Iterator[Call]:
        if self.ema is not None:
            yield Call(self.ema, self.ema._update, span)

    def is_for(self, optimizer: Optimizer, ema: Average | None) -> bool:
        """Tell whether it is the update by these two, in the arrays that they have now."""
        return (
            optimizer is self.optimizer
            and ema is self.ema
            and optimizer._rates is self.rates[0]
            and (ema is None or ema._rates is self.rates[1])
            and self.clips == (optimizer.clip_norm is not None)
        )

    def steps(self) -> Sequence[tuple[FlatState, int]]:
        """Return the steps of optimizer and average."""
        optimizer, ema = self.optimizer, self.ema
        one = optimizer, optimizer.steps
        return (one,) if ema is None else (one, (ema, ema.steps))

    def snapshot(self, threads: int) -> Snapshot:
        """Return copies of what a step may leave half changed."""
        before = Snapshot()
        take = before.take if self._native(threads) is None else before.take_statistics
        take(self.model, [thing for thing, _ in self.steps()])
        return before

    def begin(self) -> None:
        """Settle the numbers of this step."""
        if self.ema is not None:
            self.ema._begin(self.model)
        self.optimizer._begin(self.model)

    def run(self, threads: int) -> None:
        """Change the parameters along the shards' gradients, which are summed into the first row."""
        if self.clips:
            self.norm.run(threads)
            self.optimizer._clip(self.squares)
        native = self._native(threads)
        if native is None:
            for each in self.passes:
                each.run(threads)
            self.mark.play()
        else:
            native.play()

    def parts(self, threads: int) -> list[Tape | IntArray | None]:
        """Return the records of all passes, and of the mark, as parts of `Jobs`; None for one that is not native."""
        return [*(each.part(threads) for each in self.passes), self.mark]

    def _native(self, threads: int) -> Tape | parallel.Jobs | None:
        """Return what sweeps and marks in one native call; None if that is not recorded yet, or Python has a part."""
        if threads not in self.recorded and all(each.tapes for each in self.passes):
            self.recorded[threads] = one_call(self.parts(threads))
        return self.recorded.get(threads)


def one_call(parts: Sequence[Tape | IntArray | None]) -> Tape | parallel.Jobs | None:
    """Return parts of `Jobs` as one record, which is a tape where no threads share them; None if one is none."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    tapes = [part for part in known if isinstance(part, Tape)]
    return reduce(operator.add, tapes) if len(tapes) == len(known) else parallel.Jobs(known)
