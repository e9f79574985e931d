"""Two hundred random networks against the reference; and the comparison itself: it sees faults, and knows kinks."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn
from tests import random_networks
from tests.network_draws import Case, draw_case
from tests.random_networks import case_of, check, expect
from tests.rounding import Rounding, kink

SEEDS, TOGETHER = 200, 10


@pytest.mark.parametrize("first", range(0, SEEDS, TOGETHER))
def test_networks(first):
    """Of ten, two may end early, where rounding decides: two numbers of a maximum that should be equal, for example."""
    ends = [check(case_of(seed)) for seed in range(first, first + TOGETHER)]
    assert sum(map(bool, ends)) <= 2, ends


def test_seeds_draw_all_layers_and_the_same_again():
    drawn = "".join(map(str, map(draw_case, range(SEEDS))))
    layers = {name for name in fastcnn.__all__ if issubclass(kind(name), fastcnn.Layer)}
    assert layers - {"Layer", "Sequential", "CustomLayer"} <= {name for name in layers if f"    {name} " in drawn}
    assert drawn.startswith("".join(map(str, map(draw_case, range(20)))))


def kind(name: str) -> type:
    one = getattr(fastcnn, name)
    return one if isinstance(one, type) else object


def small_case(dtype, specs, size) -> Case:
    """Return a network of these layers and a dense one."""
    ends, loss = [("Flatten", {}), ("Dense", {"nodes": 3})], ("CrossEntropy", {})
    return Case(
        0, (2, *size), [*specs, *ends], (3,), 4, dtype, 1, False, "normal", loss, "classes", False, optimizer="SGD"
    )  # fmt: skip


@pytest.mark.parametrize("name", ["dL_dinput", "gradient 0.biases", "loss 3", "prediction, one by one"])
@pytest.mark.parametrize(("dtype", "share"), [(np.float32, 1e-2), (np.float64, 1e-9)])
def test_small_faults_are_seen(name, dtype, share, monkeypatch):
    """One number of a result is wrong by a small share of the largest."""
    case = small_case(dtype, [("Conv2D", {"num_filters": 5, "filter_size": 3}), ("Tanh", {})], (5, 5))
    right = random_networks.engine_results

    def wrong(case):
        results = right(case)
        array = np.array(results[name])
        array.flat[-1] += share * np.abs(array).max()
        return {**results, name: array}

    assert not check(case)
    monkeypatch.setattr(random_networks, "engine_results", wrong)
    with pytest.raises(AssertionError, match=f"{name}: 1 of"):
        check(case)


def rounded(compare) -> str:
    """Return whether a comparison is a kink under roundings to float32."""
    roundings = [Rounding(np.float32, rng) for rng in (None, np.random.RandomState(0), np.random.RandomState(1))]
    for rounding in roundings:
        compare(rounding)
    return kink(*roundings[:1], roundings[1:])


def test_kinks_are_where_roundings_decide():
    far, near, zero = np.array([[1.0, -0.5]]), np.array([[1.0, 1e-7]]), np.array([[1.0, 0.0]])
    assert not rounded(lambda rounding: rounding.compare("far", rounding(far, 1)))
    assert "near" in rounded(lambda rounding: rounding.compare("near", rounding(near, 1)))
    assert not rounded(lambda rounding: rounding.compare("a zero that is one", rounding(zero, np.abs(zero))))
    assert "noise" in rounded(lambda rounding: rounding.compare("noise that should be zero", rounding(zero, 1)))
    ties = np.array([[2.0, 1.0, 2.0, -np.inf]])
    assert not rounded(lambda rounding: rounding.compare_all("copies", rounding.alike(ties, 1)))
    assert "sums" in rounded(lambda rounding: rounding.compare_all("equal sums", rounding(ties, 1)))


def test_what_cannot_be_decided_is_said():
    """Each window of the mean holds the whole image: which of four equal sums is the largest, rounding decides."""
    case = small_case(
        np.float64, [("AvgPool2D", {"pool_size": 3, "stride": 1, "padding": 1}), ("MaxPool2", {})], (2, 2)
    )
    found = expect(case)
    assert "comparisons of MaxPool2" in found.end
    assert list(found.exact) == ["output"]
