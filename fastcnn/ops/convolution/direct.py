"""The direct algorithm: an indirect matrix product, whose tables say which pixels and filters meet."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...codegen.blocking import BAND, FILTERS, PIXELS, is_panel, pixels_at_once
from ...engine.arrays import aligned_zeros, as_table
from ...engine.ir import Piece
from ...engine.layout import Layout
from ...jit.target import vector_set
from ...kernels import conv_direct, conv_pixels, product
from ...kernels.maps import Maps, Matrix, PooledGradient, Pooling, PostOps
from ...typing import Array, IntArray
from ..window import Window
from .algorithm import UNCUT, WHOLE, Algorithm, Convolution, MicroBatch
from .by_taps import ByTaps

ROWS = 36  # of the filters' gradient that are worth a thread: packing the gradient takes as long as a few of them


class Direct(Algorithm):
    """The indirect matrix product on haloed channels-last maps: no copy of the input is ever made."""

    spreads_pooling = True
    fills = True
    accumulates = True
    transposes = False  # whether `transposed` is all that it is asked for

    @property
    def scratch_key(self) -> Hashable:
        return self._room()

    def _room(self) -> int:
        """Return the numbers of scratch: of a panel of the output's gradient, or of a band of what is pooled."""
        return max(max(PIXELS, BAND) * self.convolution.columns_of_y, self.by_taps.room if self.by_taps else 0)

    @classmethod
    def fits(cls, window: Window, groups: int) -> bool:
        return groups == 1

    @classmethod
    def reads_panels(cls, window: Window) -> bool:
        return all(axis.taps == 1 and axis.before == 0 for axis in (window.vertical, window.horizontal))

    def __init__(self, convolution: Convolution) -> None:
        super().__init__(convolution)
        c = convolution
        vertical, horizontal = c.window.vertical, c.window.horizontal
        oh, ow = c.output_pixels()
        top, left = oh * vertical.stride - vertical.before, ow * horizontal.stride - horizontal.before
        self.x_row = c.x.table(c.images, top, left)
        self.dy_row = c.dy.table(c.images, oh, ow) if c.dy else None
        if c.pooled:
            self.y_row = c.pooled.pixel_table(c.images)
        else:
            self.y_row = c.y.table(c.images, oh, ow)
        r, s = np.arange(vertical.taps)[:, None], np.arange(horizontal.taps)[None, :]
        taps = r * vertical.dilation * c.x.row_size + s * horizontal.dilation * c.x.pitch
        self.x_col = as_table(taps[:, :, None] + np.arange(c.channels))
        self.w_row = as_table(np.arange(c.taps) * c.columns_of_y)
        self.packed = aligned_zeros(c.taps * c.columns_of_y, c.dtype)
        zeros = aligned_zeros(max(c.columns_of_y, c.columns_of_dx), c.dtype)
        self.no_post = PostOps(zeros, c.dtype.type(-np.inf))
        self.in_order = np.zeros(0, np.int32)  # windows of a pooling are computed in their order
        self.x_again: tuple[IntArray, IntArray] = self.x_row, self.x_col  # as backward finds it
        self.pixels = pixels_at_once(c.channels)
        if c.x_panels:
            self.x_again = c.x_panels.table(c.x, c.images, top, left), c.x_panels.channel_offsets(c.channels)
            self.pixels = PIXELS
        self.panels: list[_Panel] = []
        self.lane_row = as_table(np.full(c.columns_of_dx, -1))
        self.lane_row[: c.channels] = np.arange(min(c.channels, self.lane_row.size)) * c.columns_of_y
        self.by_taps: ByTaps | None = None
        self.phases: list[_Phase] = []
        if c.dy and c.dx and not self.transposes and ByTaps.pays(c):
            self.by_taps = ByTaps(c, c.dy, c.dx)
        elif c.dy and c.dx:
            self.phases = self._plan_phases(c, c.dy, c.dx)
        self.halves = self._plan_halves(c)
        self.copies = bool(self.panels or self.by_taps) or not is_panel(c.columns_of_y, c.dtype)

    @staticmethod
    def _plan_halves(c: Convolution) -> IntArray:
        """Return the first window of each half register of `conv_pixels`; none, if filters fill registers better."""
        lanes, windows = vector_set().lanes(c.dtype), c.outputs[1] // 2
        step = lanes // 4
        beside = c.x.pitch == 1 and c.window.horizontal.stride == 1
        if not (c.pooled and beside and c.filters <= FILTERS < lanes == c.y.pitch and windows >= step):
            return np.zeros(0, np.int32)
        # The last one of a line overlaps the one before.
        line = np.minimum(np.arange(0, windows, step), windows - step)
        lines = np.arange(c.images * c.outputs[0] // 2)[:, None] * windows
        return as_table(lines + line)

    def _plan_phases(self, c: Convolution, dy: Layout, dx: Layout) -> list[_Phase]:
        """Return the tables of the input gradient, one set for each phase of the strides."""
        vertical, horizontal = c.window.vertical, c.window.horizontal
        phases = []
        for h, r in vertical.phases():
            for w, s in horizontal.phases():
                if not (h.size and w.size):
                    continue
                # The pixel's part and the tap's part of (i + before - t · dilation) / stride.
                oh = (h[:, None] + vertical.before) // vertical.stride
                ow = (w[None, :] + horizontal.before) // horizontal.stride
                up, back = r * vertical.dilation // vertical.stride, s * horizontal.dilation // horizontal.stride
                filters = (c.dy_panels or dy).channel_offsets(c.filters)
                taps = -(up[:, None, None] * dy.row_size + back[None, :, None] * dy.pitch) + filters
                phases.append(
                    _Phase(
                        pixels=h.size * w.size,
                        dy_row=c.dy_panels.table(dy, c.images, oh, ow) if c.dy_panels else dy.table(c.images, oh, ow),
                        dy_col=as_table(taps),
                        dx_row=dx.table(c.images, h[:, None], w[None, :]),
                        panel=self._panel(c, r, s),
                    )
                )
        return phases

    def _panel(self, c: Convolution, rows: IntArray, columns: IntArray) -> int:
        """Return the number of the panel for the filters of these taps, the same for the same taps."""
        blocks = (rows[:, None] * c.window.horizontal.taps + columns).ravel() * c.channels * c.columns_of_y
        for number, panel in enumerate(self.panels):
            if np.array_equal(panel.blocks, blocks):
                return number
        size = blocks.size * c.filters * c.columns_of_dx
        self.panels.append(_Panel(as_table(blocks), aligned_zeros(size, c.dtype)))
        return len(self.panels) - 1

    @property
    def backward_by_image(self) -> bool:
        return not (self.by_taps and self.by_taps.is_few)  # bands of pixels begin with the first image

    def pieces(self, most: int) -> int:
        return min(most, max(1, self.convolution.taps // ROWS))

    def allocate(self) -> Array:
        return aligned_zeros(self._room(), self.convolution.dtype)

    def pack(self, filters: Array) -> None:
        self._pack_forward(filters)
        c = self.convolution
        for panel in self.panels:
            product.pack_transposed(Matrix(filters, panel.blocks, self.lane_row), c.filters, panel.packed)
        if self.by_taps:
            self.by_taps.pack(filters)

    def _pack_forward(self, filters: Array) -> None:
        """Take new filters for `forward`."""
        c = self.convolution
        if is_panel(c.columns_of_y, c.dtype):
            self.packed = filters
        else:
            product.pack(Maps(filters, self.w_row), c.columns_of_y, self.packed)

    def forward(self, n: int, x: Array, post: PostOps, y: Array, scratch: Any, micro_batch: MicroBatch = WHOLE) -> None:
        c = self.convolution
        product.product(
            Matrix(x, self.x_row, self.x_col), 0, n * c.pixels, self.packed, 0, Maps(y, self.y_row), c.columns_of_y,
            post, self._prefetched(micro_batch, 0),
        )  # fmt: skip

    def forward_pool(
        self, n: int, x: Array, post: PostOps, y: Array, ties_all: bool, argmax: Array, scratch: Any
    ) -> None:
        c, halves = self.convolution, self.halves
        matrix, maps = Matrix(x, self.x_row, self.x_col), Maps(y, self.y_row)
        pooling = Pooling(ties_all, argmax, self.in_order)
        if halves.size:
            count = n * halves.size // c.images
            conv_pixels.forward_pool(matrix, self.packed, post, maps, pooling, halves, count)
        else:
            conv_direct.forward_pool(matrix, self.packed, post, maps, pooling, n * c.pixels // 4, c.y.pitch)

    def _prefetched(self, micro_batch: MicroBatch, place: int) -> Array:
        """Return one of the arrays to prefetch, or one of no numbers."""
        return micro_batch.prefetch[place] if place < len(micro_batch.prefetch) else self.no_post.biases[:0]

    def input_gradient(self, n: int, dy: Array, dx: Array, scratch: Any, micro_batch: MicroBatch = WHOLE) -> None:
        if self.by_taps:
            self.by_taps.input_gradient(n, dy, dx, scratch)
        else:
            self.transposed(n, dy, self.no_post, dx, micro_batch)

    def transposed(self, n: int, x: Array, post: PostOps, y: Array, micro_batch: MicroBatch = WHOLE) -> None:
        """y = max(clamp_min, biases + the input gradient for the gradient x): the transposed convolution."""
        for place, p in enumerate(self.phases):
            product.product(
                Matrix(x, p.dy_row, p.dy_col), 0, n * p.pixels, self.panels[p.panel].packed, 0, Maps(y, p.dx_row),
                self.lane_row.size, post, self._prefetched(micro_batch, place),
            )  # fmt: skip

    def filter_gradient(
        self, n: int, x: Array, dy: Array, dw: Array, dbias: Array, scratch: Any, micro_batch: MicroBatch = WHOLE,
        piece: Piece = UNCUT,
    ) -> None:  # fmt: skip
        c, zeros = self.convolution, self.no_post.biases
        (x_row, x_col), w_row = self.x_again, self.w_row
        if piece.count > 1:  # some rows of the filters; the first piece leaves the biases' gradient
            rows = piece.cut(c.taps, ROWS)
            x_col, w_row = x_col[rows], w_row[rows]
            dbias = dbias if piece.number == 0 else aligned_zeros(c.columns_of_y, c.dtype)
        windows, gradient = Matrix(x, x_row, x_col), Maps(dw, w_row)
        if c.dy_panels:
            product.gradient_of_panels(
                windows, n * c.pixels, dy, c.dy_panels.span, c.columns_of_y, self.pixels, gradient, zeros,
                micro_batch.accumulate, self._prefetched(micro_batch, 0), self._prefetched(micro_batch, 1),
            )  # fmt: skip
            return
        assert self.dy_row is not None
        product.gradient_product(
            windows, n * c.pixels, Maps(dy, self.dy_row), c.columns_of_y, self.pixels, scratch, gradient, zeros,
            dbias, micro_batch.accumulate,
        )  # fmt: skip

    def filter_gradient_pool(self, n: int, x: Array, dy: PooledGradient, dw: Array, dbias: Array, scratch: Any) -> None:
        c = self.convolution
        conv_direct.filter_gradient_pool(
            Matrix(x, self.x_row, self.x_col), n * c.pixels // 4, dy, c.y.pitch, self.pixels, scratch,
            Maps(dw, self.w_row), self.no_post.biases, dbias,
        )  # fmt: skip


@dataclass(frozen=True)
class _Panel:
    """Transposed filters of some taps, and where those taps begin in the filters."""

    blocks: IntArray
    packed: Array


@dataclass(frozen=True)
class _Phase:
    """Tables of the input gradient for the pixels of one phase."""

    pixels: int
    dy_row: IntArray
    dy_col: IntArray
    dx_row: IntArray
    panel: int
