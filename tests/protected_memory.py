"""The table of shapes and random networks with all memory between protected pages, under every vector set.

    python -m tests.protected_memory --count 500
    python -m tests.protected_memory --count 20 --sets avx2 --sides end

A fault kills the process that makes it: children say what they are doing, the parent names what a dead one did, and
goes on with the next.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

import fastcnn
from fastcnn.ops.convolution.select import ALGORITHMS
from tests.cases import CONV_CASES, DENSE_CASES, DEPTHWISE_CASES, LAYER_CASES, POOL_CASES, TRANSPOSE_CASES
from tests.network_draws import Case
from tests.protected_pages import SIDES, protected, protected_engine
from tests.random_networks import case_of, engine_results

SETS = ("sse", "avx2", "avx512")
Job = tuple[str, Callable[[], None]]


def layer_jobs(side: str) -> Iterator[Job]:
    """Yield every row of the table of shapes."""
    rows = [
        *(
            (f"{case} {algorithm}", partial(fastcnn.Conv2D, **case.arguments, algorithm=algorithm), case.input_shape)
            for case in CONV_CASES
            for algorithm in ALGORITHMS
        ),
        *(
            (str(case), partial(fastcnn.DepthwiseConv2D, **case.arguments), case.input_shape)
            for case in DEPTHWISE_CASES
        ),
        *(
            (str(case), partial(fastcnn.Conv2DTranspose, **case.arguments), case.input_shape)
            for case in TRANSPOSE_CASES
        ),
        *((str(case), partial(fastcnn.MaxPool2D, **case.arguments), case.input_shape) for case in POOL_CASES),
        *((f"{case} notebook", fastcnn.MaxPool2, case.input_shape) for case in POOL_CASES if case.is_2x2),
        *((str(case), partial(fastcnn.Dense, case.nodes, bias=case.bias), (case.N, case.D)) for case in DENSE_CASES),
        *((str(case), partial(case.make, fastcnn), case.input_shape) for case in LAYER_CASES),
    ]
    for name, make, shape in rows:
        for dtype in (np.float32, np.float64):
            yield f"{name} {dtype.__name__}", partial(run_layer, make, shape, dtype, side)


def run_layer(make: Callable[[], fastcnn.Layer], shape: tuple[int, ...], dtype: type, side: str) -> None:
    """Go forward and backward in one layer, train it alone, and predict; batches of one too."""
    x = protected(np.random.RandomState(0).standard_normal(shape).astype(dtype), side)
    layer = make()
    output = layer.forward(x)
    layer.backward(protected(output, side))
    model = fastcnn.Sequential([make()]).build(shape[1:], random_state=0, dtype=dtype)
    if model.parameters:
        trainer = fastcnn.Trainer(model, "mean_squared_error", threads=1)
        for n in (shape[0], 1) if fastcnn.BatchNorm not in {type(layer) for layer in model._modes()} else (shape[0],):
            target = np.zeros((n, *model.output_shape(shape[1:])), dtype)
            for _ in range(2):
                trainer.step(protected(x[:n], side), protected(target, side))
        trainer.evaluate(x, np.zeros((shape[0], *target.shape[1:]), dtype))
    for images in (x, protected(x[:1], side)):
        for _ in range(2):
            model.predict(images)


def network_jobs(count: int, side: str) -> Iterator[Job]:
    """Yield random networks: each trained by another optimizer than the last."""
    for seed in range(count):
        yield f"network {seed}", partial(run_network, case_of(seed), side)


def run_network(case: Case, side: str) -> None:
    """Do all that is done with a random network, the user's arrays between protected pages too."""
    engine_results(_Protected.of(case, side))


class _Protected(Case):
    """A case whose batches and targets lie between protected pages."""

    side: str

    @staticmethod
    def of(case: Case, side: str) -> Case:
        """Return the same case."""
        other = replace(case)
        object.__setattr__(other, "__class__", _Protected)
        object.__setattr__(other, "side", side)
        return other

    def batch(self, n: int, purpose: int) -> np.ndarray:
        return protected(super().batch(n, purpose), self.side)

    def target(self, n: int, purpose: int) -> np.ndarray:
        return protected(super().target(n, purpose), self.side)


def jobs(count: int, side: str) -> Iterator[Job]:
    """Yield everything that is done under one vector set."""
    yield from layer_jobs(side)
    yield from network_jobs(count, side)


def work(count: int, side: str, first: int) -> None:
    """Do the jobs from number `first` on; say the name of each before, on a line."""
    faulthandler.enable()
    with protected_engine(side):
        for name, job in islice(jobs(count, side), first, None):
            sys.stdout.write(f"{name}\n")
            sys.stdout.flush()
            job()
            gc.collect(0)
    sys.stdout.write("\n")


def command(count: int, side: str, first: int) -> list[str]:
    """Return what Python is called with to do the jobs from number `first` on."""
    return ["-m", "tests.protected_memory", "--count", str(count), "--child", side, str(first)]


def watch(count: int, side: str, vector_set: str, first: int = 0) -> list[str]:
    """Do all jobs from number `first` on in child processes; return what failed, and with what."""
    failures: list[str] = []
    root, environment = Path(__file__).parents[1], {**os.environ, "FASTCNN_SIMD": vector_set}
    while True:
        arguments = [sys.executable, *command(count, side, first)]
        child = subprocess.run(arguments, env=environment, cwd=root, text=True, capture_output=True, check=False)
        names = child.stdout.splitlines()
        if child.returncode == 0 and names and not names[-1]:
            return failures
        failures.append(f"{vector_set}, {side}: {names[-1] if names else 'start'}\n{_reason(child.stderr)}")
        if not names:
            return failures
        first += len(names)


def _reason(errors: str) -> str:
    """Return the end of what a child said: its exception, or where in Python it was when it died."""
    lines = errors.splitlines()
    return "\n".join(lines[:14] if "Fatal Python error" in errors else lines[-4:])


def main() -> int:
    """Do all jobs under several vector sets, on both sides."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500, help="random networks")
    parser.add_argument("--sets", default=",".join(SETS), help="vector sets; wider than the registers will do")
    parser.add_argument("--sides", default=",".join(SIDES), help="where the protected page is")
    parser.add_argument("--child", nargs=2, metavar=("SIDE", "FIRST"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        work(arguments.count, arguments.child[0], int(arguments.child[1]))
        return 0
    failures = []
    for vector_set in arguments.sets.split(","):
        for side in arguments.sides.split(","):
            found = watch(arguments.count, side, vector_set)
            failures += found
            sys.stdout.write("".join(f"{failure}\n" for failure in found))
            sys.stdout.write(f"{vector_set}, {side}: {len(found)} failures\n")
            sys.stdout.flush()
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
