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

Matrix = tuple[tuple[float, ...], ...]

A, B = math.sqrt(0.5), math.sqrt(2.0)

INPUT, FILTER, OUTPUT, GRADIENT, FILTER_GRADIENT = range(5)  # Bᵀ, G, Aᵀ, A, Gᵀ
F2X2_3X3, F4X4_3X3, F2X2_5X5, F3X3_4X4 = range(4)  # numbers of `SCHEMES`


@dataclass(frozen=True)
class Scheme:
    """F(tile x tile, taps x taps): the outputs of a square tile, from one product for each number of its patch.

    Attributes
    ----------
    tile : int
        Outputs of a tile in a row.
    taps : int
        Taps of the window in a row.
    b_t, g, a_t : tuple of tuple of float
        Bᵀ (side, side), G (side, taps) and Aᵀ (tile, side).
    """

    tile: int
    taps: int
    b_t: Matrix
    g: Matrix
    a_t: Matrix

    @property
    def side(self) -> int:
        """Pixels of a patch in a row."""
        return self.tile + self.taps - 1

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

SCHEMES = (
    Scheme(
        2,
        3,
        ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
        ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1)),
        ((1, 1, 1, 0), (0, 1, -1, -1)),
    ),
    Scheme(
        4,
        3,
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
    Scheme(
        2,
        5,
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
    Scheme(
        3,
        4,
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
)
