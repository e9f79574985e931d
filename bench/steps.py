"""Whole training steps against PyTorch and JAX: ``python -m bench.steps [net ...] [--quick] [--fresh]``.

float32, forward, backward and plain SGD. Every side makes three steps from the same parameters on the same batches, and
their losses must agree; then all are timed in alternating turns of one run. The ratio is the best peer's median by our
median, the best of one and all threads on either side.

All sides share one process that keeps the memory it frees, which suits the peers best. With ``--fresh`` each peer has a
process of its own with the system's defaults, as its users run it, and takes its turns from there.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

from .networks import NETWORKS, Network, loss_bound, step_flops
from .peak import conditions, fma_peak
from .sides import all_sides, compiler_missing, time_limit
from .timing import Bystanders, Side, Timing, about, alternate, keep_memory, milliseconds, table

CHECKED_STEPS = 3
SECONDS_TO_BEGIN = 120  # a side whose first steps take longer is left out: torch.compile


def begin(network: Network, compiled: bool, fresh: bool, jax: bool = True, quiet: bool = False) -> list[Side]:
    """Return the sides of a network after their first steps, whose losses were found equal.

    A peer that dies in a process of its own is left out, and so is one that `torch.compile` cannot compile.
    """
    bound, worst, expected, begun = loss_bound(network, CHECKED_STEPS), 0.0, None, []
    for side in all_sides(network, compiled, fresh, jax):
        try:
            with time_limit(SECONDS_TO_BEGIN):
                losses = side.turn(CHECKED_STEPS).values
        except Exception as error:
            if "compiled" not in side.name and not isinstance(error, EOFError):
                raise
            print(f"left out: {side.name}: {(str(error) or 'its process has ended').splitlines()[0]}")
            continue
        expected = expected or losses
        apart = max(abs(loss - other) / max(1.0, other) for loss, other in zip(losses, expected, strict=True))
        if not apart <= bound:
            raise AssertionError(f"{side.name}: losses {losses}; {begun[0].name}: {expected}; allowed {bound:.1e}")
        worst = max(worst, apart)
        begun.append(side)
    if not quiet:
        print(f"equal: losses of {CHECKED_STEPS} steps, {worst:.1e} apart at most; float32 allows {bound:.1e}")
    return begun


def fastest(timings: dict[str, Timing], wanted: Callable[[str], bool]) -> str | None:
    """Return the side with the smallest median among those whose name is wanted."""
    return min(filter(wanted, timings), key=lambda name: timings[name].median, default=None)


class Measured(NamedTuple):
    """What was found for a network; `others` is how many cores other processes kept busy meanwhile, if known."""

    name: str
    network: Network
    timings: dict[str, Timing]
    others: float | None


def measure(name: str, compiled: bool, fresh: bool, rounds: int, seconds: float) -> Measured:
    """Check, time and print one network."""
    network = NETWORKS[name]
    print(f"\n{name}, batch {network.batch}, {step_flops(network) / 1e6:,.1f} MFLOP a step")
    sides = begin(network, compiled, fresh)
    bystanders = Bystanders(sides)
    timings = alternate(sides, rounds, seconds)
    others = bystanders.cores()
    for side in sides:
        side.close()
    rows = [(n, milliseconds(t.median), milliseconds(t.minimum), f"{t.cores:.1f}") for n, t in timings.items()]
    print(table(("side", "median ms", "minimum ms", "cores busy"), rows))
    return Measured(name, network, timings, others)


def summary(measured: Measured, peak: float) -> tuple[str, ...]:
    """Return the row of a network in the final table."""
    name, network, timings, others = measured
    ours = [timing for side, timing in timings.items() if side.startswith("fastcnn")]
    peer = fastest(timings, lambda side: not side.startswith("fastcnn"))
    best = min(timing.median for timing in ours)
    return (
        name,
        str(network.batch),
        milliseconds(ours[0].median),
        milliseconds(ours[-1].median),
        peer or "none installed",
        milliseconds(timings[peer].median) if peer else "",
        f"{timings[peer].median / best:.2f}" if peer else "",
        f"{step_flops(network) / ours[0].median / 1e9 / peak:.0%}",
        "unknown" if others is None else f"{others:.2f}",
    )


def main() -> None:
    """Run the bench as the command line asks."""
    parser = argparse.ArgumentParser(prog="python -m bench.steps", description=__doc__.partition("\n")[0])
    parser.add_argument("networks", nargs="*", metavar="net", help=f"of {', '.join(NETWORKS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter turns, and no torch.compile")
    parser.add_argument("--fresh", action="store_true", help="each peer in its own process, with default allocation")
    options = parser.parse_args()
    if unknown := set(options.networks) - set(NETWORKS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(NETWORKS)}")
    rounds, seconds = (3, 0.05) if options.quick else (15, 0.2)
    missing = "--quick" if options.quick else compiler_missing()

    print(about("bench.steps", ("numpy", "numba", "torch", "jax")))
    if missing:
        print(f"without torch.compile: {missing}")
    if options.fresh:
        print("peers in processes of their own, with the system's default allocation")
    elif not keep_memory():
        print("this C library has no mallopt: freed memory may go back to the system, at some cost to the peers")
    before = fma_peak()
    measured = [measure(name, not missing, options.fresh, rounds, seconds) for name in options.networks or NETWORKS]
    after = fma_peak()
    peak = max(before, after)

    header = (
        "net",
        "batch",
        "1 thread ms",
        "all threads ms",
        "best peer",
        "its ms",
        "ratio",
        "of peak, 1 thread",
        "others",
    )
    print("\n" + table(header, [summary(row, peak) for row in measured]))
    known = [row.others for row in measured if row.others is not None]
    print(conditions(before, after, max(known, default=None)))
    print("medians; steady: all kernels loaded; shares count a direct convolution's FLOPs")
    print("(Winograd and what skips zeros do less)")


if __name__ == "__main__":
    main()
