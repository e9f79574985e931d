"""The transforms of Winograd's algorithms: products of a small matrix and a line of registers.

The matrices, and why they are as they are, are in `winograd_schemes.py`. Here `scheme` is an argument of a kernel whose
type says which they are; `kind`, a literal, says which of them is meant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .vector import Vector, emit_address, emit_call, emit_load, emit_maximum, emit_store
from .winograd_schemes import F23, MATRICES, Matrix


class _Lines:
    """Emits T x of a line x of registers, with few instructions: the points come in pairs ±p."""

    def __init__(self, builder: ir.IRBuilder, vector: Vector) -> None:
        self.builder, self.vector = builder, vector

    def emit(self, matrix: Matrix, x: Sequence[Any]) -> list[Any]:
        """Emit T x. Columns of T that differ in signs only belong to the sum and the difference of two numbers of x."""
        values, columns, j = list(x), list(zip(*matrix, strict=True)), 0
        while j + 1 < len(values):
            if _are_alike(columns[j], columns[j + 1]):
                columns[j : j + 2] = _parts(columns[j], columns[j + 1])
                values[j : j + 2] = self._sum_and_difference(*values[j : j + 2])
                j += 1
            j += 1
        return self._rows(tuple(zip(*columns, strict=True)), values)

    def _rows(self, rows: Matrix, values: Sequence[Any]) -> list[Any]:
        """Emit the rows; two that differ in signs only are the sum and the difference of two parts."""
        results: list[Any] = []
        while len(results) < len(rows):
            pair = rows[len(results) : len(results) + 2]
            if len(pair) == 2 and _are_alike(*pair):
                results += self._sum_and_difference(*(self._combination(part, values) for part in _parts(*pair)))
            else:
                results.append(self._combination(pair[0], values))
        return results

    def _sum_and_difference(self, x: Any, y: Any) -> list[Any]:
        return [self.builder.fadd(x, y), self.builder.fsub(x, y)]

    def _combination(self, factors: Sequence[float], values: Sequence[Any]) -> Any:
        """Emit Σ factors · values; a value of factor 1 is what the others are added to."""
        terms = sorted(((c, v) for c, v in zip(factors, values, strict=True) if c), key=lambda term: term[0] != 1)
        (first, total), *rest = terms
        if first != 1:
            total = self.builder.fmul(self._constant(first), total)
        for factor, value in rest:
            if factor == 1:
                total = self.builder.fadd(total, value)
            elif factor == -1:
                total = self.builder.fsub(total, value)
            else:
                total = emit_call(self.builder, self.vector, "fmuladd", [self._constant(factor), value, total])
        return total

    def _constant(self, x: float) -> ir.Constant:
        return ir.Constant(self.vector.ir, [x] * self.vector.lanes)


def _are_alike(x: Sequence[float], y: Sequence[float]) -> bool:
    """Tell whether two rows, or columns, differ in signs, and in nothing else."""
    return x != y and [abs(number) for number in x] == [abs(number) for number in y]


def _parts(x: Sequence[float], y: Sequence[float]) -> list[tuple[float, ...]]:
    """Return what x and y share, and what of x changes its sign in y."""
    pairs = list(zip(x, y, strict=True))
    return [tuple(p if (p == q) == shared else 0.0 for p, q in pairs) for shared in (True, False)]


def _matrix(kind: Any, scheme: Any) -> Matrix | None:
    """Return a matrix of a scheme; None while Numba tries `kind` as any integer."""
    if not isinstance(kind, types.IntegerLiteral):
        return None
    return MATRICES[scheme.instance_class].matrix(kind.literal_value)


def _size(scheme: Any, size: int, emit: Callable[[ir.IRBuilder, Any, Any], Any]) -> Any:
    """Return signature and code of a size of a scheme, which `emit` emits from its tile and taps.

    LLVM learns the small ones only, and unrolls loops by them: the lines between columns and rows then stay in
    registers. Those of larger patches would not fit, so their sizes are read from the argument.
    """

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        if scheme.instance_class is F23 or size <= 3:
            return ir.IntType(64)(size)
        return emit(builder, *cgutils.unpack_tuple(builder, arguments[0], 2))

    return types.int64(scheme), codegen


@intrinsic
def tile_of(typingctx: Any, scheme: Any) -> Any:
    """Return the side of the tiles."""
    return _size(scheme, scheme.instance_class().tile, lambda builder, tile, taps: tile)


@intrinsic
def taps_of(typingctx: Any, scheme: Any) -> Any:
    """Return the side of the windows."""
    return _size(scheme, scheme.instance_class().taps, lambda builder, tile, taps: taps)


@intrinsic
def side_of(typingctx: Any, scheme: Any) -> Any:
    """Return the side of the patches."""

    def emit(builder: ir.IRBuilder, tile: Any, taps: Any) -> Any:
        return builder.sub(builder.add(tile, taps), ir.IntType(64)(1))

    return _size(scheme, MATRICES[scheme.instance_class].side, emit)


@intrinsic
def lines_between(typingctx: Any, a: Any, scheme: Any) -> Any:
    """Return room on the stack for what a transform leaves between columns and rows; LLVM may keep it in registers."""
    vector = Vector(a.dtype)
    whole = ir.ArrayType(vector.ir.element, MATRICES[scheme.instance_class].points * vector.lanes)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        room = cgutils.alloca_once(builder, whole)
        room.align = vector.lanes * vector.itemsize
        return cgutils.gep_inbounds(builder, room, 0, 0)

    return types.CPointer(a.dtype)(a, scheme), codegen


def _address(context: Any, builder: ir.IRBuilder, kind: types.Type, value: Any, index: Any) -> Any:
    """Emit the address of entry `index` of an array, or of `lines_between`."""
    if isinstance(kind, types.CPointer):
        return builder.gep(value, [index])
    return emit_address(context, builder, kind, value, index)


@intrinsic(prefer_literal=True)
def transformed(typingctx: Any, kind: Any, scheme: Any, line: Any) -> Any:
    """Return T x for a line x; `kind` and `scheme` name the matrix T."""
    matrix = _matrix(kind, scheme)
    if matrix is None:
        return None

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        values = _Lines(builder, line.dtype).emit(matrix, cgutils.unpack_tuple(builder, arguments[2]))
        return context.make_tuple(builder, signature.return_type, values)

    return types.UniTuple(line.dtype, len(matrix))(kind, scheme, line), codegen


@intrinsic(prefer_literal=True)
def load_line(typingctx: Any, kind: Any, scheme: Any, a: Any, i: Any, step: Any) -> Any:
    """Return the line that such a transform wants: registers from a[i:] on, `step` apart."""
    matrix = _matrix(kind, scheme)
    if matrix is None:
        return None
    line = types.UniTuple(Vector(a.dtype), len(matrix[0]))

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        array, place, distance = arguments[2:]
        loaded = []
        for _ in range(len(line)):
            loaded.append(emit_load(builder, line.dtype, _address(context, builder, a, array, place)))
            place = builder.add(place, distance)
        return context.make_tuple(builder, line, loaded)

    return line(kind, scheme, a, types.int64, types.int64), codegen


@intrinsic(prefer_literal=True)
def load_pixels(typingctx: Any, kind: Any, scheme: Any, a: Any, i: Any, table: Any, p: Any, step: Any) -> Any:
    """Return the line that such a transform wants: registers at a[i + table[p]:], a[i + table[p + step]:] and so on."""
    return _load_by_table(kind, scheme, a, table, _emit_load_at)


@intrinsic(prefer_literal=True)
def load_taps(typingctx: Any, kind: Any, scheme: Any, a: Any, i: Any, table: Any, p: Any, step: Any) -> Any:
    """Return what `load_pixels` does, and zeros where the table is negative."""
    return _load_by_table(kind, scheme, a, table, _emit_load_or_zero)


def _load_by_table(kind: Any, scheme: Any, a: Any, table: Any, emit: Callable[..., Any]) -> Any:
    """Return signature and code of a line of registers whose places are in a table; `emit` loads one of them."""
    matrix = _matrix(kind, scheme)
    if matrix is None:
        return None
    line = types.UniTuple(Vector(a.dtype), len(matrix[0]))

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        array, start, table_value, index, distance = arguments[2:]
        loaded = []
        for _ in range(len(line)):
            entry = _entry(context, builder, table, table_value, index)
            begin = _address(context, builder, a, array, start)
            loaded.append(emit(builder, line.dtype, begin, entry))
            index = builder.add(index, distance)
        return context.make_tuple(builder, line, loaded)

    return line(kind, scheme, a, types.int64, table, types.int64, types.int64), codegen


def _emit_load_at(builder: ir.IRBuilder, vector: Vector, begin: Any, entry: Any) -> Any:
    """Emit the load of the register that is `entry` numbers behind an address."""
    return emit_load(builder, vector, builder.gep(begin, [entry]))


def _emit_load_or_zero(builder: ir.IRBuilder, vector: Vector, begin: Any, entry: Any) -> Any:
    """Emit the same, and zeros for a negative entry."""
    before = builder.basic_block
    with builder.if_then(builder.icmp_signed(">=", entry, entry.type(0))):
        there, inside = _emit_load_at(builder, vector, begin, entry), builder.basic_block
    either = builder.phi(vector.ir)
    either.add_incoming(ir.Constant(vector.ir, None), before)
    either.add_incoming(there, inside)
    return either


@intrinsic
def store_line(typingctx: Any, a: Any, i: Any, step: Any, line: Any) -> Any:
    """Store registers from a[i:] on, `step` apart."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        array, place, distance, packed = arguments
        for value in cgutils.unpack_tuple(builder, packed):
            emit_store(builder, line.dtype, value, _address(context, builder, a, array, place))
            place = builder.add(place, distance)
        return context.get_dummy_value()

    return types.void(a, types.int64, types.int64, line), codegen


@intrinsic
def store_pixels(typingctx: Any, a: Any, i: Any, table: Any, p: Any, line: Any) -> Any:
    """Store registers at a[i + table[p]:], a[i + table[p + 1]:] and so on; none where the table is negative."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        array, start, table_value, first, packed = arguments
        for q, value in enumerate(cgutils.unpack_tuple(builder, packed)):
            pixel = _entry(context, builder, table, table_value, builder.add(first, first.type(q)))
            with builder.if_then(builder.icmp_signed(">=", pixel, pixel.type(0))):
                pointer = _address(context, builder, a, array, builder.add(start, pixel))
                emit_store(builder, line.dtype, value, pointer)
        return context.get_dummy_value()

    return types.void(a, types.int64, table, types.int64, line), codegen


def _entry(context: Any, builder: ir.IRBuilder, table: types.Array, value: Any, index: Any) -> Any:
    """Emit the load of an entry of a table of 32-bit offsets."""
    return builder.sext(builder.load(_address(context, builder, table, value, index)), index.type)


@intrinsic
def not_below(typingctx: Any, low: Any, line: Any, bias: Any) -> Any:
    """Return max(low, x + bias) for each register x of a line."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        low_value, packed, bias_value = arguments
        values = (builder.fadd(value, bias_value) for value in cgutils.unpack_tuple(builder, packed))
        results = [emit_maximum(builder, low_value, value) for value in values]
        return context.make_tuple(builder, line, results)

    return line(low, line, bias), codegen


@intrinsic
def sum_of(typingctx: Any, line: Any) -> Any:
    """Return the sum of the registers, neighbours first; a last one without a neighbour waits."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        values = cgutils.unpack_tuple(builder, arguments[0])
        while len(values) > 1:
            alone = values[len(values) // 2 * 2 :]
            values = [builder.fadd(x, y) for x, y in zip(values[::2], values[1::2], strict=False)] + alone
        return values[0]

    return line.dtype(line), codegen
