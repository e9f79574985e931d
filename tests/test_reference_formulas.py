"""The reference against its formulas, number by number and layer by layer."""

from __future__ import annotations

import numpy as np
import pytest

import reference
from tests.arrays import normal
from tests.cases import CONV_CASES, DEPTHWISE_CASES, POOL_CASES, TRANSPOSE_CASES
from tests.slopes import away_from_kinks


def same_margins(size, k, stride, dilation):
    """Zeros before and after by the words of the specification: ⌈size / stride⌉ outputs, the odd zero at the end."""
    outputs = int(np.ceil(size / stride))
    zeros = max((outputs - 1) * stride + dilation * (k - 1) + 1 - size, 0)
    return zeros // 2, zeros - zeros // 2


def both(value):
    return value if isinstance(value, tuple) else (value, value)


def sides(padding, image, window, stride, dilation):
    """Return the rows above and below, and the columns to the left and to the right, that a padding means."""
    if padding == "same":
        return tuple(map(same_margins, image, window, stride, dilation))
    if padding == "valid":
        return (0, 0), (0, 0)
    return tuple(both(each) for each in both(padding))


def pooled(size, span, stride, sides, ceil_mode):
    """Return how many windows there are along an axis, counted one by one; PyTorch's rule for a last, open one."""
    before, after = sides
    starts = [k * stride - before for k in range(size + before + after)]
    return sum(
        start + span <= size + after or (ceil_mode and start < size and start + span < size + after + stride)
        for start in starts
    )


@pytest.mark.parametrize("case", CONV_CASES, ids=str)
def test_conv_is_its_formula(case):
    x = normal(*case.input_shape)
    layer = reference.Conv2D(**case.arguments, random_state=1).build(x.shape[1:])
    if case.bias:
        layer.biases = normal(case.num_filters, seed=2)
    output = layer.forward(x)
    (N, C, H, W), F, G = x.shape, case.num_filters, case.groups
    (kH, kW), (sH, sW), (dH, dW) = both(case.filter_size), both(case.stride), both(case.dilation)
    if case.padding == "same":
        assert output.shape[2:] == (-(-H // sH), -(-W // sW))
    (top, bottom), (left, right) = sides(case.padding, (H, W), (kH, kW), (sH, sW), (dH, dW))
    H_out = (H + top + bottom - dH * (kH - 1) - 1) // sH + 1
    W_out = (W + left + right - dW * (kW - 1) - 1) // sW + 1
    assert output.shape == (N, F, H_out, W_out)
    assert layer.output_shape((C, H, W)) == (F, H_out, W_out)
    rng = np.random.RandomState(3)
    for _ in range(20):
        n, f, i, j = (rng.randint(size) for size in output.shape)
        expected = layer.biases[f] if case.bias else 0.0
        for c in range(C // G):
            for u in range(kH):
                for v in range(kW):
                    row, column = i * sH + u * dH - top, j * sW + v * dW - left
                    if 0 <= row < H and 0 <= column < W:
                        expected += layer.filters[f, c, u, v] * x[n, f // (F // G) * (C // G) + c, row, column]
        assert output[n, f, i, j] == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("case", POOL_CASES, ids=str)
def test_max_pool_is_its_formula_and_the_first_maximum_is_the_one(case):
    x = np.random.RandomState(0).randint(-3, 0, size=case.input_shape).astype(float)  # many ties, all below zero
    layer = reference.MaxPool2D(**case.arguments)
    output = layer.forward(x)
    dL_dout = normal(*output.shape)
    (N, C, H, W), (kH, kW), (dH, dW) = x.shape, both(case.pool_size), both(case.dilation)
    sH, sW = both(case.pool_size if case.stride is None else case.stride)
    rows, columns = sides(case.padding, (H, W), (kH, kW), (sH, sW), (dH, dW))
    size = (
        pooled(H, dH * (kH - 1) + 1, sH, rows, case.ceil_mode),
        pooled(W, dW * (kW - 1) + 1, sW, columns, case.ceil_mode),
    )
    assert output.shape == (N, C, *size)
    expected, dL_dinput = np.empty_like(output), np.zeros_like(x)
    for n, c, i, j in np.ndindex(output.shape):
        best = None
        for row in range(i * sH - rows[0], i * sH - rows[0] + dH * kH, dH):
            for column in range(j * sW - columns[0], j * sW - columns[0] + dW * kW, dW):
                if 0 <= row < H and 0 <= column < W and (best is None or x[n, c, row, column] > x[n, c, *best]):
                    best = row, column
        expected[n, c, i, j] = x[n, c, *best]
        dL_dinput[n, c, *best] += dL_dout[n, c, i, j]
    np.testing.assert_array_equal(output, expected)
    np.testing.assert_allclose(layer.backward(dL_dout), dL_dinput, rtol=1e-12, atol=1e-12)


def test_max_pool_2_gives_to_every_tied_maximum_and_leaves_out_the_odd_row_and_column():
    x = np.array([[5, 5, 1, 2, 9], [0, 5, 3, 3, 9], [9, 9, 9, 9, 9]], dtype=float)[None, None]
    layer = reference.MaxPool2()
    np.testing.assert_array_equal(layer.forward(x), [[[[5, 3]]]])
    dL_dinput = layer.backward([[[[10, 20]]]])
    np.testing.assert_array_equal(dL_dinput, [[[[10, 10, 0, 0, 0], [0, 10, 20, 20, 0], [0, 0, 0, 0, 0]]]])
    first = reference.MaxPool2D()
    np.testing.assert_array_equal(first.forward(x), layer.forward(x))
    np.testing.assert_array_equal(first.backward([[[[10, 20]]]])[0, 0, :2, :4], [[10, 0, 0, 0], [0, 0, 20, 0]])


@pytest.mark.parametrize("case", [case for case in POOL_CASES if case.is_2x2], ids=str)
def test_both_poolings_agree_without_ties(case):
    x = away_from_kinks(case.input_shape)
    every, first = reference.MaxPool2(), reference.MaxPool2D()
    np.testing.assert_array_equal(every.forward(x), first.forward(x))
    dL_dout = normal(*every.last_output.shape)
    np.testing.assert_array_equal(every.backward(dL_dout), first.backward(dL_dout))


def test_relu_at_zero():
    layer = reference.ReLU()
    np.testing.assert_array_equal(layer.forward([[-1.0, 0.0, 2.0]]), [[0, 0, 2]])
    np.testing.assert_array_equal(layer.backward([[5.0, 5.0, 5.0]]), [[0, 0, 5]])


def test_flatten_orders_channels_rows_columns():
    x = normal(2, 3, 4, 5)
    layer = reference.Flatten()
    y = layer.forward(x)
    assert y.shape == (2, 60)
    assert y[1, (2 * 4 + 3) * 5 + 1] == x[1, 2, 3, 1]
    np.testing.assert_array_equal(layer.backward(y), x)


def test_softmax_takes_images_and_their_rows_alike_and_large_logits():
    x = normal(3, 2, 4, 4)
    layer = reference.Softmax(32, 10, random_state=0)
    probs = layer.forward(x)
    np.testing.assert_array_equal(probs, layer.forward(reference.Flatten().forward(x)))
    np.testing.assert_allclose(probs.sum(axis=1), 1, rtol=1e-14)
    layer.biases[:2] = 1e4, -1e4
    np.testing.assert_allclose(layer.forward(x)[:, :2], [[1, 0]] * 3)


@pytest.mark.parametrize("case", DEPTHWISE_CASES, ids=str)
def test_depthwise_conv_is_a_conv_with_as_many_groups_as_channels(case):
    x, C = normal(*case.input_shape), case.input_shape[1]
    layer = reference.DepthwiseConv2D(**case.arguments, random_state=0).build(x.shape[1:])
    arguments = {name: getattr(case, name) for name in ("filter_size", "stride", "padding", "dilation", "bias")}
    conv = reference.Conv2D(C * case.depth_multiplier, groups=C, **arguments, random_state=0).build(x.shape[1:])
    np.testing.assert_array_equal(layer.filters, conv.filters)
    np.testing.assert_array_equal(layer.forward(x), conv.forward(x))


@pytest.mark.parametrize("case", [case for case in DEPTHWISE_CASES if case.depth_multiplier == 1], ids=str)
def test_separable_conv_is_a_depthwise_and_a_pointwise_one(case):
    x = normal(*case.input_shape)
    arguments = {name: getattr(case, name) for name in ("filter_size", "stride", "padding", "dilation")}
    rng = np.random.RandomState(5)
    depthwise = reference.DepthwiseConv2D(**arguments, bias=False, random_state=rng).build(x.shape[1:])
    pointwise = reference.Conv2D(6, 1, bias=case.bias, random_state=rng)
    layer = reference.SeparableConv2D(6, **arguments, bias=case.bias, random_state=5)
    output = layer.forward(x)
    np.testing.assert_array_equal(output, pointwise.forward(depthwise.forward(x)))
    dL_dout = normal(*output.shape, seed=1)
    np.testing.assert_array_equal(layer.backward(dL_dout), depthwise.backward(pointwise.backward(dL_dout)))
    np.testing.assert_array_equal(layer.gradients["depthwise_filters"], depthwise.gradients["filters"])
    np.testing.assert_array_equal(layer.gradients["pointwise_filters"], pointwise.gradients["filters"])
    assert list(layer.gradients)[2:] == list(pointwise.gradients)[1:]


@pytest.mark.parametrize("case", TRANSPOSE_CASES, ids=str)
def test_transposed_conv_is_its_formula(case):
    x = normal(*case.input_shape)
    layer = reference.Conv2DTranspose(**case.arguments, random_state=1).build(x.shape[1:])
    if case.bias:
        layer.biases = normal(case.num_filters, seed=2)
    (N, C, H, W), F, G = x.shape, case.num_filters, case.groups
    (kH, kW), (sH, sW), (dH, dW) = both(case.filter_size), both(case.stride), both(case.dilation)
    (top, bottom), (left, right) = (both(each) for each in both(case.padding))
    oH, oW = both(case.output_padding)
    H_out = (H - 1) * sH - top - bottom + dH * (kH - 1) + oH + 1
    W_out = (W - 1) * sW - left - right + dW * (kW - 1) + oW + 1
    expected = np.zeros((N, F, H_out, W_out))
    for c, f, i, j, u, v in np.ndindex(C, F // G, H, W, kH, kW):
        row, column = i * sH + u * dH - top, j * sW + v * dW - left
        if 0 <= row < H_out and 0 <= column < W_out:
            expected[:, c // (C // G) * (F // G) + f, row, column] += x[:, c, i, j] * layer.filters[c, f, u, v]
    if case.bias:
        expected += layer.biases[:, None, None]
    np.testing.assert_allclose(layer.forward(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("count_include_pad", [True, False])
@pytest.mark.parametrize("case", POOL_CASES, ids=str)
def test_avg_pool_is_its_formula(case, count_include_pad):
    x = normal(*case.input_shape)
    output = reference.AvgPool2D(**case.arguments, count_include_pad=count_include_pad).forward(x)
    (_, _, H, W), (kH, kW), (dH, dW) = x.shape, both(case.pool_size), both(case.dilation)
    sH, sW = both(case.pool_size if case.stride is None else case.stride)
    rows, columns = sides(case.padding, (H, W), (kH, kW), (sH, sW), (dH, dW))
    for i, j in np.ndindex(output.shape[2:]):
        seen = [
            (row, column)
            for row in range(i * sH - rows[0], i * sH - rows[0] + dH * kH, dH)
            for column in range(j * sW - columns[0], j * sW - columns[0] + dW * kW, dW)
            if row < H + rows[1] and column < W + columns[1]
        ]
        pixels = [x[:, :, row, column] for row, column in seen if 0 <= row < H and 0 <= column < W]
        expected = sum(pixels) / (len(seen) if count_include_pad else len(pixels))
        np.testing.assert_allclose(output[:, :, i, j], expected, rtol=1e-12, atol=1e-12)


def test_global_max_pool_gives_to_the_first_maximum():
    x = np.array([[[[1, 7, 2], [7, 7, 0]]], [[[-3, -1, -1], [-1, -2, -2]]]], dtype=float)
    layer = reference.GlobalMaxPool2D()
    np.testing.assert_array_equal(layer.forward(x), [[7], [-1]])
    np.testing.assert_array_equal(layer.backward([[10], [20]]), [[[[0, 10, 0], [0, 0, 0]]], [[[0, 20, 0], [0, 0, 0]]]])


def test_up_sampling_repeats_and_its_gradient_sums():
    x = normal(2, 3, 4, 5)
    layer = reference.UpSample2D((2, 3))
    np.testing.assert_array_equal(layer.forward(x), x.repeat(2, axis=2).repeat(3, axis=3))
    np.testing.assert_allclose(layer.backward(layer.last_output), 6 * x, rtol=1e-14)
    np.testing.assert_array_equal(reference.UpSample2D().forward(x), x.repeat(2, axis=2).repeat(2, axis=3))


def test_activations_at_their_kinks_and_far_out():
    x = np.array([[-800.0, -1.0, 0.0, 1.0, 800.0]])
    expected = {
        "LeakyReLU": ([-8, -0.01, 0, 1, 800], [0.01, 0.01, 0.01, 1, 1]),
        "ELU": ([-1, np.expm1(-1), 0, 1, 800], [0, np.exp(-1), 1, 1, 1]),
        "GELU": (
            [0, -0.158655253931457, 0, 0.841344746068543, 800],
            [0, -0.0833154705876863, 0.5, 1.08331547058769, 1],
        ),
        "CELU": ([-1, np.expm1(-1), 0, 1, 800], [0, np.exp(-1), 1, 1, 1]),
        "Softplus": (
            [0, 0.313261687518223, 0.693147180559945, 1.31326168751822, 800],
            [0, 0.268941421369995, 0.5, 0.731058578630005, 1],
        ),
        "Mish": (
            [0, -0.3034014613741089, 0, 0.8650983882673103, 800],
            [0, 0.05921675587739495, 0.6, 1.049036220099792, 1],
        ),
        "ReLU6": ([0, 0, 0, 1, 6], [0, 0, 0, 1, 0]),
        "HardSigmoid": ([0, 1 / 3, 0.5, 2 / 3, 1], [0, 1 / 6, 1 / 6, 1 / 6, 0]),
        "HardSwish": ([0, -1 / 3, 0, 2 / 3, 800], [0, 1 / 6, 0.5, 5 / 6, 1]),
        "PReLU": ([-200, -0.25, 0, 1, 800], [0.25, 0.25, 0.25, 1, 1]),
        "SiLU": (
            [0, -0.268941421369995, 0, 0.731058578630005, 800],
            [0, 0.0723294881285134, 0.5, 0.927670511871487, 1],
        ),
        "Sigmoid": (
            [0, 0.268941421369995, 0.5, 0.731058578630005, 1],
            [0, 0.196611933241482, 0.25, 0.196611933241482, 0],
        ),
        "Tanh": ([-1, -0.761594155955765, 0, 0.761594155955765, 1], [0, 0.419974341614026, 1, 0.419974341614026, 0]),
        "SoftmaxActivation": ([0, 0, 0, 0, 1], [0, 0, 0, 0, 0]),
    }
    for name, (outputs, slopes) in expected.items():
        layer = getattr(reference, name)()
        np.testing.assert_allclose(layer.forward(x), [outputs], rtol=1e-13, atol=1e-100, err_msg=name)
        np.testing.assert_allclose(layer.backward(np.ones_like(x)), [slopes], rtol=1e-13, atol=1e-100, err_msg=name)
