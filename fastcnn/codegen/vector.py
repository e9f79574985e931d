"""A vector register as a Numba type: kernels that are written with it read like scalar Python.

Numba's loops are vectorised by LLVM only where it can prove or check that arrays do not overlap; a kernel that works
on `load(a, i)`, `store(a, i, v)`, `fma(x, y, z)` needs no proof. The width is the processor's (`jit/target.py`).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from inspect import Parameter, Signature, signature
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.core.extending import lower_builtin, register_model, type_callable
from numba.extending import intrinsic
from numba.np.numpy_support import as_dtype

from ..jit.target import LANES, vector_set

TWO, FOUR = 2, 4  # registers of wide vectors: independent sums hide each other's latency, four fit all vector sets


class Vector(types.Type):
    """The Numba type of one register of `dtype`, or of several that are calculated with side by side."""

    def __init__(self, dtype: types.Float, registers: int = 1) -> None:
        self.dtype = dtype
        self.itemsize = as_dtype(dtype).itemsize
        self.lanes = registers * vector_set().lanes(as_dtype(dtype))
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


def emit_stream(builder: ir.IRBuilder, value: Any, pointer: Any, alignment: int) -> None:
    """Emit a store past the caches; the address must be aligned."""
    stream = builder.store(value, builder.bitcast(pointer, value.type.as_pointer()), align=alignment)
    stream.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)]))


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


def emit_address(context: Any, builder: ir.IRBuilder, array_type: types.Array, array: Any, index: Any) -> Any:
    """Emit the address of entry `index` of an array argument."""
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])


def emit_prefetch(builder: ir.IRBuilder, pointer: Any, writes: bool = False) -> None:
    """Emit the request of the cache line beside an address, to read it, or to write to it."""
    byte, integer = ir.IntType(8).as_pointer(), ir.IntType(32)
    function_type = ir.FunctionType(ir.VoidType(), [byte, integer, integer, integer])
    function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0i8")
    builder.call(function, [builder.bitcast(pointer, byte), integer(int(writes)), integer(3), integer(1)])


def vector_intrinsic(name: str, doc: str | None, arguments: Sequence[str], emit: Callable[..., Any]) -> Any:
    """Return an intrinsic of vectors of one type, which `emit` emits from a builder, that type and their values."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        return emit(builder, signature.return_type, *values)

    def typed(typingctx: Any, *vectors: Any) -> Any:
        return vectors[0](*vectors[:1] * len(vectors)), codegen

    typed.__name__, typed.__doc__ = name, doc
    parameters = [Parameter(each, Parameter.POSITIONAL_OR_KEYWORD) for each in ("typingctx", *arguments)]
    typed.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    return intrinsic(typed)


def of_vectors(emit: Callable[..., Any]) -> Any:
    """Declare an intrinsic of vectors of one type: a function that emits it, of a builder, that type and the values."""
    return vector_intrinsic(emit.__name__, emit.__doc__, list(signature(emit).parameters)[2:], emit)


@intrinsic
def lanes(typingctx: Any, a: Any) -> Any:
    """Return the number of lanes of a vector of `a`'s dtype, as a compile-time constant."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return ir.Constant(ir.IntType(64), Vector(a.dtype).lanes)

    return types.int64(a), codegen


def _splat(name: str, doc: str, vector_of: Callable[[types.Float], Vector]) -> Any:
    """Return the intrinsic that makes a vector of an array's dtype and a number."""

    def typed(typingctx: Any, a: Any, x: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            return emit_splat(builder, signature.return_type, arguments[1])

        return vector_of(a.dtype)(a, a.dtype), codegen

    typed.__name__, typed.__doc__ = name, doc
    return intrinsic(typed)


def sixteen_lanes(dtype: types.Float) -> Vector:
    """Return the type of as many registers as hold sixteen numbers: what is added up across lanes is added up in it."""
    return Vector(dtype, LANES // Vector(dtype).lanes)


splat = _splat("splat", "Return a vector of `a`'s dtype whose lanes all hold `x`.", Vector)
splat_two = _splat("splat_two", "Return two registers of it.", lambda dtype: Vector(dtype, TWO))
splat_four = _splat("splat_four", "Return four registers of it.", lambda dtype: Vector(dtype, FOUR))
splat_sixteen = _splat("splat_sixteen", "Return registers of it, sixteen lanes together.", sixteen_lanes)


@intrinsic
def load(typingctx: Any, a: Any, i: Any) -> Any:
    """Load `a[i : i + lanes]`."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return emit_load(builder, signature.return_type, emit_address(context, builder, a, *arguments))

    return Vector(a.dtype)(a, types.int64), codegen


@intrinsic
def load_like(typingctx: Any, v: Any, a: Any, i: Any) -> Any:
    """Load a vector such as `v` from `a[i:]`."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return emit_load(builder, v, emit_address(context, builder, a, *arguments[1:]))

    return v(v, a, types.int64), codegen


@intrinsic
def splat_like(typingctx: Any, v: Any, x: Any) -> Any:
    """Return a vector such as `v` whose lanes all hold `x`."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return emit_splat(builder, v, arguments[1])

    return v(v, v.dtype), codegen


@intrinsic
def lanes_like(typingctx: Any, v: Any) -> Any:
    """Return the number of lanes of a vector such as `v`, as a compile-time constant."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return ir.Constant(ir.IntType(64), v.lanes)

    return types.int64(v), codegen


def _emit_if_reached(builder: ir.IRBuilder, vector: Vector, count: Any) -> Iterator[int]:
    """Yield the first lane of each register; what is emitted then is done if it is below `count`, as the first is."""
    step = Vector(vector.dtype).lanes
    for first in range(0, vector.lanes, step):
        reached = builder.icmp_signed(">", count, ir.Constant(count.type, first))
        with builder.if_then(reached) if first else nullcontext():
            yield first


@intrinsic
def load_first(typingctx: Any, v: Any, a: Any, i: Any, count: Any) -> Any:
    """Load a vector such as `v` from `a[i:]`, but of its registers only those with some of the first `count` lanes.

    The others are zero: what lies there may be no part of the array. `count` is at least 1.
    """

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        _, array, index, count_value = arguments
        one = Vector(v.dtype)
        places = [cgutils.alloca_once_value(builder, ir.Constant(one.ir, None)) for _ in range(v.lanes // one.lanes)]
        pointer = emit_address(context, builder, a, array, index)
        for first in _emit_if_reached(builder, v, count_value):
            register = emit_load(builder, one, builder.gep(pointer, [ir.Constant(ir.IntType(64), first)]))
            builder.store(register, places[first // one.lanes])
        return _joined(builder, [builder.load(place) for place in places])

    return v(v, a, types.int64, types.int64), codegen


def _joined(builder: ir.IRBuilder, parts: list[Any]) -> Any:
    """Emit one vector of several of equal length, whose number is a power of two."""
    while len(parts) > 1:
        both = ir.VectorType(ir.IntType(32), 2 * parts[0].type.count)
        parts = [
            builder.shuffle_vector(x, y, ir.Constant(both, list(range(both.count))))
            for x, y in zip(parts[::2], parts[1::2], strict=True)
        ]
    return parts[0]


@intrinsic
def store_first(typingctx: Any, a: Any, i: Any, v: Any, count: Any) -> Any:
    """Store to `a[i:]` those registers of `v` that have some of the first `count` lanes; `count` is at least 1."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        array, index, value, count_value = arguments
        one = Vector(v.dtype)
        pointer = emit_address(context, builder, a, array, index)
        for first in _emit_if_reached(builder, v, count_value):
            numbers = ir.Constant(ir.VectorType(ir.IntType(32), one.lanes), list(range(first, first + one.lanes)))
            part = builder.shuffle_vector(value, value, numbers)
            emit_store(builder, one, part, builder.gep(pointer, [ir.Constant(ir.IntType(64), first)]))
        return context.get_dummy_value()

    return types.void(a, types.int64, v, types.int64), codegen


@intrinsic
def store(typingctx: Any, a: Any, i: Any, v: Any) -> Any:
    """Store `v` to `a[i : i + lanes]`."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        array, index, value = arguments
        emit_store(builder, v, value, emit_address(context, builder, a, array, index))
        return context.get_dummy_value()

    return types.void(a, types.int64, v), codegen


@intrinsic
def store_or_stream(typingctx: Any, a: Any, i: Any, v: Any, stream: Any) -> Any:
    """Store `v` to `a[i : i + lanes]`; with `stream`, past the caches: then the address must be aligned to a register.

    A line that is stored past the caches is not read first, which halves the traffic of a large target. Whatever hands
    the result to another thread is an atomic instruction or a lock, behind which such stores have arrived.
    """

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        array, index, value, stream_value = arguments
        pointer = emit_address(context, builder, a, array, index)
        with builder.if_else(stream_value) as (then, otherwise):
            with then:
                emit_stream(builder, value, pointer, vector_set().bits // 8)
            with otherwise:
                emit_store(builder, v, value, pointer)
        return context.get_dummy_value()

    return types.void(a, types.int64, v, types.boolean), codegen


@intrinsic
def prefetch(typingctx: Any, a: Any, i: Any) -> Any:
    """Prefetch the cache line of `a[i]`, which will be read or written soon; `i` may lie beyond the end."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        emit_prefetch(builder, emit_address(context, builder, a, *arguments))
        return context.get_dummy_value()

    return types.void(a, types.int64), codegen


@of_vectors
def fma(builder: ir.IRBuilder, vector: Vector, x: Any, y: Any, z: Any) -> Any:
    """Return x · y + z."""
    return emit_call(builder, vector, "fmuladd", [x, y, z])


@of_vectors
def maximum(builder: ir.IRBuilder, vector: Vector, x: Any, y: Any) -> Any:
    """Return `x where x > y else y` for each lane: a NaN in `y` stays."""
    return emit_maximum(builder, x, y)


@of_vectors
def sqrt(builder: ir.IRBuilder, vector: Vector, x: Any) -> Any:
    """Return √x for each lane, correctly rounded."""
    return emit_call(builder, vector, "sqrt", [x])


@of_vectors
def sign(builder: ir.IRBuilder, vector: Vector, x: Any) -> Any:
    """Return 1 where x > 0, -1 where x < 0, and x elsewhere: zeros and NaN stay."""
    value, zero = x, ir.Constant(vector.ir, [0.0] * vector.lanes)
    for comparison, one in ((">", 1.0), ("<", -1.0)):
        holds = builder.fcmp_ordered(comparison, x, zero)
        value = builder.select(holds, ir.Constant(vector.ir, [one] * vector.lanes), value)
    return value


@of_vectors
def where_beaten(builder: ir.IRBuilder, vector: Vector, best: Any, x: Any, new: Any, old: Any) -> Any:
    """Return `new` where `x > best`, or where x is NaN, which beats every number; `old` elsewhere."""
    more = builder.fcmp_ordered(">", x, best)
    return builder.select(builder.or_(more, builder.fcmp_unordered("uno", x, x)), new, old)


@intrinsic
def first_lanes(typingctx: Any, v: Any, count: Any, fill: Any) -> Any:
    """Return the first `count` lanes of `v`, and those of `fill` behind them."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        value, count_value, fill_value = arguments
        return builder.select(_emit_lanes(builder, v, "<", count_value), value, fill_value)

    return v(v, types.int64, v), codegen


def _emit_lanes(builder: ir.IRBuilder, vector: Vector, comparison: str, lane: Any) -> Any:
    """Emit the mask of the lanes whose number compares so to `lane`."""
    numbers = ir.Constant(ir.VectorType(ir.IntType(32), vector.lanes), list(range(vector.lanes)))
    one = builder.insert_element(numbers, builder.trunc(lane, ir.IntType(32)), ir.Constant(ir.IntType(32), 0))
    bounds = builder.shuffle_vector(one, one, ir.Constant(numbers.type, [0] * vector.lanes))
    return builder.icmp_signed(comparison, numbers, bounds)


@intrinsic
def lane_of(typingctx: Any, v: Any, x: Any) -> Any:
    """Return the first lane of `v` that equals `x`, or the number of lanes if none does."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        equal = builder.fcmp_ordered("==", arguments[0], emit_splat(builder, v, arguments[1]))
        bits = builder.bitcast(equal, ir.IntType(v.lanes))
        beyond = ir.Constant(ir.IntType(64), 1 << v.lanes)  # so that there is a bit to be found
        return builder.cttz(builder.or_(builder.zext(bits, ir.IntType(64)), beyond), ir.Constant(ir.IntType(1), 1))

    return types.int64(v, v.dtype), codegen


@intrinsic
def without_lane(typingctx: Any, v: Any, lane: Any) -> Any:
    """Return `v` with zero in one lane; all of `v` if it has no such lane."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        value, lane_value = arguments
        return builder.select(_emit_lanes(builder, v, "==", lane_value), ir.Constant(v.ir, None), value)

    return v(v, types.int64), codegen


def _folded(builder: ir.IRBuilder, value: Any, join: Callable[[Any, Any], Any]) -> Any:
    """Emit the join of all lanes: the first half and the second, until there is one."""
    while value.type.count > 1:
        half = value.type.count // 2
        numbers = ir.VectorType(ir.IntType(32), half)
        low, high = (
            builder.shuffle_vector(value, value, ir.Constant(numbers, list(range(first, first + half))))
            for first in (0, half)
        )
        value = join(low, high)
    return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))


@intrinsic
def sum_of_lanes(typingctx: Any, v: Any) -> Any:
    """Return the sum of all lanes as a scalar, the halves first.

    Of more numbers than a register has, on some processor, only a vector of sixteen lanes gives the same on all.
    """

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return _folded(builder, arguments[0], builder.fadd)

    return v.dtype(v), codegen


@intrinsic
def double_sum_of_lanes(typingctx: Any, v: Any) -> Any:
    """Return the sum of all lanes in double precision, the halves first."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        wide = ir.VectorType(ir.DoubleType(), v.lanes)
        value = arguments[0] if v.itemsize == 8 else builder.fpext(arguments[0], wide)
        return _folded(builder, value, builder.fadd)

    return types.float64(v), codegen


@intrinsic
def largest_lane(typingctx: Any, v: Any) -> Any:
    """Return the largest lane as a scalar."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return _folded(builder, arguments[0], lambda x, y: emit_maximum(builder, x, y))

    return v.dtype(v), codegen


@of_vectors
def keep_positive(builder: ir.IRBuilder, vector: Vector, v: Any, x: Any) -> Any:
    """Return `v` where `x > 0`, zero elsewhere."""
    zero = ir.Constant(vector.ir, [0.0] * vector.lanes)
    return builder.select(builder.fcmp_ordered(">", x, zero), v, zero)


@of_vectors
def keep_above(builder: ir.IRBuilder, vector: Vector, v: Any, x: Any, low: Any) -> Any:
    """Return `v` where `x > low`, zero elsewhere."""
    return builder.select(builder.fcmp_ordered(">", x, low), v, ir.Constant(vector.ir, [0.0] * vector.lanes))


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
