"""Elementwise layers, poolings and optimizers as a share of a memory copy: ``python -m bench.elementwise [part ...]``.

float32, 64 MB maps of 64 channels, so that nothing is left in a cache from one turn to the next. The bound of a pass is
the time in which as many bytes are copied, half of them read and half written, as the pass must read and write at
least: each of its maps once. Forward these are the input and the output; backward the gradients of both, and the map
that the derivative is computed from; of an optimizer the gradient once, parameters and what it remembers twice. Which
pixel won a maximum, and the seeds of dropout, are not counted, nor are tables. The share is that of the medians, copy
and pass in alternating turns; where several threads run, each has its part of the images, or of the array to copy.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

import fastcnn
import reference
from fastcnn.engine.allocate import allocate
from fastcnn.engine.arrays import aligned_zeros
from fastcnn.engine.ir import Graph, RunContext
from fastcnn.engine.planner import make_plan
from fastcnn.runtime import threads as parallel

from .networks import rounding
from .timing import Bystanders, Side, about, alternate, cores, table, threads_text

SHAPE = (64, 32, 32)
IMAGES = 256
PARAMETERS = 4096  # a dense layer of so many inputs and outputs: 64 MB


class Work(NamedTuple):
    """A pass of one thread's part, and the bytes that it must read and write at least."""

    call: Callable[[], Any]
    bytes: int


# name: how the layer is made, and which map its derivative is computed from
LAYERS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "ReLU": (lambda m: m.ReLU(), "output"),
    "LeakyReLU": (lambda m: m.LeakyReLU(), "input"),
    "ELU": (lambda m: m.ELU(), "input"),
    "GELU": (lambda m: m.GELU(), "input"),
    "GELU, tanh": (lambda m: m.GELU("tanh"), "input"),
    "SiLU": (lambda m: m.SiLU(), "input"),
    "CELU": (lambda m: m.CELU(1.5), "input"),
    "Softplus": (lambda m: m.Softplus(), "input"),
    "Mish": (lambda m: m.Mish(), "input"),
    "ReLU6": (lambda m: m.ReLU6(), "output"),
    "HardSigmoid": (lambda m: m.HardSigmoid(), "input"),
    "HardSwish": (lambda m: m.HardSwish(), "input"),
    "PReLU": (lambda m: m.PReLU(64), "input"),
    "Sigmoid": (lambda m: m.Sigmoid(), "output"),
    "Tanh": (lambda m: m.Tanh(), "output"),
    "SoftmaxActivation": (lambda m: m.SoftmaxActivation(), "output"),
    "Dropout": (lambda m: m.Dropout(0.5, random_state=0), ""),
    "SpatialDropout2D": (lambda m: m.SpatialDropout2D(0.5, random_state=0), ""),
    "MaxPool2D 2/2": (lambda m: m.MaxPool2D(2), ""),
    "MaxPool2D 3/2": (lambda m: m.MaxPool2D(3, 2), ""),
    "MaxPool2D 3/1/1": (lambda m: m.MaxPool2D(3, 1, 1), ""),
    "AvgPool2D 2/2": (lambda m: m.AvgPool2D(2), ""),
    "AvgPool2D 3/2/1": (lambda m: m.AvgPool2D(3, 2, 1), ""),
    "AvgPool2D 3/1/1": (lambda m: m.AvgPool2D(3, 1, 1), ""),
    "GlobalAvgPool2D": (lambda m: m.GlobalAvgPool2D(), ""),
    "GlobalMaxPool2D": (lambda m: m.GlobalMaxPool2D(), ""),
    "Pad, reflect": (lambda m: m.Pad(1, "reflect"), ""),
    "UpSample2D": (lambda m: m.UpSample2D(), ""),
}

OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "SGD": lambda: fastcnn.SGD(0.01),
    "SGD, momentum": lambda: fastcnn.SGD(0.01, momentum=0.9),
    "Adam": fastcnn.Adam,
    "AdamW": fastcnn.AdamW,
    "RMSprop": fastcnn.RMSprop,
    "Lion": fastcnn.Lion,
}


def check(name: str) -> None:
    """Raise unless the layer computes what its twin in `reference` does."""
    make, _ = LAYERS[name]
    fast, twin = make(fastcnn), make(reference)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, SHAPE[0], 8, 8), np.float32)
    output = fast.forward(x)
    if hasattr(fast, "last_mask"):
        twin.mask = fast.last_mask
    expected = twin.forward(x)
    dL_dout = rng.standard_normal(output.shape, np.float32)
    pairs = (output, expected), (fast.backward(dL_dout), twin.backward(dL_dout))
    for actual, exact in pairs:
        apart = np.max(np.abs(actual - exact)) / np.max(np.abs(exact))
        if not apart <= 4 * rounding(64):
            raise AssertionError(f"{name} differs from its reference by {apart:.1e}")


def layer_work(name: str, threads: int) -> dict[str, list[Work]]:
    """Return both passes of a layer, one piece of work for each thread."""
    make, derivative = LAYERS[name]
    found: dict[str, list[Work]] = {"forward": [], "backward": []}
    n = IMAGES // threads
    layer = make(fastcnn).build(SHAPE, dtype=np.float32)
    graph = Graph(SHAPE, np.dtype(np.float32))
    graph.output = layer._lower(graph, 0)
    plan = make_plan(graph, n, input_gradient=True)
    (op,) = plan.ops
    op.prepare()
    rng = np.random.default_rng(0)
    for index in range(threads):
        workspace, context = allocate(plan), RunContext(first=index * n)
        x, y = (workspace.values[value] for value in (op.x, op.y))
        dx, dy = (workspace.gradients[value] for value in (op.x, op.y))
        assert dx is not None
        assert dy is not None
        rng.standard_normal(out=x, dtype=np.float32)
        rng.standard_normal(out=dy, dtype=np.float32)
        needed = {"input": x.nbytes, "output": y.nbytes, "": 0}[derivative]
        found["forward"].append(Work(partial(op.forward, n, workspace, context), x.nbytes + y.nbytes))
        found["backward"].append(Work(partial(op.backward, n, workspace, {}, context), dx.nbytes + dy.nbytes + needed))
    return found


def optimizer_work(name: str, threads: int) -> dict[str, list[Work]]:
    """Return an optimizer's sweep, one piece of work for each thread."""
    optimizer = OPTIMIZERS[name]()
    model = fastcnn.Sequential([fastcnn.Dense(PARAMETERS)])
    model.build((PARAMETERS,), dtype=np.float32)
    optimizer._begin(model)
    size = model._flat.size
    gradients = aligned_zeros(size, np.float32)
    np.random.default_rng(0).standard_normal(out=gradients, dtype=np.float32)
    maps = 3 + 2 * len(optimizer.state)
    edges = np.linspace(0, size // 64, threads + 1).astype(int) * 64
    edges[-1] = size
    return {
        "step": [
            Work(partial(optimizer._update, gradients, 1, int(first), int(last)), maps * 4 * int(last - first))
            for first, last in pairwise(edges)
        ]
    }


def together(calls: Sequence[Callable[[], Any]]) -> Callable[[], None]:
    """Return the call of all of them at once, each on a thread of its own."""
    return lambda: parallel.run(len(calls), lambda i, _: calls[i](), len(calls))


def copies(work: Sequence[Work], source: np.ndarray, target: np.ndarray) -> Iterator[Callable[[], None]]:
    """Yield for each thread the copy of as many bytes as its work must move."""
    start = 0
    for piece in work:
        count = piece.bytes // 8
        yield partial(np.copyto, target[start : start + count], source[start : start + count])
        start += -(-count // 16) * 16


def share(work: Sequence[Work], arrays: tuple[np.ndarray, np.ndarray], rounds: int, seconds: float) -> tuple[str, str]:
    """Return the GB/s of the work, and its share of the copy's."""
    sides = [
        Side("work", together([piece.call for piece in work]), len(work)),
        Side("copy", together(list(copies(work, *arrays))), len(work)),
    ]
    timings = alternate(sides, rounds, seconds)
    size = sum(piece.bytes for piece in work)
    taken, bound = timings["work"].median, timings["copy"].median
    return f"{size / taken / 1e9:.1f}", f"{bound / taken:.0%}"


def main() -> None:
    """Run the bench as the command line asks."""
    parser = argparse.ArgumentParser(prog="python -m bench.elementwise", description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", help="beginnings of names; all if none")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter turns")
    arguments = parser.parse_args()
    rounds, seconds = (3, 0.02) if arguments.quick else (7, 0.06)
    counts = sorted({1, cores()})
    chosen = [name for name in (*LAYERS, *OPTIMIZERS) if not arguments.parts or name.startswith(tuple(arguments.parts))]
    arrays = aligned_zeros(1 << 26, np.float32), aligned_zeros(1 << 26, np.float32)
    for array in arrays:
        array[...] = 1  # pages of zeros that nobody has written are all one page, and in the cache
    print(about("bench.elementwise"))
    bystanders, rows = Bystanders([]), []
    for name in chosen:
        if name in LAYERS:
            check(name)
        make = layer_work if name in LAYERS else optimizer_work
        cells: dict[str, list[str]] = {}
        for threads in counts:
            for direction, work in make(name, threads).items():
                cells.setdefault(direction, []).extend(share(work, arrays, rounds, seconds))
        rows += [(f"{name}, {direction}", *found) for direction, found in cells.items()]
    header = [text for threads in counts for text in (f"GB/s, {threads_text(threads)}", "of the copy")]
    print(table(("float32, beyond the caches", *header), rows))
    others = bystanders.cores()
    if others is not None:
        print(f"other processes kept {others:.2f} cores busy meanwhile")


if __name__ == "__main__":
    main()
