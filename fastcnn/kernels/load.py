"""A batch as the user has it, written to a network's first edge: channels last, with a halo, and scaled."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .compiler import kernel


@intrinsic
def _at(typingctx: Any, like: Any, address: Any, i: Any) -> Any:
    """Return number i, of the dtype of the array `like`, behind a machine address."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        _, base, index = arguments
        pointer = builder.inttoptr(base, context.get_value_type(like.dtype).as_pointer())
        return builder.load(builder.gep(pointer, [index]))

    return like.dtype(like, types.int64, types.int64), codegen


@kernel
def load(source, like, first, n, C, H, W, y, begin, image_size, row_size, pitch, scale):
    """y (n, H, W, C) = scale · x (N, C, H, W) from image `first` on; x begins at the address source[0].

    `like` has the dtype of x. Image, row and pixel of y are `image_size`, `row_size` and `pitch` apart.
    """
    base = source[0]
    for image in range(n):
        for c in range(C):
            for h in range(H):
                i = (((first + image) * C + c) * H + h) * W
                o = begin + image * image_size + h * row_size + c
                for w in range(W):
                    y[o + w * pitch] = scale * y.dtype.type(_at(like, base, i + w))
