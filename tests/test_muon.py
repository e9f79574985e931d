"""Muon: what is a matrix, that its steps are orthogonal, what it keeps, and that no number lies beyond its memory."""

from __future__ import annotations

import numpy as np
import pytest

import reference
from fastcnn import (
    BatchNorm,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    ExponentialMovingAverage,
    Flatten,
    Muon,
    ReLU,
    Sequential,
    Trainer,
)
from reference.optimizers import newton_schulz
from tests.arrays import both_dtypes, normal
from tests.guards import guard_all_buffers
from tests.optimizers import build, x, y


@pytest.mark.parametrize("shape", [(3, 50), (50, 3), (7, 7)])
def test_the_references_steps_are_nearly_orthogonal(shape):
    """Same singular vectors, values about 1: what Jordan's coefficients are known to give."""
    matrix = normal(*shape)
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    step = newton_schulz(matrix, 6)
    inner = left.T @ step @ right.T
    np.testing.assert_allclose(inner, np.diag(np.diag(inner)), atol=1e-12)
    large = values > 0.01 * values[0]
    assert large.all()
    assert ((np.diag(inner) > 0.6) & (np.diag(inner) < 1.3)).all()


@pytest.mark.parametrize(("adjust", "factor"), [("original", (4 / 3) ** 0.5), ("match_rms_adamw", 0.2 * 2)])
def test_a_step_has_the_length_of_its_learning_rate(adjust, factor):
    """All singular values of a step of an orthogonal gradient are one polynomial of a third, iterated."""
    optimizer = Muon(0.1, 0.5, adjust_learning_rate=adjust)
    model = Sequential([Dense(4, bias=False)]).build((3,), random_state=0, dtype=np.float64)
    before = model.parameters["0.weights"].copy()
    model.forward(np.eye(3))
    gradient, _ = np.linalg.qr(normal(4, 3))
    model.backward(3 * gradient.T)
    optimizer.step(model)
    step = (before - model.parameters["0.weights"]) / (0.1 * factor)
    value = 1 / 3**0.5
    for _ in range(5):
        value = 3.4445 * value - 4.7750 * value**3 + 2.0315 * value**5
    np.testing.assert_allclose(step, value * gradient.T, rtol=1e-6)


def test_what_is_no_matrix_takes_adams_step():
    """Biases, norms, one filter, one output, and what is asked for; a frozen layer takes none."""
    layers = [Conv2D(4, 3, trainable=False), BatchNorm(), Conv2D(1, 3), Flatten(), Dense(6), ReLU(), Dense(3), Dense(1)]
    model = Sequential(layers).build((2, 8, 8), random_state=0)
    trainer = Trainer(model, "mean_squared_error", Muon(adam=("6.w*",)))
    trainer.step(x, normal(12, 1))
    second = {name: bool(array.any()) for name, array in trainer.optimizer.state["second_moment"].items()}
    adam = {name for name, used in second.items() if used}
    assert adam == {"1.gamma", "1.beta", "2.filters", "2.biases", "4.biases", "6.weights", "6.biases", "7.weights",
                    "7.biases"}  # fmt: skip
    assert len(trainer.optimizer._matrices) == 1


def test_depthwise_filters_are_one_matrix():
    model = Sequential([DepthwiseConv2D(3, bias=False), Flatten(), Dense(2)]).build((6, 5, 5), random_state=0)
    before = {name: array.astype(float) for name, array in model.parameters.items()}
    trainer, twin = Trainer(model, optimizer=Muon(adam=("2.*",))), reference.Muon(adam=("2.*",))
    trainer.step(normal(4, 6, 5, 5), np.arange(4) % 2)
    twin.step(before, {name: np.array(array, float) for name, array in model.gradients.items()})
    for name, array in before.items():
        np.testing.assert_allclose(model.parameters[name], array, atol=1e-5, err_msg=name)


VARIANTS = {
    "normalize": {"normalize": True, "ns_steps": 3},
    "normalize-decay": {"normalize": True, "weight_decay": 0.5, "no_decay": ("biases",)},
    "sgd": {"sgd": ("*.biases", "7.*"), "sgd_factor": 2.0, "weight_decay": 0.5},
    "sgd-no-decay": {"sgd": ("0.filters", "7.*"), "adam": ("5.*",), "weight_decay": 0.5, "no_decay": ("biases",)},
    "sgd-plain": {"sgd": ("*",), "nesterov": False, "normalize": True},
}


@both_dtypes
@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS.keys())
def test_norms_and_plain_momentum_equal_the_loops(settings, dtype):
    """Four steps on one thread and two, of gradients that the twin gets too."""
    for threads in (1, 2):
        model = build(dtype)
        expected = {name: np.array(array, float) for name, array in model.parameters.items()}
        trainer = Trainer(model, optimizer=Muon(0.02, 0.6, **settings), threads=threads)
        twin = reference.Muon(0.02, 0.6, **settings)
        for step in range(4):
            trainer.step(np.roll(x, step, axis=3), y)
            twin.step(expected, {name: np.array(array, float) for name, array in model.gradients.items()})
        for name, array in expected.items():
            bound = 1e-10 if dtype == np.float64 else 2e-5
            np.testing.assert_allclose(model.parameters[name], array, atol=bound, rtol=bound, err_msg=name)


def test_a_matrix_is_normalised_and_one_of_zeros_stays():
    """Norm √rows, of filters by their number, of dense weights by their outputs; a step of rate 0 shows it."""
    model = Sequential([Conv2D(5, 3), Flatten(), Dense(7), Dense(3)]).build((2, 6, 6), random_state=0)
    model.parameters["3.weights"][...] = 0
    Trainer(model, optimizer=Muon(0.0, normalize=True)).step(normal(4, 2, 6, 6), np.arange(4) % 3)
    norms = {name: float(np.linalg.norm(array)) for name, array in model.parameters.items()}
    assert norms["0.filters"] == pytest.approx(5**0.5, rel=1e-6)
    assert norms["2.weights"] == pytest.approx(7**0.5, rel=1e-6)
    assert norms["3.weights"] == 0


@both_dtypes
def test_nothing_is_written_beyond_its_memory(dtype, monkeypatch):
    """Matrices that fill no registers, tall and wide, on two threads, with an average behind them."""
    guards = guard_all_buffers(monkeypatch)
    layers = [Conv2D(5, 3), ReLU(), Conv2D(33, 3), ReLU(), Flatten(), Dense(17), ReLU(), Dense(3)]
    model = Sequential(layers).build((2, 8, 8), random_state=0, dtype=dtype)
    rule = Muon(clip_norm=1.0, normalize=True, sgd=("7.*",))
    trainer = Trainer(model, optimizer=rule, threads=2, ema=ExponentialMovingAverage(0.5))
    for _ in range(3):
        trainer.step(x, y)
    guards.check()
    assert np.isfinite(model._flat).all()
    assert len(guards.all) > 50


def test_the_average_sees_the_matrices_after_their_step():
    trainer = Trainer(build(np.float32), optimizer=Muon(), ema=ExponentialMovingAverage(0.0))
    for threads in (1, 2, 2):
        trainer.threads = threads
        trainer.step(x, y)
        for name, array in trainer.model.parameters.items():
            np.testing.assert_array_equal(trainer.ema.averages[name], array)


def test_settings_take_effect_at_the_next_step_and_keep_the_momentum():
    """After another number of iterations, one trainer is where one is that had it, and the same state, from then on."""
    one, other = (Trainer(build(np.float32), optimizer=Muon(ns_steps=steps)) for steps in (5, 2))
    one.step(x, y)
    other.optimizer.ns_steps = 5
    other.step(x, y)
    assert one.model.digest() == other.model.digest()
    other.optimizer.ns_steps = 3
    momentum = {name: array.copy() for name, array in other.optimizer.state["momentum"].items()}
    for name, array in one.optimizer.state["momentum"].items():
        np.testing.assert_array_equal(momentum[name], array)
    one.step(x, y)
    other.step(x, y)
    assert one.model.digest() != other.model.digest()


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"momentum": 1.0}, ValueError, "Muon: momentum: .* got 1.0"),
        ({"ns_steps": 0}, ValueError, "Muon: ns_steps: expected a whole number of at least 1; got 0"),
        ({"ns_steps": 2.5}, TypeError, "Muon: ns_steps: expected a whole number; got 2.5"),
        ({"adjust_learning_rate": "no"}, ValueError, "Muon: adjust_learning_rate: expected one of 'original', .*'no'"),
        ({"adam": "7.weights"}, TypeError, "Muon: adam: expected a sequence of names; got '7.weights'"),
        ({"adam": ("9.*",)}, ValueError, r"Muon: adam: expected patterns .*; got '9\.\*', which matches none"),
        ({"adam_betas": (0.9, 1.0)}, ValueError, r"Muon: adam_betas\[1\]: .* got 1.0"),
        ({"adam_factor": -1}, ValueError, "Muon: adam_factor: .* got -1"),
        ({"epsilon": 0}, ValueError, "Muon: epsilon: .* got 0"),
        ({"normalize": 1}, TypeError, "Muon: normalize: .* got 1"),
        ({"sgd": "7.weights"}, TypeError, "Muon: sgd: expected a sequence of names; got '7.weights'"),
        ({"sgd": ("9.*",)}, ValueError, r"Muon: sgd: expected patterns .*; got '9\.\*', which matches none"),
        ({"sgd": ("7.*",), "adam": ("*.weights",)}, ValueError, "Muon: sgd: .* both match '7.weights'"),
        ({"sgd_factor": -1}, ValueError, "Muon: sgd_factor: .* got -1"),
    ],
)
def test_wrong_arguments_are_named(settings, error, message):
    with pytest.raises(error, match=message):
        Trainer(build(), optimizer=Muon(**settings))
