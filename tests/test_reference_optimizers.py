"""The reference's optimizers and schedules, step by step."""

from __future__ import annotations

import math

import numpy as np
import pytest

import reference

OPTIMIZERS = {
    "SGD": lambda: reference.SGD(0.1),
    "SGD-momentum": lambda: reference.SGD(0.1, 0.9),
    "SGD-nesterov": lambda: reference.SGD(0.1, 0.9, True, 0.01),
    "Adam": lambda: reference.Adam(0.1),
    "AdamW": lambda: reference.AdamW(0.1),
    "RMSprop": lambda: reference.RMSprop(0.1),
    "RMSprop-centered": lambda: reference.RMSprop(0.1, momentum=0.5, centered=True),
    "Lion": lambda: reference.Lion(0.1, weight_decay=0.1),
}
every_optimizer = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())


def normal(*shape, seed=0):
    return np.random.RandomState(seed).standard_normal(shape)


@every_optimizer
def test_steps_in_place_and_each_parameter_by_itself(make):
    parameters = {"0.filters": normal(2, 3), "1.weights": normal(4, seed=1)}
    views, old = dict(parameters), {name: array.copy() for name, array in parameters.items()}
    alone = {"1.weights": parameters["1.weights"].copy()}
    together, single = make(), make()
    for seed in range(3):
        gradients = {name: normal(*array.shape, seed=seed) for name, array in parameters.items()}
        before = {name: gradient.copy() for name, gradient in gradients.items()}
        together.step(parameters, gradients)
        single.step(alone, {"1.weights": gradients["1.weights"]})
        for name, gradient in gradients.items():
            np.testing.assert_array_equal(gradient, before[name])
    assert together.steps == 3
    for name, parameter in parameters.items():
        assert parameter is views[name]
        assert not np.array_equal(parameter, old[name])
    np.testing.assert_array_equal(alone["1.weights"], parameters["1.weights"])


@every_optimizer
def test_makes_a_bowl_small_and_follows_a_changed_rate(make):
    optimizer, x = make(), {"weights": np.array([3.0, -2.0])}
    for step in range(400):  # Adam and Lion overshoot, and circle the minimum at about the distance of one step
        optimizer.learning_rate = 0.1 * 0.99**step
        optimizer.step(x, {"weights": 2 * x["weights"]})
    assert np.abs(x["weights"]).max() < 0.01
    optimizer.learning_rate = 0
    before = x["weights"].copy()
    optimizer.step(x, {"weights": 2 * x["weights"]})
    np.testing.assert_array_equal(x["weights"], before)


@every_optimizer
def test_wrong_gradients_change_nothing(make):
    optimizer, parameters = make(), {"a": np.ones(3), "b": np.ones(2)}
    with pytest.raises(ValueError, match=r"gradients: expected names \['a', 'b'\], got \['a'\]"):
        optimizer.step(parameters, {"a": np.ones(3)})
    with pytest.raises(ValueError, match=r"gradients\['b'\]: expected shape \(2,\), got \(3,\)"):
        optimizer.step(parameters, {"a": np.ones(3), "b": np.ones(3)})
    assert optimizer.steps == 0
    np.testing.assert_array_equal(parameters["a"], 1)


def test_sgd_written_out():
    for momentum, nesterov, weight_decay in [(0, False, 0), (0.9, False, 0.1), (0.8, True, 0.2)]:
        optimizer, p = reference.SGD(0.1, momentum, nesterov, weight_decay), {"x": np.array([2.0])}
        expected, v = 2.0, 0.0
        for g in (1.0, -3.0, 0.5):
            optimizer.step(p, {"x": np.array([g])})
            d = g + weight_decay * expected
            v = momentum * v + d
            expected -= 0.1 * (d + momentum * v if nesterov else v)
            assert p["x"][0] == pytest.approx(expected, rel=1e-14)


def test_adam_and_adamw_written_out():
    for make, l2, decoupled in [(reference.Adam, 0.1, 0), (reference.AdamW, 0, 0.1)]:
        optimizer, p = make(0.1, (0.8, 0.9), 1e-3, 0.1), {"x": np.array([2.0])}
        expected, m, v = 2.0, 0.0, 0.0
        for t, gradient in enumerate((1.0, -3.0, 0.5), start=1):
            optimizer.step(p, {"x": np.array([gradient])})
            expected -= 0.1 * decoupled * expected
            g = gradient + l2 * expected
            m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g**2
            expected -= 0.1 * (m / (1 - 0.8**t)) / (math.sqrt(v / (1 - 0.9**t)) + 1e-3)
            assert p["x"][0] == pytest.approx(expected, rel=1e-14)


def test_rmsprop_written_out():
    for momentum, centered in [(0, False), (0.5, False), (0.5, True)]:
        optimizer, p = reference.RMSprop(0.1, 0.9, 1e-3, 0.1, momentum, centered), {"x": np.array([2.0])}
        expected, v, a, b = 2.0, 0.0, 0.0, 0.0
        for gradient in (1.0, -3.0, 0.5):
            optimizer.step(p, {"x": np.array([gradient])})
            g = gradient + 0.1 * expected
            v, a = 0.9 * v + 0.1 * g**2, 0.9 * a + 0.1 * g
            b = momentum * b + g / (math.sqrt(v - a**2 if centered else v) + 1e-3)
            expected -= 0.1 * b
            assert p["x"][0] == pytest.approx(expected, rel=1e-14)


def test_lion_written_out():
    optimizer, p = reference.Lion(0.1, (0.5, 0.9), 0.2), {"x": np.array([2.0])}
    expected, m = 2.0, 0.0
    for g in (1.0, -0.05, 3.0, 0.0):
        optimizer.step(p, {"x": np.array([g])})
        expected -= 0.1 * (np.sign(0.5 * m + 0.5 * g) + 0.2 * expected)
        m = 0.9 * m + 0.1 * g
        assert p["x"][0] == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("make", [reference.AdamW, reference.Lion])
def test_decoupled_decay_leaves_biases_and_norms_alone(make):
    names = ["0.filters", "0.biases", "layers.1.gamma", "layers.1.beta", "weights"]
    parameters = {name: np.ones(2) for name in names}
    zeros = {name: np.zeros(2) for name in names}
    make(0.1, weight_decay=0.5, no_decay=("biases", "gamma", "beta")).step(parameters, zeros)
    for name, parameter in parameters.items():
        np.testing.assert_allclose(parameter, 0.95 if name in ("0.filters", "weights") else 1)
    make(0.1, weight_decay=0.5).step(parameters, zeros)
    np.testing.assert_allclose(parameters["0.biases"], 0.95)


def test_clip_by_global_norm():
    gradients = {"a": np.array([3.0, 0.0]), "b": np.array([[4.0]])}
    views = dict(gradients)
    assert reference.clip_by_global_norm(gradients, 10) == 5
    np.testing.assert_array_equal(gradients["a"], [3, 0])
    assert reference.clip_by_global_norm(gradients, 1) == 5
    np.testing.assert_allclose(gradients["a"], [0.6, 0], rtol=1e-6)
    np.testing.assert_allclose(gradients["b"], [[0.8]], rtol=1e-6)
    assert all(gradients[name] is views[name] for name in views)
    assert reference.clip_by_global_norm({"a": np.zeros(3)}, 1) == 0


def test_exponential_moving_average():
    average, p = reference.ExponentialMovingAverage(0.75), {"x": np.array([1.0, 2.0])}
    average.update(p)
    np.testing.assert_array_equal(average.averages["x"], [1, 2])
    p["x"] += 4
    np.testing.assert_array_equal(average.averages["x"], [1, 2])  # a copy
    average.update(p)
    np.testing.assert_array_equal(average.averages["x"], [2, 3])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: reference.SGD(-1), "SGD: learning_rate: expected a number ≥ 0, got -1"),
        (lambda: reference.SGD(np.inf), "SGD: learning_rate: .* got inf"),
        (lambda: reference.SGD(momentum=-0.1), "SGD: momentum: .* got -0.1"),
        (lambda: reference.SGD(nesterov=True), "SGD: nesterov: expected a momentum above 0 with it, got 0.0"),
        (lambda: reference.Adam(betas=(0.9, 1.0)), r"Adam: betas\[1\]: expected a number ≥ 0 and < 1, got 1.0"),
        (lambda: reference.Adam(betas=(1.0, 0.9)), r"Adam: betas\[0\]: .* got 1.0"),
        (lambda: reference.Adam(betas=(0.9, -0.1)), r"Adam: betas\[1\]: .* got -0.1"),
        (lambda: reference.Adam(epsilon=-1), "Adam: epsilon: .* got -1"),
        (lambda: reference.AdamW(weight_decay=-1), "AdamW: weight_decay: .* got -1"),
        (lambda: reference.RMSprop(alpha=1), "RMSprop: alpha: .* got 1"),
        (lambda: reference.Lion(betas=(-1, 0.9)), r"Lion: betas\[0\]: .* got -1"),
        (lambda: reference.clip_by_global_norm({}, 0), "clip_by_global_norm: max_norm: expected a number > 0, got 0"),
        (lambda: reference.ExponentialMovingAverage(1.0), "ExponentialMovingAverage: decay: .* got 1.0"),
        (lambda: reference.StepDecay(0.1, 0), "StepDecay: step_size: .* at least 1, got 0"),
        (lambda: reference.CosineDecay(-0.1, 5), "CosineDecay: learning_rate: .* got -0.1"),
        (lambda: reference.OneCycle(0.1, 5, warmup=2), "OneCycle: warmup: .* got 2"),
        (lambda: reference.WarmUp(reference.ConstantRate(1), 0), "WarmUp: steps: .* at least 1, got 0"),
        (lambda: reference.ReduceOnPlateau(0.1, factor=1), "ReduceOnPlateau: factor: .* got 1"),
        (lambda: reference.ReduceOnPlateau(0.1, mode="low"), "ReduceOnPlateau: mode: .* got 'low'"),
        (lambda: reference.ConstantRate(0.1)(-1), "ConstantRate: step: .* at least 0, got -1"),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match="^" + message):
        make()


# ----------------------------------------------------------------------------------------------------------- schedules


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (reference.ConstantRate(0.3), {0: 0.3, 7: 0.3}),
        (reference.StepDecay(8.0, 3, 0.5), {0: 8, 2: 8, 3: 4, 5: 4, 6: 2}),
        (reference.ExponentialDecay(8.0, 0.5), {0: 8, 1: 4, 3: 1}),
        (reference.CosineDecay(4.0, 8, 2.0), {0: 4, 4: 3, 8: 2, 9: 2, 16: 2, 2: 3 + math.sqrt(0.5)}),
        (reference.OneCycle(25.0, 21, warmup=11 / 21), {0: 1, 5: 13, 10: 25, 15: 12.50005, 20: 1e-4, 99: 1e-4}),
        (reference.OneCycle(25.0, 10, warmup=0.05), {9: 1e-4}),
        (reference.OneCycle(25.0, 10, warmup=1.0), {0: 1, 9: 1e-4}),
        (reference.OneCycle(25.0, 1), {0: 1e-4}),
        (reference.WarmUp(reference.ExponentialDecay(3.0, 0.5), 4), {0: 1, 2: 2, 4: 3, 5: 1.5}),
        (reference.WarmUp(reference.ConstantRate(2.0), 2, 0.0), {0: 0, 1: 1, 2: 2}),
    ],
)
def test_schedules(schedule, expected):
    for step, rate in expected.items():
        assert schedule(step) == pytest.approx(rate, rel=1e-12)


def test_reduce_on_plateau():
    plateau = reference.ReduceOnPlateau(1.0, 0.5, patience=1, threshold=0.1, cooldown=1, minimum=0.2)
    losses = [10, 8, 7.5, 7.3, 5, 5, 5, 5, 5, 5, 5, 5, 5]
    #         b   b  .    cut  b  .  cut rest . cut rest . cut
    rates = [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.2, 0.2, 0.2, 0.2]
    assert [plateau.report(loss) for loss in losses] == rates
    assert plateau.best == 5
    level = reference.ReduceOnPlateau(1.0, 0.5, patience=0, threshold=0)
    assert [level.report(1.0) for _ in range(3)] == [1, 0.5, 0.25]  # no improvement
    rising = reference.ReduceOnPlateau(1.0, 0.5, patience=0, mode="max")
    assert [rising.report(accuracy) for accuracy in (0.1, 0.5, 0.5, 0.6, 0.2)] == [1, 1, 0.5, 0.5, 0.25]
    level = reference.ReduceOnPlateau(1.0, 0.5, patience=0, threshold=0, mode="max")
    assert [level.report(1.0) for _ in range(3)] == [1, 0.5, 0.25]
