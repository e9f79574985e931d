"""The micro-kernel of products whose left side is zero in many places, emitted as LLVM instructions.

A number that is not zero is active. Bits say which are, and a loop that takes one bit after the other meets no zero:
each active number is multiplied with a row of the right side, as wide as the registers that the sums stay in.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .blocking import SUMS
from .gather import emit_while
from .gemm_tile import INT64, by_name
from .vector import Vector, emit_address, emit_call, emit_load, emit_maximum, emit_splat, emit_store

OCTET = 8  # numbers whose bits are a byte


@intrinsic
def active(typingctx: Any, a: Any, i: Any) -> Any:
    """Return which of the eight numbers a[i : i + 8] are not zero, as bits."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        eight = ir.VectorType(Vector(a.dtype).ir.element, OCTET)
        pointer = emit_address(context, builder, a, *arguments)
        numbers = builder.load(builder.bitcast(pointer, eight.as_pointer()), align=a.dtype.bitwidth // 8)
        bits = builder.fcmp_unordered("!=", numbers, ir.Constant(eight, [0.0] * OCTET))
        return builder.zext(builder.bitcast(bits, ir.IntType(OCTET)), INT64)

    return types.int64(a, types.int64), codegen


@intrinsic
def sum_active(
    typingctx: Any, a: Any, a0: Any, step: Any, word: Any, b: Any, b0: Any, c: Any, c0: Any, post: Any, s0: Any,
    accumulate: Any,
) -> Any:  # fmt: skip
    """C = max(clamp_min, s + Σ_k a[a0 + k·step] · B[k]), over the bits k of `word`, for a row of SUMS vectors.

    C begins at `c[c0]`, B[k] at `b[b0 + k·width]`, where width is that of the row; s is `post.biases[s0:]` or, with
    `accumulate`, what C holds.
    """
    size = types.int64

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        values = by_name(context, builder, "a a0 step word b b0 c c0 post s0 accumulate", signature, arguments)
        vector = Vector(a.dtype)
        left, right, target, begin = (
            builder.gep(values[name], [values[first]])
            for name, first in (("a", "a0"), ("b", "b0"), ("c", "c0"), ("post.biases", "s0"))
        )
        source = builder.select(values["accumulate"], target, begin)
        sums = [emit_load(builder, vector, pointer) for pointer in _row(builder, vector, source)]
        sums = _emit_bits(builder, vector, values["word"], sums, left, values["step"], right)
        low = emit_splat(builder, vector, values["post.clamp_min"])
        for total, pointer in zip(sums, _row(builder, vector, target), strict=True):
            emit_store(builder, vector, emit_maximum(builder, low, total), pointer)
        return context.get_dummy_value()

    return types.void(a, size, size, size, b, size, c, size, post, size, types.boolean), codegen


def _emit_bits(
    builder: ir.IRBuilder, vector: Vector, word: Any, sums: list[Any], left: Any, step: Any, right: Any
) -> list[Any]:
    """Emit the loop over the bits of a word, the lowest first; return the sums."""

    def take_one(variables: list[Any]) -> list[Any]:
        rest, *totals = variables
        k = _emit_lowest_bit(builder, rest)
        others = builder.and_(rest, builder.sub(rest, INT64(1)))
        factor = emit_splat(builder, vector, builder.load(builder.gep(left, [builder.mul(k, step)])))
        row = builder.gep(right, [builder.mul(k, INT64(SUMS * vector.lanes))])
        products = [
            emit_call(builder, vector, "fmuladd", [factor, emit_load(builder, vector, pointer), total])
            for pointer, total in zip(_row(builder, vector, row), totals, strict=True)
        ]
        return [others, *products]

    _, *totals = emit_while(
        builder, [word, *sums], lambda variables: builder.icmp_unsigned("!=", variables[0], INT64(0)), take_one
    )
    return totals


def _emit_lowest_bit(builder: ir.IRBuilder, word: Any) -> Any:
    """Emit the number of the lowest bit that is set; there must be one."""
    bool_ = ir.IntType(1)
    function_type = ir.FunctionType(INT64, [INT64, bool_])
    function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.cttz.i64")
    return builder.call(function, [word, bool_(1)])


def _row(builder: ir.IRBuilder, vector: Vector, pointer: Any) -> list[Any]:
    """Return where the vectors of a row begin."""
    return [builder.gep(pointer, [INT64(j * vector.lanes)]) for j in range(SUMS)]
