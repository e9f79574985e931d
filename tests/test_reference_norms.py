"""The reference: normalisation and dropout, which train in one way and predict in another."""

from __future__ import annotations

import numpy as np
import pytest

import reference
from tests.arrays import normal
from tests.cases import NORM_SHAPES


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
