"""Single convolutions by shape and direction, as a share of the FMA peak: ``python -m bench.kernels [--quick]``.

float32, one thread, a batch of 32 images so that no image is hot, stride 1, padding filter_size // 2. The figure is
effective GFLOP/s: the direct convolution's FLOPs by the median time, for Winograd too, filter transforms included.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from .networks import rounding
from .peak import conditions, fma_peak
from .sides.convolutions import directions
from .timing import Bystanders, Side, about, alternate, table

BATCH = 32
DIRECTIONS = ("forward", "input gradient", "filter gradient")


class Shape(NamedTuple):
    """A convolution of square images with square filters."""

    size: int
    channels: int
    filters: int
    filter_size: int = 3

    def __str__(self) -> str:
        return f"{self.size}×{self.size} {self.channels}→{self.filters} {self.filter_size}×{self.filter_size}"

    @property
    def flops(self) -> int:
        """FLOPs of either direction."""
        return 2 * BATCH * self.size**2 * self.filters * self.channels * self.filter_size**2

    def terms(self, direction: str) -> int:
        """Return how many products make one number of the result."""
        window = self.filter_size**2
        return dict(
            zip(DIRECTIONS, (self.channels * window, self.filters * window, BATCH * self.size**2), strict=True)
        )[direction]


SHAPES = (
    Shape(32, 16, 16),
    Shape(16, 32, 32),
    Shape(16, 64, 64),
    Shape(8, 128, 128),
    Shape(14, 32, 64, filter_size=5),
    Shape(32, 32, 32),
    Shape(28, 1, 32, filter_size=5),  # first layers
    Shape(32, 3, 32),
)


class Arrays(NamedTuple):
    """What all sides compute from: x (N, C, H, W), filters (F, C, k, k), dL_dout (N, F, H, W)."""

    x: np.ndarray
    filters: np.ndarray
    dL_dout: np.ndarray  # noqa: N815  (the notebook's word)


class Kernel(NamedTuple):
    """One direction on one side: `call` is timed; `result` makes of its value an array in the public layout."""

    call: Callable[[], Any]
    result: Callable[[Any], np.ndarray]


def arrays(shape: Shape) -> Arrays:
    """Draw the arrays of a shape."""
    rng = np.random.default_rng(0)
    square, window = (shape.size, shape.size), (shape.filter_size, shape.filter_size)
    sizes = (
        ((BATCH, shape.channels), square),
        ((shape.filters, shape.channels), window),
        ((BATCH, shape.filters), square),
    )
    return Arrays(*(rng.standard_normal(front + back, np.float32) for front, back in sizes))


def torch_kernels(shape: Shape, data: Arrays, channels_last: bool) -> dict[str, Kernel]:
    """Return PyTorch's three directions."""
    torch = import_module("torch")
    order = torch.channels_last if channels_last else torch.contiguous_format
    x, filters, dL_dout = (torch.from_numpy(array).contiguous(memory_format=order) for array in data)
    padding = [shape.filter_size // 2] * 2
    backward = partial(
        torch.ops.aten.convolution_backward, dL_dout, x, filters, None, [1, 1], padding, [1, 1], False, [0, 0], 1
    )
    return {
        "forward": Kernel(lambda: torch.nn.functional.conv2d(x, filters, padding=padding), lambda y: y.numpy()),
        "input gradient": Kernel(lambda: backward([True, False, False]), lambda y: y[0].numpy()),
        "filter gradient": Kernel(lambda: backward([False, True, False]), lambda y: y[1].numpy()),
    }


def fastcnn_kernels(shape: Shape, data: Arrays, algorithm: str) -> dict[str, Kernel]:
    """Return the directions of one of fastcnn's algorithms; nothing where it would give way to a more general one."""
    if algorithm.startswith("winograd") and (shape.filter_size != 3 or shape.channels < 16):
        return {}
    found = directions(algorithm, *data, padding=shape.filter_size // 2)
    return {name: Kernel(*pair) for name, pair in found.items()}


Maker = Callable[[Shape, Arrays], Mapping[str, Kernel]]
MAKERS: dict[str, Maker] = {
    algorithm: partial(fastcnn_kernels, algorithm=algorithm)
    for algorithm in ("direct", "winograd", "winograd4", "im2col")
}
if find_spec("torch"):
    MAKERS |= {
        "torch NCHW": partial(torch_kernels, channels_last=False),
        "torch channels_last": partial(torch_kernels, channels_last=True),
    }


def measure(shape: Shape, makers: Mapping[str, Maker], rounds: int, seconds: float) -> dict[str, dict[str, float]]:
    """Return effective GFLOP/s by direction and side, after all sides were found equal to the first."""
    data = arrays(shape)
    kernels = {name: make(shape, data) for name, make in makers.items()}
    found: dict[str, dict[str, float]] = {}
    for direction in DIRECTIONS:
        able = {name: kernel[direction] for name, kernel in kernels.items() if direction in kernel}
        if not able:
            continue
        check(shape, direction, able)
        timings = alternate([Side(name, kernel.call) for name, kernel in able.items()], rounds, seconds)
        found[direction] = {name: shape.flops / timing.median / 1e9 for name, timing in timings.items()}
    return found


def check(shape: Shape, direction: str, kernels: Mapping[str, Kernel]) -> None:
    """Raise unless all sides compute the same.

    The largest of many rounding errors, by the largest result, is about √n·u for sums of n products; 4 √n·u leaves
    room for F(4×4, 3×3), whose error is up to 2.3 times the direct sum's.
    """
    results = {name: kernel.result(kernel.call()) for name, kernel in kernels.items()}
    first, *others = results
    bound = 4 * rounding(shape.terms(direction))
    for name in others:
        apart = np.max(np.abs(results[name] - results[first])) / np.max(np.abs(results[first]))
        if not apart <= bound:
            raise AssertionError(f"{shape}, {direction}: {name} differs from {first} by {apart:.1e} > {bound:.1e}")


def main() -> None:
    """Run the bench as the command line asks."""
    parser = argparse.ArgumentParser(prog="python -m bench.kernels", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter turns")
    rounds, seconds = (3, 0.03) if parser.parse_args().quick else (10, 0.1)
    if find_spec("torch"):
        import_module("torch").set_num_threads(1)
    print(about("bench.kernels", ("numpy", "numba", "torch")))
    before, bystanders = fma_peak(), Bystanders([])
    with threadpool_limits(1):  # the BLAS behind im2col
        found = {shape: measure(shape, MAKERS, rounds, seconds) for shape in SHAPES}
    others, after = bystanders.cores(), fma_peak()
    peak = max(before, after)
    rows = [
        (f"{shape}, {direction}", *(cell(by_side.get(name), peak) for name in MAKERS))
        for shape, by_direction in found.items()
        for direction, by_side in by_direction.items()
    ]
    print(table((f"effective GFLOP/s, batch {BATCH}", *MAKERS), rows))
    print(conditions(before, after, others))


def cell(gflops: float | None, peak: float) -> str:
    """Return a figure and its share of the peak."""
    return "" if gflops is None else f"{gflops:.0f} ({gflops / peak:.0%})"


if __name__ == "__main__":
    main()
