"""Pointwise (1 x 1) convolution of maps that are zero in many places, as a ReLU leaves them: it skips the zeros.

Without it, a step of a network that it fits takes 1.10 times as long.

The sums are those of `product.py`, in the same order: a product with zero adds nothing. There are two differences: -0
stays -0, where adding 0 makes it 0, and what is not finite does no harm where it is multiplied with zero.

Shape legend: `pixels` pixels of x with K channels, N filters, a multiple of `width`, the SUMS vectors of a row that are
summed at once. Filters B and gradients G lie in panels of that width, (panel, row, channel of the panel). Words of
bits say which numbers are active: of a pixel's channels, (pixel, word), or, one word each, of a channel's pixels.
"""

from __future__ import annotations

from ..codegen.blocking import BAND, SUMS, WORD
from ..codegen.skip_zeros import active, sum_active
from ..codegen.vector import lanes, load, prefetch, store
from ..jit.source import kernel
from ..jit.target import COMMON
from .maps import PostOps

LINE = COMMON.line
DISTANCE = 4  # pixels whose lines of y are prefetched before they are written


@kernel
def pack(w, N, b):
    """B's panels from the rows of `w`."""
    width, K = SUMS * lanes(w.data), w.rows.size
    for c0 in range(0, N, width):
        for k in range(K):
            for c in range(0, width, lanes(w.data)):
                store(b, c0 * K + k * width + c, load(w.data, w.rows[k] + c0 + c))


@kernel
def _note(x, i, K, bits, first):
    """Note which of the K numbers x[i:] are active, in the words bits[first:]."""
    for k0 in range(0, K, WORD):
        word = 0
        for k in range(k0, min(k0 + WORD, K), 8):
            word |= active(x, i + k) << (k - k0)
        if K - k0 < WORD:
            word &= (1 << (K - k0)) - 1  # what is beside the channels
        bits[first + k0 // WORD] = word


@kernel
def forward(x, pixels, K, b, y, N, post, bits, prefetched):
    """y = max(clamp_min, biases + x · B); `bits` (BAND, words) is scratch. `prefetched`, which is read next, is."""
    width, words = SUMS * lanes(x.data), (K + WORD - 1) // WORD
    none = x.data.dtype.type(-float("inf"))
    line = LINE // x.data.itemsize
    distance = -(-prefetched.size // (line * max(pixels * (N // width) * words, 1))) * line
    passed = 0
    for p0 in range(0, pixels, BAND):
        p1 = min(p0 + BAND, pixels)
        for p in range(p0, p1):
            _note(x.data, x.rows[p], K, bits, (p - p0) * words)
        for c0 in range(0, N, width):
            for q in range(words):
                part = post if q == words - 1 else PostOps(post.biases, none)
                for p in range(p0, p1):
                    if q == 0:
                        _prefetch(y.data, y.rows[min(p + DISTANCE, p1 - 1)] + c0, width, line)
                    _prefetch(prefetched, passed, distance, line)
                    passed += distance
                    sum_active(
                        x.data, x.rows[p] + q * WORD, 1, bits[(p - p0) * words + q], b, c0 * K + q * WORD * width,
                        y.data, y.rows[p] + c0, part, c0, q > 0,
                    )  # fmt: skip


@kernel
def _prefetch(a, i, size, line):
    """Prefetch a[i : i + size]."""
    end = i + size
    while i < end:
        prefetch(a, i)
        i += line


@kernel
def _square(x, i, step, rows):
    """Return which of 8 x 8 numbers of x are active, a byte for each of `rows` rows, `step` numbers apart."""
    square = 0
    if rows >= 8:
        for row in range(8):  # unrolled
            square |= active(x, i + row * step) << (8 * row)
    else:
        for row in range(rows):
            square |= active(x, i + row * step) << (8 * row)
    return square


@kernel
def _transposed(square):
    """Return 8 x 8 bits, a byte for each row, with rows and columns exchanged: blocks of 1, then 2, then 4 of them."""
    change = (square ^ (square >> 7)) & 0x00AA00AA00AA00AA
    square ^= change ^ (change << 7)
    change = (square ^ (square >> 14)) & 0x0000CCCC0000CCCC
    square ^= change ^ (change << 14)
    change = (square ^ (square >> 28)) & 0x00000000F0F0F0F0
    return square ^ change ^ (change << 28)


@kernel
def _note_pixels(x, i, step, pixels, bits, k):
    """bits[k : k + 8] = of which `pixels` <= WORD eight channels are active; those of pixel p are x[i + p·step :]."""
    for n in range(8):
        bits[k + n] = 0
    for p in range(0, pixels, 8):
        square = _transposed(_square(x, i + p * step, step, pixels - p))
        for n in range(8):
            bits[k + n] |= (square >> (8 * n) & 255) << p


@kernel
def filter_gradient(x, step, pixels, g, span, N, dw, zeros, accumulate, bits, prefetched, prefetched_then):
    """dw (K, N) = xᵀ · G, added to what is there if `accumulate`; G's panels are `span` numbers apart.

    Neighbouring pixels of x are `step` numbers apart, and eight channels lie side by side. `bits`, K rounded up to a
    multiple of eight, is scratch. `prefetched` is prefetched during the first half, `prefetched_then` during the other.
    """
    width, K = SUMS * lanes(x.data), x.columns.size
    no_post = PostOps(zeros, x.data.dtype.type(-float("inf")))
    line = LINE // x.data.itemsize
    half = max((pixels + WORD - 1) // WORD * K * (N // width) // 2, 1)
    distance, distance_then = (
        -(-prefetched.size // (line * half)) * line,
        -(-prefetched_then.size // (line * half)) * line,
    )
    turn = 0
    for p0 in range(0, pixels, WORD):
        i = x.rows[p0]
        for k in range(0, K, 8):
            _note_pixels(x.data, i + x.columns[k], step, min(WORD, pixels - p0), bits, k)
        for c0 in range(0, N, width):
            for k in range(K):
                if turn < half:
                    _prefetch(prefetched, turn * distance, distance, line)
                else:
                    _prefetch(prefetched_then, (turn - half) * distance_then, distance_then, line)
                turn += 1
                sum_active(
                    x.data, i + x.columns[k], step, bits[k], g, c0 // width * span + p0 * width,
                    dw.data, dw.rows[k] + c0, no_post, c0, accumulate or p0 > 0,
                )  # fmt: skip
