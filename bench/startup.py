"""What a first use costs: ``python -m bench.startup``. Cold (empty kernel cache), warm (full one), and steady.

Kernels: the seconds of a digits run of one epoch in a fresh process, less those of the same run once more in that
process, where all is loaded. Cold, that is compilation; warm, loading. The imports that a run needs are done before.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from statistics import median

from .timing import about, table

RUN = ["train", "digits", "--epochs", "1", "--seed", "0"]
TWICE = """
import json, sys, time
import sklearn.datasets, sklearn.model_selection
import fastcnn.cli, fastcnn.training
seconds = []
for _ in range(2):
    start = time.perf_counter()
    try:
        fastcnn.cli.main(sys.argv[1:])
    except SystemExit as end:
        assert not end.code, end.code
    seconds.append(time.perf_counter() - start)
print(json.dumps(seconds))
"""


def seconds_of(arguments: Sequence[str], cache: str) -> tuple[float, str]:
    """Return how long a fresh interpreter takes with these arguments, and what it prints."""
    environment = {**os.environ, "FASTCNN_CACHE_DIR": cache}
    start = time.perf_counter()
    ran = subprocess.run([sys.executable, *arguments], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return time.perf_counter() - start, ran.stdout


def import_seconds(package: str, cache: str) -> float:
    """Return the seconds of importing a package in a fresh interpreter, beyond the interpreter and NumPy."""
    statements = ("import numpy", f"import numpy, {package}")
    empty, full = (median(seconds_of(["-c", statement], cache)[0] for _ in range(5)) for statement in statements)
    return full - empty


def kernels_seconds(cache: str) -> tuple[float, float]:
    """Return the seconds that the kernels took in the first of two runs in one fresh process, and the second run's."""
    _, printed = seconds_of(["-c", TWICE, *RUN], cache)
    first, second = json.loads(printed.splitlines()[-1])
    return first - second, second


def main() -> None:
    """Measure and print."""
    argparse.ArgumentParser(prog="python -m bench.startup", description=__doc__.partition("\n")[0]).parse_args()
    print(about("bench.startup", ("numpy", "numba", "scikit-learn", "torch", "jax")))
    rows: list[tuple[str, str, float]] = []
    with tempfile.TemporaryDirectory() as kernels_cache, tempfile.TemporaryDirectory() as run_cache:
        rows += [
            (f"import {package}, beyond Python and NumPy", "", import_seconds(package, kernels_cache))
            for package in ("fastcnn", "numba", "sklearn.base", "torch", "jax")
            if find_spec(package.partition(".")[0])
        ]
        run = ["-m", "fastcnn", *RUN]
        rows += [
            (f"python {' '.join(run)}, all of it", kind, seconds_of(run, run_cache)[0]) for kind in ("cold", "warm")
        ]
        for kind, what in (("cold", "compiling"), ("warm", "loading")):
            kernels, steady = kernels_seconds(kernels_cache)
            rows.append((f"its kernels: {what}", kind, kernels))
        rows.append(("its epoch with everything loaded", "steady", steady))
    print(table(("what", "", "seconds"), [(what, kind, f"{seconds:.2f}") for what, kind, seconds in rows]))


if __name__ == "__main__":
    main()
