"""Normalisation: means and variances, the scaled maps with the ReLU that follows, and their gradients.

All that is memory-bound here: one sweep for the sums, one for the result, in either direction.

Shape legend: maps are `rows` lines of W pixels that begin where a `_row` table says; a pixel is P numbers, a multiple
of the vector's lanes, of which the first C are channels. `k` (6, P) holds what a channel is normalised with, zero where
there is none: its mean μ, scale γ/σ, shift β; for the gradient slope and rest; 1/σ. `block` lines are summed by
themselves. `floor` is 0 where a ReLU follows, else -∞.
"""

from __future__ import annotations

import math

from ..codegen.vector import fma, keep_above, lanes, load, maximum, splat, store
from ..jit.source import kernel

SAMPLED = 8  # lines whose mean is near enough to that of all
MEAN, SCALE, SHIFT, SLOPE, REST, INVERSE = range(6)


@kernel
def _clear(a, first, end):
    """a[first:end] = 0."""
    for c in range(first, end, lanes(a)):
        store(a, c, splat(a, a.dtype.type(0)))


@kernel
def _add_to(a, i, v):
    """a[i] += v."""
    store(a, i, load(a, i) + v)


@kernel
def _carry(s, P):
    """Add the sums of a block of lines, s[2P:], to those of all before it, s[:2P]: short sums round less."""
    for c in range(0, 2 * P, lanes(s)):
        _add_to(s, c, load(s, 2 * P + c))


@kernel
def _line_mean(x, x_row, r0, r1, step, W, P, mean):
    """mean (P,) = that of every `step`-th line."""
    _clear(mean, 0, P)
    for r in range(r0, r1, step):
        for i in range(x_row[r], x_row[r] + W * P, P):
            for c in range(0, P, lanes(x)):
                _add_to(mean, c, load(x, i + c))
    share = splat(x, x.dtype.type(1.0 / (W * ((r1 - r0 + step - 1) // step))))
    for c in range(0, P, lanes(x)):
        store(mean, c, load(mean, c) * share)


@kernel
def moments(x, x_row, r0, r1, W, P, block, before, k, s, m):
    """m (2, P) = each channel's mean and Σ (x - mean)², in float64; the means in k and s (4, P) are scratch.

    One sweep, relative to the mean of SAMPLED lines, d = x - shift: mean = shift + Σd/n, Σ (x - mean)² = Σd² - (Σd)²/n.
    That shift is at most sqrt(lines / SAMPLED) standard deviations off, so that little is lost wherever the mean lies.
    If so many lines went `before`, what they have left in k and s goes on.
    """
    if before == 0:
        _line_mean(x, x_row, r0, r1, max(1, (r1 - r0) // SAMPLED), W, P, k)
        _clear(s, 0, 2 * P)
    for first in range(r0, r1, block):
        _clear(s, 2 * P, 4 * P)
        for r in range(first, min(first + block, r1)):
            end = x_row[r] + W * P
            for i in range(x_row[r], end - 3 * P, 4 * P):
                for c in range(0, P, lanes(x)):
                    shift = load(k, c)
                    d0, d1 = load(x, i + c) - shift, load(x, i + P + c) - shift
                    d2, d3 = load(x, i + 2 * P + c) - shift, load(x, i + 3 * P + c) - shift
                    _add_to(s, 2 * P + c, (d0 + d1) + (d2 + d3))
                    _add_to(s, 3 * P + c, fma(d0, d0, d1 * d1) + fma(d2, d2, d3 * d3))
            for i in range(end - W % 4 * P, end, P):
                for c in range(0, P, lanes(x)):
                    d = load(x, i + c) - load(k, c)
                    _add_to(s, 2 * P + c, d)
                    store(s, 3 * P + c, fma(d, d, load(s, 3 * P + c)))
        _carry(s, P)
    count = float((before + r1 - r0) * W)
    for c in range(P):
        total = float(s[c])
        m[c] = float(k[c]) + total / count
        m[P + c] = max(0.0, float(s[P + c]) - total * (total / count))


@kernel
def normalise(x, x_row, y, y_row, r0, r1, W, P, k, floor):
    """y = max(floor, (x - μ) · γ/σ + β)."""
    low = splat(x, floor)
    for r in range(r0, r1):
        i, o = x_row[r], y_row[r]
        for _ in range(W):
            for c in range(0, P, lanes(x)):
                value = fma(load(x, i + c) - load(k, c), load(k, P + c), load(k, 2 * P + c))
                store(y, o + c, maximum(low, value))
            i += P
            o += P


@kernel
def normalise_panels(x, x_row, y, lines, W, P, k, floor, span):
    """Write the same y in panels of two vectors, `span` numbers apart: (panel, pixel, channel of the panel)."""
    low, L = splat(x, floor), lanes(x)
    first = 0
    for r in range(lines):
        i = x_row[r]
        for _ in range(W):
            o = first
            for c in range(0, P, 2 * L):
                value = fma(load(x, i + c) - load(k, c), load(k, P + c), load(k, 2 * P + c))
                store(y, o, maximum(low, value))
                value = fma(load(x, i + c + L) - load(k, c + L), load(k, P + c + L), load(k, 2 * P + c + L))
                store(y, o + L, maximum(low, value))
                o += span
            i += P
            first += 2 * L


@kernel
def _masked(x, i, dy, o, mean, scale, shift, low):
    """x - μ, and dy where y was above the floor."""
    d = load(x, i) - mean
    return d, keep_above(load(dy, o), fma(d, scale, shift), low)


@kernel
def gradient_sums(x, x_row, dy, dy_row, r0, r1, W, P, block, k, floor, s, fresh):
    """s[:2P] = Σ g and Σ g · (x - μ), where g is dy where y was above the floor, added to those sums unless `fresh`.

    s (4, P) is scratch.
    """
    low = splat(x, floor)
    if fresh:
        _clear(s, 0, 2 * P)
    for first in range(r0, r1, block):
        _clear(s, 2 * P, 4 * P)
        for r in range(first, min(first + block, r1)):
            i, o = x_row[r], dy_row[r]
            for _ in range(W // 4):
                for c in range(0, P, lanes(x)):
                    mean, scale, shift = load(k, c), load(k, P + c), load(k, 2 * P + c)
                    d0, g0 = _masked(x, i + c, dy, o + c, mean, scale, shift, low)
                    d1, g1 = _masked(x, i + P + c, dy, o + P + c, mean, scale, shift, low)
                    d2, g2 = _masked(x, i + 2 * P + c, dy, o + 2 * P + c, mean, scale, shift, low)
                    d3, g3 = _masked(x, i + 3 * P + c, dy, o + 3 * P + c, mean, scale, shift, low)
                    _add_to(s, 2 * P + c, (g0 + g1) + (g2 + g3))
                    _add_to(s, 3 * P + c, fma(g0, d0, g1 * d1) + fma(g2, d2, g3 * d3))
                i += 4 * P
                o += 4 * P
            for _ in range(W % 4):
                for c in range(0, P, lanes(x)):
                    d, g = _masked(x, i + c, dy, o + c, load(k, c), load(k, P + c), load(k, 2 * P + c), low)
                    _add_to(s, 2 * P + c, g)
                    store(s, 3 * P + c, fma(g, d, load(s, 3 * P + c)))
                i += P
                o += P
        _carry(s, P)


@kernel
def normalise_backward(x, x_row, dy, dy_row, dx, dx_row, r0, r1, W, P, k, floor):
    """dx = γ/σ · g + slope · (x - μ) + rest, where g is dy where y was above the floor."""
    low = splat(x, floor)
    for r in range(r0, r1):
        i, o, q = x_row[r], dy_row[r], dx_row[r]
        for _ in range(W):
            for c in range(0, P, lanes(x)):
                scale = load(k, P + c)
                d, g = _masked(x, i + c, dy, o + c, load(k, c), scale, load(k, 2 * P + c), low)
                store(dx, q + c, fma(scale, g, fma(load(k, 3 * P + c), d, load(k, 4 * P + c))))
            i += P
            o += P
            q += P


@kernel
def normalise_backward_panels(x, x_row, dy, dy_row, dx, lines, W, P, k, floor, width, span):
    """Write the same dx in panels of `width` channels, `span` numbers apart: (panel, pixel, channel of the panel)."""
    low = splat(x, floor)
    first = 0
    for r in range(lines):
        i, o = x_row[r], dy_row[r]
        for _ in range(W):
            q = first
            for panel in range(0, P, width):
                for c in range(panel, panel + width, lanes(x)):
                    scale = load(k, P + c)
                    d, g = _masked(x, i + c, dy, o + c, load(k, c), scale, load(k, 2 * P + c), low)
                    store(dx, q + c - panel, fma(scale, g, fma(load(k, 3 * P + c), d, load(k, 4 * P + c))))
                q += span
            i += P
            o += P
            first += width


@kernel
def join(m, before, part, count, P):
    """Let `count` numbers a channel with the moments `part` (2, P) join the `before` that m stands for: Chan's formula.

    Source: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979.
    """
    share = count / (before + count)
    for c in range(P):
        delta = part[c] - m[c]
        m[c] += delta * share
        m[P + c] += part[P + c] + delta * delta * (before * share)


@kernel
def update_running(m, count, P, mean, variance, momentum):
    """Let the moments of `count` numbers take part in the running mean and variance (C,)."""
    for c in range(mean.size):
        mean[c] = (1 - momentum) * mean[c] + momentum * m[c]
        variance[c] = (1 - momentum) * variance[c] + momentum * (m[P + c] / (count - 1))


@kernel
def coefficients(mean, squares, count, C, P, gamma, beta, epsilon, k):
    """k for channels of this mean and variance squares / count; slope and rest are zero: neither depends on x."""
    for i in range(6 * P):
        k[i] = 0
    for c in range(C):
        inverse = 1.0 / math.sqrt(squares[c] / count + epsilon)
        k[MEAN * P + c] = mean[c]
        k[SCALE * P + c] = gamma[c] * inverse
        k[SHIFT * P + c] = beta[c]
        k[INVERSE * P + c] = inverse


@kernel
def add_sums(total, s, P, fresh):
    """total (2, P), in float64, += the sums s (2, P); it begins with them if `fresh`."""
    for c in range(2 * P):
        total[c] = s[c] if fresh else total[c] + s[c]


@kernel
def gradient_coefficients(total, count, C, P, k):
    """Slope and rest of k from the sums (2, P) of the batch: μ and σ depend on each of `count` numbers."""
    for c in range(C):
        scale, inverse = float(k[SCALE * P + c]), float(k[INVERSE * P + c])
        k[SLOPE * P + c] = -scale * inverse * inverse * total[P + c] / count
        k[REST * P + c] = -scale * total[c] / count


@kernel
def parameter_gradients(s, k, P, dgamma, dbeta):
    """dγ = Σ g · (x - μ)/σ and dβ = Σ g, from the sums s (2, P)."""
    for c in range(P):
        dgamma[c] = s[P + c] * k[INVERSE * P + c]
        dbeta[c] = s[c]


# One example at a time: groups of channels, or all of them. k is (n, 6, P).


@kernel
def _group_coefficients(m, count, C, groups, P, epsilon, k):
    """μ and 1/σ of each group from its channels' means and sums of squares, `count` numbers each."""
    for i in range(6 * P):
        k[i] = 0
    size = C // groups
    for c0 in range(0, C, size):
        mean = squares = 0.0
        for c in range(c0, c0 + size):
            mean += float(m[c]) / size
        for c in range(c0, c0 + size):
            delta = float(m[c]) - mean
            squares += float(m[P + c]) + count * delta * delta
        inverse = 1.0 / math.sqrt(squares / (count * size) + epsilon)
        for c in range(c0, c0 + size):
            k[MEAN * P + c] = mean
            k[INVERSE * P + c] = inverse


@kernel
def _group_gradient_coefficients(s, count, C, groups, P, k):
    """Slope and rest of each group from its channels' Σ γ·g and Σ γ·g · (x - μ), `count` numbers each."""
    size = C // groups
    for c0 in range(0, C, size):
        total = moment = 0.0
        for c in range(c0, c0 + size):
            total += float(s[c])
            moment += float(s[P + c])
        inverse = float(k[INVERSE * P + c0])
        for c in range(c0, c0 + size):
            k[SLOPE * P + c] = -inverse * inverse * inverse * moment / (count * size)
            k[REST * P + c] = -inverse * total / (count * size)


@kernel
def group_norm(x, x_row, y, y_row, n, H, W, P, C, groups, block, gamma, beta, epsilon, floor, s, m, k):
    """y = max(floor, (x - μ) · γ/σ + β), μ and σ of each example's groups of channels; s (4, P), m (2, P): scratch."""
    for i in range(n):
        own = k[6 * P * i : 6 * P * (i + 1)]
        moments(x, x_row, i * H, (i + 1) * H, W, P, block, 0, own, s, m)
        _group_coefficients(m, H * W, C, groups, P, epsilon, own)
        for c in range(C):
            own[SCALE * P + c] = gamma[c] * own[INVERSE * P + c]
            own[SHIFT * P + c] = beta[c]
        normalise(x, x_row, y, y_row, i * H, (i + 1) * H, W, P, own, floor)


@kernel
def group_norm_sums(x, x_row, dy, dy_row, n, H, W, P, C, groups, block, gamma, floor, s, k, dgamma, dbeta):
    """dγ = Σ g · (x - μ)/σ and dβ = Σ g over all examples, and what k needs for dx; `s` (4, P) is scratch."""
    for c in range(P):
        dgamma[c] = 0
        dbeta[c] = 0
    for i in range(n):
        own = k[6 * P * i : 6 * P * (i + 1)]
        gradient_sums(x, x_row, dy, dy_row, i * H, (i + 1) * H, W, P, block, own, floor, s, True)
        for c in range(C):
            dbeta[c] += s[c]
            dgamma[c] += s[P + c] * own[INVERSE * P + c]
            s[c] *= gamma[c]
            s[P + c] *= gamma[c]
        _group_gradient_coefficients(s, H * W, C, groups, P, own)


@kernel
def group_norm_backward(x, x_row, dy, dy_row, dx, dx_row, n, H, W, P, k, floor):
    """dx = γ/σ · g + slope · (x - μ) + rest, example by example."""
    for i in range(n):
        own = k[6 * P * i : 6 * P * (i + 1)]
        normalise_backward(x, x_row, dy, dy_row, dx, dx_row, i * H, (i + 1) * H, W, P, own, floor)


@kernel
def layer_norm(x, x_row, y, y_row, n, H, W, P, C, block, gamma, beta, epsilon, floor, s, m, k):
    """y = max(floor, (x - μ)/σ · γ + β), μ and σ of each example; γ and β (H, W, P); s (4, P), m (2, P): scratch."""
    low = splat(x, floor)
    for i in range(n):
        own = k[6 * P * i : 6 * P * (i + 1)]
        moments(x, x_row, i * H, (i + 1) * H, W, P, block, 0, own, s, m)
        _group_coefficients(m, H * W, C, 1, P, epsilon, own)
        for h in range(H):
            for w in range(W):
                for c in range(0, P, lanes(x)):
                    e = (h * W + w) * P + c
                    d = load(x, x_row[i * H + h] + w * P + c) - load(own, c)
                    value = fma(d * load(own, INVERSE * P + c), load(gamma, e), load(beta, e))
                    store(y, y_row[i * H + h] + w * P + c, maximum(low, value))


@kernel
def _masked_element(x, i, dy, o, k, P, c, gamma, beta, e, low):
    """(x - μ)/σ, and dy where y was above the floor."""
    hat = (load(x, i) - load(k, c)) * load(k, INVERSE * P + c)
    return hat, keep_above(load(dy, o), fma(hat, load(gamma, e), load(beta, e)), low)


@kernel
def layer_norm_sums(x, x_row, dy, dy_row, n, H, W, P, C, gamma, beta, floor, s, k, dgamma, dbeta):
    """dγ = Σ g · (x - μ)/σ and dβ = Σ g over all examples, and what k needs for dx; `s` (4, P) is scratch."""
    low = splat(x, floor)
    zero = splat(x, x.dtype.type(0))
    for e in range(0, H * W * P, lanes(x)):
        store(dgamma, e, zero)
        store(dbeta, e, zero)
    for i in range(n):
        own = k[6 * P * i : 6 * P * (i + 1)]
        for c in range(0, P, lanes(x)):
            total = moment = zero
            for h in range(H):
                for w in range(W):
                    e, at, o = (h * W + w) * P + c, x_row[i * H + h] + w * P + c, dy_row[i * H + h] + w * P + c
                    hat, g = _masked_element(x, at, dy, o, own, P, c, gamma, beta, e, low)
                    store(dbeta, e, load(dbeta, e) + g)
                    store(dgamma, e, fma(g, hat, load(dgamma, e)))
                    g = g * load(gamma, e)
                    total = total + g
                    moment = fma(g, load(x, at) - load(own, c), moment)
            store(s, c, total)
            store(s, P + c, moment)
        _group_gradient_coefficients(s, H * W, C, 1, P, own)


@kernel
def layer_norm_backward(x, x_row, dy, dy_row, dx, dx_row, n, H, W, P, gamma, beta, k, floor):
    """dx = γ/σ · g + slope · (x - μ) + rest, example by example."""
    low = splat(x, floor)
    for i in range(n):
        own = k[6 * P * i : 6 * P * (i + 1)]
        for h in range(H):
            for w in range(W):
                for c in range(0, P, lanes(x)):
                    e, at, o = (h * W + w) * P + c, x_row[i * H + h] + w * P + c, dy_row[i * H + h] + w * P + c
                    _, g = _masked_element(x, at, dy, o, own, P, c, gamma, beta, e, low)
                    d = load(x, at) - load(own, c)
                    rest = fma(load(own, SLOPE * P + c), d, load(own, REST * P + c))
                    value = fma(g * load(gamma, e), load(own, INVERSE * P + c), rest)
                    store(dx, dx_row[i * H + h] + w * P + c, value)
