"""`Communicator`: what ranks can do together, whatever carries it; and the errors of ranks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import numpy as np

from ..typing import Array

AnyError = TypeVar("AnyError", bound=BaseException)


class RankError(RuntimeError):
    """Ranks do not fit together, or another one has failed; the message names the rank."""


class RankFailedError(RankError):
    """Another rank has failed, for the reason that the message tells."""


class RankLostError(RankFailedError):
    """Another rank has died, and those that are left can go on without it: `Communicator.shrink`."""


class Communicator(ABC):
    """A group of ranks, each a process with a whole copy of the network, that call the same methods in the same order.

    Everything that the training needs is made of two exchanges, of which each is done in place.

    Attributes
    ----------
    rank, size : int
        The number of this rank, from 0, and how many there are.
    can_shrink : bool
        Whether ranks outlive one that dies: then an exchange raises `RankLostError`, on all sooner or later.
    """

    rank: int
    size: int
    can_shrink = False

    def __init__(self) -> None:
        self._undertakings, self._depth = 0, 0
        self._everybodys: BaseException | None = None
        self.interrupted: int | None = None  # the rank that Ctrl-C came to

    @abstractmethod
    def gather(self, array: Array, bounds: Sequence[int]) -> None:
        """Let all ranks have all of a flat array: rank r has brought `array[bounds[r]:bounds[r + 1]]`."""

    @abstractmethod
    def exchange(self, matrix: Array, rows: Sequence[int], columns: Sequence[int]) -> None:
        """Exchange parts: rank r has `matrix[rows[r]:rows[r + 1]]`, and gets `matrix[:, columns[r]:columns[r + 1]]`.

        The rest of the matrix is left as it is.
        """

    @abstractmethod
    def announce(self, error: BaseException) -> None:
        """Tell all others that this rank has failed: a rank that waits for it, now or later, raises `RankError`."""

    def agree(self, done: bool) -> bool:
        """Return whether all are done; all that are left get the same answer, also where a rank dies meanwhile."""
        return done

    def shrink(self) -> list[int]:
        """Go on without the ranks that have died, whose numbers are returned; the others are numbered anew, in order.

        Whatever an exchange had begun is void. All that are left call this when `agree` has returned False.
        """
        raise NotImplementedError

    def expect_processors(self, threads: int | None) -> None:
        """Warn if this rank has fewer processors of its own than the threads that it was asked for."""

    def everybodys(self, error: AnyError) -> AnyError:
        """Return an error that all ranks raise by themselves, so that no rank has to be told of it."""
        self._everybodys = error
        return error

    def speaks(self, error: BaseException) -> bool:
        """Tell whether this rank is to say what has gone wrong: not if one before it says the same."""
        return self.rank == 0

    def give_up(self) -> None:
        """Prepare for the end of this rank because another one has died."""

    @property
    def is_together(self) -> bool:
        """Whether this rank is in the middle of something that all do together."""
        return self._depth > 0

    @contextmanager
    def together(self) -> Iterator[None]:
        """Do something that ends on all ranks when it fails on one."""
        if not self._depth:
            self._undertakings += 1
        self._depth += 1
        try:
            yield
        except RankLostError:
            if self._depth == 1:
                self.give_up()
            raise
        except RankError:
            raise
        except BaseException as error:
            if self._depth == 1 and error is not self._everybodys:
                self.announce(error)
                error.add_note(f"on rank {self.rank} of {self.size}")
            raise
        finally:
            self._depth -= 1

    def words(self, text: str) -> list[str]:
        """Return what each rank has said."""
        own = np.frombuffer(text.encode(), np.uint8)
        lengths = np.zeros(self.size, np.int64)
        lengths[self.rank] = own.size
        self.gather(lengths, range(self.size + 1))
        bounds = np.cumsum([0, *lengths.tolist()]).tolist()
        letters = np.zeros(bounds[-1], np.uint8)
        letters[bounds[self.rank] : bounds[self.rank + 1]] = own
        self.gather(letters, bounds)
        return [letters[bounds[r] : bounds[r + 1]].tobytes().decode() for r in range(self.size)]

    def first(self, data: bytes) -> bytes:
        """Return what rank 0 has said."""
        length = np.array([len(data)])
        ends = [0, *[1] * self.size]
        self.gather(length, ends)
        letters = np.zeros(int(length[0]), np.uint8)
        if self.rank == 0:
            letters[:] = np.frombuffer(data, np.uint8)
        self.gather(letters, [0, *[letters.size] * self.size])
        return letters.tobytes()

    def decide(self, wish: bool) -> bool:
        """Return what rank 0 wishes."""
        word = np.array([wish], np.uint8)
        self.gather(word, [0, *[1] * self.size])
        return bool(word[0])

    def flags(self, flag: bool) -> list[bool]:
        """Return the flag of each rank."""
        flags = np.zeros(self.size, np.uint8)
        flags[self.rank] = flag
        self.gather(flags, range(self.size + 1))
        return [bool(one) for one in flags]

    def share(self, count: int, rank: int) -> range:
        """Return which of `count` things in a row are a rank's."""
        return range(rank * count // self.size, (rank + 1) * count // self.size)

    def bounds(self, count: int) -> list[int]:
        """Return where the share of each rank begins, and the end of the last."""
        return [rank * count // self.size for rank in range(self.size + 1)]


def check_alike(communicator: Communicator, what: str, facts: dict[str, str]) -> None:
    """Raise `RankError` on all ranks, unless all of them have the same facts; `what` begins the message."""
    said = communicator.words("\n".join(f"{name}\t{fact!r}" for name, fact in facts.items()))
    rank = next((rank for rank, words in enumerate(said) if words != said[0]), 0)
    if rank:
        first, other = (dict(line.split("\t", 1) for line in words.split("\n")) for words in (said[0], said[rank]))
        name = next(name for name in {**first, **other} if first.get(name) != other.get(name))
        raise RankError(
            f"{what}: {name}: expected the same on all ranks; got {_short(first.get(name))} on rank 0, "
            f"{_short(other.get(name))} on rank {rank}"
        )


def _short(text: str | None) -> str:
    return "none" if text is None else text if len(text) <= 200 else f"{text[:200]}..."
