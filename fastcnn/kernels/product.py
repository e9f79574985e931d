"""The indirect matrix product over all tiles: what convolutions, dense layers and their gradients call.

Shape legend: C (n, N) = start (N,) + A (n, K) · B (K, N). A is read through `a_row` (n,) and `a_col` (K,), see
`simd.py`. B is packed in panels of two vectors, `[panel][K][width]`, the last panel one vector wide where N is an odd
number of vectors. Row i of C begins at `c[c_row[i]]`. N is a multiple of the vector's lanes.
"""

from __future__ import annotations

from ..codegen.blocking import BAND, DEPTH
from ..codegen.gemm import panel_product
from ..codegen.vector import lanes, load, splat, store
from ..codegen.vector_bits import store_transposed
from ..jit.source import kernel

TILE = 6  # rows, roughly


@kernel
def product(a, a_row, i0, i1, a_col, K, b, b0, c, c_row, N, start, floor, ask):
    """C[i0:i1] = max(floor, start + A[i0:i1] · B), where B begins at `b[b0]`.

    Memory, which has little to do meanwhile, is asked for all of `ask`, which is read next.
    """
    width = 2 * lanes(a)
    none = a.dtype.type(-float("inf"))
    panels = -(-N // width)
    pace = _pace(ask, (i1 - i0) * K * panels)
    for i in range(i0, i1, BAND):
        end = min(i + BAND, i1)
        for k0 in range(0, max(K, 1), DEPTH):
            k1 = min(k0 + DEPTH, K)
            low = floor if k1 == K else none
            for c0 in range(0, N, width):
                vectors = min(N - c0, width) // lanes(a)
                at = b0 + c0 * K + k0 * vectors * lanes(a)
                done = (i - i0) * K * panels + (end - i) * (k0 * panels + (k1 - k0) * (c0 // width))
                panel_product(
                    a, a_row, i, end, a_col, k0, k1, b, at, c, c_row, c0, vectors, start, k0 == 0, low,
                    ask, _numbers(ask, done, pace), pace,
                )  # fmt: skip


@kernel
def _pace(ask, products):
    """Bytes to ask for with each of so many products of a number and a panel's width, in tiles of TILE rows."""
    return -(-ask.size * ask.itemsize * TILE // max(products, 1))


@kernel
def _numbers(ask, products, pace):
    """How many numbers of `ask` belong to so many products."""
    return products // TILE * pace // ask.itemsize


@kernel
def gradient_product(a, a_row, K, a_col, n, g, g_row, N, pixels, panel, c, c_row, zeros, column_sums, fresh):
    """C (K, N) = Aᵀ · G for G (n, N) at `g[g_row]`, and the sums of G's columns: the gradients of filters and biases.

    They are added to what stands there unless `fresh`. `panel` is scratch for so many rows of one panel of G, `pixels`,
    as are taken at once, `zeros` (N,) zeros.
    """
    width = 2 * lanes(a)
    none = a.dtype.type(-float("inf"))
    for p0 in range(0, n, pixels):
        p1, begins = min(p0 + pixels, n), fresh and p0 == 0
        for c0 in range(0, N, width):
            vectors = min(N - c0, width) // lanes(a)
            for v in range(vectors if begins else 0):
                store(column_sums, c0 + v * lanes(a), splat(a, a.dtype.type(0)))
            if vectors == 2:
                _pack_two(g, g_row, p0, p1, c0, panel, column_sums)
            else:
                _pack_one(g, g_row, p0, p1, c0, panel, column_sums)
            panel_product(
                a, a_row, 0, K, a_col, p0, p1, panel, 0, c, c_row, c0, vectors, zeros, begins, none,
                zeros, 0, 0,
            )  # fmt: skip


@kernel
def gradient_of_panels(a, a_row, K, a_col, n, g, span, N, pixels, c, c_row, zeros, fresh, ask, then):
    """C (K, N) = Aᵀ · G as above, where G stands in panels of two vectors of its rows, `span` numbers apart.

    Memory is asked for `ask` during the first half, and `then` for the other one.
    """
    width = 2 * lanes(a)
    none = a.dtype.type(-float("inf"))
    half = K * n * (N // width) // 2
    for p0 in range(0, n, pixels):
        p1, begins = min(p0 + pixels, n), fresh and p0 == 0
        for c0 in range(0, N, width):
            at = c0 // width * span + p0 * width
            done = K * (p0 * (N // width) + (p1 - p0) * (c0 // width))
            wanted, asked = (ask, done) if done < half else (then, done - half)
            pace = _pace(wanted, half)
            panel_product(
                a, a_row, 0, K, a_col, p0, p1, g, at, c, c_row, c0, 2, zeros, begins, none,
                wanted, _numbers(wanted, asked, pace), pace,
            )  # fmt: skip


@kernel
def _pack_two(g, g_row, p0, p1, column, panel, column_sums):
    """Copy two vectors of each row of G to the panel, and add them to the sums, which wait for themselves: two rows."""
    L = lanes(g)
    s, t = load(column_sums, column), load(column_sums, column + L)
    o = 0
    for p in range(p0, p1 - 1, 2):
        i, j = g_row[p] + column, g_row[p + 1] + column
        a, b, c, d = load(g, i), load(g, i + L), load(g, j), load(g, j + L)
        store(panel, o, a)
        store(panel, o + L, b)
        store(panel, o + 2 * L, c)
        store(panel, o + 3 * L, d)
        s, t = s + (a + c), t + (b + d)
        o += 4 * L
    if (p1 - p0) % 2:
        i = g_row[p1 - 1] + column
        a, b = load(g, i), load(g, i + L)
        store(panel, o, a)
        store(panel, o + L, b)
        s, t = s + a, t + b
    store(column_sums, column, s)
    store(column_sums, column + L, t)


@kernel
def _pack_one(g, g_row, p0, p1, column, panel, column_sums):
    """Copy one vector of each row, where that is all there is, and add it to the sums, in the order of `_pack_two`."""
    L = lanes(g)
    total = load(column_sums, column)
    o = 0
    for p in range(p0, p1 - 1, 2):
        a, b = load(g, g_row[p] + column), load(g, g_row[p + 1] + column)
        store(panel, o, a)
        store(panel, o + L, b)
        total = total + (a + b)
        o += 2 * L
    if (p1 - p0) % 2:
        a = load(g, g_row[p1 - 1] + column)
        store(panel, o, a)
        total = total + a
    store(column_sums, column, total)


@kernel
def pack(w, w_row, K, N, b):
    """B's panels from the rows `w[w_row[k]]`, k < K."""
    width = 2 * lanes(w)
    for c0 in range(0, N, width):
        vectors = min(N - c0, width) // lanes(w)
        for k in range(K):
            for v in range(vectors):
                store(b, c0 * K + (k * vectors + v) * lanes(w), load(w, w_row[k] + c0 + v * lanes(w)))


@kernel
def pack_transposed(w, block, blocks, F, w_row, N, b):
    """B's panels (K = blocks · F, N), rows becoming columns: B[t·F + f, n] = w[block[t] + w_row[n] + f].

    A negative `w_row[n]` is a column of zeros. Rows of `w` are padded to whole vectors.
    """
    width = 2 * lanes(w)
    K = blocks * F
    for c0 in range(0, N, width):
        step = min(N - c0, width)
        for t in range(blocks):
            base = c0 * K + t * F * step
            for f in range(0, F, lanes(w)):
                for n in range(0, step, lanes(w)):
                    store_transposed(w, block[t] + f, w_row, c0 + n, b, base + f * step + n, step, F - f)
