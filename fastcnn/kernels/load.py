"""A batch as the user has it, written to a network's first value: channels last, with a halo, and scaled."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..codegen.vector import Vector, lanes, splat, store
from ..jit.source import kernel


@intrinsic
def _at(typingctx: Any, like: Any, address: Any, i: Any) -> Any:
    """Return number i, of the dtype of the array `like`, behind a machine address."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        _, base, index = arguments
        pointer = builder.inttoptr(base, context.get_value_type(like.dtype).as_pointer())
        return builder.load(builder.gep(pointer, [index]))

    return like.dtype(like, types.int64, types.int64), codegen


@intrinsic
def _vector_at(typingctx: Any, like: Any, address: Any, i: Any, y: Any) -> Any:
    """Return the numbers from number i on, as a vector of the dtype of `y`."""
    vector = Vector(y.dtype)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        _, base, index, _ = arguments
        kind = context.get_value_type(like.dtype)
        begin = builder.gep(builder.inttoptr(base, kind.as_pointer()), [index])
        size = like.dtype.bitwidth // 8
        numbers = builder.load(builder.bitcast(begin, ir.VectorType(kind, vector.lanes).as_pointer()), align=size)
        if like.dtype == y.dtype:
            return numbers
        if isinstance(like.dtype, types.Integer):
            return builder.uitofp(numbers, vector.ir)
        return builder.fptrunc(numbers, vector.ir) if size > vector.itemsize else builder.fpext(numbers, vector.ir)

    return vector(like, types.int64, types.int64, y), codegen


@kernel
def load(source, like, first, n, C, H, W, target, scale):
    """target (n, H, W, C) = scale · x (N, C, H, W) from image `first` on; x begins at the address source[0].

    `like` has the dtype of x.
    """
    y, begin, image_size, row_size, pitch = target
    base, factor, step = source[0], splat(y, scale), lanes(y)
    for image in range(n):
        for c in range(C):
            for h in range(H):
                i = (((first + image) * C + c) * H + h) * W
                o = begin + image * image_size + h * row_size + c
                done = 0
                if pitch == 1 and step <= W:
                    for w in range(0, W - step, step):
                        store(y, o + w, factor * _vector_at(like, base, i + w, y))
                    store(y, o + W - step, factor * _vector_at(like, base, i + W - step, y))  # some numbers twice
                    done = W
                for w in range(done, W):
                    y[o + w * pitch] = scale * y.dtype.type(_at(like, base, i + w))
