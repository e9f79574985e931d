"""Pooling and its gradients.

Shape legend: P pooled pixels, N numbers per pixel (a multiple of the vector's lanes); `row` tables hold where pixels
begin. Windows of 2 x 2 keep four bits per unit, one for each pixel that was the maximum; those of 3 x 3 around every
pixel keep a mark of the pixel that won, others its tap. With `past`, what is written goes past the caches.
"""

from __future__ import annotations

import numpy as np
from numba.extending import register_jitable

from ..codegen.vector import (
    FOUR,
    TWO,
    fma,
    lanes,
    load,
    load_like,
    prefetch,
    put,
    splat,
    splat_four,
    splat_like,
    splat_two,
    store,
    where_beaten,
)
from ..codegen.vector_bits import (
    keep_equal,
    keep_where,
    largest_of_four,
    load_bits,
    put_bits,
    splat_bits,
    store_bits,
    winners_of_four,
)
from ..jit.source import kernel

AHEAD = 16  # windows: by so many, memory is asked early for what they will see
NEAR = 4  # pixels that a global pooling takes at once: whoever leaps farther outruns the prefetcher

inlined = register_jitable(inline="always")  # a call would count references to the arrays, for every vector


@kernel
def pool2(x, x_row, x0, y, y_row, winners, p0, p1, N, floor, every):
    """y[p] = max of the four pixels x_row[x0 + 4(p-p0) ...]; `winners` (P, N): which, none if not above `floor`.

    `winners` is empty where nobody asks.
    """
    low = splat(x, floor)
    for p in range(p0, p1):
        i = x0 + 4 * (p - p0)
        r0, r1, r2, r3 = x_row[i], x_row[i + 1], x_row[i + 2], x_row[i + 3]
        for n in range(0, N, lanes(x)):
            a, b, c, d = load(x, r0 + n), load(x, r1 + n), load(x, r2 + n), load(x, r3 + n)
            best = largest_of_four(a, b, c, d)
            store(y, y_row[p] + n, best)
            if winners.size > 0:
                store_bits(winners, p * N + n, winners_of_four(a, b, c, d, best, low, every))


@kernel
def pool2_backward(dy, dy_row, winners, P, N, dx, dx_row, past):
    """dx of the four pixels `dx_row[4p ...]`: dy where the bit is set, zero elsewhere."""
    for p in range(P):
        for n in range(0, N, lanes(dy)):
            value = load(dy, dy_row[p] + n)
            bits = load_bits(winners, p * N + n, value)
            put(dx, dx_row[4 * p] + n, keep_where(value, bits, 1), past)
            put(dx, dx_row[4 * p + 1] + n, keep_where(value, bits, 2), past)
            put(dx, dx_row[4 * p + 2] + n, keep_where(value, bits, 4), past)
            put(dx, dx_row[4 * p + 3] + n, keep_where(value, bits, 8), past)


@kernel
def pool2_backward_past(dy, dy_row, winners, P, N, dx, dx_row):
    """As `pool2_backward`, past the caches, N in pairs of registers: half a line there costs as much as a whole one."""
    two = splat_two(dy, dy.dtype.type(0))
    for p in range(P):
        for n in range(0, N, TWO * lanes(dy)):
            value = load_like(two, dy, dy_row[p] + n)
            bits = load_bits(winners, p * N + n, value)
            put(dx, dx_row[4 * p] + n, keep_where(value, bits, 1), True)
            put(dx, dx_row[4 * p + 1] + n, keep_where(value, bits, 2), True)
            put(dx, dx_row[4 * p + 2] + n, keep_where(value, bits, 4), True)
            put(dx, dx_row[4 * p + 3] + n, keep_where(value, bits, 8), True)


@kernel
def pool(x, x_row, window, tap, y, y_row, winner, winner_row, P, N):
    """y[p] = the largest of the pixels x_row[p, 0] + window[kind], kind = x_row[p, 1]; `winner`: the first one's tap.

    Row `kind` of `window` is (count, offsets...), of `tap` the numbers (taps...) of the pixels in their window.
    """
    one, two, wide = splat(x, x.dtype.type(0)), splat_two(x, x.dtype.type(0)), TWO * lanes(x)
    for p in range(P):
        i, kind, o, w = x_row[p, 0], x_row[p, 1], y_row[p], winner_row[p]
        ahead = x_row[min(p + AHEAD, P - 1), 0]
        for n in range(0, N - N % wide, wide):
            for q in range(window[kind, 0] // 2, window[kind, 0]):  # windows above have read the first half
                prefetch(x, ahead + n + window[kind, 1 + q])
            _largest(two, x, i + n, window, tap, kind, y, o + n, winner, w + n)
        for n in range(N - N % wide, N, lanes(x)):
            _largest(one, x, i + n, window, tap, kind, y, o + n, winner, w + n)


@inlined
def _largest(like, x, i, window, tap, kind, y, o, winner, w):
    """As many channels of `pool` as `like` has lanes."""
    best = load_like(like, x, i + window[kind, 1])
    which = splat_bits(like, tap[kind, 0])
    for q in range(1, window[kind, 0]):
        value = load_like(like, x, i + window[kind, 1 + q])
        which = where_beaten(best, value, splat_bits(like, tap[kind, q]), which)
        best = where_beaten(best, value, value, best)
    store(y, o, best)
    store_bits(winner, w, which)


@kernel
def pool_backward(dy, dy_row, window, tap, winner, P, N, dx, dx_row, past):
    """dx[p] = the sum of dy over the windows that pixel p won: those at dy_row[p, 0] + window[kind], as its tap there.

    `winner` lies like dy.
    """
    one, four, wide = splat(dy, dy.dtype.type(0)), splat_four(dy, dy.dtype.type(0)), FOUR * lanes(dy)
    for p in range(P):
        i, kind, o = dy_row[p, 0], dy_row[p, 1], dx_row[p]
        for n in range(0, N - N % wide, wide):
            put(dx, o + n, _won_by(four, dy, i + n, window, tap, kind, winner), past)
        for n in range(N - N % wide, N, lanes(dy)):
            put(dx, o + n, _won_by(one, dy, i + n, window, tap, kind, winner), past)


@inlined
def _won_by(total, dy, i, window, tap, kind, winner):
    """Add to `total` what `pool_backward` sums, as many channels as it has lanes."""
    for q in range(window[kind, 0]):
        place = i + window[kind, 1 + q]
        value = load_like(total, dy, place)
        total = total + keep_equal(value, load_bits(winner, place, value), splat_bits(value, tap[kind, q]))
    return total


@kernel
def pool3(x, x_line, y, y_line, winner, n, H, W, N, scratch, past):
    """y = the largest of the 3 x 3 pixels around each; the lines of images begin where the `_line` tables say.

    `winner` (n, H, W + 2, N): the mark of the first of them. The largest of each three pixels side by side, and its
    mark, are computed once; `scratch` (2, 2, W, N) keeps those of the last two lines. Beyond an edge its own pixels
    stand a second time, where they change nothing. Memory is asked early for the next line, which would come too late.
    """
    line = W * N
    for i in range(n):
        for w in range(W):
            for c in range(w * N, (w + 1) * N, lanes(x)):
                best, mark = _largest_in_line(x, x_line[i * H] + c, 0, w, W, N)
                for o in (c, 2 * line + c):
                    store(scratch, o, best)
                    store(scratch, o + line, mark)
        for h in range(H):
            below = min(h + 1, H - 1)
            r, o, k = x_line[i * H + below], y_line[i * H + h], (i * H + h) * (W + 2) * N + N
            above, here = h % 2 * 2 * line, (h + 1) % 2 * 2 * line
            for w in range(W):
                for c in range(w * N, (w + 1) * N, lanes(x)):
                    prefetch(x, r + line + c)
                    last, last_mark = _largest_in_line(x, r + c, below, w, W, N)
                    best, mark = load(scratch, above + c), load(scratch, above + line + c)
                    middle, middle_mark = load(scratch, here + c), load(scratch, here + line + c)
                    store(scratch, above + c, last)
                    store(scratch, above + line + c, last_mark)
                    best, mark = _larger(best, mark, middle, middle_mark)
                    best, mark = _larger(best, mark, last, last_mark)
                    put(y, o + c, best, past)
                    put_bits(winner, k + c, mark, past)


@inlined
def _largest_in_line(x, i, h, w, W, N):
    """Return the largest of the pixel (h, w), which begins at i, and its neighbours to both sides; and its mark."""
    left, right = max(w - 1, 0), min(w + 1, W - 1)
    a, b, c = load(x, i + (left - w) * N), load(x, i), load(x, i + (right - w) * N)
    best, mark = _larger(a, _mark(a, h, left), b, _mark(a, h, w))
    return _larger(best, mark, c, _mark(a, h, right))


@inlined
def _larger(best, mark, x, x_mark):
    """Return the larger of two numbers, the first if they are equal; and its mark."""
    return where_beaten(best, x, x, best), where_beaten(best, x, x_mark, mark)


@inlined
def _mark(like, h, w):
    """Return what tells the pixel (h, w) from all that are in a window with it: the last two bits of both."""
    return splat_bits(like, (h & 3) << 2 | w & 3)


@kernel
def pool3_backward(dy, dy_line, winner, n, H, W, N, dx, dx_line, scratch, past):
    """dx = the sum of dy over the windows around each pixel that it won.

    Each line of windows is read once, for the lines of pixels above it, on it and below it: `scratch` (2, W, N) has the
    sums of the last two, so far. Nobody has won the windows to the left and to the right of an image.
    """
    zero, line = splat(dy, dy.dtype.type(0)), W * N
    for i in range(n):
        for c in range(0, 2 * line, lanes(dy)):
            store(scratch, c, zero)
        for h in range(H):
            # What the first line of windows adds to is no line of pixels: the second one overwrites it.
            r, k, o = dy_line[i * H + h], (i * H + h) * (W + 2) * N + N, dx_line[i * H + max(h - 1, 0)]
            above, here = (h + 1) % 2 * line, h % 2 * line
            for w in range(W):
                left, right = (max(w - 1, 0) - w) * N, (min(w + 1, W - 1) - w) * N
                for c in range(w * N, (w + 1) * N, lanes(dy)):
                    a, a_mark = load(dy, r + c + left), load_bits(winner, k + c - N, zero)
                    b, b_mark = load(dy, r + c), load_bits(winner, k + c, zero)
                    d, d_mark = load(dy, r + c + right), load_bits(winner, k + c + N, zero)
                    total = load(scratch, above + c)
                    put(dx, o + c, _won(total, _mark(a, h - 1, w), a, a_mark, b, b_mark, d, d_mark), past)
                    total = load(scratch, here + c)
                    store(scratch, here + c, _won(total, _mark(a, h, w), a, a_mark, b, b_mark, d, d_mark))
                    store(scratch, above + c, _won(zero, _mark(a, h + 1, w), a, a_mark, b, b_mark, d, d_mark))
        for c in range(0, line, lanes(dy)):
            put(dx, dx_line[i * H + H - 1] + c, load(scratch, (H - 1) % 2 * line + c), past)


@inlined
def _won(total, mark, a, a_mark, b, b_mark, c, c_mark):
    """Add what the pixel with this mark has won in three windows."""
    return total + keep_equal(a, a_mark, mark) + keep_equal(b, b_mark, mark) + keep_equal(c, c_mark, mark)


@kernel
def window_sum(x, x_row, window, weight, P, N, y, y_row, past):
    """y[p] = Σ_q weight[kind, q] · x[x_row[p, 0] + window[kind, 1 + q]] for q < window[kind, 0], kind = x_row[p, 1].

    Averages of windows, copies of pixels, and the gradients of both.
    """
    one, four, wide = splat(x, x.dtype.type(0)), splat_four(x, x.dtype.type(0)), FOUR * lanes(x)
    for p in range(P):
        i, kind, o = x_row[p, 0], x_row[p, 1], y_row[p]
        for n in range(0, N - N % wide, wide):
            put(y, o + n, _weighted(four, x, i + n, window, weight, kind), past)
        for n in range(N - N % wide, N, lanes(x)):
            put(y, o + n, _weighted(one, x, i + n, window, weight, kind), past)


@inlined
def _weighted(total, x, i, window, weight, kind):
    """Add to `total` what `window_sum` sums, as many channels as it has lanes."""
    for q in range(window[kind, 0]):
        total = fma(splat_like(total, weight[kind, q]), load_like(total, x, i + window[kind, 1 + q]), total)
    return total


@kernel
def global_average(x, x_row, n, lines, width, N, y, y_row, scale):
    """y[i] = scale · the sum of all pixels of image i, each line (they begin at `x_row`) summed alone."""
    zero, four, wide = splat(x, x.dtype.type(0)), splat_four(x, x.dtype.type(0)), FOUR * lanes(x)
    for i in range(n):
        o = y_row[i]
        for c in range(0, N, lanes(x)):
            store(y, o + c, zero)
        for r in range(i * lines, (i + 1) * lines):
            for c in range(0, N - N % wide, wide):
                _add_line(four, x, x_row[r] + c, width, N, y, o + c, scale)
            for c in range(N - N % wide, N, lanes(x)):
                _add_line(zero, x, x_row[r] + c, width, N, y, o + c, scale)


@inlined
def _add_line(total, x, i, width, N, y, o, scale):
    """Add scale · the pixels of a line to y, as many channels as `total`, zero, has lanes."""
    for k in range(i, i + width * N, N):
        total = total + load_like(total, x, k)
    store(y, o, fma(splat_like(total, scale), total, load_like(total, y, o)))


@kernel
def global_maximum(x, x_row, n, lines, width, N, y, y_row, winner):
    """y[i] = the largest of all pixels of image i; `winner` (n, N) the number of the first."""
    low, two, wide = splat(x, x.dtype.type(-np.inf)), splat_two(x, x.dtype.type(0)), TWO * lanes(x)
    for i in range(n):
        o, w = y_row[i], i * N
        for c in range(0, N, lanes(x)):
            store(y, o + c, low)
            store_bits(winner, w + c, splat_bits(low, 0))
        for line in range(lines):
            for first in range(0, width, NEAR):
                r, count, number = x_row[i * lines + line] + first * N, min(NEAR, width - first), line * width + first
                for c in range(0, N - N % wide, wide):
                    _beat(two, x, r + c, count, N, y, o + c, winner, w + c, number)
                for c in range(N - N % wide, N, lanes(x)):
                    _beat(low, x, r + c, count, N, y, o + c, winner, w + c, number)


@inlined
def _beat(like, x, i, count, N, y, o, winner, w, first):
    """Let neighbours, numbered from `first`, beat what stands in y: as many channels as `like` has lanes."""
    best, which = load_like(like, y, o), load_bits(winner, w, like)
    for pixel in range(count):
        prefetch(x, i + (pixel + 2 * NEAR) * N)
        value = load_like(like, x, i + pixel * N)
        which = where_beaten(best, value, splat_bits(like, first + pixel), which)
        best = where_beaten(best, value, value, best)
    store(y, o, best)
    store_bits(winner, w, which)


@kernel
def global_maximum_backward(dy, dy_row, winner, n, lines, width, N, dx, dx_row, past):
    """dx = dy at the pixel that won, zero elsewhere."""
    zero = splat(dy, dy.dtype.type(0))
    for r in range(n * lines):
        for k in range(0, width * N, lanes(dy)):
            put(dx, dx_row[r] + k, zero, past)
    for i in range(n):
        for c in range(N):
            pixel = winner[i * N + c]
            dx[dx_row[i * lines + pixel // width] + pixel % width * N + c] = dy[dy_row[i] + c]
