"""Depthwise, separable, grouped and transposed convolutions against the reference, PyTorch and each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastcnn
import reference
from tests.arrays import DTYPES, ORDERS, both_dtypes, normal, pairs, sweep
from tests.bounds import _expect, _with_absolute_twin
from tests.cases import DEPTHWISE_CASES, DepthwiseCase

# Lines that are no multiple of four, several blocks of images, several filters per channel with odd padding.
LARGE_DEPTHWISE_CASES = (
    DepthwiseCase("many-blocks", (5, 40, 30, 31), 3, 1, 1),
    DepthwiseCase("many-blocks-strided", (4, 24, 29, 33), 3, 2, 1),
    DepthwiseCase("tall-strided", (2, 9, 8, 6), 3, (2, 1), 1),
    DepthwiseCase("three-wide", (2, 8, 3, 3), 3, 1, 1),
    DepthwiseCase("five-wide", (2, 8, 5, 5), 3, 1, 1),
    DepthwiseCase("six-wide", (2, 8, 6, 6), 3, 1, 1),
    DepthwiseCase("seven-wide", (2, 8, 7, 7), 3, 1, 1),
    DepthwiseCase("stride-over-window", (2, 8, 9, 8), 2, 3),
    DepthwiseCase("multiplied-wide", (3, 7, 9, 9), 3, 1, "same", depth_multiplier=5),
)


def problem(make, input_shape, dtype, seed: int = 0):
    """Return a batch, a gradient and parameters, all of them numbers of `dtype`, for a layer of the reference."""
    layer = make().build(input_shape[1:])
    parameters = {
        name: normal(*value.shape, seed=seed + place, dtype=dtype)
        for place, (name, value) in enumerate(layer.parameters.items())
    }
    x = normal(*input_shape, seed=seed + 7, dtype=dtype)
    dL_dout = normal(len(x), *layer.output_shape(input_shape[1:]), seed=seed + 8, dtype=dtype)
    return x, dL_dout, parameters


def set_parameters(layer: fastcnn.Layer, input_shape, parameters, dtype) -> fastcnn.Layer:
    layer.build(input_shape[1:], dtype=dtype)
    for name, value in parameters.items():
        setattr(layer, name, value)
    return layer


def expect_depthwise(case: DepthwiseCase, parameters, x, dL_dout):
    """Return what it gives: a number of the output is kH·kW products and a bias, of the input gradient m·kH·kW."""
    exact, absolute = _with_absolute_twin(lambda: reference.DepthwiseConv2D(**case.arguments), parameters, x, dL_dout)
    taps, (N, _, oH, oW) = int(np.prod(parameters["filters"].shape[2:])), dL_dout.shape
    return _expect(exact, absolute, taps + 1, taps * case.depth_multiplier, N * oH * oW)


@both_dtypes
@pytest.mark.parametrize("case", DEPTHWISE_CASES + LARGE_DEPTHWISE_CASES, ids=str)
def test_depthwise(case, dtype):
    make = lambda: reference.DepthwiseConv2D(**case.arguments)  # noqa: E731
    x, dL_dout, parameters = problem(make, case.input_shape, dtype)
    layer = set_parameters(fastcnn.DepthwiseConv2D(**case.arguments), case.input_shape, parameters, dtype)
    expect_depthwise(case, parameters, x, dL_dout).assert_close(layer, x, dL_dout)


@st.composite
def depthwise_cases(draw):
    size, stride, dilation = draw(pairs(1, 4)), draw(pairs(1, 3)), draw(pairs(1, 3))
    padding = draw(st.one_of(pairs(0, 3), st.sampled_from(["same", "valid"])))
    if draw(st.booleans()):  # the windows with kernels of their own shall come up often enough
        size, stride, dilation = (3, 3), (draw(st.integers(1, 2)), 1), (1, 1)
    pads = padding if isinstance(padding, tuple) else (0, 0)
    spans = [d * (k - 1) + 1 - 2 * p for k, d, p in zip(size, dilation, pads, strict=True)]
    least = [1 if padding == "same" else max(1, span) for span in spans]
    shape = (draw(st.integers(1, 4)), draw(st.integers(1, 20)), *(draw(st.integers(low, low + 9)) for low in least))
    times = draw(st.sampled_from([1, 1, 2, 3]))
    return DepthwiseCase("sweep", shape, size, stride, padding, dilation, times, draw(st.booleans()))


@sweep
@given(depthwise_cases(), st.sampled_from(DTYPES), st.sampled_from(list(ORDERS)), st.integers(0, 99))
def test_depthwise_sweep(case, dtype, order, seed):
    make = lambda: reference.DepthwiseConv2D(**case.arguments)  # noqa: E731
    x, dL_dout, parameters = problem(make, case.input_shape, dtype, seed)
    layer = set_parameters(fastcnn.DepthwiseConv2D(**case.arguments), case.input_shape, parameters, dtype)
    expect_depthwise(case, parameters, x, dL_dout).assert_close(layer, ORDERS[order](x), ORDERS[order](dL_dout))
