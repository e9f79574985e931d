"""Networks that nobody tuned for: ``python -m bench.random_networks --seed S --count N [--only I ...] [--fresh]``.

Networks are drawn, each from the seed and its number alone, and their training steps timed as `bench.steps` does:
losses first, then alternating turns, the best of one and all threads on either side, PyTorch with channels first and
last, JAX where a step is at most JAX_FLOPS. Then come the ratios, their geometric mean, and for the worst five where
our time goes, operation by operation.

**The distribution.** Images of 8 to 64 pixels, 1 to 5 channels, batches of 1 to 128. One to six convolutions with 5 to
256 filters, half of the time a multiple of 16; windows 3 (half of the time), 1, 5, 7; stride 2 one time in five; no
padding, or what keeps the size. One block in eight is a depthwise convolution and a 1 x 1, one in six a residual of
two 3 x 3. Batch normalisation behind one in three, a ReLU behind all; then in two of five cases a pooling, 2 or 3/2.
The head is a global mean or `Flatten`, 0 to 2 dense layers of 16 to 512 nodes, and ten classes. Sizes are uniform in
their logarithm, all other choices uniform. Draws with more than MOST_FLOPS in a step or MOST_WEIGHTS parameters are
drawn again.
"""

from __future__ import annotations

import argparse
import math
from typing import NamedTuple

import numpy as np

from .networks import FLATTEN, MEAN, NORM, RELU, Layer, Network, Shape, all_places, dense, parameter_shapes, shape_after
from .networks import step_flops as flops_of
from .peak import copy_bandwidth, fma_peak
from .profile import profile
from .steps import begin, fastest
from .timing import about, alternate, keep_memory, milliseconds, table

MOST_FLOPS = 12e9
MOST_WEIGHTS = 4e6
JAX_FLOPS = 2e8  # a larger step takes XLA longer than PyTorch, and a minute to compile
FEWEST_NORMALISED = 64  # pixels of a batch that a normalisation needs: with fewer, rounding is most of what it returns
WORST = 5


def draw(seed: int, number: int) -> Network:
    """Return network `number` of a seed."""
    rng = np.random.default_rng((seed, number))
    while True:
        network = _draw_one(rng)
        weights = sum(math.prod(shape) for place in all_places(network) for shape in parameter_shapes(place).values())
        if flops_of(network) <= MOST_FLOPS and weights <= MOST_WEIGHTS:
            return network


def _draw_one(rng: np.random.Generator) -> Network:
    """Return a network of any size."""
    side, batch = _between(rng, 8, 64), _between(rng, 1, 128)
    image: Shape = (int(rng.integers(1, 6)), side, side)
    shape, layers = image, []
    for _ in range(rng.integers(1, 7)):
        block = _block(rng, shape, batch)
        layers += block
        for layer in block:
            shape = shape_after(layer, shape) if layer.kind != "Residual" else shape
    hidden = [layer for _ in range(rng.integers(3)) for layer in (dense(_between(rng, 16, 512)), RELU)]
    return Network((*layers, (FLATTEN, MEAN)[rng.integers(2)], *hidden, dense(10)), image, batch)


def _between(rng: np.random.Generator, low: int, high: int) -> int:
    """Draw a whole number, uniform in its logarithm."""
    return int(low * (high / low) ** rng.random() + 0.5)


def _block(rng: np.random.Generator, shape: Shape, batch: int) -> list[Layer]:
    """Draw a convolution, or what stands in its place, with what is behind it."""
    channels, side, _ = shape
    kind, normalises = rng.random(), rng.random() < 1 / 3 and batch * (side // 2) ** 2 >= FEWEST_NORMALISED
    norm = (NORM,) if normalises else ()
    if kind < 1 / 6 and channels >= 5:
        inside = (*_conv(3, channels, 1, True), *norm, RELU, *_conv(3, channels, 1, True), *norm)
        layers = [Layer("Residual", {"layers": inside, "shortcut": None}), RELU]
    elif kind < 1 / 6 + 1 / 8 and channels >= 5:
        layers = [*_conv(min(3, side), None, 1, True), *norm, RELU, *_conv(1, _filters(rng), 1, True), *norm, RELU]
    else:
        size = min(int(rng.choice([3, 3, 3, 1, 5, 7])), side)
        stride = 2 if rng.random() < 1 / 5 and side >= 2 * size else 1
        layers = [*_conv(size, _filters(rng), stride, bool(rng.integers(2)) and size % 2 == 1), *norm, RELU]
    for layer in layers:
        shape = shape_after(layer, shape) if layer.kind != "Residual" else shape
    if rng.random() < 2 / 5 and shape[1] >= 4:
        layers.append(Layer("MaxPool2D", [{}, {"pool_size": 3, "stride": 2}][rng.integers(2)]))
    return layers


def _filters(rng: np.random.Generator) -> int:
    """Draw a number of filters."""
    filters = _between(rng, 5, 256)
    return max(16, filters // 16 * 16) if rng.integers(2) else filters


def _conv(size: int, filters: int | None, stride: int, same: bool) -> tuple[Layer, ...]:
    """Return a convolution, depthwise if no number of filters."""
    arguments = {"filter_size": size, "stride": stride, "padding": size // 2 if same else 0}
    if filters is None:
        return (Layer("DepthwiseConv2D", arguments),)
    return (Layer("Conv2D", {"num_filters": filters, **arguments}),)


def describe(network: Network) -> str:
    """Return a network in few words: `3x32x32 B16: 24@5x5s/2 n pool2 flat 128 10`; `s` keeps the size."""
    shape = "x".join(map(str, network.input_shape))
    return f"{shape} B{network.batch}: {' '.join(filter(None, map(_word, network.layers)))}"


def _word(layer: Layer) -> str:
    arguments = layer.arguments
    match layer.kind:
        case "Conv2D" | "DepthwiseConv2D":
            size, stride = arguments["filter_size"], arguments["stride"]
            same = "s" if arguments["padding"] and size > 1 else ""
            return f"{arguments.get('num_filters', 'dw')}@{size}x{size}{same}{f'/{stride}' if stride > 1 else ''}"
        case "Residual":
            return f"[{' '.join(filter(None, map(_word, arguments['layers'])))}]"
        case "MaxPool2D":
            return "pool3/2" if arguments else "pool2"
        case "Dense":
            return str(arguments["nodes"])
    return {"ReLU": "", "BatchNorm": "n", "Flatten": "flat", "GlobalAvgPool2D": "mean"}[layer.kind]


class Result(NamedTuple):
    """A measured network: its number, our best seconds, the best peer and how many times as long it took.

    `of_minima` is the same ratio, of the shortest steps instead of the medians: on a busy machine it says more.
    """

    number: int
    network: Network
    ours: float
    peer: str
    ratio: float
    of_minima: float


def measure(number: int, network: Network, fresh: bool, rounds: int, seconds: float) -> Result:
    """Check and time one network."""
    sides = begin(network, False, fresh, jax=flops_of(network) <= JAX_FLOPS, quiet=True)
    timings = alternate(sides, rounds, seconds)
    for side in sides:
        side.close()
    peer = fastest(timings, lambda name: not name.startswith("fastcnn"))
    if peer is None:
        raise SystemExit("bench.random_networks: no peer is installed: neither PyTorch nor JAX")
    ours, theirs = (
        [timing for name, timing in timings.items() if name.startswith("fastcnn") == own] for own in (True, False)
    )
    best = min(timing.median for timing in ours)
    minima = [min(timing.minimum for timing in side) for side in (theirs, ours)]
    return Result(number, network, best, peer, timings[peer].median / best, minima[0] / minima[1])


def main() -> None:
    """Run the bench as the command line asks."""
    parser = argparse.ArgumentParser(prog="python -m bench.random_networks", description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--only", type=int, nargs="+", metavar="I", help="these numbers of the seed alone")
    parser.add_argument("--fresh", action="store_true", help="each peer in its own process, with default allocation")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter turns")
    parser.add_argument("--profile", action="store_true", help="where our time goes for all networks, without peers")
    options = parser.parse_args()
    rounds, seconds = (3, 0.05) if options.quick else (7, 0.2)
    print(about("bench.random_networks", ("numpy", "numba", "torch", "jax")))
    if not options.fresh:
        keep_memory()
    numbers = options.only or range(options.count)
    peak, bandwidth = fma_peak(), copy_bandwidth()
    if options.profile:
        for number in numbers:
            _print_profile(number, draw(options.seed, number), peak, bandwidth)
        return
    results = []
    print("number, ratio of medians, ratio of minima, our median, the best peer, the network")
    for number in numbers:
        network = draw(options.seed, number)
        result = measure(number, network, options.fresh, rounds, seconds)
        results.append(result)
        ours = f"{milliseconds(result.ours)} ms"
        print(
            f"{number:3} {result.ratio:6.2f} {result.of_minima:6.2f} {ours:>9} {result.peer}, {describe(network)}",
            flush=True,
        )
    for what, ratios in (
        ("medians", np.array([result.ratio for result in results])),
        ("minima", np.array([result.of_minima for result in results])),
    ):
        print(
            f"\n{len(ratios)} networks, {what}: geometric mean {np.exp(np.log(ratios).mean()):.2f}, "
            f"{np.mean(ratios >= 2.5):.0%} at least 2.5, {np.sum(ratios < 1.5)} under 1.5, worst {ratios.min():.2f}"
        )
    for result in sorted(results, key=lambda result: result.ratio)[:WORST]:
        print(f"\n{result.ratio:.2f}: {milliseconds(result.ours)} ms, {result.peer} {result.ratio:.2f} times as long")
        _print_profile(result.number, result.network, peak, bandwidth)


def _print_profile(number: int, network: Network, peak: float, bandwidth: float) -> None:
    """Print where our time goes on one thread."""
    print(f"{number}: {describe(network)}, {flops_of(network) / 1e6:,.1f} MFLOP a step")
    rows = [
        (
            line.name,
            line.direction,
            milliseconds(line.seconds),
            f"{line.share:.0%}",
            f"{line.flops / line.seconds / 1e9 / peak:.0%}" if line.flops else "",
            f"{line.traffic / line.seconds / 1e9 / bandwidth:.0%}" if line.traffic else "",
        )
        for line in profile(network)
    ]
    print(table(("operation", "direction", "ms", "of step", "of peak", "of bandwidth"), rows))
    print(
        f"one thread; peak {peak:.0f} GFLOP/s; of {bandwidth:.0f} GB/s, those of a memory copy: what an operation must"
    )
    print("read and write once, wherever it lies; in the caches it can be more than all")


if __name__ == "__main__":
    main()
