"""Dense layers with many weights: what limits them is memory, so weights are read as they lie, and each time once.

Packing all of them first, as `product.py` wants it, would read and write them twice more. Here some lines at a time are
packed into scratch that stays in the second-level cache, and maps are brought into the order of the weights, C, H, W,
beforehand: they are many times smaller. The sums are those of `product.py`, in the same order.

Shape legend: y (n, N) = start (N,) + A (n, K) · W (K, N); A[i, k] = a[a_row[i] + a_col[k]], line k of W begins at
w[k · N]. N is a multiple of the vector's lanes. `panels` is scratch.
"""

from __future__ import annotations

from ..codegen.blocking import BAND
from ..codegen.gemm import panel_product
from ..codegen.vector import lanes, load, splat, store
from ..codegen.vector_bits import store_transposed
from ..jit.source import kernel


@kernel
def product(a, a_row, n, a_col, K, w, y, y_row, N, start, floor, panels):
    """y = max(floor, start + A · W); `panels` has room for a few lines of W."""
    width, depth = 2 * lanes(a), panels.size // N
    none = a.dtype.type(-float("inf"))
    for k0 in range(0, K, depth):
        k1 = min(k0 + depth, K)
        low = floor if k1 == K else none
        _pack_lines(w, k0, k1, N, panels)
        for i in range(0, n, BAND):
            for c0 in range(0, N, width):
                vectors = min(N - c0, width) // lanes(a)
                panel_product(
                    a, a_row, i, min(i + BAND, n), a_col, k0, k1, panels, c0 * (k1 - k0), y, y_row, c0, vectors,
                    start, k0 == 0, low, start, 0, 0,
                )  # fmt: skip


@kernel
def _pack_lines(w, k0, k1, N, panels):
    """Panels of two vectors from lines k0 to k1 of W."""
    width = 2 * lanes(w)
    for k in range(k0, k1):
        for c in range(0, N, lanes(w)):
            c0 = c // width * width
            o = c0 * (k1 - k0) + (k - k0) * min(N - c0, width) + c - c0
            store(panels, o, load(w, k * N + c))


@kernel
def weight_gradient(a, a_row, a_col, K, n, g, g_row, N, rows, panels, dw, dw_row, zeros, dbias):
    """dW (K, N) = Aᵀ · G for G (n, N) at `g[g_row]`, and dbias (N,), the sums of G's columns.

    So many rows of G as `panels` has room for are packed at once, and so many lines of dW as `rows` says are written by
    all panels before the next.
    """
    width, most = 2 * lanes(a), panels.size // N // 2 * 2
    none = a.dtype.type(-float("inf"))
    for p0 in range(0, n, most):
        p1 = min(p0 + most, n)
        for c0 in range(0, N, width):
            for v in range(min(N - c0, width) // lanes(a)):
                c = c0 + v * lanes(a)
                _pack_and_add(g, g_row, p0, p1, c, panels, c0 * (p1 - p0) + c - c0, min(N - c0, width), dbias)
        for k in range(0, K, rows):
            for c0 in range(0, N, width):
                vectors = min(N - c0, width) // lanes(a)
                panel_product(
                    a, a_col, k, min(k + rows, K), a_row, p0, p1, panels, c0 * (p1 - p0), dw, dw_row, c0, vectors,
                    zeros, p0 == 0, none, zeros, 0, 0,
                )  # fmt: skip


@kernel
def _pack_and_add(g, g_row, p0, p1, c, panels, o, step, dbias):
    """Copy one vector of each row of G, `step` numbers apart, and add it to the sums, two rows at a time."""
    total = load(dbias, c) if p0 else splat(g, g.dtype.type(0))
    for p in range(p0, p1 - 1, 2):
        x, y = load(g, g_row[p] + c), load(g, g_row[p + 1] + c)
        store(panels, o, x)
        store(panels, o + step, y)
        total = total + (x + y)
        o += 2 * step
    if (p1 - p0) % 2:
        x = load(g, g_row[p1 - 1] + c)
        store(panels, o, x)
        total = total + x
    store(dbias, c, total)


@kernel
def input_gradient(g, g_row, n, g_col, F, w, line, D, dx, dx_row, zeros, panels):
    """dx (n, D) = G · Wᵀ for G (n, F); line k of W begins at `w[line[k]]`, and a negative number is a line of zeros.

    D is a multiple of the vector's lanes; `panels` has room for two vectors of lines of W, transposed.
    """
    width = 2 * lanes(g)
    none = g.dtype.type(-float("inf"))
    for c0 in range(0, D, width):
        step = min(D - c0, width)
        for f in range(0, F, lanes(g)):
            for k in range(0, step, lanes(g)):
                store_transposed(w, f, line, c0 + k, panels, f * step + k, step, F - f)
        panel_product(
            g, g_row, 0, n, g_col, 0, F, panels, 0, dx, dx_row, c0, step // lanes(g), zeros, True, none, zeros, 0, 0
        )  # fmt: skip


@kernel
def features(x, x_row, n, pixel, pixels, pitch, channels, y, y_row):
    """Bring maps into the order C, H, W: y[y_row[i] + c · pixels + p] = x[x_row[i] + pixel[p] + c].

    Pixels have `pitch` numbers in memory.
    """
    for i in range(n):
        if pixels < lanes(x) or pitch % lanes(x):
            for p in range(pixels):
                for c in range(channels):
                    y[y_row[i] + c * pixels + p] = x[x_row[i] + pixel[p] + c]
            continue
        for c in range(0, channels, lanes(x)):
            for start in range(0, pixels, lanes(x)):
                p = min(start, pixels - lanes(x))  # the last square overlaps the one before
                store_transposed(
                    x, x_row[i] + c, pixel, p, y, y_row[i] + c * pixels + p, pixels, channels - c
                )  # fmt: skip


@kernel
def maps(y, y_row, n, line, lines, width, pitch, channel, x, x_row, size):
    """Bring features into maps, the opposite of `features`: whole images of `size` numbers, with zeros in between.

    Line h of pixels of an image begins at `line[h]`; feature 0 of channel c is `y[y_row[i] + channel[c]]`, and a
    negative `channel[c]`, c < pitch, is padding. Behind the features there is room for one vector.
    """
    zero = splat(x, x.dtype.type(0))
    for i in range(n):
        for o in range(0, size, lanes(x)):
            store(x, x_row[i] + o, zero)
        for h in range(lines):
            for w in range(0, width, lanes(x)):
                for c in range(0, pitch, lanes(x)):
                    store_transposed(
                        y, y_row[i] + h * width + w, channel, c, x, x_row[i] + line[h] + w * pitch + c, pitch, width - w
                    )  # fmt: skip
