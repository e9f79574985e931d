"""The core of the kernels under every vector set that there is, whichever the processor prefers."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn
import reference
from fastcnn.jit import target
from fastcnn.jit.target import COMMON, SETS, Caches, caches, vector_set
from tests.arrays import DTYPES, normal
from tests.bounds import expect_convolution, expect_winograd
from tests.cases import ConvCase
from tests.pointwise import CASES as POINTWISE_CASES
from tests.pointwise import check_filter_gradient, check_forward
from tests.processes import finish, run_python, start_python

# Tails for every width: 1, 3 and 17 channels, 5, 17 and 33 filters, odd sizes; the input gradient in phases.
CASES = (
    ConvCase("one-channel", (2, 1, 7, 6), 17, 3, padding=1),
    ConvCase("strided", (2, 3, 9, 8), 33, 3, stride=2, padding=1),
    ConvCase("wide", (1, 17, 6, 5), 5, (3, 2), stride=(1, 3)),
)


# The same width as sse, and more registers: taller tiles.
NARROW = ("neon",)

# Its kernels take the longest to compile, and are nothing but vectors that all others use too: one width beside the
# processor's own, which is hardly ever this.
WINOGRAD = ("sse",)


def core(name: str) -> None:
    """Check convolution, pooling and activation; called in a process whose vector set is `name`."""
    assert vector_set() is SETS[name]
    for dtype in DTYPES[:1] if name in NARROW else DTYPES:
        for case in CASES:
            check_convolution(case, "direct", expect_convolution, dtype)
        if dtype == np.float32 and name in WINOGRAD:
            check_convolution(ConvCase("tiles", (2, 5, 7, 8), 19, 3, padding=1), "winograd", expect_winograd, dtype)
        for case in POINTWISE_CASES:
            check_forward(case, dtype)
            check_filter_gradient(case, dtype)
        x = np.round(normal(2, 19, 6, 5, dtype=dtype))
        for layer in ("MaxPool2", "MaxPool2D", "ReLU"):
            fast, ref = getattr(fastcnn, layer)(), getattr(reference, layer)()
            output = ref.forward(x)
            np.testing.assert_array_equal(fast.forward(x), output)
            dL_dout = normal(*output.shape, dtype=dtype)
            np.testing.assert_array_equal(fast.backward(dL_dout), ref.backward(dL_dout))


def check_convolution(case: ConvCase, algorithm: str, expect, dtype) -> None:
    layer = fastcnn.Conv2D(**case.arguments, random_state=0, algorithm=algorithm).build(case.input_shape[1:], dtype)
    x = normal(*case.input_shape, dtype=dtype)
    dL_dout = normal(len(x), *layer.output_shape(x.shape[1:]), seed=1, dtype=dtype)
    expect(case, layer.parameters, x, dL_dout).assert_close(layer, x, dL_dout)


def test_every_vector_set():
    """Two at a time; the processor's own set is what all other tests run on, and equals of a set are the same code."""
    shapes = {(own.bits, own.registers): name for name, own in reversed(SETS.items()) if own is not vector_set()}
    shapes.pop((vector_set().bits, vector_set().registers), None)
    others = sorted(shapes.values(), key=lambda name: name in NARROW)
    code = "import sys; from tests.test_simd import core; core(sys.argv[1])"
    while others:
        started = [start_python(code, name, FASTCNN_SIMD=name) for name in others[:2]]
        others = others[2:]
        for process in started:
            finish(process)


def test_this_processors_set():
    core(vector_set().name)


def test_an_unknown_set_is_refused():
    with pytest.raises(AssertionError, match=r"ValueError: FASTCNN_SIMD: expected one of .*; got 'mmx'"):
        run_python("import fastcnn; fastcnn.ReLU().forward([[1.0]])", FASTCNN_SIMD="mmx")


@pytest.mark.parametrize("chosen", SETS.values(), ids=lambda chosen: chosen.name)
def test_the_tile_fits_the_registers(chosen):
    for vectors in (1, 2):
        rows = chosen.tile_rows(vectors)
        assert rows >= 1
        assert rows * vectors + vectors + 1 <= chosen.registers
    assert chosen.lanes(np.float32) == 2 * chosen.lanes(np.float64) == chosen.bits // 32


@pytest.mark.parametrize(
    ("triple", "features", "expected"),
    [("x86_64-linux", {"fma": True}, True), ("x86_64-linux", {"avx": True}, False), ("aarch64-linux", {}, True)],
)
def test_a_processor_without_fused_multiply_add_is_known(monkeypatch, triple, features, expected):
    monkeypatch.setattr(target.llvm, "get_process_triple", lambda: triple)
    monkeypatch.setattr(target.llvm, "get_host_cpu_features", lambda: features)
    assert target.has_fused_multiply_add() is expected


def told(folder, **words) -> None:
    """Write what Linux says of one cache."""
    folder.mkdir()
    for word, text in words.items():
        (folder / word).write_text(text + "\n", encoding="ascii")


def test_caches_are_those_that_the_system_tells(tmp_path):
    told(tmp_path / "index0", level="1", type="Data", size="48K", coherency_line_size="128")
    told(tmp_path / "index1", level="1", type="Instruction", size="64K", coherency_line_size="128")
    told(tmp_path / "index2", level="2", type="Unified", size="1024K", coherency_line_size="128")
    told(tmp_path / "index3", level="3", type="Unified", size="4096K", coherency_line_size="128")
    assert caches(str(tmp_path)) == Caches(line=128, first=48 << 10, second=1 << 20, last=4 << 20)


def test_what_the_system_does_not_tell_is_as_everywhere(tmp_path):
    told(tmp_path / "index0", level="1", type="Data", size="0K", coherency_line_size="0")
    told(tmp_path / "index1", level="2", type="Unified", size="many")
    told(tmp_path / "index2", level="three")
    assert caches(str(tmp_path)) == COMMON
    assert caches(str(tmp_path / "nowhere")) == COMMON
