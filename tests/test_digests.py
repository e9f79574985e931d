"""One seed, one set of bits: pinned, whatever the threads, the process, the length of registers, Python and NumPy."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen

import pytest

import fastcnn
from fastcnn.jit.target import has_fused_multiply_add
from tests import digests
from tests.processes import finish, start_python

# What `python -m tests.digests` prints. Another digest is a decision: it is said in the commit and in the changelog.
PINNED = {
    "lenet": "48083bc04420bdd3",
    "lenet, double": "38e8dc5cf1f8f432",
    "many classes": "83d0d1fba8669f0f",
    "many classes, double": "c93d5afaca9d8c04",
    "first layers": "033497b1f1d7dff7",
    "residual": "7b06a58fbd55f0b3",
    "separable": "560274576d4afc78",
    "odd widths": "4d638d6fea312bc7",
    "wide windows": "b7c7e1b23f34eb16",
    "image to image": "6a0b7ac9bf5b9ec7",
    "pixels": "958098bce7b24909",
    "groups": "b7123d2b8fae9d13",
    "rectified": "32e70692cc226816",
    "recipe": "94fa14866a88d296",
    "augmented": "eb12d3d0c44e3a82",
    "mixed": "d44019afd0c252f9",
    "cropped": "196662e753140ca3",
    "muon": "cd950f21114cdf85",
    "classifier": "eb43e4b9ffb1e7c9",
    "regressor": "cf1891a8a9319629",
    "notebook": "077414952b97164d",
}
# Of 4, 8 and 16 numbers of single precision; those that the processor does not have are made of what it has.
REGISTERS = ("sse", "avx2", "avx512")
LIMIT = 600  # seconds: all kernels are compiled
needs_fma = pytest.mark.skipif(
    not has_fused_multiply_add(), reason="a processor without fused multiply-add has other bits"
)


@pytest.fixture(scope="module", autouse=True)
def processes() -> Iterator[dict[str, Popen[str]]]:
    """Start a process for each length of registers; they compile while the tests of this one run."""
    code = "import json; from tests.digests import digests; print(json.dumps(digests()))"
    started = {name: start_python(code, FASTCNN_SIMD=name) for name in REGISTERS}
    yield started
    for process in started.values():
        process.kill()


@needs_fma
@pytest.mark.parametrize("threads", [1, 2, 3, 5, 16, 64])
def test_any_number_of_threads_gives_the_pinned_bits(threads, monkeypatch):
    if threads == 64:
        monkeypatch.setattr(
            fastcnn.training.division, "PART_WORK", 1e-3
        )  # many share each shard, however little there is
    assert digests.digests(threads) == PINNED


@needs_fma
@pytest.mark.parametrize("registers", REGISTERS)
def test_registers_of_any_length_give_the_pinned_bits(registers, processes):
    assert json.loads(finish(processes[registers], LIMIT)) == PINNED


def test_something_of_every_kind_is_trained():
    source = Path(digests.__file__).read_text(encoding="utf-8")
    kinds = fastcnn.Layer, fastcnn.Loss, fastcnn.Optimizer, fastcnn.Schedule
    public = {name: getattr(fastcnn, name) for name in fastcnn.__all__}
    trained = [name for name, kind in public.items() if inspect.isclass(kind) and issubclass(kind, kinds)]
    assert {name for name in trained if f"{name}(" not in source} == {"Layer", "Loss", "Optimizer", "Schedule"}
