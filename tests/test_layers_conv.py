"""Each algorithm of convolution against the reference: float64 tightly, float32 within derived bounds, every shape."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastcnn
import reference
from fastcnn.engine.ir import Graph
from fastcnn.engine.layout import Halo
from fastcnn.engine.planner import make_plan
from fastcnn.ops.convolution import by_taps
from fastcnn.ops.convolution.by_taps import ByTaps
from fastcnn.ops.convolution.select import ALGORITHMS
from tests.arrays import DTYPES, ORDERS, both_dtypes, normal, pairs, sweep
from tests.bounds import Expected, expect_convolution, expect_winograd
from tests.cases import CONV_CASES, ConvCase
from tests.guards import guard_all_buffers

# Larger than the blocks of the kernels: bands of output pixels, bands of taps, panels of pixels, blocks of tiles.
LARGE_CONV_CASES = (
    ConvCase("many-pixels", (3, 3, 17, 18), 20, 3, padding=1),
    ConvCase("many-taps", (1, 150, 4, 5), 24, 3, padding=1),
    ConvCase("many-taps-strided", (1, 60, 7, 7), 8, 5, stride=2),
    ConvCase("many-small-maps", (12, 17, 7, 7), 20, 5),
    ConvCase("many-small-images", (12, 2, 7, 6), 9, 3),
    ConvCase("5x5-narrow", (2, 5, 1, 9), 33, 5, padding=2),
    ConvCase("5x5-many-tiles", (2, 48, 15, 14), 33, 5, padding="same"),
    ConvCase("7x7-many-tiles", (2, 48, 11, 10), 33, 7, padding="same"),
    ConvCase("7x7-sides", (1, 5, 8, 9), 19, 7, padding=((6, 1), (0, 4))),
    ConvCase("many-tiles", (2, 32, 27, 26), 48, 3, padding="same"),
)

UNPADDED = [
    case
    for case in CONV_CASES + LARGE_CONV_CASES
    if case.groups == 1 and fastcnn.Conv2D(**case.arguments).window(case.input_shape[1:]).input_halo == Halo()
]


def fits(algorithm: str, case: ConvCase) -> bool:
    window = fastcnn.Conv2D(**case.arguments).window(case.input_shape[1:])
    return ALGORITHMS[algorithm].fits(window, case.groups)


def conv_problem(case: ConvCase, dtype, seed: int = 0):
    """Return a batch, a gradient and parameters, all of them numbers of `dtype`."""
    layer = reference.Conv2D(**case.arguments)
    N, C, *_ = case.input_shape
    filters = normal(case.num_filters, C // case.groups, *layer.filter_size, seed=seed, dtype=dtype)
    parameters = {"filters": filters}
    if case.bias:
        parameters["biases"] = normal(case.num_filters, seed=seed + 1, dtype=dtype)
    x = normal(*case.input_shape, seed=seed + 2, dtype=dtype)
    dL_dout = normal(N, *layer.output_shape(case.input_shape[1:]), seed=seed + 3, dtype=dtype)
    return x, dL_dout, parameters


def expect(algorithm: str, case: ConvCase, parameters, x: np.ndarray, dL_dout: np.ndarray) -> Expected:
    """Return what an algorithm should give, within its bounds."""
    if algorithm.startswith("winograd") and fits(algorithm, case):
        return expect_winograd(case, parameters, x, dL_dout, algorithm)
    return expect_convolution(case, parameters, x, dL_dout)


def fast_conv(case: ConvCase, algorithm: str, parameters, dtype) -> fastcnn.Conv2D:
    layer = fastcnn.Conv2D(**case.arguments, algorithm=algorithm).build(case.input_shape[1:], dtype=dtype)
    for name, value in parameters.items():
        setattr(layer, name, value)
    return layer


@both_dtypes
@pytest.mark.parametrize(
    ("algorithm", "case"),
    [
        pytest.param(name, case, id=f"{name}-{case}")
        for case in CONV_CASES + LARGE_CONV_CASES
        for name in ALGORITHMS
        if fits(name, case)
    ],
)
def test_convolution(algorithm, case, dtype):
    x, dL_dout, parameters = conv_problem(case, dtype)
    expected = expect(algorithm, case, parameters, x, dL_dout)
    expected.assert_close(fast_conv(case, algorithm, parameters, dtype), x, dL_dout)


@both_dtypes
@pytest.mark.parametrize("case", UNPADDED, ids=str)
def test_input_gradient_by_taps_has_the_bits_of_products_with_zeros(case, dtype, monkeypatch):
    """Between guard words, for every shape without padding, whatever pays."""
    guards = guard_all_buffers(monkeypatch)
    monkeypatch.setattr(by_taps, "FEW", 0)
    x, dL_dout, parameters = conv_problem(case, dtype)
    gradients = []
    for pays in (True, False):
        monkeypatch.setattr(ByTaps, "pays", lambda convolution, pays=pays: pays)
        layer = fast_conv(case, "direct", parameters, dtype)
        layer.forward(x)
        gradients.append(layer.backward(dL_dout))
    np.testing.assert_array_equal(*gradients)
    guards.check()


@pytest.mark.parametrize(("shape", "filters", "size", "stride", "expected"), [
    ((16, 15, 15), 24, 5, 1, True),
    ((64, 3, 3), 64, 3, 1, True),
    ((16, 30, 30), 16, 1, 2, True),
    ((16, 60, 60), 5, 3, 1, False),
    ((16, 30, 30), 16, 1, 1, False),
    ((1, 8, 8), 16, 3, 1, True),
    ((3, 8, 8), 16, 1, 1, False),
])  # fmt: skip
def test_input_gradient_by_taps_is_chosen_where_most_products_are_with_zeros(shape, filters, size, stride, expected):
    layer = fastcnn.Conv2D(filters, size, stride, algorithm="direct").build(shape, dtype=np.float32)
    graph = Graph(shape, np.dtype(np.float32))
    graph.output = layer._lower(graph, 0)
    make_plan(graph, 2, input_gradient=True)
    (op,) = graph.ops
    assert (op.algorithm.by_taps is not None) is expected


@pytest.mark.parametrize("algorithm", ["auto", *ALGORITHMS])
def test_an_algorithm_that_does_not_know_a_case_gives_way(algorithm):
    for case in CONV_CASES:
        x, dL_dout, parameters = conv_problem(case, np.float64)
        exact = expect_convolution(case, parameters, x, dL_dout)
        layer = fast_conv(case, algorithm, parameters, np.float64)
        np.testing.assert_allclose(layer.forward(x), exact.output.exact, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(layer.backward(dL_dout), exact.dL_dinput.exact, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("algorithm", ["direct", "winograd", "winograd4"])
def test_the_bounds_are_narrow(algorithm):
    """For the notebook's nine products: some units in the last place, so that one wrong number is seen."""
    x, dL_dout, parameters = conv_problem(CONV_CASES[1], np.float64)
    output = expect(algorithm, CONV_CASES[1], parameters, x, dL_dout).output
    for dtype in DTYPES:
        assert (output.bound(dtype) <= 33 * np.finfo(dtype).eps * output.magnitude).all()
    output.assert_close(output.exact.astype(np.float32))
    wrong = output.exact.copy()
    wrong[1, 2, 3, 4] += 1e-2
    with pytest.raises(AssertionError, match=r"^1 of 1152 wrong, first at \(1, 2, 3, 4\)"):
        output.assert_close(wrong.astype(np.float32))


@st.composite
def conv_cases(draw):
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    channels, filters = (groups * draw(st.integers(1, 20 // groups)) for _ in range(2))
    size, stride, dilation = draw(pairs(1, 4)), draw(pairs(1, 3)), draw(pairs(1, 3))
    padding = draw(st.one_of(pairs(0, 3), st.sampled_from(["same", "valid"])))
    # Winograd's windows shall come up often enough.
    if draw(st.booleans()):
        size, stride, dilation, groups = draw(st.sampled_from([(3, 3), (5, 5), (7, 7)])), (1, 1), (1, 1), 1
    pads = padding if isinstance(padding, tuple) else (0, 0)
    spans = [d * (k - 1) + 1 - 2 * p for k, d, p in zip(size, dilation, pads, strict=True)]
    least = [1 if padding == "same" else max(1, span) for span in spans]
    shape = (draw(st.integers(1, 4)), channels, *(draw(st.integers(low, low + 9)) for low in least))
    return ConvCase("sweep", shape, filters, size, stride, padding, dilation, groups, draw(st.booleans()))


@sweep
@given(
    conv_cases(),
    st.sampled_from(list(ALGORITHMS)),
    st.sampled_from(DTYPES),
    st.sampled_from(list(ORDERS)),
    st.integers(0, 99),
)
def test_convolution_sweep(case, algorithm, dtype, order, seed):
    x, dL_dout, parameters = conv_problem(case, dtype, seed)
    layer = fast_conv(case, algorithm, parameters, dtype)
    expected = expect(algorithm, case, parameters, x, dL_dout)
    expected.assert_close(layer, ORDERS[order](x), ORDERS[order](dL_dout))
