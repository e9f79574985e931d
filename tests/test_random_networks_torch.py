"""Forty random networks against PyTorch, where it is installed; and the comparison: it sees faults of either side."""

from __future__ import annotations

from dataclasses import replace
from itertools import count, islice

import numpy as np
import pytest

import reference
from tests import random_networks
from tests.network_draws import draw_case
from tests.random_networks import Expected, compare, expectations
from tests.rounding import walk
from tests.test_random_networks import small_case

torch = pytest.importorskip("torch")

from tests import random_networks_torch  # noqa: E402
from tests.random_networks_torch import LAYERS, case_of, check, lacks, witnessed  # noqa: E402

NETWORKS, TOGETHER = 40, 10
# Those that are drawn in double precision, as their code is compiled once; from where on 40 draw all layers.
DOUBLE = (seed for seed in count(155) if draw_case(seed).dtype is np.float64 and not lacks(case_of(seed)))
SEEDS = list(islice(DOUBLE, NETWORKS))
COMPOSED = {"BatchNorm", "Concat", "Residual"}


def is_tight(found: Expected) -> bool:
    """Tell whether a fault of a billionth is seen in each array."""
    return all(
        found.tolerance[name] <= 1e-9 * max(1, np.abs(array).max(initial=0)) for name, array in found.exact.items()
    )


@pytest.mark.parametrize("first", range(0, NETWORKS, TOGETHER))
def test_networks(first):
    """Of ten, two may end early at a kink, and one may be so badly conditioned that a billionth is not seen."""
    judged = []
    for seed in SEEDS[first : first + TOGETHER]:
        (found,) = expectations(case_of(seed))
        judged.append(witnessed(found))
        compare(judged[-1])
    assert sum(bool(found.end) for found in judged) <= 2
    assert sum(not is_tight(found) for found in judged) <= 1


def test_seeds_draw_all_layers_that_torch_has():
    drawn = {type(layer).__name__ for seed in SEEDS for layer in walk(case_of(seed).layers(reference))}
    assert drawn == LAYERS.keys() | COMPOSED


def case(loss="CrossEntropy"):
    """Return a small network that needs nothing but double precision."""
    drawn = small_case(np.float64, [("Conv2D", {"num_filters": 5, "filter_size": 3}), ("Tanh", {})], (5, 5))
    return drawn if loss == "CrossEntropy" else replace(drawn, loss=(loss, {}), targets="numbers")


@pytest.mark.parametrize(
    "name",
    ["output", "dL_dinput", "gradient 0.filters", "loss 3", "parameter 3.weights", "evaluation", "prediction"],
)
def test_small_faults_of_the_engine_are_seen(name, monkeypatch):
    """A result is wrong by a billionth."""
    right = random_networks.engine_results
    assert not check(case())
    monkeypatch.setattr(
        random_networks, "engine_results", lambda case: {**right(case), name: right(case)[name] * (1 + 1e-9)}
    )
    with pytest.raises(AssertionError, match=f"{name}: "):
        check(case())


def test_pytorch_is_the_judge(monkeypatch):
    """Its numbers are compared, not those of the reference, with which the engine agrees all the same."""
    monkeypatch.setitem(LAYERS, "Tanh", lambda layer, x, of: torch.tanh(x) * (1 + 1e-9))
    assert not random_networks.check(case())
    with pytest.raises(AssertionError, match="output: "):
        check(case())


def test_losses_of_pytorch_are_compared(monkeypatch):
    assert not check(case("MeanSquaredError"))
    monkeypatch.setitem(random_networks_torch.ELEMENTWISE, "MeanSquaredError", torch.nn.functional.l1_loss)
    with pytest.raises(AssertionError, match="loss 0: "):
        check(case("MeanSquaredError"))


def test_networks_that_pytorch_lacks_are_left_out():
    specs = [("Concat", {"branches": [[], [("Dropout", {"rate": 0.5})]]}), ("MaxPool2", {}), ("Dropout", {"rate": 0.0})]
    assert lacks(small_case(np.float64, specs, (4, 4))) == {"MaxPool2", "Dropout"}
    assert lacks(small_case(np.float64, specs[2:], (4, 4))) == set()
