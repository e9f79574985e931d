"""A vector register as a Numba type: kernels that are written with it read like scalar Python.

Numba's loops are vectorised by LLVM only where it can prove or check that arrays do not overlap; a kernel that works
on `load(a, i)`, `store(a, i, v)`, `fma(x, y, z)` needs no proof. The width is the machine's (`machine.vector_set`).
"""

from __future__ import annotations

import operator
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
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc]
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
def store_winners(typingctx: Any, winners: Any, i: Any, a: Any, b: Any, c: Any, d: Any, best: Any, floor: Any, every: Any) -> Any:
    """Store to `winners[i : i + lanes]` which of the four numbers of each lane equal `best`, as bits 1, 2, 4, 8.

    Where `best` is not above `floor`, no bit is set: the unit is dead. With `every` all equal numbers are marked,
    without it the first one.
    """

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        array, index, *candidates, best_value, floor_value, every_value = arguments
        bytes_type = ir.VectorType(ir.IntType(8), a.lanes)

        def constant(n: int) -> ir.Constant:
            return ir.Constant(bytes_type, [n] * a.lanes)

        all_bits, first_bit = constant(0), constant(0)
        for q in (3, 2, 1, 0):
            equal = builder.fcmp_ordered("==", candidates[q], best_value)
            all_bits = builder.or_(all_bits, builder.select(equal, constant(1 << q), constant(0)))
            first_bit = builder.select(equal, constant(1 << q), first_bit)
        bits = builder.select(every_value, all_bits, first_bit)
        alive = builder.fcmp_ordered(">", best_value, floor_value)
        bits = builder.select(alive, bits, constant(0))
        pointer = _address(context, builder, winners, array, index)
        builder.store(bits, builder.bitcast(pointer, bytes_type.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(winners, types.int64, a, a, a, a, a, a, types.boolean), codegen


@intrinsic
def keep_where(typingctx: Any, v: Any, winners: Any, i: Any, bit: Any) -> Any:
    """Return `v` where `winners[i : i + lanes]` has `bit` set, zero elsewhere."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        value, array, index, bit_value = arguments
        bytes_type = ir.VectorType(ir.IntType(8), v.lanes)
        pointer = _address(context, builder, winners, array, index)
        bits = builder.load(builder.bitcast(pointer, bytes_type.as_pointer()), align=1)
        undefined = ir.Constant(bytes_type, ir.Undefined)
        one = builder.insert_element(undefined, bit_value, ir.Constant(ir.IntType(32), 0))
        mask = ir.Constant(ir.VectorType(ir.IntType(32), v.lanes), [0] * v.lanes)
        wanted = builder.shuffle_vector(one, undefined, mask)
        unset = builder.icmp_unsigned("==", builder.and_(bits, wanted), ir.Constant(bytes_type, [0] * v.lanes))
        return builder.select(unset, ir.Constant(v.ir, [0.0] * v.lanes), value)

    return v(v, winners, types.int64, types.uint8), codegen


@intrinsic
def keep_positive(typingctx: Any, v: Any, x: Any) -> Any:
    """Return `v` where `x > 0`, zero elsewhere."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        zero = ir.Constant(v.ir, [0.0] * v.lanes)
        return builder.select(builder.fcmp_ordered(">", arguments[1], zero), arguments[0], zero)

    return v(v, v), codegen


def _register(function: Any, instruction: str) -> None:
    @type_callable(function)
    def typer(context: Any) -> Any:
        return lambda x, y: x if isinstance(x, Vector) and x == y else None

    @lower_builtin(function, Vector, Vector)
    def lower(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return getattr(builder, instruction)(*arguments)


for _function, _instruction in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul")):
    _register(_function, _instruction)
