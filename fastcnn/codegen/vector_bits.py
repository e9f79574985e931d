"""Registers seen as bits: which of several numbers won, masks, random bits; and squares of numbers transposed.

A vector whose lanes hold whole numbers has the type of the vector of floats that it was made beside: it is made, kept
and compared here, and never calculated with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .vector import Vector, emit_address, emit_call, emit_load, emit_maximum, emit_store, emit_stream, of_vectors


def _integers(vector: Vector, value: int) -> ir.Constant:
    """Return a constant vector of integers as wide as the lanes."""
    return ir.Constant(ir.VectorType(ir.IntType(8 * vector.itemsize), vector.lanes), [value] * vector.lanes)


@of_vectors
def largest_of_four(builder: ir.IRBuilder, vector: Vector, a: Any, b: Any, c: Any, d: Any) -> Any:
    """Return the largest of the four numbers of each lane, or NaN if there is one among them."""
    return emit_largest_of_four(builder, vector, (a, b, c, d))


def emit_largest_of_four(builder: ir.IRBuilder, vector: Vector, numbers: Sequence[Any]) -> Any:
    """Emit `largest_of_four`."""
    w, x, y, z = numbers
    best = emit_maximum(builder, emit_maximum(builder, w, x), emit_maximum(builder, y, z))
    unknown = builder.or_(builder.fcmp_unordered("uno", w, x), builder.fcmp_unordered("uno", y, z))
    return builder.select(unknown, ir.Constant(vector.ir, [float("nan")] * vector.lanes), best)


@intrinsic
def argmax_of_four(typingctx: Any, a: Any, b: Any, c: Any, d: Any, best: Any, clamp_min: Any, ties_all: Any) -> Any:
    """Return which of the four numbers of each lane equal `best`, as bits 1, 2, 4, 8 of a lane-wide integer.

    Where `best` is not above `clamp_min`, no bit is set: the unit is dead. With `ties_all` all equal numbers are
    marked, without it the first one.
    """

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        *numbers, best_value, clamp_min_value, ties_all_value = arguments
        return emit_argmax_of_four(builder, a, numbers, best_value, clamp_min_value, ties_all_value)

    return a(a, a, a, a, a, a, types.boolean), codegen


def emit_argmax_of_four(
    builder: ir.IRBuilder, vector: Vector, numbers: Sequence[Any], best: Any, clamp_min: Any, ties_all: Any
) -> Any:
    """Emit `argmax_of_four`."""
    bits = _integers(vector, 0)
    for q, number in enumerate(numbers):
        equal = builder.fcmp_ordered("==", number, best)
        bits = builder.or_(bits, builder.select(equal, _integers(vector, 1 << q), _integers(vector, 0)))
    first = builder.and_(bits, builder.neg(bits))
    alive = builder.fcmp_ordered(">", best, clamp_min)
    bits = builder.select(alive, builder.select(ties_all, bits, first), _integers(vector, 0))
    # Without the fence LLVM narrows each of the masks to bytes by itself, and not their sum once.
    return emit_call(builder, vector, "arithmetic.fence", [builder.bitcast(bits, vector.ir)])


@intrinsic
def store_bits(typingctx: Any, target: Any, i: Any, bits: Any) -> Any:
    """Store the low bits of each lane to the whole numbers `target[i : i + lanes]`."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        array, index, value = arguments
        emit_store_bits(builder, bits, value, emit_address(context, builder, target, array, index))
        return context.get_dummy_value()

    return types.void(target, types.int64, bits), codegen


def emit_store_bits(builder: ir.IRBuilder, vector: Vector, bits: Any, pointer: Any) -> None:
    """Emit `store_bits`."""
    kind = pointer.type.pointee
    narrow = ir.VectorType(kind, vector.lanes)
    low = builder.trunc(builder.bitcast(bits, _integers(vector, 0).type), narrow)
    builder.store(low, builder.bitcast(pointer, narrow.as_pointer()), align=kind.width // 8)


@intrinsic
def store_or_stream_bits(typingctx: Any, target: Any, i: Any, bits: Any, stream: Any) -> Any:
    """Store the low byte of each lane to the bytes `target[i : i + lanes]`; with `stream`, past the caches."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        array, index, value, stream_value = arguments
        low = builder.trunc(builder.bitcast(value, _integers(bits, 0).type), ir.VectorType(ir.IntType(8), bits.lanes))
        low = builder.bitcast(low, ir.IntType(8 * bits.lanes))  # what is stored past the caches must be one word
        pointer = emit_address(context, builder, target, array, index)
        with builder.if_else(stream_value) as (then, otherwise):
            with then:
                emit_stream(builder, low, pointer, bits.lanes)
            with otherwise:
                builder.store(low, builder.bitcast(pointer, low.type.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(target, types.int64, bits, types.boolean), codegen


@intrinsic
def load_bits(typingctx: Any, source: Any, i: Any, like: Any) -> Any:
    """Load the whole numbers `source[i : i + lanes]`, one to each lane of a vector such as `like`."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        array, index, _ = arguments
        narrow = ir.VectorType(ir.IntType(source.dtype.bitwidth), like.lanes)
        pointer = emit_address(context, builder, source, array, index)
        low = builder.load(builder.bitcast(pointer, narrow.as_pointer()), align=source.dtype.bitwidth // 8)
        return builder.bitcast(builder.zext(low, _integers(like, 0).type), like.ir)

    return like(source, types.int64, like), codegen


@intrinsic
def splat_bits(typingctx: Any, like: Any, k: Any) -> Any:
    """Return a vector such as `like` whose lanes hold the bits of the whole number `k`."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(_emit_splat_bits(builder, like, arguments[1]), like.ir)

    return like(like, types.int64), codegen


def _emit_splat_bits(builder: ir.IRBuilder, vector: Vector, number: Any) -> Any:
    """Emit a vector of integers as wide as the lanes, all of them the low bits of a number."""
    zeros = _integers(vector, 0)
    one = builder.trunc(number, zeros.type.element)
    first = builder.insert_element(zeros, one, ir.Constant(ir.IntType(32), 0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), vector.lanes), [0] * vector.lanes)
    return builder.shuffle_vector(first, zeros, mask)


@of_vectors
def keep_equal(builder: ir.IRBuilder, vector: Vector, v: Any, bits: Any, others: Any) -> Any:
    """Return `v` where the lanes of `bits` and `others` hold the same whole number, zero elsewhere."""
    x, y = (builder.bitcast(side, _integers(vector, 0).type) for side in (bits, others))
    return builder.select(builder.icmp_unsigned("==", x, y), v, ir.Constant(vector.ir, [0.0] * vector.lanes))


@intrinsic(prefer_literal=True)
def keep_where(typingctx: Any, v: Any, bits: Any, bit: Any) -> Any:
    """Return `v` where a lane of `bits` has the literal `bit` set, or one of several, zero elsewhere."""
    if not isinstance(bit, types.IntegerLiteral):
        return None

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        integers = builder.bitcast(arguments[1], _integers(v, 0).type)
        unset = builder.icmp_unsigned("==", builder.and_(integers, _integers(v, bit.literal_value)), _integers(v, 0))
        return builder.select(unset, ir.Constant(v.ir, [0.0] * v.lanes), arguments[0])

    return v(v, bits, bit), codegen


@intrinsic(prefer_literal=True)
def add_where(typingctx: Any, v: Any, bits: Any, which: Any, k: Any) -> Any:
    """Return the whole numbers `v`, plus `k` where a lane of `bits` has one of the literal bits `which` set."""
    if not isinstance(which, types.IntegerLiteral):
        return None

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        number, bits_value, _, addend = arguments
        zeros = _integers(v, 0)
        integers, marks = (builder.bitcast(side, zeros.type) for side in (number, bits_value))
        unset = builder.icmp_unsigned("==", builder.and_(marks, _integers(v, which.literal_value)), zeros)
        added = builder.select(unset, zeros, _emit_splat_bits(builder, v, addend))
        return builder.bitcast(builder.add(integers, added), v.ir)

    return v(v, bits, which, types.int64), codegen


def _emit_lowbias32(builder: ir.IRBuilder, x: Any) -> Any:
    """Emit a hash of 32-bit numbers: each bit in changes each bit out with a chance of very nearly one half."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        x = builder.xor(x, builder.lshr(x, ir.Constant(x.type, [shift] * x.type.count)))
        if factor != 1:
            x = builder.mul(x, ir.Constant(x.type, [factor] * x.type.count))
    return x


@intrinsic
def keep_hashed(typingctx: Any, v: Any, unit: Any, key: Any, least: Any) -> Any:
    """Return `v` where the 32 bits that belong to (`unit` + lane, `key`) are at least `least`, zero elsewhere."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        value, unit_value, key_value, least_value = arguments
        word = ir.IntType(32)
        words = ir.VectorType(word, v.lanes)

        def spread(x: Any) -> Any:
            one = builder.insert_element(ir.Constant(words, ir.Undefined), builder.trunc(x, word), ir.Constant(word, 0))
            return builder.shuffle_vector(one, one, ir.Constant(words, [0] * v.lanes))

        high = builder.lshr(key_value, ir.Constant(key_value.type, 32))
        bits = builder.add(spread(unit_value), ir.Constant(words, list(range(v.lanes))))
        for half in (key_value, high):
            bits = _emit_lowbias32(builder, builder.xor(bits, spread(half)))
        kept = builder.icmp_unsigned(">=", bits, spread(least_value))
        return builder.select(kept, value, ir.Constant(v.ir, [0.0] * v.lanes))

    return v(v, types.int64, types.int64, types.int64), codegen


@intrinsic
def store_transposed(
    typingctx: Any, source: Any, base: Any, rows: Any, i: Any, target: Any, o: Any, step: Any, count: Any
) -> Any:
    """Transpose a square: `target[o + k·step + n] = source[base + rows[i + n] + k]` for n < lanes, k < count <= lanes.

    A negative `rows[i + n]` is a row of zeros.
    """

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        source_value, base_value, rows_value, i_value, target_value, o_value, step_value, count_value = arguments
        vector = Vector(source.dtype)
        int64 = ir.IntType(64)
        lines = []
        for n in range(vector.lanes):
            index = builder.add(i_value, ir.Constant(int64, n))
            row = builder.sext(builder.load(emit_address(context, builder, rows, rows_value, index)), int64)
            exists = builder.icmp_signed(">=", row, ir.Constant(int64, 0))
            start = builder.add(base_value, builder.select(exists, row, ir.Constant(int64, 0)))
            line = emit_load(builder, vector, emit_address(context, builder, source, source_value, start))
            lines.append(builder.select(exists, line, ir.Constant(vector.ir, [0.0] * vector.lanes)))
        for k, column in enumerate(emit_transpose(builder, vector, lines)):
            with builder.if_then(builder.icmp_signed(">", count_value, ir.Constant(int64, k))):
                place = builder.add(o_value, builder.mul(step_value, ir.Constant(int64, k)))
                emit_store(builder, vector, column, emit_address(context, builder, target, target_value, place))
        return context.get_dummy_value()

    size = types.int64
    return types.void(source, size, rows, size, target, size, size, size), codegen


def emit_transpose(builder: ir.IRBuilder, vector: Vector, lines: list[Any]) -> list[Any]:
    """Emit the transpose of a square of vectors: blocks of half the size change places until they are numbers."""
    lanes, half = vector.lanes, vector.lanes // 2
    while half:
        for n in range(lanes):
            if not n & half:
                x, y = lines[n], lines[n + half]
                low = [k if not k & half else lanes + k - half for k in range(lanes)]
                high = [k + half if not k & half else lanes + k for k in range(lanes)]
                lines[n], lines[n + half] = (
                    builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(ir.IntType(32), lanes), mask))
                    for mask in (low, high)
                )
        half //= 2
    return lines
