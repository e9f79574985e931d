"""The gradients of a direct convolution behind a max-pooling 2 x 2, from the pooled gradient alone.

Only one pixel of each window has a gradient, for every filter another one: three quarters of the products of the other
algorithms, which spread the gradient out first, are with zeros.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ...codegen.blocking import WINDOW, entries_at_once
from ...engine.arrays import aligned_zeros, as_table
from ...engine.layout import Halo, Layout
from ...jit.target import LANES, vector_set
from ...kernels import conv_sparse as kernels
from ...kernels.maps import Entries, Maps, Matrix, PooledGradient, WindowSums
from ...typing import Array, IntArray
from ..window import Axis, Pair
from .algorithm import Convolution

ENTRY = 6  # vectors of a window that finding an entry is worth


class Scratch(NamedTuple):
    """Scratch of one worker: the entries and their groups, see `kernels.conv_sparse`, and the sums of the filters."""

    entries: Entries
    sums: Array


class Sparse:
    """The gradients of one convolution, bound to memory; `dy` is the layout of the pooled gradient.

    There must be one winner in each window of the pooling: none of several tied ones may receive the gradient too.
    """

    @staticmethod
    def pays(c: Convolution) -> bool:
        """Tell whether it can be done for a convolution, with less work than all products are.

        It sums in another order than they do, so the answer must be the same for all processors: that for registers of
        64 bytes.
        """
        if not c.pooled or (c.dx and not all(map(_stays_inside, (c.window.vertical, c.window.horizontal), c.outputs))):
            return False
        lanes = LANES * 4 // c.dtype.itemsize
        begins, _ = _vectors(c, replace(c.x, pitch=c.x.common_pitch), lanes)
        vectors = [begins.size]
        if c.dx:
            height, width = _reach(c)
            vectors.append(height * width * c.dx.common_pitch // lanes)
        products = len(vectors) * 4 * c.taps * c.y.common_pitch // lanes
        return begins[0] >= 0 and c.filters * sum(count + ENTRY for count in vectors) < products

    def __init__(self, c: Convolution, dy: Layout) -> None:
        assert c.pooled is not None
        vertical, horizontal = c.window.vertical, c.window.horizontal
        oh, ow = (2 * np.arange(size) for size in (c.pooled.height, c.pooled.width))
        top, left = oh[:, None] * vertical.stride - vertical.before, ow * horizontal.stride - horizontal.before
        lanes = vector_set().lanes(c.dtype)
        self.filters, self.pitch, self.dtype, self.pixels = c.filters, c.y.pitch, c.dtype, c.pooled.pixels
        self.dy_row, self.x_row = dy.pixel_table(c.images), c.x.table(c.images, top, left)
        self.x_step = horizontal.stride * c.x.pitch, vertical.stride * c.x.row_size
        self.x_col, self.sum_at = _vectors(c, c.x, lanes)
        self.sum_col = as_table(np.arange(self.x_col.size) * lanes)
        self.sum_row = as_table(np.arange(c.filters) * self.x_col.size * lanes)
        self.w_row = as_table(np.arange(c.taps) * c.y.pitch)
        self.at_once = entries_at_once(c.x.common_size // c.pooled.pixels * c.dtype.itemsize)
        self.dx_size = 0
        if c.dx:
            self.dx_size, self.dx_row = c.dx.image_size, c.dx.table(c.images, top, left)
            self._plan_filters(c, c.dx)

    def _plan_filters(self, c: Convolution, dx: Layout) -> None:
        """Lay out the filters with as many zeros on each side as the windows of a pooled pixel are apart."""
        vertical, horizontal = c.window.vertical, c.window.horizontal
        height, width = _reach(c)
        around = Halo(vertical.stride, 0, horizontal.stride, 0)
        filters = Layout(c.channels, height, width, dx.pitch, around)
        taps = np.arange(vertical.taps * horizontal.taps)
        self.tap = as_table(taps * c.channels * c.y.pitch)
        self.tap_row = as_table(filters.offset(*_tap_pixels(c)))
        self.channel = as_table(np.full(dx.pitch, -1))
        self.channel[: c.channels] = np.arange(c.channels) * c.y.pitch
        self.packed = aligned_zeros(c.filters * filters.image_size, c.dtype)
        self.start = aligned_zeros(c.y.pitch, np.int32)
        self.start[: c.filters] = filters.table(c.filters, 0, 0)
        self.w_step = -horizontal.stride * filters.pitch, -vertical.stride * filters.row_size
        row, column, lane = np.ix_(range(height), range(width), range(0, dx.pitch, vector_set().lanes(c.dtype)))
        # What pixels add to a number is added part by part: so parts are cut from vectors of sixteen lanes, and in each
        # part the first registers of those vectors take their turn, then the second ones.
        blocks = dx.common_pitch // LANES
        number = (row * width + column) * blocks + lane // LANES
        part = number * -(-height * width * blocks // WINDOW) // (height * width * blocks)
        turn = (part * LANES + lane % LANES).ravel()
        order = np.argsort(turn, kind="stable")
        self.cuts = as_table(np.flatnonzero(np.diff(turn[order], prepend=-1, append=-1)))
        self.packed_col, self.dx_col = (
            as_table((row * maps.row_size + column * maps.pitch + lane).ravel()[order]) for maps in (filters, dx)
        )

    def allocate(self) -> Scratch:
        """Return the scratch of one worker."""
        entries, groups = 2 * self.at_once * self.pitch, max(self.at_once, self.filters)
        return Scratch(
            Entries(
                aligned_zeros(entries, np.int32), aligned_zeros(entries, self.dtype),
                aligned_zeros(groups, np.int32), aligned_zeros(groups, np.int32),
            ),
            aligned_zeros(self.sum_row.size * self.x_col.size * vector_set().lanes(self.dtype), self.dtype),
        )  # fmt: skip

    def pack(self, filters: Array) -> None:
        """Take new filters."""
        if self.dx_size:
            kernels.pack_by_filter(
                Matrix(filters, self.tap, self.channel), self.filters, Maps(self.packed, self.tap_row),
                self.packed.size // self.filters,
            )  # fmt: skip

    def backward(
        self, n: int, x: Array, dy: Array, argmax: Array, dx: Array | None, dw: Array, dbias: Array, scratch: Scratch
    ) -> None:
        """Compute all gradients; without that of the input where `dx` is None."""
        sizes = n * self.pixels, self.pitch, self.filters, self.at_once
        gradient = PooledGradient(dy, self.dy_row, argmax)
        kernels.filter_gradient(
            Matrix(x, self.x_row, self.x_col), *self.x_step, gradient, *sizes, scratch.entries,
            WindowSums(scratch.sums, self.sum_row, self.sum_col, self.sum_at), Maps(dw, self.w_row), dbias,
        )  # fmt: skip
        if dx is not None:
            kernels.input_gradient(
                gradient, *sizes, scratch.entries, Matrix(self.packed, self.start, self.packed_col), *self.w_step,
                Matrix(dx, self.dx_row, self.dx_col), self.cuts, n * self.dx_size,
            )  # fmt: skip


def _stays_inside(axis: Axis, outputs: int) -> bool:
    """Tell whether no window reaches into the padding: there, nothing may be written."""
    return axis.before == 0 and (outputs - 1) * axis.stride + axis.span <= axis.size


def _tap_pixels(c: Convolution) -> tuple[IntArray, IntArray]:
    """Return row and column of each tap, counted from its window's first."""
    vertical, horizontal = c.window.vertical, c.window.horizontal
    r, s = np.divmod(np.arange(vertical.taps * horizontal.taps), horizontal.taps)
    return r * vertical.dilation, s * horizontal.dilation


def _reach(c: Convolution) -> Pair:
    """Return rows and columns of the input that the windows of all pixels of a pooled one cover together."""
    return c.window.vertical.span + c.window.vertical.stride, c.window.horizontal.span + c.window.horizontal.stride


def _vectors(c: Convolution, x: Layout, lanes: int) -> tuple[IntArray, IntArray]:
    """Return where the vectors begin that cover a window of the input `x`, and where in them the taps are found.

    None reaches beyond the window's last pixel: there memory may end. The first begins below 0 if there is no room.
    """
    row, column = _tap_pixels(c)
    pixels = row * x.row_size + column * x.pitch
    numbers = (pixels[:, None] + np.arange(c.channels)).ravel()
    last = int(pixels[-1]) + x.pitch - lanes
    begins: list[int] = []
    for number in numbers.tolist():
        if not begins or number >= begins[-1] + lanes:
            begins.append(min(number, last))
    vectors = np.array(begins)
    which = np.searchsorted(vectors, numbers, side="right") - 1
    return as_table(vectors), as_table(which * lanes + numbers - vectors[which])
