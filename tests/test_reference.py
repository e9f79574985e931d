"""What holds of every layer of the reference: the protocol, and the errors."""

from __future__ import annotations

import numpy as np
import pytest

import reference
from tests.arrays import normal
from tests.cases import (
    LAYER_CASES,
)
from tests.test_reference_gradients import made


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
        (
            lambda: reference.MaxPool2D(3, padding=3).output_shape((1, 6, 6)),
            ValueError,
            r"MaxPool2D: padding: expected that each window sees the image of 6×6, got \(3, 3\)",
        ),
        (lambda: reference.Dense(0), ValueError, "Dense: nodes: .* at least 1, got 0"),
        (lambda: reference.Softmax(0, 3), ValueError, "Softmax: input_len: .* at least 1, got 0"),
        (lambda: reference.DepthwiseConv2D(3, depth_multiplier=0), ValueError, "DepthwiseConv2D: depth_multiplier: "),
        (lambda: reference.SeparableConv2D(0, 3), ValueError, "SeparableConv2D: num_filters: .* at least 1, got 0"),
        (lambda: reference.Conv2DTranspose(4, 3, padding="same"), TypeError, "Conv2DTranspose: padding: .* got 'same'"),
        (lambda: reference.Conv2DTranspose(4, 3, 2, 0, 2), ValueError, r"Conv2DTranspose: output_padding: .* \(2, 2\)"),
        (lambda: reference.Conv2DTranspose(4, 3, groups=3), ValueError, "Conv2DTranspose: groups: .* got 3"),
        (lambda: reference.AvgPool2D(2, padding="full"), ValueError, "AvgPool2D: padding: expected .*, got 'full'"),
        (lambda: reference.Conv2D(4, 3, padding=((0, 1), 0)), ValueError, r"Conv2D: padding: expected \(\(top"),
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
