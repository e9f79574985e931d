"""Winograd's minimal filtering schemes: windows, tiles and the small matrices of each, as facts; no code.

F(2 x 2, 3 x 3) uses the points 0, ±1, ∞. F(4 x 4, 3 x 3) uses 0, ±√½, ±√2, ∞: the usual points 0, ±1, ±2, ∞
cost three to five times the rounding error of direct convolution; these, whose products are 1, about twice. With
a = √½, b = √2 and M(x) = x (x² - ½)(x² - 2), the rows of Bᵀ are the coefficients of M / (x - p), those of G are
(1, p, p², …) / M'(p), M'(0) = 1, M'(±a) = -3/2, M'(±b) = 6, and those of A are the powers of p. F(2 x 2, 5 x 5) and
F(3 x 3, 4 x 4) use the same six points: Bᵀ is the same, G has more powers, A less.

Sources: Winograd, "Arithmetic complexity of computations", SIAM 1980; Barabasz et al., "Error analysis and improving
the accuracy of Winograd convolution", ACM TOMS 46 (2020), for the choice of points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

Matrix = tuple[tuple[float, ...], ...]

A, B = math.sqrt(0.5), math.sqrt(2.0)

INPUT, FILTER, OUTPUT, GRADIENT, FILTER_GRADIENT = range(5)  # Bᵀ, G, Aᵀ, A, Gᵀ


# F(tile x tile, taps x taps), F23 for short, computes a square tile of outputs by one product for each number of its
# patch. A scheme is an argument of Winograd's kernels, which are compiled for each of these classes.


class F23(NamedTuple):
    """F(2 x 2, 3 x 3): 16 products for 36."""

    tile: int = 2
    taps: int = 3


class F43(NamedTuple):
    """F(4 x 4, 3 x 3): 36 products for 144."""

    tile: int = 4
    taps: int = 3


class F25(NamedTuple):
    """F(2 x 2, 5 x 5): 36 products for 100."""

    tile: int = 2
    taps: int = 5


class F34(NamedTuple):
    """F(3 x 3, 4 x 4): 36 products for 144."""

    tile: int = 3
    taps: int = 4


Scheme = F23 | F43 | F25 | F34


@dataclass(frozen=True)
class Matrices:
    """The matrices of a scheme, whose patches have tile + taps - 1 numbers a side.

    Attributes
    ----------
    b_t, g, a_t : tuple of tuple of float
        Bᵀ (side, side), G (side, taps) and Aᵀ (tile, side).
    """

    b_t: Matrix
    g: Matrix
    a_t: Matrix

    @property
    def side(self) -> int:
        """Pixels of a patch in a row."""
        return len(self.b_t)

    @property
    def points(self) -> int:
        """Numbers of a patch: one product for each."""
        return self.side**2

    def matrix(self, kind: int) -> Matrix:
        """Return the matrix of a transform."""
        return {
            INPUT: self.b_t,
            FILTER: self.g,
            OUTPUT: self.a_t,
            GRADIENT: _transposed(self.a_t),
            FILTER_GRADIENT: _transposed(self.g),
        }[kind]


def _transposed(matrix: Matrix) -> Matrix:
    return tuple(zip(*matrix, strict=True))


_SIX_POINTS: Matrix = (
    (1, 0, -2.5, 0, 1, 0),
    (0, -2 * A, -2, A, 1, 0),
    (0, 2 * A, -2, -A, 1, 0),
    (0, -B / 2, -0.5, B, 1, 0),
    (0, B / 2, -0.5, -B, 1, 0),
    (0, 1, 0, -2.5, 0, 1),
)

MATRICES: dict[type[Scheme], Matrices] = {
    F23: Matrices(
        ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
        ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1)),
        ((1, 1, 1, 0), (0, 1, -1, -1)),
    ),
    F43: Matrices(
        _SIX_POINTS,
        (
            (1, 0, 0),
            (-2 / 3, -2 * A / 3, -1 / 3),
            (-2 / 3, 2 * A / 3, -1 / 3),
            (1 / 6, B / 6, 1 / 3),
            (1 / 6, -B / 6, 1 / 3),
            (0, 0, 1),
        ),
        ((1, 1, 1, 1, 1, 0), (0, A, -A, B, -B, 0), (0, 0.5, 0.5, 2, 2, 0), (0, A / 2, -A / 2, 2 * B, -2 * B, 1)),
    ),
    F25: Matrices(
        _SIX_POINTS,
        (
            (1, 0, 0, 0, 0),
            (-2 / 3, -2 * A / 3, -1 / 3, -A / 3, -1 / 6),
            (-2 / 3, 2 * A / 3, -1 / 3, A / 3, -1 / 6),
            (1 / 6, B / 6, 1 / 3, B / 3, 2 / 3),
            (1 / 6, -B / 6, 1 / 3, -B / 3, 2 / 3),
            (0, 0, 0, 0, 1),
        ),
        ((1, 1, 1, 1, 1, 0), (0, A, -A, B, -B, 1)),
    ),
    F34: Matrices(
        _SIX_POINTS,
        (
            (1, 0, 0, 0),
            (-2 / 3, -2 * A / 3, -1 / 3, -A / 3),
            (-2 / 3, 2 * A / 3, -1 / 3, A / 3),
            (1 / 6, B / 6, 1 / 3, B / 3),
            (1 / 6, -B / 6, 1 / 3, -B / 3),
            (0, 0, 0, 1),
        ),
        ((1, 1, 1, 1, 1, 0), (0, A, -A, B, -B, 0), (0, 0.5, 0.5, 2, 2, 1)),
    ),
}
