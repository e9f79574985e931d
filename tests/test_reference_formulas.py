"""The reference against its formulas, number by number and layer by layer."""

from __future__ import annotations

import numpy as np
import pytest

import reference
from tests.cases import CONV_CASES, DEPTHWISE_CASES, NORM_SHAPES, POOL_CASES, TRANSPOSE_CASES, away_from_kinks


def normal(*shape, seed=0):
    return np.random.RandomState(seed).standard_normal(shape)


# ---------------------------------------------------------------------------------------------- convolution and pooling


def same_margins(size, k, stride, dilation):
    """Zeros before and after by the words of the specification: ⌈size / stride⌉ outputs, the odd zero at the end."""
    outputs = int(np.ceil(size / stride))
    zeros = max((outputs - 1) * stride + dilation * (k - 1) + 1 - size, 0)
    return zeros // 2, zeros - zeros // 2


def both(value):
    return value if isinstance(value, tuple) else (value, value)


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
        (top, bottom), (left, right) = same_margins(H, kH, sH, dH), same_margins(W, kW, sW, dW)
        assert output.shape[2:] == (-(-H // sH), -(-W // sW))
    else:
        top, left = bottom, right = both(0 if case.padding == "valid" else case.padding)
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
    (N, C, H, W), (kH, kW), (pH, pW) = x.shape, both(case.pool_size), both(case.padding)
    sH, sW = both(case.pool_size if case.stride is None else case.stride)
    assert output.shape == (N, C, (H + 2 * pH - kH) // sH + 1, (W + 2 * pW - kW) // sW + 1)
    expected, dL_dinput = np.empty_like(output), np.zeros_like(x)
    for n, c, i, j in np.ndindex(output.shape):
        best = None
        for row in range(i * sH - pH, i * sH - pH + kH):
            for column in range(j * sW - pW, j * sW - pW + kW):
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
    (pH, pW), (oH, oW) = both(case.padding), both(case.output_padding)
    H_out, W_out = (H - 1) * sH - 2 * pH + dH * (kH - 1) + oH + 1, (W - 1) * sW - 2 * pW + dW * (kW - 1) + oW + 1
    expected = np.zeros((N, F, H_out, W_out))
    for c, f, i, j, u, v in np.ndindex(C, F // G, H, W, kH, kW):
        row, column = i * sH + u * dH - pH, j * sW + v * dW - pW
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
    (_, _, H, W), (kH, kW), (pH, pW) = x.shape, both(case.pool_size), both(case.padding)
    sH, sW = both(case.pool_size if case.stride is None else case.stride)
    for i, j in np.ndindex(output.shape[2:]):
        pixels = [
            x[:, :, row, column]
            for row in range(i * sH - pH, i * sH - pH + kH)
            for column in range(j * sW - pW, j * sW - pW + kW)
            if 0 <= row < H and 0 <= column < W
        ]
        expected = sum(pixels) / (kH * kW if count_include_pad else len(pixels))
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


# -------------------------------------------------------------------------------------------------------- normalisation


@pytest.mark.parametrize("shape", NORM_SHAPES, ids=str)
def test_normalised_to_mean_0_and_variance_1(shape):
    x = 3 + 5 * normal(*shape)
    N = len(x)
    rest = tuple(range(2, len(shape)))
    batch = reference.BatchNorm(epsilon=0).forward(x)
    layer = reference.LayerNorm(epsilon=0).forward(x).reshape(N, -1)
    sets = [(batch, (0, *rest)), (layer, 1)]
    if layer.shape[1] > 2:  # a group of one number has no variance
        sets.append((reference.GroupNorm(2, epsilon=0).forward(x).reshape(N, 2, -1), 2))
    for values, axis in sets:
        np.testing.assert_allclose(values.mean(axis=axis), 0, atol=1e-13)
        np.testing.assert_allclose(values.var(axis=axis), 1, rtol=1e-12)


def test_norms_scale_and_shift_by_channel_or_by_number():
    x, gamma, beta = normal(3, 4, 2, 2), normal(4, seed=1), normal(4, seed=2)
    for layer in (reference.BatchNorm(), reference.GroupNorm(2)):
        plain = layer.forward(x)
        layer.gamma, layer.beta = gamma, beta
        expected = plain * gamma[:, None, None] + beta[:, None, None]
        np.testing.assert_allclose(layer.forward(x), expected, rtol=1e-14, atol=1e-14)
    layer = reference.LayerNorm()
    plain = layer.forward(x)
    layer.gamma, layer.beta = normal(4, 2, 2, seed=1), normal(4, 2, 2, seed=2)
    np.testing.assert_allclose(layer.forward(x), plain * layer.gamma + layer.beta, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 2, 5)], ids=str)
def test_batch_norm_running_statistics(shape):
    layer, mean, var = reference.BatchNorm(momentum=0.3), np.zeros(3), np.ones(3)
    others = tuple(axis for axis in range(len(shape)) if axis != 1)
    for seed in range(3):
        x = 2 + 3 * normal(*shape, seed=seed)
        layer.forward(x)
        mean, var = 0.7 * mean + 0.3 * x.mean(axis=others), 0.7 * var + 0.3 * x.var(axis=others, ddof=1)
        np.testing.assert_allclose(layer.running_mean, mean, rtol=1e-13)
        np.testing.assert_allclose(layer.running_var, var, rtol=1e-13)
    layer.training = False
    like_channels = (1, 3, *[1] * (len(shape) - 2))
    expected = (x - mean.reshape(like_channels)) / np.sqrt(var.reshape(like_channels) + 1e-5)
    np.testing.assert_allclose(layer.forward(x), expected, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(layer.forward(x[:1]), expected[:1], rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(layer.running_mean, mean, rtol=1e-13)  # as it was


def test_batch_norm_of_one_channel():
    x = np.array([[1.0], [3.0]])
    np.testing.assert_allclose(reference.BatchNorm(epsilon=0).forward(x), [[-1], [1]])
    x = np.array([1.0, 3.0, 5.0]).reshape(1, 1, 3, 1)
    np.testing.assert_allclose(reference.BatchNorm(epsilon=0.0).forward(x).ravel() * np.sqrt(8 / 3), [-2, 0, 2])


def test_batch_norm_needs_more_than_one_number_in_training():
    layer = reference.BatchNorm()
    with pytest.raises(
        ValueError, match=r"^BatchNorm: input: expected more than one number a channel.* \(1, 3, 1, 1\)"
    ):
        layer.forward(np.zeros((1, 3, 1, 1)))
    layer.training = False
    layer.forward(np.zeros((1, 3, 1, 1)))


# -------------------------------------------------------------------------------------------------------------- dropout


@pytest.mark.parametrize("name", ["Dropout", "SpatialDropout2D"])
def test_dropout(name):
    x = np.ones((50, 40, 3, 2))
    layer = getattr(reference, name)(0.25, random_state=3)
    output = layer.forward(x)
    assert set(np.unique(output)) == {0, 1 / 0.75}
    assert 0.2 < (output == 0).mean() < 0.3
    shape = x.shape if name == "Dropout" else x.shape[:2]
    kept = np.random.RandomState(3).random_sample(shape) >= 0.25
    kept = kept.reshape(*shape, *[1] * (4 - len(shape)))
    np.testing.assert_array_equal(output, x * kept / 0.75)
    np.testing.assert_array_equal(layer.backward(2 * x), 2 * output)
    second = layer.forward(x)
    assert not np.array_equal(second, output)
    assert np.array_equal(second, layer.backward(x))  # the mask of the last forward
    layer.training = False
    np.testing.assert_array_equal(layer.forward(2 * x), 2 * x)
    np.testing.assert_array_equal(layer.backward(3 * x), 3 * x)


@pytest.mark.parametrize("name", ["Dropout", "SpatialDropout2D"])
def test_dropout_takes_a_mask(name):
    x = normal(2, 3, 4, 5)
    layer = getattr(reference, name)(0.5)
    mask = normal(*(x.shape if name == "Dropout" else x.shape[:2])) > 0
    layer.mask = mask.astype(np.uint8)
    full = mask if name == "Dropout" else mask[:, :, None, None]
    np.testing.assert_array_equal(layer.forward(x), 2 * x * full)
    np.testing.assert_array_equal(layer.backward(x), 2 * x * full)
    layer.mask = mask[:1]
    with pytest.raises(ValueError, match=rf"^{name}: mask: expected shape .* got \(1, 3"):
        layer.forward(x)


def test_dropout_by_the_global_generator():
    np.random.seed(1)
    output = reference.Dropout().forward(np.ones((3, 4)))
    np.random.seed(1)
    np.testing.assert_array_equal(output, 2.0 * (np.random.rand(3, 4) >= 0.5))


# ------------------------------------------------------------------------------------------------ layers made of layers


def test_residual_is_its_layers_plus_its_shortcut():
    x = normal(3, 4, 6, 6)

    def conv(filters, size, stride, seed):
        return reference.Conv2D(filters, size, stride, size // 2, random_state=seed)

    first, second, third = conv(6, 3, 2, 0), conv(6, 3, 1, 1), conv(6, 1, 2, 2)
    expected = second.forward(first.forward(x)) + third.forward(x)
    dL_dout = normal(*expected.shape, seed=1)
    dL_dinput = first.backward(second.backward(dL_dout)) + third.backward(dL_dout)
    layer = reference.Residual([conv(6, 3, 2, 0), conv(6, 3, 1, 1)], shortcut=[conv(6, 1, 2, 2)])
    np.testing.assert_array_equal(layer.forward(x), expected)
    np.testing.assert_array_equal(layer.backward(dL_dout), dL_dinput)
    assert list(layer.parameters) == [
        *("layers.0.filters", "layers.0.biases", "layers.1.filters", "layers.1.biases"),
        *("shortcut.0.filters", "shortcut.0.biases"),
    ]
    for name, single in [("layers.0", first), ("layers.1", second), ("shortcut.0", third)]:
        np.testing.assert_array_equal(layer.gradients[f"{name}.filters"], single.gradients["filters"])
        np.testing.assert_array_equal(layer.gradients[f"{name}.biases"], single.gradients["biases"])
    assert layer.parameters["layers.1.filters"] is layer.layers[1].filters


def test_residual_with_identity():
    x = normal(2, 3, 4, 4)
    layer = reference.Residual([reference.ReLU()])
    np.testing.assert_array_equal(layer.forward(x), x + np.maximum(x, 0))
    np.testing.assert_array_equal(layer.backward(x), x + x * (x > 0))


@pytest.mark.parametrize(("H", "W"), [(6, 8), (7, 5)])
def test_residual_pads_channels_and_takes_every_second_pixel(H, W):
    x = normal(2, 3, H, W)
    layer = reference.Residual([reference.Conv2D(5, 3, 2, 1, random_state=0)], "pad")
    conv = reference.Conv2D(5, 3, 2, 1, random_state=0)
    expected = conv.forward(x)
    dL_dout = normal(*expected.shape, seed=1)
    dL_dinput = conv.backward(dL_dout)
    expected[:, :3] += x[:, :, ::2, ::2]
    dL_dinput[:, :, ::2, ::2] += dL_dout[:, :3]
    np.testing.assert_array_equal(layer.forward(x), expected)
    np.testing.assert_array_equal(layer.backward(dL_dout), dL_dinput)


def test_concat_is_its_branches_side_by_side():
    x = normal(2, 3, 4, 5)
    conv = reference.Conv2D(4, 3, padding=1, random_state=0)
    expected = np.concatenate([np.maximum(x, 0), conv.forward(x), x], axis=1)
    dL_dout = normal(*expected.shape, seed=1)
    dL_dinput = dL_dout[:, :3] * (x > 0) + conv.backward(dL_dout[:, 3:7]) + dL_dout[:, 7:]
    layer = reference.Concat([[reference.ReLU()], [reference.Conv2D(4, 3, padding=1, random_state=0)], []])
    assert layer.output_shape((3, 4, 5)) == (10, 4, 5)
    np.testing.assert_array_equal(layer.forward(x), expected)
    np.testing.assert_allclose(layer.backward(dL_dout), dL_dinput, rtol=1e-14)
    assert list(layer.parameters) == ["branches.1.0.filters", "branches.1.0.biases"]


def test_a_forward_that_fails_inside_leaves_nothing_to_go_back_from():
    layer, x = reference.Residual([reference.Tanh(), reference.BatchNorm()]), normal(2, 3)
    layer.forward(x)
    with pytest.raises(ValueError, match=r"^BatchNorm: input: expected more than one number"):
        layer.forward(x[:1])
    with pytest.raises(RuntimeError, match=r"^Residual: backward: expected a call of forward"):
        layer.backward(x)


def test_training_reaches_the_layers_inside():
    inner, side = reference.Dropout(0.5, random_state=0), reference.BatchNorm()
    layer = reference.Concat([[reference.Residual([inner], [side])], []])
    assert inner.training
    assert side.training
    layer.training = False
    assert not inner.training
    assert not side.training
    x = normal(2, 3, 4, 4)
    np.testing.assert_allclose(layer.forward(x)[:, :3], x + x / np.sqrt(1 + 1e-5), rtol=1e-14)
