"""The convolution by BLAS, bound to layouts: windows copied to a matrix first."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...engine.ir import Piece
from ...kernels import conv_im2col
from ...kernels.maps import PostOps
from ...typing import Array
from .algorithm import UNCUT, WHOLE, MicroBatch, TwoPasses


class Im2col(TwoPasses):
    """Windows copied to a matrix, then BLAS: any case, any machine, groups too."""

    replayable = False

    def pack(self, filters: Array) -> None:
        c = self.convolution
        self.filters = filters.reshape(
            c.window.vertical.taps, c.window.horizontal.taps, c.channels // c.groups, c.y.pitch
        )[..., : c.filters]

    def forward(self, n: int, x: Array, post: PostOps, y: Array, scratch: Any, micro_batch: MicroBatch = WHOLE) -> None:
        c = self.convolution
        out = c.y.view(y, n)
        conv_im2col.forward(self._windows(n, x), self.filters, c.groups, out)
        out += post.biases[: c.filters, None, None]
        np.maximum(out, post.clamp_min, out=out)

    def input_gradient(self, n: int, dy: Array, dx: Array, scratch: Any, micro_batch: MicroBatch = WHOLE) -> None:
        c = self.convolution
        assert c.dy is not None
        assert c.dx is not None
        conv_im2col.input_gradient(c.dy.view(dy, n), self.filters, c.groups, c.window, c.dx.view(dx, n))

    def filter_gradient(
        self, n: int, x: Array, dy: Array, dw: Array, dbias: Array, scratch: Any, micro_batch: MicroBatch = WHOLE,
        piece: Piece = UNCUT,
    ) -> None:  # fmt: skip
        c = self.convolution
        assert c.dy is not None
        out = dw.reshape(*self.filters.shape[:-1], c.y.pitch)[..., : c.filters]
        gradient = c.dy.view(dy, n)
        conv_im2col.filter_gradient(self._windows(n, x), gradient, c.groups, out)
        dbias[: c.filters] = gradient.sum(axis=(0, 2, 3))

    def _windows(self, n: int, x: Array) -> Array:
        """Return the view (n, oH, oW, kH, kW, C) of all windows: overlapping, nothing is copied yet."""
        c = self.convolution
        vertical, horizontal = c.window.vertical, c.window.horizontal
        origin = int(c.x.offset(-vertical.before, -horizontal.before))
        row, pixel, item = c.x.row_size, c.x.pitch, x.itemsize
        steps = (
            c.x.image_size, vertical.stride * row, horizontal.stride * pixel,
            vertical.dilation * row, horizontal.dilation * pixel, 1,
        )  # fmt: skip
        shape = (n, *c.window.outputs, vertical.taps, horizontal.taps, c.channels)
        return np.lib.stride_tricks.as_strided(x[origin:], shape, [step * item for step in steps])
