"""Softmax; and losses: value, gradient and accuracy of a batch in one pass.

Shape legend: n rows of `classes` numbers; behind each there is room for whole vectors, and zeros are written to it.

A loss near 0 is as right as any other, since nothing is subtracted from 1. The exponential of a row's largest number,
the winner, is 1; `others` is the sum of the other ones. So -log p of class k is log1p(others) + (largest - x_k), with
both terms at least 0, and p - 1 of the winner is -others / (1 + others).
"""

from __future__ import annotations

import numpy as np

from ..codegen.vector import (
    first_lanes,
    lane_of,
    lanes,
    lanes_like,
    largest_lane,
    load,
    load_first,
    maximum,
    splat,
    splat_like,
    splat_sixteen,
    store,
    store_first,
    sum_of_lanes,
    without_lane,
)
from ..codegen.vector_math import exp_negative, exp_of_number, log1p_of_number
from ..jit.source import inlined, kernel, macro


@inlined
def _exponentials(x, r, classes, y, s):
    """y[s:] = exp(x[r:] - largest), so that nothing overflows; return the largest, its class, and the others' sum."""
    if classes <= lanes(x):
        return _exponentials_of(splat(x, x.dtype.type(0)), x, r, classes, y, s)
    return _exponentials_of(splat_sixteen(x, x.dtype.type(0)), x, r, classes, y, s)


@inlined
def _exponentials_of(zero, x, r, classes, y, s):
    """Do this in vectors such as `zero`: one register, if all numbers fit it, adds up what sixteen lanes would."""
    low, step = splat_like(zero, x.dtype.type(-np.inf)), lanes_like(zero)
    top = low
    for k in range(0, classes, step):
        top = maximum(top, first_lanes(load_first(zero, x, r + k, classes - k), classes - k, low))
    largest, total, first = largest_lane(top), zero, -1
    for k in range(0, classes, step):
        number = first_lanes(load_first(zero, x, r + k, classes - k), classes - k, low)
        value = exp_negative(number - splat_like(zero, largest))
        store_first(y, s + k, value, classes - k)
        if first < 0:
            lane = lane_of(number, largest)
            if lane < step:
                first, value = k + lane, without_lane(value, lane)
        total = total + value
    return largest, first, sum_of_lanes(total)


@kernel
def softmax(x, n, classes, y):
    """y = softmax(x) along the classes."""
    one = x.data.dtype.type(1)
    for i in range(n):
        s = y.rows[i]
        _, _, others = _exponentials(x.data, x.rows[i], classes, y.data, s)
        factor = splat(y.data, one / (one + others))
        for k in range(0, classes, lanes(x.data)):
            store(y.data, s + k, factor * load(y.data, s + k))


@kernel
def softmax_cross_entropy(x, n, classes, target, t0, scale, dx, totals):
    """dx = scale · (softmax(x) - onehot(target[t0:])); add loss and hits to `totals` (2,)."""
    loss, one = 0.0, x.data.dtype.type(1)
    for i in range(n):
        r, s = x.rows[i], dx.rows[i]
        label = target[t0 + i]
        largest, first, others = _exponentials(x.data, r, classes, dx.data, s)
        share = scale / (one + others)
        factor = splat(x.data, share)
        for k in range(0, classes, lanes(x.data)):
            store(dx.data, s + k, factor * load(dx.data, s + k))
        loss += log1p_of_number(others) + (largest - x.data[r + label])
        if first == label:
            dx.data[s + label] = -share * others
            totals[1] += 1.0
        else:
            dx.data[s + label] -= scale
    totals[0] += loss


@kernel
def soft_cross_entropy(x, n, classes, weights, labels, t0, dx, totals):
    """ℓ = -Σ_k w_k · log softmax(x)_k, dx = dℓ; w = weights[(t0 + i) · classes:]; add loss and hits."""
    loss, zero, one = 0.0, x.data.dtype.type(0), x.data.dtype.type(1)
    for i in range(n):
        r, s, w, label = x.rows[i], dx.rows[i], (t0 + i) * classes, labels[t0 + i]
        largest, first, others = _exponentials(x.data, r, classes, dx.data, s)
        weight, rest, inner = zero, zero, zero
        for k in range(classes):
            weight += weights[w + k]
            rest += zero if k == first else weights[w + k]
            inner += weights[w + k] * (largest - x.data[r + k])
        factor = weight / (one + others)
        for k in range(classes):
            dx.data[s + k] = factor * dx.data[s + k] - weights[w + k]
        if first >= 0:
            dx.data[s + first] = (rest - weights[w + first] * others) / (one + others)
        loss += weight * log1p_of_number(others) + inner
        totals[1] += first == label
    totals[0] += loss


@kernel
def label_cross_entropy(x, n, pixels, classes, target, weights, scale, t0, dx, totals):
    """ℓ = -Σ_k w_k · log softmax(x)_k of each pixel, dx = scale[t0 + i] · dℓ; add scale · ℓ, and hits.

    w_k = weights[k], at the label more by weights[classes + label]; weights[2 · classes] is the sum of the first ones.
    A pixel whose label, in target[(t0 + i) · pixels:], is below 0 counts nowhere.
    """
    number = x.data.dtype.type
    zero, smooth = splat(x.data, number(0)), weights[2 * classes]
    for i in range(n):
        loss, factor, t = 0.0, scale[t0 + i], (t0 + i) * pixels - i * pixels
        for p in range(i * pixels, (i + 1) * pixels):
            r, s, label = x.rows[p], dx.rows[p], target[t + p]
            if label < 0:
                for k in range(0, classes, lanes(x.data)):
                    store(dx.data, s + k, zero)
                continue
            largest, first, others = _exponentials(x.data, r, classes, dx.data, s)
            sharp, total = weights[classes + label], number(1) + others
            share = splat(x.data, factor * (smooth + sharp) / total)
            for k in range(0, classes, lanes(x.data)):
                store(dx.data, s + k, share * load(dx.data, s + k))
            inner = sharp * (largest - x.data[r + label])
            of_first, rest = (sharp, number(0)) if first == label else (number(0), sharp)
            if smooth > 0:
                for k in range(classes):
                    inner += weights[k] * (largest - x.data[r + k])
                    dx.data[s + k] -= factor * weights[k]
                    if k == first:
                        of_first += weights[k]
                    else:
                        rest += weights[k]
            dx.data[s + label] -= factor * sharp
            if first >= 0:
                dx.data[s + first] = factor * (rest - of_first * others) / total
            loss += (smooth + sharp) * log1p_of_number(others) + inner
            totals[1] += first == label
        totals[0] += factor * loss


# Losses of each number by itself. y holds (N, pixels, channels) without gaps; weights (N,) are 1 / (N · numbers of one
# example), or what sample weights make of it; they multiply loss and gradient.


@kernel
def binary_cross_entropy(x, n, pixels, channels, y, weights, t0, dx, totals):
    """dx = weight · (σ(x) - y); add weight · (|x| · missed + log(1 + e^-|x|)), and the share of right answers.

    `missed` is how far the target is from the answer that the sign of x gives. As in cross-entropy, no term is below 0.
    """
    one, zero, half = x.data.dtype.type(1), x.data.dtype.type(0), x.data.dtype.type(0.5)
    for i in range(n):
        loss, hits, weight, t = 0.0, 0, weights[t0 + i], (t0 + i) * pixels * channels
        for p in range(i * pixels, (i + 1) * pixels):
            r, s = x.rows[p], dx.rows[p]
            for k in range(channels):
                z, target = x.data[r + k], y[t]
                size = abs(z)
                e = exp_of_number(-size)
                missed = one - target if z >= zero else target
                slope = missed - e / (one + e)
                dx.data[s + k] = weight * (slope if z >= zero else -slope)
                loss += size * missed + log1p_of_number(e)
                hits += (z > zero) == (target > half)
                t += 1
        totals[0] += weight * loss
        totals[1] += hits / (pixels * channels)


@macro
def _of_each_error(rule, constants, x, n, pixels, channels, y, weights, t0, dx, totals):
    """dx = weight · dℓ; add weight · ℓ, where `rule` returns dℓ and ℓ for an error x - y."""
    for i in range(n):
        loss, weight, t = 0.0, weights[t0 + i], (t0 + i) * pixels * channels
        for p in range(i * pixels, (i + 1) * pixels):
            r, s = x.rows[p], dx.rows[p]
            for k in range(channels):
                slope, term = rule(x.data[r + k] - y[t], *constants)
                dx.data[s + k] = weight * slope
                loss += term
                t += 1
        totals[0] += weight * loss


@macro
def _squared(error):
    return error + error, error * error


@macro
def _absolute(error):
    return np.sign(error), abs(error)


@macro
def _huber(error, delta, half):
    slope = error
    if abs(error) > delta:
        slope = delta * np.sign(error)
    return slope, abs(slope) * (abs(error) - half * abs(slope))


@kernel
def squared_error(x, n, pixels, channels, y, weights, t0, dx, totals):
    """ℓ = (x - y)², dℓ = 2 · (x - y)."""
    _of_each_error(_squared, (), x, n, pixels, channels, y, weights, t0, dx, totals)


@kernel
def absolute_error(x, n, pixels, channels, y, weights, t0, dx, totals):
    """ℓ = |x - y|, dℓ = sign(x - y)."""
    _of_each_error(_absolute, (), x, n, pixels, channels, y, weights, t0, dx, totals)


@kernel
def huber(x, n, pixels, channels, y, weights, t0, dx, totals, delta):
    """ℓ = |dℓ| · (|x - y| - |dℓ|/2), dℓ = clip(x - y, -delta, delta)."""
    constants = delta, x.data.dtype.type(0.5)
    _of_each_error(_huber, constants, x, n, pixels, channels, y, weights, t0, dx, totals)
