"""Max-pooling against the reference, to the bit, with all kinds of ties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastcnn
import reference
from tests.arrays import DTYPES, ORDERS, both_dtypes, normal, pairs, sweep
from tests.bounds import Sum
from tests.cases import POOL_CASES, PoolCase


def pool_problem(shape, numbers: str, seed: int = 0):
    """Return a batch: all different; or with many ties; or all alike."""
    rng = np.random.RandomState(seed)
    return {
        "distinct": lambda: rng.permutation(math.prod(shape)).reshape(shape) - 7.5,
        "ties": lambda: rng.randint(-2, 2, size=shape).astype(np.float64),
        "below zero": lambda: rng.randint(-3, 0, size=shape) * 1e30,
        "alike": lambda: np.zeros(shape),
    }[numbers]()


NUMBERS = ("distinct", "ties", "below zero", "alike")


def check_pooling(fast, ref, x: np.ndarray, dtype, taps: int, order: str = "C", seed: int = 1) -> None:
    x = x.astype(dtype)
    output = ref.forward(x)
    dL_dout = normal(*output.shape, seed=seed, dtype=dtype)
    actual = fast.forward(ORDERS[order](x))
    assert actual.dtype == dtype
    np.testing.assert_array_equal(actual, output)
    # The gradients of windows that overlap are added up: at most one for each tap.
    dL_dinput = Sum(ref.backward(dL_dout), ref.backward(np.abs(dL_dout)), taps)
    dL_dinput.assert_close(fast.backward(ORDERS[order](dL_dout)))


@both_dtypes
@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("case", POOL_CASES, ids=str)
def test_max_pooling_gives_to_the_first_maximum(case, numbers, dtype):
    fast, ref = (module.MaxPool2D(**case.arguments) for module in (fastcnn, reference))
    check_pooling(fast, ref, pool_problem(case.input_shape, numbers), dtype, math.prod(ref.pool_size))


@both_dtypes
@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("case", [case for case in POOL_CASES if case.is_2x2], ids=str)
def test_max_pooling_as_in_the_notebook_gives_to_every_maximum(case, numbers, dtype):
    check_pooling(fastcnn.MaxPool2(), reference.MaxPool2(), pool_problem(case.input_shape, numbers), dtype, 1)


def test_every_pattern_of_ties_in_a_window():
    """Of four pixels any one may be the largest, or any two, three, four; in each lane of a vector."""
    patterns = np.array(list(np.ndindex(3, 3, 3, 3)), np.float64).reshape(81, 2, 2)
    x = patterns.transpose(1, 2, 0)[None, :, :, :].transpose(0, 3, 1, 2) - 1
    for name in ("MaxPool2", "MaxPool2D"):
        check_pooling(getattr(fastcnn, name)(), getattr(reference, name)(), x, np.float64, 1)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int64, np.bool_])
@pytest.mark.parametrize("name", ["MaxPool2", "MaxPool2D", "ReLU", "Flatten"])
def test_integers_are_taken_as_float64(name, kind):
    x = np.random.RandomState(0).randint(0, 3, size=(2, 3, 4, 6)).astype(kind)
    fast, ref = getattr(fastcnn, name)(), getattr(reference, name)()
    actual, expected = fast.forward(x), ref.forward(x)
    assert actual.dtype == np.float64
    np.testing.assert_array_equal(actual, expected)
    dL_dout = np.random.RandomState(1).randint(-3, 3, size=expected.shape)
    np.testing.assert_array_equal(fast.backward(dL_dout), ref.backward(dL_dout))


@st.composite
def pool_cases(draw):
    size = draw(pairs(1, 4))
    stride = draw(st.one_of(st.none(), pairs(1, 4)))
    padding = tuple(draw(st.integers(0, k // 2)) for k in size)
    if draw(st.booleans()):
        size, stride, padding = (2, 2), None, (0, 0)
    least = [max(1, k - 2 * p) for k, p in zip(size, padding, strict=True)]
    shape = (draw(st.integers(1, 4)), draw(st.integers(1, 36)), *(draw(st.integers(low, low + 9)) for low in least))
    return PoolCase("sweep", shape, size, stride, padding)


@sweep
@given(
    pool_cases(),
    st.sampled_from(NUMBERS),
    st.sampled_from(DTYPES),
    st.sampled_from(list(ORDERS)),
    st.integers(0, 99),
)
def test_pooling_sweep(case, numbers, dtype, order, seed):
    x = pool_problem(case.input_shape, numbers, seed)
    fast, ref = (module.MaxPool2D(**case.arguments) for module in (fastcnn, reference))
    check_pooling(fast, ref, x, dtype, math.prod(case.pool_size), order, seed)
    if fast.halves:
        check_pooling(fastcnn.MaxPool2(), reference.MaxPool2(), x, dtype, 1, order, seed)
