"""Prediction against PyTorch and onnxruntime: ``python -m bench.predict [case ...] [--quick]``.

float32, images in, outputs out. All sides have the same parameters and running statistics and see the same images, and
their outputs must agree. The ratio is the best peer's median by our median, the best of one and all
threads on either side. PyTorch runs in `inference_mode`, images in its own tensors and memory order beforehand, with
batch normalisations as they are and folded into the convolutions; onnxruntime with all its graph optimizations, on the
same network written as ONNX. fastcnn takes the array as a user has it.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import numpy as np

from .networks import NETWORKS, Network, all_places, predicted_images, products, rounding
from .peak import conditions, fma_peak
from .sides import all_predictors, compiler_missing, time_limit
from .steps import SECONDS_TO_BEGIN, fastest
from .timing import Bystanders, Side, Timing, about, alternate, keep_memory, milliseconds, table


class Case(NamedTuple):
    """A network of the bench and the images of a call."""

    net: str
    images: int

    @property
    def network(self) -> Network:
        """The network, with this batch."""
        return NETWORKS[self.net]._replace(batch=self.images)


CASES = {
    "keras_mnist": Case("keras_mnist", 256),
    "resnet20": Case("resnet20", 64),
    "mobilenet": Case("mobilenet", 64),
    "lenet5": Case("lenet5", 1),
}


def bound(network: Network) -> float:
    """Return how far apart, by the largest output, two float32 outputs may lie: the rounding of all layers, twice."""
    return 4 * sum(rounding(products(place)) for place in all_places(network) if products(place))


def begin(case: Case, compiled: bool) -> list[Side]:
    """Return the sides of a case, whose outputs were found equal."""
    allowed, worst, expected, begun = bound(case.network), 0.0, None, []
    for side in all_predictors(case.network, compiled):
        try:
            with time_limit(SECONDS_TO_BEGIN):
                output = np.asarray(side.turn(1).values[0])
        except Exception as error:
            if "compiled" not in side.name:
                raise
            print(f"left out: {side.name}: {str(error).splitlines()[0]}")
            continue
        expected = output if expected is None else expected
        apart = float(np.max(np.abs(output - expected)) / np.max(np.abs(expected)))
        if not (output.shape == expected.shape and apart <= allowed):
            raise AssertionError(f"{side.name} and {begun[0].name} are {apart:.1e} apart; allowed {allowed:.1e}")
        worst = max(worst, apart)
        begun.append(side)
    print(f"equal: outputs, {worst:.1e} of the largest apart at most; float32 allows {allowed:.1e}")
    return begun


def measure(name: str, compiled: bool, rounds: int, seconds: float) -> tuple[dict[str, Timing], float | None]:
    """Check, time and print one case; return the timings and how many cores others kept busy."""
    case = CASES[name]
    print(f"\n{name}, {case.images} image{'s' * (case.images > 1)} of {predicted_images(case.network).shape[1:]}")
    sides = begin(case, compiled)
    bystanders = Bystanders(sides)
    timings = alternate(sides, rounds, seconds)
    rows = [(n, milliseconds(t.median), milliseconds(t.minimum), f"{t.cores:.1f}") for n, t in timings.items()]
    print(table(("side", "median ms", "minimum ms", "cores busy"), rows))
    return timings, bystanders.cores()


def summary(name: str, timings: dict[str, Timing], others: float | None) -> tuple[str, ...]:
    """Return the row of a case in the final table."""
    ours = min(timing.median for side, timing in timings.items() if side.startswith("fastcnn"))
    cells = [f"{name}, {CASES[name].images}", milliseconds(ours)]
    for library in ("torch", "onnxruntime"):
        peer = fastest(timings, lambda side, library=library: side.startswith(library))
        cells += [peer, milliseconds(timings[peer].median), f"{timings[peer].median / ours:.2f}"] if peer else [""] * 3
    return (*cells, "unknown" if others is None else f"{others:.2f}")


def main() -> None:
    """Run the bench as the command line asks."""
    parser = argparse.ArgumentParser(prog="python -m bench.predict", description=__doc__.partition("\n")[0])
    parser.add_argument("cases", nargs="*", metavar="case", help=f"of {', '.join(CASES)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter turns, and no torch.compile")
    options = parser.parse_args()
    if unknown := set(options.cases) - set(CASES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(CASES)}")
    rounds, seconds = (5, 0.05) if options.quick else (15, 0.2)
    missing = "--quick" if options.quick else compiler_missing()
    print(about("bench.predict", ("numpy", "numba", "torch", "onnx", "onnxruntime")))
    if missing:
        print(f"without torch.compile: {missing}")
    keep_memory()
    before = fma_peak()
    measured = {name: measure(name, not missing, rounds, seconds) for name in options.cases or CASES}
    after = fma_peak()
    header = (
        "net, images", "fastcnn ms", "best of PyTorch", "its ms", "ratio", "best of onnxruntime", "its ms", "ratio",
        "others",
    )  # fmt: skip
    print("\n" + table(header, [summary(name, *found) for name, found in measured.items()]))
    print(
        conditions(before, after, max((others for _, others in measured.values() if others is not None), default=None))
    )


if __name__ == "__main__":
    main()
