"""The moving average of the weights, and clipping by the global norm."""

from __future__ import annotations

import contextlib
import io

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


# ------------------------------------------------------------------------------------------------- running statistics


def normed(dtype: type = np.float64) -> fastcnn.Sequential:
    layers = [fastcnn.Conv2D(5, 3), fastcnn.BatchNorm(), fastcnn.ReLU(), fastcnn.Flatten(), fastcnn.Dense(3)]
    return fastcnn.Sequential(layers).build((2, 8, 8), random_state=0, dtype=dtype)


@pytest.mark.parametrize("threads", [1, 3])
def test_statistics_are_averaged_and_swapped_in_too(threads):
    average = ExponentialMovingAverage(0.6, statistics=True)
    trainer = Trainer(normed(), optimizer=fastcnn.SGD(0.1), ema=average, threads=threads)
    expected: dict[str, np.ndarray] = {}
    for _ in range(5):
        trainer.step(x, y)
        now = trainer.model._weights()
        expected = {name: 0.6 * expected.get(name, array) + 0.4 * array for name, array in now.items()}
    last = trainer.model.get_weights()
    with trainer.ema.swapped_in():
        assert_close(trainer.model._weights(), expected)
    assert all(map(np.array_equal, trainer.model.get_weights(), last))
    assert {"statistics.1.running_mean", "statistics.1.running_var"} < trainer.ema.get_state().keys()


def test_statistics_are_left_alone_by_default():
    trainer = Trainer(normed(), ema=ExponentialMovingAverage(0.6))
    trainer.step(x, y)
    trainer.step(x, y)
    running = trainer.model.layers[1].running_mean.copy()
    with trainer.ema.swapped_in():
        assert np.array_equal(trainer.model.layers[1].running_mean, running)


# ------------------------------------------------------------------------------------------------ slow weights


def by_hand(every: int, alpha, statistics: bool, steps: int) -> dict[str, np.ndarray]:
    """Return the weights of a training with slow weights in plain NumPy."""
    trainer = Trainer(normed(), optimizer=fastcnn.SGD(0.1, 0.9))
    slow = {name: array.copy() for name, array in trainer.model._weights().items()}
    for step in range(1, steps + 1):
        trainer.step(x, y)
        if step == 1:
            slow |= {name: array.copy() for name, array in trainer.model._state().items()}
        if step % every == 0:
            share = alpha(step) if callable(alpha) else alpha
            for name, array in trainer.model._weights().items():
                if statistics or not name.startswith("1.running"):
                    slow[name] = (1 - share) * slow[name] + share * array
                    array[...] = slow[name]
    return dict(trainer.model._weights())


@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize("alpha", [0.5, 0.0, 1.0, fastcnn.PowerDecay(1.0, 7, 3.0, 0.1)], ids=repr)
def test_slow_weights_are_those_of_plain_numpy(alpha, statistics):
    average = fastcnn.Lookahead(3, alpha, statistics=statistics)
    trainer = Trainer(normed(), optimizer=fastcnn.SGD(0.1, 0.9), ema=average)
    for _ in range(7):
        trainer.step(x, y)
    assert_close(trainer.model._weights(), by_hand(3, alpha, statistics, 7))


def test_slow_weights_go_on_exactly_and_on_any_number_of_threads():
    results = []
    for threads in (1, 2, 3):
        trainer = Trainer(normed(np.float32), optimizer=fastcnn.Adam(0.01), ema=fastcnn.Lookahead(2), threads=threads)
        for _ in range(3):
            trainer.step(x, y)
        file = io.BytesIO()
        fastcnn.save(trainer, file)
        again = fastcnn.load(io.BytesIO(file.getvalue()))
        assert repr(again.ema) == "Lookahead(every=2)"
        for _ in range(3):
            assert trainer.step(x, y) == again.step(x, y)
        results.append(trainer.model.digest())
        assert again.model.digest() == trainer.model.digest()
    assert len(set(results)) == 1


def test_what_an_average_refuses():
    with pytest.raises(ValueError, match="Lookahead: every: expected a whole number of at least 1; got 0"):
        fastcnn.Lookahead(0)
    with pytest.raises(ValueError, match="Lookahead: alpha: expected a finite number >= 0 and <= 1; got 2"):
        fastcnn.Lookahead(alpha=2)
    with pytest.raises(TypeError, match="Trainer: ema: expected an ExponentialMovingAverage or a Lookahead"):
        Trainer(normed(), ema=0.9)
