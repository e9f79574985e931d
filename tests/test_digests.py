"""One seed, one set of bits: pinned, whatever the threads, the process, the length of registers, Python and NumPy."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen

import pytest

import fastcnn
from fastcnn.jit.target import has_fused_multiply_add, vector_set
from tests import digests
from tests.processes import finish, start_python

# What `python -m tests.digests` prints. Another digest is a decision: it is said in the commit and in the changelog.
PINNED = {
    "lenet": "74a78e5edd29a2a2",
    "lenet, double": "4a7bdd48320eb7e9",
    "many classes": "19b3ab8dfcd5b548",
    "many classes, double": "9293b2f8601a5aae",
    "first layers": "033497b1f1d7dff7",
    "residual": "dcec81bd6a48375e",
    "separable": "2a5c8af00f0e60a9",
    "odd widths": "8274108afa7d5449",
    "wide windows": "9c027b158bbdff50",
    "image to image": "6a0b7ac9bf5b9ec7",
    "pixels": "02c8e6a14340d5e5",
    "groups": "10c59e33ee9d4c80",
    "rectified": "d89b725176aaf7e4",
    "recipe": "4840c7263f3ee1d5",
    "augmented": "3449e28a81748b67",
    "mixed": "3a360670202b2a23",
    "cropped": "3ec4ad4c219ba681",
    "muon": "df5024357d89872e",
    "classifier": "963d560d19dcce38",
    "regressor": "bc9922b515a72b06",
    "notebook": "5ccbcb1ccdf1a766",
}
# Of 4, 8 and 16 numbers of single precision; those that the processor does not have are made of what it has.
REGISTERS = ("sse", "avx2", "avx512")
LIMIT = 600  # seconds: all kernels are compiled
needs_fma = pytest.mark.skipif(
    not has_fused_multiply_add(), reason="a processor without fused multiply-add has other bits"
)


def start(registers: str) -> Popen[str]:
    """Start a process that prints the digests which registers of a length give."""
    code = "import json; from tests.digests import digests; print(json.dumps(digests()))"
    return start_python(code, FASTCNN_SIMD=registers)


@pytest.fixture(scope="module", autouse=True)
def processes() -> Iterator[dict[str, Popen[str]]]:
    """Start a process for each other length of registers; they compile while the tests of this one run.

    That of this process's own length starts when its test does, and finds the kernels that those tests have compiled.
    """
    started = {name: start(name) for name in REGISTERS if name != vector_set().name}
    yield started
    for process in started.values():
        with process:  # waited for, and its pipes closed: else some later test is called wrong for them
            process.kill()


@needs_fma
@pytest.mark.parametrize("threads", [1, 2, 3, 5, 16, 64])
def test_any_number_of_threads_gives_the_pinned_bits(threads, monkeypatch):
    monkeypatch.setattr(fastcnn.runtime.threads, "at_once", int)  # as if each had a processor
    if threads == 64:
        monkeypatch.setattr(
            fastcnn.training.division, "PART_WORK", 1e-3
        )  # many share each shard, however little there is
    assert digests.digests(threads) == PINNED


@needs_fma
@pytest.mark.parametrize("registers", REGISTERS)
def test_registers_of_any_length_give_the_pinned_bits(registers, processes):
    if registers not in processes:
        processes[registers] = start(registers)
    assert json.loads(finish(processes[registers], LIMIT)) == PINNED


def test_something_of_every_kind_is_trained():
    source = Path(digests.__file__).read_text(encoding="utf-8")
    kinds = fastcnn.Layer, fastcnn.Loss, fastcnn.Optimizer, fastcnn.Schedule
    public = {name: getattr(fastcnn, name) for name in fastcnn.__all__}
    trained = [name for name, kind in public.items() if inspect.isclass(kind) and issubclass(kind, kinds)]
    assert {name for name in trained if f"{name}(" not in source} == {"Layer", "Loss", "Optimizer", "Schedule"}
