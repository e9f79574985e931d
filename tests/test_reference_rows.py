"""The reference: layers made of layers."""

from __future__ import annotations

import numpy as np
import pytest

import reference
from tests.arrays import normal


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
