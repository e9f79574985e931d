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

from ..codegen.gemm_tile import INT64, by_name
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
            _row_chunk(last - first, a, i, w, y, first * lanes(a.data), post)


@intrinsic
def _row_chunk(typingctx: Any, vectors: Any, a: Any, i: Any, w: Any, y: Any, c: Any, post: Any) -> Any:
    """Compute so many `vectors` of row i of y, from column c on."""
    size = types.int64
    signature = types.void(size, a, size, w, y, size, post)
    vector = Vector(a[0].dtype)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        values = by_name(context, builder, "vectors a i w y c post", signature, arguments)
        for rows, array in (("a.rows", "a.data"), ("y.rows", "y.data")):
            row = builder.sext(builder.load(builder.gep(values[rows], [values["i"]])), INT64)
            values[array] = builder.gep(values[array], [row])
        for array in ("w.data", "y.data", "post.biases"):
            values[array] = builder.gep(values[array], [values["c"]])
        values["found"] = cgutils.alloca_once(builder, INT64, NUMBERS)
        done = builder.append_basic_block("row.done")
        choice = builder.switch(values["vectors"], done)
        for count in range(1, MOST + 1):
            block = builder.append_basic_block(f"row.{count}")
            choice.add_case(INT64(count), block)
            builder.position_at_end(block)
            _emit_chunk(builder, vector, values, count)
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return signature, codegen


def _emit_chunk(builder: ir.IRBuilder, vector: Vector, values: dict[str, Any], count: int) -> None:
    """Emit `_row_chunk` for `count` vectors, whose sums stay in registers."""

    def at(array: Any, j: int) -> Any:
        return builder.gep(array, [INT64(j * vector.lanes)])

    biases = [emit_load(builder, vector, at(values["post.biases"], j)) for j in range(count)]
    sums = [cgutils.alloca_once_value(builder, bias) for bias in biases]

    def add_line(k: Any) -> None:
        column, row = (
            builder.sext(builder.load(builder.gep(values[table], [k])), INT64) for table in ("a.columns", "w.rows")
        )
        number = emit_splat(builder, vector, builder.load(builder.gep(values["a.data"], [column])))
        line = builder.gep(values["w.data"], [row])
        for j, total in enumerate(sums):
            weights = emit_load(builder, vector, at(line, j))
            builder.store(emit_call(builder, vector, "fmuladd", [number, weights, builder.load(total)]), total)

    if count < WIDE:
        with cgutils.for_range(builder, values["a.columns.size"]) as loop:
            add_line(loop.index)
    else:
        _emit_for_each_nonzero(builder, vector, values, add_line)
    low = emit_splat(builder, vector, values["post.clamp_min"])
    for j, total in enumerate(sums):
        emit_store(builder, vector, emit_maximum(builder, low, builder.load(total)), at(values["y.data"], j))


def _emit_for_each_nonzero(
    builder: ir.IRBuilder, vector: Vector, values: dict[str, Any], emit: Callable[[Any], None]
) -> None:
    """Emit what `emit` emits for a k, for each k whose number is not zero."""
    bits, found, K = ir.IntType(8 * vector.itemsize), values["found"], values["a.columns.size"]
    count = cgutils.alloca_once(builder, INT64)
    with cgutils.for_range_slice(builder, INT64(0), K, INT64(NUMBERS), inc=True) as (first, _):
        builder.store(INT64(0), count)
        rest = builder.sub(K, first)
        numbers = builder.select(builder.icmp_signed("<", rest, INT64(NUMBERS)), rest, INT64(NUMBERS))
        with cgutils.for_range(builder, numbers) as loop:
            # Without a branch, which could not be predicted: each k is written down, where the next one overwrites it.
            k, place = builder.add(first, loop.index), builder.load(count)
            builder.store(k, builder.gep(found, [place]))
            column = builder.sext(builder.load(builder.gep(values["a.columns"], [k])), INT64)
            number = builder.load(builder.bitcast(builder.gep(values["a.data"], [column]), bits.as_pointer()))
            counts = builder.icmp_unsigned("!=", builder.shl(number, bits(1)), bits(0))  # whatever the sign
            builder.store(builder.add(place, builder.zext(counts, INT64)), count)
        with cgutils.for_range(builder, builder.load(count)) as loop:
            emit(builder.load(builder.gep(found, [loop.index])))
