"""Convolution as one BLAS product of a matrix of windows: any case and dtype, and no compiler.

Shape legend: windows (N, oH, oW, kH, kW, C), a strided view; filters (kH, kW, C/groups, F); maps (N, channels, H, W).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..typing import Array


def _groups(groups: int, channels: int) -> list[slice]:
    """Return the channels of each group."""
    size = channels // groups
    return [slice(g * size, (g + 1) * size) for g in range(groups)]


def forward(windows: Array, filters: Array, groups: int, out: Array) -> None:
    """Out (N, F, oH, oW) = windows · filters."""
    n, height, width = windows.shape[:3]
    channels, outputs = _groups(groups, windows.shape[-1]), _groups(groups, filters.shape[-1])
    for inside, outside in zip(channels, outputs, strict=True):
        columns = windows[..., inside].reshape(n * height * width, -1)
        result = columns @ filters[..., outside].reshape(columns.shape[1], -1)
        out[:, outside] = result.reshape(n, height, width, -1).transpose(0, 3, 1, 2)


def input_gradient(gradient: Array, filters: Array, groups: int, window: Any, out: Array) -> None:
    """Out (N, C, H, W) = the sum, over taps, of gradient · filters, each put back where the tap had read."""
    n, _, height, width = out.shape
    v, h = window.vertical, window.horizontal
    rows, columns = gradient.shape[2:]
    whole = np.zeros((n, height + v.before + v.after, width + h.before + h.after, out.shape[1]), out.dtype)
    channels, outputs = _groups(groups, out.shape[1]), _groups(groups, filters.shape[-1])
    for inside, outside in zip(channels, outputs, strict=True):
        flat = gradient[:, outside].transpose(0, 2, 3, 1).reshape(n * rows * columns, -1)
        for r in range(v.taps):
            for s in range(h.taps):
                part = (flat @ filters[r, s, :, outside].T).reshape(n, rows, columns, -1)
                top, left = r * v.dilation, s * h.dilation
                whole[
                    :, top : top + rows * v.stride : v.stride, left : left + columns * h.stride : h.stride, inside
                ] += part
    inner = whole[:, v.before : v.before + height, h.before : h.before + width]
    out[...] = inner.transpose(0, 3, 1, 2)


def filter_gradient(windows: Array, gradient: Array, groups: int, out: Array) -> None:
    """Out (kH, kW, C/groups, F) = windowsᵀ · gradient."""
    n, height, width = windows.shape[:3]
    channels, outputs = _groups(groups, windows.shape[-1]), _groups(groups, out.shape[-1])
    for inside, outside in zip(channels, outputs, strict=True):
        columns = windows[..., inside].reshape(n * height * width, -1)
        flat = gradient[:, outside].transpose(0, 2, 3, 1).reshape(n * height * width, -1)
        out[..., outside] = (columns.T @ flat).reshape(*out.shape[:3], -1)
