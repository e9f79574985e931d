"""Dense layers for a single example or two: the weights are read once, as they lie, line after line.

Packing them first, as the tiles of `product.py` want it, would cost more than the product. What limits it is how fast
lines come from the second-level cache, so those that a zero would multiply are not read: behind a ReLU, they are half.

Shape legend: y (n, N) = start (N,) + A (n, K) · W (K, N). N is a multiple of the vector's lanes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..codegen.gemm_tile import INT64, pointers
from ..codegen.vector import Vector, emit_call, emit_load, emit_maximum, emit_splat, emit_store, lanes
from ..jit.source import kernel
from ..jit.target import FEWEST_REGISTERS

WIDE = 6  # vectors of a row from which on it is worth knowing which numbers are zero
NUMBERS = 32  # that are looked at before their lines are read: the next ones, while the last lines are still to come
MOST = FEWEST_REGISTERS - 1  # vectors of a row at once: beside them, one register has the number that multiplies a line


@kernel
def few_rows(a, n, w, y, N, post):
    """y = max(clamp_min, biases + A · W); the sums in the order of `product`, so with the same bits.

    But for the sign of a zero; and where weights are not finite, 0 · w may count as 0, and not as NaN.
    """
    vectors = N // lanes(a.data)
    chunks = (vectors + MOST - 1) // MOST
    for i in range(n):
        for chunk in range(chunks):
            first, last = chunk * vectors // chunks, (chunk + 1) * vectors // chunks
            c = first * lanes(a.data)
            _row_chunk(
                last - first, a.data, a.rows[i], a.columns, a.columns.size, w.data, w.rows, y.data, y.rows[i] + c,
                post.biases, c, post.clamp_min,
            )  # fmt: skip


@intrinsic
def _row_chunk(
    typingctx: Any,
    vectors: Any,
    a: Any,
    a0: Any,
    a_col: Any,
    K: Any,
    w: Any,
    w_row: Any,
    y: Any,
    o: Any,
    start: Any,
    c: Any,
    clamp_min: Any,
) -> Any:
    """y[o + j] = max(clamp_min, start[c + j] + Σ_k a[a0 + a_col[k]] · w[w_row[k] + c + j]), so many vectors of it."""
    names = ("vectors", "a", "a0", "a_col", "K", "w", "w_row", "y", "o", "start", "c", "clamp_min")
    size = types.int64
    signature = types.void(size, a, size, a_col, size, w, w_row, y, size, start, size, a.dtype)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        values = pointers(context, builder, dict(zip(names, zip(signature.args, arguments, strict=True), strict=True)))
        for array, begin in (("a", "a0"), ("w", "c"), ("y", "o"), ("start", "c")):
            values[array] = builder.gep(values[array], [values[begin]])
        values["found"] = cgutils.alloca_once(builder, INT64, NUMBERS)
        done = builder.append_basic_block("row.done")
        choice = builder.switch(values["vectors"], done)
        for count in range(1, MOST + 1):
            block = builder.append_basic_block(f"row.{count}")
            choice.add_case(INT64(count), block)
            builder.position_at_end(block)
            _emit_chunk(builder, Vector(a.dtype), values, count)
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return signature, codegen


def _emit_chunk(builder: ir.IRBuilder, vector: Vector, values: dict[str, Any], count: int) -> None:
    """Emit `_row_chunk` for `count` vectors, whose sums stay in registers."""

    def at(array: Any, j: int) -> Any:
        return builder.gep(array, [INT64(j * vector.lanes)])

    sums = [
        cgutils.alloca_once_value(builder, emit_load(builder, vector, at(values["start"], j))) for j in range(count)
    ]

    def add_line(k: Any) -> None:
        column, row = (
            builder.sext(builder.load(builder.gep(values[table], [k])), INT64) for table in ("a_col", "w_row")
        )
        number = emit_splat(builder, vector, builder.load(builder.gep(values["a"], [column])))
        line = builder.gep(values["w"], [row])
        for j, total in enumerate(sums):
            weights = emit_load(builder, vector, at(line, j))
            builder.store(emit_call(builder, vector, "fmuladd", [number, weights, builder.load(total)]), total)

    if count < WIDE:
        with cgutils.for_range(builder, values["K"]) as loop:
            add_line(loop.index)
    else:
        _emit_for_each_nonzero(builder, vector, values, add_line)
    low = emit_splat(builder, vector, values["clamp_min"])
    for j, total in enumerate(sums):
        emit_store(builder, vector, emit_maximum(builder, low, builder.load(total)), at(values["y"], j))


def _emit_for_each_nonzero(
    builder: ir.IRBuilder, vector: Vector, values: dict[str, Any], emit: Callable[[Any], None]
) -> None:
    """Emit what `emit` emits for a k, for each k whose number is not zero."""
    bits, found = ir.IntType(8 * vector.itemsize), values["found"]
    count = cgutils.alloca_once(builder, INT64)
    with cgutils.for_range_slice(builder, INT64(0), values["K"], INT64(NUMBERS), inc=True) as (first, _):
        builder.store(INT64(0), count)
        rest = builder.sub(values["K"], first)
        numbers = builder.select(builder.icmp_signed("<", rest, INT64(NUMBERS)), rest, INT64(NUMBERS))
        with cgutils.for_range(builder, numbers) as loop:
            # Without a branch, which could not be predicted: each k is written down, where the next one overwrites it.
            k, place = builder.add(first, loop.index), builder.load(count)
            builder.store(k, builder.gep(found, [place]))
            column = builder.sext(builder.load(builder.gep(values["a_col"], [k])), INT64)
            number = builder.load(builder.bitcast(builder.gep(values["a"], [column]), bits.as_pointer()))
            counts = builder.icmp_unsigned("!=", builder.shl(number, bits(1)), bits(0))  # whatever the sign
            builder.store(builder.add(place, builder.zext(counts, INT64)), count)
        with cgutils.for_range(builder, builder.load(count)) as loop:
            emit(builder.load(builder.gep(found, [loop.index])))
