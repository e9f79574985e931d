"""A vector register as a Numba type: kernels that are written with it read like scalar Python.

Numba's loops are vectorised by LLVM only where it can prove or check that arrays do not overlap; a kernel that works
on `load(a, i)`, `store(a, i, v)`, `fma(x, y, z)` needs no proof. The width is the machine's (`machine.vector_set`).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.core.extending import lower_builtin, register_model, type_callable
from numba.extending import intrinsic
from numba.np.numpy_support import as_dtype

from .machine import vector_set


class Vector(types.Type):
    """The Numba type of one register of `dtype`."""

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        self.itemsize = as_dtype(dtype).itemsize
        self.lanes = vector_set().lanes(as_dtype(dtype))
        super().__init__(name=f"Vector({dtype}, {self.lanes})")

    @property
    def ir(self) -> ir.VectorType:
        """The LLVM type."""
        return ir.VectorType(ir.FloatType() if self.itemsize == 4 else ir.DoubleType(), self.lanes)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Vector) -> None:
        super().__init__(dmm, fe_type, fe_type.ir)


def emit_load(builder: ir.IRBuilder, vector: Vector, pointer: Any) -> Any:
    """Emit a load that is aligned to the element only: NumPy promises no more."""
    return builder.load(builder.bitcast(pointer, vector.ir.as_pointer()), align=vector.itemsize)


def emit_store(builder: ir.IRBuilder, vector: Vector, value: Any, pointer: Any) -> None:
    """Emit a store that is aligned to the element only."""
    builder.store(value, builder.bitcast(pointer, vector.ir.as_pointer()), align=vector.itemsize)


def emit_splat(builder: ir.IRBuilder, vector: Vector, scalar: Any) -> Any:
    """Emit a vector whose lanes all hold `scalar`."""
    undefined = ir.Constant(vector.ir, ir.Undefined)
    one = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), vector.lanes), [0] * vector.lanes)
    return builder.shuffle_vector(one, undefined, mask)


def emit_call(builder: ir.IRBuilder, vector: Vector, name: str, values: list[Any]) -> Any:
    """Emit a call of an LLVM intrinsic on vectors.

    `fmuladd`, not `fma`: where the machine has no fused instruction, `fma` becomes a library call for every lane.
    """
    function_type = ir.FunctionType(vector.ir, [vector.ir] * len(values))
    full_name = f"llvm.{name}.v{vector.lanes}f{8 * vector.itemsize}"
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, full_name), values)


def emit_maximum(builder: ir.IRBuilder, x: Any, y: Any) -> Any:
    """Emit `x where x > y else y`: one instruction on x86, and a NaN in `y` is not lost as in `llvm.maxnum`."""
    return builder.select(builder.fcmp_ordered(">", x, y), x, y)


def _integers(vector: Vector, value: int) -> ir.Constant:
    """Return a constant vector of integers as wide as the lanes."""
    return ir.Constant(ir.VectorType(ir.IntType(8 * vector.itemsize), vector.lanes), [value] * vector.lanes)


def _address(context: Any, builder: ir.IRBuilder, array_type: types.Array, array: Any, index: Any) -> Any:
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])


@intrinsic
def lanes(typingctx: Any, a: Any) -> Any:
    """Return the number of lanes of a vector of `a`'s dtype, as a compile-time constant."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return ir.Constant(ir.IntType(64), Vector(a.dtype).lanes)

    return types.int64(a), codegen


@intrinsic
def load(typingctx: Any, a: Any, i: Any) -> Any:
    """Load `a[i : i + lanes]`."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return emit_load(builder, signature.return_type, _address(context, builder, a, *arguments))

    return Vector(a.dtype)(a, types.int64), codegen


@intrinsic
def store(typingctx: Any, a: Any, i: Any, v: Any) -> Any:
    """Store `v` to `a[i : i + lanes]`."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        array, index, value = arguments
        emit_store(builder, v, value, _address(context, builder, a, array, index))
        return context.get_dummy_value()

    return types.void(a, types.int64, v), codegen


@intrinsic
def put(typingctx: Any, a: Any, i: Any, v: Any, past: Any) -> Any:
    """Store `v` to `a[i : i + lanes]`; with `past`, past the caches: then the address must be aligned to the vector.

    A line that is stored past the caches need not be read first, which halves the traffic of a large target. The GIL
    is a lock, so the stores of a kernel have arrived when another thread goes on.
    """

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        array, index, value, past_value = arguments
        pointer = _address(context, builder, a, array, index)
        with builder.if_else(past_value) as (then, otherwise):
            with then:
                target = builder.bitcast(pointer, v.ir.as_pointer())
                stream = builder.store(value, target, align=v.lanes * v.itemsize)
                hint = builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
                stream.set_metadata("nontemporal", hint)
            with otherwise:
                emit_store(builder, v, value, pointer)
        return context.get_dummy_value()

    return types.void(a, types.int64, v, types.boolean), codegen


@intrinsic
def splat(typingctx: Any, a: Any, x: Any) -> Any:
    """Return a vector of `a`'s dtype whose lanes all hold `x`."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return emit_splat(builder, signature.return_type, arguments[1])

    return Vector(a.dtype)(a, a.dtype), codegen


@intrinsic
def fma(typingctx: Any, x: Any, y: Any, z: Any) -> Any:
    """Return x · y + z."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return emit_call(builder, x, "fmuladd", list(arguments))

    return x(x, x, x), codegen


@intrinsic
def maximum(typingctx: Any, x: Any, y: Any) -> Any:
    """Return `x where x > y else y` for each lane: a NaN in `y` stays."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return emit_maximum(builder, *arguments)

    return x(x, x), codegen


@intrinsic
def sqrt(typingctx: Any, x: Any) -> Any:
    """Return √x for each lane, correctly rounded."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return emit_call(builder, x, "sqrt", list(arguments))

    return x(x), codegen


@intrinsic
def sign(typingctx: Any, x: Any) -> Any:
    """Return 1 where x > 0, -1 where x < 0, and x elsewhere: zeros and NaN stay."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        value, zero = arguments[0], ir.Constant(x.ir, [0.0] * x.lanes)
        for comparison, one in ((">", 1.0), ("<", -1.0)):
            holds = builder.fcmp_ordered(comparison, arguments[0], zero)
            value = builder.select(holds, ir.Constant(x.ir, [one] * x.lanes), value)
        return value

    return x(x), codegen


@intrinsic
def winners_of_four(typingctx: Any, a: Any, b: Any, c: Any, d: Any, best: Any, floor: Any, every: Any) -> Any:
    """Return which of the four numbers of each lane equal `best`, as bits 1, 2, 4, 8 of a lane-wide integer.

    Where `best` is not above `floor`, no bit is set: the unit is dead. With `every` all equal numbers are marked,
    without it the first one.
    """

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        *candidates, best_value, floor_value, every_value = arguments
        bits = _integers(a, 0)
        for q, candidate in enumerate(candidates):
            equal = builder.fcmp_ordered("==", candidate, best_value)
            bits = builder.or_(bits, builder.select(equal, _integers(a, 1 << q), _integers(a, 0)))
        first = builder.and_(bits, builder.neg(bits))
        alive = builder.fcmp_ordered(">", best_value, floor_value)
        bits = builder.select(alive, builder.select(every_value, bits, first), _integers(a, 0))
        return builder.bitcast(bits, a.ir)

    return a(a, a, a, a, a, a, types.boolean), codegen


@intrinsic
def store_bits(typingctx: Any, target: Any, i: Any, bits: Any) -> Any:
    """Store the low bits of each lane to the whole numbers `target[i : i + lanes]`."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        array, index, value = arguments
        narrow = ir.VectorType(ir.IntType(target.dtype.bitwidth), bits.lanes)
        low = builder.trunc(builder.bitcast(value, _integers(bits, 0).type), narrow)
        pointer = _address(context, builder, target, array, index)
        builder.store(low, builder.bitcast(pointer, narrow.as_pointer()), align=target.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(target, types.int64, bits), codegen


@intrinsic
def load_bits(typingctx: Any, source: Any, i: Any, like: Any) -> Any:
    """Load the whole numbers `source[i : i + lanes]`, one to each lane of a vector such as `like`."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        array, index, _ = arguments
        narrow = ir.VectorType(ir.IntType(source.dtype.bitwidth), like.lanes)
        pointer = _address(context, builder, source, array, index)
        low = builder.load(builder.bitcast(pointer, narrow.as_pointer()), align=source.dtype.bitwidth // 8)
        return builder.bitcast(builder.zext(low, _integers(like, 0).type), like.ir)

    return like(source, types.int64, like), codegen


@intrinsic
def splat_bits(typingctx: Any, like: Any, k: Any) -> Any:
    """Return a vector such as `like` whose lanes hold the bits of the whole number `k`."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        zeros = _integers(like, 0)
        one = builder.trunc(arguments[1], zeros.type.element)
        first = builder.insert_element(zeros, one, ir.Constant(ir.IntType(32), 0))
        mask = ir.Constant(ir.VectorType(ir.IntType(32), like.lanes), [0] * like.lanes)
        return builder.bitcast(builder.shuffle_vector(first, zeros, mask), like.ir)

    return like(like, types.int64), codegen


@intrinsic
def keep_equal(typingctx: Any, v: Any, bits: Any, others: Any) -> Any:
    """Return `v` where the lanes of `bits` and `others` hold the same whole number, zero elsewhere."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        value, *sides = arguments
        x, y = (builder.bitcast(side, _integers(v, 0).type) for side in sides)
        return builder.select(builder.icmp_unsigned("==", x, y), value, ir.Constant(v.ir, [0.0] * v.lanes))

    return v(v, v, v), codegen


@intrinsic
def where_beaten(typingctx: Any, best: Any, x: Any, new: Any, old: Any) -> Any:
    """Return `new` where `x > best`, or where x is NaN, which beats every number; `old` elsewhere."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        best_value, x_value, *choices = arguments
        more = builder.fcmp_ordered(">", x_value, best_value)
        return builder.select(builder.or_(more, builder.fcmp_unordered("uno", x_value, x_value)), *choices)

    return best(best, best, best, best), codegen


@intrinsic(prefer_literal=True)
def keep_where(typingctx: Any, v: Any, bits: Any, bit: Any) -> Any:
    """Return `v` where a lane of `bits` has the literal `bit` set, zero elsewhere."""
    if not isinstance(bit, types.IntegerLiteral):
        return None

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        integers = builder.bitcast(arguments[1], _integers(v, 0).type)
        unset = builder.icmp_unsigned("==", builder.and_(integers, _integers(v, bit.literal_value)), _integers(v, 0))
        return builder.select(unset, ir.Constant(v.ir, [0.0] * v.lanes), arguments[0])

    return v(v, bits, bit), codegen


@intrinsic
def first_lanes(typingctx: Any, v: Any, count: Any, fill: Any) -> Any:
    """Return the first `count` lanes of `v`, and those of `fill` behind them."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        value, count_value, fill_value = arguments
        numbers = ir.Constant(ir.VectorType(ir.IntType(32), v.lanes), list(range(v.lanes)))
        one = builder.insert_element(
            numbers, builder.trunc(count_value, ir.IntType(32)), ir.Constant(ir.IntType(32), 0)
        )
        counts = builder.shuffle_vector(one, one, ir.Constant(numbers.type, [0] * v.lanes))
        return builder.select(builder.icmp_signed("<", numbers, counts), value, fill_value)

    return v(v, types.int64, v), codegen


def _folded(builder: ir.IRBuilder, vector: Vector, value: Any, join: Callable[[Any, Any], Any]) -> Any:
    """Emit the join of all lanes, the halves first."""
    half = vector.lanes // 2
    while half:
        mask = [(k + half) % vector.lanes for k in range(vector.lanes)]
        other = builder.shuffle_vector(value, value, ir.Constant(ir.VectorType(ir.IntType(32), vector.lanes), mask))
        value, half = join(value, other), half // 2
    return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))


@intrinsic
def sum_of_lanes(typingctx: Any, v: Any) -> Any:
    """Return the sum of all lanes as a scalar."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return _folded(builder, v, arguments[0], builder.fadd)

    return v.dtype(v), codegen


@intrinsic
def largest_lane(typingctx: Any, v: Any) -> Any:
    """Return the largest lane as a scalar."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return _folded(builder, v, arguments[0], lambda x, y: emit_maximum(builder, x, y))

    return v.dtype(v), codegen


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
            row = builder.sext(builder.load(_address(context, builder, rows, rows_value, index)), int64)
            exists = builder.icmp_signed(">=", row, ir.Constant(int64, 0))
            start = builder.add(base_value, builder.select(exists, row, ir.Constant(int64, 0)))
            line = emit_load(builder, vector, _address(context, builder, source, source_value, start))
            lines.append(builder.select(exists, line, ir.Constant(vector.ir, [0.0] * vector.lanes)))
        for k, column in enumerate(_emit_transpose(builder, vector, lines)):
            with builder.if_then(builder.icmp_signed(">", count_value, ir.Constant(int64, k))):
                place = builder.add(o_value, builder.mul(step_value, ir.Constant(int64, k)))
                emit_store(builder, vector, column, _address(context, builder, target, target_value, place))
        return context.get_dummy_value()

    size = types.int64
    return types.void(source, size, rows, size, target, size, size, size), codegen


def _emit_transpose(builder: ir.IRBuilder, vector: Vector, lines: list[Any]) -> list[Any]:
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


@intrinsic
def keep_positive(typingctx: Any, v: Any, x: Any) -> Any:
    """Return `v` where `x > 0`, zero elsewhere."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        zero = ir.Constant(v.ir, [0.0] * v.lanes)
        return builder.select(builder.fcmp_ordered(">", arguments[1], zero), arguments[0], zero)

    return v(v, v), codegen


@intrinsic
def keep_above(typingctx: Any, v: Any, x: Any, floor: Any) -> Any:
    """Return `v` where `x > floor`, zero elsewhere."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        value, x_value, floor_value = arguments
        zero = ir.Constant(v.ir, [0.0] * v.lanes)
        return builder.select(builder.fcmp_ordered(">", x_value, floor_value), value, zero)

    return v(v, v, v), codegen


def _register(function: Any, instruction: str) -> None:
    @type_callable(function)
    def typer(context: Any) -> Any:
        return lambda x, y: x if isinstance(x, Vector) and x == y else None

    @lower_builtin(function, Vector, Vector)
    def lower(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return getattr(builder, instruction)(*arguments)


for _function, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _register(_function, _instruction)
