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
from .gemm_tile import by_name, emit_panel, panel_type
from .vector import Vector


def ready(dtype: types.Float) -> str:
    """Return the symbol of the micro-kernel for `dtype`, which is compiled if nobody has yet."""
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
    typingctx: Any, a: Any, i0: Any, i1: Any, k0: Any, k1: Any, b: Any, c: Any, c0: Any, post: Any, accumulate: Any,
    prefetch: Any,
) -> Any:  # fmt: skip
    """C[i0:i1, c0:c0+width] = max(clamp_min, s + A[i0:i1, k0:k1] · B) for a Matrix A, a Panel B and the rows C of Maps.

    The first row of B is that of k0. `s` is the biases `post.biases[c0:]` or, with `accumulate`, what C holds. Each
    tile prefetches its share of `prefetch`.
    """
    size = types.int64
    signature = types.void(a, size, size, size, size, b, c, size, post, types.boolean, prefetch)
    vector = Vector(a[0].dtype)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        given = by_name(context, builder, "a i0 i1 k0 k1 b c c0 post accumulate prefetch", signature, arguments)
        values = {name: given[name] for name in ("i0", "i1", "k0", "k1", "c0", "accumulate")} | {
            "a": given["a.data"], "a_row": given["a.rows"], "a_col": given["a.columns"],
            "b": builder.gep(given["b.data"], [given["b.begin"]]), "vectors": given["b.vectors"],
            "c": given["c.data"], "c_row": given["c.rows"],
            "start": given["post.biases"], "clamp_min": given["post.clamp_min"],
            "prefetched": builder.gep(given["prefetch.data"], [given["prefetch.begin"]]),
            "distance": given["prefetch.distance"],
        }  # fmt: skip
        function_type, names = panel_type(vector)
        function = cgutils.get_or_insert_function(builder.module, function_type, ready(vector.dtype))
        builder.call(function, [values[name] for name in names])
        return context.get_dummy_value()

    return signature, codegen
