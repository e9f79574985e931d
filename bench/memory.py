"""Peak resident memory of a training step: ``python -m bench.memory [net]`` (Keras MNIST, batch 128, by default).

Each side runs in a fresh process: its peak after its imports, and after STEPS steps. fastcnn runs with an empty kernel
cache, where the compiler's memory counts as well, and again with the full one.
"""

# Only the standard library at the top: on Linux a child's peak begins at what its parent held when it started it.
from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from importlib import import_module
from importlib.util import find_spec

from .timing import about, cores, table

STEPS = 20
MIB = 1 << (20 if sys.platform == "darwin" else 10)  # ru_maxrss counts bytes on macOS, KiB elsewhere
SIDES = {  # module of bench.sides, its package, further arguments
    "fastcnn": ("ours", "fastcnn", {}),
    "torch NCHW": ("pytorch", "torch", {}),
    "torch channels_last": ("pytorch", "torch", {"channels_last": True}),
    "jax jit": ("xla", "jax", {}),
}


def peak() -> float:
    """Return the largest resident memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB


def child(side: str, net: str, threads: int) -> None:
    """Run one side and print its two peaks."""
    module, _, arguments = SIDES[side]
    make, networks = import_module(f"bench.sides.{module}").make, import_module("bench.networks").NETWORKS
    imports = peak()
    make(networks[net], threads, **arguments).turn(STEPS)
    print(json.dumps([imports, peak()]))


def run(side: str, net: str, threads: int, cache: str) -> tuple[float, float]:
    """Return the peaks of one side after its imports and after its steps, in MiB."""
    command = [sys.executable, "-m", "bench.memory", net, "--side", side, "--threads", str(threads)]
    environment = {**os.environ, "FASTCNN_CACHE_DIR": cache}
    if threads == 1:
        environment["NPROC"] = "1"  # the one way to tell XLA
    ran = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    imports, steps = json.loads(ran.stdout.splitlines()[-1])
    return imports, steps


def compare(net: str) -> None:
    """Run all sides that are installed, with one and all threads, and print the table."""
    print(about("bench.memory", ("numpy", "numba", "torch", "jax")))
    installed = [side for side, (_, package, _) in SIDES.items() if find_spec(package)]
    with tempfile.TemporaryDirectory() as cache:
        rows = [("fastcnn, empty kernel cache", 1, *run("fastcnn", net, 1, cache))]
        rows += [(side, n, *run(side, net, n, cache)) for side in installed for n in sorted({1, cores()})]
    header = (f"{net}, {STEPS} steps", "threads", "imports MiB", "whole process MiB", "beside imports MiB")
    texts = [(name, str(n), f"{first:.0f}", f"{last:.0f}", f"{last - first:.0f}") for name, n, first, last in rows]
    print(table(header, texts))
    for what, less in (("whole process", 0), ("beside imports", 1)):
        ours = [last - less * imports for name, _, imports, last in rows if name == "fastcnn"]
        theirs = [last - less * imports for name, _, imports, last in rows if name.startswith("torch")]
        if theirs:
            print(f"{what}, kernels loaded: fastcnn's larger is {max(ours) / min(theirs):.2f} of PyTorch's smallest")


def main() -> None:
    """Compare all sides, or be one of them."""
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__.partition("\n")[0])
    parser.add_argument("net", nargs="?", default="keras_mnist")
    parser.add_argument("--side", choices=SIDES, help="run this side alone and print its two peaks")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.side:
        child(options.side, options.net, options.threads)
    else:
        compare(options.net)


if __name__ == "__main__":
    main()
