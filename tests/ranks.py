"""Ranks as threads of one process: what needs no MPI of the training on many ranks is tested so."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from fastcnn.ranks.communicator import Communicator, RankError, RankFailedError, RankLostError

PATIENCE = 120  # seconds; ranks that wait for each other longer do not fit together


class Death(BaseException):
    """What a rank dies of."""


class Group:
    """What the ranks have in common; `deaths` tell before which exchange each dies, or, below 0, in whose end."""

    def __init__(self, size: int, deaths: dict[int, int]) -> None:
        self.deaths, self.living = deaths, [*range(size)]
        self.failure: tuple[int, str] | None = None
        self.turn, self.number, self.words = threading.Condition(), 0, dict[int, bool]()
        self.answer = True
        self.renew()

    def renew(self) -> bool:
        """Let those that live be all there are."""
        self.members, self.barrier = [*self.living], threading.Barrier(len(self.living))
        self.places: list[Any] = [None] * len(self.living)
        return True

    def meet(self, who: int, word: bool, end: Callable[[], bool]) -> bool:
        """Return what `end` does, once, when all that live are here."""
        with self.turn:
            number, self.words[who] = self.number, word
            self.turn.notify_all()
            assert self.turn.wait_for(lambda: self.number > number or {*self.living} <= {*self.words}, PATIENCE)
            if self.number == number:
                self.answer = end()
                self.words, self.number = {}, number + 1
                self.turn.notify_all()
            return self.answer

    def die(self, who: int) -> None:
        with self.turn:
            self.living.remove(who)
            self.barrier.abort()
            self.turn.notify_all()


class ThreadCommunicator(Communicator):
    """A rank that is a thread."""

    def __init__(self, group: Group, rank: int) -> None:
        super().__init__()
        self.group, self.rank, self.size = group, rank, len(group.members)
        self.who, self.can_shrink = rank, bool(group.deaths)
        self.messages = self.numbers = self.exchanges = 0

    def gather(self, array, bounds):
        assert array.ndim == 1
        assert array.flags.c_contiguous
        assert bounds[-1] == len(array)
        others = self._meet(array)
        for rank, other in enumerate(others):
            if rank != self.rank:
                array[bounds[rank] : bounds[rank + 1]] = other[bounds[rank] : bounds[rank + 1]]
                self.messages, self.numbers = self.messages + 1, self.numbers + bounds[rank + 1] - bounds[rank]
        self._leave()

    def exchange(self, matrix, rows, columns):
        others = self._meet(matrix)
        own = slice(columns[self.rank], columns[self.rank + 1])
        for rank, other in enumerate(others):
            if rank != self.rank:
                matrix[rows[rank] : rows[rank + 1], own] = other[rows[rank] : rows[rank + 1], own]
        self._wait()

    def announce(self, error):
        if isinstance(error, Death):
            return  # the dead tell nothing
        self.group.failure = self.rank, f"{type(error).__name__}: {error}"
        self.group.barrier.abort()

    def agree(self, done):
        group = self.group
        return group.meet(self.who, done, lambda: all(group.words[who] for who in group.living)) and (
            group.members == group.living
        )

    def shrink(self):
        before = self.group.members
        self.group.meet(self.who, True, self.group.renew)
        members = self.group.members
        self.rank, self.size = members.index(self.who), len(members)
        return [rank for rank, who in enumerate(before) if who not in members]

    def _meet(self, thing: Any) -> list[Any]:
        self.exchanges += 1
        if self.exchanges == self.group.deaths.get(self.who):
            self.group.die(self.who)
            raise Death
        self.group.places[self.rank] = thing
        self._wait()
        return self.group.places

    def _leave(self) -> None:
        """End an exchange; where a rank dies in its end, some of the others have come through, and some have not."""
        self._wait()
        if self.exchanges == -self.group.deaths.get(self.who, 0):
            self.group.die(self.who)
            raise Death
        if self.who % 2 and -self.exchanges in self.group.deaths.values():
            raise RankLostError("a rank has died")

    def _wait(self) -> None:
        try:
            self.group.barrier.wait(PATIENCE)
        except threading.BrokenBarrierError:
            if self.group.failure is None and self.group.members != self.group.living:
                raise RankLostError("a rank has died") from None
            assert self.group.failure is not None, "the ranks do not make the same exchanges"
            rank, text = self.group.failure
            raise RankFailedError(f"rank {rank} of {self.size} has failed: {text}") from None


def on_ranks(size: int, work: Callable[[ThreadCommunicator], Any], deaths: dict[int, int] | None = None) -> list[Any]:
    """Return what `work` returns, or raises, on each rank."""
    group, results = Group(size, deaths or {}), [None] * size

    def run(rank: int) -> None:
        try:
            results[rank] = work(ThreadCommunicator(group, rank))
        except BaseException as error:
            results[rank] = error
            if not isinstance(error, RankError | FloatingPointError | Death):
                group.failure = group.failure or (rank, repr(error))
                group.barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
