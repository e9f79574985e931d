"""Winograd's algorithms for windows of 3 x 3, 5 x 5 and 7 x 7 and stride 1, bound to one convolution."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...codegen.winograd_schemes import F23, F25, F34, F43, MATRICES, Scheme
from ...engine.arrays import aligned_zeros, as_table
from ...engine.ir import Piece
from ...engine.layout import Halo, Layout
from ...jit.target import COMMON, vector_set
from ...kernels import conv_winograd as kernels
from ...kernels import pool, residual, winograd_products
from ...kernels.maps import Blocks, Maps, Patches, Points, Pooling, PostOps
from ...typing import Array, IntArray
from ..window import Pair, Window
from .algorithm import UNCUT, WHOLE, Algorithm, Convolution, MicroBatch

# Numbers of transformed input and output of one block of tiles: nearly half of the second-level cache.
CACHED = COMMON.second * 15 // 32 // 4
FEWEST = 36  # tiles of a block: fewer would not repay the loads of the filters

NO_POOLING = Pooling(False, np.zeros(0, np.uint8), np.zeros(0, np.int32))


@dataclass(frozen=True)
class Way:
    """How windows of a size are computed: as a sum of parts by one scheme.

    Attributes
    ----------
    taps : int
        Rows and columns of the window.
    scheme : Scheme
    offsets : tuple of int
        Rows, and columns, of the window with which parts begin. A tap belongs to the first part that has it.
    """

    taps: int
    scheme: Scheme
    offsets: tuple[int, ...] = (0,)

    @property
    def points(self) -> int:
        """Numbers of a patch."""
        return MATRICES[type(self.scheme)].points

    @property
    def parts(self) -> int:
        """How many parts the window has."""
        return len(self.offsets) ** 2

    def part_taps(self) -> list[IntArray]:
        """Return for each part the numbers of its taps in the window, -1 for those that it does not have."""
        lines, first = [], 0
        for offset in self.offsets:
            line = np.arange(offset, offset + self.scheme.taps)
            lines.append(np.where(line < first, -1, line))
            first = int(line[-1]) + 1
        pairs = [(rows[:, None], columns[None, :]) for rows in lines for columns in lines]
        return [np.where((h < 0) | (w < 0), -1, h * self.taps + w).ravel() for h, w in pairs]


class Winograd(Algorithm):
    """Minimal filtering F(2 x 2, 3 x 3), F(2 x 2, 5 x 5), or 7 x 7 as four parts by F(3 x 3, 4 x 4).

    These are 2.25, 2.78 or 3.06 times fewer multiplications than direct.

    The rounding errors of 3 x 3 windows are smaller than those of direct float32 forward (root mean square about 0.6
    to 0.8 of it) and about the same for the filter gradient: the sums are shorter. `tests/test_winograd.py` holds all
    schemes to their bounds.
    """

    fills = True
    reads_any_pitch = False
    ways: tuple[Way, ...] = (Way(3, F23()), Way(5, F25()), Way(7, F34(), (0, 3)))

    @classmethod
    def find(cls, window: Window) -> Way | None:
        """Return how it computes a window, None if it does not."""
        axes = (window.vertical, window.horizontal)
        if any(axis.stride != 1 or axis.dilation != 1 for axis in axes):
            return None
        return next((way for way in cls.ways if all(axis.taps == way.taps for axis in axes)), None)

    @classmethod
    def way(cls, window: Window) -> Way:
        """Return how it computes a window that it knows."""
        found = cls.find(window)
        assert found is not None
        return found

    @classmethod
    def fits(cls, window: Window, groups: int) -> bool:
        return groups == 1 and cls.find(window) is not None

    @classmethod
    def input_halo(cls, window: Window) -> Halo:
        # Patches are read whole, also where the last tile is not full.
        return window.input_halo + _rest(cls.way(window).scheme.tile, window.outputs)

    @classmethod
    def gradient_halo(cls, window: Window) -> Halo:
        tile = cls.way(window).scheme.tile
        for_input = window.gradient_halo + _rest(tile, (window.vertical.size, window.horizontal.size))
        return for_input | _rest(tile, window.outputs)

    def __init__(self, convolution: Convolution) -> None:
        super().__init__(convolution)
        c, way = convolution, self.way(convolution.window)
        v, h, tile, points = c.window.vertical, c.window.horizontal, way.scheme.tile, way.points
        self.scheme, rows = way.scheme, way.parts * c.channels
        self.tiles = Tiles(way, c, c.x, c.y, c.outputs, (-v.before, -h.before), c.channels)
        self.window: IntArray = np.zeros(0, np.int32)
        self.pools_apart = c.pooled is not None and tile % 2 == 1  # tiles that are no whole windows of the pooling
        if c.pooled:
            self.y_row = c.pooled.pixel_table(c.images)
        if c.pooled and self.pools_apart:
            self.conv_row = c.y.table(c.images, *c.output_pixels())
        elif c.pooled:
            self.window = _windows(c.pooled, tile, c.images)
        tap_size, last = c.channels * c.y.pitch, way.taps**2 - 1
        taps = way.part_taps()
        self.taps = [as_table(np.where(tap < 0, -1, tap * tap_size)) for tap in taps]
        self.flipped_taps = [as_table(np.where(tap < 0, -1, (last - tap) * tap_size)) for tap in taps]
        self.all_taps = as_table(np.concatenate(self.taps))
        self.u = aligned_zeros(points * rows * c.y.pitch, c.dtype)
        self.back: Tiles | None = None
        self.u_back = aligned_zeros(0, c.dtype)
        if c.dy:
            # Beside the last pixels lies the halo: its zeros are read instead of them.
            self.dy_pixel = c.dy.table(c.images, *tile_pixels(c.outputs, tile))
            self.du_row = as_table(np.arange(points * rows) * c.y.pitch)
        if c.dy and c.dx:
            origin = v.before - (way.taps - 1), h.before - (way.taps - 1)
            self.back = Tiles(way, c, c.dy, c.dx, (v.size, h.size), origin, c.filters)
            self.u_rows = _panel_rows(c)
            self.u_flipped = aligned_zeros(points * _panel_width(c) * c.y.pitch, c.dtype)
            self.u_back = aligned_zeros(points * way.parts * c.filters * c.dx.pitch, c.dtype)

    @property
    def scratch_key(self) -> Hashable:
        return type(self), *self._scratch_sizes()

    def _scratch_sizes(self) -> list[int]:
        passes = [self.tiles] if self.back is None else [self.tiles, self.back]
        products = self.u.size if self.convolution.dy else 0
        maps = self.convolution.images * self.convolution.y.image_size if self.pools_apart else 0
        return [max(t.v_size for t in passes), max(t.m_size for t in passes), products, maps]

    def allocate(self) -> tuple[Array, ...]:
        return tuple(aligned_zeros(size, self.convolution.dtype) for size in self._scratch_sizes())

    def pack(self, filters: Array) -> None:
        c = self.convolution
        for part, taps in enumerate(self.taps):
            kernels.transform_filters(
                self.scheme, Maps(filters, taps), c.channels, c.y.pitch, self.u, part * c.channels,
                len(self.taps) * c.channels,
            )  # fmt: skip

    @property
    def backward_filters(self) -> int:
        return self.u_back.size

    def take_turns_in(self, memory: Array) -> None:
        self.u_back = memory

    def pack_backward(self, filters: Array) -> None:
        """Transform the flipped filters, a panel of channels at a time: all at once would take as much memory as U."""
        c, points, rows = self.convolution, self.tiles.points, len(self.taps) * self.convolution.filters
        assert c.dx
        pitch = c.dx.pitch
        for first, channels, u_rows in self.u_rows:
            width = min(pitch - first, _panel_width(c))
            for part, taps in enumerate(self.flipped_taps):
                flipped = Maps(filters[first * c.y.pitch :], taps)
                kernels.transform_filters(self.scheme, flipped, channels, c.y.pitch, self.u_flipped, 0, channels)
                winograd_products.transpose_points(
                    points, Maps(self.u_flipped, u_rows), channels, c.filters, c.y.pitch, width,
                    self.u_back[first * rows + part * c.filters * width :], rows * pitch,
                )  # fmt: skip

    def forward(self, n: int, x: Array, post: PostOps, y: Array, scratch: Any, micro_batch: MicroBatch = WHOLE) -> None:
        t = self.tiles
        t.forward(n, x, self.u, scratch, post, t.pixels(n, y))

    def forward_pool(
        self, n: int, x: Array, post: PostOps, y: Array, ties_all: bool, argmax: Array, scratch: Any
    ) -> None:
        if self.pools_apart:
            c, maps = self.convolution, scratch[3]
            self.forward(n, x, post, maps, scratch)
            pool.pool2(
                Maps(maps, self.conv_row), 0, Maps(y, self.y_row), argmax, 0, n * c.pixels // 4, c.y.pitch,
                post.clamp_min, ties_all,
            )  # fmt: skip
            return
        t = self.tiles
        windows = t.order(n).of("windows", self.window, t.tile_size // 4)
        pooling = Pooling(ties_all, argmax, windows)
        t.forward(n, x, self.u, scratch, post, Maps(y, self.y_row), pooling)

    def input_gradient(self, n: int, dy: Array, dx: Array, scratch: Any, micro_batch: MicroBatch = WHOLE) -> None:
        t = self.back
        assert t is not None
        t.forward(n, dy, self.u_back, scratch, t.no_post, t.pixels(n, dx))

    def _gradient(self, n: int, dy: Array) -> Maps:
        """Return where the output's gradients of all tiles lie in `dy`."""
        t = self.tiles
        return Maps(dy, t.order(n).of("dy", self.dy_pixel, t.tile_size))

    def pieces(self, most: int) -> int:
        return min(most, max(1, self.convolution.y.pitch // _panel_width(self.convolution)))

    def filter_gradient(
        self, n: int, x: Array, dy: Array, dw: Array, dbias: Array, scratch: Any, micro_batch: MicroBatch = WHOLE,
        piece: Piece = UNCUT,
    ) -> None:  # fmt: skip
        c, t = self.convolution, self.tiles
        if piece.count == 1:
            self._gradient_of_filters(n, x, dy, c.y.pitch, scratch, self.du_row, Maps(dw, self.all_taps), dbias)
            return
        # Of some filters; the input is transformed again for each piece.
        rows, filters = self.way(c.window).taps ** 2 * c.channels, piece.cut(c.y.pitch, _panel_width(c))
        width = filters.stop - filters.start
        du_row = as_table(np.arange(t.points * t.col.size) * width)
        taps = as_table(self.all_taps // c.y.pitch * width)  # as many channels apart, but negative stays negative
        part = aligned_zeros(rows * width, c.dtype)
        self._gradient_of_filters(
            n, x, dy[filters.start :], width, scratch, du_row, Maps(part, taps), dbias[filters]
        )  # fmt: skip
        residual.copy_channels(
            Maps(part, as_table(np.arange(rows) * width)), 0, Maps(dw, as_table(np.arange(rows) * c.y.pitch)),
            filters.start, rows, width,
        )  # fmt: skip

    def _gradient_of_filters(
        self, n: int, x: Array, dy: Array, filters: int, scratch: Any, du_row: IntArray, dw: Maps, dbias: Array
    ) -> None:
        """Compute the gradient of so many filters, those to which `dy` leads."""
        t, (v, w, du) = self.tiles, scratch[:3]
        kernels.filter_gradient(
            self.scheme, t.patches(n, x), Points(v, t.point_col, t.v_plane), t.tile_col, self._gradient(n, dy),
            Points(w, t.m_row, t.m_plane), filters, t.order(n).blocks, t.no_post.biases, Maps(du, du_row), dw, dbias,
        )  # fmt: skip


class Winograd4(Winograd):
    """Minimal filtering F(4 x 4, 3 x 3): 4 times fewer multiplications than direct, about twice its rounding error."""

    ways = (Way(3, F43()),)


class Tiles:
    """Tables of one pass: square tiles of outputs in `y`, patches of the pixels that they need in `x`."""

    def __init__(self, way: Way, c: Convolution, x: Layout, y: Layout, size: Pair, origin: Pair, channels: int) -> None:
        self.scheme, self.points, self.x, self.y = way.scheme, way.points, x, y
        tile, points, depth = way.scheme.tile, self.points, way.parts * x.pitch
        rows, columns = -(-size[0] // tile), -(-size[1] // tile)
        self.short = _short_tiles(size, tile)
        self.tile_size = tile * tile
        self._orders: dict[int, Order] = {}
        top, left = tile * np.arange(rows)[:, None] + origin[0], tile * np.arange(columns)[None, :] + origin[1]
        self.x_tile = x.table(c.images, top, left)
        offsets = np.array(way.offsets)
        self.shifts = as_table((offsets[:, None] * x.row_size + offsets[None, :] * x.pitch).ravel())
        h, w = tile_pixels(size, tile)
        inside = ((h < size[0]) & (w < size[1])).ravel()
        self.y_pixel = as_table(np.where(np.tile(inside, c.images), y.table(c.images, h, w), -1))
        self.block = max(FEWEST, CACHED // (points * (depth + y.pitch)) // 6 * 6)
        # The planes of the points must not begin at the same place of the first-level cache.
        self.v_plane, self.m_plane = self.block * depth + 16, self.block * y.pitch + 16
        self.v_size, self.m_size = points * self.v_plane, points * self.m_plane
        point, of_block = np.arange(points)[:, None], np.arange(self.block)[None, :]
        self.v_row = as_table(point * self.v_plane + of_block * depth)
        self.m_row = as_table(point * self.m_plane + of_block * y.pitch)
        self.col = as_table(np.arange(way.parts)[:, None] * x.pitch + np.arange(channels)[None, :])
        # The same transformed input, read the other way round: rows are channels, columns are tiles.
        self.point_col = as_table(point * self.v_plane + self.col[None, :])
        self.tile_col = as_table(np.arange(self.block) * depth)
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
        kernels.forward(
            self.scheme, self.patches(n, x), Points(v, self.v_row, self.v_plane), self.col, u,
            Points(m, self.m_row, self.m_plane), self.y.pitch, self.order(n).blocks, self.no_post.biases, post, y,
            pooling,
        )  # fmt: skip

    def order(self, n: int) -> Order:
        """Return the order of the tiles of `n` images; made once for each n."""
        if n not in self._orders:
            self._orders[n] = order_of(np.tile(self.short, (n, 1)), self.block)
        return self._orders[n]

    def pixels(self, n: int, y: Array) -> Maps:
        """Return where the pixels of the tiles of `n` images lie in the maps `y`."""
        return Maps(y, self.order(n).of("y", self.y_pixel, self.tile_size))

    def patches(self, n: int, x: Array) -> Patches:
        """Return the patches of the tiles of `n` images in the maps `x`."""
        return Patches(x, self.order(n).of("x", self.x_tile), self.shifts, self.x.row_size, self.x.pitch)


@dataclass
class Order:
    """The tiles of some images in the order in which they are computed.

    Attributes
    ----------
    numbers : array or None
        Of the tiles; None where that is the order of the tables.
    blocks : Blocks
    tables : dict
        By name, tables in this order.
    """

    numbers: IntArray | None
    blocks: Blocks
    tables: dict[str, IntArray] = field(default_factory=dict)

    def of(self, name: str, table: IntArray, count: int = 1) -> IntArray:
        """Return a table, which has `count` entries for each tile, in this order; made once."""
        if self.numbers is None:
            return table
        if name not in self.tables:
            self.tables[name] = as_table(table.reshape(-1, count)[self.numbers].ravel())
        return self.tables[name]


def order_of(short: IntArray, most: int) -> Order:
    """Return blocks of at most so many tiles, neighbours as far as they can be; `short` as `_short_tiles` returns it.

    In a block come the tiles without their last row, whole ones, those without their last column, those without both:
    whichever of a tile's last row and column a point needs, the tiles that have it follow each other.
    """
    place = np.where(short[:, 0], 3 * short[:, 1], 1 + short[:, 1])
    numbers, ranges = [], []
    for begin in range(0, len(place), most):
        of_block = place[begin : begin + most]
        numbers.append(begin + np.argsort(of_block, kind="stable"))
        first, whole, last = np.searchsorted(np.sort(of_block), [1, 2, 3])  # where those of the next place begin
        ranges.append([0, len(of_block), 0, whole, first, last, first, whole])
    return Order(np.concatenate(numbers) if short.any() else None, Blocks(len(place), as_table(np.ravel(ranges))))


def _short_tiles(size: Pair, tile: int) -> IntArray:
    """Return for each tile of an image whether its last row, and its last column, lie beyond the image."""
    h, w = (tile * np.arange(1, -(-one // tile) + 1) > one for one in size)
    rows, columns = np.broadcast_arrays(h[:, None], w[None, :])
    return np.stack([rows.ravel(), columns.ravel()], axis=1)


def _rest(tile: int, size: Pair) -> Halo:
    """Return the rows and columns by which the last tiles reach beyond an output of that size."""
    return Halo(bottom=-size[0] % tile, right=-size[1] % tile)


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
