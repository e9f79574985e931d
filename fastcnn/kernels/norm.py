"""Normalisation: means and variances, the scaled maps with the ReLU that follows, and their gradients.

All that is memory-bound here: one sweep for the sums, one for the result, in either direction.

Shape legend: maps are `rows` lines of W pixels that begin where a `_row` table says; a pixel is P numbers, a multiple
of the vector's lanes, of which the first C are channels. `k` (6, P) holds what a channel is normalised with, zero where
there is none: its mean μ, scale γ/σ, shift β; for the gradient slope and rest; 1/σ. `block` lines stay in the
first-level cache. `floor` is 0 where a ReLU follows, else -∞.
"""

from __future__ import annotations

import math

from .cache import kernel
from .vector import fma, keep_above, lanes, load, maximum, splat, store

SAMPLED = 8  # lines whose mean is near enough to that of all
MEAN, SCALE, SHIFT, SLOPE, REST, INVERSE = range(6)


@kernel
def _line_mean(x, x_row, r0, r1, step, W, P, c):
    """Mean of every `step`-th line, of one vector of channels."""
    total = splat(x, x.dtype.type(0))
    for r in range(r0, r1, step):
        for w in range(W):
            total = total + load(x, x_row[r] + w * P + c)
    return total * splat(x, x.dtype.type(1.0 / (W * ((r1 - r0 + step - 1) // step))))


@kernel
def _add(x, i, shift, total, squares):
    """Add x - shift and its square to their sums."""
    d = load(x, i) - shift
    return total + d, fma(d, d, squares)


@kernel
def _shifted_sums(x, x_row, r0, r1, W, P, c, shift):
    """Σ (x - shift) and Σ (x - shift)² of one vector of channels."""
    s0 = s1 = s2 = s3 = t0 = t1 = t2 = t3 = splat(x, x.dtype.type(0))
    for r in range(r0, r1):
        i = x_row[r] + c
        for _ in range(W // 4):
            s0, t0 = _add(x, i, shift, s0, t0)
            s1, t1 = _add(x, i + P, shift, s1, t1)
            s2, t2 = _add(x, i + 2 * P, shift, s2, t2)
            s3, t3 = _add(x, i + 3 * P, shift, s3, t3)
            i += 4 * P
        for _ in range(W % 4):
            s0, t0 = _add(x, i, shift, s0, t0)
            i += P
    return (s0 + s1) + (s2 + s3), (t0 + t1) + (t2 + t3)


@kernel
def moments(x, x_row, r0, r1, W, P, block, k, s, m):
    """m (2, P) = each channel's mean and Σ (x - mean)², in float64; the means in k and s (2, P) are scratch.

    One sweep, relative to the mean of SAMPLED lines, d = x - shift: mean = shift + Σd/n, Σ (x - mean)² = Σd² - (Σd)²/n.
    That shift is at most sqrt(lines / SAMPLED) standard deviations off, so that little is lost wherever the mean lies.
    """
    step = max(1, (r1 - r0) // SAMPLED)
    for c in range(0, P, lanes(x)):
        store(k, c, _line_mean(x, x_row, r0, r1, step, W, P, c))
    for a in range(r0, r1, block):
        for c in range(0, P, lanes(x)):
            total, squares = _shifted_sums(x, x_row, a, min(a + block, r1), W, P, c, load(k, c))
            if a > r0:
                total, squares = total + load(s, c), squares + load(s, P + c)
            store(s, c, total)
            store(s, P + c, squares)
    count = float((r1 - r0) * W)
    for c in range(P):
        total = float(s[c])
        m[c] = float(k[c]) + total / count
        m[P + c] = max(0.0, float(s[P + c]) - total * (total / count))


@kernel
def normalise(x, x_row, y, y_row, r0, r1, W, P, k, floor):
    """y = max(floor, (x - μ) · γ/σ + β)."""
    low = splat(x, floor)
    for r in range(r0, r1):
        for c in range(0, P, lanes(x)):
            mean, scale, shift = load(k, c), load(k, P + c), load(k, 2 * P + c)
            i, o = x_row[r] + c, y_row[r] + c
            for _ in range(W):
                store(y, o, maximum(low, fma(load(x, i) - mean, scale, shift)))
                i += P
                o += P


@kernel
def _masked(x, i, dy, o, mean, scale, shift, low):
    """x - μ, and dy where y was above the floor."""
    d = load(x, i) - mean
    return d, keep_above(load(dy, o), fma(d, scale, shift), low)


@kernel
def gradient_sums(x, x_row, dy, dy_row, r0, r1, W, P, block, k, floor, s):
    """s (2, P) = Σ g and Σ g · (x - μ), where g is dy where y was above the floor."""
    low = splat(x, floor)
    zero = splat(x, x.dtype.type(0))
    for a in range(r0, r1, block):
        b = min(a + block, r1)
        for c in range(0, P, lanes(x)):
            mean, scale, shift = load(k, c), load(k, P + c), load(k, 2 * P + c)
            s0 = s1 = t0 = t1 = zero
            for r in range(a, b):
                i, o = x_row[r] + c, dy_row[r] + c
                for _ in range(W // 2):
                    d, g = _masked(x, i, dy, o, mean, scale, shift, low)
                    s0 = s0 + g
                    t0 = fma(g, d, t0)
                    d, g = _masked(x, i + P, dy, o + P, mean, scale, shift, low)
                    s1 = s1 + g
                    t1 = fma(g, d, t1)
                    i += 2 * P
                    o += 2 * P
                if W % 2:
                    d, g = _masked(x, i, dy, o, mean, scale, shift, low)
                    s0 = s0 + g
                    t0 = fma(g, d, t0)
            if a > r0:
                s1 = s1 + load(s, c)
                t1 = t1 + load(s, P + c)
            store(s, c, s0 + s1)
            store(s, P + c, t0 + t1)


@kernel
def normalise_backward(x, x_row, dy, dy_row, dx, dx_row, r0, r1, W, P, k, floor):
    """dx = γ/σ · g + slope · (x - μ) + rest, where g is dy where y was above the floor."""
    low = splat(x, floor)
    for r in range(r0, r1):
        for c in range(0, P, lanes(x)):
            mean, scale, shift = load(k, c), load(k, P + c), load(k, 2 * P + c)
            slope, rest = load(k, 3 * P + c), load(k, 4 * P + c)
            i, o, q = x_row[r] + c, dy_row[r] + c, dx_row[r] + c
            for _ in range(W):
                d, g = _masked(x, i, dy, o, mean, scale, shift, low)
                store(dx, q, fma(scale, g, fma(slope, d, rest)))
                i += P
                o += P
                q += P


@kernel
def join(parts, counts, P, total):
    """Total (2, P) = mean and Σ (x - mean)² of all from those of S parts (S, 2, P), in their order: Chan's formula.

    Source: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979.
    """
    for c in range(P):
        mean = squares = before = 0.0
        for s in range(counts.size):
            after = before + counts[s]
            delta = float(parts[2 * P * s + c]) - mean
            mean += delta * (counts[s] / after)
            squares += float(parts[2 * P * s + P + c]) + delta * delta * (before * counts[s] / after)
            before = after
        total[c] = mean
        total[P + c] = squares


@kernel
def coefficients(mean, variance, C, P, gamma, beta, epsilon, k):
    """k for channels of this mean and variance; slope and rest are zero, as if μ and σ did not depend on x."""
    for i in range(6 * P):
        k[i] = 0
    for c in range(C):
        inverse = 1.0 / math.sqrt(variance[c] + epsilon)
        k[MEAN * P + c] = mean[c]
        k[SCALE * P + c] = gamma[c] * inverse
        k[SHIFT * P + c] = beta[c]
        k[INVERSE * P + c] = inverse


@kernel
def gradient_coefficients(parts, S, count, C, P, k):
    """Slope and rest of k from the sums (S, 2, P) of all parts: μ and σ depend on each of `count` numbers."""
    for c in range(C):
        total = moment = 0.0
        for s in range(S):
            total += float(parts[2 * P * s + c])
            moment += float(parts[2 * P * s + P + c])
        scale, inverse = float(k[SCALE * P + c]), float(k[INVERSE * P + c])
        k[SLOPE * P + c] = -scale * inverse * inverse * moment / count
        k[REST * P + c] = -scale * total / count


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
    """y = max(floor, (x - μ) · γ/σ + β), μ and σ of each example's groups of channels; s and m (2, P) are scratch."""
    for i in range(n):
        own = k[6 * P * i : 6 * P * (i + 1)]
        moments(x, x_row, i * H, (i + 1) * H, W, P, block, own, s, m)
        _group_coefficients(m, H * W, C, groups, P, epsilon, own)
        for c in range(C):
            own[SCALE * P + c] = gamma[c] * own[INVERSE * P + c]
            own[SHIFT * P + c] = beta[c]
        normalise(x, x_row, y, y_row, i * H, (i + 1) * H, W, P, own, floor)


@kernel
def group_norm_sums(x, x_row, dy, dy_row, n, H, W, P, C, groups, block, gamma, floor, s, k, dgamma, dbeta):
    """dγ = Σ g · (x - μ)/σ and dβ = Σ g over all examples, and what k needs for dx; `s` (2, P) is scratch."""
    for c in range(P):
        dgamma[c] = 0
        dbeta[c] = 0
    for i in range(n):
        own = k[6 * P * i : 6 * P * (i + 1)]
        gradient_sums(x, x_row, dy, dy_row, i * H, (i + 1) * H, W, P, block, own, floor, s)
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
    """y = max(floor, (x - μ)/σ · γ + β), μ and σ of each example; γ and β (H, W, P); s and m (2, P) are scratch."""
    low = splat(x, floor)
    for i in range(n):
        own = k[6 * P * i : 6 * P * (i + 1)]
        moments(x, x_row, i * H, (i + 1) * H, W, P, block, own, s, m)
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
    """dγ = Σ g · (x - μ)/σ and dβ = Σ g over all examples, and what k needs for dx; `s` (2, P) is scratch."""
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
