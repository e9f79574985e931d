"""The transforms of Winograd's algorithms: products of a small matrix and a line of registers.

F(2 x 2, 3 x 3) uses the points 0, ±1, ∞. F(4 x 4, 3 x 3) uses 0, ±√½, ±√2, ∞: the usual points 0, ±1, ±2, ∞
cost three to five times the rounding error of direct convolution; these, whose products are 1, about twice. With
a = √½, b = √2 and M(x) = x (x² - ½)(x² - 2), the rows of Bᵀ are the coefficients of M / (x - p), those of G are
(1, p, p²) / M'(p), M'(0) = 1, M'(±a) = -3/2, M'(±b) = 6, and those of A are the powers of p.

Sources: Winograd, "Arithmetic complexity of computations", SIAM 1980; Barabasz et al., "Error analysis and improving
the accuracy of Winograd convolution", ACM TOMS 46 (2020), for the choice of points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .vector import Vector, emit_address, emit_call, emit_load, emit_maximum, emit_store

Matrix = tuple[tuple[float, ...], ...]

A, B = math.sqrt(0.5), math.sqrt(2.0)

INPUT, FILTER, OUTPUT, GRADIENT, FILTER_GRADIENT = range(5)  # Bᵀ, G, Aᵀ, A, Gᵀ

_BT: dict[int, Matrix] = {
    2: ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
    4: (
        (1, 0, -2.5, 0, 1, 0),
        (0, -2 * A, -2, A, 1, 0),
        (0, 2 * A, -2, -A, 1, 0),
        (0, -B / 2, -0.5, B, 1, 0),
        (0, B / 2, -0.5, -B, 1, 0),
        (0, 1, 0, -2.5, 0, 1),
    ),
}
_G: dict[int, Matrix] = {
    2: ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1)),
    4: (
        (1, 0, 0),
        (-2 / 3, -2 * A / 3, -1 / 3),
        (-2 / 3, 2 * A / 3, -1 / 3),
        (1 / 6, B / 6, 1 / 3),
        (1 / 6, -B / 6, 1 / 3),
        (0, 0, 1),
    ),
}
_AT: dict[int, Matrix] = {
    2: ((1, 1, 1, 0), (0, 1, -1, -1)),
    4: ((1, 1, 1, 1, 1, 0), (0, A, -A, B, -B, 0), (0, 0.5, 0.5, 2, 2, 0), (0, A / 2, -A / 2, 2 * B, -2 * B, 1)),
}


def _transposed(matrix: Matrix) -> Matrix:
    return tuple(zip(*matrix, strict=True))


def matrix_of(kind: int, tile: int) -> Matrix:
    """Return the matrix of a transform for tiles of that side."""
    bt, g, at = _BT[tile], _G[tile], _AT[tile]
    return {INPUT: bt, FILTER: g, OUTPUT: at, GRADIENT: _transposed(at), FILTER_GRADIENT: _transposed(g)}[kind]


class _Lines:
    """Emits T x of a line x of registers, with few instructions: the points come in pairs ±p."""

    def __init__(self, builder: ir.IRBuilder, vector: Vector) -> None:
        self.builder, self.vector = builder, vector

    def emit(self, matrix: Matrix, x: Sequence[Any]) -> list[Any]:
        """Emit T x. Columns of T that differ in signs only belong to the sum and the difference of two numbers of x."""
        values, columns, j = list(x), list(_transposed(matrix)), 0
        while j + 1 < len(values):
            if _are_alike(columns[j], columns[j + 1]):
                columns[j : j + 2] = _parts(columns[j], columns[j + 1])
                values[j : j + 2] = self._sum_and_difference(*values[j : j + 2])
                j += 1
            j += 1
        return self._rows(_transposed(tuple(columns)), values)

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


def _literal_matrix(kind: Any, tile: Any) -> Matrix | None:
    """Return the matrix that two literals name; None while Numba tries it without them."""
    if not (isinstance(kind, types.IntegerLiteral) and isinstance(tile, types.IntegerLiteral)):
        return None
    return matrix_of(kind.literal_value, tile.literal_value)


@intrinsic(prefer_literal=True)
def side_of(typingctx: Any, tile: Any) -> Any:
    """Return the side of the tiles, a literal. LLVM learns the small one only, and unrolls loops by it.

    The lines between columns and rows then stay in registers; those of the large tile would not fit.
    """
    if not isinstance(tile, types.IntegerLiteral):
        return None

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return ir.IntType(64)(2) if tile.literal_value == 2 else arguments[0]

    return types.int64(tile), codegen


@intrinsic(prefer_literal=True)
def lines_between(typingctx: Any, a: Any, tile: Any) -> Any:
    """Return room on the stack for what a transform leaves between columns and rows; LLVM may keep it in registers."""
    if not isinstance(tile, types.IntegerLiteral):
        return None
    vector = Vector(a.dtype)
    whole = ir.ArrayType(vector.ir.element, (tile.literal_value + 2) ** 2 * vector.lanes)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        room = cgutils.alloca_once(builder, whole)
        room.align = vector.lanes * vector.itemsize
        return cgutils.gep_inbounds(builder, room, 0, 0)

    return types.CPointer(a.dtype)(a, tile), codegen


def _address(context: Any, builder: ir.IRBuilder, kind: types.Type, value: Any, index: Any) -> Any:
    """Emit the address of entry `index` of an array, or of `lines_between`."""
    if isinstance(kind, types.CPointer):
        return builder.gep(value, [index])
    return emit_address(context, builder, kind, value, index)


@intrinsic(prefer_literal=True)
def transformed(typingctx: Any, kind: Any, tile: Any, line: Any) -> Any:
    """Return T x for a line x; `kind` and `tile`, which name the matrix T, are literals."""
    matrix = _literal_matrix(kind, tile)
    if matrix is None:
        return None

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        values = _Lines(builder, line.dtype).emit(matrix, cgutils.unpack_tuple(builder, arguments[2]))
        return context.make_tuple(builder, signature.return_type, values)

    return types.UniTuple(line.dtype, len(matrix))(kind, tile, line), codegen


@intrinsic(prefer_literal=True)
def load_line(typingctx: Any, kind: Any, tile: Any, a: Any, i: Any, step: Any) -> Any:
    """Return the line that such a transform wants: registers from a[i:] on, `step` apart."""
    matrix = _literal_matrix(kind, tile)
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

    return line(kind, tile, a, types.int64, types.int64), codegen


@intrinsic(prefer_literal=True)
def load_pixels(typingctx: Any, kind: Any, tile: Any, a: Any, i: Any, table: Any, p: Any, step: Any) -> Any:
    """Return the line that such a transform wants: registers at a[i + table[p]:], a[i + table[p + step]:] and so on."""
    matrix = _literal_matrix(kind, tile)
    if matrix is None:
        return None
    line = types.UniTuple(Vector(a.dtype), len(matrix[0]))

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        array, start, table_value, index, distance = arguments[2:]
        loaded = []
        for _ in range(len(line)):
            place = builder.add(start, _entry(context, builder, table, table_value, index))
            loaded.append(emit_load(builder, line.dtype, _address(context, builder, a, array, place)))
            index = builder.add(index, distance)
        return context.make_tuple(builder, line, loaded)

    return line(kind, tile, a, types.int64, table, types.int64, types.int64), codegen


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
        floor, packed, shift = arguments
        values = (builder.fadd(value, shift) for value in cgutils.unpack_tuple(builder, packed))
        results = [emit_maximum(builder, floor, value) for value in values]
        return context.make_tuple(builder, line, results)

    return line(low, line, bias), codegen


@intrinsic
def sum_of(typingctx: Any, line: Any) -> Any:
    """Return the sum of the registers, neighbours first; their number is a power of two."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        values = cgutils.unpack_tuple(builder, arguments[0])
        while len(values) > 1:
            values = [builder.fadd(x, y) for x, y in zip(values[::2], values[1::2], strict=True)]
        return values[0]

    return line.dtype(line), codegen
