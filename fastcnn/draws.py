"""Random numbers with the same bits everywhere: words of a generator, and exact arithmetic behind them.

What NumPy freezes are the words of its bit generators, and the streams of `RandomState` (NEP 19); the methods of
`Generator` may change with any version, and normal numbers take logarithms from the mathematical library.
"""

from __future__ import annotations

import math

import numpy as np

from . import exact
from .typing import Array, Shape

Generator = np.random.RandomState | np.random.Generator
CHUNK = 1 << 16  # normal numbers that are drawn at once


def words(generator: np.random.Generator, count: int) -> Array:
    """Return words of 64 bits; of MT19937, which has 32, two each, the higher one first."""
    bits = generator.bit_generator
    if isinstance(bits, np.random.MT19937):
        high, low = bits.random_raw(2 * count).reshape(count, 2).T
        joined: Array = high << np.uint64(32) | low
        return joined
    raw: Array = bits.random_raw(count)
    return raw


def uniform(generator: Generator, count: int) -> Array:
    """Return numbers of [0, 1), multiples of 2⁻⁵³."""
    if isinstance(generator, np.random.RandomState):
        return generator.random_sample(count)
    values: Array = (words(generator, count) >> np.uint64(11)) * 2.0**-53
    return values


def below(generator: Generator, limit: int) -> int:
    """Return a whole number of [0, limit), limit at most 2⁶³ - 1."""
    if isinstance(generator, np.random.RandomState):
        return int(generator.randint(limit, dtype=np.int64))
    return int(words(generator, 1)[0]) % limit


def normal(generator: Generator, shape: Shape) -> Array:
    """Return normal numbers of mean 0 and variance 1, by Marsaglia's polar method.

    Pairs of uniform numbers u, v of [-1, 1) are drawn until `r = u² + v²` is below 1 and not 0; such a pair gives
    `v·f` and `u·f`, `f = √(-2·ln r / r)`. From a `RandomState` they are those of its `standard_normal`, but for the
    rounding of the logarithm, and for the second number of a last pair, which `standard_normal` keeps for the next
    call.

    References
    ----------
    Marsaglia and Bray, "A convenient method for generating normal variables", SIAM Review 6 (1964).
    """
    size = math.prod(shape)
    out = np.empty(size + size % 2)
    for first in range(0, out.size, CHUNK):
        part = out[first : first + CHUNK]
        v, u, r = _pairs(generator, part.size // 2)
        factor = np.sqrt(-2.0 * exact.log(r) / r)
        part[::2], part[1::2] = factor * v, factor * u
    return out[:size].reshape(shape)


def _pairs(generator: Generator, count: int) -> Array:
    """Return v, u and r of as many pairs within the unit circle; no number is drawn that one at a time would not."""
    found = np.empty((3, count))
    done = 0
    while done < count:
        u, v = (2.0 * uniform(generator, 2 * (count - done)) - 1.0).reshape(-1, 2).T
        r = u * u + v * v
        kept = np.flatnonzero((r < 1.0) & (r > 0.0))
        last = done + len(kept)
        for row, values in zip(found, (v, u, r), strict=True):
            row[done:last] = values[kept]
        done = last
    return found
