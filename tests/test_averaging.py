"""The moving average of the weights, and clipping by the global norm."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

import fastcnn
import reference
from fastcnn import ExponentialMovingAverage, Trainer
from tests.arrays import normal
from tests.optimizers import assert_close, build, own_loop, x, y


def test_averages_are_the_references():
    model, fast, ref = build(), ExponentialMovingAverage(0.6), reference.ExponentialMovingAverage(0.6)
    assert fast.averages == {}

    def after():
        fast.update(model)
        ref.update(dict(model.parameters))

    own_loop(model, fastcnn.SGD(0.5), 5, after)
    assert_close(fast.averages, ref.averages)
    assert fast.steps == 5


def test_averages_swapped_in_and_out():
    trainer = Trainer(build(), optimizer=fastcnn.SGD(0.5), ema=ExponentialMovingAverage(0.6))
    model, ema = trainer.model, trainer.ema
    with pytest.raises(RuntimeError, match=r"^ExponentialMovingAverage: swapped_in: no average yet"), ema.swapped_in():
        pass
    for _ in range(3):
        trainer.step(x, y)
    last, average, flat = model.get_weights(), {k: v.copy() for k, v in ema.averages.items()}, model._flat
    averaged = build()
    for name, array in average.items():
        averaged.parameters[name][...] = array
    predicted = model.forward(x)
    with contextlib.suppress(ZeroDivisionError), ema.swapped_in():
        np.testing.assert_array_equal(model.forward(x), averaged.forward(x))
        assert_close(model.parameters, average, 0)
        with pytest.raises(RuntimeError, match="leave `with` first"):
            trainer.step(x, y)
        with pytest.raises(RuntimeError, match="leave `with` first"), ema.swapped_in():
            pass
        assert_close(model.parameters, average, 0)
        raise ZeroDivisionError
    assert model._flat is flat
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), last, strict=True))
    np.testing.assert_array_equal(model.forward(x), predicted)
    assert_close(ema.averages, average, 0)
    trainer.step(x, y)


def test_clipping_is_the_references():
    for max_norm in (1e-3, 0.1, 100.0):
        gradients = {"a": normal(3, 4), "b": normal(5, seed=1)}
        expected = {name: array.copy() for name, array in gradients.items()}
        norm = fastcnn.clip_by_global_norm(gradients, max_norm)
        assert norm == pytest.approx(reference.clip_by_global_norm(expected, max_norm), rel=1e-12)
        assert_close(gradients, expected, 1e-12)
        model, twin = build(), build()
        own_loop(twin, fastcnn.SGD(0.0), 1)
        expected = {name: np.array(array) for name, array in twin.gradients.items()}
        norm = reference.clip_by_global_norm(expected, max_norm)
        optimizer = fastcnn.SGD(0.0, clip_norm=max_norm)
        own_loop(model, optimizer, 1)
        assert optimizer.gradient_norm == pytest.approx(norm, rel=1e-12)
        assert_close(model.gradients, expected, 1e-12)
