"""What Winograd's algorithms cost in accuracy, against float64 and beside direct convolution in float32."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fastcnn.codegen.winograd_schemes import FILTER, FILTER_GRADIENT, GRADIENT, INPUT, MATRICES, OUTPUT, Scheme
from fastcnn.ops.convolution.winograd import _short_tiles, order_of
from tests.arrays import both_dtypes
from tests.cases import ConvCase
from tests.test_layers_conv import conv_problem, expect, fast_conv

# As they stand in networks; the bounds of `tests/bounds.py` are a hundred times wider than what is seen here.
CASES = (
    ConvCase("wide-images", (2, 32, 32, 32), 32, 3, padding=1),
    ConvCase("wide", (4, 64, 16, 16), 64, 3, padding=1),
    ConvCase("deep", (8, 128, 8, 8), 128, 3, padding=1),
)
SEVEN = tuple(replace(case, filter_size=7, padding=3) for case in CASES[1:])
FIVE = tuple(replace(case, filter_size=5, padding=2) for case in CASES)


def results(layer, x: np.ndarray, dL_dout: np.ndarray) -> list[np.ndarray]:
    return [layer.forward(x), layer.backward(dL_dout), layer.gradients["filters"]]


def errors(algorithm: str, case: ConvCase) -> np.ndarray:
    """Return the root mean square error in float32 of output, input gradient and filter gradient."""
    x, dL_dout, parameters = conv_problem(case, np.float32)
    exact = results(fast_conv(case, "im2col", parameters, np.float64), x.astype(float), dL_dout.astype(float))
    actual = results(fast_conv(case, algorithm, parameters, np.float32), x, dL_dout)
    return np.array([np.sqrt(np.mean((a - e) ** 2)) for a, e in zip(actual, exact, strict=True)])


@pytest.mark.parametrize("kind", MATRICES, ids=lambda kind: kind.__name__)
def test_the_matrices_are_a_correlation(kind: type[Scheme]):
    """Aᵀ [(G g) ⊙ (Bᵀ d)] = g correlated with d, in one dimension; the gradients take the same matrices transposed."""
    rng = np.random.default_rng(0)
    scheme, matrices = kind(), MATRICES[kind]
    g, d = rng.standard_normal(scheme.taps), rng.standard_normal(scheme.tile + scheme.taps - 1)
    bt, filters, at, a, gt = (
        np.array(matrices.matrix(which)) for which in (INPUT, FILTER, OUTPUT, GRADIENT, FILTER_GRADIENT)
    )
    np.testing.assert_allclose(at @ ((filters @ g) * (bt @ d)), np.correlate(d, g, "valid"), rtol=0, atol=1e-14)
    np.testing.assert_array_equal(a, at.T)
    np.testing.assert_array_equal(gt, filters.T)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_errors_beside_direct(case):
    """F(2×2) errs less than direct, its filter gradient about the same; F(4×4) about twice as much."""
    direct = errors("direct", case)
    assert (errors("winograd", case) < [0.8, 0.8, 1.1] * direct).all()
    assert (errors("winograd4", case) < 2.5 * direct).all()


@pytest.mark.parametrize("case", FIVE, ids=str)
def test_errors_of_5x5_windows_beside_direct(case):
    """F(2×2, 5×5) makes 25 numbers of a filter gradient from the points of 4 of the output: there it errs the most."""
    assert (errors("winograd", case) < [1.7, 1.7, 4.5] * errors("direct", case)).all()


@pytest.mark.parametrize("case", SEVEN, ids=str)
def test_errors_of_7x7_windows_beside_direct(case):
    """Four parts by F(3×3, 4×4)."""
    assert (errors("winograd", case) < [2.2, 2.2, 3.0] * errors("direct", case)).all()


@both_dtypes
@pytest.mark.parametrize(("algorithm", "taps"), [("winograd", 3), ("winograd4", 3), ("winograd", 5), ("winograd", 7)])
def test_bounds_on_layers_of_networks(algorithm, taps, dtype):
    case = ConvCase("layer", (3, 32, 13, 14), 48, taps, padding="same")
    x, dL_dout, parameters = conv_problem(case, dtype)
    expected = expect(algorithm, case, parameters, x, dL_dout)
    expected.assert_close(fast_conv(case, algorithm, parameters, dtype), x, dL_dout)


@both_dtypes
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (5, 6)], ids=str)
def test_whole_numbers_are_exact_on_the_small_tile(size, dtype):
    """The transforms of F(2×2) only add, subtract and halve: with small whole numbers no algorithm rounds."""
    case = ConvCase("whole", (2, 6, *size), 17, 3, padding=1)
    rounded = [np.round(4 * array) for array in conv_problem(case, dtype)[:2]]
    parameters = {name: np.round(8 * array) for name, array in conv_problem(case, dtype)[2].items()}
    for fast, direct in zip(
        results(fast_conv(case, "winograd", parameters, dtype), *rounded),
        results(fast_conv(case, "direct", parameters, dtype), *rounded),
        strict=True,
    ):
        np.testing.assert_array_equal(fast, direct)


@pytest.mark.parametrize("size", [(8, 8), (7, 8), (8, 6), (5, 7), (3, 1)], ids=str)
@pytest.mark.parametrize("most", [1, 3, 7, 100])
def test_tiles_that_need_a_point_are_neighbours(size, most):
    """Each tile is there once, in its block, and in the range of exactly those points that make an output of it."""
    short = _short_tiles(size, 4)
    rows, columns = (
        tile * 4 + 4 > end for tile, end in zip(np.indices((-(-size[0] // 4), -(-size[1] // 4))), size, strict=True)
    )
    np.testing.assert_array_equal(short, np.stack([rows.ravel(), columns.ravel()], axis=1))
    short = np.tile(short, (5, 1))
    order = order_of(short, most)
    numbers = np.arange(len(short)) if order.numbers is None else order.numbers
    assert (order.numbers is None) == (not short.any())
    assert order.blocks.tiles == len(short)
    for block, ranges in enumerate(order.blocks.ranges.reshape(-1, 4, 2)):
        of_block = numbers[block * most : (block + 1) * most]
        np.testing.assert_array_equal(np.sort(of_block), np.arange(block * most, block * most + len(of_block)))
        for kind, (first, last) in enumerate(ranges):
            needs = np.ones(len(of_block), bool)
            if kind & 1:
                needs &= ~short[of_block, 1]
            if kind & 2:
                needs &= ~short[of_block, 0]
            expected = np.zeros(len(of_block), bool)
            expected[first:last] = True
            np.testing.assert_array_equal(needs, expected)
