"""The micro-kernel generator: register tiles of an indirect matrix product, emitted as LLVM vector instructions.

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
from numba.core import cgutils
from numba.extending import intrinsic

from ..jit.target import MAX_ROWS, vector_set
from .vector import Vector, emit_call, emit_load, emit_maximum, emit_prefetch, emit_splat, emit_store

UNROLL = 4  # values of k per loop turn: they share its counting, its branch and its prefetch
WIDTHS = (1, 2)  # registers per tile row: 6 x 16 for AVX2 is the shape of BLIS on Zen; one where the panels end
INT64, INT32, BOOL = ir.IntType(64), ir.IntType(32), ir.IntType(1)


class Tile:
    """Emits a tile of any number of rows; `values` are its arguments by name, arrays as pointers."""

    def __init__(self, builder: ir.IRBuilder, vector: Vector, values: dict[str, Any]) -> None:
        self.builder, self.vector, self.values = builder, vector, values
        self.lanes = vector.lanes

    def at(self, name: str, index: Any) -> Any:
        """Emit the address of entry `index` of an array."""
        return self.builder.gep(self.values[name], [index])

    def plus(self, x: Any, n: int) -> Any:
        """Emit x + n."""
        return self.builder.add(x, INT64(n)) if n else x

    def offset(self, pointer: Any) -> Any:
        """Emit the load of a 32-bit table entry, widened to an address offset."""
        return self.builder.sext(self.builder.load(pointer), INT64)

    def load(self, pointer: Any) -> Any:
        """Emit the load of one vector."""
        return emit_load(self.builder, self.vector, pointer)

    def product(self, rows: int, vectors: int) -> None:
        """Emit a tile: start values, the loop over k, the stores."""
        builder, values, i = self.builder, self.values, self.values["i"]
        c_starts = [builder.add(self.offset(self.at("c_row", self.plus(i, m))), values["c0"]) for m in range(rows)]
        c_pointers = [self.at("c", self.plus(start, j * self.lanes)) for start in c_starts for j in range(vectors)]
        # A caller that prefetches works on more than the caches hold: C is fetched too, while the sums are computed.
        with builder.if_then(builder.icmp_signed("!=", values["distance"], INT64(0))):
            for pointer in c_pointers[::vectors]:
                emit_prefetch(builder, pointer, writes=True)
        sums = self._sums(rows, vectors, self._start(rows, vectors, c_pointers))
        clamp_min = emit_splat(builder, self.vector, values["clamp_min"])
        for total, pointer in zip(sums, c_pointers, strict=True):
            emit_store(builder, self.vector, emit_maximum(builder, clamp_min, total), pointer)

    def sums(self, rows: int, vectors: int) -> list[Any]:
        """Emit a tile without stores, that begins at the bias, and return its accumulators row by row."""
        return self._sums(rows, vectors, self._bias(vectors) * rows)

    def _bias(self, vectors: int) -> list[Any]:
        c0 = self.values["c0"]
        return [self.load(self.at("start", self.plus(c0, j * self.lanes))) for j in range(vectors)]

    def _start(self, rows: int, vectors: int, c_pointers: list[Any]) -> list[Any]:
        """Emit where the sums begin: the bias, or what an earlier band has left in C."""
        builder = self.builder
        fresh, again, join = (builder.append_basic_block(f"tile.{name}") for name in ("fresh", "again", "join"))
        builder.cbranch(self.values["accumulate"], again, fresh)
        builder.position_at_end(fresh)
        bias = self._bias(vectors) * rows
        builder.branch(join)
        builder.position_at_end(again)
        partial = [self.load(pointer) for pointer in c_pointers]
        builder.branch(join)
        builder.position_at_end(join)
        return [self._phi(x, fresh, y, again) for x, y in zip(bias, partial, strict=True)]

    def _phi(self, x: Any, from_x: Any, y: Any, from_y: Any) -> Any:
        phi = self.builder.phi(x.type)
        phi.add_incoming(x, from_x)
        phi.add_incoming(y, from_y)
        return phi

    def _sums(self, rows: int, vectors: int, sums: list[Any]) -> list[Any]:
        """Emit the loops over k: several values a turn, then the rest."""
        i, k, b = self.values["i"], self.values["k0"], self.values["b"]
        a_pointers = [self.at("a", self.offset(self.at("a_row", self.plus(i, m)))) for m in range(rows)]
        for steps in (UNROLL, 1):
            sums, k, b = self._loop(steps, sums, k, b, a_pointers, vectors)
        return sums

    def _prefetch(self, k: Any) -> None:
        """Emit the prefetch of what lies `distance` bytes further for each k, if the tile has such an argument."""
        if "distance" in self.values:
            passed = self.builder.mul(self.builder.sub(k, self.values["k0"]), self.values["distance"])
            emit_prefetch(self.builder, self.builder.gep(self.values["next"], [passed]))

    def _loop(
        self, steps: int, sums: list[Any], k: Any, b: Any, a_pointers: list[Any], vectors: int
    ) -> tuple[list[Any], Any, Any]:
        """Emit `while k + steps <= k1:` with `steps` values of k in its body; return the variables after it."""
        builder = self.builder
        before = builder.block
        test, body, after = (builder.append_basic_block(f"tile.{name}") for name in ("test", "body", "after"))
        builder.branch(test)
        builder.position_at_end(test)
        variables = [k, b, *sums]
        phis = [builder.phi(x.type) for x in variables]
        builder.cbranch(builder.icmp_signed("<=", self.plus(phis[0], steps), self.values["k1"]), body, after)
        builder.position_at_end(body)
        width = vectors * self.lanes
        new = phis[2:]
        if steps > 1:
            self._prefetch(phis[0])
        for u in range(steps):
            offset = self.offset(self.at("a_col", self.plus(phis[0], u)))
            right = [self.load(builder.gep(phis[1], [INT64(u * width + j * self.lanes)])) for j in range(vectors)]
            left = (
                emit_splat(builder, self.vector, builder.load(builder.gep(pointer, [offset]))) for pointer in a_pointers
            )
            factors = ((x, y) for x in left for y in right)
            new = [
                emit_call(builder, self.vector, "fmuladd", [x, y, total])
                for (x, y), total in zip(factors, new, strict=True)
            ]
        next_b = builder.gep(phis[1], [INT64(steps * width)])
        for phi, first, later in zip(phis, variables, [self.plus(phis[0], steps), next_b, *new], strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(later, builder.block)
        builder.branch(test)
        builder.position_at_end(after)
        return phis[2:], phis[0], phis[1]


def panel_type(vector: Vector) -> tuple[ir.FunctionType, list[str]]:
    """Return the type of the function that `emit_panel` emits, and the names of its arguments."""
    numbers, table = vector.ir.element.as_pointer(), INT32.as_pointer()
    arguments = {
        "a": numbers, "a_row": table, "i0": INT64, "i1": INT64, "a_col": table, "k0": INT64, "k1": INT64,
        "b": numbers, "c": numbers, "c_row": table, "c0": INT64, "vectors": INT64, "start": numbers,
        "accumulate": BOOL, "clamp_min": vector.ir.element, "prefetched": numbers, "distance": INT64,
    }  # fmt: skip
    return ir.FunctionType(ir.VoidType(), arguments.values()), list(arguments)


def emit_panel(module: ir.Module, name: str, vector: Vector) -> None:
    """Emit the function C[i0:i1, c0:c0+width] = max(clamp_min, s + A · B) for one panel of B, which begins at `b`.

    `s` is `start[c0:]` or, with `accumulate`, what C holds. The tiles are of nearly equal height: short ones are bound
    by the latency of a multiply-add. Each tile also prefetches, from where the one before it stopped in `prefetched`,
    `distance` bytes for each k.
    """
    function_type, names = panel_type(vector)
    function = ir.Function(module, function_type, name)
    values = dict(zip(names, function.args, strict=True))
    builder = ir.IRBuilder(function.append_basic_block())
    narrow = builder.icmp_signed("==", values["vectors"], INT64(1))
    most = builder.select(narrow, *(INT64(vector_set().tile_rows(vectors)) for vectors in WIDTHS))
    height = builder.sub(values["i1"], values["i0"])
    of_a_tile = builder.mul(builder.sub(values["k1"], values["k0"]), values["distance"])
    prefetched = builder.bitcast(values["prefetched"], ir.IntType(8).as_pointer())
    tiles = builder.sdiv(builder.sub(builder.add(height, most), INT64(1)), most)
    low = builder.sdiv(height, builder.select(builder.icmp_signed(">", tiles, INT64(0)), tiles, INT64(1)))
    higher = builder.sub(height, builder.mul(low, tiles))  # so many tiles are one row higher
    with cgutils.for_range(builder, tiles) as loop:
        is_higher = builder.icmp_signed("<", loop.index, higher)
        before = builder.select(is_higher, loop.index, higher)
        values["next"] = builder.gep(prefetched, [builder.mul(loop.index, of_a_tile)])
        values["i"] = builder.add(values["i0"], builder.add(builder.mul(loop.index, low), before))
        _emit_tile(Tile(builder, vector, values), builder.add(low, builder.zext(is_higher, INT64)))
    builder.ret_void()


def _emit_tile(tile: Tile, rows: Any) -> None:
    """Emit the choice among the tiles of all heights and widths."""
    builder = tile.builder
    done = builder.append_basic_block("tile.done")
    choice = builder.switch(builder.add(builder.mul(tile.values["vectors"], INT64(MAX_ROWS + 1)), rows), done)
    for vectors in WIDTHS:
        for count in range(1, vector_set().tile_rows(vectors) + 1):
            block = builder.append_basic_block(f"tile.{count}x{vectors}")
            choice.add_case(INT64(vectors * (MAX_ROWS + 1) + count), block)
            builder.position_at_end(block)
            tile.product(count, vectors)
            builder.branch(done)
    builder.position_at_end(done)


@intrinsic(prefer_literal=True)
def tile_sums(
    typingctx: Any, vectors: Any, rows: Any, a: Any, i: Any, b: Any, b0: Any, start: Any, c0: Any
) -> Any:  # fmt: skip
    """Return the registers of a tile, row by row: start[c0 + n] + Σ_k A[i + m, k] · b[b0 + k·width + n], `a` a Matrix.

    For sums that are worked on before they are stored; `vectors` and `rows` are literals.
    """
    if not (isinstance(vectors, types.IntegerLiteral) and isinstance(rows, types.IntegerLiteral)):
        return None
    height, width = rows.literal_value, vectors.literal_value
    size = types.int64
    vector = Vector(a[0].dtype)
    signature = types.UniTuple(vector, height * width)(vectors, rows, a, size, b, size, start, size)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        given = by_name(context, builder, "vectors rows a i b b0 start c0", signature, arguments)
        values = {name: given[name] for name in ("i", "start", "c0")} | {
            "a": given["a.data"], "a_row": given["a.rows"], "a_col": given["a.columns"],
            "b": builder.gep(given["b"], [given["b0"]]), "k0": INT64(0), "k1": given["a.columns.size"],
        }  # fmt: skip
        return context.make_tuple(builder, signature.return_type, Tile(builder, vector, values).sums(height, width))

    return signature, codegen


def by_name(context: Any, builder: ir.IRBuilder, names: str, signature: Any, arguments: Any) -> dict[str, Any]:
    """Return an intrinsic's arguments by their names, arrays as the addresses of their numbers.

    The field f of a record r is called "r.f", the size of an array a "a.size".
    """
    found: dict[str, Any] = {}

    def add(name: str, kind: types.Type, value: Any) -> None:
        if isinstance(kind, types.Array):
            array = context.make_array(kind)(context, builder, value)
            found[name], found[f"{name}.size"] = array.data, array.nitems
        elif isinstance(kind, types.BaseNamedTuple):
            for k, (field, field_kind) in enumerate(zip(kind.fields, kind.types, strict=True)):
                add(f"{name}.{field}", field_kind, builder.extract_value(value, k))
        else:
            found[name] = value

    for name, kind, value in zip(names.split(), signature.args, arguments, strict=True):
        add(name, kind, value)
    return found
