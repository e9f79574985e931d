"""The reference: its gradients are the slopes of its outputs, by finite differences in float64."""

from __future__ import annotations

import numpy as np
import pytest

import reference
from tests.arrays import normal
from tests.cases import (
    CONV_CASES,
    DENSE_CASES,
    DEPTHWISE_CASES,
    ELEMENTWISE_SHAPES,
    LAYER_CASES,
    NORM_SHAPES,
    POOL_CASES,
    TRANSPOSE_CASES,
)
from tests.slopes import away_from_kinks, directional_gradient_check


def check_gradients(layer, x, seed=1):
    """Compare backward with finite differences of Σ output·dL_dout, by the input and by each parameter."""
    x, rng = x.copy(), np.random.RandomState(seed)
    dL_dout = rng.standard_normal(layer.forward(x).shape)
    for parameter in layer.parameters.values():
        parameter[...] += 0.3 * rng.standard_normal(parameter.shape)  # no γ of 1, no bias of 0
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
@pytest.mark.parametrize(
    "name",
    [
        "ReLU", "LeakyReLU", "ELU", "CELU", "GELU", "SiLU", "Softplus", "Mish", "ReLU6", "HardSigmoid", "HardSwish",
        "PReLU", "Sigmoid", "Tanh", "SoftmaxActivation",
    ],
)  # fmt: skip
def test_activation_gradients(name, shape):
    x = 0.97 * away_from_kinks(shape, gap=12 / np.prod(shape))  # −6 to 6, and neither 3 nor 6
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
