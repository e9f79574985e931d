"""The indirect matrix product over all tiles: what convolutions, dense layers and their gradients call.

Shape legend: C (n, N) = start (N,) + A (n, K) · B (K, N). A is read through two tables, see
`Matrix`. B is packed in panels of two vectors, `[panel][K][width]`, the last panel one vector wide where N is an odd
number of vectors. N is a multiple of the vector's lanes.
"""

from __future__ import annotations

from ..codegen.blocking import BAND, DEPTH
from ..codegen.gemm import panel_product
from ..codegen.vector import lanes, lanes_like, load, load_like, splat, splat_two, store
from ..codegen.vector_bits import store_transposed
from ..jit.source import inlined, kernel
from .maps import Matrix, Panel, PostOps, Prefetch

TILE = 6  # rows of a tile, roughly: prefetches are spread over the tiles


@kernel
def product(a, i0, i1, b, b0, c, N, post, prefetched):
    """C[i0:i1] = max(clamp_min, biases + A[i0:i1] · B), where B begins at `b[b0]`.

    `prefetched`, which is read next, is prefetched meanwhile, as a whole.
    """
    width, K = 2 * lanes(a.data), a.columns.size
    none = a.data.dtype.type(-float("inf"))
    panels = -(-N // width)
    distance = _distance(prefetched, (i1 - i0) * K * panels)
    for i in range(i0, i1, BAND):
        end = min(i + BAND, i1)
        for k0 in range(0, max(K, 1), DEPTH):
            k1 = min(k0 + DEPTH, K)
            part = PostOps(post.biases, post.clamp_min if k1 == K else none)
            for c0 in range(0, N, width):
                vectors = min(N - c0, width) // lanes(a.data)
                panel = Panel(b, b0 + c0 * K + k0 * vectors * lanes(a.data), vectors)
                done = (i - i0) * K * panels + (end - i) * (k0 * panels + (k1 - k0) * (c0 // width))
                prefetch = Prefetch(prefetched, _numbers(prefetched, done, distance), distance)
                panel_product(a, i, end, k0, k1, panel, c, c0, part, k0 > 0, prefetch)


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
    transposed = Matrix(a.data, a.columns, a.rows)
    no_post, nothing = PostOps(zeros, a.data.dtype.type(-float("inf"))), Prefetch(zeros, 0, 0)
    for p0 in range(0, n, pixels):
        p1, add = min(p0 + pixels, n), accumulate or p0 > 0
        for c0 in range(0, N, width):
            packed = Panel(panel, 0, min(N - c0, width) // lanes(a.data))
            pack_and_add(g, p0, p1, c0, packed, column_sums, add)
            panel_product(transposed, 0, K, p0, p1, packed, c, c0, no_post, add, nothing)


@kernel
def gradient_of_panels(a, n, g, span, N, pixels, c, zeros, accumulate, prefetched, prefetched_then):
    """C (K, N) = Aᵀ · G as above, where G lies in panels of two vectors of its rows, `span` numbers apart.

    `prefetched` is prefetched during the first half, `prefetched_then` during the other one.
    """
    width, K = 2 * lanes(a.data), a.columns.size
    transposed, no_post = Matrix(a.data, a.columns, a.rows), PostOps(zeros, a.data.dtype.type(-float("inf")))
    half = K * n * (N // width) // 2
    for p0 in range(0, n, pixels):
        p1, add = min(p0 + pixels, n), accumulate or p0 > 0
        for c0 in range(0, N, width):
            panel = Panel(g, c0 // width * span + p0 * width, 2)
            done = K * (p0 * (N // width) + (p1 - p0) * (c0 // width))
            wanted, passed = (prefetched, done) if done < half else (prefetched_then, done - half)
            distance = _distance(wanted, half)
            prefetch = Prefetch(wanted, _numbers(wanted, passed, distance), distance)
            panel_product(transposed, 0, K, p0, p1, panel, c, c0, no_post, add, prefetch)


@kernel
def pack_and_add(g, p0, p1, c0, panel, column_sums, add):
    """Copy the rows p0 to p1 of G, from column c0 on, to a panel; add them to the sums of the columns if `add`."""
    if panel.vectors == 2:
        _pack_and_add(splat_two(g.data, g.data.dtype.type(0)), g, p0, p1, c0, panel, column_sums, add)
    else:
        _pack_and_add(splat(g.data, g.data.dtype.type(0)), g, p0, p1, c0, panel, column_sums, add)


@inlined
def _pack_and_add(zero, g, p0, p1, c0, panel, column_sums, add):
    """Do this for a panel as wide as `zero`. Two rows are added at a time: a sum waits for the one before it."""
    step, o = lanes_like(zero), panel.begin
    total = load_like(zero, column_sums, c0) if add else zero
    for p in range(p0, p1 - 1, 2):
        x, y = load_like(zero, g.data, g.rows[p] + c0), load_like(zero, g.data, g.rows[p + 1] + c0)
        store(panel.data, o, x)
        store(panel.data, o + step, y)
        total = total + (x + y)
        o += 2 * step
    if (p1 - p0) % 2:
        x = load_like(zero, g.data, g.rows[p1 - 1] + c0)
        store(panel.data, o, x)
        total = total + x
    store(column_sums, c0, total)


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
