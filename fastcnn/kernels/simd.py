"""The micro-kernel generator: one register tile of an indirect matrix product, emitted as LLVM vector instructions.

Convolution, its two gradients, dense layers and Winograd's products are all one operation here,

    C[i, n] = start[n] + Σ_k A[i, k] · B[k, n],        A[i, k] = a[a_row[i] + a_col[k]],

a matrix product whose left side is *read through two tables of offsets* and never built. For a convolution, `a_row`
says where the window of output pixel i begins and `a_col` where tap k lies in the window: stride, padding, dilation
and flattening are contents of tables, not code. The filter gradient is the same product with the two tables exchanged.

Shape legend: a tile has `rows` x (`vectors` x lanes) accumulators; B is packed in panels of that width.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .machine import vector_set
from .vector import Vector, emit_call, emit_load, emit_maximum, emit_splat, emit_store

UNROLL = 4  # values of k per loop turn
INT64 = ir.IntType(64)


class _Tile:
    """Emits one tile of `rows` rows; holds what all row counts have in common."""

    def __init__(self, context: Any, builder: ir.IRBuilder, types_of: dict[str, Any], values: dict[str, Any]) -> None:
        self.context, self.builder, self.types_of, self.values = context, builder, types_of, values
        self.vector = Vector(types_of["a"].dtype)
        self.lanes = self.vector.lanes

    def at(self, name: str, index: Any) -> Any:
        """Emit the address of entry `index` of the array argument `name`."""
        data = self.context.make_array(self.types_of[name])(self.context, self.builder, self.values[name]).data
        return self.builder.gep(data, [index])

    def plus(self, x: Any, n: int) -> Any:
        return self.builder.add(x, ir.Constant(INT64, n)) if n else x

    def offset(self, pointer: Any) -> Any:
        """Emit the load of a 32-bit table entry, widened to an address offset."""
        return self.builder.sext(self.builder.load(pointer), INT64)

    def load(self, pointer: Any) -> Any:
        """Emit the load of one vector."""
        return emit_load(self.builder, self.vector, pointer)

    def emit(self, rows: int, vectors: int) -> None:
        """Emit a tile: start values, the loop over k, the stores."""
        builder, values, i = self.builder, self.values, self.values["i"]
        a_pointers = [self.at("a", self.offset(self.at("a_row", self.plus(i, m)))) for m in range(rows)]
        c_starts = [builder.add(self.offset(self.at("c_row", self.plus(i, m))), values["c0"]) for m in range(rows)]
        c_pointers = [self.at("c", self.plus(start, j * self.lanes)) for start in c_starts for j in range(vectors)]
        sums = self._start(rows, vectors, c_pointers)
        k, b_pointer = values["k0"], self.at("b", values["b0"])
        for steps in (UNROLL, 1):
            sums, k, b_pointer = self._loop(steps, sums, k, b_pointer, a_pointers, vectors)
        floor = emit_splat(builder, self.vector, values["floor"])
        for total, pointer in zip(sums, c_pointers, strict=True):
            emit_store(builder, self.vector, emit_maximum(builder, floor, total), pointer)

    def sums(self, rows: int, vectors: int) -> list[Any]:
        """Emit a tile without stores, that begins at the bias, and return its accumulators row by row."""
        values, i = self.values, self.values["i"]
        a_pointers = [self.at("a", self.offset(self.at("a_row", self.plus(i, m)))) for m in range(rows)]
        bias = [self.load(self.at("start", self.plus(values["c0"], j * self.lanes))) for j in range(vectors)]
        sums, k, b_pointer = bias * rows, ir.Constant(INT64, 0), self.at("b", values["b0"])
        for steps in (UNROLL, 1):
            sums, k, b_pointer = self._loop(steps, sums, k, b_pointer, a_pointers, vectors)
        return sums

    def _start(self, rows: int, vectors: int, c_pointers: list[Any]) -> list[Any]:
        """Emit where the sums begin: the bias, or what an earlier band has left in C."""
        builder = self.builder
        fresh, again, join = (builder.append_basic_block(f"tile.{name}") for name in ("fresh", "again", "join"))
        builder.cbranch(self.values["fresh"], fresh, again)
        builder.position_at_end(fresh)
        bias = [self.load(self.at("start", self.plus(self.values["c0"], j * self.lanes))) for j in range(vectors)]
        builder.branch(join)
        builder.position_at_end(again)
        partial = [self.load(pointer) for pointer in c_pointers]
        builder.branch(join)
        builder.position_at_end(join)
        return [self._phi((bias * rows)[j], fresh, partial[j], again) for j in range(rows * vectors)]

    def _phi(self, x: Any, from_x: Any, y: Any, from_y: Any) -> Any:
        phi = self.builder.phi(x.type)
        phi.add_incoming(x, from_x)
        phi.add_incoming(y, from_y)
        return phi

    def _loop(
        self, steps: int, sums: list[Any], k: Any, b_pointer: Any, a_pointers: list[Any], vectors: int
    ) -> tuple[list[Any], Any, Any]:
        """Emit `while k + steps <= k1:` with `steps` values of k in its body; return the variables after it."""
        builder = self.builder
        before = builder.block
        test, body, after = (builder.append_basic_block(f"tile.{name}") for name in ("test", "body", "after"))
        builder.branch(test)
        builder.position_at_end(test)
        variables = [k, b_pointer, *sums]
        phis = [builder.phi(x.type) for x in variables]
        builder.cbranch(builder.icmp_signed("<=", self.plus(phis[0], steps), self.values["k1"]), body, after)
        builder.position_at_end(body)
        width = vectors * self.lanes
        new = phis[2:]
        for u in range(steps):
            offset = self.offset(self.at("a_col", self.plus(phis[0], u)))
            right = [
                self.load(builder.gep(phis[1], [ir.Constant(INT64, u * width + j * self.lanes)]))
                for j in range(vectors)
            ]
            left = (
                emit_splat(builder, self.vector, builder.load(builder.gep(pointer, [offset]))) for pointer in a_pointers
            )
            factors = ((x, y) for x in left for y in right)
            new = [
                emit_call(builder, self.vector, "fmuladd", [x, y, total])
                for (x, y), total in zip(factors, new, strict=True)
            ]
        next_b = builder.gep(phis[1], [ir.Constant(INT64, steps * width)])
        for phi, first, later in zip(phis, variables, [self.plus(phis[0], steps), next_b, *new], strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(later, builder.block)
        builder.branch(test)
        builder.position_at_end(after)
        return phis[2:], phis[0], phis[1]


@intrinsic(prefer_literal=True)
def tile_product(
    typingctx: Any,
    vectors: Any,
    rows: Any,
    a: Any,
    a_row: Any,
    i: Any,
    a_col: Any,
    k0: Any,
    k1: Any,
    b: Any,
    b0: Any,
    c: Any,
    c_row: Any,
    c0: Any,
    start: Any,
    fresh: Any,
    floor: Any,
) -> Any:
    """Emit a tile, `c[c_row[i+m] + c0 + n] = max(floor, s + Σ_k a[a_row[i+m] + a_col[k]] · b[b0 + (k-k0)·width + n])`.

    `s` is `start[c0 + n]` where `fresh`, else what stands in `c`; m < rows, n < width = vectors · lanes, k0 <= k < k1.
    `vectors` is a literal; `rows` is at most `tile_rows(vectors)` of the vector set.
    """
    if not isinstance(vectors, types.IntegerLiteral):
        return None
    size = types.int64
    signature = types.void(
        vectors, size, a, a_row, size, a_col, size, size, b, size, c, c_row, size, start, types.boolean, a.dtype
    )
    names = (
        "vectors", "rows", "a", "a_row", "i", "a_col", "k0", "k1", "b", "b0", "c", "c_row", "c0", "start",
        "fresh", "floor",
    )  # fmt: skip

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        tile = _Tile(
            context, builder, dict(zip(names, signature.args, strict=True)), dict(zip(names, arguments, strict=True))
        )
        done = builder.append_basic_block("tile.done")
        choice = builder.switch(tile.values["rows"], done)
        for count in range(1, vector_set().tile_rows(vectors.literal_value) + 1):
            block = builder.append_basic_block(f"tile.rows{count}")
            choice.add_case(ir.Constant(INT64, count), block)
            builder.position_at_end(block)
            tile.emit(count, vectors.literal_value)
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic(prefer_literal=True)
def tile_sums(
    typingctx: Any,
    vectors: Any,
    rows: Any,
    a: Any,
    a_row: Any,
    i: Any,
    a_col: Any,
    k1: Any,
    b: Any,
    b0: Any,
    start: Any,
    c0: Any,
) -> Any:
    """Return the registers of a tile, row by row: `start[c0 + n] + Σ_k a[a_row[i+m] + a_col[k]] · b[b0 + k·width + n]`.

    As `tile_product`, for sums that go on being worked on; `vectors` and `rows` are literals.
    """
    if not (isinstance(vectors, types.IntegerLiteral) and isinstance(rows, types.IntegerLiteral)):
        return None
    height, width = rows.literal_value, vectors.literal_value
    size = types.int64
    result = types.UniTuple(Vector(a.dtype), height * width)
    signature = result(vectors, rows, a, a_row, size, a_col, size, b, size, start, size)
    names = ("vectors", "rows", "a", "a_row", "i", "a_col", "k1", "b", "b0", "start", "c0")

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        tile = _Tile(
            context, builder, dict(zip(names, signature.args, strict=True)), dict(zip(names, arguments, strict=True))
        )
        return context.make_tuple(builder, signature.return_type, tile.sums(height, width))

    return signature, codegen
