"""The test mode with protected pages: it sees loads and stores beyond an array, and some networks live in it."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

import fastcnn
from fastcnn.engine import arrays
from fastcnn.jit.target import vector_set
from tests import protected_memory
from tests.processes import run_python, start_python
from tests.protected_pages import PAGE, SIDES, protected, protected_engine, protected_zeros

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there is no mprotect")

RELU = """
import numpy as np
from fastcnn.kernels import activation
from fastcnn.kernels.maps import Maps
from tests.protected_pages import protected_zeros
x, y = (protected_zeros({size}, np.float32, {side!r}) for _ in range(2))
rows = [np.array([row], np.int32) for row in {rows}]
other = np.zeros(256, np.float32)
x, y = ({x}), ({y})
activation.relu(Maps(x, rows[0]), Maps(y, rows[1]), 1, 64, False)
print("alive")
"""


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("x", "y"), [("x", "other"), ("other", "y")], ids=["load", "store"])
def test_one_number_beyond_is_seen(side, x, y):
    """A kernel of 64 numbers on arrays of as many lives; on arrays where one is missing, at either end, it dies."""
    row = -1 if side == "begin" else 0
    inside = RELU.format(size=64, side=side, rows=(0, 0), x=x, y=y)
    assert run_python(inside) == "alive\n"
    rows = (row if x == "x" else 1, row if y == "y" else 1)
    beyond = RELU.format(size=64 if side == "begin" else 63, side=side, rows=rows, x=x, y=y)
    process = start_python(beyond)
    process.communicate(timeout=120)
    assert process.returncode in (-signal.SIGSEGV, -signal.SIGBUS)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("shape", [(0,), (1,), (3, 5), (PAGE,), (PAGE + 1,)], ids=str)
def test_arrays_lie_at_the_page(side, shape):
    array = protected_zeros(shape, np.float64, side)
    assert array.shape == shape
    assert not array.any()
    address = array.ctypes.data + (array.nbytes if side == "end" else 0)
    assert address % PAGE == 0
    np.testing.assert_array_equal(protected(array + 1, side), array + 1)


def test_memory_from_elsewhere_is_noticed(monkeypatch):
    """Every array that a kernel is given must come from the one function that the test mode replaces."""
    x = protected(np.ones((2, 3), np.float32), "end")
    with protected_engine("end"):
        assert fastcnn.ReLU().forward(x).all()
        monkeypatch.setattr(arrays, "as_table", lambda offsets: np.asarray(offsets).ravel().astype(np.int32))
        monkeypatch.setattr("fastcnn.engine.layout.as_table", arrays.as_table)
        with pytest.raises(AssertionError, match=r"argument [\d.]+ is not from engine.arrays"):
            fastcnn.ReLU().forward(x)


@pytest.mark.parametrize("side", SIDES)
def test_networks_between_protected_pages(side):
    """Some of them; `python -m tests.protected_memory` has the table of shapes and more."""
    table = sum(1 for _ in protected_memory.layer_jobs(side))
    assert not protected_memory.watch(16, side, vector_set().name, first=table)


def test_what_a_dead_child_did_is_named(monkeypatch):
    """The parent says where it died, and goes on with the next job."""
    code = (
        "import os, signal, sys; from tests import protected_memory\n"
        "die = lambda: os.kill(os.getpid(), signal.SIGSEGV)\n"
        "jobs = [('good', lambda: None), ('bad', die), ('wrong', lambda: 1 / 0)]\n"
        "protected_memory.jobs = lambda count, side: iter(jobs)\n"
        "protected_memory.work(0, 'end', int(sys.argv[-1]))\n"
    )
    monkeypatch.setattr(protected_memory, "command", lambda count, side, first: ["-c", code, str(first)])
    bad, wrong = protected_memory.watch(0, "end", vector_set().name)
    assert "end: bad\nFatal Python error: Segmentation fault" in bad
    assert "end: wrong" in wrong
    assert "ZeroDivisionError" in wrong
