"""A first layer of few filters on images of one channel: a register holds pixels that stand side by side.

Elsewhere it holds filters, but six of them leave a quarter of it empty. In prediction, where nobody asks which pixel of
a window was the largest.

Shape legend: x haloed maps; P pooled pixels, `width` of them a line, the four of each 2 x 2 window side by side in
`x_row`; K taps; N filters, padded to one vector: those beyond `FILTERS` are zero.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .blocking import FILTERS
from .compiler import kernel
from .simd import INT64, pointers
from .vector import Vector, emit_call, emit_load, emit_maximum, emit_splat, emit_store, lanes
from .vector_bits import emit_transpose


@kernel
def forward_pool(x, x_row, x_col, K, w, start, floor, y, y_row, P, width):
    """y (P, N) = max-pool 2 x 2 of max(floor, start + x * w); the sums in the order of `conv_direct`, the same bits."""
    step = lanes(x) // 2
    for line in range(0, P, width):
        for q in range(0, width, step):
            p = line + min(q, width - step)  # the last register overlaps the one before
            _windows(x, x_row[4 * p], x_row[4 * p + 2], x_col, K, w, start, floor, y, y_row, p)


@intrinsic
def _windows(
    typingctx: Any,
    x: Any,
    above: Any,
    below: Any,
    x_col: Any,
    K: Any,
    w: Any,
    start: Any,
    floor: Any,
    y: Any,
    y_row: Any,
    p: Any,
) -> Any:
    """Compute the windows whose pixels are a register in each of two lines, whose windows begin at x[above], x[below].

    They go to y[y_row[p]:], y[y_row[p + 1]:], ...
    """
    names = ("x", "above", "below", "x_col", "K", "w", "start", "floor", "y", "y_row", "p")
    size = types.int64
    signature = types.void(x, size, size, x_col, size, w, start, x.dtype, y, y_row, size)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        values = pointers(context, builder, dict(zip(names, zip(signature.args, arguments, strict=True), strict=True)))
        vector = Vector(x.dtype)
        columns = [_emit_largest(builder, vector, *pair) for pair in _emit_sums(builder, vector, values)]
        zeros = [ir.Constant(vector.ir, None)] * (vector.lanes - FILTERS)
        pixels = emit_transpose(builder, vector, columns + zeros)
        low = emit_splat(builder, vector, values["floor"])
        for window, pair in enumerate(zip(pixels[::2], pixels[1::2], strict=True)):
            number = builder.add(values["p"], INT64(window))
            place = builder.sext(builder.load(builder.gep(values["y_row"], [number])), INT64)
            best = emit_maximum(builder, low, _emit_largest(builder, vector, *pair))
            emit_store(builder, vector, best, builder.gep(values["y"], [place]))
        return context.get_dummy_value()

    return signature, codegen


def _emit_sums(builder: ir.IRBuilder, vector: Vector, values: dict[str, Any]) -> list[list[Any]]:
    """Emit, for each filter, the sums of a register of pixels above and one below."""
    lines = [builder.gep(values["x"], [values[name]]) for name in ("above", "below")]
    sums = []
    for f in range(FILTERS):
        bias = emit_splat(builder, vector, builder.load(builder.gep(values["start"], [INT64(f)])))
        sums.append([cgutils.alloca_once_value(builder, bias) for _ in lines])
    with cgutils.for_range(builder, values["K"]) as loop:
        offset = builder.sext(builder.load(builder.gep(values["x_col"], [loop.index])), INT64)
        pixels = [emit_load(builder, vector, builder.gep(line, [offset])) for line in lines]
        tap = builder.gep(values["w"], [builder.mul(loop.index, INT64(vector.lanes))])
        for f, totals in enumerate(sums):
            weight = emit_splat(builder, vector, builder.load(builder.gep(tap, [INT64(f)])))
            for number, total in zip(pixels, totals, strict=True):
                builder.store(emit_call(builder, vector, "fmuladd", [number, weight, builder.load(total)]), total)
    return [[builder.load(total) for total in totals] for totals in sums]


def _emit_largest(builder: ir.IRBuilder, vector: Vector, x: Any, y: Any) -> Any:
    """Emit the larger number of each lane, or NaN if there is one."""
    unknown = builder.fcmp_unordered("uno", x, y)
    return builder.select(unknown, ir.Constant(vector.ir, [float("nan")] * vector.lanes), emit_maximum(builder, x, y))
