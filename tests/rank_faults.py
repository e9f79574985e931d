"""Faults of ranks at random moments; `python -m tests.rank_faults --count 20` tries so many.

A training on two to four ranks is hurt once: an exception, Ctrl-C or SIGKILL on one rank, at any moment from its first
line on. All ranks must end within a limit, with one message that names the rank; the checkpoint must be whole or not
there; and another number of ranks must go on from it to the digest of a training that nobody has hurt. With
`mpiexec --with-ft ulfm` (`--survive`), those that are left after a SIGKILL must end with that digest by themselves.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from fastcnn.storage import layout
from tests.processes import CACHE, CLEAN, ROOT

MPIEXEC = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
# Containers have one user, root, which Open MPI takes only if told so.
SETTINGS = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OPENBLAS_NUM_THREADS": "1"}
SIGNALS = {"exception": signal.SIGUSR1, "interrupt": signal.SIGINT, "kill": signal.SIGKILL}
LIMIT = 10.0  # seconds from a fault to the end of all
START = 150.0  # seconds that a training may take at most
FILES = {"X.npy", "y.npy", "run.safetensors"}


def write_data(folder: Path) -> None:
    """Write the data that `tests.mpi_program` trains on."""
    generator = np.random.RandomState(0)
    np.save(folder / "X.npy", generator.randint(256, size=(50, 3, 8, 8)).astype(np.uint8))
    np.save(folder / "y.npy", generator.randint(5, size=50))


def start(size: int, module: str, *arguments: object, options: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Start a module on so many ranks, more than there are processors too."""
    assert MPIEXEC is not None
    mapping = () if "--map-by" in options else ("--map-by", ":oversubscribe")
    command = [MPIEXEC, *options, *mapping, "-n", str(size), sys.executable, "-m", "mpi4py", "-m"]
    return subprocess.Popen(
        [*command, module, *map(str, arguments)], cwd=ROOT,
        env={**CLEAN, **SETTINGS, **CACHE, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str], limit: float = START) -> tuple[int, str, str]:
    """Return exit status, output and errors of what has ended within a limit."""
    try:
        output, errors = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
        raise AssertionError(f"not ended after {limit:.0f} s\n{output}\n{errors}") from None
    return process.returncode, output, errors


def told(output: str) -> list[dict[str, object]]:
    """Return what ranks that have ended well tell."""
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def hurt(folder: Path, size: int, kind: str, rank: int, after: float, options: tuple[str, ...]) -> str:
    """Hurt one rank some seconds after the training has begun, and look at how all end; return what happened."""
    # Open MPI itself may crash where a rank dies while communicators are made.
    moment = "from the first step" if options else "from the start"
    process = start(size, "tests.mpi_program", folder, "--slow", moment, options=options)
    marks = [folder / f"pid-{number}" for number in range(size)]
    while not all(mark.exists() and mark.read_text() for mark in marks) and process.poll() is None:
        time.sleep(0.01)
    pids = [int(mark.read_text()) for mark in marks]
    time.sleep(after)
    with suppress(ProcessLookupError):
        os.kill(pids[rank], SIGNALS[kind])
    status, output, errors = finish(process, START if kind == "kill" and options else LIMIT)
    for mark in marks:
        mark.unlink()
    assert not any(is_alive(pid) for pid in pids), "a rank is left"
    ended = told(output)
    if len(ended) == size and not any(one["stopped"] for one in ended):
        return "came too late"
    if kind == "kill" and options:
        assert len({one["digest"] for one in ended}) == 1, errors
        assert len(ended) == size - 1, errors
        assert status == 0, errors
        assert f"rank {rank} of {size} has died" in errors, errors
        return "outlived"
    if ended:
        assert kind == "interrupt", errors
        assert {one["interrupted"] for one in ended} == {rank}
        assert len({one["digest"] for one in ended}) == 1
        return "stopped"
    assert status != 0, output
    assert f"rank {rank}" in errors, errors
    assert "RankFailedError" not in errors, errors
    return "ended"


def is_alive(pid: int) -> bool:
    """Tell whether a process is there, and not only waits to be taken note of."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def digests(size: int, folder: Path) -> set[object]:
    """Train on so many ranks, from the checkpoint if it is there; return their digests."""
    status, output, errors = finish(start(size, "tests.mpi_program", folder))
    assert status == 0, errors
    ended = told(output)
    assert len(ended) == size, errors
    return {one["digest"] for one in ended}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--survive", action="store_true", help="kill only, with mpiexec --with-ft ulfm")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder)
        checkpoint = folder / "run.safetensors"
        (expected,) = digests(1, folder)
        checkpoint.unlink()
        tried = 0
        while tried < options.count:
            kind = "kill" if options.survive else chance.choice([*SIGNALS])
            size = chance.randint(2, 4)
            rank, after = chance.randrange(size), chance.uniform(0, 2.4 if options.survive else 6)
            began = time.perf_counter()
            happened = hurt(folder, size, kind, rank, after, ("--with-ft", "ulfm") if options.survive else ())
            seconds = time.perf_counter() - began - after
            there = checkpoint.exists()
            if there:
                layout.read(checkpoint)
            other = chance.choice([one for one in range(1, 5) if one != size])
            assert digests(other, folder) == {expected}, f"another digest: {kind} on rank {rank} of {size}"
            assert {path.name for path in folder.iterdir()} == FILES
            checkpoint.unlink()
            tried += happened != "came too late"
            print(
                f"{kind} on rank {rank} of {size} after {after:.1f} s: {happened}, with start {seconds:.1f} s; "
                f"{other} went on {'from the checkpoint' if there else 'from the beginning'} to the same digest",
                flush=True,
            )


if __name__ == "__main__":
    main()
