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
        flipped, mirrored, down, right = moves[i, 0], moves[i, 1], moves[i, 2], moves[i, 3]
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
            source = (row - h + (H - 1 - k if flipped else k)) * W
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
        flipped, mirrored, down, right = moves[i, 0], moves[i, 1], moves[i, 2], moves[i, 3]
        m0, m1, m2, m3 = matrix[i, 0], matrix[i, 1], matrix[i, 2], matrix[i, 3]
        below, beside = -W if flipped else W, -1 if mirrored else 1
        for h in range(H):
            u = h - down - middle_h
            for w in range(W):
                v = w - right - middle_w
                row, col = middle_h + m0 * u + m1 * v, middle_w + m2 * u + m3 * v
                top, left = int(np.floor(row)), int(np.floor(col))
                row -= top
                col -= left
                if 0 <= top < H - 1 and 0 <= left < W - 1:  # nearly everywhere: all four pixels are there
                    first = (H - 1 - top if flipped else top) * W + (W - 1 - left if mirrored else left)
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
                            k, m = H - 1 - k if flipped else k, W - 1 - m if mirrored else m
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


@kernel
def crop(x, n, C, H, W, scale, crops, y):
    """y = the crops of x, at the size of x: `crops` (n, 4) of top, left, height, width; bilinear.

    Places are those of middles of pixels; a crop's border is that of what is read, as in torchvision.
    """
    for i in range(n):
        top, left, height, width = crops[i, 0], crops[i, 1], crops[i, 2], crops[i, 3]
        for h in range(H):
            row = max((h + 0.5) * height / H - 0.5, 0.0)
            upper = min(int(row), height - 1)
            lower = min(upper + 1, height - 1)
            row -= upper
            for w in range(W):
                col = max((w + 0.5) * width / W - 0.5, 0.0)
                first = min(int(col), width - 1)
                second = min(first + 1, width - 1)
                col -= first
                for c in range(C):
                    k = (i * C + c) * H
                    a, b = (k + top + upper) * W + left, (k + top + lower) * W + left
                    over = (1.0 - col) * x[a + first] + col * x[a + second]
                    under = (1.0 - col) * x[b + first] + col * x[b + second]
                    y[(k + h) * W + w] = scale * ((1.0 - row) * over + row * under)


@kernel
def jitter(y, n, C, size, factors, order):
    """Change brightness, contrast, saturation and hue of images of one channel or three, in place, as torchvision does.

    `factors` (n, 4), `order` (n, 4): 0 to 3 for each of these, -1 for none; after each, numbers are clipped to [0, 1].
    """
    for i in range(n):
        image = i * C * size
        for k in range(4):
            what = order[i, k]
            if what < 0 or (what > 1 and C == 1):
                continue
            factor, mean = factors[i, what], 0.0
            if what == 1:
                for p in range(image, image + size):
                    mean += _grey(y, p, C, size)
                mean /= size
            for p in range(image, image + size):
                if what == 3:
                    _turn_hue(y, p, size, factor)
                    continue
                other = 0.0 if what == 0 else mean if what == 1 else _grey(y, p, C, size)
                for c in range(C):
                    value = factor * y[p + c * size] + (1.0 - factor) * other
                    y[p + c * size] = min(max(value, 0.0), 1.0)


@kernel
def _grey(y, p, C, size):
    """Return how light a pixel is."""
    if C == 1:
        return np.float64(y[p])
    return 0.2989 * y[p] + 0.587 * y[p + size] + 0.114 * y[p + 2 * size]


@kernel
def _turn_hue(y, p, size, turn):
    """Turn the hue of a pixel by so much of the circle, at the same saturation and value."""
    r, g, b = np.float64(y[p]), np.float64(y[p + size]), np.float64(y[p + 2 * size])
    value, least = max(r, g, b), min(r, g, b)
    width = value - least
    if width <= 0.0:
        return
    if value == r:
        sixth = (g - b) / width
    elif value == g:
        sixth = 2.0 + (b - r) / width
    else:
        sixth = 4.0 + (r - g) / width
    hue = sixth / 6.0 + 1.0 + turn
    hue = 6.0 * (hue - np.floor(hue))
    part = int(hue)
    rest = hue - part
    falling, rising = value - width * rest, value - width * (1.0 - rest)
    part = part % 6
    y[p] = value if part in (0, 5) else falling if part == 1 else rising if part == 4 else least
    y[p + size] = value if part in (1, 2) else falling if part == 3 else rising if part == 0 else least
    y[p + 2 * size] = value if part in (3, 4) else falling if part == 5 else rising if part == 2 else least


@kernel
def paste(y, x, n, C, H, W, boxes):
    """y = x inside of `boxes` (n, 4) of top, left, bottom, right, in place."""
    for i in range(n):
        for c in range(C):
            for h in range(boxes[i, 0], boxes[i, 2]):
                begin = ((i * C + c) * H + h) * W
                for w in range(boxes[i, 1], boxes[i, 3]):
                    y[begin + w] = x[begin + w]
