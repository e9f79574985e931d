"""The indirect matrix product over all tiles: what convolutions, dense layers and their gradients call.

Shape legend: C (n, N) = start (N,) + A (n, K) · B (K, N). A is read through two tables, see
`Matrix`. B is packed in panels of two vectors, `[panel][K][width]`, the last panel one vector wide where N is an odd
number of vectors. N is a multiple of the vector's lanes.
"""

from __future__ import annotations

from ..codegen.blocking import BAND, DEPTH
from ..codegen.gemm import panel_product
from ..codegen.vector import lanes, load, splat, store
from ..codegen.vector_bits import store_transposed
from ..jit.source import kernel

TILE = 6  # rows, roughly


@kernel
def product(a, i0, i1, b, b0, c, N, post, prefetched):
    """C[i0:i1] = max(clamp_min, biases + A[i0:i1] · B), where B begins at `b[b0]`.

    Meanwhile `prefetched`, which is read next, is prefetched as a whole.
    """
    width, K = 2 * lanes(a.data), a.columns.size
    none = a.data.dtype.type(-float("inf"))
    panels = -(-N // width)
    distance = _distance(prefetched, (i1 - i0) * K * panels)
    for i in range(i0, i1, BAND):
        end = min(i + BAND, i1)
        for k0 in range(0, max(K, 1), DEPTH):
            k1 = min(k0 + DEPTH, K)
            low = post.clamp_min if k1 == K else none
            for c0 in range(0, N, width):
                vectors = min(N - c0, width) // lanes(a.data)
                at = b0 + c0 * K + k0 * vectors * lanes(a.data)
                done = (i - i0) * K * panels + (end - i) * (k0 * panels + (k1 - k0) * (c0 // width))
                panel_product(
                    a.data, a.rows, i, end, a.columns, k0, k1, b, at, c.data, c.rows, c0, vectors, post.biases, k0 > 0,
                    low, prefetched, _numbers(prefetched, done, distance), distance,
                )  # fmt: skip


@kernel
def _distance(prefetched, products):
    """Bytes to prefetch with each of so many products of a number and a panel's width, in tiles of TILE rows."""
    return -(-prefetched.size * prefetched.itemsize * TILE // max(products, 1))


@kernel
def _numbers(prefetched, products, distance):
    """How many numbers of `prefetched` belong to so many products."""
    return products // TILE * distance // prefetched.itemsize


@kernel
def gradient_product(a, n, g, N, pixels, panel, c, zeros, column_sums, accumulate):
    """C (K, N) = Aᵀ · G for A (n, K) and G (n, N), and the sums of G's columns: the gradients of filters and biases.

    They are added to what is there if `accumulate`. `panel` is scratch for one panel of `pixels` rows of G, as many as
    are taken at once, `zeros` (N,) zeros.
    """
    width, K = 2 * lanes(a.data), a.columns.size
    none = a.data.dtype.type(-float("inf"))
    for p0 in range(0, n, pixels):
        p1, add = min(p0 + pixels, n), accumulate or p0 > 0
        for c0 in range(0, N, width):
            vectors = min(N - c0, width) // lanes(a.data)
            for v in range(0 if add else vectors):
                store(column_sums, c0 + v * lanes(a.data), splat(a.data, a.data.dtype.type(0)))
            if vectors == 2:
                _pack_two(g, p0, p1, c0, panel, column_sums)
            else:
                _pack_one(g, p0, p1, c0, panel, column_sums)
            panel_product(
                a.data, a.columns, 0, K, a.rows, p0, p1, panel, 0, c.data, c.rows, c0, vectors, zeros, add, none,
                zeros, 0, 0,
            )  # fmt: skip


@kernel
def gradient_of_panels(a, n, g, span, N, pixels, c, zeros, accumulate, prefetched, prefetched_then):
    """C (K, N) = Aᵀ · G as above, where G lies in panels of two vectors of its rows, `span` numbers apart.

    `prefetched` is prefetched during the first half, `prefetched_then` during the other one.
    """
    width, K = 2 * lanes(a.data), a.columns.size
    none = a.data.dtype.type(-float("inf"))
    half = K * n * (N // width) // 2
    for p0 in range(0, n, pixels):
        p1, add = min(p0 + pixels, n), accumulate or p0 > 0
        for c0 in range(0, N, width):
            at = c0 // width * span + p0 * width
            done = K * (p0 * (N // width) + (p1 - p0) * (c0 // width))
            wanted, passed = (prefetched, done) if done < half else (prefetched_then, done - half)
            distance = _distance(wanted, half)
            panel_product(
                a.data, a.columns, 0, K, a.rows, p0, p1, g, at, c.data, c.rows, c0, 2, zeros, add, none,
                wanted, _numbers(wanted, passed, distance), distance,
            )  # fmt: skip


@kernel
def _pack_two(g, p0, p1, column, panel, column_sums):
    """Copy two vectors of each row of G to the panel, and add them to the sums: two at a time, bound by latency."""
    L = lanes(g.data)
    s, t = load(column_sums, column), load(column_sums, column + L)
    o = 0
    for p in range(p0, p1 - 1, 2):
        i, j = g.rows[p] + column, g.rows[p + 1] + column
        a, b, c, d = load(g.data, i), load(g.data, i + L), load(g.data, j), load(g.data, j + L)
        store(panel, o, a)
        store(panel, o + L, b)
        store(panel, o + 2 * L, c)
        store(panel, o + 3 * L, d)
        s, t = s + (a + c), t + (b + d)
        o += 4 * L
    if (p1 - p0) % 2:
        i = g.rows[p1 - 1] + column
        a, b = load(g.data, i), load(g.data, i + L)
        store(panel, o, a)
        store(panel, o + L, b)
        s, t = s + a, t + b
    store(column_sums, column, s)
    store(column_sums, column + L, t)


@kernel
def _pack_one(g, p0, p1, column, panel, column_sums):
    """Copy one vector of each row, where that is all there is, and add it to the sums, in the order of `_pack_two`."""
    L = lanes(g.data)
    total = load(column_sums, column)
    o = 0
    for p in range(p0, p1 - 1, 2):
        a, b = load(g.data, g.rows[p] + column), load(g.data, g.rows[p + 1] + column)
        store(panel, o, a)
        store(panel, o + L, b)
        total = total + (a + b)
        o += 2 * L
    if (p1 - p0) % 2:
        a = load(g.data, g.rows[p1 - 1] + column)
        store(panel, o, a)
        total = total + a
    store(column_sums, column, total)


@kernel
def pack(w, N, b):
    """B's panels from the rows of `w`."""
    width, K = 2 * lanes(w.data), w.rows.size
    for c0 in range(0, N, width):
        vectors = min(N - c0, width) // lanes(w.data)
        for k in range(K):
            for v in range(vectors):
                o = v * lanes(w.data)
                store(b, c0 * K + k * vectors * lanes(w.data) + o, load(w.data, w.rows[k] + c0 + o))


@kernel
def pack_transposed(w, F, b):
    """B's panels (K = blocks · F, N), rows becoming columns: B[t·F + f, n] = w.data[w.rows[t] + w.columns[n] + f].

    A negative `w.columns[n]` is a column of zeros. Rows of `w` are padded to whole vectors.
    """
    width, blocks, N = 2 * lanes(w.data), w.rows.size, w.columns.size
    K = blocks * F
    for c0 in range(0, N, width):
        step = min(N - c0, width)
        for t in range(blocks):
            base = c0 * K + t * F * step
            for f in range(0, F, lanes(w.data)):
                for n in range(0, step, lanes(w.data)):
                    store_transposed(
                        w.data, w.rows[t] + f, w.columns, c0 + n, b, base + f * step + n, step, F - f
                    )  # fmt: skip
