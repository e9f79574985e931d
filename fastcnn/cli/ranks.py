"""`fastcnn train --mpi`: the command on several ranks, of which the first speaks; or the one that fails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any

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
        with open(os.devnull, "w", encoding="utf-8") as nowhere, ranks.together():
            if ranks.rank:
                with redirect_stdout(nowhere):
                    yield ranks
            else:
                yield ranks
    except RankFailedError:
        raise SystemExit(1) from None  # who has failed says why
    except (CommandError, RankError) as error:
        if not ranks.speaks(error):
            raise SystemExit(1) from None
        place = "" if isinstance(error, RankError) else f"rank {ranks.rank} of {ranks.size}: "
        raise CommandError(f"{place}{error}", status=getattr(error, "status", 1)) from None
