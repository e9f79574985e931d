"""Initialisers: what they draw, where they are taken, what a file keeps of them."""

from __future__ import annotations

import io

import numpy as np
import pytest

import fastcnn
from fastcnn import (
    Conv2D,
    Conv2DTranspose,
    Dense,
    DepthwiseConv2D,
    Dirac,
    Flatten,
    HeNormal,
    Initializer,
    Orthogonal,
    SeparableConv2D,
    Sequential,
    Softmax,
    Whitening,
)
from tests.arrays import normal


@pytest.mark.parametrize("make", [
    lambda **given: Conv2D(6, (3, 2), groups=2, **given), lambda **given: Conv2DTranspose(4, 3, **given),
    lambda **given: DepthwiseConv2D(3, **given), lambda **given: SeparableConv2D(5, 3, **given),
])  # fmt: skip
def test_he_normal_is_the_default(make):
    plain, given = (make(random_state=3, **one).build((4, 6, 6)) for one in ({}, {"initializer": HeNormal()}))
    assert all(map(np.array_equal, plain.get_weights(), given.get_weights()))
    wide = make(random_state=3, initializer=HeNormal(8.0)).build((4, 6, 6))
    for name, array in plain.parameters.items():
        np.testing.assert_allclose(wide.parameters[name], 2 * array, rtol=1e-12)


@pytest.mark.parametrize("layer", [Dense(7, initializer=Orthogonal(2.0)), Softmax(5, 7, initializer=Orthogonal(2.0)),
                                   Dense(3, initializer=Orthogonal(2.0))])  # fmt: skip
def test_weights_are_orthogonal(layer):
    w = layer.build((5,), random_state=0).weights
    short = w.T @ w if w.shape[1] <= w.shape[0] else w @ w.T
    np.testing.assert_allclose(short, 4 * np.eye(len(short)), atol=1e-14)


def test_filters_are_orthogonal_as_those_of_a_qr_decomposition():
    filters = Orthogonal()((6, 4, 3, 2), random_state=5).reshape(6, -1)
    np.testing.assert_allclose(filters @ filters.T, np.eye(6), atol=1e-14)
    drawn = np.random.RandomState(5).standard_normal((6, 24))
    q, r = np.linalg.qr(drawn.T)
    np.testing.assert_allclose(filters, (q * np.sign(r.diagonal())).T, atol=1e-12)


@pytest.mark.parametrize("groups", [1, 2])
def test_dirac_passes_channels_on(groups):
    layer = Conv2D(6, 3, padding=1, groups=groups, bias=False, initializer=Dirac()).build((4, 5, 5))
    x = normal(2, 4, 5, 5)
    y, of_group = layer.forward(x), 6 // groups
    for f in range(6):
        group, place = divmod(f, of_group)
        passed = place < 4 // groups
        np.testing.assert_array_equal(y[:, f], x[:, group * 4 // groups + place] if passed else np.zeros((2, 5, 5)))


def test_diracs_others_are_drawn():
    filters = Dirac(HeNormal(0.5))((5, 2, 3, 3), random_state=1)
    expected = HeNormal(0.5)((5, 2, 3, 3), random_state=1)
    np.testing.assert_array_equal(filters[2:], expected[2:])
    assert filters[:2].sum() == 2


def test_whitened_windows_are_uncorrelated_and_the_eigenvectors_numpys():
    rng = np.random.default_rng(0)
    x = rng.random((40, 3, 9, 8)).cumsum(axis=2).cumsum(axis=1)
    layer = Conv2D(24, 2, bias=False, initializer=Whitening(x, 0.0)).build((3, 9, 8))
    y = layer.forward(x).transpose(1, 0, 2, 3).reshape(24, -1)
    np.testing.assert_allclose(np.cov(y[:12], bias=True), np.eye(12), atol=1e-9)
    np.testing.assert_array_equal(layer.filters[12:], -layer.filters[:12])
    windows = (
        np.lib.stride_tricks.sliding_window_view(x, (2, 2), axis=(2, 3)).transpose(1, 4, 5, 0, 2, 3).reshape(12, -1)
    )
    values, vectors = np.linalg.eigh(np.cov(windows, bias=True))
    ours = layer.filters[:12].reshape(12, -1)
    scaled = (vectors / np.sqrt(values)).T[::-1]
    np.testing.assert_allclose(np.abs(np.sum(ours * scaled, axis=1)), 1 / values[::-1], rtol=1e-8)
    assert (ours[np.arange(12), np.abs(ours).argmax(axis=1)] > 0).all()


def test_bytes_count_from_0_to_1_and_many_images_are_sampled():
    x = np.random.default_rng(0).integers(0, 256, (30, 1, 6, 6), np.uint8)
    np.testing.assert_allclose(Whitening(x)((8, 1, 2, 2)), Whitening(x / 255)((8, 1, 2, 2)), rtol=1e-12)
    many = np.broadcast_to(x[:2], (2, 1, 6, 6)).repeat(40000, axis=0)
    assert Whitening(many)((4, 1, 2, 2)).shape == (4, 1, 2, 2)


def test_files_keep_what_they_can():
    class Ones(Initializer):
        def draw(self, generator, shape, fan_in):
            return np.ones(shape)

    x = normal(6, 3, 8, 8)
    layers = [
        Conv2D(5, 2, initializer=Whitening(x)), Conv2D(7, 3, initializer=Dirac(HeNormal(0.5))), Flatten(),
        Dense(4, initializer=Orthogonal(2.0)), Dense(3, initializer=Ones()),
    ]  # fmt: skip
    model = Sequential(layers).build((3, 8, 8), random_state=0)
    assert (model.parameters["4.weights"] == 1).all()
    file = io.BytesIO()
    fastcnn.save(model, file)
    again = fastcnn.load(io.BytesIO(file.getvalue()))
    assert np.array_equal(again.predict(x), model.predict(x))
    assert [repr(getattr(layer, "initializer", None)) for layer in again.layers] == [
        "None", "Dirac(others=HeNormal(scale=0.5))", "None", "Orthogonal(gain=2.0)", "None"
    ]  # fmt: skip
    assert model.copy().layers[0].initializer is model.layers[0].initializer


def test_errors():
    x = normal(2, 3, 6, 6)
    with pytest.raises(TypeError, match=r"Conv2D: initializer: expected an Initializer, such as .*; got 'he'"):
        Conv2D(2, 3, initializer="he")
    with pytest.raises(ValueError, match=r"Whitening: X: expected images that windows of \(2, 2, 2\) fit into"):
        Conv2D(2, 2, initializer=Whitening(x)).build((2, 6, 6))
    with pytest.raises(ValueError, match=r"Whitening: expected at most 24 filters of \(3, 2, 2\); got 25"):
        Whitening(x)((25, 3, 2, 2))
    with pytest.raises(ValueError, match=r"Whitening: X: expected real images"):
        Whitening(np.zeros((3, 4)))
    with pytest.raises(ValueError, match=r"Whitening: epsilon"):
        Whitening(np.zeros((2, 1, 4, 4)), 0.0)((2, 1, 2, 2))
    with pytest.raises(ValueError, match=r"Dirac: shape: expected filters"):
        Dense(3, initializer=Dirac()).build((4,))
    with pytest.raises(ValueError, match=r"HeNormal: scale"):
        HeNormal(0)
    with pytest.raises(ValueError, match=r"Orthogonal: shape: expected \(F, C, kH, kW\)"):
        Orthogonal()((3,))
