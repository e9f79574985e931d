"""How a training step would scale: ``python -m bench.scaling [net ...]`` (ResNet-20 and VGG-6, batch 128, by default).

A step is jobs, one after the other; a job is tasks, which threads take from a queue. Each task of a recorded step is
timed here on one thread. From these times a step on 1 to 128 workers is **scheduled, not measured**: a worker that is
free takes the next task of the job, and the job ends with its last task and a barrier.

- The tasks are those that the engine makes for so many threads: from more threads than shards on, a shard's images and
  the gradients of its parameters are shared out too.
- The barrier is measured: what a job takes beside its tasks on 1 and on 2 threads. For more workers it is drawn on in
  a straight line, as each worker takes its turn at the same cache line. `--barrier` sets it: a machine that has other
  work to do measures how long its threads wait for a processor.
- Memory is a ceiling: a job takes at least as long as it takes to bring its maps, those that live longer than a stage.
  The bandwidth is that of a copy on all cores of this machine, or `--bandwidth` for another one. Maps count that are
  still in a cache too: the last column is a lower bound of the efficiency.
- Efficiency is the time of one worker by w times the time of w workers.

What it does not know: clocks that fall when many cores work, caches that cores share, sockets. Where the machine has
several cores, steps are measured too, beside their schedule.
"""

from __future__ import annotations

import argparse
import heapq
import operator
import time
from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np

from fastcnn import SGD, Trainer
from fastcnn.engine.ir import Op
from fastcnn.jit.recorder import recording
from fastcnn.kernels import update
from fastcnn.runtime import threads as parallel
from fastcnn.runtime.tape import Tape
from fastcnn.training.step import SHARDS, Step

from .networks import LEARNING_RATE, NETWORKS, Network, batches
from .peak import copy_bandwidth
from .sides.ours import make, model_of
from .timing import Bystanders, about, alternate, cores, milliseconds, table

NETS = "resnet20", "vgg6"
BATCH = 128
WORKERS = 1, 2, 4, 8, 16, 32, 64, 128
ROUNDS = 9
QUIET = 0.1  # cores that others may keep busy
COUNT = 500  # jobs, to time one
SMALL = 1 << 16  # numbers of a task whose hand-over is timed: some 10 µs


class Job(NamedTuple):
    """Tasks that need not wait for each other: their seconds, in the order in which they are taken, and their bytes."""

    name: str
    tasks: tuple[float, ...]
    traffic: float = 0.0


def makespan(tasks: Sequence[float], workers: int) -> float:
    """Return when the last task ends, if whoever is free takes the next one."""
    free = [0.0] * min(workers, max(1, len(tasks)))
    for seconds in tasks:
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)


def scheduled(jobs: Sequence[Job], workers: int, barrier: Sequence[float], bandwidth: float = float("inf")) -> float:
    """Return the seconds of jobs on so many workers.

    `barrier` is that of one worker, and what each further one adds; a worker without a task does not come to it.
    `bandwidth` is in bytes a second.
    """
    seconds = 0.0
    for job in jobs:
        busy = min(workers, max(1, len(job.tasks)))
        seconds += max(makespan(job.tasks, workers), job.traffic / bandwidth)
        seconds += barrier[0] + (busy - 1) * barrier[1]
    return seconds


def jobs_of(network: Network, workers: int = 1) -> list[Job]:
    """Return the jobs of a step on so many workers, timed task by task in its order: the fastest of ROUNDS."""
    trainer = Trainer(model_of(network), optimizer=SGD(LEARNING_RATE), threads=1)
    x, y = batches(network)[0]
    for _ in range(3):
        trainer.step(x, y)
    assert trainer._program is not None
    (step,) = trainer._program.steps.values()
    parallel.at_once = int  # as on a machine with a processor for each worker
    if step._division(workers) is not None:
        trainer.threads = workers
        trainer.step(x, y)
    tapes = _tapes(step, workers)
    rounds = [_round([tape for _, tapes_, _ in tapes for tape in tapes_]) for _ in range(ROUNDS)]
    seconds = iter(np.maximum(np.min(rounds, axis=0) - _call_of_nothing(), 0.0).tolist())
    return [Job(name, tuple(next(seconds) for _ in own), traffic) for name, own, traffic in tapes]


def _tapes(step: Step, workers: int) -> list[tuple[str, list[Tape], float]]:
    """Return each job's name, the records of its tasks and the bytes that they read and write."""
    program, sweeps, division = step.program, step.update, step._division(workers)
    assert sweeps is not None
    found = [("prepare", step.preparation.tapes, 0.0)]
    for direction, stage in step._parts():
        sync = program.syncs.get((direction, stage, step.n))
        if sync is not None:
            found.append((f"{direction} {stage}", [sync], 0.0))
            continue
        if direction == "prepare":
            found.append((f"prepare {stage}", step.late[stage].tapes, 0.0))
            continue
        if direction == "sum":
            found.append((f"sum {stage}", step.stage_sums[stage].tapes, 0.0))
            continue
        shards = step.whole_shards.order(stage)
        traffic = sum(_traffic(step, direction, stage, shard) for shard in shards)
        if division is not None:
            phases = division.phases[direction, stage]
            found += [
                (f"{direction} {stage}, phase {k}", tasks.tapes, traffic / len(phases))
                for k, tasks in enumerate(phases)
            ]
            continue
        found.append(
            (f"{direction} {stage}", [step.whole_shards.tapes[direction, stage, shard, 0] for shard in shards], traffic)
        )
    rows = len(step.slices)
    found += [("update", one.tapes, float((rows + 2) * program.flat.nbytes)) for one in sweeps.passes]
    return found


def _traffic(step: Step, direction: str, stage: int, shard: int) -> float:
    """Return the bytes of all maps that a stage reads or writes for a shard and that live longer than it, each once."""
    plan, n = step.program.graph, step.slices[shard][1] - step.slices[shard][0]
    kinds = plan.allocations if direction == "backward" or stage == len(plan.sync_points) else plan.allocations[:1]
    ops = {call.owner for call in step._calls(direction, stage, shard, 0) if isinstance(call.owner, Op)}
    values = {value for op in ops for value in (*op.reads, *op.writes)}
    buffers = {one.name: one.size for kind in kinds for value in values if (one := kind[value]) and one.persistent}
    return float(n * sum(buffers.values()) * plan.dtype.itemsize)


def _round(tapes: Sequence[Tape]) -> list[float]:
    """Return the processor's seconds of each record, played in order: not those in which another process had it."""
    seconds = []
    for tape in tapes:
        began = time.thread_time()
        tape.play()
        seconds.append(time.thread_time() - began)
    return seconds


def _call_of_nothing() -> float:
    """Return the seconds of a record of nothing: the price of Python, which a replayed step does not pay."""
    return min(_round([Tape() for _ in range(1000)]))


def barrier() -> tuple[float, float]:
    """Return the seconds that a job takes beside its tasks on one worker, and what each further one adds."""
    one, two = (min(_small_jobs(workers) for _ in range(ROUNDS)) for workers in (1, 2))
    task = min(_small_jobs(1, alone=True) for _ in range(ROUNDS))
    return max(0.0, one - task), max(0.0, two - one)


def _small_jobs(workers: int, alone: bool = False) -> float:
    """Return the seconds of a job of one small task a worker: long enough that a helper comes in time to take it."""
    numbers = [np.ones(SMALL, np.float32) for _ in range(2 * workers)]
    rate = np.array([0.0, 1.0, 0.0], np.float32)
    tapes = []
    for theta, gradient in zip(numbers[::2], numbers[1::2], strict=True):
        with recording(Tape()) as tape:
            update.sgd(theta, gradient, 1, 0, SMALL, rate)
        tapes.append(tape)
    part = parallel.part_of_jobs([tapes] * workers)
    assert part is not None
    calls = reduce(operator.add, tapes * COUNT) if alone else parallel.Jobs([part] * COUNT)
    calls.play()
    began = time.perf_counter()
    calls.play()
    return (time.perf_counter() - began) / COUNT


def report(name: str, network: Network, cost: tuple[float, float], bandwidth: float) -> None:
    """Print the schedule of a network's step, and what bounds it."""
    jobs = jobs_of(network)
    alone = scheduled(jobs, 1, (0.0, 0.0))
    rows = []
    for workers in WORKERS:
        jobs = jobs if workers <= SHARDS else jobs_of(network, workers)
        free, bound = (scheduled(jobs, workers, cost, limit) for limit in (float("inf"), bandwidth))
        shares = (f"{alone / (workers * seconds):.0%}" for seconds in (free, bound))
        rows.append((str(workers), milliseconds(free), *shares))
    print()
    print(table((f"{name}, batch {network.batch}, workers", "ms", "efficiency", "with the ceiling"), rows))
    widest = max(len(job.tasks) for job in jobs if len(job.tasks) and sum(job.tasks) > 0.01 * alone)
    serial = sum(sum(job.tasks) for job in jobs if len(job.tasks) == 1) / alone
    longest = sum(max(job.tasks, default=0.0) for job in jobs)
    traffic = sum(job.traffic for job in jobs)
    print(
        f"{len(jobs)} jobs of up to {widest} tasks; {serial:.1%} of the time in jobs of one task; the longest tasks of "
        f"all jobs add up to {milliseconds(longest)} ms, which no number of workers goes below; "
        f"{traffic / 2**20:.0f} MiB read and written"
    )


def measure(name: str, network: Network, cost: tuple[float, float]) -> None:
    """Print steps that are measured on this machine's cores, beside their schedule."""
    counts = [workers for workers in WORKERS if workers <= cores()]
    if len(counts) < 2:
        return
    sides = [make(network, threads) for threads in counts]
    timings = [timing.minimum for timing in alternate(sides, rounds=6, seconds=0.3).values()]
    jobs = jobs_of(network)
    plans = [scheduled(jobs, workers, cost) for workers in counts]
    rows = [
        (str(workers), milliseconds(seconds), f"{timings[0] / (workers * seconds):.0%}", milliseconds(plan))
        for workers, seconds, plan in zip(counts, timings, plans, strict=True)
    ]
    print(table((f"{name}, measured, threads", "ms", "efficiency", "scheduled ms"), rows))


def main() -> None:
    """Schedule the steps of the networks asked for, and measure what this machine has cores for."""
    parser = argparse.ArgumentParser(prog="python -m bench.scaling", description=__doc__.partition("\n")[0])
    parser.add_argument("nets", nargs="*", default=list(NETS), metavar="net", help=f"of {', '.join(NETWORKS)}")
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--bandwidth", type=float, help="GB/s, read + written, of the machine to schedule for")
    parser.add_argument(
        "--barrier", type=float, nargs=2, metavar=("ONE", "MORE"), help="µs on one worker, and more for each other one"
    )
    options = parser.parse_args()
    unknown = sorted(set(options.nets) - set(NETWORKS))
    if unknown:
        parser.error(f"net: expected some of {', '.join(NETWORKS)}; got {', '.join(unknown)}")
    print(about("bench.scaling"))
    bystanders, threads = Bystanders([]), cores()
    given = "" if options.barrier is None else ", given"
    cost = barrier() if options.barrier is None else (options.barrier[0] / 1e6, options.barrier[1] / 1e6)
    measured = copy_bandwidth(threads=threads)
    bandwidth = options.bandwidth or measured
    print(
        f"barrier{given}: {cost[0] * 1e6:.2f} µs on one worker, {cost[1] * 1e6:.2f} more for each further one\n"
        f"memory copy on {threads} cores: {measured:.1f} GB/s; ceiling of the schedule: {bandwidth:.1f} GB/s\n"
        "Scheduled from the times of single tasks on one thread, not measured:"
    )
    for name in options.nets:
        network = NETWORKS[name]._replace(batch=options.batch)
        report(name, network, cost, bandwidth * 1e9)
        measure(name, network, cost)
    others = bystanders.cores()
    if others is not None and others > QUIET:
        print(f"\nOther processes kept {others:.2f} cores busy meanwhile: the figures are not the machine's own.")


if __name__ == "__main__":
    main()
