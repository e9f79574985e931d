"""Depthwise, separable, grouped and transposed convolutions against the reference, PyTorch and each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastcnn
import reference
from fastcnn.ops.convolution.groups import _bundles
from tests.arrays import DTYPES, ORDERS, both_dtypes, normal, pairs, sweep
from tests.bounds import _expect, _with_absolute_twin, expect_convolution
from tests.cases import CONV_CASES, DEPTHWISE_CASES, TRANSPOSE_CASES, ConvCase, DepthwiseCase, TransposeCase
from tests.guards import guard_all_buffers

# Lines that are no multiple of four, several blocks of images, several filters per channel with odd padding.
LARGE_DEPTHWISE_CASES = (
    DepthwiseCase("many-blocks", (5, 40, 30, 31), 3, 1, 1),
    DepthwiseCase("many-blocks-strided", (4, 24, 29, 33), 3, 2, 1),
    DepthwiseCase("halved-multiplied", (2, 3, 6, 8), 3, 2, 1, depth_multiplier=3),
    DepthwiseCase("halved-short", (2, 8, 2, 2), 3, 2, 1),
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


# -------------------------------------------------------------------------------------------------------- transposed

LARGE_TRANSPOSE_CASES = (
    TransposeCase("many-pixels", (3, 5, 12, 13), 20, 3, 2, 1, 1),
    TransposeCase("many-taps", (1, 150, 3, 3), 9, 3),
    TransposeCase("groups-of-odd-widths", (2, 15, 4, 5), 21, 3, 2, 1, groups=3),
    TransposeCase("as-many-groups-as-channels", (2, 9, 4, 5), 9, 3, 2, 1, groups=9),
)


def expect_transpose(case: TransposeCase, parameters, x, dL_dout):
    """Return what it gives: the sums of the convolution whose input gradient it is, and those of the biases."""
    exact, absolute = _with_absolute_twin(lambda: reference.Conv2DTranspose(**case.arguments), parameters, x, dL_dout)
    C, F, kH, kW = parameters["filters"].shape
    pixels = max(int(np.prod(x.shape[2:])), int(np.prod(dL_dout.shape[2:])))
    return _expect(exact, absolute, C // case.groups * kH * kW + 1, F * kH * kW, len(x) * pixels)


@both_dtypes
@pytest.mark.parametrize("case", TRANSPOSE_CASES + LARGE_TRANSPOSE_CASES, ids=str)
def test_transpose(case, dtype):
    make = lambda: reference.Conv2DTranspose(**case.arguments)  # noqa: E731
    x, dL_dout, parameters = problem(make, case.input_shape, dtype)
    layer = set_parameters(fastcnn.Conv2DTranspose(**case.arguments), case.input_shape, parameters, dtype)
    expect_transpose(case, parameters, x, dL_dout).assert_close(layer, x, dL_dout)


@st.composite
def transpose_cases(draw):
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    channels, filters = (groups * draw(st.integers(1, 20 // groups)) for _ in range(2))
    size, stride, dilation = draw(pairs(1, 4)), draw(pairs(1, 3)), draw(pairs(1, 3))
    shape = (draw(st.integers(1, 3)), channels, draw(st.integers(1, 7)), draw(st.integers(1, 7)))
    extra = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
    whole = [
        (h - 1) * s + d * (k - 1) + 1 + e
        for h, s, d, k, e in zip(shape[2:], stride, dilation, size, extra, strict=True)
    ]
    padding = tuple(draw(st.integers(0, min(3, (w - 1) // 2))) for w in whole)
    return TransposeCase("sweep", shape, filters, size, stride, padding, extra, dilation, groups, draw(st.booleans()))


@sweep
@given(transpose_cases(), st.sampled_from(DTYPES), st.sampled_from(list(ORDERS)), st.integers(0, 99))
def test_transpose_sweep(case, dtype, order, seed):
    make = lambda: reference.Conv2DTranspose(**case.arguments)  # noqa: E731
    x, dL_dout, parameters = problem(make, case.input_shape, dtype, seed)
    layer = set_parameters(fastcnn.Conv2DTranspose(**case.arguments), case.input_shape, parameters, dtype)
    expect_transpose(case, parameters, x, dL_dout).assert_close(layer, ORDERS[order](x), ORDERS[order](dL_dout))


# ------------------------------------------------------------------------------------------------------------ groups

GROUP_CASES = (
    ConvCase("each-a-vector", (2, 32, 5, 6), 32, 3, padding=1, groups=4),
    ConvCase("half-vectors", (2, 32, 5, 6), 32, 3, padding=1, groups=8),
    ConvCase("overlapping", (2, 12, 5, 6), 20, 3, padding=1, groups=4),
    ConvCase("overlapping-both", (2, 21, 5, 6), 9, 3, padding=1, groups=3),
    ConvCase("last-two-together", (2, 48, 4, 5), 48, 3, 2, 1, groups=4),
    ConvCase("one-filter-each", (2, 40, 5, 6), 20, 3, padding=1, groups=20),
    ConvCase("pointwise", (2, 24, 5, 6), 36, 1, groups=3),
    ConvCase("dilated", (2, 16, 9, 8), 24, 3, 1, 2, 2, groups=2),
)


@both_dtypes
@pytest.mark.parametrize("case", [*GROUP_CASES, *(case for case in CONV_CASES if case.groups > 1)], ids=str)
def test_groups(case, dtype):
    make = lambda: reference.Conv2D(**case.arguments)  # noqa: E731
    x, dL_dout, parameters = problem(make, case.input_shape, dtype)
    layer = set_parameters(fastcnn.Conv2D(**case.arguments), case.input_shape, parameters, dtype)
    expect_convolution(case, parameters, x, dL_dout).assert_close(layer, x, dL_dout)


@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize("size", [(1, 1), (1, 3), (2, 2), (4, 4), (5, 3), (6, 12), (8, 8), (12, 12), (16, 5)], ids=str)
def test_no_bundle_of_groups_writes_beyond_a_pixel(size, lanes):
    for groups in (2, 3, 4, 7, 32):
        pitches = [-(-width * groups // 8) * 8 if lanes < 16 else -(-width * groups // 16) * 16 for width in size]
        bundles = list(_bundles(groups, size, (pitches[0], pitches[1]), lanes))
        assert [group for first, count in bundles for group in range(first, first + count)] == list(range(groups))
        for first, count in bundles:
            for width, pitch in zip(size, pitches, strict=True):
                assert first * width + -(-count * width // lanes) * lanes <= pitch


# ---------------------------------------------------------------------------------------------- in models, and others


@both_dtypes
@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize(
    "make",
    [
        lambda: fastcnn.DepthwiseConv2D(3, 1, 1),
        lambda: fastcnn.DepthwiseConv2D(3, 2, 1, depth_multiplier=2),
        lambda: fastcnn.SeparableConv2D(9, 3, 1, 1),
        lambda: fastcnn.Conv2D(10, 3, 1, 1, groups=5),
        lambda: fastcnn.Conv2D(15, 3, 1, 1, groups=5),
        lambda: fastcnn.Conv2DTranspose(6, 3, 2, 1),
    ],
    ids=["depthwise", "multiplied", "separable", "groups", "odd-groups", "transposed"],
)
def test_a_fused_run_computes_what_its_layers_compute(make, pooled, dtype):
    # Whole numbers: their sums are exact in whatever order.
    x, results = np.round(normal(3, 5, 9, 11, dtype=dtype)), []
    for fuse in (True, False):
        layers = [fastcnn.Conv2D(5, 1), make(), fastcnn.ReLU(), *([fastcnn.MaxPool2D(2)] if pooled else [])]
        model = fastcnn.Sequential(layers, fuse=fuse).build(x.shape[1:], random_state=0, dtype=dtype)
        for parameter in model.parameters.values():
            parameter[...] = np.round(normal(*parameter.shape, dtype=dtype))
        output = model.forward(x)
        results.append([output, model.backward(np.sign(output - 0.3)), *model.gradients.values()])
    for fused, alone in zip(*results, strict=True):
        np.testing.assert_array_equal(fused, alone)


def test_padding_channels_of_any_content_leave_no_trace():
    """A user's layer may leave anything in its padding channels: filters and their padding must not learn from it."""
    model = fastcnn.Sequential(
        [fastcnn.Conv2D(5, 1), _Shifted(), fastcnn.Conv2DTranspose(3, 2, 2), _Shifted(), fastcnn.DepthwiseConv2D(3)]
    ).build((2, 5, 5), random_state=0, dtype=np.float32)
    model.forward(normal(2, 2, 5, 5, dtype=np.float32))
    model.backward(normal(2, 3, 8, 8, dtype=np.float32))
    real = sum(gradient.astype(np.float64).sum() for gradient in model.gradients.values())
    np.testing.assert_allclose(model._flat_gradients.astype(np.float64).sum(), real, rtol=1e-9)


class _Shifted(fastcnn.Layer):
    def _forward(self, x):
        return x + 1

    def _backward(self, x, y, dL_dout):
        return dL_dout


def test_what_a_transposed_convolution_refuses():
    with pytest.raises(ValueError, match=r"Conv2DTranspose: output_padding: expected less than stride"):
        fastcnn.Conv2DTranspose(4, 3, 2, 1, output_padding=2)
    with pytest.raises(ValueError, match=r"Conv2DTranspose: groups: expected a divisor of num_filters = 4; got 3"):
        fastcnn.Conv2DTranspose(4, 3, groups=3)
    with pytest.raises(ValueError, match=r"Conv2DTranspose: input: expected an image that padding \(2, 2\) leaves"):
        fastcnn.Conv2DTranspose(4, 1, padding=2).build((3, 2, 2))
    with pytest.raises(TypeError, match=r"Conv2DTranspose: padding: expected an int, a pair of ints or .*; got 'same'"):
        fastcnn.Conv2DTranspose(4, 3, padding="same")


# -------------------------------------------------------------------------------------------- PyTorch, where installed


@pytest.mark.parametrize(
    ("layer", "twin", "shape"),
    [
        (
            lambda: fastcnn.DepthwiseConv2D(3, 2, 1, depth_multiplier=2),
            lambda nn: nn.Conv2d(9, 18, 3, 2, 1, groups=9),
            (2, 9, 8, 7),
        ),
        (lambda: fastcnn.Conv2D(12, 3, 1, 2, 2, groups=3), lambda nn: nn.Conv2d(9, 12, 3, 1, 2, 2, 3), (2, 9, 8, 7)),
        (
            lambda: fastcnn.Conv2DTranspose(6, (3, 2), (2, 3), 1, (1, 2), 2, 3),
            lambda nn: nn.ConvTranspose2d(9, 6, (3, 2), (2, 3), 1, (1, 2), 3, dilation=2),
            (2, 9, 4, 5),
        ),
    ],
    ids=["depthwise", "groups", "transposed"],
)
def test_pytorch_agrees(layer, twin, shape):
    torch = pytest.importorskip("torch")
    peer, ours = twin(torch.nn).double(), layer().build(shape[1:])
    ours.filters, ours.biases = peer.weight.detach().numpy(), peer.bias.detach().numpy()
    x = normal(*shape)
    peer_x = torch.tensor(x, requires_grad=True)
    expected = peer(peer_x)
    dL_dout = normal(*expected.shape, seed=1)
    expected.backward(torch.tensor(dL_dout))
    pairs_of_arrays = [(ours.forward(x), expected.detach()), (ours.backward(dL_dout), peer_x.grad)]
    pairs_of_arrays += [(ours.gradients["filters"], peer.weight.grad), (ours.gradients["biases"], peer.bias.grad)]
    for actual, wanted in pairs_of_arrays:
        np.testing.assert_allclose(actual, wanted.numpy(), rtol=1e-10, atol=1e-10)


# ----------------------------------------------------------------------------------------------- between guard words


@both_dtypes
@pytest.mark.parametrize(
    "case", [*DEPTHWISE_CASES, *LARGE_DEPTHWISE_CASES, *TRANSPOSE_CASES, *LARGE_TRANSPOSE_CASES, *GROUP_CASES], ids=str
)
def test_between_guard_words(case, dtype, monkeypatch):
    """No kernel writes beyond a buffer, and none lets a number count that it should not even read."""
    guards = guard_all_buffers(monkeypatch)
    layers = {
        ConvCase: fastcnn.Conv2D, DepthwiseCase: fastcnn.DepthwiseConv2D, TransposeCase: fastcnn.Conv2DTranspose
    }  # fmt: skip
    layer = layers[type(case)](**case.arguments)
    output = layer.forward(normal(*case.input_shape, dtype=dtype))
    for array in (output, layer.backward(output), *layer.gradients.values()):
        assert np.isfinite(array).all()
    assert guards.all
    guards.check()
