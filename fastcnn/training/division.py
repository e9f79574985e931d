"""A step on more threads than shards: each shard is shared out among several of them, see `engine.divide`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ..engine.divide import DividedShard, Divider, Make, StageCall, Task
from ..runtime import threads as parallel
from ..runtime.record import Call, record_calls
from ..runtime.tape import Tape
from ..typing import IntArray

PART_WORK = 20e6  # floating-point operations below which a part of a shard is not worth a hand-over to a thread
TOLERANCE = 1.1  # times the turns of the best number of parts, for fewer parts


class Division:
    """The tasks of a step's stages, where each shard is cut into parts.

    Parameters
    ----------
    divider : Divider
    load : callable or None
        Makes the call that loads images, unless these are there already.
    end : callable
        Makes the call of the loss, which adds up those of a shard's images in their order.
    by_stage : bool
        Whether gradients are summed up behind each stage, and not in the end.
    """

    def __init__(
        self, divider: Divider, load: Make | None, end: Callable[[DividedShard], Call], by_stage: bool
    ) -> None:
        self.divider, self.load, self.end, self.by_stage = divider, load, end, by_stage
        self.phases = {part: [parallel.Tasks(each) for each in phases] for part, phases in self._all_phases()}

    def _all_phases(self) -> Iterator[tuple[tuple[str, int], list[list[Task]]]]:
        """Yield direction and stage of each part of the step that shards take, and its phases."""
        divider, last = self.divider, len(self.divider.plan.sync_points)
        for stage in range(last + 1):
            phases = list(divider.forward(stage, [StageCall(True, self.load)] if self.load and stage == 0 else []))
            if stage == last:
                phases += [[[self.end(shard)] for shard in divider.shards], *divider.backward(stage)]
                phases += self._parameter_gradients(stage)
            yield ("forward", stage), phases
        for stage in range(last - 1, -1, -1):
            yield ("backward", stage), [*divider.backward(stage), *self._parameter_gradients(stage)]

    def _parameter_gradients(self, stage: int) -> Iterator[list[Task]]:
        if stage == 0 or self.by_stage:
            yield from self.divider.parameter_gradients()

    def run(self, direction: str, stage: int, threads: int) -> None:
        """Run a stage of all shards: the first time call by call, then as it was recorded."""
        for tasks in self.phases[direction, stage]:
            if tasks.tapes:
                tasks.run(threads)
            else:
                _record(tasks, threads)

    def is_recorded(self) -> bool:
        """Tell whether all stages have run."""
        return all(tasks.tapes for phases in self.phases.values() for tasks in phases)

    def records(self, direction: str, stage: int, threads: int) -> list[Tape | IntArray | None]:
        """Return the phases of a stage as parts of `Jobs`."""
        return [tasks.part(threads) for tasks in self.phases[direction, stage]]


def _record(tasks: parallel.Tasks, threads: int) -> None:
    """Run tasks and record them, each in a thread."""
    found: dict[int, Tape] = {}

    def task(i: int, worker: int) -> None:
        found[i] = record_calls(tasks.tasks[i])

    parallel.run(len(tasks.tasks), task, threads)
    tasks.tapes = [found[i] for i in range(len(tasks.tasks))]


def parts_for(images: Sequence[int], work: float, threads: int, enough: int) -> int:
    """Return into how many parts shards of so many images are cut for so many threads; 1 where whole shards do.

    An image takes `work`. Up to `enough` threads whole shards do.
    """
    # Parts are for threads that run at the same time: those that take turns with a processor only wait for more.
    running = parallel.at_once(threads)
    if not images or running <= enough:
        return 1
    return parts_of_shards(len(images), max(images), work, running)


def parts_of_shards(shards: int, images: int, work: float, threads: int) -> int:
    """Return into how many parts `shards` of so many images are cut for so many threads.

    The fewest that end about as soon as possible, if an image takes `work` and each free thread takes the next part.
    """
    most = max(1, min(images, int(images * work / PART_WORK)))
    turns = [-(-shards * count // threads) * -(-images // count) for count in range(1, most + 1)]
    return next(count for count, one in enumerate(turns, 1) if one <= TOLERANCE * min(turns))
