"""PReLU: slopes that are trained, against the reference, with the same bits however the work is cut."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn
import reference
from fastcnn import Conv2D, Dense, Flatten, GlobalAvgPool2D, PReLU, Sequential, Trainer
from tests.arrays import both_dtypes, normal


@both_dtypes
@pytest.mark.parametrize("shape", [(3, 10), (2, 1, 5, 7), (3, 17, 4, 6), (2, 33, 3, 3), (9, 5, 40, 9)], ids=str)
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "each"])
def test_output_and_gradients_are_those_of_the_reference(shape, shared, dtype):
    """Sums of n products are rounded n times at most, each by u times their absolute values."""
    x, dy = normal(*shape, dtype=dtype), normal(*shape, seed=1, dtype=dtype)
    count = 1 if shared else shape[1]
    slopes = np.linspace(-0.5, 1.5, count).astype(dtype)
    fast, slow = (m.PReLU(count).build(shape[1:]) for m in (fastcnn, reference))
    fast.build(shape[1:], dtype=dtype)
    fast.negative_slope = slow.negative_slope = slopes
    u = np.finfo(dtype).eps
    np.testing.assert_allclose(fast.forward(x), slow.forward(x), rtol=u)
    np.testing.assert_allclose(fast.backward(dy), slow.backward(dy), rtol=u)
    below = np.abs(np.minimum(x, 0) * dy).sum(axis=tuple(k for k in range(x.ndim) if k != 1 or shared))
    error = np.abs(fast.gradients["negative_slope"] - slow.gradients["negative_slope"])
    assert (error <= x.size * u * below).all()
    assert below.max() > 0


def network(count):
    """Return a network with PReLU first, in the middle and behind features."""
    layers = [PReLU(3 if count else 1), Conv2D(8, 3), PReLU(8 if count else 1), GlobalAvgPool2D(), Dense(9)]
    return [*layers, PReLU(9 if count else 1), Dense(4)]


@pytest.mark.parametrize("count", [False, True], ids=["shared", "each"])
def test_a_training_has_the_same_bits_on_any_number_of_threads(count, monkeypatch):
    monkeypatch.setattr("fastcnn.training.step.SHARD_WORK", 1)
    x, y = normal(64, 3, 10, 9, dtype=np.float32), np.arange(64) % 4
    digests = set()
    for n in (1, 3):
        fastcnn.set_num_threads(n)
        try:
            model = Sequential(network(count)).build((3, 10, 9), random_state=0)
            Trainer(model, random_state=0).fit(x, y, epochs=2, batch_size=32, verbose=0)
        finally:
            fastcnn.set_num_threads(None)
        digests.add(model.digest())
        slopes = [value for name, value in model.parameters.items() if name.endswith("negative_slope")]
    assert len(digests) == 1
    assert all((slope != 0.25).any() for slope in slopes)


def test_frozen_slopes_stay():
    x, y = normal(8, 3, 6, 6, dtype=np.float32), np.arange(8) % 4
    model = Sequential([PReLU(3, trainable=False), Conv2D(4, 3), PReLU(), Flatten(), Dense(4)])
    model.build((3, 6, 6), random_state=0)
    Trainer(model, random_state=0).fit(x, y, epochs=1, batch_size=4, verbose=0)
    np.testing.assert_array_equal(model.layers[0].negative_slope, 0.25)
    assert model.layers[2].negative_slope != 0.25


def test_gradients_are_slopes():
    model = Sequential(network(True)).build((3, 7, 6), random_state=0)
    report = fastcnn.check_gradients(model, normal(4, 3, 7, 6), np.arange(4))
    assert report.right, str(report)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: PReLU(0), ValueError, "PReLU: num_parameters: expected a positive int; got 0"),
        (lambda: PReLU(1, "steep"), TypeError, "PReLU: init: expected a number; got 'steep'"),
        (
            lambda: PReLU(3).build((4, 2, 2)),
            ValueError,
            "num_parameters: expected 1 or the number of channels, 4; got 3",
        ),
        (lambda: PReLU(3).build((3, 2, 2)).forward(normal(1, 2, 2, 2)), ValueError, "expected 1 or the number of chan"),
        (lambda: PReLU().negative_slope, AttributeError, "PReLU: negative_slope: not there before build"),
    ],
)
def test_wrong_arguments_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()
