"""The matrix products of Winograd's algorithms: one for each point, whatever the size of the tiles.

Shape legend: as in `conv_winograd.py`: V [point][TB][CP], U [point][panel][C][width], M [point][TB][FP] and
W [point][panel][TB][width] with points `plane` apart, dU [point][C][FP].
"""

from __future__ import annotations

from ..codegen.gemm import panel_product
from ..codegen.vector import lanes
from ..codegen.vector_bits import store_transposed
from ..jit.source import kernel
from .maps import Panel, PostOps, Prefetch
from .product import product


@kernel
def point_products(side, v, TB, ranges, at, u, m, FP, zeros):
    """M = V · U for each point, of the tiles that need it; others keep what they hold.

    The ranges of a block begin at `ranges[at]`, see `Blocks`.
    """
    post, C = PostOps(zeros, zeros.dtype.type(-float("inf"))), v.columns.size
    for p in range(side * side):
        kind = _kind(side, p)
        first, last = ranges[at + 2 * kind], ranges[at + 2 * kind + 1]
        product(v, p * TB + first, p * TB + last, u, p * C * FP, m, FP, post, zeros[:0])


@kernel
def _kind(side, p):
    """Which tiles need a point: all, 0, those whose last column counts, 1, whose last row does, 2, or both, 3."""
    return 2 * (p // side == side - 1) + (p % side == side - 1)


@kernel
def point_gradients(side, v, ranges, at, w, FP, du, accumulate, zeros):
    """dU = Vᵀ · W for each point, added to what is there if `accumulate`; V (C, TB) for each point.

    The sums are over the tiles whose gradients are not 0 at the point, see `point_products`.
    """
    post, nothing = PostOps(zeros, zeros.dtype.type(-float("inf"))), Prefetch(zeros, 0, 0)
    width, C, TB = 2 * lanes(zeros), v.rows.size // (side * side), v.columns.size
    for p in range(side * side):
        kind = _kind(side, p)
        first, last = ranges[at + 2 * kind], ranges[at + 2 * kind + 1]
        for f0 in range(0, FP, width):
            vectors = min(FP - f0, width) // lanes(zeros)
            panel = Panel(w.data, p * w.plane + f0 * TB + first * vectors * lanes(zeros), vectors)
            panel_product(v, p * C, (p + 1) * C, first, last, panel, du, f0, post, accumulate, nothing)


@kernel
def transpose_points(points, u, C, F, FP, CP, transposed, plane):
    """U, channels and filters exchanged; its rows [panel of F][CP] are those of channels, negative beyond C.

    They may be some of the channels: what is written for a point begins `plane` numbers after that of the last one.
    """
    width = 2 * lanes(u.data)
    for p in range(points):
        for c0 in range(0, CP, width):
            row = min(CP - c0, width)
            for f in range(0, F, lanes(u.data)):
                panel = f // width
                for c in range(0, row, lanes(u.data)):
                    source = p * C * FP + f - panel * width
                    target = p * plane + c0 * F + f * row + c
                    store_transposed(u.data, source, u.rows, panel * CP + c0 + c, transposed, target, row, F - f)
