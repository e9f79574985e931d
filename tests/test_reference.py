"""The reference against its formulas, against finite differences, and against the notebook that it grew out of."""

# ruff: noqa: D102  (the notebook's methods bear the names of the protocol)

from __future__ import annotations

import inspect

import numpy as np
import pytest

import reference
from tests.cases import (
    CONV_CASES,
    DENSE_CASES,
    DEPTHWISE_CASES,
    ELEMENTWISE_SHAPES,
    LAYER_CASES,
    NORM_SHAPES,
    POOL_CASES,
    TRANSPOSE_CASES,
    away_from_kinks,
    directional_gradient_check,
)


def check_gradients(layer, x, seed=1):
    """Compare backward with finite differences of Σ output·dL_dout, by the input and by each parameter."""
    x, rng = x.copy(), np.random.RandomState(seed)
    dL_dout = rng.standard_normal(layer.forward(x).shape)
    for parameter in layer.parameters.values():
        parameter += 0.3 * rng.standard_normal(parameter.shape)  # no γ of 1, no bias of 0
    layer.forward(x)
    dL_dinput = layer.backward(dL_dout)
    gradients = {name: gradient.copy() for name, gradient in layer.gradients.items()}

    def loss():
        return float(np.sum(layer.forward(x) * dL_dout))

    directional_gradient_check(loss, x, dL_dinput)
    assert layer.parameters.keys() == gradients.keys()
    for name, parameter in layer.parameters.items():
        directional_gradient_check(loss, parameter, gradients[name])


def made(case):
    """Return the reference's layer of a case; one that draws at random does the same each time."""
    layer = case.make(reference)
    if case.draws:
        layer.forward(np.zeros(case.input_shape))
        layer.mask, layer.last_input = layer.last_mask, None
    return layer


def normal(*shape, seed=0):
    return np.random.RandomState(seed).standard_normal(shape)


# -------------------------------------------------------------------------------------------------- the notebook itself


class NotebookConv2D:
    """Valid convolution of one channel with stride 1, as in the notebook."""

    def __init__(self, filters, biases):
        self.filters, self.biases = filters.copy(), biases.copy()

    def forward(self, input):
        self.input = input
        n, _, h, w = input.shape
        f, k, _ = self.filters.shape
        output = np.zeros((n, f, h - k + 1, w - k + 1))
        for i in range(h - k + 1):
            for j in range(w - k + 1):
                region = input[:, 0, i : i + k, j : j + k]
                output[:, :, i, j] = np.tensordot(region, self.filters, axes=([1, 2], [1, 2])) + self.biases
        return output

    def backward(self, dL_dout, learning_rate):
        n, f, k = len(dL_dout), *self.filters.shape[:2]
        dL_dfilters, dL_dinput = np.zeros_like(self.filters), np.zeros_like(self.input)
        for i in range(dL_dout.shape[2]):
            for j in range(dL_dout.shape[3]):
                region = self.input[:, 0, i : i + k, j : j + k]
                for m in range(f):
                    dL_dfilters[m] += np.sum(dL_dout[:, m, i, j, None, None] * region, axis=0)
                    dL_dinput[:, 0, i : i + k, j : j + k] += dL_dout[:, m, i, j, None, None] * self.filters[m]
        self.filters -= learning_rate * dL_dfilters / n
        self.biases -= learning_rate * dL_dout.sum(axis=(0, 2, 3)) / n
        return dL_dinput


class NotebookReLU:
    """Mask of what is positive."""

    def forward(self, input):
        self.input = input
        return np.maximum(0, input)

    def backward(self, dL_dout, learning_rate=None):
        return dL_dout * (self.input > 0)


class NotebookMaxPool2:
    """2×2 windows of an even image; the gradient goes wherever the patch equals its maximum."""

    def forward(self, input):
        self.input = input
        n, c, h, w = input.shape
        output = np.zeros((n, c, h // 2, w // 2))
        for i in range(h // 2):
            for j in range(w // 2):
                patch = input[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
                output[:, :, i, j] = np.max(patch, axis=(2, 3))
        return output

    def backward(self, dL_dout, learning_rate=None):
        dL_dinput = np.zeros_like(self.input)
        for i in range(dL_dout.shape[2]):
            for j in range(dL_dout.shape[3]):
                patch = self.input[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
                mask = patch == np.max(patch, axis=(2, 3), keepdims=True)
                dL_dinput[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = mask * dL_dout[:, :, i, j][:, :, None, None]
        return dL_dinput


class NotebookSoftmax:
    """Dense and softmax; the gradient comes by the logits."""

    def __init__(self, weights, biases):
        self.weights, self.biases = weights.copy(), biases.copy()

    def forward(self, input):
        self.shape, self.flat = input.shape, input.reshape(len(input), -1)
        exponentials = np.exp(np.dot(self.flat, self.weights) + self.biases)
        return exponentials / np.sum(exponentials, axis=1, keepdims=True)

    def backward(self, dL_dout, learning_rate):
        dL_dinput = np.dot(dL_dout, self.weights.T).reshape(self.shape)
        self.weights -= learning_rate * np.dot(self.flat.T, dL_dout) / len(dL_dout)
        self.biases -= learning_rate * np.sum(dL_dout, axis=0) / len(dL_dout)
        return dL_dinput


@pytest.mark.parametrize(("n", "h", "w", "filters", "k"), [(1, 4, 4, 1, 3), (7, 8, 8, 16, 3), (3, 11, 7, 5, 2)])
def test_the_notebooks_training_loop(n, h, w, filters, k):
    rng = np.random.RandomState(0)
    outputs = filters * ((h - k + 1) // 2) * ((w - k + 1) // 2)
    ref = [
        reference.Conv2D(num_filters=filters, filter_size=k, random_state=rng).build((1, h, w)),
        reference.ReLU(),
        reference.MaxPool2(),
        reference.Softmax(input_len=outputs, nodes=10, random_state=rng),
    ]
    ref[0].biases = rng.standard_normal(filters)
    ref[3].biases = rng.standard_normal(10)
    book = [
        NotebookConv2D(ref[0].filters[:, 0], ref[0].biases),
        NotebookReLU(),
        NotebookMaxPool2(),
        NotebookSoftmax(ref[3].weights, ref[3].biases),
    ]
    y = np.eye(10)[rng.randint(10, size=n)]
    for _ in range(5):
        # Whole sixteenths, as the digits are, and many of them 0: ties in the pooling, zeros in the ReLU.
        ref_x = book_x = rng.randint(17, size=(n, 1, h, w)) * (rng.rand(n, 1, h, w) > 0.5) / 16
        for ref_layer, book_layer in zip(ref, book, strict=True):
            ref_x, book_x = ref_layer.forward(ref_x), book_layer.forward(book_x)
            np.testing.assert_allclose(ref_x, book_x, rtol=1e-12, atol=1e-12)
        ref_dL, book_dL = ref_x - y, book_x - y
        for ref_layer, book_layer in zip(ref[::-1], book[::-1], strict=True):
            ref_dL, book_dL = ref_layer.backward(ref_dL, 0.1), book_layer.backward(book_dL, 0.1)
            np.testing.assert_allclose(ref_dL, book_dL, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(ref[0].filters[:, 0], book[0].filters, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(ref[0].biases, book[0].biases, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(ref[3].weights, book[3].weights, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(ref[3].biases, book[3].biases, rtol=1e-12, atol=1e-12)


# -------------------------------------------------------------------------------------------------- finite differences


@pytest.mark.parametrize("case", LAYER_CASES, ids=str)
def test_gradients_of_every_layer(case):
    check_gradients(made(case), away_from_kinks(case.input_shape))


@pytest.mark.parametrize("case", CONV_CASES, ids=str)
def test_conv_gradients(case):
    check_gradients(reference.Conv2D(**case.arguments, random_state=0), normal(*case.input_shape))


@pytest.mark.parametrize("case", POOL_CASES, ids=str)
def test_max_pool_gradients(case):
    check_gradients(reference.MaxPool2D(**case.arguments), away_from_kinks(case.input_shape))


@pytest.mark.parametrize("case", DENSE_CASES, ids=str)
def test_dense_gradients(case):
    check_gradients(reference.Dense(case.nodes, bias=case.bias, random_state=0), normal(case.N, case.D))


@pytest.mark.parametrize("case", POOL_CASES, ids=str)
@pytest.mark.parametrize("count_include_pad", [True, False])
def test_avg_pool_gradients(case, count_include_pad):
    layer = reference.AvgPool2D(**case.arguments, count_include_pad=count_include_pad)
    check_gradients(layer, normal(*case.input_shape))


@pytest.mark.parametrize("case", DEPTHWISE_CASES, ids=str)
def test_depthwise_gradients(case):
    check_gradients(reference.DepthwiseConv2D(**case.arguments, random_state=0), normal(*case.input_shape))


@pytest.mark.parametrize("case", TRANSPOSE_CASES, ids=str)
def test_transposed_conv_gradients(case):
    check_gradients(reference.Conv2DTranspose(**case.arguments, random_state=0), normal(*case.input_shape))


@pytest.mark.parametrize("shape", ELEMENTWISE_SHAPES, ids=str)
@pytest.mark.parametrize("name", ["ReLU", "LeakyReLU", "ELU", "GELU", "SiLU", "Sigmoid", "Tanh", "SoftmaxActivation"])
def test_activation_gradients(name, shape):
    x = away_from_kinks(shape, gap=12 / np.prod(shape))  # −6 to 6
    check_gradients(getattr(reference, name)(), x)


@pytest.mark.parametrize("shape", NORM_SHAPES, ids=str)
@pytest.mark.parametrize("make", [reference.BatchNorm, reference.LayerNorm, lambda: reference.GroupNorm(2)])
def test_norm_gradients(make, shape):
    # A set of two numbers is standardized to −1 and 1: epsilon is what leaves a slope.
    layer = make()
    layer.epsilon = 0.5
    check_gradients(layer, normal(*shape))


@pytest.mark.parametrize("shape", NORM_SHAPES, ids=str)
def test_gradients_of_batch_norm_in_prediction(shape):
    layer, rng = reference.BatchNorm(), np.random.RandomState(1)
    layer.build(shape[1:]).training = False
    layer.running_mean[:] = rng.standard_normal(shape[1])
    layer.running_var[:] = rng.uniform(0.5, 2, size=shape[1])
    check_gradients(layer, normal(*shape))


@pytest.mark.parametrize("input_shape", [(3, 8), (2, 2, 2, 2)], ids=str)
def test_gradients_of_softmax_by_the_logits(input_shape):
    """Backward takes probs − y, so what its parameters descend is the cross-entropy Σ_n −log p[n, y_n]."""
    layer, x = reference.Softmax(8, 5, random_state=0), normal(*input_shape)
    y = np.arange(len(x)) % 5
    dL_dinput = layer.backward(layer.forward(x) - np.eye(5)[y])
    gradients = {name: gradient.copy() for name, gradient in layer.gradients.items()}

    def loss():
        return float(-np.log(layer.forward(x)[np.arange(len(x)), y]).sum())

    directional_gradient_check(loss, x, dL_dinput)
    directional_gradient_check(loss, layer.weights, gradients["weights"])
    directional_gradient_check(loss, layer.biases, gradients["biases"])


def test_the_gradient_check_can_fail():
    x = normal(4, 3)
    for wrong in (2 * x + 1e-4, 2.001 * x, np.full_like(x, np.nan)):
        with pytest.raises(AssertionError, match="slope"):
            directional_gradient_check(lambda: float(np.sum(x**2)), x, wrong)
    directional_gradient_check(lambda: float(np.sum(x**2)), x, 2 * x)


# ------------------------------------------------------------------------------------------- formulas, number by number


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
    np.testing.assert_array_equal(layer.backward(layer.last_output), 6 * x)
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


# ------------------------------------------------------------------------------------------------------- normalisation


@pytest.mark.parametrize("shape", NORM_SHAPES, ids=str)
def test_normalised_to_mean_0_and_variance_1(shape):
    x = 3 + 5 * normal(*shape)
    N, C = shape[:2]
    rest = tuple(range(2, len(shape)))
    batch = reference.BatchNorm(epsilon=0).forward(x)
    group = (
        reference.GroupNorm(2, epsilon=0).forward(x).reshape(N, 2, -1) if C > 2 or rest and x[0, 0].size > 1 else None
    )
    layer = reference.LayerNorm(epsilon=0).forward(x).reshape(N, -1)
    for values, axis in [(batch, (0, *rest)), (layer, 1)] + ([] if group is None else [(group, 2)]):
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


def test_batch_norm_needs_more_than_one_number_in_training():
    layer = reference.BatchNorm()
    with pytest.raises(
        ValueError, match=r"^BatchNorm: input: expected more than one number a channel.* \(1, 3, 1, 1\)"
    ):
        layer.forward(np.zeros((1, 3, 1, 1)))
    layer.training = False
    layer.forward(np.zeros((1, 3, 1, 1)))


# ------------------------------------------------------------------------------------------------------------- dropout


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


# ------------------------------------------------------------------------------------------------- layers made of layers


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


# -------------------------------------------------------------------------------------------------------- the protocol


@pytest.mark.parametrize("case", LAYER_CASES, ids=str)
def test_protocol_of_every_layer(case):
    x = normal(*case.input_shape)
    layer = case.make(reference)
    with pytest.raises(RuntimeError, match=r"backward.*forward"):
        layer.backward(x)
    before = x.copy()
    output = layer.forward(x)
    assert output.dtype == np.float64
    assert output.shape == (len(x), *layer.output_shape(x.shape[1:]))
    dL_dout = normal(*output.shape, seed=1)
    dL_dout_before = dL_dout.copy()
    dL_dinput = layer.backward(dL_dout)
    assert dL_dinput.dtype == np.float64
    assert dL_dinput.shape == x.shape
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(dL_dout, dL_dout_before)
    assert layer.gradients.keys() == layer.parameters.keys()
    for name, gradient in layer.gradients.items():
        assert gradient.shape == layer.parameters[name].shape
        assert gradient.dtype == layer.parameters[name].dtype == np.float64


@pytest.mark.parametrize("case", LAYER_CASES, ids=str)
def test_learning_rate_takes_the_notebooks_step(case):
    x, layer, twin = normal(*case.input_shape), case.make(reference), case.make(reference)
    dL_dout = normal(*layer.forward(x).shape)
    twin.forward(x)
    old = {name: parameter.copy() for name, parameter in layer.parameters.items()}
    arrays = dict(layer.parameters)
    np.testing.assert_array_equal(layer.backward(dL_dout, 0.5), twin.backward(dL_dout))
    for name, parameter in layer.parameters.items():
        assert parameter is arrays[name]  # in place
        np.testing.assert_array_equal(twin.parameters[name], old[name])
        np.testing.assert_allclose(parameter, old[name] - 0.5 * twin.gradients[name] / len(x), rtol=1e-13, atol=1e-15)
        assert not np.array_equal(parameter, old[name])


@pytest.mark.parametrize("case", LAYER_CASES, ids=str)
def test_gradients_are_overwritten(case):
    x, layer = normal(*case.input_shape), case.make(reference)
    dL_dout = normal(*layer.forward(x).shape)
    dL_dinput = layer.backward(dL_dout)
    gradients = {name: gradient.copy() for name, gradient in layer.gradients.items()}
    np.testing.assert_array_equal(layer.backward(dL_dout), dL_dinput)
    for name, gradient in gradients.items():
        np.testing.assert_array_equal(layer.gradients[name], gradient)


@pytest.mark.parametrize("case", LAYER_CASES, ids=str)
def test_any_memory_order_and_real_dtype(case):
    x = np.random.RandomState(0).randint(0, 200, size=case.input_shape)
    layer = made(case)
    expected = layer.forward(x.astype(np.float64))
    read_only = np.repeat(x, 2, axis=-1)[..., ::2].astype(np.float32).T.copy().T
    read_only.flags.writeable = False
    backwards = x[::-1].astype(">f8")[::-1]
    for variant in (x, x.astype(np.uint8), read_only, backwards, x.tolist()):
        np.testing.assert_array_equal(layer.forward(variant), expected)


@pytest.mark.parametrize("case", LAYER_CASES, ids=str)
def test_wrong_arrays_are_named_and_change_nothing(case):
    x, layer = normal(*case.input_shape), case.make(reference)
    output = layer.forward(x)
    old = {name: parameter.copy() for name, parameter in layer.parameters.items()}
    name = type(layer).__name__
    with pytest.raises(TypeError, match=rf"^{name}: input: expected real numbers, got dtype complex128"):
        layer.forward(x.astype(complex))
    with pytest.raises(TypeError, match=rf"^{name}: input: expected real numbers, got dtype object"):
        layer.forward(x.astype(object))
    with pytest.raises(ValueError, match=rf"^{name}: input: expected .* got shape"):
        layer.forward(x[:0])
    with pytest.raises(ValueError, match=rf"^{name}: input: expected .* got shape"):
        layer.forward(x.ravel())
    with pytest.raises(ValueError, match=rf"^{name}: dL_dout: expected .* got"):
        layer.backward(output[..., None], 0.1)
    with pytest.raises(ValueError, match=rf"^{name}: dL_dout: expected .* got"):
        layer.backward(np.concatenate([output, output]), 0.1)
    with pytest.raises(TypeError, match=rf"^{name}: dL_dout: expected real numbers, got dtype complex128"):
        layer.backward(output.astype(complex), 0.1)
    for key, parameter in layer.parameters.items():
        np.testing.assert_array_equal(parameter, old[key])
    layer.backward(output)  # still that of the last forward that succeeded


@pytest.mark.parametrize(
    ("make", "input_shape", "message"),
    [
        (lambda: reference.Conv2D(4, 3), (2, 8, 8), r"Conv2D: input: expected \(N, C, H, W\), got shape \(2, 8, 8\)"),
        (lambda: reference.Conv2D(4, 3), (2, 1, 8, 2), r"Conv2D: input: .* at least 3×3.* got 8×2"),
        (lambda: reference.Conv2D(4, 3, padding=1, dilation=3), (2, 1, 4, 9), r"Conv2D: .* at least 7×7.* got 6×11"),
        (lambda: reference.Conv2D(4, 3, groups=2), (2, 3, 8, 8), r"Conv2D: groups: .* 3 channels, got 2"),
        (lambda: reference.Conv2D(4, 3).build((2, 8, 8)), (2, 3, 8, 8), r"Conv2D: input: expected 2 channels.* got 3"),
        (reference.MaxPool2, (2, 1, 1, 8), r"MaxPool2: input: .* at least 2×2.* got 1×8"),
        (lambda: reference.MaxPool2D(3), (2, 1, 2, 8), r"MaxPool2D: input: .* at least 3×3.* got 2×8"),
        (lambda: reference.Dense(3), (2, 1, 2, 8), r"Dense: input: expected \(N, D\), got shape \(2, 1, 2, 8\)"),
        (lambda: reference.Dense(3).build((4,)), (2, 5), r"Dense: input: expected 4 features.* got 5"),
        (lambda: reference.Softmax(3, 2), (2, 5), r"Softmax: input: expected 3 numbers.* got 5 in shape \(5,\)"),
        (lambda: reference.DepthwiseConv2D(3), (2, 1, 2, 8), r"DepthwiseConv2D: input: .* at least 3×3.* got 2×8"),
        (
            lambda: reference.DepthwiseConv2D(3, depth_multiplier=2).build((2, 8, 8)),
            (2, 3, 8, 8),
            r"DepthwiseConv2D: input: expected 2 channels.* got 3",
        ),
        (
            lambda: reference.SeparableConv2D(4, 3).build((2, 8, 8)),
            (2, 3, 8, 8),
            r"SeparableConv2D: input: expected 2 channels.* got 3",
        ),
        (
            lambda: reference.Conv2DTranspose(4, 3).build((2, 8, 8)),
            (2, 3, 8, 8),
            r"Conv2DTranspose: input: expected 2 channels.* got 3",
        ),
        (lambda: reference.Conv2DTranspose(4, 1, padding=1), (2, 3, 2, 8), r"Conv2DTranspose: .* got 2×8.* 0×6"),
        (lambda: reference.Conv2DTranspose(4, 1, groups=2), (2, 3, 2, 8), r"Conv2DTranspose: groups: .* 3 channels"),
        (lambda: reference.AvgPool2D(3), (2, 1, 2, 8), r"AvgPool2D: input: .* at least 3×3.* got 2×8"),
        (reference.GlobalAvgPool2D, (2, 5), r"GlobalAvgPool2D: input: expected \(N, C, H, W\), got shape \(2, 5\)"),
        (
            reference.BatchNorm,
            (2, 5, 3),
            r"BatchNorm: input: expected \(N, D\) or \(N, C, H, W\), got shape \(2, 5, 3\)",
        ),
        (lambda: reference.BatchNorm().build((4,)), (2, 5), r"BatchNorm: input: expected 4 channels.* got 5"),
        (lambda: reference.GroupNorm(3), (2, 5), r"GroupNorm: num_groups: .* 5 channels, got 3"),
        (lambda: reference.LayerNorm().build((4, 2, 2)), (2, 4, 2, 3), r"LayerNorm: .* \(4, 2, 2\).* got \(4, 2, 3\)"),
        (reference.ReLU, (5,), r"ReLU: input: expected \(N, ...\), got shape \(5,\)"),
        (
            lambda: reference.Residual([reference.Conv2D(4, 3)]),
            (2, 4, 6, 6),
            r"Residual: shortcut: .* \(4, 4, 4\), got \(4, 6, 6\)",
        ),
        (
            lambda: reference.Residual([reference.Conv2D(4, 3)], "pad"),
            (2, 6, 6, 6),
            r"Residual: shortcut: .* \(4, 4, 4\), got \(6, 6, 6\)",
        ),
        (
            lambda: reference.Residual([reference.Conv2D(4, 3)], "pad"),
            (2, 4, 6, 6),
            r"Residual: shortcut: .* \(4, 4, 4\), got \(4, 3, 3\)",
        ),
        (
            lambda: reference.Residual([reference.ReLU(), reference.Conv2D(4, 9)]),
            (2, 4, 6, 6),
            r"Residual: layers\[1\]: Conv2D: input: .* at least 9×9.* got 6×6",
        ),
        (
            lambda: reference.Concat([[reference.ReLU()], [reference.Conv2D(4, 3)]]),
            (2, 4, 6, 6),
            r"Concat: branches: .* \(4, 6, 6\), \(4, 4, 4\)",
        ),
        (
            lambda: reference.Concat([[reference.ReLU()], [reference.Dense(4)]]),
            (2, 4, 6, 6),
            r"Concat: branches.1\[0\]: Dense: input_shape: expected \(D,\), got \(4, 6, 6\)",
        ),
    ],
)
def test_wrong_shapes_are_named(make, input_shape, message):
    layer = make()
    state = np.random.get_state()[1].copy()
    with pytest.raises(ValueError, match="^" + message):
        layer.forward(np.zeros(input_shape))
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # nothing was drawn


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: reference.Conv2D(0, 3), ValueError, "Conv2D: num_filters: .* at least 1, got 0"),
        (lambda: reference.Conv2D(4.0, 3), TypeError, "Conv2D: num_filters: expected an integer, got 4.0"),
        (lambda: reference.Conv2D(True, 3), TypeError, "Conv2D: num_filters: expected an integer, got True"),
        (lambda: reference.Conv2D(4, (3, 0)), ValueError, "Conv2D: filter_size: .* at least 1, got 0"),
        (lambda: reference.Conv2D(4, (3, 3, 3)), ValueError, r"Conv2D: filter_size: .* pair.* got \(3, 3, 3\)"),
        (lambda: reference.Conv2D(4, 3, stride=0), ValueError, "Conv2D: stride: .* at least 1, got 0"),
        (lambda: reference.Conv2D(4, 3, padding=-1), ValueError, "Conv2D: padding: .* at least 0, got -1"),
        (
            lambda: reference.Conv2D(4, 3, padding="full"),
            ValueError,
            "Conv2D: padding: .* 'same' or 'valid', got 'full'",
        ),
        (lambda: reference.Conv2D(4, 3, dilation=0), ValueError, "Conv2D: dilation: .* at least 1, got 0"),
        (lambda: reference.Conv2D(4, 3, groups=3), ValueError, "Conv2D: groups: .* num_filters=4, got 3"),
        (lambda: reference.MaxPool2D(0), ValueError, "MaxPool2D: pool_size: .* at least 1, got 0"),
        (lambda: reference.MaxPool2D(3, padding=2), ValueError, r"MaxPool2D: padding: .* half .* got \(2, 2\)"),
        (lambda: reference.Dense(0), ValueError, "Dense: nodes: .* at least 1, got 0"),
        (lambda: reference.Softmax(0, 3), ValueError, "Softmax: input_len: .* at least 1, got 0"),
        (lambda: reference.DepthwiseConv2D(3, depth_multiplier=0), ValueError, "DepthwiseConv2D: depth_multiplier: "),
        (lambda: reference.SeparableConv2D(0, 3), ValueError, "SeparableConv2D: num_filters: .* at least 1, got 0"),
        (lambda: reference.Conv2DTranspose(4, 3, padding="same"), TypeError, "Conv2DTranspose: padding: .* got 'same'"),
        (lambda: reference.Conv2DTranspose(4, 3, 2, 0, 2), ValueError, r"Conv2DTranspose: output_padding: .* \(2, 2\)"),
        (lambda: reference.Conv2DTranspose(4, 3, groups=3), ValueError, "Conv2DTranspose: groups: .* got 3"),
        (lambda: reference.AvgPool2D(2, padding=(0, 2)), ValueError, r"AvgPool2D: padding: .* half .* got \(0, 2\)"),
        (lambda: reference.UpSample2D(0), ValueError, "UpSample2D: size: .* at least 1, got 0"),
        (lambda: reference.BatchNorm(momentum=1.5), ValueError, "BatchNorm: momentum: .* got 1.5"),
        (lambda: reference.BatchNorm(epsilon=-1), ValueError, "BatchNorm: epsilon: .* got -1"),
        (lambda: reference.GroupNorm(0), ValueError, "GroupNorm: num_groups: .* at least 1, got 0"),
        (lambda: reference.Dropout(1.0), ValueError, "Dropout: rate: expected a number ≥ 0 and < 1, got 1.0"),
        (lambda: reference.SpatialDropout2D(-0.1), ValueError, "SpatialDropout2D: rate: .* got -0.1"),
        (lambda: reference.Dropout(np.nan), ValueError, "Dropout: rate: .* got nan"),
        (lambda: reference.Dropout("half"), TypeError, "Dropout: rate: expected a number, got 'half'"),
        (lambda: reference.Dropout(0.5, "seed"), TypeError, "random_state: .* got 'seed'"),
        (lambda: reference.LeakyReLU(None), TypeError, "LeakyReLU: negative_slope: expected a number, got None"),
        (lambda: reference.GELU("erf"), ValueError, "GELU: approximate: expected 'none' or 'tanh', got 'erf'"),
        (lambda: reference.Residual([]), ValueError, "Residual: layers: expected at least one, got none"),
        (lambda: reference.Residual(["ReLU"]), TypeError, r"Residual: layers\[0\]: expected a layer, got 'ReLU'"),
        (lambda: reference.Residual([reference.ReLU()], "zeros"), ValueError, "Residual: shortcut: .* got 'zeros'"),
        (lambda: reference.Residual([reference.ReLU()] * 2), ValueError, "Residual: expected each layer once"),
        (lambda: reference.Concat([]), ValueError, "Concat: branches: expected at least one, got none"),
        (lambda: reference.Conv2D(4, 3).build((1, 8, -8)), ValueError, "Conv2D: input_shape: .* at least 1, got -8"),
        (lambda: reference.Conv2D(4, 3).build((8, 8)), ValueError, r"Conv2D: input_shape: .*\(C, H, W\), got \(8, 8\)"),
        (lambda: reference.Conv2D(4, 3, 1).filters, AttributeError, "Conv2D: filters: .* not built yet"),
        (lambda: reference.Dense(4, bias=False).build((3,)).biases, AttributeError, "Dense: biases: .* has none"),
        (
            lambda: setattr(reference.Dense(4).build((3,)), "weights", np.zeros((3, 5))),
            ValueError,
            r"Dense: weights: expected shape \(3, 4\), got \(3, 5\)",
        ),
    ],
)
def test_wrong_arguments_are_named(make, error, message):
    with pytest.raises(error, match="^" + message):
        make()


# ------------------------------------------------------------------------------------------------------ initialisation


def test_parameters_are_drawn_in_public_shape_from_the_seed():
    conv = reference.Conv2D(6, (3, 2), groups=2, random_state=7).build((4, 8, 8))
    expected = np.random.RandomState(7).standard_normal((6, 2, 3, 2)) * np.sqrt(2 / (2 * 3 * 2))
    np.testing.assert_array_equal(conv.filters, expected)
    np.testing.assert_array_equal(conv.biases, np.zeros(6))
    dense = reference.Dense(5, random_state=np.random.default_rng(7)).build((3,))
    expected = np.random.default_rng(7).standard_normal((3, 5)) * np.sqrt(2 / 3)
    np.testing.assert_array_equal(dense.weights, expected)
    softmax = reference.Softmax(12, 5, random_state=7)
    expected = np.random.RandomState(7).standard_normal((12, 5)) * np.sqrt(2 / 12)
    np.testing.assert_array_equal(softmax.weights, expected)


def test_random_state_none_is_numpys_global_generator():
    np.random.seed(3)
    first = reference.Conv2D(4, 3).build((1, 8, 8)).filters, reference.Softmax(9, 2).weights
    np.random.seed(3)
    expected = np.random.randn(4, 1, 3, 3) * np.sqrt(2 / 9), np.random.randn(9, 2) * np.sqrt(2 / 9)
    np.testing.assert_array_equal(first[0], expected[0])
    np.testing.assert_array_equal(first[1], expected[1])
    shared = np.random.RandomState(0)
    one, two = (reference.Dense(2, random_state=shared).build((3,)) for _ in range(2))
    assert not np.array_equal(one.weights, two.weights)


def test_build_draws_once_and_assignment_writes_in_place():
    conv = reference.Conv2D(4, 3)
    assert conv.build((1, 8, 8)) is conv
    filters = conv.filters
    before = filters.copy()
    conv.build((1, 5, 9))
    conv.forward(np.zeros((1, 1, 7, 7)))
    np.testing.assert_array_equal(conv.filters, before)
    conv.filters = np.ones((4, 1, 3, 3), dtype=np.float32)
    assert conv.filters is filters is conv.parameters["filters"]
    assert (filters == 1).all()


def test_everything_public_is_exported_and_described():
    assert reference.__all__ == sorted(reference.__all__, key=lambda name: (not name.isupper(), name))
    for name in reference.__all__:
        assert inspect.getdoc(getattr(reference, name))
