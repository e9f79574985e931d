"""Dropout with a counter-based generator: whether a unit is dropped depends on who it is, not on when it is asked.

The key of a sample is (seed, step, number of the sample), mixed by the finalizer of SplitMix64 (Steele, Lea and
Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014, with Stafford's constants). The 32 random bits of
a unit are lowbias32 (Wellons, "Prospecting for hash functions", 2018) of its number and of one half of the key, and
again of that and of the other half.
"""

from __future__ import annotations

import numpy as np

from ..codegen.vector import lanes, load, splat, store_or_stream
from ..codegen.vector_bits import keep_hashed
from ..jit.source import kernel

GAMMA = np.uint64(0x9E3779B97F4A7C15)
MIX_1, MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
SHIFT_1, SHIFT_2, SHIFT_3 = np.uint64(30), np.uint64(27), np.uint64(31)


@kernel
def _mixed(z):
    """One step of SplitMix64 from the state z."""
    z = z + GAMMA
    z = (z ^ (z >> SHIFT_1)) * MIX_1
    z = (z ^ (z >> SHIFT_2)) * MIX_2
    return z ^ (z >> SHIFT_3)


@kernel
def sample_keys(seed, step, first, n, keys):
    """keys[i] = the key of sample first + i in step[0]."""
    start = _mixed(_mixed(np.uint64(seed)) ^ np.uint64(step[0]))
    for i in range(n):
        keys[i] = _mixed(start ^ np.uint64(first + i))


@kernel
def dropout(x, y, keys, n, lines, width, pitch, units, drop, scale, stream):
    """y = scale · x where the 32 bits of a unit are at least `drop`, else 0.

    Channel c of pixel p is unit p · units + c: with units = 0, whole channels are kept or dropped.
    """
    factor = splat(x.data, scale)
    for r in range(n * lines):
        key, unit = np.int64(keys[r // lines]), (r % lines) * width * units
        i, o = x.rows[r], y.rows[r]
        for _ in range(width):
            for c in range(0, pitch, lanes(x.data)):
                store_or_stream(y.data, o + c, keep_hashed(factor * load(x.data, i + c), unit + c, key, drop), stream)
            i += pitch
            o += pitch
            unit += units
