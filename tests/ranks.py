"""Ranks as threads of one process: what needs no MPI of the training on many ranks is tested so."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from fastcnn.ranks.communicator import Communicator, RankError, RankFailedError

PATIENCE = 120  # seconds; ranks that wait for each other longer do not fit together


class Group:
    """What the ranks have in common."""

    def __init__(self, size: int) -> None:
        self.size, self.barrier = size, threading.Barrier(size)
        self.places: list[Any] = [None] * size
        self.failure: tuple[int, str] | None = None


class ThreadCommunicator(Communicator):
    """A rank that is a thread."""

    def __init__(self, group: Group, rank: int) -> None:
        super().__init__()
        self.group, self.rank, self.size = group, rank, group.size
        self.messages = self.numbers = 0

    def gather(self, array, bounds):
        assert array.ndim == 1
        assert array.flags.c_contiguous
        assert bounds[-1] == len(array)
        others = self._meet(array)
        for rank, other in enumerate(others):
            if rank != self.rank:
                array[bounds[rank] : bounds[rank + 1]] = other[bounds[rank] : bounds[rank + 1]]
                self.messages, self.numbers = self.messages + 1, self.numbers + bounds[rank + 1] - bounds[rank]
        self._wait()

    def exchange(self, matrix, rows, columns):
        others = self._meet(matrix)
        own = slice(columns[self.rank], columns[self.rank + 1])
        for rank, other in enumerate(others):
            if rank != self.rank:
                matrix[rows[rank] : rows[rank + 1], own] = other[rows[rank] : rows[rank + 1], own]
        self._wait()

    def announce(self, error):
        self.group.failure = self.rank, f"{type(error).__name__}: {error}"
        self.group.barrier.abort()

    def _meet(self, thing: Any) -> list[Any]:
        self.group.places[self.rank] = thing
        self._wait()
        return self.group.places

    def _wait(self) -> None:
        try:
            self.group.barrier.wait(PATIENCE)
        except threading.BrokenBarrierError:
            assert self.group.failure is not None, "the ranks do not make the same exchanges"
            rank, text = self.group.failure
            raise RankFailedError(f"rank {rank} of {self.size} has failed: {text}") from None


def on_ranks(size: int, work: Callable[[ThreadCommunicator], Any]) -> list[Any]:
    """Return what `work` returns, or raises, on each rank."""
    group, results = Group(size), [None] * size

    def run(rank: int) -> None:
        try:
            results[rank] = work(ThreadCommunicator(group, rank))
        except BaseException as error:
            results[rank] = error
            if not isinstance(error, RankError | FloatingPointError):
                group.failure = group.failure or (rank, repr(error))
                group.barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
