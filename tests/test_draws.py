"""Random numbers: as many words as documented, the right distribution, the reference's bits, and pinned ones."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastcnn import draws
from fastcnn.data.augmentation import epoch_order
from fastcnn.digest import digest
from reference.draws import normal as reference_normal

GENERATORS = {
    "RandomState": np.random.RandomState,
    "PCG64": np.random.default_rng,
    "Philox": lambda seed: np.random.Generator(np.random.Philox(seed)),
    "MT19937": lambda seed: np.random.Generator(np.random.MT19937(seed)),
}
each_generator = pytest.mark.parametrize("make", GENERATORS.values(), ids=GENERATORS)


def phi(x: float) -> float:
    return math.erfc(-x / math.sqrt(2)) / 2


def kolmogorov_smirnov(numbers: np.ndarray, distribution) -> float:
    """Return √n times the largest distance between the distribution of numbers and the one that they should have."""
    wanted, n = np.array([distribution(x) for x in np.sort(numbers).tolist()]), len(numbers)
    steps = np.arange(n + 1) / n
    return math.sqrt(n) * max(np.max(steps[1:] - wanted), np.max(wanted - steps[:-1]))


@each_generator
def test_normal_numbers_are_normal(make):
    """Bounds of five standard deviations; 2.3 is exceeded by chance once in 20,000 times (Kolmogorov)."""
    n = 20_000
    numbers = draws.normal(make(3), (n,))
    assert abs(numbers.mean()) < 5 / math.sqrt(n)
    assert abs(numbers.var() - 1) < 5 * math.sqrt(2 / n)
    assert abs((numbers**4).mean() - 3) < 5 * math.sqrt(96 / n)
    assert kolmogorov_smirnov(numbers, phi) < 2.3
    for lag in (1, 2, 3):  # pairs come from one pair of uniform numbers
        assert abs((numbers[lag:] * numbers[:-lag]).mean()) < 5 / math.sqrt(n)
        assert abs((numbers[lag:] ** 2 * numbers[:-lag] ** 2).mean() - 1) < 5 * math.sqrt(8 / n)


@each_generator
def test_uniform_numbers_are_uniform(make):
    numbers = draws.uniform(make(5), 20_000)
    assert 0 <= numbers.min() <= numbers.max() < 1
    assert kolmogorov_smirnov(numbers, lambda x: x) < 2.3
    assert np.array_equal(numbers, (numbers * 2**53).astype(np.int64) / 2**53)


@each_generator
@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (7, 2, 3, 3)], ids=str)
def test_normal_numbers_are_the_references(make, shape):
    """Bit by bit, and with as many words of the generator."""
    ours, theirs = make(1), make(1)
    for _ in range(3):
        np.testing.assert_array_equal(draws.normal(ours, shape), reference_normal(theirs, shape))
    assert draws.below(ours, 2**62) == draws.below(theirs, 2**62)


def test_normal_numbers_of_a_random_state_are_numpys():
    """But for the rounding of NumPy's logarithm, which is the mathematical library's."""
    for n in (2, 4608, 2 * draws.CHUNK + 100):
        ours, theirs = np.random.RandomState(n), np.random.RandomState(n)
        np.testing.assert_allclose(draws.normal(ours, (n,)), theirs.standard_normal(n), rtol=4e-15)
        assert ours.random_sample() == theirs.random_sample()


@each_generator
def test_whole_numbers(make):
    generator = make(2)
    numbers = [draws.below(generator, 3) for _ in range(3000)]
    counts = np.bincount(numbers, minlength=3)
    assert counts.size == 3
    assert np.abs(counts - 1000).max() < 5 * math.sqrt(3000 * 2 / 9)
    assert all(0 <= draws.below(generator, 2**63 - 1) < 2**63 - 1 for _ in range(100))


@pytest.mark.parametrize("n", [1, 2, 3, 64, 65, 1000])
def test_an_order_is_a_permutation(n):
    order = epoch_order(3, 2, n)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(n))
    if n > 60:
        assert not np.array_equal(order, epoch_order(3, 1, n))
        assert not np.array_equal(order, epoch_order(4, 2, n))


def test_all_orders_are_equally_likely():
    n = 6000
    found = {}
    for seed in range(n):
        order = tuple(epoch_order(seed, 5, 4).tolist())
        found[order] = found.get(order, 0) + 1
    assert len(found) == 24
    expected = n / 24
    assert sum((count - expected) ** 2 for count in found.values()) / expected < 23 + 5 * math.sqrt(2 * 23)  # χ²


@pytest.mark.parametrize("lag", [1, 2])
def test_neighbours_in_an_order_are_no_neighbours_in_the_set(lag):
    """The rank correlation of a place with the next one, and of two epochs: five standard deviations."""
    n = 10_000
    first, second = epoch_order(0, 0, n), epoch_order(0, lag, n)
    for a, b in ((first[lag:], first[:-lag]), (first, second), (first, np.arange(n))):
        assert abs(np.corrcoef(a, b)[0, 1]) < 5 / math.sqrt(n)


def test_the_bits_are_pinned():
    arrays = {}
    for name, make in GENERATORS.items():
        arrays[f"{name}.normal"] = draws.normal(make(11), (333, 3))
        arrays[f"{name}.below"] = np.array([draws.below(make(seed), 2**63 - 1) for seed in range(5)])
        arrays[f"{name}.uniform"] = draws.uniform(make(12), 99)
    arrays["order"] = np.concatenate([epoch_order(seed, 3, 100 + seed) for seed in range(9)])
    assert digest(arrays) == "d22b338248108b32c28a0db91905c94e0a18130a10a05cdc867fcc7b3e08104d"
