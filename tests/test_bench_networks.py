"""The random networks of the bench: what `bench.random_networks` says of their distribution, and one profile."""

from __future__ import annotations

import math

import pytest

from bench.networks import NETWORKS, all_places, places, step_flops
from bench.profile import profile
from bench.random_networks import MOST_FLOPS, describe, draw
from bench.sides.ours import model_of

DRAWN = [(0, number) for number in range(30)]


@pytest.mark.parametrize(("seed", "number"), DRAWN)
def test_a_network_is_of_the_distribution_that_is_documented(seed, number):
    network = draw(seed, number)
    assert network == draw(seed, number)
    assert step_flops(network) <= MOST_FLOPS
    channels, height, width = network.input_shape
    assert 1 <= channels <= 5
    assert height == width
    assert 8 <= height <= 64
    assert 1 <= network.batch <= 128
    convolutions = [place for place in all_places(network) if place.layer.kind == "Conv2D"]
    assert convolutions
    assert all(5 <= place.after[0] <= 256 and 1 <= place.layer.arguments["filter_size"] <= 7 for place in convolutions)


@pytest.mark.parametrize(("seed", "number"), DRAWN)
def test_our_twin_has_the_shapes_that_the_bench_gives_its_layers(seed, number):
    network = draw(seed, number)
    model = model_of(network)
    shape = model.input_shape
    for layer, place in zip(model.layers, places(network), strict=True):
        shape = layer.output_shape(shape)
        assert math.prod(shape) == math.prod(place.after), describe(network)


def test_numbers_and_seeds_give_different_networks():
    assert len({describe(draw(seed, number)) for seed in range(3) for number in range(10)}) == 30


def test_a_profile_names_each_operation_that_takes_time():
    lines = profile(NETWORKS["notebook"])
    assert all(line.seconds > 0 for line in lines)
    assert 0.8 < sum(line.share for line in lines) <= 1.0 + 1e-9
    assert {"forward", "backward"} <= {line.direction for line in lines}
