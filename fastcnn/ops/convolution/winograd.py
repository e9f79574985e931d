"""Winograd's algorithms for 3 x 3 windows of stride 1, bound to one convolution."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np

from ...engine.arrays import aligned_zeros, as_table
from ...engine.layout import Halo, Layout
from ...jit.target import COMMON, vector_set
from ...kernels import conv_winograd, winograd_products
from ...kernels.maps import Maps, Patches, Points, Pooling, PostOps
from ...typing import Array, IntArray
from ..window import Pair, Window
from .algorithm import WHOLE, Algorithm, Convolution, MicroBatch

# Numbers of transformed input and output of one block of tiles: nearly half of the second-level cache.
CACHED = COMMON.second * 15 // 32 // 4
FEWEST = 36  # tiles of a block: fewer would not repay the loads of the filters

NO_POOLING = Pooling(False, np.zeros(0, np.uint8), np.zeros(0, np.int32))


class Winograd(Algorithm):
    """Minimal filtering F(2 x 2, 3 x 3): 2.25 times fewer multiplications than direct.

    Its rounding errors are smaller than those of direct float32 forward (root mean square about 0.6 to 0.8 of it) and
    about the same for the filter gradient: its sums are shorter. `tests/test_winograd.py` holds both to their bounds.
    """

    fills = True
    reads_any_pitch = False
    tile = 2

    @classmethod
    def fits(cls, window: Window, groups: int) -> bool:
        axes = (window.vertical, window.horizontal)
        return groups == 1 and all(axis.taps == 3 and axis.stride == axis.dilation == 1 for axis in axes)

    @classmethod
    def _rest(cls, rows: int, columns: int) -> Halo:
        """Return the rows and columns by which the last tiles reach beyond an output of that size."""
        return Halo(bottom=-rows % cls.tile, right=-columns % cls.tile)

    @classmethod
    def input_halo(cls, window: Window) -> Halo:
        # Patches are read whole, also where the last tile is not full.
        return window.input_halo + cls._rest(*window.outputs)

    @classmethod
    def gradient_halo(cls, window: Window) -> Halo:
        for_input = window.gradient_halo + cls._rest(window.vertical.size, window.horizontal.size)
        return for_input | cls._rest(*window.outputs)

    def __init__(self, convolution: Convolution) -> None:
        super().__init__(convolution)
        c, tile, points = convolution, self.tile, points_of(self.tile)
        v, h = c.window.vertical, c.window.horizontal
        self.tiles = Tiles(tile, c, c.x, c.y, c.outputs, (-v.before, -h.before), c.channels)
        self.window: IntArray = np.zeros(0, np.int32)
        if c.pooled:
            self.y_row, self.window = c.pooled.pixel_table(c.images), _windows(c.pooled, tile, c.images)
        taps = np.arange(9) * c.channels * c.y.pitch
        self.tap, self.flipped_tap = as_table(taps), as_table(taps[::-1])
        self.u = aligned_zeros(points * c.channels * c.y.pitch, c.dtype)
        self.back: Tiles | None = None
        if c.dy:
            # Beside the last pixels lies the halo: its zeros are read instead of them.
            self.dy_pixel = c.dy.table(c.images, *tile_pixels(c.outputs, tile))
            self.du_row = as_table(np.arange(points * c.channels) * c.y.pitch)
        if c.dy and c.dx:
            origin = v.before - 2, h.before - 2
            self.back = Tiles(tile, c, c.dy, c.dx, (v.size, h.size), origin, c.filters)
            self.u_rows = _panel_rows(c)
            self.u_flipped = aligned_zeros(points * _panel_width(c) * c.y.pitch, c.dtype)
            self.u_back = aligned_zeros(points * c.filters * c.dx.pitch, c.dtype)

    @property
    def scratch_key(self) -> Hashable:
        return type(self), *self._scratch_sizes()

    def _scratch_sizes(self) -> list[int]:
        passes = [self.tiles] if self.back is None else [self.tiles, self.back]
        products = self.u.size if self.convolution.dy else 0
        return [max(t.v_size for t in passes), max(t.m_size for t in passes), products]

    def allocate(self) -> tuple[Array, ...]:
        return tuple(aligned_zeros(size, self.convolution.dtype) for size in self._scratch_sizes())

    def pack(self, filters: Array) -> None:
        c = self.convolution
        shape = c.channels, c.y.pitch
        conv_winograd.transform_filters(self.tile, Maps(filters, self.tap), *shape, self.u)
        if c.dx and self.back:
            self._pack_back(filters, c.dx.pitch)

    def _pack_back(self, filters: Array, pitch: int) -> None:
        """Transform the flipped filters, a panel of channels at a time: all at once would take as much memory as U."""
        c, points = self.convolution, points_of(self.tile)
        for first, channels, rows in self.u_rows:
            taps = Maps(filters[first * c.y.pitch :], self.flipped_tap)
            conv_winograd.transform_filters(self.tile, taps, channels, c.y.pitch, self.u_flipped)
            winograd_products.transpose_points(
                points, Maps(self.u_flipped, rows), channels, c.filters, c.y.pitch,
                min(pitch - first, _panel_width(c)), self.u_back[first * c.filters :], c.filters * pitch,
            )  # fmt: skip

    def forward(self, n: int, x: Array, post: PostOps, y: Array, scratch: Any, micro_batch: MicroBatch = WHOLE) -> None:
        t = self.tiles
        t.forward(n, x, self.u, scratch, post, Maps(y, t.y_pixel))

    def forward_pool(
        self, n: int, x: Array, post: PostOps, y: Array, ties_all: bool, argmax: Array, scratch: Any
    ) -> None:
        pooling = Pooling(ties_all, argmax, self.window)
        self.tiles.forward(n, x, self.u, scratch, post, Maps(y, self.y_row), pooling)

    def input_gradient(self, n: int, dy: Array, dx: Array, scratch: Any, micro_batch: MicroBatch = WHOLE) -> None:
        t = self.back
        assert t is not None
        t.forward(n, dy, self.u_back, scratch, t.no_post, Maps(dx, t.y_pixel))

    def filter_gradient(
        self, n: int, x: Array, dy: Array, dw: Array, dbias: Array, scratch: Any, micro_batch: MicroBatch = WHOLE
    ) -> None:
        c, t = self.convolution, self.tiles
        v, w, du = scratch
        conv_winograd.filter_gradient(
            self.tile, t.patches(x), Points(v, t.point_col, t.v_plane), t.tile_col, Maps(dy, self.dy_pixel),
            Points(w, t.m_row, t.m_plane), c.y.pitch, n * t.per_image, t.no_post.biases, Maps(du, self.du_row), dw,
            dbias,
        )  # fmt: skip


class Winograd4(Winograd):
    """Minimal filtering F(4 x 4, 3 x 3): 4 times fewer multiplications than direct, about twice its rounding error."""

    tile = 4


class Tiles:
    """Tables of one pass: square tiles of outputs in `y`, patches with one more pixel on each side in `x`."""

    def __init__(
        self, tile: int, c: Convolution, x: Layout, y: Layout, size: Pair, origin: Pair, channels: int
    ) -> None:
        self.tile, self.x, self.y = tile, x, y
        points = points_of(tile)
        rows, columns = -(-size[0] // tile), -(-size[1] // tile)
        self.per_image = rows * columns
        top, left = tile * np.arange(rows)[:, None] + origin[0], tile * np.arange(columns)[None, :] + origin[1]
        self.x_tile = x.table(c.images, top, left)
        h, w = tile_pixels(size, tile)
        inside = ((h < size[0]) & (w < size[1])).ravel()
        self.y_pixel = as_table(np.where(np.tile(inside, c.images), y.table(c.images, h, w), -1))
        self.block = max(FEWEST, CACHED // (points * (x.pitch + y.pitch)) // 6 * 6)
        # The planes of the points must not begin at the same place of the first-level cache.
        self.v_plane, self.m_plane = self.block * x.pitch + 16, self.block * y.pitch + 16
        self.v_size, self.m_size = points * self.v_plane, points * self.m_plane
        point, number = np.arange(points)[:, None], np.arange(self.block)[None, :]
        self.v_row = as_table(point * self.v_plane + number * x.pitch)
        self.m_row = as_table(point * self.m_plane + number * y.pitch)
        self.col = as_table(np.arange(channels))
        # The same transformed input, read the other way round: rows are channels, columns are tiles.
        self.point_col = as_table(point * self.v_plane + np.arange(channels)[None, :])
        self.tile_col = as_table(np.arange(self.block) * x.pitch)
        self.no_post = PostOps(aligned_zeros(y.pitch, c.dtype), c.dtype.type(-np.inf))

    def forward(
        self,
        n: int,
        x: Array,
        u: Array,
        scratch: tuple[Array, ...],
        post: PostOps,
        y: Maps,
        pooling: Pooling = NO_POOLING,
    ) -> None:
        """Compute the tiles of `n` images, with the transformed filters `u`."""
        v, m = scratch[:2]
        conv_winograd.forward(
            self.tile, self.patches(x), Points(v, self.v_row, self.v_plane), self.col, u,
            Points(m, self.m_row, self.m_plane), self.y.pitch, n * self.per_image, self.no_post.biases, post, y,
            pooling,
        )  # fmt: skip

    def patches(self, x: Array) -> Patches:
        """Return the patches of the tiles in the maps `x`."""
        return Patches(x, self.x_tile, self.x.row_size, self.x.pitch)


def points_of(tile: int) -> int:
    """Return the numbers of the patch that a tile of outputs needs: one product for each."""
    return (tile + 2) ** 2


def tile_pixels(size: Pair, side: int) -> tuple[IntArray, IntArray]:
    """Return the pixels (h, w) of all tiles, those of each tile side by side; the last may lie beyond the image."""
    inside = np.arange(side * side)
    h = side * np.arange(-(-size[0] // side))[:, None, None] + inside // side
    w = side * np.arange(-(-size[1] // side))[None, :, None] + inside % side
    h, w = np.broadcast_arrays(h, w)
    return h, w


def _windows(pooled: Layout, tile: int, images: int) -> IntArray:
    """Return the numbers of the pooling windows of all tiles, -1 for those beyond the image."""
    rows, columns = pooled.height, pooled.width
    h, w = tile_pixels((rows, columns), tile // 2)
    image = rows * columns * np.arange(images)[:, None]
    window = np.where((h < rows) & (w < columns), h * columns + w, -1).ravel()
    return as_table(np.where(window < 0, -1, image + window))


def _panel_width(c: Convolution) -> int:
    """Return how many numbers a panel has."""
    return 2 * vector_set().lanes(c.dtype)


def _panel_rows(c: Convolution) -> list[tuple[int, int, IntArray]]:
    """Return for each panel of channels the first of them, how many there are, and where the rows begin in those of U.

    Rows are those of a panel's channels in each panel of filters, -1 beyond the channels.
    """
    assert c.dx is not None
    width = _panel_width(c)
    filters, found = np.arange(0, c.y.pitch, width)[:, None], []
    wide = np.minimum(c.y.pitch - filters, width)
    for first in range(0, c.channels, width):
        channels = min(c.channels - first, width)
        channel = np.arange(min(c.dx.pitch - first, width))[None, :]
        rows = np.where(channel < channels, filters * channels + channel * wide, -1)
        found.append((first, channels, as_table(rows)))
    return found
