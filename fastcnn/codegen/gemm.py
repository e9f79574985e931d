"""The micro-kernel as a function of its own: compiled once for each dtype, and called by its name from all products.

Numba would compile it into each kernel that calls it, and these into those that call them: it is by far the largest.
"""

from __future__ import annotations

from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..jit.kernel import find, keep
from ..jit.target import processors
from .gemm_tile import emit_panel, panel_type, pointers
from .vector import Vector


def ready(dtype: types.Float) -> str:
    """See to it that machine code can call the micro-kernel for `dtype`, and return its name."""
    name = f"fastcnn_panel_{dtype}"
    if not find(name):
        module = ir.Module()
        module.triple = binding.get_process_triple()
        emit_panel(module, name, Vector(dtype))
        processor = processors()[0]
        machine = binding.Target.from_default_triple().create_target_machine(
            cpu=processor.name, features=processor.features, opt=3, jit=True
        )
        parsed = binding.parse_assembly(str(module))
        builder = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(speed_level=1))
        builder.getModulePassManager().run(parsed, builder)  # tiles of one vector gain a tenth by it
        keep(name, machine.emit_object(parsed))
    return name


@intrinsic
def panel_product(
    typingctx: Any,
    a: Any,
    a_row: Any,
    i0: Any,
    i1: Any,
    a_col: Any,
    k0: Any,
    k1: Any,
    b: Any,
    b0: Any,
    c: Any,
    c_row: Any,
    c0: Any,
    vectors: Any,
    start: Any,
    accumulate: Any,
    clamp_min: Any,
    prefetched: Any,
    p0: Any,
    distance: Any,
) -> Any:
    """C[i0:i1, c0:c0+width] = max(clamp_min, s + Σ_k a[a_row[i] + a_col[k]] · b[b0 + (k-k0)·width + n]), k0 <= k < k1.

    `s` is `start[c0 + n]` or, with `accumulate`, what C holds; row i of C begins at `c[c_row[i]]`, and width is
    `vectors` · lanes. Each tile also prefetches from `prefetched[p0]` on, `distance` bytes for each k.
    """
    size = types.int64
    signature = types.void(
        a, a_row, size, size, a_col, size, size, b, size, c, c_row, size, size, start, types.boolean, a.dtype,
        prefetched, size, size,
    )  # fmt: skip
    names = (
        "a", "a_row", "i0", "i1", "a_col", "k0", "k1", "b", "b0", "c", "c_row", "c0", "vectors", "start",
        "accumulate", "clamp_min", "prefetched", "p0", "distance",
    )  # fmt: skip

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        values = pointers(context, builder, dict(zip(names, zip(signature.args, arguments, strict=True), strict=True)))
        for array, begin in (("b", "b0"), ("prefetched", "p0")):
            values[array] = builder.gep(values[array], [values[begin]])
        function_type, wanted = panel_type(Vector(a.dtype))
        function = cgutils.get_or_insert_function(builder.module, function_type, ready(a.dtype))
        builder.call(function, [values[name] for name in wanted])
        return context.get_dummy_value()

    return signature, codegen
