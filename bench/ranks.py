"""Training on ranks: `python -m bench.ranks` projects 2 to 64 ranks, and measures two beside one with two threads.

*Projected*: one process takes the steps of one rank of many, on its own shards, with one thread; the exchanges do
nothing but count. A step on P ranks takes that time (measured), and for each exchange the latency of its rounds and the
time of its bytes (counted), with the latency and the bandwidth of a link. Those of shared memory are measured between
two ranks, where mpi4py and mpiexec are there; those of networks are named: what such networks are commonly said to
reach. Every rank has a core of its own; nothing is overlapped. Of the exchange, only that of gradients could be
overlapped with the backward pass: batch norms wait for the moments of all shards.

*Measured*: `mpiexec -n 2` takes turns in one job, so that all turns meet the same machine: two ranks of one thread
each, and one rank with two threads while the other one sleeps. Both must end with the same weights.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastcnn import SGD, Trainer, models
from fastcnn.ranks.communicator import Communicator

BATCH = 128
NETWORKS = {"resnet20": (models.resnet20, (3, 32, 32)), "resnet6": (models.resnet6, (1, 28, 28))}
RANKS = (2, 4, 8, 16, 32, 64)
TURN = 0.5  # seconds


class Link(NamedTuple):
    """What carries messages: seconds until a short one is there, bytes a second, and where these numbers come from."""

    name: str
    latency: float
    bandwidth: float
    source: str


NAMED = (
    Link("10 GbE", 30e-6, 1.1e9, "named"),
    Link("100 Gb", 2e-6, 11e9, "named"),
)
SHARED = Link("shared memory", 1e-6, 5e9, "named")


class Tally:
    """What exchanges come to: rounds that wait for each other, messages and bytes of one rank."""

    def __init__(self) -> None:
        self.rounds = self.messages = self.bytes = 0

    def add(self, rounds: int, messages: int, size: int) -> None:
        """Count an exchange."""
        self.rounds, self.messages, self.bytes = self.rounds + rounds, self.messages + messages, self.bytes + size

    def seconds(self, link: Link) -> float:
        """Return how long they take on a link."""
        return self.rounds * link.latency + self.bytes / link.bandwidth


class Counting(Communicator):
    """One rank of many that are not there: exchanges are counted, and leave everything as it is."""

    def __init__(self, rank: int, size: int) -> None:
        super().__init__()
        self.rank, self.size = rank, size
        self.parameters = 0  # numbers of a gradient
        self.begin()

    def begin(self) -> None:
        """Count anew."""
        self.of_gradients, self.others = Tally(), Tally()

    def gather(self, array: Any, bounds: Any) -> None:
        """Count as an all-gather by recursive doubling: log2(P) rounds, in which all bytes of the others come."""
        rounds = math.ceil(math.log2(self.size))
        tally = self.of_gradients if array.size == self.parameters else self.others
        others = bounds[-1] - (bounds[self.rank + 1] - bounds[self.rank])
        tally.add(rounds, rounds, others * array.itemsize)

    def exchange(self, matrix: Any, rows: Any, columns: Any) -> None:
        """Count the messages that this rank sends: each of its rows to each other rank; they wait for nobody."""
        own, mine = rows[self.rank + 1] - rows[self.rank], columns[self.rank + 1] - columns[self.rank]
        others = sum(columns[r] < columns[r + 1] for r in range(self.size) if r != self.rank)
        sent, received = own * (columns[-1] - mine), (rows[-1] - own) * mine
        self.of_gradients.add(1, own * others, max(sent, received) * matrix.itemsize)

    def announce(self, error: BaseException) -> None:
        """There is nobody to tell."""

    def words(self, text: str) -> list[str]:
        return [text] * self.size


def trainer_of(name: str, communicator: Any = None, threads: int = 1) -> Trainer:
    """Return a trainer of a network."""
    make, shape = NETWORKS[name]
    model = make(shape, 10).build(shape, random_state=0)
    return Trainer(model, optimizer=SGD(0.01, 0.9), random_state=0, threads=threads, communicator=communicator)


def batch_of(name: str) -> tuple[Any, Any]:
    """Return a batch for a network."""
    generator = np.random.RandomState(0)
    shape = (BATCH, *NETWORKS[name][1])
    return generator.randint(0, 256, size=shape).astype(np.uint8), generator.randint(10, size=BATCH)


def seconds_of(work: Callable[[], Any], turn: float = TURN) -> float:
    """Return the fewest seconds that a call takes, of as many as go into a turn."""
    fewest, end = math.inf, time.perf_counter() + turn
    while time.perf_counter() < end:
        began = time.perf_counter()
        work()
        fewest = min(fewest, time.perf_counter() - began)
    return fewest


def rank_of_many(name: str, size: int) -> tuple[float, Counting]:
    """Return the seconds of compute of a step on the busiest of so many ranks, and what it exchanges in one."""
    x, y = batch_of(name)
    trainer = trainer_of(name)
    shards = len(trainer._program_for(BATCH).slices(BATCH))
    rank = max(range(size), key=lambda rank: len(Counting(rank, size).share(shards, rank)))
    trainer.communicator = ranks = Counting(rank, size)
    ranks.parameters = trainer.model._size
    with np.errstate(all="ignore"):  # without the others' numbers, those of a step mean nothing
        for _ in range(3):
            trainer.step(x, y)
        assert trainer._program is not None
        trainer._program.is_fed = True  # as in a fit: the data was compared before
        seconds = seconds_of(lambda: trainer.step(x, y))
        ranks.begin()
        trainer.step(x, y)
    return seconds, ranks


def project(name: str, links: tuple[Link, ...]) -> None:
    """Print what steps of a network on ranks take, by links."""
    trainer = trainer_of(name)
    x, y = batch_of(name)
    for _ in range(3):
        trainer.step(x, y)
    alone = seconds_of(lambda: trainer.step(x, y))
    shards = len(trainer._program_for(BATCH).slices(BATCH))
    print(f"\n{name}, batch {BATCH}: {1e3 * alone:.1f} ms a step on one rank of one thread (measured)")
    print(f"Milliseconds: compute + gradients + other exchanges = step. {shards} shards: more ranks are of no use.")
    titles = [f"{link.name} ({link.source})" for link in links]
    print(f"{'ranks':>5} {'compute':>9} {'messages':>9} {'KiB':>8}  " + "  ".join(f"{title:>28}" for title in titles))
    for size in RANKS:
        compute, ranks = rank_of_many(name, size)
        words = []
        for link in links:
            gradients, others = (1e3 * tally.seconds(link) for tally in (ranks.of_gradients, ranks.others))
            total = 1e3 * compute + gradients + others
            words.append(f"+{gradients:.2f} +{others:.2f} = {total:.2f}, {1e3 * alone / total:.2f}x")
        messages, size_of_all = (
            getattr(ranks.of_gradients, what) + getattr(ranks.others, what) for what in ("messages", "bytes")
        )
        row = f"{size:5} {1e3 * compute:9.2f} {messages:9} {size_of_all / 1024:8.0f}  "
        print(row + "  ".join(f"{word:>28}" for word in words), flush=True)


# What two ranks do, started by mpiexec.


def link_between(comm: Any) -> Link:
    """Return latency and bandwidth between two ranks."""

    def there_and_back(data: Any) -> Callable[[], None]:
        def play() -> None:
            if comm.rank == 0:
                comm.Send(data, 1)
                comm.Recv(data, 1)
            else:
                comm.Recv(data, 0)
                comm.Send(data, 0)

        return play

    times = []
    for size, count in ((8, 2000), (1 << 20, 200)):
        play, fewest = there_and_back(np.zeros(size, np.uint8)), math.inf
        for _ in range(count):
            began = time.perf_counter()
            play()
            fewest = min(fewest, time.perf_counter() - began)
        times.append(fewest / 2)
    return Link("shared memory", times[0], (1 << 20) / times[1], "measured")


def beside_threads(name: str, comm: Any, rounds: int) -> dict[str, Any] | None:
    """Return the seconds of a step in each turn: on two ranks, and on one with two threads."""
    x, y = batch_of(name)
    together, alone = trainer_of(name, comm), trainer_of(name, threads=2)
    ranks = together.communicator
    assert ranks is not None
    for _ in range(4):
        together.step(x, y)
        if comm.rank == 0:
            alone.step(x, y)
    assert together._program is not None
    together._program.is_fed = True
    times: dict[str, list[float]] = {"ranks": [], "threads": []}
    for _ in range(rounds):
        count = 10
        comm.Barrier()
        began = time.perf_counter()
        for _ in range(count):
            together.step(x, y)
        times["ranks"].append((time.perf_counter() - began) / count)
        if comm.rank == 0:
            began = time.perf_counter()
            for _ in range(count):
                alone.step(x, y)
            times["threads"].append((time.perf_counter() - began) / count)
            comm.send(None, 1)
        else:
            while not comm.iprobe(0):
                time.sleep(0.002)  # a rank that waits in MPI would take a core
            comm.recv(source=0)
    if comm.rank:
        return None
    assert together.model.digest() == alone.model.digest(), "two ranks have other bits than one"
    return times


def two_ranks(names: list[str], rounds: int) -> None:
    """Measure on two ranks, and print a line of JSON on the first."""
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    link = link_between(comm)
    measured = {name: beside_threads(name, comm, rounds) for name in names}
    if comm.rank == 0:
        print(json.dumps({"link": link, "measured": measured}))


def start_two_ranks(names: list[str], rounds: int) -> dict[str, Any] | None:
    """Return what two ranks have measured; None if they cannot be started."""
    mpiexec = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    try:
        import mpi4py  # noqa: F401
    except ImportError:
        mpiexec = None
    if mpiexec is None:
        print("Without mpi4py and mpiexec nothing is measured between ranks: pip install 'fastcnn[mpi-bundled]'")
        return None
    # Open MPI would bind each of two ranks to one core; the one with two threads needs both. Root: as in containers.
    environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    command = [mpiexec, "--bind-to", "none", "--map-by", ":oversubscribe", "-n", "2", sys.executable, "-m", "mpi4py"]
    arguments = ["-m", "bench.ranks", "--two-ranks", "--rounds", str(rounds), *names]
    ended = subprocess.run([*command, *arguments], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NETWORK", help=f"{', '.join(NETWORKS)} (all)")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each side, of ten steps each (15)")
    parser.add_argument("--two-ranks", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = options.names or [*NETWORKS]
    if unknown := {*names} - {*NETWORKS}:
        parser.error(f"expected {', '.join(NETWORKS)}; got {', '.join(sorted(unknown))}")
    if options.two_ranks:
        two_ranks(names, options.rounds)
        return
    found, shared = start_two_ranks(names, options.rounds), SHARED
    if found is not None:
        shared = Link(*found["link"])
        for name, times in found["measured"].items():
            ratios = np.divide(times["threads"], times["ranks"])
            ranks, threads = (1e3 * float(np.median(times[side])) for side in ("ranks", "threads"))
            print(
                f"{name}, batch {BATCH}: 2 ranks of 1 thread {ranks:.1f} ms, 1 rank of 2 threads {threads:.1f} ms: "
                f"{np.median(ratios):.0%} of its speed (median of {len(ratios)} turns, {ratios.min():.0%} to "
                f"{ratios.max():.0%}); the same weights"
            )
    links = (shared, *NAMED)
    print("\nLinks: " + "; ".join(
        f"{link.name} {1e6 * link.latency:.1f} µs, {link.bandwidth / 1e9:.1f} GB/s, {link.source}" for link in links
    ))  # fmt: skip
    for name in names:
        project(name, links)


if __name__ == "__main__":
    main()
