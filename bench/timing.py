"""How everything here is timed and printed: sides in alternating turns, medians and minima, plain tables."""

from __future__ import annotations

import ctypes
import math
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module, metadata
from pathlib import Path
from statistics import median
from typing import Any

SETTLING = 0.02  # seconds


@dataclass
class Turn:
    """What a side did in one turn: the seconds of each call, the values returned, and processor seconds in all."""

    seconds: list[float] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    processor_seconds: float = 0.0


class Side:
    """One contestant.

    Parameters
    ----------
    name : str
    call : callable
        What is timed.
    threads : int
        How many threads it may use.
    enter : callable, optional
        Called before each turn, untimed: sets the number of threads in a library that all sides share.
    """

    def __init__(
        self, name: str, call: Callable[[], Any], threads: int = 1, enter: Callable[[], None] = lambda: None
    ) -> None:
        self.name, self.call, self.threads, self.enter = name, call, threads, enter

    def turn(self, count: int) -> Turn:
        """Call `count` times and time each call."""
        self.enter()
        turn = Turn()
        processor = time.process_time()
        for _ in range(count):
            start = time.perf_counter()
            value = self.call()
            turn.seconds.append(time.perf_counter() - start)
            turn.values.append(value)
        turn.processor_seconds = time.process_time() - processor
        return turn

    def processor_seconds(self) -> float:
        """Return what the side has used so far outside this process."""
        return 0.0

    def close(self) -> None:
        """Give back what the side holds."""


class RemoteSide(Side):
    """A side in a child process, for what can only be set before an import. It takes its turns like every other.

    Parameters
    ----------
    module : str
        A module whose `make(*arguments)` returns the side; it is imported in the child alone.
    arguments : tuple
    environment : mapping
        Variables that the child starts with.
    """

    def __init__(self, module: str, arguments: tuple, environment: Mapping[str, str]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        before = dict(os.environ)
        os.environ.update(environment)
        try:
            self.child = context.Process(target=_serve, args=(theirs, module, arguments), daemon=True)
            self.child.start()
        finally:
            os.environ.clear()
            os.environ.update(before)
        theirs.close()  # so that a child that dies is an EOFError here, not a hang
        super().__init__(*self.pipe.recv())

    def turn(self, count: int) -> Turn:
        """Let the child take the turn."""
        self.pipe.send(count)
        return self.pipe.recv()

    def processor_seconds(self) -> float:
        """Ask the child."""
        self.pipe.send(0)
        return self.pipe.recv()

    def close(self) -> None:
        """End the child."""
        self.pipe.send(None)
        self.child.join(10)


def _serve(pipe: Any, module: str, arguments: tuple) -> None:
    """Take turns as they are asked for; tell the processor time when no calls are; end at None."""
    side = import_module(module).make(*arguments)
    pipe.send((side.name, None, side.threads))
    with suppress(EOFError):  # the parent has ended
        while (count := pipe.recv()) is not None:
            pipe.send(side.turn(count) if count else time.process_time())


@dataclass
class Timing:
    """The median and the minimum of one call in seconds, and how many cores were busy meanwhile."""

    median: float
    minimum: float
    cores: float


def alternate(sides: Sequence[Side], rounds: int, seconds: float) -> dict[str, Timing]:
    """Time all sides in `rounds` rounds in which each has a turn of about `seconds`, in one order and then the other.

    Each turn begins with untimed calls for SETTLING seconds: they bring the side's arrays back into the caches, and
    wait out the OpenMP threads of the side before, which spin for some milliseconds after their last work.
    """
    turns: dict[str, list[Turn]] = {side.name: [] for side in sides}
    once = {side.name: min(side.turn(3).seconds) for side in sides}
    for index in range(rounds):
        for side in sides if index % 2 == 0 else reversed(sides):
            side.turn(_count(SETTLING, once[side.name]))
            turns[side.name].append(side.turn(_count(seconds, once[side.name])))
    return {name: _summary(taken) for name, taken in turns.items()}


def _count(seconds: float, once: float) -> int:
    """Return how many calls fill so many seconds."""
    return max(1, min(5000, math.ceil(seconds / once)))


def _summary(turns: list[Turn]) -> Timing:
    """Join the turns of one side."""
    seconds = [second for turn in turns for second in turn.seconds]
    return Timing(median(seconds), min(seconds), sum(turn.processor_seconds for turn in turns) / sum(seconds))


KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(1 << 30), "MALLOC_MMAP_THRESHOLD_": str(1 << 30)}


def keep_memory() -> bool:
    """Let this process keep the memory that it frees, as KEEP_MEMORY lets a child; return whether that was possible.

    By default glibc gives large blocks back to the system, and a framework that frees its activations in each step pays
    for new pages in the next: up to 1.7 times the time for PyTorch on Keras MNIST. Whether it does depends on what else
    lies on the heap, so on everything that ran before in the process.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    return mallopt is not None and all(mallopt(option, 1 << 30) for option in (-1, -3))  # M_TRIM_, M_MMAP_THRESHOLD


class Bystanders:
    """How many cores other processes, or other guests of the host, kept busy since this was made."""

    def __init__(self, sides: Sequence[Side]) -> None:
        self.sides = sides
        self.start = time.perf_counter(), _machine_seconds(), self._own_seconds()

    def cores(self) -> float | None:
        """Return it, or None where the system does not tell."""
        since, machine, own = self.start
        if machine is None:
            return None
        others = (_machine_seconds() - machine) - (self._own_seconds() - own)
        return max(0.0, others / (time.perf_counter() - since))

    def _own_seconds(self) -> float:
        return time.process_time() + sum(side.processor_seconds() for side in self.sides)


def _machine_seconds() -> float | None:
    """Return the seconds that all cores together have been busy, or stolen by the host."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    ticks = list(map(int, stat.read_text().split("\n", 1)[0].split()[1:9]))
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")  # without idle and waiting for a disk


def milliseconds(seconds: float) -> str:
    """Return seconds as milliseconds with three significant digits."""
    value = seconds * 1e3
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}"


def threads_text(count: int) -> str:
    """Return the number of threads in words."""
    return f"{count} thread{'s' * (count > 1)}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table whose columns are aligned: names to the left, everything else to the right."""
    cells = [list(header), *map(list, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = ["| " + " | ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) + " |" for row in cells]
    rule = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def about(command: str, packages: Iterable[str] = ("numpy", "numba")) -> str:
    """Return what every printed figure stands under: the command, the processor, the versions, the load."""
    versions = [f"Python {platform.python_version()}"]
    for package in packages:
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            versions.append(f"{package} not installed")
    load = f"; load average {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return "\n".join(
        [
            " ".join(["$ python -m", command, *sys.argv[1:]]),
            f"{processor_name()}, {cores()} cores{load}",
            ", ".join(versions),
        ]
    )


def processor_name() -> str:
    """Return the processor's name as the system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
