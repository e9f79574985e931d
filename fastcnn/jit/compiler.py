"""Numba at work: a kernel's Python source and the kinds of its arguments in, an object file out.

Only what is not on disk yet comes here, see `kernel.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.compiler import Flags, compile_extra
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import CPUDispatcher, cpu_target
from numba.np.numpy_support import from_dtype

from .cache import ObjectFile
from .native import WORD, WORDS
from .signature import ALIGNED, C_ORDER, FORTRAN_ORDER, WRITABLE, Kind, RecordKind

# Kernels allocate nothing, so there is nothing to count references to; division by zero follows IEEE 754. Products and
# sums are fused where the source says `fma`, and nowhere else: LLVM would choose by the width of the registers, and so
# would the bits.
OPTIONS = {"nopython": True, "_nrt": False, "error_model": "numpy", "fastmath": False}


def compile_kernel(source: CPUDispatcher, kinds: Sequence[Kind]) -> ObjectFile:
    """Compile a kernel for such arguments."""
    arguments = tuple(_type(kind) for kind in kinds)
    names = list(inspect.signature(source.py_func).parameters)
    if len(names) != len(arguments):
        raise TypeError(f"{source.py_func.__name__}: expected {len(names)} arguments {names}; got {len(arguments)}")
    flags = Flags()
    cpu_target.options.parse_as_flags(flags, OPTIONS | {"no_cfunc_wrapper": True})
    with global_compiler_lock:
        target = cpu_target.target_context.subtarget(create_cpython_wrapper=_add_entry)
        result = compile_extra(
            cpu_target.typing_context, target, source.py_func, arguments, types.none, flags, locals={}
        )
    library = result.library
    needs = [function.name for function in library._final_module.functions if function.is_declaration]
    return ObjectFile(
        result.fndesc.llvm_cpython_wrapper_name,
        [name for name in needs if not name.startswith("llvm.")],
        library._get_compiled_object(),
    )


def _type(kind: Kind) -> types.Type:
    """Return Numba's type of an argument."""
    if isinstance(kind, RecordKind):
        return types.BaseTuple.from_types([_type(field) for field in kind.fields], kind.record)
    if isinstance(kind, tuple):
        dtype, ndim, flags = kind
        layout = "C" if flags & C_ORDER else "F" if flags & FORTRAN_ORDER else "A"
        readonly, aligned = not flags & WRITABLE, bool(flags & ALIGNED)
        return types.Array(from_dtype(dtype), ndim, layout, readonly=readonly, aligned=aligned)
    return types.int64 if kind is int else from_dtype(np.dtype(kind))


def _add_entry(library: Any, descriptor: Any, environment: Any, helper: Any, release_gil: bool = False) -> None:
    """Emit a function that takes the kernel's arguments as words, in the place of one that takes Python's objects."""
    module = ir.Module(descriptor.llvm_cpython_wrapper_name)
    convention = cpu_target.target_context.call_conv
    kind = convention.get_function_type(descriptor.restype, descriptor.argtypes)
    target = ir.Function(module, kind, descriptor.llvm_func_name)
    entry = ir.Function(module, ir.FunctionType(ir.VoidType(), [WORDS]), descriptor.llvm_cpython_wrapper_name)
    builder = ir.IRBuilder(entry.append_basic_block())
    # Numba's convention: places for a result and for an exception, then the arguments.
    places = [builder.alloca(argument.pointee) for argument in kind.args[:2]]
    arguments = [
        _from_word(builder, builder.load(builder.gep(entry.args[0], [WORD(i)])), argument)
        for i, argument in enumerate(kind.args[2:])
    ]
    builder.call(target, places + arguments, attrs=("noinline",))
    builder.ret_void()
    library.add_ir_module(module)


def _from_word(builder: ir.IRBuilder, word: Any, kind: ir.Type) -> Any:
    """Emit the argument that is in the low bits of a word."""
    if isinstance(kind, ir.PointerType):
        return builder.inttoptr(word, kind)
    if isinstance(kind, ir.IntType):
        return word if kind == WORD else builder.trunc(word, kind)
    if isinstance(kind, ir.FloatType):
        return builder.bitcast(builder.trunc(word, ir.IntType(32)), kind)
    return builder.bitcast(word, kind)
