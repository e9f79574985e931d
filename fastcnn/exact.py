"""Functions and sums with the same bits everywhere: only +, −, ×, ÷ and √, which IEEE 754 rounds one way.

A mathematical library may differ from the next one, or from itself on another processor, in the last bit of `exp`,
`log`, `pow`, `sin` and `cos`; NumPy and BLAS choose the order of a sum by the processor and by the memory order; Python
3.12 rounds the built-in sum of floats in another way than 3.11. What decides about weights comes from here instead.

The polynomials are those of fdlibm (Sun Microsystems, 1993: e_exp.c, e_log.c, k_sin.c, k_cos.c), with errors below one
unit in the last place. Each operation is a statement of Python or a loop of NumPy by itself: nothing can be fused.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np

from .typing import Array

Number = TypeVar("Number", float, Array)

LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10  # ln 2; k · LN2_HIGH is exact
INVERSE_LN2 = 1.44269504088896338700e00
LARGEST, SMALLEST = 710.0, -746.0  # beyond them, exp is infinite or 0
EXP = (
    1.66666666666666019037e-01, -2.77777777770155933842e-03, 6.61375632143793436117e-05, -1.65339022054652515390e-06,
    4.13813679705723846039e-08,
)  # fmt: skip
LOG = (
    6.666666666666735130e-01, 3.999999999940941908e-01, 2.857142874366239149e-01, 2.222219843214978396e-01,
    1.818357216161805012e-01, 1.531383769920937332e-01, 1.479819860511658591e-01,
)  # fmt: skip
SIN = (
    -1.66666666666666324348e-01, 8.33333333332248946124e-03, -1.98412698298579493134e-04, 2.75573137070700676789e-06,
    -2.50507602534068634195e-08, 1.58969099521155010221e-10,
)  # fmt: skip
COS = (
    4.16666666666666019037e-02, -1.38888888888741095749e-03, 2.48015872894767294178e-05, -2.75573143513906633035e-07,
    2.08757232129817482790e-09, -1.13596475577881948265e-11,
)  # fmt: skip


def exp(x: Any) -> Array:
    """Return eˣ in float64: `x = k·ln 2 + r`, a rational function of r, times 2ᵏ."""
    x = np.clip(np.asarray(x, np.float64), SMALLEST, LARGEST)
    k = np.rint(x * INVERSE_LN2)
    high, low = x - k * LN2_HIGH, k * LN2_LOW
    r = high - low
    square = r * r
    c = r - square * _polynomial(square, EXP)
    value = 1.0 - ((low - r * c / (2.0 - c)) - high)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):  # a NaN stays one
        result: Array = np.ldexp(value, k.astype(np.int32))
    return result


def log(x: Any) -> Array:
    """Return the natural logarithm of positive numbers in float64: `x = 2ᵏ·(1 + f)`, a polynomial of f / (2 + f)."""
    mantissa, k = np.frexp(np.asarray(x, np.float64))
    small = mantissa < math.sqrt(0.5)
    f, k = np.where(small, 2.0 * mantissa, mantissa) - 1.0, (k - small).astype(np.float64)
    s = f / (2.0 + f)
    square = s * s
    half = 0.5 * f * f
    rest = s * (half + square * _polynomial(square, LOG))
    result: Array = k * LN2_HIGH - ((half - (rest + k * LN2_LOW)) - f)
    return result


def log_one_plus(x: Any) -> Array:
    """Return log(1 + x) for x ≥ 0, with the relative accuracy of `log` for small x too (Kahan's quotient)."""
    x = np.asarray(x, np.float64)
    whole = 1.0 + x
    rest = whole - 1.0  # exact
    result: Array = np.where(rest == 0.0, x, log(whole) * (x / np.where(rest == 0.0, 1.0, rest)))
    return result


def power(base: Any, exponent: float) -> Array:
    """Return `base`, at least 0, to a real power; 0 stays 0, but for the power of 0."""
    x: Array = np.asarray(base, np.float64)
    if exponent in (0, 1):
        return x if exponent else np.ones_like(x)
    result: Array = np.where(x > 0, exp(exponent * log(np.where(x > 0, x, 1.0))), 0.0)
    return result


def whole_power(base: float, exponent: int) -> float:
    """Return `base` to a whole power of at least 0: squares, multiplied from the lowest bit of the exponent on."""
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


class Powers:
    """The powers b¹, b², ... of a number, in their order: one multiplication each, `bᵗ = bᵗ⁻¹·b`.

    Called with any other t, or another b, it multiplies from the beginning, to the same bits.
    """

    def __init__(self) -> None:
        self.base, self.exponent, self.power = 0.0, 0, 1.0

    def __call__(self, base: float, exponent: int) -> float:
        """Return `base` to the power of `exponent`, at least 0."""
        if base != self.base or exponent < self.exponent:
            self.base, self.exponent, self.power = base, 0, 1.0
        while self.exponent < exponent:
            self.power *= base
            self.exponent += 1
        return self.power


def cos_pi(x: float) -> float:
    """Return cos(π·x)."""
    quarter = round(2.0 * x)
    sine, cosine = _sine_and_cosine(math.pi * (x - 0.5 * quarter))
    return (cosine, -sine, -cosine, sine)[quarter % 4]


def cos_and_sin_pi(x: Array) -> tuple[Array, Array]:
    """Return cos(π·x) and sin(π·x) for an array."""
    quarters = np.rint(2.0 * x)
    sine, cosine = _sine_and_cosine(math.pi * (x - 0.5 * quarters))
    quarter = quarters.astype(np.int64) % 4
    return (
        np.choose(quarter, (cosine, -sine, -cosine, sine)),
        np.choose(quarter, (sine, cosine, -sine, -cosine)),
    )


def _sine_and_cosine(x: Number) -> tuple[Number, Number]:
    """Return sin(x) and cos(x) for |x| ≤ π/4."""
    z = x * x
    half = 0.5 * z
    whole = 1.0 - half
    # Written out: a schedule takes a cosine in every step.
    s1, s2, s3, s4, s5, s6 = SIN
    c1, c2, c3, c4, c5, c6 = COS
    sine = x + x * z * (s1 + z * (s2 + z * (s3 + z * (s4 + z * (s5 + z * s6)))))
    rest = z * z * (c1 + z * (c2 + z * (c3 + z * (c4 + z * (c5 + z * c6)))))
    return sine, whole + (((1.0 - whole) - half) + rest)


def _polynomial(x: Array, coefficients: tuple[float, ...]) -> Array:
    """Return `c[0] + c[1]·x + c[2]·x² + ...` by Horner's rule."""
    *others, value = coefficients
    result = np.full_like(x, value)
    for coefficient in reversed(others):
        result *= x
        result += coefficient
    return result


def total(values: Any) -> Array:
    """Return the sum along the first axis in float64: the second half is added to the first, until one row is left.

    Of n rows, the middle one of an odd number stays for the next round. The order depends on n alone, and the rounding
    error grows with log n, as in NumPy's pairwise sum.
    """
    rows = np.array(values, np.float64)
    n = len(rows)
    if not n:
        return np.zeros(rows.shape[1:])
    while n > 1:
        half = n - n // 2
        rows[: n - half] += rows[half:n]
        n = half
    first: Array = rows[0]
    return first


def mean(values: Any, weights: Array | None = None) -> Array:
    """Return the mean along the first axis in float64, weighted by `weights` (n,) if there are any."""
    values = np.asarray(values, np.float64)
    if weights is None:
        unweighted: Array = total(values) / len(values)
        return unweighted
    weighted: Array = total(values * weights.reshape(-1, *[1] * (values.ndim - 1))) / total(weights)
    return weighted
