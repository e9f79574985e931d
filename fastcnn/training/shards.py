"""The stages of a step for threads that take whole shards, recorded and replayed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..runtime import threads as parallel
from ..runtime.record import Call, record_calls
from ..runtime.tape import Tape
from ..typing import IntArray

Calls = Callable[[str, int, int, int], Iterator[Call]]


class WholeShards:
    """The tasks of a step's stages, each a shard that one thread takes.

    A record belongs to a stage, a shard and a worker: who works on a shard has memory of his own.

    Parameters
    ----------
    shards : range
        Those that are computed in this process.
    calls : callable
        Yields the calls of a stage, by direction, stage, shard and worker.
    """

    def __init__(self, shards: range, calls: Calls) -> None:
        self.shards, self.calls = shards, calls
        self.tapes: dict[tuple[str, int, int, int], Tape] = {}
        self.jobs: dict[tuple[str, int, int], parallel.Jobs | None] = {}
        self.turns: dict[tuple[str, int, int], int] = {}

    def run(self, direction: str, stage: int, threads: int) -> None:
        """Run a stage of all shards: without Python, as soon as every worker has recorded every shard."""
        shards, threads = self.order(stage), self.workers(threads)
        key = direction, stage, threads
        jobs = self.jobs.get(key)
        if jobs is not None:
            jobs.play()
        elif key in self.jobs:
            parallel.run(len(shards), lambda i, worker: self._play(direction, stage, shards[i], worker), threads)
        else:
            self._take_turns(direction, stage, threads)

    def is_recorded(self, direction: str, stage: int, threads: int) -> bool:
        """Tell whether every worker has recorded every shard."""
        return (direction, stage, self.workers(threads)) in self.jobs

    def record(self, direction: str, stage: int, threads: int) -> Tape | IntArray | None:
        """Return the record of a stage as a part of `Jobs`, if it is nothing but kernels."""
        shards, workers = self.order(stage), range(self.workers(threads))
        return parallel.part_of_jobs(
            [[self.tapes[direction, stage, shard, worker] for shard in shards] for worker in workers]
        )

    def workers(self, threads: int) -> int:
        """Return how many of the threads have something to do."""
        return min(threads, len(self.shards))

    def order(self, stage: int) -> range:
        """Return the shards back and forth: what was written last is still in the caches."""
        return self.shards[:: -1 if stage % 2 else 1]

    def _take_turns(self, direction: str, stage: int, threads: int) -> None:
        """Run a stage, each worker with shards that it has not had in this way before."""
        shards, key = self.order(stage), (direction, stage, threads)
        turn = self.turns.get(key, 0)
        self.turns[key] = turn + 1

        def group(worker: int, _: int) -> None:
            for shard in shards[(worker + turn) % threads :: threads]:
                self._play(direction, stage, shard, worker)

        parallel.run(threads, group, threads)
        if all((direction, stage, shard, worker) in self.tapes for worker in range(threads) for shard in shards):
            part = self.record(direction, stage, threads)
            self.jobs[key] = None if part is None else parallel.Jobs([part])

    def _play(self, direction: str, stage: int, shard: int, worker: int) -> None:
        """Run a stage of a shard; what the first time records is repeated later."""
        key = direction, stage, shard, worker
        tape = self.tapes.get(key)
        if tape is None:
            self.tapes[key] = record_calls(self.calls(*key))
        else:
            tape.play()
