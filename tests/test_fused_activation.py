"""Activations behind convolutions and dense layers, in the same pass: the bits of the layers one after another."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn
import reference
from fastcnn import (
    Conv2D,
    Conv2DTranspose,
    Dense,
    DepthwiseConv2D,
    Flatten,
    LeakyReLU,
    ReLU6,
    Sequential,
    SiLU,
    Trainer,
)
from fastcnn.ops import fused_activation
from tests.arrays import both_dtypes, normal


class FusedSiLU(SiLU):
    """A SiLU behind others in the same pass: its slope needs its input, which is saved."""

    fuses_as = "activation"


each_activation = pytest.mark.parametrize(
    "activation",
    [LeakyReLU(0.1), LeakyReLU(0), LeakyReLU(-0.2), LeakyReLU(1.5), ReLU6(), FusedSiLU()],
    ids=["leaky", "flat", "falling", "steep", "relu6", "silu"],
)
each_layer = pytest.mark.parametrize(
    ("layer", "absorbs"),
    [
        (Conv2D(5, 3, 2, 1), True),
        (Conv2D(16, 3, 1, 1), True),
        (Conv2D(10, 3, 1, 1, groups=5), True),
        (Conv2D(5, 3, algorithm="im2col"), True),
        (DepthwiseConv2D(3, 1, 1), True),
        (Conv2DTranspose(4, 2, 2), False),
    ],
    ids=["direct", "winograd", "groups", "im2col", "depthwise", "transposed"],
)


def both_ways(layers, x, dtype) -> list[list[np.ndarray]]:
    """Return output and gradients of the layers fused and one by one, and check that they were."""
    results, ops = [], []
    for fuse in (True, False):
        model = Sequential([layer.copy() for layer in layers], fuse=fuse)
        model.build(x.shape[1:], random_state=0, dtype=dtype)
        output = model.forward(x)
        gradient = model.backward(normal(*output.shape, seed=1, dtype=dtype))
        results.append([output, gradient, *model.gradients.values(), model.predict(x)])
        ops.append(len(model._executables.last.plan.ops))
    return [*results, ops]


@both_dtypes
@each_activation
@each_layer
@pytest.mark.parametrize("fitting", [0, fused_activation.FITTING], ids=["one by one", "at once"])
def test_behind_a_convolution(layer, absorbs, activation, fitting, dtype, monkeypatch):
    monkeypatch.setattr(fused_activation, "FITTING", fitting)
    x = normal(3, 10, 7, 6, dtype=dtype)
    fused, alone, ops = both_ways([Conv2D(10, 1), layer, activation, Conv2D(3, 3)], x, dtype)
    assert ops[1] - ops[0] == absorbs
    for one, other in zip(fused, alone, strict=True):
        np.testing.assert_array_equal(one, other)


@both_dtypes
@each_activation
@pytest.mark.parametrize("nodes", [9, 40])
def test_behind_a_dense_layer(nodes, activation, dtype):
    x = normal(5, 3, 4, 4, dtype=dtype)
    fused, alone, ops = both_ways([Conv2D(3, 1), Flatten(), Dense(nodes), activation, Dense(4)], x, dtype)
    assert ops[0] < ops[1]
    for one, other in zip(fused, alone, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("activation", "twin"),
    [(LeakyReLU(0.2), reference.LeakyReLU(0.2)), (ReLU6(), reference.ReLU6()), (FusedSiLU(), reference.SiLU())],
)
def test_the_reference_computes_the_same(activation, twin):
    x = normal(3, 4, 8, 8)
    fast = Sequential([Conv2D(6, 3, padding=1), activation, Flatten(), Dense(4)])
    fast.build(x.shape[1:], random_state=0, dtype=np.float64)
    slow = [reference.Conv2D(6, 3, padding=1), twin, reference.Flatten(), reference.Dense(4)]
    shape = x.shape[1:]
    for layer in slow:
        layer.build(shape)
        shape = layer.output_shape(shape)
    for place in (0, 3):
        for name, value in fast.layers[place].parameters.items():
            slow[place].parameters[name][...] = value
    expected = x
    for layer in slow:
        expected = layer.forward(expected)
    np.testing.assert_allclose(fast.forward(x), expected, rtol=0, atol=1e-10)
    gradient = expected_gradient = normal(*expected.shape, seed=1)
    for layer in reversed(slow):
        expected_gradient = layer.backward(expected_gradient)
    np.testing.assert_allclose(fast.backward(gradient), expected_gradient, rtol=0, atol=1e-10)
    np.testing.assert_allclose(fast.gradients["0.filters"], slow[0].gradients["filters"], rtol=0, atol=1e-10)


@pytest.mark.parametrize("activation", [LeakyReLU(0.1), FusedSiLU()], ids=["leaky", "silu"])
def test_a_training_has_the_same_bits_behind_sync_points_too(activation):
    x, y = normal(40, 2, 12, 12, dtype=np.float32), np.arange(40) % 3
    weights = []
    for fuse in (True, False):
        layers = [Conv2D(8, 3), fastcnn.BatchNorm(), Conv2D(8, 3), activation.copy(), Conv2D(6, 3), activation.copy()]
        model = Sequential([*layers, Flatten(), Dense(3)], fuse=fuse).build((2, 12, 12), random_state=0)
        Trainer(model, optimizer=fastcnn.SGD(0.01), random_state=0).fit(x, y, epochs=3, batch_size=20, verbose=0)
        weights.append(model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("activation", [LeakyReLU(0.1), ReLU6(), FusedSiLU()], ids=["leaky", "relu6", "silu"])
def test_in_prediction_a_norm_between_is_a_part_of_the_filters(activation):
    layers = [Conv2D(8, 3), fastcnn.BatchNorm(), activation, Flatten(), Dense(3)]
    models = [Sequential([layer.copy() for layer in layers], fuse=fuse) for fuse in (True, False)]
    for model in models:
        model.build((2, 6, 6), random_state=0, dtype=np.float64)
        model.layers[1].running_mean, model.layers[1].running_var = normal(8), 1 + normal(8, seed=1) ** 2
    x = normal(4, 2, 6, 6)
    np.testing.assert_allclose(models[0].predict(x), models[1].predict(x), rtol=0, atol=1e-12)
