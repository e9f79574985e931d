"""A batch is written to a network's first value: from arrays of any memory order, or by a call that can be recorded."""

from __future__ import annotations

import numpy as np

from ..kernels import load as kernels
from ..kernels.maps import Target
from ..typing import Array, IntArray
from .ir import Plan
from .workspace import Workspace


def load(plan: Plan, x: Array, n: int, workspace: Workspace) -> None:
    """Write `n` images, (n, C, H, W) or (n, D), to the first value; uint8 is scaled to [0, 1]."""
    images = x if x.ndim == 4 else x.reshape(n, *plan.graph.shapes[0])
    if x.dtype == np.uint8:
        np.multiply(images, plan.dtype.type(1 / 255), out=workspace.input[:n])
    else:
        workspace.input[:n] = images


def load_from(plan: Plan, source: IntArray, like: Array, first: int, n: int, workspace: Workspace) -> None:
    """Write `n` images from `first` on, as `load`; they are C-ordered, of the dtype of `like`, at `source[0]`."""
    layout, values = plan.values[0], workspace.values[0]
    scale = plan.dtype.type(1 / 255 if like.dtype == np.uint8 else 1)
    (channels, height, width), pitch = layout.shape, layout.pitch
    if layout.pixels == 1:  # features: channels of one pixel, side by side
        channels, width, pitch = 1, channels, 1
    elif layout.row_size == width * pitch:  # no halo between the rows: they are one
        height, width = 1, height * width
    kernels.load(
        source, like, first, n, channels, height, width,
        Target(values, int(layout.offset(0, 0)), layout.image_size, layout.row_size, pitch), scale,
    )  # fmt: skip
