"""Normal numbers, one pair after the other, from +, −, ×, ÷ and √ alone: the same bits on every machine."""

from __future__ import annotations

import math

import numpy as np

Generator = np.random.RandomState | np.random.Generator
LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10  # ln 2 in two parts
COEFFICIENTS = (
    6.666666666666735130e-01, 3.999999999940941908e-01, 2.857142874366239149e-01, 2.222219843214978396e-01,
    1.818357216161805012e-01, 1.531383769920937332e-01, 1.479819860511658591e-01,
)  # fmt: skip


def normal(generator: Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw pairs (u, v) of [-1, 1)², until r = u² + v² lies in (0, 1); then v·f and u·f, f = sqrt(-2·ln(r) / r).

    From a ``RandomState`` these are the numbers of ``standard_normal``, but for the rounding of the logarithm. Of an
    odd count, the partner of the last one is not kept.

    References
    ----------
    Marsaglia and Bray 1964, "A convenient method for generating normal variables".
    """
    numbers: list[float] = []
    while len(numbers) < math.prod(shape):
        u, v = 2 * uniform(generator) - 1, 2 * uniform(generator) - 1
        r = u * u + v * v
        if 0 < r < 1:
            factor = math.sqrt(-2 * log(r) / r)
            numbers += [factor * v, factor * u]
    return np.array(numbers[: math.prod(shape)]).reshape(shape)


def uniform(generator: Generator) -> float:
    """Draw a multiple of 2⁻⁵³ in [0, 1): the 53 highest bits of a word of 64, which MT19937 gives in two halves."""
    if isinstance(generator, np.random.RandomState):
        return generator.random_sample()
    word = generator.bit_generator.random_raw()
    if isinstance(generator.bit_generator, np.random.MT19937):
        word = (word << 32) + generator.bit_generator.random_raw()
    return (word >> 11) / 2**53


def log(x: float) -> float:
    """Return ln(x): x = 2ᵏ·(1 + f) with 1 + f in [√½, √2), s = f / (2 + f), ln(1 + f) = f − f²/2 + s·(f²/2 + R(s²)).

    R is the polynomial of fdlibm's e_log.c (Sun Microsystems, 1993).
    """
    mantissa, k = math.frexp(x)
    if mantissa < math.sqrt(0.5):
        mantissa, k = 2 * mantissa, k - 1
    f = mantissa - 1
    s = f / (2 + f)
    rest = 0.0
    for coefficient in reversed(COEFFICIENTS):
        rest = rest * (s * s) + coefficient
    half = 0.5 * f * f
    return k * LN2_HIGH - ((half - (s * (half + s * s * rest) + k * LN2_LOW)) - f)
