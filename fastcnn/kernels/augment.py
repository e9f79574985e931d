"""Augmentation: changed copies of images, each by its own row of numbers.

Shape legend: x, y flat (n, C, H, W); `scale` brings x to [0, 1] if it holds bytes. `mode` says what lies beyond the
edge: 0 the value `fill`, 1 the nearest pixel, 2 the mirror image without the edge's own pixel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..jit.source import kernel


@kernel
def _place(i, size, mode):
    """Return the pixel at place `i` of a line of `size` pixels, -1 for none."""
    if 0 <= i < size:
        return i
    if mode == 0:
        return -1
    if mode == 1 or size == 1:
        return 0 if i < 0 else size - 1
    period = 2 * (size - 1)
    i = i % period
    return i if i < size else period - i


@intrinsic
def _scaled(typingctx: Any, value: Any, scale: Any) -> Any:
    """Return scale · value, of the dtype of `scale`; where that is whole, nothing is scaled."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        number = context.cast(builder, arguments[0], value, scale)
        return builder.fmul(arguments[1], number) if isinstance(scale, types.Float) else number

    return scale(value, scale), codegen


@kernel
def move(x, n, C, H, W, scale, moves, mode, fill, y):
    """y = x flipped, then shifted: `moves` (n, 4) of flip rows, flip columns, down, right.

    A row is what is in the image, in one piece, and what comes in from beyond its edges.
    """
    for i in range(n):
        upset, mirrored, down, right = moves[i, 0], moves[i, 1], moves[i, 2], moves[i, 3]
        begin = min(max(0, right), W)  # of the columns whose pixels are in the image
        end = max(min(W, W + right), begin)
        for row in range(i * C * H, (i + 1) * C * H):
            h = row % H
            target = row * W
            k = _place(h - down, H, mode)
            if k < 0:
                for w in range(W):
                    y[target + w] = fill
                continue
            source = (row - h + (H - 1 - k if upset else k)) * W
            last = source + W - 1
            if mirrored:  # unsigned: no place counts from an array's end, and the loop is one of vectors
                for w in range(begin, end):
                    y[np.uint64(target + w)] = _scaled(x[np.uint64(last + right - w)], scale)
            else:
                for w in range(begin, end):
                    y[np.uint64(target + w)] = _scaled(x[np.uint64(source - right + w)], scale)
            for beyond in range(W - end + begin):
                w = beyond if beyond < begin else beyond - begin + end
                k = _place(w - right, W, mode)
                y[target + w] = _scaled(x[last - k if mirrored else source + k], scale) if k >= 0 else fill


@kernel
def turn(x, n, C, H, W, scale, moves, matrix, mode, fill, y):
    """As `move`, between flip and shift turned and scaled about the middle: `matrix` (n, 4) leads back; bilinear."""
    middle_h, middle_w = (H - 1) / 2, (W - 1) / 2
    for i in range(n):
        upset, mirrored, down, right = moves[i, 0], moves[i, 1], moves[i, 2], moves[i, 3]
        m0, m1, m2, m3 = matrix[i, 0], matrix[i, 1], matrix[i, 2], matrix[i, 3]
        below, beside = -W if upset else W, -1 if mirrored else 1
        for h in range(H):
            u = h - down - middle_h
            for w in range(W):
                v = w - right - middle_w
                row, col = middle_h + m0 * u + m1 * v, middle_w + m2 * u + m3 * v
                top, left = int(np.floor(row)), int(np.floor(col))
                row -= top
                col -= left
                if 0 <= top < H - 1 and 0 <= left < W - 1:  # nearly everywhere: all four pixels are there
                    first = (H - 1 - top if upset else top) * W + (W - 1 - left if mirrored else left)
                    for c in range(C):
                        k = (i * C + c) * H * W + first
                        upper = (1.0 - col) * x[k] + col * x[k + beside]
                        lower = (1.0 - col) * x[k + below] + col * x[k + below + beside]
                        y[((i * C + c) * H + h) * W + w] = scale * ((1.0 - row) * upper + row * lower)
                    continue
                for c in range(C):
                    total = 0.0
                    for corner in range(4):
                        a, b = corner >> 1, corner & 1
                        weight = (row if a else 1.0 - row) * (col if b else 1.0 - col)
                        k, m = _place(top + a, H, mode), _place(left + b, W, mode)
                        if k < 0 or m < 0:
                            total += weight * fill
                        else:
                            k, m = H - 1 - k if upset else k, W - 1 - m if mirrored else m
                            total += weight * (x[((i * C + c) * H + k) * W + m] * scale)
                    y[((i * C + c) * H + h) * W + w] = total


@kernel
def adjust(y, n, size, light):
    """y = mean + contrast · (y - mean) + brightness, in place: `light` (n, 2) of contrast and brightness."""
    for i in range(n):
        total = 0.0
        for k in range(i * size, (i + 1) * size):
            total += y[k]
        factor = y.dtype.type(light[i, 0])
        term = y.dtype.type((1.0 - light[i, 0]) * (total / size) + light[i, 1])
        for k in range(i * size, (i + 1) * size):
            y[k] = factor * y[k] + term


@kernel
def cut(y, n, C, H, W, middles, side, fill):
    """y = fill in the square about `middles` (n, 2), in place; what lies beyond the edge is not there."""
    for i in range(n):
        top, left = middles[i, 0] - side // 2, middles[i, 1] - side // 2
        for c in range(C):
            for h in range(max(0, top), min(H, top + side)):
                for w in range(max(0, left), min(W, left + side)):
                    y[((i * C + c) * H + h) * W + w] = fill
