"""Optimizers: the sum of the shards' gradients and the step, in one sweep over the flat vector.

Shape legend: theta (size,) the parameters; g (S, size) one gradient per shard, summed in the order of the shards so
that the bits do not depend on who computed which; the sum is left in g[0].
"""

from __future__ import annotations

from .cache import kernel
from .vector import fma, lanes, load, splat, store


@kernel
def sgd(theta, g, shards, size, first, last, learning_rate):
    """theta -= learning_rate · Σ g, from `first` to `last`."""
    rate = splat(theta, -learning_rate)
    for i in range(first, last, lanes(theta)):
        total = load(g, i)
        for s in range(1, shards):
            total = total + load(g, s * size + i)
        store(g, i, total)
        store(theta, i, fma(rate, total, load(theta, i)))
