"""The input gradient of a direct convolution without padding, as a sum of what each tap adds.

As one product on the gradient with zeros around it, most products are with these zeros where windows are large and maps
small: of 7 x 7 windows on 8 x 8 pixels, 15 of 16. Here, none is.
"""

from __future__ import annotations

import math

import numpy as np

from ...codegen.blocking import BAND
from ...engine.arrays import aligned_zeros, as_table
from ...engine.layout import Layout
from ...jit.target import LANES, vector_set
from ...kernels import conv_direct, product
from ...kernels.maps import Maps, Matrix
from ...typing import Array
from .algorithm import Convolution

TILE = 5  # products of a pixel that loading and storing its sums takes as long as
FEW = 3  # channels: so few would leave most lanes of a register empty, so all taps are columns of one product
ADD = 2  # products of a pixel that adding one of those columns takes as long as


class ByTaps:
    """The input gradient of one convolution, bound to the layouts of both gradients.

    Attributes
    ----------
    room : int
        Numbers of scratch that it needs.
    """

    @staticmethod
    def pays(c: Convolution) -> bool:
        """Tell whether it can be done for a convolution, and takes less than products with zeros."""
        axes = c.window.vertical, c.window.horizontal
        if c.columns or c.dy_panels or any(axis.before or axis.after for axis in axes):
            return False
        vertical, horizontal = ([(pixels.size, taps.size) for pixels, taps in axis.phases()] for axis in axes)
        with_zeros = sum(h * w * (r * s * c.filters + TILE) for h, r in vertical for w, s in horizontal)
        pixels, taps = (math.prod(sizes) for sizes in zip(*((axis.outputs, axis.taps) for axis in axes), strict=True))
        each = taps * (c.filters + TILE)
        if _is_few(c):
            each = -(-taps * c.channels // LANES) * (c.filters + TILE) + ADD * taps * c.channels
        return bool(pixels * each + math.prod(axis.size for axis in axes) < with_zeros)

    def __init__(self, c: Convolution, dy: Layout, dx: Layout) -> None:
        vertical, horizontal = c.window.vertical, c.window.horizontal
        rows, columns = c.window.outputs
        oh, ow = np.arange(rows)[:, None], np.arange(columns)[None, :]
        r, s = np.arange(vertical.taps)[:, None], np.arange(horizontal.taps)[None, :]
        places = r * vertical.dilation * dx.row_size + s * horizontal.dilation * dx.pitch
        self.pixels, self.size, self.filters, self.is_few = rows * columns, dx.image_size, c.filters, _is_few(c)
        self.dy_row, self.dy_col = dy.table(c.images, oh, ow), as_table(np.arange(c.filters))
        self.dx_row = dx.table(c.images, oh * vertical.stride, ow * horizontal.stride)
        if self.is_few:
            numbers, lanes = c.taps, vector_set().lanes(c.dtype)
            self.places = as_table(places[:, :, None] + np.arange(c.channels))
            self.block, self.N = aligned_zeros(1, np.int32), -(-numbers // lanes) * lanes
        else:
            numbers, self.N = c.channels, dx.pitch
            self.places = as_table(places)
            self.block = as_table(np.arange(places.size) * c.channels * c.columns_of_y)
        self.column = as_table(np.full(self.N, -1))
        self.column[:numbers] = np.arange(numbers) * c.columns_of_y
        self.packed = aligned_zeros(self.block.size * c.filters * self.N, c.dtype)
        self.zeros = aligned_zeros(self.N, c.dtype)
        self.room = BAND * self.N if self.is_few else 0
        self.sums_row = as_table(np.arange(BAND) * self.N)

    def pack(self, filters: Array) -> None:
        """Take new filters."""
        product.pack_transposed(Matrix(filters, self.block, self.column), self.filters, self.packed)

    def input_gradient(self, n: int, dy: Array, dx: Array, scratch: Array) -> None:
        """Compute dx, as a whole."""
        gradient, maps, size = Matrix(dy, self.dy_row, self.dy_col), Maps(dx, self.dx_row), n * self.size
        if self.is_few:
            conv_direct.input_gradient_of_few(
                gradient, n * self.pixels, self.packed, self.places, maps, self.N, size, Maps(scratch, self.sums_row),
                self.zeros,
            )  # fmt: skip
        else:
            conv_direct.input_gradient_by_taps(
                gradient, n * self.pixels, self.packed, self.places, maps, self.N, size, self.zeros
            )


def _is_few(c: Convolution) -> bool:
    """Tell whether all taps are columns of one product."""
    return c.channels <= FEW and c.taps > c.channels
