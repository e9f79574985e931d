"""Pooling and its gradients.

Shape legend: P pooled pixels, N numbers per pixel (a multiple of the vector's lanes); the rows of maps are pixels
where nothing else is said. Windows of 2 x 2 keep four bits per unit, one for each pixel that was the maximum; those of
3 x 3 around every pixel keep a mark of the pixel that won, others its tap. With `stream`, stores go past the caches.
"""

from __future__ import annotations

import numpy as np

from ..codegen.vector import (
    FOUR,
    TWO,
    fma,
    lanes,
    load,
    load_like,
    prefetch,
    splat,
    splat_four,
    splat_like,
    splat_two,
    store,
    store_or_stream,
    where_beaten,
)
from ..codegen.vector_bits import (
    argmax_of_four,
    keep_equal,
    keep_where,
    largest_of_four,
    load_bits,
    splat_bits,
    store_bits,
    store_or_stream_bits,
)
from ..jit.source import kernel, macro

DISTANCE = 16  # windows: what they read is prefetched by so many earlier
NEAR = 4  # pixels that a global pooling takes at once: longer strides outrun the hardware prefetcher


@kernel
def pool2(x, x0, y, argmax, p0, p1, N, clamp_min, ties_all):
    """y[p] = max of the four pixels x0 + 4(p - p0), ... of x; `argmax` (P, N): which, none if not above `clamp_min`.

    `argmax` is empty where there is no backward pass.
    """
    low = splat(x.data, clamp_min)
    for p in range(p0, p1):
        i = x0 + 4 * (p - p0)
        r0, r1, r2, r3 = x.rows[i], x.rows[i + 1], x.rows[i + 2], x.rows[i + 3]
        for n in range(0, N, lanes(x.data)):
            a, b, c, d = load(x.data, r0 + n), load(x.data, r1 + n), load(x.data, r2 + n), load(x.data, r3 + n)
            best = largest_of_four(a, b, c, d)
            store(y.data, y.rows[p] + n, best)
            if argmax.size > 0:
                store_bits(argmax, p * N + n, argmax_of_four(a, b, c, d, best, low, ties_all))


@kernel
def pool2_backward(dy, argmax, P, N, dx, stream):
    """dx of the four pixels 4p, ...: dy where the bit is set, zero elsewhere."""
    for p in range(P):
        for n in range(0, N, lanes(dy.data)):
            value = load(dy.data, dy.rows[p] + n)
            bits = load_bits(argmax, p * N + n, value)
            store_or_stream(dx.data, dx.rows[4 * p] + n, keep_where(value, bits, 1), stream)
            store_or_stream(dx.data, dx.rows[4 * p + 1] + n, keep_where(value, bits, 2), stream)
            store_or_stream(dx.data, dx.rows[4 * p + 2] + n, keep_where(value, bits, 4), stream)
            store_or_stream(dx.data, dx.rows[4 * p + 3] + n, keep_where(value, bits, 8), stream)


@kernel
def pool2_backward_stream(dy, argmax, P, N, dx):
    """As `pool2_backward`, past the caches, N in pairs of registers: half a line there costs as much as a whole one."""
    two = splat_two(dy.data, dy.data.dtype.type(0))
    for p in range(P):
        for n in range(0, N, TWO * lanes(dy.data)):
            value = load_like(two, dy.data, dy.rows[p] + n)
            bits = load_bits(argmax, p * N + n, value)
            store_or_stream(dx.data, dx.rows[4 * p] + n, keep_where(value, bits, 1), True)
            store_or_stream(dx.data, dx.rows[4 * p + 1] + n, keep_where(value, bits, 2), True)
            store_or_stream(dx.data, dx.rows[4 * p + 2] + n, keep_where(value, bits, 4), True)
            store_or_stream(dx.data, dx.rows[4 * p + 3] + n, keep_where(value, bits, 8), True)


@kernel
def pool(x, window, tap, y, argmax, P, N):
    """y[p] = the largest of the pixels x.rows[p, 0] + window[kind], kind = x.rows[p, 1]; `argmax`: the first one's tap.

    Row `kind` of `window` is (count, offsets...), of `tap` the numbers (taps...) of the pixels in their window.
    """
    one, two, wide = splat(x.data, x.data.dtype.type(0)), splat_two(x.data, x.data.dtype.type(0)), TWO * lanes(x.data)
    for p in range(P):
        i, kind, o, w = x.rows[p, 0], x.rows[p, 1], y.rows[p], argmax.rows[p]
        later = x.rows[min(p + DISTANCE, P - 1), 0]
        for n in range(0, N - N % wide, wide):
            for q in range(window[kind, 0] // 2, window[kind, 0]):  # windows above have read the first half
                prefetch(x.data, later + n + window[kind, 1 + q])
            _largest(two, x.data, i + n, window, tap, kind, y.data, o + n, argmax.data, w + n)
        for n in range(N - N % wide, N, lanes(x.data)):
            _largest(one, x.data, i + n, window, tap, kind, y.data, o + n, argmax.data, w + n)


@macro
def _largest(like, x, i, window, tap, kind, y, o, argmax, w):
    """As many channels of `pool` as `like` has lanes."""
    best = load_like(like, x, i + window[kind, 1])
    which = splat_bits(like, tap[kind, 0])
    for q in range(1, window[kind, 0]):
        value = load_like(like, x, i + window[kind, 1 + q])
        which = where_beaten(best, value, splat_bits(like, tap[kind, q]), which)
        best = where_beaten(best, value, value, best)
    store(y, o, best)
    store_bits(argmax, w, which)


@kernel
def pool_backward(dy, window, tap, argmax, P, N, dx, stream):
    """dx[p] = the sum of dy over the windows that pixel p won: those at dy.rows[p, 0] + window[kind], as its tap there.

    `argmax` lies like dy.
    """
    one, four, wide = (
        splat(dy.data, dy.data.dtype.type(0)),
        splat_four(dy.data, dy.data.dtype.type(0)),
        FOUR * lanes(dy.data),
    )
    for p in range(P):
        i, kind, o = dy.rows[p, 0], dy.rows[p, 1], dx.rows[p]
        for n in range(0, N - N % wide, wide):
            store_or_stream(dx.data, o + n, _won_by(four, dy.data, i + n, window, tap, kind, argmax), stream)
        for n in range(N - N % wide, N, lanes(dy.data)):
            store_or_stream(dx.data, o + n, _won_by(one, dy.data, i + n, window, tap, kind, argmax), stream)


@macro
def _won_by(total, dy, i, window, tap, kind, argmax):
    """Add to `total` what `pool_backward` sums, as many channels as it has lanes."""
    for q in range(window[kind, 0]):
        place = i + window[kind, 1 + q]
        value = load_like(total, dy, place)
        total = total + keep_equal(value, load_bits(argmax, place, value), splat_bits(value, tap[kind, q]))
    return total


@kernel
def pool3(x, y, argmax, n, H, W, N, scratch, stream):
    """y = the largest of the 3 x 3 pixels around each; the rows of maps are the lines of images.

    `argmax` (n, H, W + 2, N): the mark of the first of them. The largest of each three pixels side by side, and its
    mark, are computed once; `scratch` (2, 2, W, N) keeps those of the last two lines. Beyond an edge its own pixels
    count a second time, which changes nothing. The next line is prefetched.
    """
    line = W * N
    for i in range(n):
        for w in range(W):
            for c in range(w * N, (w + 1) * N, lanes(x.data)):
                best, mark = _largest_in_line(x.data, x.rows[i * H] + c, 0, w, W, N)
                for o in (c, 2 * line + c):
                    store(scratch, o, best)
                    store(scratch, o + line, mark)
        for h in range(H):
            below = min(h + 1, H - 1)
            r, o, k = x.rows[i * H + below], y.rows[i * H + h], (i * H + h) * (W + 2) * N + N
            above, here = h % 2 * 2 * line, (h + 1) % 2 * 2 * line
            for w in range(W):
                for c in range(w * N, (w + 1) * N, lanes(x.data)):
                    prefetch(x.data, r + line + c)
                    last, last_mark = _largest_in_line(x.data, r + c, below, w, W, N)
                    best, mark = load(scratch, above + c), load(scratch, above + line + c)
                    middle, middle_mark = load(scratch, here + c), load(scratch, here + line + c)
                    store(scratch, above + c, last)
                    store(scratch, above + line + c, last_mark)
                    best, mark = _larger(best, mark, middle, middle_mark)
                    best, mark = _larger(best, mark, last, last_mark)
                    store_or_stream(y.data, o + c, best, stream)
                    store_or_stream_bits(argmax, k + c, mark, stream)


@macro
def _largest_in_line(x, i, h, w, W, N):
    """Return the largest of the pixel (h, w), which begins at i, and its neighbours to both sides; and its mark."""
    left, right = max(w - 1, 0), min(w + 1, W - 1)
    a, b, c = load(x, i + (left - w) * N), load(x, i), load(x, i + (right - w) * N)
    best, mark = _larger(a, _mark(a, h, left), b, _mark(a, h, w))
    return _larger(best, mark, c, _mark(a, h, right))


@macro
def _larger(best, mark, x, x_mark):
    """Return the larger of two numbers, the first if they are equal; and its mark."""
    return where_beaten(best, x, x, best), where_beaten(best, x, x_mark, mark)


@macro
def _mark(like, h, w):
    """Return what tells the pixel (h, w) from all that are in a window with it: the last two bits of both."""
    return splat_bits(like, (h & 3) << 2 | w & 3)


@kernel
def pool3_backward(dy, argmax, n, H, W, N, dx, scratch, stream):
    """dx = the sum of dy over the windows around each pixel that it won.

    Each line of windows is read once, for the lines of pixels above it, on it and below it: `scratch` (2, W, N) has the
    sums of the last two, so far. No pixel has won the windows to the left and to the right of an image.
    """
    zero, line = splat(dy.data, dy.data.dtype.type(0)), W * N
    for i in range(n):
        for c in range(0, 2 * line, lanes(dy.data)):
            store(scratch, c, zero)
        for h in range(H):
            # What the first line of windows adds to is no line of pixels: the second one overwrites it.
            r, k, o = dy.rows[i * H + h], (i * H + h) * (W + 2) * N + N, dx.rows[i * H + max(h - 1, 0)]
            above, here = (h + 1) % 2 * line, h % 2 * line
            for w in range(W):
                left, right = (max(w - 1, 0) - w) * N, (min(w + 1, W - 1) - w) * N
                for c in range(w * N, (w + 1) * N, lanes(dy.data)):
                    a, a_mark = load(dy.data, r + c + left), load_bits(argmax, k + c - N, zero)
                    b, b_mark = load(dy.data, r + c), load_bits(argmax, k + c, zero)
                    d, d_mark = load(dy.data, r + c + right), load_bits(argmax, k + c + N, zero)
                    total = load(scratch, above + c)
                    store_or_stream(
                        dx.data, o + c, _won(total, _mark(a, h - 1, w), a, a_mark, b, b_mark, d, d_mark), stream
                    )
                    total = load(scratch, here + c)
                    store(scratch, here + c, _won(total, _mark(a, h, w), a, a_mark, b, b_mark, d, d_mark))
                    store(scratch, above + c, _won(zero, _mark(a, h + 1, w), a, a_mark, b, b_mark, d, d_mark))
        for c in range(0, line, lanes(dy.data)):
            store_or_stream(dx.data, dx.rows[i * H + H - 1] + c, load(scratch, (H - 1) % 2 * line + c), stream)


@macro
def _won(total, mark, a, a_mark, b, b_mark, c, c_mark):
    """Add what the pixel with this mark has won in three windows."""
    return total + keep_equal(a, a_mark, mark) + keep_equal(b, b_mark, mark) + keep_equal(c, c_mark, mark)


@kernel
def window_sum(x, window, weight, P, N, y, stream):
    """y[p] = Σ_q weight[kind, q] · x[x.rows[p, 0] + window[kind, 1 + q]] for q < window[kind, 0], kind = x.rows[p, 1].

    Averages of windows, copies of pixels, and the gradients of both.
    """
    one, four, wide = (
        splat(x.data, x.data.dtype.type(0)),
        splat_four(x.data, x.data.dtype.type(0)),
        FOUR * lanes(x.data),
    )
    for p in range(P):
        i, kind, o = x.rows[p, 0], x.rows[p, 1], y.rows[p]
        for n in range(0, N - N % wide, wide):
            store_or_stream(y.data, o + n, _weighted(four, x.data, i + n, window, weight, kind), stream)
        for n in range(N - N % wide, N, lanes(x.data)):
            store_or_stream(y.data, o + n, _weighted(one, x.data, i + n, window, weight, kind), stream)


@macro
def _weighted(total, x, i, window, weight, kind):
    """Add to `total` what `window_sum` sums, as many channels as it has lanes."""
    for q in range(window[kind, 0]):
        total = fma(splat_like(total, weight[kind, q]), load_like(total, x, i + window[kind, 1 + q]), total)
    return total


@kernel
def global_average(x, n, lines, width, N, y, scale):
    """y[i] = scale · the sum of all pixels of image i, each line, a row of x, summed alone."""
    zero, four, wide = (
        splat(x.data, x.data.dtype.type(0)),
        splat_four(x.data, x.data.dtype.type(0)),
        FOUR * lanes(x.data),
    )
    for i in range(n):
        o = y.rows[i]
        for c in range(0, N, lanes(x.data)):
            store(y.data, o + c, zero)
        for r in range(i * lines, (i + 1) * lines):
            for c in range(0, N - N % wide, wide):
                _add_line(four, x.data, x.rows[r] + c, width, N, y.data, o + c, scale)
            for c in range(N - N % wide, N, lanes(x.data)):
                _add_line(zero, x.data, x.rows[r] + c, width, N, y.data, o + c, scale)


@macro
def _add_line(total, x, i, width, N, y, o, scale):
    """Add scale · the pixels of a line to y, as many channels as `total`, zero, has lanes."""
    for k in range(i, i + width * N, N):
        total = total + load_like(total, x, k)
    store(y, o, fma(splat_like(total, scale), total, load_like(total, y, o)))


@kernel
def global_maximum(x, n, lines, width, N, y, argmax):
    """y[i] = the largest of all pixels of image i; `argmax` (n, N) the number of the first."""
    low, two, wide = (
        splat(x.data, x.data.dtype.type(-np.inf)),
        splat_two(x.data, x.data.dtype.type(0)),
        TWO * lanes(x.data),
    )
    for i in range(n):
        o, w = y.rows[i], i * N
        for c in range(0, N, lanes(x.data)):
            store(y.data, o + c, low)
            store_bits(argmax, w + c, splat_bits(low, 0))
        for line in range(lines):
            for first in range(0, width, NEAR):
                r, count, number = x.rows[i * lines + line] + first * N, min(NEAR, width - first), line * width + first
                for c in range(0, N - N % wide, wide):
                    _beat(two, x.data, r + c, count, N, y.data, o + c, argmax, w + c, number)
                for c in range(N - N % wide, N, lanes(x.data)):
                    _beat(low, x.data, r + c, count, N, y.data, o + c, argmax, w + c, number)


@macro
def _beat(like, x, i, count, N, y, o, argmax, w, first):
    """Let neighbours, numbered from `first`, beat what y holds: as many channels as `like` has lanes."""
    best, which = load_like(like, y, o), load_bits(argmax, w, like)
    for pixel in range(count):
        prefetch(x, i + (pixel + 2 * NEAR) * N)
        value = load_like(like, x, i + pixel * N)
        which = where_beaten(best, value, splat_bits(like, first + pixel), which)
        best = where_beaten(best, value, value, best)
    store(y, o, best)
    store_bits(argmax, w, which)


@kernel
def global_maximum_backward(dy, argmax, n, lines, width, N, dx, stream):
    """dx = dy at the pixel that won, zero elsewhere."""
    zero = splat(dy.data, dy.data.dtype.type(0))
    for r in range(n * lines):
        for k in range(0, width * N, lanes(dy.data)):
            store_or_stream(dx.data, dx.rows[r] + k, zero, stream)
    for i in range(n):
        for c in range(N):
            pixel = argmax[i * N + c]
            dx.data[dx.rows[i * lines + pixel // width] + pixel % width * N + c] = dy.data[dy.rows[i] + c]
