"""Steps that are noise divided by itself: found, bounded by the optimizer's formula, and faults are still seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import reference
from fastcnn.ops.convolution import im2col
from tests import random_networks
from tests.network_draws import Case
from tests.noise_steps import NoiseSteps, kept, reach
from tests.optimizers import OPTIMIZERS
from tests.random_networks import case_of, check, engine_results
from tests.test_random_networks import small_case

DIVIDING = [name for name in OPTIMIZERS if not name.startswith(("SGD", "Lion"))]


def in_front_of_a_norm(optimizer: str) -> Case:
    """Return a network whose first biases have no gradient: a batch normalisation takes away what they add."""
    norms = [("Conv2D", {"num_filters": 3, "filter_size": 3}), ("BatchNorm", {}), ("Tanh", {})]
    return replace(small_case(np.float32, norms, (5, 5)), optimizer=optimizer)


def test_biases_in_front_of_a_batch_norm_are_found_and_compared_closely():
    """Seed 5622: noise carries a bias to 1.15 times what two noisy runs had allowed."""
    (found,) = random_networks.expectations(case_of(5622))
    assert not found.end
    random_networks.compare(found)
    assert found.tolerance["evaluation"] < 1e-5


@pytest.mark.parametrize("optimizer", DIVIDING)
def test_networks_with_such_biases(optimizer):
    assert not check(in_front_of_a_norm(optimizer))


def test_only_numbers_within_the_noise_are_carried():
    steps, rng = NoiseSteps(), np.random.RandomState(0)
    exact = {"0.biases": np.array([1e-17, 0.0, 0.5, 1e-5])}
    others = [{"0.biases": exact["0.biases"] + [1e-6, 0, 1e-6, 1e-6] * rng.choice((-1, 1), 4)} for _ in range(2)]
    steps.see(reference.Adam(), exact, others)
    assert steps.carried["0.biases"].tolist() == [True, False, False, False]
    steps.see(reference.Adam(), {"0.biases": np.array([1.0, 0, 0, 0])}, [{"0.biases": np.array([1.0, 0, 0, 0])}])
    assert not steps, "a number that has seen a gradient divides by that from then on"


def test_noise_below_epsilon_is_not_divided_by_itself():
    steps = NoiseSteps()
    steps.see(reference.Adam(), {"0.biases": np.zeros(2)}, [{"0.biases": np.full(2, 1e-10)}])
    assert not steps


@pytest.mark.parametrize("name", DIVIDING)
@pytest.mark.parametrize("shape", [(4,), (6, 3, 2, 2)])
def test_no_gradients_move_a_number_farther_than_the_reach(name, shape):
    """Those that Cauchy and Schwarz name reach it; all others stay within."""
    rng, farthest = np.random.RandomState(1), 0.0
    for draw in range(30):
        optimizer, parameter = OPTIMIZERS[name](reference), rng.standard_normal(shape)
        optimizer.epsilon, key = 1e-30, "0.filters"
        if isinstance(optimizer, reference.Adam | reference.RMSprop):
            optimizer.weight_decay = 0.0  # is part of the gradient
        for t in range(1, 6):
            gradient = 1e-6 * 10 ** rng.uniform(-3, 3) * rng.standard_normal(shape)
            if draw == 0:  # the second moment forgets slowly, the first fast: what has just been seen counts more
                beta1, beta2 = (*getattr(optimizer, "betas", getattr(optimizer, "adam_betas", (0.0, 1.0))),)
                gradient = np.full(shape, (beta2 / max(beta1, 1e-9)) ** t)
            before = parameter.copy()
            optimizer.step({key: parameter}, {key: gradient})
            moved = np.abs(parameter - kept(optimizer, key, before) * before).max()
            far = reach(optimizer, key, parameter)
            assert moved <= far * (1 + 1e-9), (t, draw)
            farthest = max(farthest, moved / far)
    assert farthest > 0.3 if name.startswith("Muon") and len(shape) > 1 else farthest > 0.9


def test_a_step_beyond_the_reach_is_seen(monkeypatch):
    """A bias without gradient that moves by more than Adam's rate is a fault of the optimizer."""

    def too_far(case, path=None):
        results = engine_results(case, path)
        if path:
            path[2]["0.biases"][1] += 0.021
        return results

    monkeypatch.setattr(random_networks, "engine_results", too_far)
    with pytest.raises(AssertionError, match=r"step 2, 0\.biases: 1 of 3 numbers without gradient moved by"):
        check(in_front_of_a_norm("Adam"))


@pytest.mark.parametrize("name", ["gradient 0.biases", "state running_mean, number 0", "evaluation", "prediction"])
def test_faults_of_what_follows_such_biases_are_seen(name, monkeypatch):
    """An error of a thousandth is seen, though noise moves the biases by ten times as much."""

    def wrong(case, path=None):
        results = engine_results(case, path)
        return {**results, name: results[name] + 1e-3 * max(1, np.abs(results[name]).max())}

    monkeypatch.setattr(random_networks, "engine_results", wrong)
    with pytest.raises(AssertionError, match=name):
        check(in_front_of_a_norm("AdamW"))


@pytest.mark.parametrize("norm", [[("BatchNorm", {})], []], ids=["norm", "no-norm"])
def test_a_wrong_gradient_of_a_bias_is_found(norm, monkeypatch):
    def wrong(self, n, x, dy, dw, dbias, *others):
        right(self, n, x, dy, dw, dbias, *others)
        dbias[0] += 0.01

    right = im2col.Im2col.filter_gradient
    monkeypatch.setattr(im2col.Im2col, "filter_gradient", wrong)
    layers = [("Conv2D", {"num_filters": 3, "filter_size": 3, "algorithm": "im2col"}), *norm, ("Tanh", {})]
    with pytest.raises(AssertionError, match=r"gradient 0\.biases: 1 of 3 wrong"):
        check(replace(small_case(np.float32, layers, (5, 5)), optimizer="AdamW"))
