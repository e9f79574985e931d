"""The micro-kernel of gradients that are zero nearly everywhere, emitted as LLVM vector instructions.

Behind a max-pooling 2 x 2, the gradient of one filter is an entry for each window: a number, and a place in memory
where there is something for it to be multiplied with. Entries form groups; what a group sums up stays in registers.

Nothing here depends on the numbers by a branch, which could not be predicted, and no index may be negative: in Numba's
loops, that would take most of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .blocking import WINDOW
from .gemm_tile import INT64, by_name
from .vector import Vector, emit_call, emit_load, emit_splat, emit_store

Body = Callable[[Any, list[Any]], list[Any]]  # (number of the turn, variables) -> variables


def emit_while(
    builder: ir.IRBuilder,
    variables: Sequence[Any],
    holds: Callable[[list[Any]], Any],
    body: Callable[[list[Any]], list[Any]],
) -> list[Any]:
    """Emit a loop that goes on while something holds of its variables; return them as they are after it."""
    before = builder.block
    test, turn, after = (builder.append_basic_block(f"loop.{name}") for name in ("test", "turn", "after"))
    builder.branch(test)
    builder.position_at_end(test)
    phis = [builder.phi(variable.type) for variable in variables]
    builder.cbranch(holds(phis), turn, after)
    builder.position_at_end(turn)
    for phi, variable, following in zip(phis, variables, body(phis), strict=True):
        phi.add_incoming(variable, before)
        phi.add_incoming(following, builder.block)
    builder.branch(test)
    builder.position_at_end(after)
    return phis


def _emit_loop(
    builder: ir.IRBuilder, begin: Any, end: Any, step: Any, variables: Sequence[Any], body: Body
) -> list[Any]:
    """Emit the loop over every `step`-th number from `begin` to `end`; return its variables as they are after it."""
    _, *after = emit_while(
        builder,
        [begin, *variables],
        lambda phis: builder.icmp_signed("<", phis[0], end),
        lambda phis: [builder.add(phis[0], step), *body(phis[0], phis[1:])],
    )
    return after


class _Windows:
    """Emits `gather_windows` for `count` vectors of the windows."""

    def __init__(self, builder: ir.IRBuilder, vector: Vector, values: dict[str, Any], count: int) -> None:
        self.builder, self.vector, self.values = builder, vector, values
        self.numbers = [builder.add(values["k"], INT64(j)) for j in range(count)]
        self.columns = [self._offset("x.columns", k) for k in self.numbers]

    def emit(self) -> None:
        """Emit the loop over all groups."""
        _emit_loop(self.builder, INT64(0), self.values["groups"], INT64(1), [], self._group)

    def _group(self, g: Any, _: list[Any]) -> list[Any]:
        zeros = [ir.Constant(self.vector.ir, None) for _ in self.numbers]
        begin, end = (self._offset(table, g) for table in ("entries.begin", "entries.end"))
        sums = _emit_loop(self.builder, begin, end, self.values["step"], zeros, self._entry)
        first = self.builder.gep(self.values["w.data"], [self._offset("w.rows", self.builder.add(self.values["r"], g))])
        for k, total in zip(self.numbers, sums, strict=True):
            target = self.builder.gep(first, [self._offset("w.columns", k)])
            emit_store(self.builder, self.vector, self.builder.fadd(self._at(target), total), target)
        return []

    def _entry(self, i: Any, sums: list[Any]) -> list[Any]:
        begin = self.builder.gep(self.values["x.data"], [self._offset("entries.place", i)])
        number = self.builder.load(self.builder.gep(self.values["entries.value"], [i]))
        factor = emit_splat(self.builder, self.vector, number)
        windows = [self._at(self.builder.gep(begin, [column])) for column in self.columns]
        return [
            emit_call(self.builder, self.vector, "fmuladd", [factor, window, total])
            for window, total in zip(windows, sums, strict=True)
        ]

    def _offset(self, table: str, index: Any) -> Any:
        return self.builder.sext(self.builder.load(self.builder.gep(self.values[table], [index])), INT64)

    def _at(self, pointer: Any) -> Any:
        return emit_load(self.builder, self.vector, pointer)


@intrinsic
def gather_windows(
    typingctx: Any, count: Any, k: Any, x: Any, entries: Any, step: Any, groups: Any, w: Any, r: Any
) -> Any:  # fmt: skip
    """w[r + g, k + j] += Σ_i value[i] · x.data[place[i] + x.columns[k + j]] for g < groups, j < count <= WINDOW.

    Of group g is every `step`-th entry i from begin[g] to end[g]. `w` is read as a Matrix; all terms are vectors.
    """

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        values = by_name(context, builder, "count k x entries step groups w r", signature, arguments)
        done = builder.append_basic_block("windows.done")
        choice = builder.switch(values["count"], done)
        for number in range(1, WINDOW + 1):
            block = builder.append_basic_block(f"windows.{number}")
            choice.add_case(INT64(number), block)
            builder.position_at_end(block)
            _Windows(builder, Vector(x[0].dtype), values, number).emit()
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    size = types.int64
    return types.void(size, size, x, entries, size, size, w, size), codegen


@intrinsic
def list_entries(typingctx: Any, entries: Any, i: Any, end: Any, step: Any, n: Any) -> Any:
    """Copy each `step`-th entry from `i` to `end` whose number is not 0 to entries n, n + 1, ...; return the next n."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        values = by_name(context, builder, "entries i end step n", signature, arguments)

        def copy(name: str, i: Any, n: Any) -> Any:
            entry = builder.load(builder.gep(values[name], [i]))
            builder.store(entry, builder.gep(values[name], [n]))
            return entry

        def append(i: Any, variables: list[Any]) -> list[Any]:
            (n,) = variables
            copy("entries.place", i, n)
            number = copy("entries.value", i, n)  # the next entry replaces a 0
            counts = builder.fcmp_unordered("!=", number, number.type(0.0))
            return [builder.add(n, builder.zext(counts, INT64))]

        return _emit_loop(builder, values["i"], values["end"], values["step"], [values["n"]], append)[0]

    size = types.int64
    return size(entries, size, size, size, size), codegen
