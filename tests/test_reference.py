"""What holds of every layer of the reference: finite differences, the protocol, the errors, the initial parameters."""

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


def normal(*shape, seed=0):
    return np.random.RandomState(seed).standard_normal(shape)


# --------------------------------------------------------------------------------------------------- finite differences


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


# --------------------------------------------------------------------------------------------------------- the protocol


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
            r"Concat: branches: .* \[\(4, 6, 6\), \(4, 4, 4\)\]",
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


# ------------------------------------------------------------------------------------------------------- initialisation


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


def test_filters_of_the_other_convolutions_are_drawn_in_public_shape_too():
    def draw(rng, shape, fan_in):
        return rng.standard_normal(shape) * np.sqrt(2 / fan_in)

    depthwise = reference.DepthwiseConv2D((3, 2), depth_multiplier=2, random_state=7).build((3, 8, 8))
    np.testing.assert_array_equal(depthwise.filters, draw(np.random.RandomState(7), (6, 1, 3, 2), 6))
    transposed = reference.Conv2DTranspose(4, (3, 2), groups=2, random_state=7).build((6, 8, 8))
    np.testing.assert_array_equal(transposed.filters, draw(np.random.RandomState(7), (6, 2, 3, 2), 3 * 6))
    separable, rng = reference.SeparableConv2D(4, (3, 2), random_state=7).build((3, 8, 8)), np.random.RandomState(7)
    np.testing.assert_array_equal(separable.depthwise_filters, draw(rng, (3, 1, 3, 2), 6))
    np.testing.assert_array_equal(separable.pointwise_filters, draw(rng, (4, 3, 1, 1), 3))
    for layer in (depthwise, transposed, separable):
        np.testing.assert_array_equal(layer.biases, 0)


CONSTRUCTORS = """
Conv2D(num_filters, filter_size, stride=1, padding=0, dilation=1, groups=1, bias=True, random_state=None)
DepthwiseConv2D(filter_size, stride=1, padding=0, dilation=1, depth_multiplier=1, bias=True, random_state=None)
SeparableConv2D(num_filters, filter_size, stride=1, padding=0, dilation=1, bias=True, random_state=None)
Conv2DTranspose(num_filters, filter_size, stride=1, padding=0, output_padding=0, dilation=1, groups=1, bias=True, \
random_state=None)
Dense(nodes, bias=True, random_state=None)
Softmax(input_len, nodes, random_state=None)
Flatten()
MaxPool2()
MaxPool2D(pool_size=2, stride=None, padding=0)
AvgPool2D(pool_size=2, stride=None, padding=0, count_include_pad=True)
GlobalAvgPool2D()
GlobalMaxPool2D()
UpSample2D(size=2)
BatchNorm(momentum=0.1, epsilon=1e-05)
GroupNorm(num_groups, epsilon=1e-05)
LayerNorm(epsilon=1e-05)
Dropout(rate=0.5, random_state=None)
SpatialDropout2D(rate=0.5, random_state=None)
ReLU()
LeakyReLU(negative_slope=0.01)
ELU(alpha=1.0)
GELU(approximate='none')
SiLU()
Sigmoid()
Tanh()
SoftmaxActivation()
Residual(layers, shortcut=None)
Concat(branches)
CrossEntropy(label_smoothing=0.0, class_weight=None)
BinaryCrossEntropy()
MeanSquaredError()
MeanAbsoluteError()
Huber(delta=1.0)
SGD(learning_rate=0.01, momentum=0.0, nesterov=False, weight_decay=0.0)
Adam(learning_rate=0.001, betas=(0.9, 0.999), epsilon=1e-08, weight_decay=0.0)
AdamW(learning_rate=0.001, betas=(0.9, 0.999), epsilon=1e-08, weight_decay=0.01, no_decay=())
RMSprop(learning_rate=0.01, alpha=0.99, epsilon=1e-08, weight_decay=0.0, momentum=0.0, centered=False)
Lion(learning_rate=0.0001, betas=(0.9, 0.99), weight_decay=0.0, no_decay=())
ExponentialMovingAverage(decay=0.999)
clip_by_global_norm(gradients, max_norm)
ConstantRate(learning_rate)
StepDecay(learning_rate, step_size, gamma=0.1)
ExponentialDecay(learning_rate, gamma)
CosineDecay(learning_rate, total_steps, minimum=0.0)
OneCycle(learning_rate, total_steps, warmup=0.3, div_factor=25.0, final_div_factor=10000.0)
WarmUp(schedule, steps, start_factor=0.3333333333333333)
ReduceOnPlateau(learning_rate, factor=0.1, patience=10, threshold=0.0001, cooldown=0, minimum=0.0, mode='min')
Augmentation(horizontal_flip=False, vertical_flip=False, shift=0, rotation=0.0, scale=0.0, contrast=0.0, \
brightness=0.0, cutout=0, mixup=0.0, padding='constant', fill=0.0)
"""


def test_constructors_are_those_that_users_write():
    plain = inspect.Parameter.empty
    for name in reference.__all__:
        if inspect.isabstract(getattr(reference, name)):
            continue
        parameters = inspect.signature(getattr(reference, name)).parameters.values()
        written = ", ".join(str(parameter.replace(annotation=plain)) for parameter in parameters)
        assert f"\n{name}({written})\n" in CONSTRUCTORS, f"{name}({written})"
    concrete = [name for name in reference.__all__ if not inspect.isabstract(getattr(reference, name))]
    assert len(CONSTRUCTORS.strip().splitlines()) == len(concrete)


def test_everything_public_is_exported_and_described():
    assert reference.__all__ == sorted(reference.__all__, key=lambda name: (not name.isupper(), name))
    for name in reference.__all__:
        assert inspect.getdoc(getattr(reference, name))
