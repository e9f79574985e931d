"""Dense layers with many weights: what limits them is memory, so weights are read as they lie, and each time once.

Packing all of them first, as `product.py` wants it, would read and write them twice more. Here some lines at a time are
packed into scratch that stays in the second-level cache, and maps are brought into the order of the weights, C, H, W,
beforehand: they are many times smaller. The sums are those of `product.py`, in the same order.

Shape legend: y (n, N) = start (N,) + A (n, K) · W (K, N); line k of W begins at w[k · N]. N is a multiple of the
vector's lanes. `panels` is scratch.
"""

from __future__ import annotations

from ..codegen.blocking import BAND
from ..codegen.gemm import panel_product
from ..codegen.vector import lanes, load, splat, store
from ..codegen.vector_bits import store_transposed
from ..jit.source import kernel
from .maps import Matrix, Panel, PostOps, Prefetch
from .product import pack_and_add


@kernel
def product(a, n, w, y, N, post, panels):
    """y = max(clamp_min, biases + A · W); `panels` has room for a few lines of W."""
    width, depth, K = 2 * lanes(a.data), panels.size // N, a.columns.size
    none, nothing = a.data.dtype.type(-float("inf")), Prefetch(post.biases, 0, 0)
    for k0 in range(0, K, depth):
        k1 = min(k0 + depth, K)
        part = PostOps(post.biases, post.clamp_min if k1 == K else none)
        if width < N:
            _pack_lines(w, k0, k1, N, panels)
        for i in range(0, n, BAND):
            for c0 in range(0, N, width):
                vectors = min(N - c0, width) // lanes(a.data)
                lines, at = (panels, c0 * (k1 - k0)) if width < N else (w, k0 * N)  # few columns are a panel already
                panel = Panel(lines, at, vectors)
                panel_product(a, i, min(i + BAND, n), k0, k1, panel, y, c0, part, k0 > 0, nothing)


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
def weight_gradient(a, n, g, N, rows, panels, dw, zeros, dbias):
    """dW (K, N) = Aᵀ · G for G (n, N), and dbias (N,), the sums of G's columns.

    So many rows of G as `panels` has room for are packed at once, and so many lines of dW as `rows` says are written by
    all panels before the next.
    """
    width, most, K = 2 * lanes(a.data), panels.size // N // 2 * 2, a.columns.size
    transposed = Matrix(a.data, a.columns, a.rows)
    no_post, nothing = PostOps(zeros, a.data.dtype.type(-float("inf"))), Prefetch(zeros, 0, 0)
    for p0 in range(0, n, most):
        p1 = min(p0 + most, n)
        for c0 in range(0, N, width):
            panel = Panel(panels, c0 * (p1 - p0), min(N - c0, width) // lanes(a.data))
            pack_and_add(g, p0, p1, c0, panel, dbias, p0 > 0)
        for k in range(0, K, rows):
            for c0 in range(0, N, width):
                panel = Panel(panels, c0 * (p1 - p0), min(N - c0, width) // lanes(a.data))
                panel_product(transposed, k, min(k + rows, K), p0, p1, panel, dw, c0, no_post, p0 > 0, nothing)


@kernel
def input_gradient(g, n, w, D, dx, zeros, panels):
    """dx (n, D) = G · Wᵀ for G (n, F); row k of W begins at `w.rows[k]`, and a negative number is a row of zeros.

    D is a multiple of the vector's lanes; `panels` has room for two vectors of lines of W, transposed.
    """
    width, F = 2 * lanes(g.data), g.columns.size
    no_post, nothing = PostOps(zeros, g.data.dtype.type(-float("inf"))), Prefetch(zeros, 0, 0)
    for c0 in range(0, D, width):
        step = min(D - c0, width)
        for f in range(0, F, lanes(g.data)):
            for k in range(0, step, lanes(g.data)):
                store_transposed(w.data, f, w.rows, c0 + k, panels, f * step + k, step, F - f)
        panel = Panel(panels, 0, step // lanes(g.data))
        panel_product(g, 0, n, 0, F, panel, dx, c0, no_post, False, nothing)


@kernel
def features(x, n, pitch, channels, y):
    """Bring maps into the order C, H, W: y.data[y.rows[i] + c · pixels + p] = x.data[x.rows[i] + x.columns[p] + c].

    Pixels have `pitch` numbers in memory.
    """
    pixels, L = x.columns.size, lanes(x.data)
    for i in range(n):
        if pixels < L or pitch % L:
            for p in range(pixels):
                for c in range(channels):
                    y.data[y.rows[i] + c * pixels + p] = x.data[x.rows[i] + x.columns[p] + c]
            continue
        for c in range(0, channels, L):
            for start in range(0, pixels, L):
                p = min(start, pixels - L)  # the last square overlaps the one before
                store_transposed(
                    x.data, x.rows[i] + c, x.columns, p, y.data, y.rows[i] + c * pixels + p, pixels, channels - c
                )  # fmt: skip


@kernel
def maps(y, n, line, width, pitch, channel, x, size):
    """Bring features into maps, the opposite of `features`: whole images of `size` numbers, with zeros in between.

    Line h of pixels of an image begins at `line[h]`; feature 0 of channel c is `y.data[y.rows[i] + channel[c]]`, and a
    negative `channel[c]`, c < pitch, is padding. Behind the features there is room for one vector.
    """
    zero, L = splat(x.data, x.data.dtype.type(0)), lanes(x.data)
    for i in range(n):
        for o in range(0, size, L):
            store(x.data, x.rows[i] + o, zero)
        for h in range(line.size):
            for w in range(0, width, L):
                for c in range(0, pitch, L):
                    o = x.rows[i] + line[h] + w * pitch + c
                    store_transposed(
                        y.data, y.rows[i] + h * width + w, channel, c, x.data, o, pitch, width - w
                    )  # fmt: skip
