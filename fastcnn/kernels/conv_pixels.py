"""A first layer of few filters on images of one channel: a register holds neighbouring pixels.

Elsewhere it holds filters, but six of them leave a quarter of it empty. Without this kernel, a step of a small network
that begins with such a layer takes 1.16 times as long.

Shape legend: x haloed maps; pooled pixels, each the largest of a window of 2 x 2, whose four lie side by side in
`x.rows`; K taps; N filters, padded to one vector: those beyond `FILTERS` are zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..codegen.blocking import FILTERS
from ..codegen.gemm_tile import INT64, by_name
from ..codegen.vector import Vector, emit_call, emit_load, emit_maximum, emit_splat, emit_store
from ..codegen.vector_bits import emit_argmax_of_four, emit_largest_of_four, emit_store_bits
from ..jit.source import kernel


@kernel
def forward_pool(x, w, post, y, pooling, begin, count):
    """y (windows, N) = max-pool 2 x 2 of max(clamp_min, biases + x * w), with the bits of `conv_direct.forward_pool`.

    Half a register has the pixels above, or those below, of some neighbouring windows: `begin` has the first of them
    for each of `count` halves.
    """
    for i in range(0, count, 2):
        _two_halves(x, w, post, y, pooling, begin[i], begin[min(i + 1, count - 1)])


@intrinsic
def _two_halves(typingctx: Any, x: Any, w: Any, post: Any, y: Any, pooling: Any, p: Any, q: Any) -> Any:
    """Compute the windows p, p + 1, ..., half a register of them, and q, q + 1, ..., the other half."""
    signature = types.void(x, w, post, y, pooling, types.int64, types.int64)
    vector = Vector(x[0].dtype)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        values = by_name(context, builder, "x w post y pooling p q", signature, arguments)
        for half in "pq":
            for line in range(2):  # pixels of a window lie side by side in the table: two above, two below
                pixel = builder.add(builder.mul(values[half], INT64(4)), INT64(2 * line))
                place = builder.load(builder.gep(values["x.rows"], [pixel]))
                values[f"{half}{line}"] = builder.sext(place, INT64)
        between = builder.sub(values["q0"], values["p0"])
        # Most halves are neighbours in memory: then they are loaded as one.
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
    low = emit_splat(builder, vector, values["post.clamp_min"])
    numbers = [builder.add(values[half], INT64(window)) for half in "pq" for window in range(vector.lanes // 4)]
    marks = builder.icmp_signed(">", values["pooling.argmax.size"], INT64(0))
    with builder.if_else(marks) as (marked, unmarked):
        with marked:
            corners = [_emit_left_and_right(builder, vector, line) for line in zip(*sums, strict=True)]
            windows = [[*above, *below] for above, below in zip(*corners, strict=True)]
            best = [emit_maximum(builder, low, emit_largest_of_four(builder, vector, window)) for window in windows]
            _emit_store_windows(builder, vector, values, numbers, best)
            bits = [
                emit_argmax_of_four(builder, vector, window, largest, low, values["pooling.ties_all"])
                for window, largest in zip(windows, best, strict=True)
            ]
            for number, mark in zip(numbers, _emit_by_window(builder, vector, bits), strict=True):
                place = builder.mul(number, INT64(vector.lanes))
                emit_store_bits(builder, vector, mark, builder.gep(values["pooling.argmax"], [place]))
        with unmarked:
            columns = [_emit_largest(builder, vector, *column) for column in sums]
            windows = [_emit_largest(builder, vector, *pair) for pair in _emit_left_and_right(builder, vector, columns)]
            best = [emit_maximum(builder, low, window) for window in windows]
            _emit_store_windows(builder, vector, values, numbers, best)


def _emit_store_windows(
    builder: ir.IRBuilder, vector: Vector, values: dict[str, Any], numbers: Sequence[Any], best: Sequence[Any]
) -> None:
    """Emit the stores of the largest numbers of a register's windows, which have these numbers."""
    for number, largest in zip(numbers, _emit_by_window(builder, vector, best), strict=True):
        place = builder.sext(builder.load(builder.gep(values["y.rows"], [number])), INT64)
        emit_store(builder, vector, largest, builder.gep(values["y.data"], [place]))


def _emit_left_and_right(builder: ir.IRBuilder, vector: Vector, line: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Emit, for each two filters, their left pixels of all windows in one register, and their right ones in another."""
    return [
        (_emit_ties_all_second(builder, vector, x, y, 0), _emit_ties_all_second(builder, vector, x, y, 1))
        for x, y in zip(line[0::2], line[1::2], strict=True)
    ]


def _emit_ties_all_second(builder: ir.IRBuilder, vector: Vector, x: Any, y: Any, first: int) -> Any:
    """Emit ties_all second number of x and of y, beginning with the first or the second one: two and two in turn.

    So none leaves the 128 bits in which shuffles are quick.
    """
    lanes = vector.lanes
    places = [four + k for four in range(first, lanes, 4) for k in (0, 2, lanes, lanes + 2)]
    return _emit_shuffle(builder, vector, x, y, places)


def _emit_by_window(builder: ir.IRBuilder, vector: Vector, pairs: Sequence[Any]) -> list[Any]:
    """Emit a vector of filters for each window, zeros behind, from registers of the windows of two filters."""
    lanes, (x, y, z) = vector.lanes, pairs
    # Behind the fence LLVM does not know that they are zeros, and stores no marks by instructions that are slow here.
    zeros = emit_call(builder, vector, "arithmetic.fence", [ir.Constant(vector.ir, None)])
    found = [x] * (lanes // 2)
    for first in (0, 1):
        front, back = (_emit_ties_all_second(builder, vector, *two, first) for two in ((x, y), (z, zeros)))
        for four in range(0, lanes, 4):
            places = [*range(four, four + 4), *range(lanes + four, lanes + four + 4)]
            places += places[-1:] * (lanes - len(places))
            found[four // 2 + first] = _emit_shuffle(builder, vector, front, back, places)
    return found


def _emit_shuffle(builder: ir.IRBuilder, vector: Vector, x: Any, y: Any, places: list[int]) -> Any:
    """Emit the numbers at these places of x and, behind it, y."""
    return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(ir.IntType(32), vector.lanes), places))


def _emit_sums(builder: ir.IRBuilder, vector: Vector, values: dict[str, Any], emit_pixels: Any) -> list[list[Any]]:
    """Emit, for each filter, the sums of the pixels above and of those below."""
    lines = [[builder.gep(values["x.data"], [values[name]]) for name in pair] for pair in (("p0", "q0"), ("p1", "q1"))]
    sums = []
    for f in range(FILTERS):
        bias = emit_splat(builder, vector, builder.load(builder.gep(values["post.biases"], [INT64(f)])))
        sums.append([cgutils.alloca_once_value(builder, bias) for _ in lines])
    with cgutils.for_range(builder, values["x.columns.size"]) as loop:
        offset = builder.sext(builder.load(builder.gep(values["x.columns"], [loop.index])), INT64)
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
