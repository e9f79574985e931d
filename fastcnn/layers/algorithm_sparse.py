"""The gradients of a direct convolution behind a max-pooling 2 x 2, from the pooled gradient alone.

Only one pixel of each window has a gradient, for every filter another one: three quarters of the products of the other
algorithms, which spread the gradient out first, are with zeros.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..kernels import conv_sparse as kernels
from ..kernels.blocking import entries_at_once
from ..kernels.machine import vector_set
from ..typing import Array, IntArray
from .algorithms import Convolution
from .geometry import Axis
from .layout import Layout, aligned_zeros

ENTRY = 8  # vectors of a window that finding an entry is worth


class Entries(NamedTuple):
    """Scratch of one worker: a list of entries, and the sums of their windows."""

    place: IntArray
    value: Array
    sums: Array


class Sparse:
    """The gradients of one convolution, bound to memory; `dy` is the layout of the pooled gradient.

    There must be one winner in each window of the pooling: none of several tied ones may receive the gradient too.
    """

    @staticmethod
    def pays(c: Convolution) -> bool:
        """Tell whether it can be done for a convolution, with less work than all products are."""
        if not c.pooled or (c.dx and not all(map(_stays_inside, (c.window.vertical, c.window.horizontal), c.outputs))):
            return False
        lanes = vector_set().lanes(c.dtype)
        vectors, _ = _vectors(c, lanes)
        return vectors[0] >= 0 and c.filters * (vectors.size + ENTRY) < 4 * c.taps * c.y.pitch // lanes

    def __init__(self, c: Convolution, dy: Layout) -> None:
        assert c.pooled is not None
        vertical, horizontal = c.window.vertical, c.window.horizontal
        oh, ow = c.output_pixels()
        top, left = oh * vertical.stride - vertical.before, ow * horizontal.stride - horizontal.before
        lanes = vector_set().lanes(c.dtype)
        self.filters, self.pitch, self.dtype, self.pixels = c.filters, c.y.pitch, c.dtype, c.pooled.pixels
        self.x_row, self.dy_row = c.x.table(c.images, top, left), dy.pixel_table(c.images)
        self.x_col, self.sum_at = _vectors(c, lanes)
        self.w_row = (np.arange(c.taps) * c.y.pitch).astype(np.int32)
        self.at_once = entries_at_once(c.x.image_size // c.pooled.pixels * c.dtype.itemsize)
        self.dx_size = 0
        if c.dx:
            self.dx_size, self.dx_row = c.dx.image_size, c.dx.table(c.images, top, left)
            taps = np.arange(vertical.taps * horizontal.taps)
            pixels = c.dx.offset(*_tap_pixels(c)) - c.dx.offset(0, 0)
            self.dx_col = (pixels[:, None] + np.arange(0, c.dx.pitch, lanes)).ravel().astype(np.int32)
            self.tap = (taps * c.channels * c.y.pitch).astype(np.int32)
            self.channel = np.full(c.dx.pitch, -1, np.int32)
            self.channel[: c.channels] = np.arange(c.channels) * c.y.pitch
            self.packed = aligned_zeros(c.filters * taps.size * c.dx.pitch, c.dtype)

    def allocate(self) -> Entries:
        """Return the scratch of one worker."""
        sums = self.filters * self.x_col.size * vector_set().lanes(self.dtype)
        return Entries(
            np.zeros(self.at_once, np.int32), aligned_zeros(self.at_once, self.dtype), aligned_zeros(sums, self.dtype)
        )

    def pack(self, filters: Array) -> None:
        """Take new filters."""
        if self.dx_size:
            kernels.pack_by_filter(filters, self.tap, self.filters, self.channel, self.channel.size, self.packed)

    def backward(
        self, n: int, x: Array, dy: Array, winners: Array, dx: Array | None, dw: Array, dbias: Array, entries: Entries
    ) -> None:
        """Compute all gradients; without that of the input where `dx` is None."""
        gradient = dy, self.dy_row, winners, n * self.pixels, self.pitch, self.filters, self.at_once
        place, value, sums = entries
        kernels.filter_gradient(
            x, self.x_row, self.x_col, *gradient, place, value, sums, self.sum_at, dw, self.w_row, dbias
        )
        if dx is not None:
            kernels.input_gradient(*gradient, place, value, self.packed, dx, self.dx_row, self.dx_col, n * self.dx_size)


def _stays_inside(axis: Axis, outputs: int) -> bool:
    """Tell whether no window reaches into the padding: there, nothing may be written."""
    return axis.before == 0 and (outputs - 1) * axis.stride + axis.span <= axis.size


def _tap_pixels(c: Convolution) -> tuple[IntArray, IntArray]:
    """Return row and column of each tap, counted from its window's first."""
    vertical, horizontal = c.window.vertical, c.window.horizontal
    r, s = np.divmod(np.arange(vertical.taps * horizontal.taps), horizontal.taps)
    return r * vertical.dilation, s * horizontal.dilation


def _vectors(c: Convolution, lanes: int) -> tuple[IntArray, IntArray]:
    """Return where the vectors begin that cover a window of the input, and where in them the taps are found.

    None reaches beyond the window's last pixel: there memory may end. The first begins below 0 if there is no room.
    """
    row, column = _tap_pixels(c)
    pixels = row * c.x.row_size + column * c.x.pitch
    numbers = (pixels[:, None] + np.arange(c.channels)).ravel()
    last = int(pixels[-1]) + c.x.pitch - lanes
    begins: list[int] = []
    for number in numbers.tolist():
        if not begins or number >= begins[-1] + lanes:
            begins.append(min(number, last))
    vectors = np.array(begins)
    which = np.searchsorted(vectors, numbers, side="right") - 1
    return vectors.astype(np.int32), (which * lanes + numbers - vectors[which]).astype(np.int32)
