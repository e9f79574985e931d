"""How far a sum that is computed in floating point may lie from the true one: derived, never tuned until green.

With unit roundoff u (half the spacing of numbers at 1), a sum of n products, in any order and with or without fused
multiply-adds, is the exact sum of the products with each multiplied by at most n factors (1 + δ), |δ| <= u. So

    |computed - exact| <= γ_n · Σ |a_k · b_k|,        γ_n = n·u / (1 - n·u)

(Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed. 2002, sections 3.1 and 3.4). Here n counts the
roundings that one product goes through. The sum of absolute products, the magnitude, is what the same layer computes
in float64 from absolute values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

import reference
from tests.cases import ConvCase, DenseCase

Parameters = Mapping[str, np.ndarray]


def gamma(roundings: int, dtype: np.dtype | type) -> float:
    """Return γ_n for numbers of `dtype`."""
    nu = roundings * np.finfo(dtype).eps / 2
    assert nu < 1
    return float(nu / (1 - nu))


@dataclass(frozen=True)
class Sum:
    """What a sum should be (in float64), the sum of its absolute terms, and how often each term is rounded."""

    exact: np.ndarray
    magnitude: np.ndarray
    roundings: int

    def bound(self, dtype: np.dtype | type) -> np.ndarray:
        """Return how far a result in `dtype` may lie from `exact`, which is itself a sum in float64."""
        return (gamma(self.roundings, dtype) + gamma(self.roundings, np.float64)) * self.magnitude

    def assert_close(self, actual: np.ndarray) -> None:
        """Assert that each number of `actual` is as near as its roundings allow."""
        assert actual.shape == self.exact.shape
        bound, error = self.bound(actual.dtype), np.abs(actual.astype(np.float64) - self.exact)
        wrong = ~(error <= bound)  # NaN is wrong too
        first = tuple(int(i) for i in np.argwhere(wrong)[0]) if wrong.any() else ()
        assert not wrong.any(), (
            f"{wrong.sum()} of {wrong.size} wrong, first at {first}: {actual[first]} for {self.exact[first]}, "
            f"{error[first]:.3g} apart where {bound[first]:.3g} is allowed"
        )


@dataclass(frozen=True)
class Expected:
    """What a layer should give: its output, the gradient by its input, the gradients by its parameters."""

    output: Sum
    dL_dinput: Sum  # noqa: N815
    gradients: dict[str, Sum]

    def assert_close(self, layer, x: np.ndarray, dL_dout: np.ndarray) -> None:
        """Assert that a layer computes this, in the precision of its input."""
        output = layer.forward(x)
        dL_dinput = layer.backward(dL_dout)
        assert output.dtype == dL_dinput.dtype == x.dtype
        self.output.assert_close(output)
        self.dL_dinput.assert_close(dL_dinput)
        assert layer.gradients.keys() == self.gradients.keys()
        for name, gradient in layer.gradients.items():
            self.gradients[name].assert_close(gradient)


def expect_convolution(case: ConvCase, parameters: Parameters, x: np.ndarray, dL_dout: np.ndarray) -> Expected:
    """Return what Conv2D gives by the formula, product by product: the direct algorithm and im2col.

    A number of the output is a bias and C/G·kH·kW products, one of the input gradient at most F/G·kH·kW, one of the
    parameters' gradients N·oH·oW.
    """
    filters = parameters["filters"]
    F, C, kH, kW = filters.shape
    exact, absolute = _with_absolute_twin(lambda: reference.Conv2D(**case.arguments), parameters, x, dL_dout)
    N, _, oH, oW = dL_dout.shape
    return _expect(exact, absolute, C * kH * kW + 1, F // case.groups * kH * kW, N * oH * oW)


def expect_dense(case: DenseCase, parameters: Parameters, x: np.ndarray, dL_dout: np.ndarray) -> Expected:
    """Return what Dense gives: D products and a bias; nodes products; N products."""
    make = lambda: reference.Dense(case.nodes, bias=case.bias)  # noqa: E731
    exact, absolute = _with_absolute_twin(make, parameters, x, dL_dout)
    return _expect(exact, absolute, case.D + 1, case.nodes, case.N)


def _with_absolute_twin(make, parameters: Parameters, x: np.ndarray, dL_dout: np.ndarray):
    """Return a layer of the reference that has gone forward and backward, and one that did so on absolute values."""
    layers = []
    for of in (np.asarray, np.abs):
        layer = make().build(x.shape[1:])
        for name, parameter in parameters.items():
            layer.parameters[name][...] = of(parameter)
        layer.forward(of(x).astype(np.float64))
        layer.dL_dinput = layer.backward(of(dL_dout).astype(np.float64))
        layers.append(layer)
    return layers


def _expect(exact, absolute, in_output: int, in_input: int, in_parameters: int) -> Expected:
    return Expected(
        Sum(exact.last_output, absolute.last_output, in_output),
        Sum(exact.dL_dinput, absolute.dL_dinput, in_input),
        {name: Sum(exact.gradients[name], absolute.gradients[name], in_parameters) for name in exact.gradients},
    )


# ------------------------------------------------------------------------------------------------------------ Winograd


@dataclass(frozen=True)
class Transforms:
    """The absolute values of Winograd's transforms, and how often at most each rounds a number, in one direction.

    With windows of k taps and patches of side s = m + k - 1, Aᵀ (m, s) takes points to a line of outputs, Bᵀ (s, s) a
    line of the input to points, and G (s, k) a line of a filter to points. `A` and `G_T` count the roundings of the
    transposed matrices. A constant that is no binary fraction is one rounding, a quotient of such constants three.
    A larger window is a sum of parts of k taps, which begin at `offsets`; a tap belongs to the first that has it.
    """

    a_t: np.ndarray
    b_t: np.ndarray
    g: np.ndarray
    rounds: Mapping[str, int]
    offsets: tuple[int, ...] = (0,)

    @property
    def tile(self) -> int:
        """m."""
        return len(self.a_t)

    @property
    def side(self) -> int:
        """S."""
        return len(self.b_t)

    @property
    def taps(self) -> int:
        """K."""
        return self.g.shape[1]

    def parts(self) -> Iterator[tuple[int, int, int, int]]:
        """Yield the first row and column of each part of a window, and how many of either belong to those before."""
        lines = [(offset, max(0, self.taps - offset) if offset else 0) for offset in self.offsets]
        for (top, above), (left, before) in product(lines, lines):
            yield top, left, above, before


def _transforms_of_six_points(taps: int, offsets: tuple[int, ...] = (0,)) -> Transforms:
    """Return F(m×m, k×k), m + k = 7, on the points 0, ±a, ±b, ∞, a² = 1/2, b² = 2: M(x) = x (x² − 1/2) (x² − 2).

    Rows of Bᵀ are the coefficients of M / (x − p), those of G are (1, p, p², …) / M'(p), columns of Aᵀ are powers of p.
    """
    a, b, m = 0.5**0.5, 2**0.5, 7 - taps
    odd, even = [0, 2 * a, 2, a, 1, 0], [0, b / 2, 0.5, b, 1, 0]
    powers = np.array([[p**k for k in range(5)] for p in (0.0, a, a, b, b)])
    a_t = np.column_stack([powers[:, :m].T, np.arange(m) == m - 1])
    g = np.vstack([powers[:, :taps] / np.array([1, 1.5, 1.5, 6, 6])[:, None], np.arange(taps) == taps - 1])
    rounds = {
        # Aᵀ: a·(m1 − m2), its half, and two sums; Bᵀ: a·(d3 − 2·d1) and a sum; A: a·(y1 + y3/2) and a sum;
        # G: a constant, a product, two sums; Gᵀ: a sum, a constant, a product, two sums.
        3: {"A_T": 5, "B_T": 4, "A": 4, "G": 6, "G_T": 7},
        # One row of Aᵀ less, one power of G more: one sum more in a row of G, and in Gᵀ of as many numbers as before.
        4: {"A_T": 5, "B_T": 4, "A": 4, "G": 7, "G_T": 7},
        # Aᵀ: a·(m1 − m2) and two sums, or three sums; A: a·y1 and a sum; G: up to two sums more than three taps have.
        5: {"A_T": 4, "B_T": 4, "A": 3, "G": 7, "G_T": 7},
    }[taps]
    b_t = np.array([[1, 0, 2.5, 0, 1, 0], odd, odd, even, even, [0, 1, 0, 2.5, 0, 1]])
    return Transforms(a_t, b_t, g, rounds, offsets)


TRANSFORMS = {
    ("winograd", 3): Transforms(
        np.array([[1, 1, 1, 0], [0, 1, 1, 1]]),
        np.array([[1, 0, 1, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 1, 0, 1]]),
        np.array([[2, 0, 0], [1, 1, 1], [1, 1, 1], [0, 0, 2]]) / 2,
        {"A_T": 2, "B_T": 1, "A": 1, "G": 2, "G_T": 2},
    ),
    ("winograd4", 3): _transforms_of_six_points(3),
    ("winograd", 5): _transforms_of_six_points(5),
    ("winograd", 7): _transforms_of_six_points(4, (0, 3)),
}


def expect_winograd(
    case: ConvCase, parameters: Parameters, x: np.ndarray, dL_dout: np.ndarray, algorithm: str = "winograd"
) -> Expected:
    """Return what Conv2D gives by Winograd's algorithm: the same numbers, with the roundings of another route.

    The result is linear in each factor, so the sum of absolute terms is that of the same route through the absolute
    values of the transforms, |Aᵀ| [Σ_c (|G| |g| |Gᵀ|) ⊙ (|Bᵀ| |d| |B|)] |A|. On its way a term is rounded

    - twice as often as a line (once for each direction) in G·Gᵀ, Bᵀ·B and Aᵀ·A, C times in the sum over the channels,
      and once by the bias;
    - in the input gradient alike, with F filters in the place of C channels and no bias;
    - in the filter gradient, Gᵀ [Σ_t (Bᵀ d B) ⊙ (A dy Aᵀ)] G, as often as there are tiles t, and by its transforms.
    """
    plain = expect_convolution(case, parameters, x, dL_dout)
    by = TRANSFORMS[algorithm, parameters["filters"].shape[-1]]
    filters, biases = np.abs(parameters["filters"]), np.abs(parameters.get("biases", np.zeros(case.num_filters)))
    (F, C), (oH, oW) = filters.shape[:2], dL_dout.shape[2:]
    padding = reference.Conv2D(**case.arguments)._window(x.shape[2:]).padding
    output, dL_dinput, dL_dfilters = winograd_sums(by, filters, np.abs(x), np.abs(dL_dout), padding)
    output = output + biases[:, None, None]
    channels, filter_count = (len(by.offsets) ** 2 * count for count in (C, F))
    tiles, rounds = len(x) * -(-oH // by.tile) * -(-oW // by.tile), by.rounds
    there = 2 * (rounds["G"] + rounds["B_T"] + rounds["A_T"])
    back = 2 * (rounds["B_T"] + rounds["A"] + rounds["G_T"])
    return Expected(
        Sum(plain.output.exact, output, there + channels + 1),
        Sum(plain.dL_dinput.exact, dL_dinput, there + filter_count),
        {**plain.gradients, "filters": Sum(plain.gradients["filters"].exact, dL_dfilters, back + tiles)},
    )


def winograd_sums(
    by: Transforms, filters: np.ndarray, x: np.ndarray, dL_dout: np.ndarray, padding: tuple[tuple[int, int], ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the sums of the terms of output, input gradient and filter gradient, all numbers being not negative."""
    (H, W), ((top, bottom), (left, right)) = x.shape[2:], padding
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    dy, k = dL_dout.astype(np.float64), filters.shape[-1] - 1
    # The input gradient is the convolution of dy, with k - 1 pixels of zeros around it, and the flipped filters.
    around = np.pad(dy, ((0, 0), (0, 0), (k, k), (k, k)))[:, :, top : top + H + k, left : left + W + k]
    dL_dinput = _winograd(by, around, filters[:, :, ::-1, ::-1].transpose(1, 0, 2, 3))
    tiles, dL_dfilters = _tiles(by, dy), np.zeros(filters.shape)
    for row, column, above, before in by.parts():
        patches = _patches(by, _shifted(by, padded, row, column, dy.shape[2:]))
        part = np.einsum("ia,nchwij,nfhwij,jb->fcab", by.g, patches, tiles, by.g, optimize=True)
        last = row + by.taps, column + by.taps
        dL_dfilters[:, :, row + above : last[0], column + before : last[1]] = part[:, :, above:, before:]
    return _winograd(by, padded, filters), dL_dinput, dL_dfilters


def _winograd(by: Transforms, x: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """Return |Aᵀ| [(|G| g |Gᵀ|) ⊙ (|Bᵀ| d |B|)] |A| of a padded image that is not negative, summed over channels."""
    size = x.shape[2] - filters.shape[2] + 1, x.shape[3] - filters.shape[3] + 1
    total = np.zeros((len(x), len(filters), *size))
    for row, column, above, before in by.parts():
        part = filters[:, :, row : row + by.taps, column : column + by.taps].astype(np.float64)
        part[:, :, :above] = part[:, :, :, :before] = 0
        points = np.einsum("ia,fcab,jb->fcij", by.g, part, by.g, optimize=True)
        patches = _patches(by, _shifted(by, x, row, column, size))
        tiles = np.einsum("ai,fcij,nchwij,bj->nfhawb", by.a_t, points, patches, by.a_t, optimize=True)
        N, F, h, m, w, _ = tiles.shape
        total += tiles.reshape(N, F, m * h, m * w)[:, :, : size[0], : size[1]]
    return total


def _shifted(by: Transforms, x: np.ndarray, row: int, column: int, size: tuple[int, ...]) -> np.ndarray:
    """Return the part of a padded image that a part of the window meets, for so many outputs."""
    return x[:, :, row : row + size[0] + by.taps - 1, column : column + size[1] + by.taps - 1]


def _patches(by: Transforms, x: np.ndarray) -> np.ndarray:
    """Return |Bᵀ| d |B| of the patches that begin at every m-th pixel, (N, C, h, w, s, s)."""
    m, k, s = by.tile, by.taps - 1, by.side
    whole = np.pad(x, ((0, 0), (0, 0), (0, (k - x.shape[2]) % m), (0, (k - x.shape[3]) % m)))
    patches = np.lib.stride_tricks.sliding_window_view(whole, (s, s), axis=(2, 3))[:, :, ::m, ::m]
    return np.einsum("ia,nchwab,jb->nchwij", by.b_t, patches, by.b_t, optimize=True)


def _tiles(by: Transforms, dy: np.ndarray) -> np.ndarray:
    """Return |A| dy |Aᵀ| of the tiles m×m, (N, F, h, w, s, s)."""
    m = by.tile
    whole = np.pad(dy, ((0, 0), (0, 0), (0, -dy.shape[2] % m), (0, -dy.shape[3] % m)))
    N, F, H, W = whole.shape
    tiles = whole.reshape(N, F, H // m, m, W // m, m)
    return np.einsum("ai,nfhawb,bj->nfhwij", by.a_t, tiles, by.a_t, optimize=True)
