"""The depthwise convolution, bound to layouts: lines of pixels instead of a matrix product."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ...engine.arrays import aligned_zeros, as_table
from ...engine.ir import Piece
from ...engine.layout import Layout
from ...kernels import conv_depthwise as kernels
from ...kernels.maps import Lines, Maps, PostOps
from ...typing import Array, IntArray
from ..window import Window
from .algorithm import UNCUT, WHOLE, Convolution, MicroBatch, TwoPasses


class Depthwise(TwoPasses):
    """As many groups as channels: each channel by itself.

    With several filters per channel, the channels are repeated in scratch first: a vector then meets a vector.
    """

    reads_any_pitch = False
    accumulates = True

    def __init__(self, convolution: Convolution) -> None:
        super().__init__(convolution)
        c = convolution
        self.times = c.filters // c.channels
        self.fills = self.times == 1
        self.no_post = PostOps(aligned_zeros(c.y.pitch, c.dtype), c.dtype.type(-np.inf))
        self.x, self.dx = c.x, c.dx
        if self.times > 1:
            self.x = replace(c.x, channels=c.filters, pitch=c.y.pitch)
            self.dx = c.dx and replace(c.dx, channels=c.filters, pitch=c.y.pitch)
        self.sweep = self._plan_forward(c.y)
        self.gradient = self._plan_forward(c.dy) if c.dy else None
        self.phases = self._plan_phases(c.dy, self.dx) if c.dy and self.dx else []
        if self.times > 1:
            self.narrow, self.wide = (
                [_line_table(layout, c.images) for layout in pair] for pair in ((c.x, c.dx), (self.x, self.dx))
            )

    def _plan_forward(self, y: Layout) -> _Tables:
        """Return the tables that lead from the input to `y`, the output or its gradient."""
        c, x = self.convolution, self.x
        vertical, horizontal = c.window.vertical, c.window.horizontal
        h, width = np.arange(c.outputs[0]), c.outputs[1]
        r, s = np.arange(vertical.taps)[:, None], np.arange(horizontal.taps)[None, :]
        near = _are_neighbours(c.window) and horizontal.stride <= 2 and width >= 4
        return _Tables(
            count=h.size,
            width=width,
            x=x.table(c.images, h * vertical.stride - vertical.before, -horizontal.before),
            x_step=horizontal.stride * x.pitch,
            x_col=as_table(r * vertical.dilation * x.row_size + s * horizontal.dilation * x.pitch),
            w_row=as_table(np.arange(r.size * s.size) * c.y.pitch),
            y=y.table(c.images, h, 0),
            y_step=y.pitch,
            near=_Near(horizontal.stride, x.pitch, x.row_size, 0, c.y.pitch) if near else None,
        )

    def _plan_phases(self, dy: Layout, dx: Layout) -> list[_Tables]:
        """Return the tables of the input gradient, one set for each phase of the strides."""
        c = self.convolution
        vertical, horizontal = c.window.vertical, c.window.horizontal
        pitch = c.y.pitch
        near = _are_neighbours(c.window) and vertical.stride == horizontal.stride == 1
        phases = []
        for h, r in vertical.phases():
            for w, s in horizontal.phases():
                if not (h.size and w.size):
                    continue
                # The pixel's part and the tap's part of (i + before - t · dilation) / stride.
                oh, ow = (h + vertical.before) // vertical.stride, (w[0] + horizontal.before) // horizontal.stride
                up, back = r * vertical.dilation // vertical.stride, s * horizontal.dilation // horizontal.stride
                here = near and w.size >= 4
                phases.append(
                    _Tables(
                        count=h.size,
                        width=w.size,
                        x=dy.table(c.images, oh - 2 * here, ow - 2 * here),
                        x_step=dy.pitch,
                        x_col=as_table(-(up[:, None] * dy.row_size + back[None, :] * dy.pitch)),
                        w_row=as_table((r[:, None] * horizontal.taps + s[None, :]) * pitch),
                        y=dx.table(c.images, h, w[0]),
                        y_step=horizontal.stride * dx.pitch,
                        near=_Near(1, dy.pitch, dy.row_size, 8 * pitch, -pitch) if here else None,
                    )
                )
        return phases

    def allocate(self) -> Any:
        c = self.convolution
        wide = (layout and layout.allocate(c.images, c.dtype) for layout in (self.x, self.dx)) if self.times > 1 else ()
        return (*super().allocate(), *wide)

    @property
    def forward_by_image(self) -> bool:
        return super().forward_by_image and self.times == 1

    def pack(self, filters: Array) -> None:
        self.filters = filters

    def forward(self, n: int, x: Array, post: PostOps, y: Array, scratch: Any, micro_batch: MicroBatch = WHOLE) -> None:
        self._sweep(self.sweep, n, self._repeated(n, x, scratch), y, post)

    def input_gradient(self, n: int, dy: Array, dx: Array, scratch: Any, micro_batch: MicroBatch = WHOLE) -> None:
        c, target = self.convolution, dx if self.times == 1 else scratch[2]
        for phase in self.phases:
            self._sweep(phase, n, dy, target, self.no_post)
        if self.times > 1 and c.dx and self.dx:
            kernels.repeat_backward(
                Lines(target, self.wide[1], self.dx.pitch), Lines(dx, self.narrow[1], c.dx.pitch), n * c.dx.height,
                c.dx.width, c.channels, self.times,
            )  # fmt: skip

    def filter_gradient(
        self, n: int, x: Array, dy: Array, dw: Array, dbias: Array, scratch: Any, micro_batch: MicroBatch = WHOLE,
        piece: Piece = UNCUT,
    ) -> None:  # fmt: skip
        t, N, wide = self.gradient, self.convolution.y.pitch, self._repeated(n, x, scratch)
        assert t is not None
        if not micro_batch.accumulate:
            kernels.clear(dw, dw.size)
            kernels.clear(dbias, dbias.size)
        gradient = Lines(dy, t.y, t.y_step)
        if t.near:
            near = Lines(wide, t.x, t.near.step)
            kernels.filter_gradient_3x3(
                near, t.near.stride, t.near.row_size, gradient, n * t.count, t.width, N, dw, dbias
            )  # fmt: skip
        else:
            kernels.filter_gradient(
                Lines(wide, t.x, t.x_step), t.x_col, gradient, n * t.count, t.width, N, Maps(dw, t.w_row), dbias
            )  # fmt: skip

    def _repeated(self, n: int, x: Array, scratch: Any) -> Array:
        """Return the input with each channel as often as it has filters."""
        if self.times == 1:
            return x
        c = self.convolution
        wide: Array = scratch[1]
        kernels.repeat(
            Lines(x, self.narrow[0], c.x.pitch), Lines(wide, self.wide[0], self.x.pitch), n * c.x.height, c.x.width,
            c.channels, self.times,
        )  # fmt: skip
        return wide

    def _sweep(self, tables: _Tables, n: int, x: Array, y: Array, post: PostOps) -> None:
        """y = max(clamp_min, biases + x * filters), by the tables of one direction."""
        t, N = tables, self.convolution.y.pitch
        lines = Lines(y, t.y, t.y_step)
        if t.near:
            near = Lines(x, t.x, t.near.step)
            kernels.forward_3x3(
                near, t.near.stride, t.near.row_size, self.filters, t.near.first, t.near.next, lines, n * t.count,
                t.width, N, post,
            )  # fmt: skip
        else:
            filters = Maps(self.filters, t.w_row)
            kernels.forward(Lines(x, t.x, t.x_step), t.x_col, filters, lines, n * t.count, t.width, N, post)


class _Near(NamedTuple):
    """3 x 3 neighbouring taps.

    Attributes
    ----------
    stride : int
    step, row_size : int
        Numbers from one pixel, and from one row, of `x` to the next.
    first, next : int
        The first tap's filters, and the step from each to the next tap's.
    """

    stride: int
    step: int
    row_size: int
    first: int
    next: int


@dataclass(frozen=True)
class _Tables:
    """Tables of one sweep from lines of `x` to lines of `y`.

    Attributes
    ----------
    count, width : int
        Lines of an image, pixels of a line.
    x, y : array of int
        Where lines begin: in `x` with the window of the first pixel.
    x_step, y_step : int
        Numbers from one pixel to the next.
    x_col, w_row : array of int
        Where a tap lies in the window, and its filters.
    near : _Near or None
        For 3 x 3 neighbouring taps.
    """

    count: int
    width: int
    x: IntArray
    x_step: int
    x_col: IntArray
    w_row: IntArray
    y: IntArray
    y_step: int
    near: _Near | None


def _line_table(layout: Layout | None, images: int) -> IntArray:
    """Return where the lines begin; of no layout, nothing."""
    return layout.line_table(images) if layout else np.zeros(0, np.int32)


def _are_neighbours(window: Window) -> bool:
    """Tell whether a window is 3 x 3 neighbouring pixels."""
    return all(axis.taps == 3 and axis.dilation == 1 for axis in (window.vertical, window.horizontal))
