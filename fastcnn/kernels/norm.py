"""Normalisation: means and variances, the scaled maps with the ReLU that follows, and their gradients.

All that is memory-bound here: one sweep for the sums, one for the result, in either direction.

Shape legend: the rows of maps are lines of W pixels; a pixel is P numbers, a multiple of the vector's lanes, of which
the first C are channels. `k` (6, P) holds what a channel is normalised with, zero where there is none: its mean μ,
scale γ/σ, shift β; for the gradient slope and rest; 1/σ. `block` lines are summed by themselves. `clamp_min` is 0 where
a ReLU follows, else -∞.
"""

from __future__ import annotations

import math

from ..codegen.vector import fma, keep_above, lanes, load, maximum, splat, store
from ..jit.source import kernel

SAMPLED = 8  # lines whose mean is near enough to that of all, see `moments`
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
def _line_mean(x, r0, r1, step, W, P, mean):
    """mean (P,) = that of every `step`-th line."""
    _clear(mean, 0, P)
    for r in range(r0, r1, step):
        for i in range(x.rows[r], x.rows[r] + W * P, P):
            for c in range(0, P, lanes(x.data)):
                _add_to(mean, c, load(x.data, i + c))
    share = splat(x.data, x.data.dtype.type(1.0 / (W * ((r1 - r0 + step - 1) // step))))
    for c in range(0, P, lanes(x.data)):
        store(mean, c, load(mean, c) * share)


@kernel
def moments(x, r0, r1, W, P, block, before, k, s, m):
    """m (2, P) = each channel's mean and Σ (x - mean)², in float64; the means in k and s (4, P) are scratch.

    One sweep, relative to the mean of SAMPLED lines, d = x - shift: mean = shift + Σd/n, Σ (x - mean)² = Σd² - (Σd)²/n.
    That shift is at most sqrt(lines / SAMPLED) standard deviations off, so that little is lost wherever the mean lies.
    After so many lines `before`, k and s go on from what these have left.

    Source: Chan, Golub and LeVeque, "Algorithms for computing the sample variance", The American Statistician 37, 1983.
    """
    if before == 0:
        _line_mean(x, r0, r1, max(1, (r1 - r0) // SAMPLED), W, P, k)
        _clear(s, 0, 2 * P)
    for first in range(r0, r1, block):
        _clear(s, 2 * P, 4 * P)
        for r in range(first, min(first + block, r1)):
            end = x.rows[r] + W * P
            for i in range(x.rows[r], end - 3 * P, 4 * P):
                for c in range(0, P, lanes(x.data)):
                    shift = load(k, c)
                    d0, d1 = load(x.data, i + c) - shift, load(x.data, i + P + c) - shift
                    d2, d3 = load(x.data, i + 2 * P + c) - shift, load(x.data, i + 3 * P + c) - shift
                    _add_to(s, 2 * P + c, (d0 + d1) + (d2 + d3))
                    _add_to(s, 3 * P + c, fma(d0, d0, d1 * d1) + fma(d2, d2, d3 * d3))
            for i in range(end - W % 4 * P, end, P):
                for c in range(0, P, lanes(x.data)):
                    d = load(x.data, i + c) - load(k, c)
                    _add_to(s, 2 * P + c, d)
                    store(s, 3 * P + c, fma(d, d, load(s, 3 * P + c)))
        _carry(s, P)
    count = float((before + r1 - r0) * W)
    for c in range(P):
        total = float(s[c])
        m[c] = float(k[c]) + total / count
        m[P + c] = max(0.0, float(s[P + c]) - total * (total / count))


@kernel
def normalise(x, y, r0, r1, W, P, k, clamp_min):
    """y = max(clamp_min, (x - μ) · γ/σ + β)."""
    low = splat(x.data, clamp_min)
    for r in range(r0, r1):
        i, o = x.rows[r], y.rows[r]
        for _ in range(W):
            for c in range(0, P, lanes(x.data)):
                value = fma(load(x.data, i + c) - load(k, c), load(k, P + c), load(k, 2 * P + c))
                store(y.data, o + c, maximum(low, value))
            i += P
            o += P


@kernel
def normalise_blocked(x, y, lines, W, P, k, clamp_min, span):
    """Write the same y in panels of two vectors, `span` numbers apart: (panel, pixel, channel of the panel)."""
    low, L = splat(x.data, clamp_min), lanes(x.data)
    first = 0
    for r in range(lines):
        i = x.rows[r]
        for _ in range(W):
            o = first
            for c in range(0, P, 2 * L):
                value = fma(load(x.data, i + c) - load(k, c), load(k, P + c), load(k, 2 * P + c))
                store(y, o, maximum(low, value))
                value = fma(load(x.data, i + c + L) - load(k, c + L), load(k, P + c + L), load(k, 2 * P + c + L))
                store(y, o + L, maximum(low, value))
                o += span
            i += P
            first += 2 * L


@kernel
def _masked(x, i, dy, o, mean, scale, shift, low):
    """x - μ, and dy where y was above `clamp_min`."""
    d = load(x, i) - mean
    return d, keep_above(load(dy, o), fma(d, scale, shift), low)


@kernel
def gradient_sums(x, dy, r0, r1, W, P, block, k, clamp_min, s, accumulate):
    """s[:2P] = Σ g and Σ g · (x - μ), where g is dy where y was above `clamp_min`, added to them if `accumulate`.

    s (4, P) is scratch.
    """
    low = splat(x.data, clamp_min)
    if not accumulate:
        _clear(s, 0, 2 * P)
    for first in range(r0, r1, block):
        _clear(s, 2 * P, 4 * P)
        for r in range(first, min(first + block, r1)):
            i, o = x.rows[r], dy.rows[r]
            for _ in range(W // 4):
                for c in range(0, P, lanes(x.data)):
                    mean, scale, shift = load(k, c), load(k, P + c), load(k, 2 * P + c)
                    d0, g0 = _masked(x.data, i + c, dy.data, o + c, mean, scale, shift, low)
                    d1, g1 = _masked(x.data, i + P + c, dy.data, o + P + c, mean, scale, shift, low)
                    d2, g2 = _masked(x.data, i + 2 * P + c, dy.data, o + 2 * P + c, mean, scale, shift, low)
                    d3, g3 = _masked(x.data, i + 3 * P + c, dy.data, o + 3 * P + c, mean, scale, shift, low)
                    _add_to(s, 2 * P + c, (g0 + g1) + (g2 + g3))
                    _add_to(s, 3 * P + c, fma(g0, d0, g1 * d1) + fma(g2, d2, g3 * d3))
                i += 4 * P
                o += 4 * P
            for _ in range(W % 4):
                for c in range(0, P, lanes(x.data)):
                    d, g = _masked(x.data, i + c, dy.data, o + c, load(k, c), load(k, P + c), load(k, 2 * P + c), low)
                    _add_to(s, 2 * P + c, g)
                    store(s, 3 * P + c, fma(g, d, load(s, 3 * P + c)))
                i += P
                o += P
        _carry(s, P)


@kernel
def normalise_backward(x, dy, dx, r0, r1, W, P, k, clamp_min):
    """dx = γ/σ · g + slope · (x - μ) + rest, where g is dy where y was above `clamp_min`."""
    low = splat(x.data, clamp_min)
    for r in range(r0, r1):
        i, o, q = x.rows[r], dy.rows[r], dx.rows[r]
        for _ in range(W):
            for c in range(0, P, lanes(x.data)):
                scale = load(k, P + c)
                d, g = _masked(x.data, i + c, dy.data, o + c, load(k, c), scale, load(k, 2 * P + c), low)
                store(dx.data, q + c, fma(scale, g, fma(load(k, 3 * P + c), d, load(k, 4 * P + c))))
            i += P
            o += P
            q += P


@kernel
def normalise_backward_blocked(x, dy, dx, lines, W, P, k, clamp_min, width, span):
    """Write the same dx in panels of `width` channels, `span` numbers apart: (panel, pixel, channel of the panel)."""
    low = splat(x.data, clamp_min)
    first = 0
    for r in range(lines):
        i, o = x.rows[r], dy.rows[r]
        for _ in range(W):
            q = first
            for panel in range(0, P, width):
                for c in range(panel, panel + width, lanes(x.data)):
                    scale = load(k, P + c)
                    d, g = _masked(x.data, i + c, dy.data, o + c, load(k, c), scale, load(k, 2 * P + c), low)
                    store(dx, q + c - panel, fma(scale, g, fma(load(k, 3 * P + c), d, load(k, 4 * P + c))))
                q += span
            i += P
            o += P
            first += width


@kernel
def join(m, before, part, count, P):
    """Let `count` numbers a channel of moments `part` (2, P) join the `before` of moments m: Chan's formula.

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
def add_sums(total, s, P, accumulate):
    """total (2, P), in float64, = the sums s (2, P), which are added to what is there if `accumulate`."""
    for c in range(2 * P):
        total[c] = total[c] + s[c] if accumulate else s[c]


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
def group_norm(x, y, images, groups, block, gamma, beta, epsilon, clamp_min, s, m, k):
    """y = max(clamp_min, (x - μ) · γ/σ + β), μ and σ of each example's groups; s (4, P) and m (2, P) are scratch."""
    n, H, W, P, C = images
    for i in range(n):
        own = k[6 * P * i : 6 * P * (i + 1)]
        moments(x, i * H, (i + 1) * H, W, P, block, 0, own, s, m)
        _group_coefficients(m, H * W, C, groups, P, epsilon, own)
        for c in range(C):
            own[SCALE * P + c] = gamma[c] * own[INVERSE * P + c]
            own[SHIFT * P + c] = beta[c]
        normalise(x, y, i * H, (i + 1) * H, W, P, own, clamp_min)


@kernel
def group_norm_sums(x, dy, images, groups, block, gamma, clamp_min, s, k, dgamma, dbeta):
    """dγ = Σ g · (x - μ)/σ and dβ = Σ g over all examples, and what k needs for dx; `s` (4, P) is scratch."""
    n, H, W, P, C = images
    for c in range(P):
        dgamma[c] = 0
        dbeta[c] = 0
    for i in range(n):
        own = k[6 * P * i : 6 * P * (i + 1)]
        gradient_sums(x, dy, i * H, (i + 1) * H, W, P, block, own, clamp_min, s, False)
        for c in range(C):
            dbeta[c] += s[c]
            dgamma[c] += s[P + c] * own[INVERSE * P + c]
            s[c] *= gamma[c]
            s[P + c] *= gamma[c]
        _group_gradient_coefficients(s, H * W, C, groups, P, own)


@kernel
def group_norm_backward(x, dy, dx, images, k, clamp_min):
    """dx = γ/σ · g + slope · (x - μ) + rest, example by example."""
    n, H, W, P, _ = images
    for i in range(n):
        own = k[6 * P * i : 6 * P * (i + 1)]
        normalise_backward(x, dy, dx, i * H, (i + 1) * H, W, P, own, clamp_min)


@kernel
def layer_norm(x, y, images, block, gamma, beta, epsilon, clamp_min, s, m, k):
    """y = max(clamp_min, (x - μ)/σ · γ + β), μ and σ of each example; γ, β (H, W, P); s (4, P), m (2, P) scratch."""
    n, H, W, P, C = images
    low = splat(x.data, clamp_min)
    for i in range(n):
        own = k[6 * P * i : 6 * P * (i + 1)]
        moments(x, i * H, (i + 1) * H, W, P, block, 0, own, s, m)
        _group_coefficients(m, H * W, C, 1, P, epsilon, own)
        for h in range(H):
            for w in range(W):
                for c in range(0, P, lanes(x.data)):
                    e = (h * W + w) * P + c
                    d = load(x.data, x.rows[i * H + h] + w * P + c) - load(own, c)
                    value = fma(d * load(own, INVERSE * P + c), load(gamma, e), load(beta, e))
                    store(y.data, y.rows[i * H + h] + w * P + c, maximum(low, value))


@kernel
def _masked_element(x, i, dy, o, k, P, c, gamma, beta, e, low):
    """(x - μ)/σ, and dy where y was above `clamp_min`."""
    hat = (load(x, i) - load(k, c)) * load(k, INVERSE * P + c)
    return hat, keep_above(load(dy, o), fma(hat, load(gamma, e), load(beta, e)), low)


@kernel
def layer_norm_sums(x, dy, images, gamma, beta, clamp_min, s, k, dgamma, dbeta):
    """dγ = Σ g · (x - μ)/σ and dβ = Σ g over all examples, and what k needs for dx; `s` (4, P) is scratch."""
    n, H, W, P, C = images
    low = splat(x.data, clamp_min)
    zero = splat(x.data, x.data.dtype.type(0))
    for e in range(0, H * W * P, lanes(x.data)):
        store(dgamma, e, zero)
        store(dbeta, e, zero)
    for i in range(n):
        own = k[6 * P * i : 6 * P * (i + 1)]
        for c in range(0, P, lanes(x.data)):
            total = moment = zero
            for h in range(H):
                for w in range(W):
                    e, at, o = (h * W + w) * P + c, x.rows[i * H + h] + w * P + c, dy.rows[i * H + h] + w * P + c
                    hat, g = _masked_element(x.data, at, dy.data, o, own, P, c, gamma, beta, e, low)
                    store(dbeta, e, load(dbeta, e) + g)
                    store(dgamma, e, fma(g, hat, load(dgamma, e)))
                    g = g * load(gamma, e)
                    total = total + g
                    moment = fma(g, load(x.data, at) - load(own, c), moment)
            store(s, c, total)
            store(s, P + c, moment)
        _group_gradient_coefficients(s, H * W, C, 1, P, own)


@kernel
def layer_norm_backward(x, dy, dx, images, gamma, beta, k, clamp_min):
    """dx = γ/σ · g + slope · (x - μ) + rest, example by example."""
    n, H, W, P, _ = images
    low = splat(x.data, clamp_min)
    for i in range(n):
        own = k[6 * P * i : 6 * P * (i + 1)]
        for h in range(H):
            for w in range(W):
                for c in range(0, P, lanes(x.data)):
                    e, at, o = (h * W + w) * P + c, x.rows[i * H + h] + w * P + c, dy.rows[i * H + h] + w * P + c
                    _, g = _masked_element(x.data, at, dy.data, o, own, P, c, gamma, beta, e, low)
                    d = load(x.data, at) - load(own, c)
                    rest = fma(load(own, SLOPE * P + c), d, load(own, REST * P + c))
                    value = fma(g * load(gamma, e), load(own, INVERSE * P + c), rest)
                    store(dx.data, dx.rows[i * H + h] + w * P + c, value)
