"""How far a sum that is computed in floating point may lie from the true one: derived, never tuned until green.

With unit roundoff u (half the spacing of numbers at 1), a sum of n products, in any order and with or without fused
multiply-adds, is the exact sum of the products with each multiplied by at most n factors (1 + δ), |δ| <= u. So

    |computed - exact| <= γ_n · Σ |a_k · b_k|,        γ_n = n·u / (1 - n·u)

(Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed. 2002, sections 3.1 and 3.4). Here n counts the
roundings that one product goes through. The sum of absolute products, the magnitude, is what the same layer computes
in float64 from absolute values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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


# -------------------------------------------------------------------------------------------- Winograd's F(2×2, 3×3)

# The absolute values of the transforms: what each number is, at most, made of.
B_T = np.array([[1, 0, 1, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 1, 0, 1]])
G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5], [0, 0, 1]])
A_T = np.array([[1, 1, 1, 0], [0, 1, 1, 1]])


def expect_winograd(case: ConvCase, parameters: Parameters, x: np.ndarray, dL_dout: np.ndarray) -> Expected:
    """Return what Conv2D gives by Winograd's algorithm: the same numbers, with the roundings of another route.

    The result is linear in each factor, so the sum of absolute terms is that of the same route through the absolute
    values of the transforms, |Aᵀ| [Σ_c (|G| |g| |Gᵀ|) ⊙ (|Bᵀ| |d| |B|)] |A|. A term is rounded on its way

    - in G·Gᵀ twice in each direction, in Bᵀ·B once, in the sum over C channels C times, in Aᵀ·A twice in each
      direction, and once by the bias: 4 + 2 + C + 4 + 1;
    - in the input gradient alike, with F filters in the place of C channels and no bias;
    - in the filter gradient, Gᵀ [Σ_t (Bᵀ d B) ⊙ (A dy Aᵀ)] G over T tiles: 2 + 2 + T + 4.
    """
    plain = expect_convolution(case, parameters, x, dL_dout)
    filters, biases = np.abs(parameters["filters"]), np.abs(parameters.get("biases", np.zeros(case.num_filters)))
    (F, C), (H, W), (oH, oW) = filters.shape[:2], x.shape[2:], dL_dout.shape[2:]
    (top, bottom), (left, right) = reference.Conv2D(**case.arguments)._window((H, W)).padding
    padded = np.pad(np.abs(x).astype(np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    dy = np.pad(np.abs(dL_dout).astype(np.float64), ((0, 0), (0, 0), (2, 2), (2, 2)))
    output = _winograd(padded, filters) + biases[:, None, None]
    flipped = filters[:, :, ::-1, ::-1].transpose(1, 0, 2, 3)
    dL_dinput = _winograd(dy[:, :, top : top + H + 2, left : left + W + 2], flipped)
    patches, tiles = _patches(padded), _tiles(np.abs(dL_dout).astype(np.float64))
    dL_dfilters = np.einsum("ia,nchwij,nfhwij,jb->fcab", G, patches, tiles, G, optimize=True)
    gradients = dict(plain.gradients)
    count = len(x) * -(-oH // 2) * -(-oW // 2)
    gradients["filters"] = Sum(plain.gradients["filters"].exact, dL_dfilters, count + 8)
    return Expected(Sum(plain.output.exact, output, C + 11), Sum(plain.dL_dinput.exact, dL_dinput, F + 10), gradients)


def _winograd(x: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """Return |Aᵀ| [(|G| g |Gᵀ|) ⊙ (|Bᵀ| d |B|)] |A| of a padded image that is not negative, summed over channels."""
    points = np.einsum("ia,fcab,jb->fcij", G, filters, G, optimize=True)
    tiles = np.einsum("ai,fcij,nchwij,bj->nfhawb", A_T, points, _patches(x), A_T, optimize=True)
    N, F, h, _, w, _ = tiles.shape
    return tiles.reshape(N, F, 2 * h, 2 * w)[:, :, : x.shape[2] - 2, : x.shape[3] - 2]


def _patches(x: np.ndarray) -> np.ndarray:
    """Return |Bᵀ| d |B| of the patches 4×4 that begin at every second pixel: (N, C, h, w, 4, 4)."""
    even = np.pad(x, ((0, 0), (0, 0), (0, x.shape[2] % 2), (0, x.shape[3] % 2)))
    patches = np.lib.stride_tricks.sliding_window_view(even, (4, 4), axis=(2, 3))[:, :, ::2, ::2]
    return np.einsum("ia,nchwab,jb->nchwij", B_T, patches, B_T, optimize=True)


def _tiles(dy: np.ndarray) -> np.ndarray:
    """Return |A| dy |Aᵀ| of the tiles 2×2: (N, F, h, w, 4, 4)."""
    even = np.pad(dy, ((0, 0), (0, 0), (0, dy.shape[2] % 2), (0, dy.shape[3] % 2)))
    N, F, H, W = even.shape
    tiles = even.reshape(N, F, H // 2, 2, W // 2, 2)
    return np.einsum("ai,nfhawb,bj->nfhwij", A_T, tiles, A_T, optimize=True)
