"""Optimizers: the sum of the shards' gradients and the step, in one sweep over the flat vector.

Shape legend: theta (size,) the parameters; g (S · size,) one gradient per shard, summed in the order of the shards so
that the bits do not depend on who computed which; the sum, times rates[0], is left in the first row. Whatever a rule
remembers is (size,) too. Parameters from edges[k] to edges[k + 1] have their weight decay multiplied by decayed[k].
The rules, with their sources, are those of `optim/optimizers.py`.
"""

from __future__ import annotations

from ..codegen.vector import (
    double_sum_of_lanes,
    fma,
    lanes,
    lanes_like,
    load,
    load_first,
    maximum,
    sign,
    splat,
    splat_sixteen,
    sqrt,
    store,
    store_first,
)
from ..jit.source import kernel, macro


@macro
def _gradient(theta, g, shards, i, scale, changes):
    """Return scale · Σ g at `i`, and leave it in the first row, unless nothing `changes` there: a store is traffic."""
    total = load(g, i)
    for s in range(1, shards):
        total = total + load(g, s * theta.size + i)
    total = scale * total
    if changes:
        store(g, i, total)
    return total


@kernel
def sgd(theta, g, shards, first, last, rates):
    """theta -= learning_rate · (g + decay · theta); rates: scale, decay, -learning_rate."""
    scale, decay, rate = splat(theta, rates[0]), splat(theta, rates[1]), splat(theta, rates[2])
    changes = shards > 1 or rates[0] != theta.dtype.type(1)
    for i in range(first, last, lanes(theta)):
        p = load(theta, i)
        store(theta, i, fma(rate, fma(decay, p, _gradient(theta, g, shards, i, scale, changes)), p))


@kernel
def sgd_momentum(theta, g, shards, first, last, velocity, rates):
    """v = μ · v + g + decay · theta; theta += a · (g + decay · theta) + b · v; rates: scale, decay, μ, a, b."""
    scale, decay, momentum = splat(theta, rates[0]), splat(theta, rates[1]), splat(theta, rates[2])
    changes = shards > 1 or rates[0] != theta.dtype.type(1)
    a, b = splat(theta, rates[3]), splat(theta, rates[4])
    for i in range(first, last, lanes(theta)):
        p = load(theta, i)
        total = fma(decay, p, _gradient(theta, g, shards, i, scale, changes))
        v = fma(momentum, load(velocity, i), total)
        store(velocity, i, v)
        store(theta, i, fma(b, v, fma(a, total, p)))


@kernel
def adam(theta, g, shards, first, last, edges, decayed, moment, square, rates):
    """m = β₁m + (1 - β₁)g; v = β₂v + (1 - β₂)g²; theta += rate · m / (√v · root + ε), decay coupled or not before.

    rates: scale, coupled decay, -learning_rate · decoupled decay, β₁, 1 - β₁, β₂, 1 - β₂, root, ε, rate.
    """
    scale = splat(theta, rates[0])
    changes = shards > 1 or rates[0] != theta.dtype.type(1)
    beta1, rest1, beta2, rest2 = (
        splat(theta, rates[3]), splat(theta, rates[4]), splat(theta, rates[5]), splat(theta, rates[6]),
    )  # fmt: skip
    root, epsilon, rate = splat(theta, rates[7]), splat(theta, rates[8]), splat(theta, rates[9])
    for k in range(decayed.size):
        coupled, shrink = splat(theta, decayed[k] * rates[1]), splat(theta, decayed[k] * rates[2])
        for i in range(max(first, edges[k]), min(last, edges[k + 1]), lanes(theta)):
            p = load(theta, i)
            total = fma(coupled, p, _gradient(theta, g, shards, i, scale, changes))
            m = fma(beta1, load(moment, i), rest1 * total)
            v = fma(beta2, load(square, i), rest2 * total * total)
            store(moment, i, m)
            store(square, i, v)
            store(theta, i, fma(rate, m / fma(sqrt(v), root, epsilon), fma(shrink, p, p)))


@kernel
def rmsprop(theta, g, shards, first, last, square, rates):
    """v = αv + (1 - α)g²; theta += rate · g / (√v + ε); rates: scale, decay, α, 1 - α, ε, unused, rate."""
    scale = splat(theta, rates[0])
    changes = shards > 1 or rates[0] != theta.dtype.type(1)
    decay, alpha, rest, epsilon = (
        splat(theta, rates[1]), splat(theta, rates[2]), splat(theta, rates[3]), splat(theta, rates[4]),
    )  # fmt: skip
    rate = splat(theta, rates[6])
    for i in range(first, last, lanes(theta)):
        p = load(theta, i)
        total = fma(decay, p, _gradient(theta, g, shards, i, scale, changes))
        v = fma(alpha, load(square, i), rest * total * total)
        store(square, i, v)
        store(theta, i, fma(rate, total / (sqrt(v) + epsilon), p))


@kernel
def rmsprop_with_means(theta, g, shards, first, last, square, mean, velocity, rates):
    """Do the same with b = μb + g / (√v + ε), theta += rate · b; an empty `mean` or `velocity` is not wanted.

    With a mean a = αa + (1 - α)g the root is that of v - a². rates: scale, decay, α, 1 - α, ε, μ, rate.
    """
    scale = splat(theta, rates[0])
    changes = shards > 1 or rates[0] != theta.dtype.type(1)
    decay, alpha, rest, epsilon = (
        splat(theta, rates[1]), splat(theta, rates[2]), splat(theta, rates[3]), splat(theta, rates[4]),
    )  # fmt: skip
    momentum, rate, zero = splat(theta, rates[5]), splat(theta, rates[6]), splat(theta, theta.dtype.type(0))
    for i in range(first, last, lanes(theta)):
        p = load(theta, i)
        total = fma(decay, p, _gradient(theta, g, shards, i, scale, changes))
        v = fma(alpha, load(square, i), rest * total * total)
        store(square, i, v)
        if mean.size:
            a = fma(alpha, load(mean, i), rest * total)
            store(mean, i, a)
            v = maximum(zero, v - a * a)  # rounding must not make a variance negative
        b = total / (sqrt(v) + epsilon)
        if velocity.size:
            b = fma(momentum, load(velocity, i), b)
            store(velocity, i, b)
        store(theta, i, fma(rate, b, p))


@kernel
def lion(theta, g, shards, first, last, edges, decayed, moment, rates):
    """theta += rate · sign(β₁m + (1 - β₁)g) + shrink · theta; m = β₂m + (1 - β₂)g.

    rates: scale, shrink = -learning_rate · decay, β₁, 1 - β₁, β₂, 1 - β₂, rate.
    """
    scale = splat(theta, rates[0])
    changes = shards > 1 or rates[0] != theta.dtype.type(1)
    beta1, rest1, beta2, rest2 = (
        splat(theta, rates[2]), splat(theta, rates[3]), splat(theta, rates[4]), splat(theta, rates[5]),
    )  # fmt: skip
    rate = splat(theta, rates[6])
    for k in range(decayed.size):
        shrink = splat(theta, decayed[k] * rates[1])
        for i in range(max(first, edges[k]), min(last, edges[k + 1]), lanes(theta)):
            p, m, total = load(theta, i), load(moment, i), _gradient(theta, g, shards, i, scale, changes)
            store(theta, i, fma(rate, sign(fma(beta1, m, rest1 * total)), fma(shrink, p, p)))
            store(moment, i, fma(beta2, m, rest2 * total))


@kernel
def momentum_direction(theta, g, shards, first, last, momentum, direction, rates):
    """m = μm + (1 - μ)g; direction = a · g + b · m; rates: scale, ..., [10] μ, 1 - μ, a, b."""
    scale = splat(theta, rates[0])
    changes = shards > 1 or rates[0] != theta.dtype.type(1)
    mu, rest, a, b = (
        splat(theta, rates[10]), splat(theta, rates[11]), splat(theta, rates[12]), splat(theta, rates[13]),
    )  # fmt: skip
    for i in range(first, last, lanes(theta)):
        total = _gradient(theta, g, shards, i, scale, changes)
        m = fma(mu, load(momentum, i), rest * total)
        store(momentum, i, m)
        store(direction, i, fma(b, m, a * total))


@kernel
def momentum_step(theta, g, shards, first, last, momentum, factor, rates):
    """m = μm + (1 - μ)g; theta += factor · (rate · (a · g + b · m) + shrink · theta).

    rates: as of `momentum_direction`, then [14] rate and shrink: minus the learning rate; that by the weight decay.
    """
    scale = splat(theta, rates[0])
    changes = shards > 1 or rates[0] != theta.dtype.type(1)
    mu, rest, a, b = (
        splat(theta, rates[10]), splat(theta, rates[11]), splat(theta, rates[12]), splat(theta, rates[13]),
    )  # fmt: skip
    rate, shrink = splat(theta, factor[0] * rates[14]), splat(theta, factor[0] * rates[15])
    for i in range(first, last, lanes(theta)):
        p, total = load(theta, i), _gradient(theta, g, shards, i, scale, changes)
        m = fma(mu, load(momentum, i), rest * total)
        store(momentum, i, m)
        store(theta, i, fma(rate, fma(b, m, a * total), fma(shrink, p, p)))


@kernel
def add_rows(total, rows, pitch, count, first, place, size):
    """total[first : first + size] += the same many numbers from `place` on, of row after row."""
    for i in range(0, size, lanes(total)):
        summed = load(total, first + i)
        for s in range(count):
            summed = summed + load(rows, s * pitch + place + i)
        store(total, first + i, summed)


@kernel
def sum_squares(g, shards, size, begin, rows, pitch, first, last, squares):
    """Sum the shards of the chunks from `first` to `last` into the first row, and their squares into squares[chunk].

    A chunk is `rows` rows of `pitch` numbers. The squares of column c are added up in lane c mod 16, in the dtype, and
    the lanes in double precision: `pitch` depends on the processor's registers, but the zeros that pad it add nothing.
    """
    zero = splat_sixteen(g, g.dtype.type(0))
    for k in range(first, last):
        square = zero
        for i in range(begin[k], begin[k] + rows[k] * pitch[k], pitch[k]):
            for c in range(0, pitch[k], lanes_like(zero)):
                count = pitch[k] - c
                total = load_first(zero, g, i + c, count)
                if shards > 1:
                    for s in range(1, shards):
                        total = total + load_first(zero, g, s * size + i + c, count)
                    store_first(g, i + c, total, count)
                square = fma(total, total, square)
        squares[k] = double_sum_of_lanes(square)


@kernel
def blend(a, b, rates, back):
    """Let a be rates[0] · a + rates[1] · b, and b the same if it goes `back`, unless rates[2] is 0; of any length."""
    if rates[2] != 0:
        for i in range(a.size):
            a[i] = rates[0] * a[i] + rates[1] * b[i]
            if back:
                b[i] = a[i]


@kernel
def look_ahead(slow, theta, first, last, rates):
    """slow = theta = rates[0] · slow + rates[1] · theta, from `first` to `last`, unless rates[2] is 0."""
    if rates[2] != 0:
        rest, alpha = splat(theta, rates[0]), splat(theta, rates[1])
        for i in range(first, last, lanes(theta)):
            p = fma(rest, load(slow, i), alpha * load(theta, i))
            store(slow, i, p)
            store(theta, i, p)


@kernel
def average(mean, theta, first, last, rates):
    """mean = rates[0] · mean + rates[1] · theta, from `first` to `last`."""
    decay, rest = splat(theta, rates[0]), splat(theta, rates[1])
    for i in range(first, last, lanes(theta)):
        store(mean, i, fma(decay, load(mean, i), rest * load(theta, i)))
