"""Functions and sums of +, −, ×, ÷ and √ alone: against the mathematical library, and bit for bit as pinned."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from fastcnn import exact
from fastcnn.digest import digest


def grid(low: float, high: float, count: int = 20_000) -> np.ndarray:
    return low + (high - low) * np.random.RandomState(0).random_sample(count)


def units(actual: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference in units in the last place of what is expected."""
    return float(np.max(np.abs(actual - expected) / np.spacing(np.abs(expected))))


# Two units: one of ours, and what the library itself may be off.
@pytest.mark.parametrize("limit", [1e-8, 1.0, 700.0])
def test_exponentials(limit):
    x = grid(-limit, limit)
    assert units(exact.exp(x), np.exp(x)) <= 2


@pytest.mark.parametrize("x", [grid(0.5, 2), grid(1 - 1e-9, 1 + 1e-9), np.exp(grid(-700, 700))], ids=str)
def test_logarithms(x):
    assert units(exact.log(x), np.log(x)) <= 2


def test_ends_of_the_range():
    with np.errstate(all="raise"):
        assert exact.exp([0.0, -0.0, 800.0, -800.0, np.inf, -np.inf]).tolist() == [1, 1, np.inf, 0, np.inf, 0]
        assert np.isnan(exact.exp(np.nan))
    assert exact.exp(-740.0) == np.exp(-740.0)  # subnormal
    assert exact.log([1.0, 5e-324, np.finfo(float).max]).tolist() == np.log([1.0, 5e-324, np.finfo(float).max]).tolist()


def test_log_one_plus():
    x = np.concatenate([[0.0], np.exp(grid(-700, 5))])
    np.testing.assert_allclose(exact.log_one_plus(x), np.log1p(x), rtol=1e-15)


@pytest.mark.parametrize("exponent", [0, 0.3, 1, 2.5, 7, -0.8])
def test_powers(exponent):
    x = grid(1e-3, 1)
    roundings = 3 + abs(exponent * math.log(1e-3))  # the logarithm's is multiplied
    np.testing.assert_allclose(exact.power(x, exponent), x**exponent, rtol=roundings * 2.0**-52)
    if exponent >= 0:
        assert exact.power(0.0, exponent) == 0.0**exponent


def test_whole_powers():
    for base in (0.999, 0.1, 1.0, 0.0):
        successive = exact.Powers()
        for exponent in (0, 1, 2, 3, 10, 1000, 1001, 7):
            wanted = float(Fraction(base) ** exponent)
            bound = max(exponent, 1) * 2.0**-53  # one rounding each
            assert exact.whole_power(base, exponent) == pytest.approx(wanted, rel=bound, abs=0)
            assert successive(base, exponent) == pytest.approx(wanted, rel=bound, abs=0)
            assert successive(base, exponent) == exact.Powers()(base, exponent)
        assert successive(0.5, 3) == 0.125


def test_cosine_and_sine():
    x = grid(-4, 4)
    cosine, sine = exact.cos_and_sin_pi(x)
    np.testing.assert_allclose(cosine, np.cos(np.pi * x), atol=3e-15)  # of the product π·x
    np.testing.assert_allclose(sine, np.sin(np.pi * x), atol=3e-15)
    np.testing.assert_allclose(cosine**2 + sine**2, 1, rtol=1e-15)
    assert [exact.cos_pi(value) for value in x[:1000].tolist()] == cosine[:1000].tolist()
    assert [exact.cos_pi(quarter / 2) for quarter in range(-4, 5)] == [1, 0, -1, 0, 1, 0, -1, 0, 1]


@pytest.mark.parametrize("n", [*range(1, 10), 100, 1023, 1025])
def test_a_total_is_the_sum_in_halves(n):
    values = np.random.RandomState(n).standard_normal((n, 3)).astype(np.float32)
    before = values.copy()

    def halves(numbers: list[float]) -> float:
        half = len(numbers) - len(numbers) // 2
        if len(numbers) == 1:
            return numbers[0]
        upper = [*numbers[half:], *[0.0] * (2 * half - len(numbers))]
        return halves([a + b for a, b in zip(numbers[:half], upper, strict=True)])

    totals = exact.total(values)
    assert totals.dtype == np.float64
    assert totals.tolist() == [halves(column.tolist()) for column in values.T.astype(np.float64)]
    assert totals == pytest.approx([math.fsum(column) for column in values.T], rel=1e-13)
    np.testing.assert_array_equal(values, before)
    for layout in (np.asfortranarray(values), np.repeat(values, 2, axis=0)[::2], values.astype(">f4")):
        np.testing.assert_array_equal(exact.total(layout), totals)


def test_totals_of_nothing_and_of_one_axis():
    assert exact.total(np.ones(7)) == 7
    assert exact.total(np.zeros((0, 2))).tolist() == [0, 0]


def test_means():
    values, weights = np.random.RandomState(0).random_sample((2, 50, 3))
    np.testing.assert_allclose(exact.mean(values), values.mean(axis=0), rtol=1e-14)
    wanted = np.average(values, axis=0, weights=weights[:, 0])
    np.testing.assert_allclose(exact.mean(values, weights[:, 0]), wanted, rtol=1e-14)
    assert exact.mean([True, False, True, True]) == 0.75


def test_the_bits_are_pinned():
    """Whoever finds another digest here has a machine, a Python or a NumPy on which +, −, ×, ÷ or √ differ."""
    x, t = grid(-700, 700), grid(-3, 3)
    arrays = {
        "exp": exact.exp(x), "log": exact.log(exact.exp(x)), "log1p": exact.log_one_plus(exact.exp(t)),
        "power": exact.power(exact.exp(t), 0.3), "whole": np.array([exact.whole_power(0.999, k) for k in range(99)]),
        "cos": exact.cos_and_sin_pi(t)[0], "sin": exact.cos_and_sin_pi(t)[1],
        "total": exact.total(exact.exp(t).reshape(-1, 4)),
    }  # fmt: skip
    assert digest(arrays) == "ef8cd7980684962198c8ff0a0704cf3352bbe3231c51d49c1ecabc6f08bf76a9"


def test_a_digest_is_of_names_shapes_dtypes_and_numbers():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    known = digest({"a": array, "b": array[0]})
    assert known == digest({"b": array[0], "a": array})
    assert known == digest({"a": np.asfortranarray(array), "b": array.astype(">f4")[0]})
    others = [
        {"a": array}, {"b": array, "a": array[0]}, {"a": array.reshape(3, 2), "b": array[0]},
        {"a": array.astype(np.float64), "b": array[0]}, {"a": -array, "b": array[0]},
        {"a": array.view(np.int32), "b": array[0]},
    ]  # fmt: skip
    assert len({known, *map(digest, others)}) == 7
