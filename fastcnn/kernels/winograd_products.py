"""The matrix products of Winograd's algorithms: one for each point, whatever the size of the tiles.

Shape legend: as in `conv_winograd.py`: V [point][TB][CP], U [point][panel][C][width], M [point][TB][FP] and
W [point][panel][TB][width] with points `plane` apart, dU [point][C][FP].
"""

from __future__ import annotations

from ..codegen.gemm import panel_product
from ..codegen.vector import lanes
from ..codegen.vector_bits import store_transposed
from ..jit.source import kernel
from .product import product


@kernel
def point_products(points, v, v_row, TB, tiles, c_col, C, u, m, m_row, FP, zeros):
    """M = V · U for each point."""
    none = v.dtype.type(-float("inf"))
    for p in range(points):
        product(v, v_row, p * TB, p * TB + tiles, c_col, C, u, p * C * FP, m, m_row, FP, zeros, none, zeros[:0])


@kernel
def point_gradients(points, v, vc_row, t_col, tiles, C, w, plane, TB, FP, du, du_row, fresh, zeros):
    """dU = Vᵀ · W for each point, added to what stands there unless `fresh`."""
    none = v.dtype.type(-float("inf"))
    width = 2 * lanes(v)
    for p in range(points):
        for f0 in range(0, FP, width):
            vectors = min(FP - f0, width) // lanes(v)
            b0 = p * plane + f0 * TB
            panel_product(
                v, vc_row, p * C, (p + 1) * C, t_col, 0, tiles, w, b0, du, du_row, f0, vectors, zeros, fresh, none,
                zeros, 0, 0,
            )  # fmt: skip


@kernel
def transpose_points(points, u, u_row, C, F, FP, CP, transposed):
    """U, channels and filters exchanged. `u_row` [panel of F][CP]: where a channel's row begins, negative beyond C."""
    width = 2 * lanes(u)
    for p in range(points):
        for c0 in range(0, CP, width):
            row = min(CP - c0, width)
            for f in range(0, F, lanes(u)):
                panel = f // width
                for c in range(0, row, lanes(u)):
                    source = p * C * FP + f - panel * width
                    target = p * F * CP + c0 * F + f * row + c
                    store_transposed(u, source, u_row, panel * CP + c0 + c, transposed, target, row, F - f)
