"""The micro-kernels of gradients that are zero nearly everywhere, emitted as LLVM vector instructions.

Behind a max-pooling 2 x 2, the gradient of one filter is an entry for each window: a number, and the place in memory
where what the winning pixel sees begins. Vector k of that lies at `place + col[k]`. A filter gradient sums what the
entries see, each with its number as a factor; an input gradient lays the filter there, with the same factor. What is
the same for all entries stays in registers.

Nothing here depends on the numbers by a branch, which nobody could foretell, and no index may be negative: in Numba's
loops, that would take most of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .blocking import WINDOW
from .simd import INT64, pointers
from .vector import Vector, emit_call, emit_load, emit_splat, emit_store

Named = dict[str, Any]
Body = Callable[[Any, list[Any]], list[Any]]  # (number of the turn, variables) -> variables


def _emit_loop(builder: ir.IRBuilder, begin: Any, end: Any, variables: Sequence[Any], body: Body) -> list[Any]:
    """Emit the loop over numbers from `begin` to `end`; return its variables as they are after it."""
    before = builder.block
    test, turn, after = (builder.append_basic_block(f"loop.{name}") for name in ("test", "turn", "after"))
    builder.branch(test)
    builder.position_at_end(test)
    starts = [begin, *variables]
    i, *phis = (builder.phi(start.type) for start in starts)
    builder.cbranch(builder.icmp_signed("<", i, end), turn, after)
    builder.position_at_end(turn)
    for phi, start, later in zip([i, *phis], starts, [builder.add(i, INT64(1)), *body(i, phis)], strict=True):
        phi.add_incoming(start, before)
        phi.add_incoming(later, turn)
    builder.branch(test)
    builder.position_at_end(after)
    return phis


def _emit_offset(builder: ir.IRBuilder, table: Any, index: Any) -> Any:
    """Emit the load of an offset from a table."""
    return builder.sext(builder.load(builder.gep(table, [index])), INT64)


def _emit_entry(builder: ir.IRBuilder, values: Named, p: Any) -> tuple[Any, Any, Any]:
    """Emit what filter f has in window p: its number (0 in a dead unit), the place from `row`, whether it is alive."""
    bits = builder.load(builder.gep(values["winners"], [builder.add(builder.mul(p, values["N"]), values["f"])]))
    winner = builder.sub(builder.lshr(bits, bits.type(1)), builder.lshr(bits, bits.type(3)))  # 1, 2, 4, 8: 0, 1, 2, 3
    pixel = builder.add(builder.mul(p, INT64(4)), builder.zext(winner, INT64))
    place = builder.load(builder.gep(values["row"], [pixel]))
    column = builder.add(_emit_offset(builder, values["dy_row"], p), values["f"])
    number = builder.load(builder.gep(values["dy"], [column]))
    alive = builder.icmp_unsigned("!=", bits, bits.type(0))
    word = ir.IntType(32 if isinstance(number.type, ir.FloatType) else 64)
    kept = builder.and_(builder.bitcast(number, word), builder.sext(alive, word))
    return builder.bitcast(kept, number.type), place, alive


class _Windows:
    """Emits what happens to `count` vectors of the windows of all entries."""

    def __init__(self, builder: ir.IRBuilder, vector: Vector, values: Named, count: int) -> None:
        self.builder, self.vector, self.values = builder, vector, values
        self.columns = [_emit_offset(builder, values["col"], builder.add(values["k"], INT64(j))) for j in range(count)]
        first = builder.gep(values["w"], [values["b"]])
        self.numbers = [builder.gep(first, [INT64(j * vector.lanes)]) for j in range(count)]

    def gather(self) -> None:
        """Emit w[j] += Σ_i value[i] · x[place[i] + col[j]]."""
        self._store(_emit_loop(self.builder, INT64(0), self.values["n"], self._load(), self._add_listed))

    def gather_found(self) -> Any:
        """Emit the same for entries that are found on the way, and return the sum of their numbers."""
        builder, values = self.builder, self.values

        def add(p: Any, variables: list[Any]) -> list[Any]:
            number, place, _ = _emit_entry(builder, values, p)
            total, *sums = variables
            return [builder.fadd(total, number), *self._add(number, place, sums)]

        zero = values["dy"].type.pointee(0.0)
        total, *sums = _emit_loop(builder, values["p"], values["p1"], [zero, *self._load()], add)
        self._store(sums)
        return total

    def scatter(self) -> None:
        """Emit x[place[i] + col[j]] += value[i] · w[j], entry by entry."""
        filters = self._load()

        def lay(i: Any, _: list[Any]) -> list[Any]:
            factor, targets = self._windows(*self._listed(i))
            for weights, target in zip(filters, targets, strict=True):
                emit_store(self.builder, self.vector, self._fma(factor, weights, self._at(target)), target)
            return []

        _emit_loop(self.builder, INT64(0), self.values["n"], [], lay)

    def _add_listed(self, i: Any, sums: list[Any]) -> list[Any]:
        return self._add(*self._listed(i), sums)

    def _add(self, number: Any, place: Any, sums: list[Any]) -> list[Any]:
        """Emit sums + number · what is seen at the place."""
        factor, windows = self._windows(number, place)
        return [self._fma(factor, self._at(window), total) for window, total in zip(windows, sums, strict=True)]

    def _listed(self, i: Any) -> tuple[Any, Any]:
        """Emit the load of an entry: its number, its place."""
        return tuple(self.builder.load(self.builder.gep(self.values[name], [i])) for name in ("value", "place"))

    def _windows(self, number: Any, place: Any) -> tuple[Any, list[Any]]:
        """Emit the factor in all lanes, and the addresses of a window's vectors."""
        begin = self.builder.gep(self.values["x"], [self.builder.sext(place, INT64)])
        return emit_splat(self.builder, self.vector, number), [self.builder.gep(begin, [c]) for c in self.columns]

    def _fma(self, x: Any, y: Any, z: Any) -> Any:
        return emit_call(self.builder, self.vector, "fmuladd", [x, y, z])

    def _at(self, pointer: Any) -> Any:
        return emit_load(self.builder, self.vector, pointer)

    def _load(self) -> list[Any]:
        return [self._at(pointer) for pointer in self.numbers]

    def _store(self, values: list[Any]) -> None:
        for value, pointer in zip(values, self.numbers, strict=True):
            emit_store(self.builder, self.vector, value, pointer)


def _values(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any, names: str) -> Named:
    """Return the arguments of an intrinsic by their names."""
    return pointers(
        context, builder, dict(zip(names.split(), zip(signature.args, arguments, strict=True), strict=True))
    )


def _emit_choice(builder: ir.IRBuilder, x: types.Array, values: Named, emit: Callable[[_Windows], Any]) -> list[Any]:
    """Emit the choice among the loops for all numbers of vectors; return a variable for each result of `emit`."""
    done = builder.append_basic_block("windows.done")
    choice, before = builder.switch(values["count"], done), builder.block
    results = []
    for count in range(1, WINDOW + 1):
        block = builder.append_basic_block(f"windows.{count}")
        choice.add_case(INT64(count), block)
        builder.position_at_end(block)
        results.append((emit(_Windows(builder, Vector(x.dtype), values, count)), builder.block))
        builder.branch(done)
    builder.position_at_end(done)
    if results[0][0] is None:
        return []
    phi = builder.phi(results[0][0].type)
    phi.add_incoming(phi.type(0.0), before)
    for value, block in results:
        phi.add_incoming(value, block)
    return [phi]


def _on_listed(emit: Callable[[_Windows], None], doc: str) -> Any:
    """Return the intrinsic (count, x, col, k, place, value, n, w, b) that goes through `n` listed entries."""

    def typed(
        typingctx: Any, count: Any, x: Any, col: Any, k: Any, place: Any, value: Any, n: Any, w: Any, b: Any
    ) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            values = _values(context, builder, signature, arguments, "count x col k place value n w b")
            _emit_choice(builder, x, values, emit)
            return context.get_dummy_value()

        size = types.int64
        return types.void(size, x, col, size, place, value, size, w, size), codegen

    typed.__doc__ = doc
    return intrinsic(typed)


gather_windows = _on_listed(
    _Windows.gather,
    "w[b + j·lanes] += Σ_i value[i] · x[place[i] + col[k + j]] for i < n, j < count <= WINDOW, vectors all.",
)
scatter_windows = _on_listed(
    _Windows.scatter,
    "x[place[i] + col[k + j]] += value[i] · w[b + j·lanes] for i < n, j < count <= WINDOW, vectors all.",
)


@intrinsic
def gather_entries(
    typingctx: Any, count: Any, x: Any, col: Any, k: Any, dy: Any, dy_row: Any, winners: Any, p: Any, p1: Any, N: Any,
    f: Any, row: Any, w: Any, b: Any,
) -> Any:  # fmt: skip
    """Do what `list_entries` and `gather_windows` do, without a list; return the sum of the entries' numbers."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        names = "count x col k dy dy_row winners p p1 N f row w b"
        values = _values(context, builder, signature, arguments, names)
        return _emit_choice(builder, x, values, _Windows.gather_found)[0]

    size = types.int64
    return dy.dtype(size, x, col, size, dy, dy_row, winners, size, size, size, size, row, w, size), codegen


@intrinsic
def list_entries(
    typingctx: Any,
    dy: Any,
    dy_row: Any,
    winners: Any,
    p: Any,
    p1: Any,
    N: Any,
    f: Any,
    row: Any,
    place: Any,
    value: Any,
) -> Any:
    """List what filter f has in the pooled pixels p to p1, but dead units; return how many entries, and their sum.

    `row` holds where the windows of the four pixels of each begin; bit 1, 2, 4 or 8 of `winners` says which one won.
    """
    size = types.int64
    result = types.Tuple((size, dy.dtype))

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        values = _values(context, builder, signature, arguments, "dy dy_row winners p p1 N f row place value")

        def append(p: Any, variables: list[Any]) -> list[Any]:
            n, total = variables
            number, begin, alive = _emit_entry(builder, values, p)
            builder.store(begin, builder.gep(values["place"], [n]))  # the next entry replaces one that is dead
            builder.store(number, builder.gep(values["value"], [n]))
            return [builder.add(n, builder.zext(alive, INT64)), builder.fadd(total, number)]

        zero = values["value"].type.pointee(0.0)
        variables = _emit_loop(builder, values["p"], values["p1"], [INT64(0), zero], append)
        return context.make_tuple(builder, result, variables)

    return result(dy, dy_row, winners, size, size, size, size, row, place, value), codegen
