"""The reference against PyTorch in float64, one more independent witness where it is installed."""

from __future__ import annotations

import numpy as np
import pytest

import reference
from tests.cases import CONV_CASES, POOL_CASES, away_from_kinks

torch = pytest.importorskip("torch")
F = torch.nn.functional


def tensor(array, requires_grad=False):
    return torch.tensor(array, dtype=torch.float64, requires_grad=requires_grad)


def normal(*shape, seed=0):
    return np.random.RandomState(seed).standard_normal(shape)


def assert_equal(ours, theirs):
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-10, atol=1e-10)


def assert_layer_equals(layer, x, function, parameters=()):
    """Compare outputs and all gradients with those of function(input, *parameters)."""
    output = layer.forward(x)
    tensors = [tensor(array, requires_grad=True) for array in (x, *(layer.parameters[name] for name in parameters))]
    expected = function(*tensors)
    assert_equal(output, expected)
    dL_dout = normal(*output.shape, seed=9)
    expected.backward(tensor(dL_dout))
    assert_equal(layer.backward(dL_dout), tensors[0].grad)
    for name, theirs in zip(parameters, tensors[1:], strict=True):
        assert_equal(layer.gradients[name], theirs.grad)


def same_padded(x, filter_size, stride, dilation):
    """Zeros for Keras's "same", which PyTorch has for stride 1 only."""
    zeros = []
    for size, k, s, d in list(zip(x.shape[2:], filter_size, stride, dilation, strict=True))[::-1]:
        total = max((-(-size // s) - 1) * s + d * (k - 1) + 1 - size, 0)
        zeros += [total // 2, total - total // 2]
    return F.pad(x, zeros)


@pytest.mark.filterwarnings("ignore:Using padding='same'")  # that it copies; even windows are meant
@pytest.mark.parametrize("case", CONV_CASES, ids=str)
def test_conv(case):
    layer = reference.Conv2D(**case.arguments, random_state=0).build(case.input_shape[1:])
    if case.bias:
        layer.biases = normal(case.num_filters, seed=1)

    def conv(x, filters, biases=None):
        padding = case.padding
        if padding == "same" and layer.stride != (1, 1):
            x, padding = same_padded(x, layer.filter_size, layer.stride, layer.dilation), 0
        return F.conv2d(x, filters, biases, case.stride, padding, case.dilation, case.groups)

    assert_layer_equals(layer, normal(*case.input_shape), conv, tuple(layer.parameters))


@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])
@pytest.mark.parametrize("case", POOL_CASES, ids=str)
def test_max_pool(case, ties):
    x = away_from_kinks(case.input_shape)
    if ties:
        x = np.round(x * 2) / 2
    layer = reference.MaxPool2D(**case.arguments)
    assert_layer_equals(layer, x, lambda x: F.max_pool2d(x, case.pool_size, case.stride, case.padding))


def test_dense_and_relu():
    layer = reference.Dense(5, random_state=0).build((7,))
    layer.biases = normal(5)
    assert_layer_equals(layer, normal(3, 7), lambda x, W, b: x @ W + b, ("weights", "biases"))
    x = normal(3, 7)
    x[0] = 0  # the subgradient at 0 is a convention
    assert_layer_equals(reference.ReLU(), x, F.relu)


def test_softmax_with_cross_entropy():
    layer, x, y = reference.Softmax(12, 5, random_state=0), normal(4, 3, 2, 2), np.array([0, 4, 2, 2])
    X, W, b = (tensor(array, requires_grad=True) for array in (x, layer.weights, layer.biases))
    logits = X.flatten(1) @ W + b
    probs = layer.forward(x)
    assert_equal(probs, logits.softmax(dim=1))
    F.cross_entropy(logits, torch.tensor(y), reduction="sum").backward()
    assert_equal(layer.backward(probs - np.eye(5)[y]), X.grad)
    assert_equal(layer.gradients["weights"], W.grad)
    assert_equal(layer.gradients["biases"], b.grad)
