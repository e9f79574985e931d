"""Ranks by MPI, through mpi4py: exchanges that are begun and then looked after, so that a failure elsewhere is seen."""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from typing import Any

import numpy as np

from .. import caller
from ..runtime.threads import available_cpus, limit_threads
from ..typing import Array
from .communicator import Communicator, RankError, RankFailedError, RankLostError

LOOKS = 64  # looks at an exchange between two at the other ranks' failures
GRACE = 4.0  # seconds that a rank leaves to the one that has failed, so that it alone speaks, on a busy machine too
SENDING = 0.5  # seconds in which a rank that has failed tries to say so
FAILURE = 1  # tag of a message


class MPICommunicator(Communicator):
    """The ranks of a communicator of MPI.

    All is done in a duplicate of the communicator, so messages of a person's own are not disturbed.
    """

    def __init__(self, comm: Any) -> None:
        super().__init__()
        from mpi4py import MPI

        if comm == MPI.COMM_NULL or comm.Is_inter():
            raise ValueError("communicator: expected an intracommunicator of MPI; got another one")
        self._mpi: Any = MPI
        self._data, self._control = comm.Dup(), comm.Dup()
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        self._persistent: dict[Any, list[Any]] = {}
        self._abandoned: list[Any] = []  # what MPI may still write to
        self._warned = self.is_a_fork = False
        self._void: list[Any] = []  # the same, of communicators from before a death
        self._failures: dict[int, tuple[int, str]] = {}  # by the number of the undertaking
        # Of User-Level Failure Mitigation, which `mpiexec --with-ft ulfm` turns on; elsewhere MPI ends all ranks.
        asked = os.environ.get("OMPI_MCA_mpi_ft_enable", "0")  # noqa: SIM112
        self.can_shrink = hasattr(comm, "Shrink") and asked not in ("0", "false")
        limit_threads(self._share_of_processors())

    # Exchanges.

    def gather(self, array: Array, bounds: Sequence[int]) -> None:
        counts = [end - begin for begin, end in pairwise(bounds)]
        if not bounds[-1]:
            return
        with self._unbroken(array):
            request = self._data.Iallgatherv(self._mpi.IN_PLACE, [array, (counts, [*bounds[:-1]])])
            self._wait([request])

    def exchange(self, matrix: Array, rows: Sequence[int], columns: Sequence[int]) -> None:
        key = matrix.ctypes.data, matrix.shape, matrix.dtype.char, tuple(rows), tuple(columns)
        with self._unbroken(matrix):
            if key not in self._persistent:
                self._persistent[key] = [matrix, [*self._messages(matrix, rows, columns)]]
            requests = self._persistent[key][1]
            if requests:
                self._mpi.Prequest.Startall(requests)
                self._wait(requests)

    def _messages(self, matrix: Array, rows: Sequence[int], columns: Sequence[int]) -> Iterator[Any]:
        """Yield the requests of an exchange: a message for each row and each other rank."""
        first, last = columns[self.rank], columns[self.rank + 1]
        for other in range(self.size):
            if other == self.rank:
                continue
            for row in range(rows[other], rows[other + 1]):
                if first < last:
                    yield self._data.Recv_init(matrix[row, first:last], other, row)
            begin, end = columns[other], columns[other + 1]
            for row in range(rows[self.rank], rows[self.rank + 1]):
                if begin < end:
                    yield self._data.Send_init(matrix[row, begin:end], other, row)

    @contextmanager
    def _unbroken(self, *buffers: Array) -> Iterator[None]:
        """Keep buffers alive if an exception leaves an exchange in the middle; there is no other one then."""
        if self.is_a_fork:
            raise RankError(
                "communicator: this process was forked from a rank: only the rank itself can train with others"
            )
        if self._abandoned:
            raise RankError("communicator: an exception has left an exchange in the middle: start the ranks anew")
        try:
            yield
        except BaseException as error:
            self._abandoned.append(buffers)
            if self.can_shrink and isinstance(error, self._mpi.Exception):
                raise self._loss(error) from None
            raise

    def _wait(self, requests: list[Any]) -> None:
        """Wait for requests, and raise if another rank has failed meanwhile."""
        done, looks = self._mpi.Request.Testall, 0
        try:
            while not done(requests):
                looks += 1
                if looks % LOOKS == 0:
                    self._look()
                    os.sched_yield()
        except BaseException:
            self._abandoned.append(requests)
            raise

    # Failures.

    def announce(self, error: BaseException) -> None:
        if self.is_a_fork:
            return
        message = json.dumps([self._undertakings, self.rank, _words(error)]).encode()
        data = np.frombuffer(message, np.uint8).copy()
        others = [rank for rank in range(self.size) if rank != self.rank]
        with suppress(self._mpi.Exception):  # of a rank that has died
            self._sent = data, [self._control.Isend(data, rank, FAILURE) for rank in others]
            end = time.monotonic() + SENDING
            while not self._mpi.Request.Testall(self._sent[1]) and time.monotonic() < end:
                pass

    def speaks(self, error: BaseException) -> bool:
        end, own = time.monotonic() + SENDING, _words(error)
        while self.rank and time.monotonic() < end:
            with suppress(self._mpi.Exception):  # of a rank that has died
                self._hear()
            if any(rank < self.rank and text == own for rank, text in self._failures.values()):
                time.sleep(GRACE)
                return False
        return True

    def give_up(self) -> None:
        if self.rank:
            time.sleep(GRACE)
        self._end_all()

    # Deaths.

    def agree(self, done: bool) -> bool:
        if not self.can_shrink:
            return done
        try:
            return bool(self._data.Agree(int(done)))
        except self._mpi.Exception:  # a rank has died: the others learn of it here
            return False

    def shrink(self) -> list[int]:
        before = self._data.Get_group()
        self._void.append((self._persistent, self._abandoned))
        self._persistent, self._abandoned = {}, []
        self._failures.clear()
        self._end_without_the_dead()
        # The second is a duplicate that a further death cannot hang.
        self._data = self._data.Shrink()
        self._control = self._data.Shrink()
        self.rank, self.size = self._data.Get_rank(), self._data.Get_size()
        numbers = self._mpi.Group.Translate_ranks(before, [*range(before.size)], self._data.Get_group())
        return [rank for rank, number in enumerate(numbers) if number == self._mpi.UNDEFINED]

    def _end_without_the_dead(self) -> None:
        """Let `MPI_Finalize` of Open MPI wait for no other rank: its fence sometimes waits for one that has died."""
        with suppress(OSError, ValueError):  # another MPI
            ctypes.c_bool.in_dll(ctypes.CDLL(self._mpi.__file__), "ompi_async_mpi_finalize").value = True

    def _loss(self, error: Exception) -> Exception:
        """Return the error that a rank has died, and let all hear of it, if that is why an exchange has failed."""
        group, failed = self._data.Get_group(), self._data.Get_failed()
        if not (failed.size or self._data.Is_revoked()):
            return error
        ranks = self._mpi.Group.Translate_ranks(failed, [*range(failed.size)], group)
        for comm in (self._data, self._control):
            comm.Revoke()
        who = f"rank {', '.join(map(str, sorted(ranks)))}" if ranks else "a rank"
        return RankLostError(f"{who} of {self.size} has died")

    def _look(self) -> None:
        """Raise if another rank has failed in what is done now."""
        self._hear()
        if self._undertakings in self._failures:
            rank, text = self._failures[self._undertakings]
            time.sleep(GRACE)
            self._end_all()
            raise RankFailedError(f"rank {rank} of {self.size} has failed: {text}")

    def _hear(self) -> None:
        """Take in what other ranks have told of their failures."""
        status = self._mpi.Status()
        while self._control.Iprobe(self._mpi.ANY_SOURCE, FAILURE, status):
            data = np.empty(status.Get_count(self._mpi.BYTE), np.uint8)
            self._control.Recv(data, status.Get_source(), FAILURE)
            number, rank, text = json.loads(data.tobytes())
            first = self._failures.setdefault(number, (rank, text))
            if text == first[1] and rank < first[0]:
                self._failures[number] = rank, text

    def _end_all(self) -> None:
        """Let the end of this process be that of all: a rank that has failed may wait for this one for ever."""
        from mpi4py.run import set_abort_status

        set_abort_status(1)

    # Processors.

    def expect_processors(self, threads: int | None) -> None:
        all_there_are = os.cpu_count() or 1
        own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else all_there_are
        if self.rank or threads is None or self._warned or not own < min(threads, all_there_are):
            return
        self._warned = True
        caller.warn(
            f"rank 0 of {self.size} is bound to {own} of {all_there_are} processors, and is asked for {threads} "
            f"threads; Open MPI binds each of one or two ranks to one core: mpiexec --bind-to none, or "
            f"--map-by slot:PE={threads}",
            RuntimeWarning,
        )

    def _share_of_processors(self) -> int:
        """Return the processors of this rank's own; a share of those that it has in common with others."""
        near = self._data.Split_type(self._mpi.COMM_TYPE_SHARED)
        most = os.cpu_count() or 1
        masks = np.zeros((near.Get_size(), most), np.uint8)
        own = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(most)
        masks[near.Get_rank(), [cpu for cpu in own if cpu < most]] = 1
        near.Allgather(self._mpi.IN_PLACE, masks)
        mine = masks[near.Get_rank()]
        sharing = np.count_nonzero((masks & mine).any(axis=1))
        near.Free()
        return max(1, available_cpus() // int(sharing))


def _words(error: BaseException) -> str:
    return (f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)[:2000]


_known: list[tuple[Any, MPICommunicator]] = []  # duplicates are made once for each communicator


def _mark_forks() -> None:
    """Let no forked process speak for the rank that it was forked from: MPI would mix up their messages."""
    for _, known in _known:
        known.is_a_fork = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_mark_forks)


def mpi_communicator(comm: Any) -> MPICommunicator:
    """Return the ranks of a communicator of mpi4py; for all ranks at once, the first time."""
    for other, known in _known:
        if other == comm:
            return known
    _known.append((comm, MPICommunicator(comm)))
    return _known[-1][1]


def as_communicator(value: Any) -> Communicator | None:
    """Return the ranks of a communicator; None if there is only one.

    Raises
    ------
    TypeError
        If it is no communicator.
    """
    if value is None:
        return None
    if not isinstance(value, Communicator):
        if not (hasattr(value, "Get_rank") and hasattr(value, "Iallgatherv")):
            raise TypeError(
                f"communicator: expected a communicator of mpi4py, such as MPI.COMM_WORLD, or None; got {value!r}"
            )
        if multiprocessing.parent_process() is not None:
            raise RankError(
                "communicator: this process was started by a rank, for n_jobs or a pool, and is none itself: leave "
                "n_jobs at 1 on ranks"
            )
        value = mpi_communicator(value) if value.Get_size() > 1 else None
    return value if value is not None and value.size > 1 else None
