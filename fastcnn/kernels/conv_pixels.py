"""A first layer of few filters on images of one channel: a register holds pixels that stand side by side.

Elsewhere it holds filters, but six of them leave a quarter of it empty.

Shape legend: x haloed maps; pooled pixels, each the largest of a window of 2 x 2, whose four stand side by side in
`x_row`; K taps; N filters, padded to one vector: those beyond `FILTERS` are zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .blocking import FILTERS
from .compiler import kernel
from .simd import INT64, pointers
from .vector import Vector, emit_call, emit_load, emit_maximum, emit_splat, emit_store
from .vector_bits import emit_largest_of_four, emit_store_bits, emit_transpose, emit_winners_of_four


@kernel
def forward_pool(x, x_row, x_col, K, w, start, floor, every, y, y_row, winners, begin, count):
    """y (windows, N) = max-pool 2 x 2 of max(floor, start + x * w); the sums in the order of `conv_direct`: its bits.

    `winners` as there. Half a register has the pixels above, or those below, of some neighbouring windows: `begin` has
    the first of them for each of `count` halves.
    """
    for i in range(0, count, 2):
        p, q = begin[i], begin[min(i + 1, count - 1)]
        p0, p1, q0, q1 = x_row[4 * p], x_row[4 * p + 2], x_row[4 * q], x_row[4 * q + 2]
        _two_halves(x, p0, p1, q0, q1, x_col, K, w, start, floor, every, y, y_row, winners, winners.size > 0, p, q)


@intrinsic
def _two_halves(
    typingctx: Any,
    x: Any,
    p0: Any,
    p1: Any,
    q0: Any,
    q1: Any,
    x_col: Any,
    K: Any,
    w: Any,
    start: Any,
    floor: Any,
    every: Any,
    y: Any,
    y_row: Any,
    winners: Any,
    marks: Any,
    p: Any,
    q: Any,
) -> Any:
    """Compute windows p, p + 1, ... whose pixels above begin at x[p0], those below at x[p1]; and q, q + 1, ..."""
    names = (
        "x", "p0", "p1", "q0", "q1", "x_col", "K", "w", "start", "floor", "every", "y", "y_row", "winners", "marks",
        "p", "q",
    )  # fmt: skip
    size, flag = types.int64, types.boolean
    signature = types.void(
        x, size, size, size, size, x_col, size, w, start, x.dtype, flag, y, y_row, winners, flag, size, size
    )

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        values = pointers(context, builder, dict(zip(names, zip(signature.args, arguments, strict=True), strict=True)))
        vector = Vector(x.dtype)
        between = builder.sub(values["q0"], values["p0"])
        # Most halves stand side by side in memory: then they are loaded as one.
        with builder.if_else(builder.icmp_signed("==", between, INT64(vector.lanes // 2))) as (together, apart):
            with together:
                _emit_windows(builder, vector, values, _emit_load_whole)
            with apart:
                _emit_windows(builder, vector, values, _emit_load_halves)
        return context.get_dummy_value()

    return signature, codegen


def _emit_windows(builder: ir.IRBuilder, vector: Vector, values: dict[str, Any], emit_pixels: Any) -> None:
    """Emit `_two_halves`."""
    sums = _emit_sums(builder, vector, values, emit_pixels)
    low = emit_splat(builder, vector, values["floor"])
    with builder.if_else(values["marks"]) as (marked, unmarked):
        with marked:
            above, below = (_emit_by_pixel(builder, vector, column) for column in zip(*sums, strict=True))
            for i, number, target in _emit_targets(builder, vector, values):
                window = [*above[2 * i : 2 * i + 2], *below[2 * i : 2 * i + 2]]
                best = emit_maximum(builder, low, emit_largest_of_four(builder, vector, window))
                bits = emit_winners_of_four(builder, vector, window, best, low, values["every"])
                emit_store(builder, vector, best, target)
                mark = builder.gep(values["winners"], [builder.mul(number, INT64(vector.lanes))])
                emit_store_bits(builder, vector, bits, mark)
        with unmarked:
            pixels = _emit_by_pixel(builder, vector, [_emit_largest(builder, vector, *pair) for pair in sums])
            for i, _, target in _emit_targets(builder, vector, values):
                largest = _emit_largest(builder, vector, *pixels[2 * i : 2 * i + 2])
                emit_store(builder, vector, emit_maximum(builder, low, largest), target)


def _emit_targets(
    builder: ir.IRBuilder, vector: Vector, values: dict[str, Any]
) -> Iterator[tuple[int, ir.Value, ir.Value]]:
    """Emit where each window of a register goes; yield its place in the register, its number and the address in y."""
    for i in range(vector.lanes // 2):
        half, window = divmod(i, vector.lanes // 4)
        number = builder.add(values["pq"[half]], INT64(window))
        place = builder.sext(builder.load(builder.gep(values["y_row"], [number])), INT64)
        yield i, number, builder.gep(values["y"], [place])


def _emit_by_pixel(builder: ir.IRBuilder, vector: Vector, by_filter: Sequence[Any]) -> list[Any]:
    """Emit a vector of filters for each pixel."""
    zeros = [ir.Constant(vector.ir, None)] * (vector.lanes - FILTERS)
    return emit_transpose(builder, vector, [*by_filter, *zeros])


def _emit_sums(builder: ir.IRBuilder, vector: Vector, values: dict[str, Any], emit_pixels: Any) -> list[list[Any]]:
    """Emit, for each filter, the sums of the pixels above and of those below."""
    lines = [[builder.gep(values["x"], [values[name]]) for name in pair] for pair in (("p0", "q0"), ("p1", "q1"))]
    sums = []
    for f in range(FILTERS):
        bias = emit_splat(builder, vector, builder.load(builder.gep(values["start"], [INT64(f)])))
        sums.append([cgutils.alloca_once_value(builder, bias) for _ in lines])
    with cgutils.for_range(builder, values["K"]) as loop:
        offset = builder.sext(builder.load(builder.gep(values["x_col"], [loop.index])), INT64)
        pixels = [emit_pixels(builder, vector, *(builder.gep(half, [offset]) for half in line)) for line in lines]
        tap = builder.gep(values["w"], [builder.mul(loop.index, INT64(vector.lanes))])
        for f, totals in enumerate(sums):
            weight = emit_splat(builder, vector, builder.load(builder.gep(tap, [INT64(f)])))
            for number, total in zip(pixels, totals, strict=True):
                builder.store(emit_call(builder, vector, "fmuladd", [number, weight, builder.load(total)]), total)
    return [[builder.load(total) for total in totals] for totals in sums]


def _emit_load_whole(builder: ir.IRBuilder, vector: Vector, p: Any, q: Any) -> Any:
    """Emit the load of two halves, the second behind the first."""
    return emit_load(builder, vector, p)


def _emit_load_halves(builder: ir.IRBuilder, vector: Vector, p: Any, q: Any) -> Any:
    """Emit the load of two halves from anywhere."""
    half = ir.VectorType(vector.ir.element, vector.lanes // 2).as_pointer()
    low, high = (builder.load(builder.bitcast(place, half), align=vector.itemsize) for place in (p, q))
    all_lanes = ir.Constant(ir.VectorType(ir.IntType(32), vector.lanes), list(range(vector.lanes)))
    return builder.shuffle_vector(low, high, all_lanes)


def _emit_largest(builder: ir.IRBuilder, vector: Vector, x: Any, y: Any) -> Any:
    """Emit the larger number of each lane, or NaN if there is one."""
    unknown = builder.fcmp_unordered("uno", x, y)
    return builder.select(unknown, ir.Constant(vector.ir, [float("nan")] * vector.lanes), emit_maximum(builder, x, y))
