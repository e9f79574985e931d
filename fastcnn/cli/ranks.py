"""`fastcnn train --mpi`: the command on several ranks, of which the first speaks; or the one that fails."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any, TextIO

from .common import CommandError

if TYPE_CHECKING:
    from ..ranks.communicator import Communicator

INSTALL = "pip install 'fastcnn[mpi-bundled]', or 'fastcnn[mpi]' where there is an MPI"


def world() -> Any:
    """Return all ranks that were started together."""
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise CommandError(f"--mpi: expected mpi4py and an MPI ({error}); {INSTALL}", status=1) from None
    return MPI.COMM_WORLD


class _OfTheFirst(io.TextIOBase):
    """Standard output of the first rank; what others write goes nowhere, until they are the first that is left."""

    def __init__(self, ranks: Communicator, stream: TextIO) -> None:
        self.ranks, self.stream = ranks, stream

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        return len(text) if self.ranks.rank else self.stream.write(text)

    def flush(self) -> None:
        self.stream.flush()

    def isatty(self) -> bool:
        return self.stream.isatty()

    def fileno(self) -> int:
        return self.stream.fileno()


@contextmanager
def one_speaks() -> Iterator[Communicator | None]:
    """Give the ranks, None if there is one; only the first writes, and of those that fail alike the first complains."""
    from ..ranks.communicator import RankError, RankFailedError
    from ..ranks.mpi import as_communicator

    ranks = as_communicator(world())
    if ranks is None:
        yield None
        return
    try:
        with redirect_stdout(_OfTheFirst(ranks, sys.stdout)), ranks.together():
            yield ranks
    except RankFailedError:
        raise SystemExit(1) from None  # the rank that has failed says why
    except (CommandError, RankError) as error:
        if not ranks.speaks(error):
            raise SystemExit(1) from None
        place = "" if isinstance(error, RankError) else f"rank {ranks.rank} of {ranks.size}: "
        raise CommandError(f"{place}{error}", status=getattr(error, "status", 1)) from None
