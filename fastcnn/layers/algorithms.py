"""The convolution algorithms: direct, im2col, Winograd, each bound to the layouts of one convolution.

All have the same functions: `pack` for new filters, `forward`, `input_gradient`, `filter_gradient`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..kernels import conv_direct, conv_im2col, conv_winograd, product
from ..kernels.machine import vector_set
from ..kernels.pool import pool2
from ..typing import Array, IntArray
from .geometry import Pair, Window, windows_of_2
from .layout import Halo, Layout, aligned_zeros


@dataclass(frozen=True)
class Convolution:
    """One convolution, bound to memory.

    Attributes
    ----------
    window : Window
    channels, filters, groups : int
    images : int
        The most images at once.
    x, y : Layout
        Input maps and convolution output.
    pooled : Layout or None
        What is stored instead of the output where a max-pooling of 2 x 2 follows in the same pass.
    dy : Layout or None
        Gradient of the convolution output, or None without a backward pass.
    dx : Layout or None
        Gradient of the input, or None where nobody asks.
    dtype : dtype
    """

    window: Window
    channels: int
    filters: int
    groups: int
    images: int
    x: Layout
    y: Layout
    dy: Layout | None
    dx: Layout | None
    dtype: np.dtype
    pooled: Layout | None = None

    @property
    def taps(self) -> int:
        """Products per output number: kH · kW · C / groups."""
        return self.window.vertical.taps * self.window.horizontal.taps * (self.channels // self.groups)

    @property
    def outputs(self) -> Pair:
        """Rows and columns of output pixels that are computed: whole windows, where a pooling follows."""
        rows, columns = self.window.outputs
        return (rows // 2 * 2, columns // 2 * 2) if self.pooled else (rows, columns)

    @property
    def pixels(self) -> int:
        """Output pixels of one image that are computed."""
        return self.outputs[0] * self.outputs[1]

    def output_pixels(self) -> tuple[IntArray, IntArray]:
        """Return the output pixels (h, w) in their order: row by row, or window by window of the pooling."""
        rows, columns = self.outputs
        if self.pooled:
            return windows_of_2(rows, columns)
        return np.arange(rows)[:, None], np.arange(columns)[None, :]


class Algorithm(ABC):
    """A way to compute a convolution and its gradients.

    Filters and their gradient are flat (kH, kW, C/groups, pitch of the filters) throughout.
    """

    @classmethod
    def fits(cls, window: Window, groups: int) -> bool:
        """Tell whether the algorithm knows such a convolution."""
        return True

    @classmethod
    def input_halo(cls, window: Window) -> Halo:
        """Return the zeros that it reads around the input."""
        return window.input_halo

    @classmethod
    def gradient_halo(cls, window: Window) -> Halo:
        """Return the zeros that its backward pass reads around the gradient of the output."""
        return window.gradient_halo

    def __init__(self, convolution: Convolution) -> None:
        self.convolution = convolution

    def allocate(self) -> Any:
        """Return the scratch of one worker."""
        return None

    @abstractmethod
    def pack(self, filters: Array) -> None:
        """Take new filters."""

    @abstractmethod
    def forward(self, n: int, x: Array, biases: Array, floor: Any, y: Array, scratch: Any) -> None:
        """y = max(floor, biases + x * filters)."""

    def forward_pool(
        self, n: int, x: Array, biases: Array, floor: Any, every: bool, y: Array, winners: Array, scratch: Any
    ) -> None:
        """y = max-pool 2 x 2 of max(floor, biases + x * filters); `winners` as in the kernel `pool2`."""
        raise NotImplementedError

    @abstractmethod
    def input_gradient(self, n: int, dy: Array, dx: Array, scratch: Any) -> None:
        """dx = dy, correlated with the flipped filters."""

    @abstractmethod
    def filter_gradient(self, n: int, x: Array, dy: Array, dw: Array, dbias: Array, scratch: Any) -> None:
        """dw = x correlated with dy; dbias = dy summed over images and pixels."""


class Direct(Algorithm):
    """The indirect matrix product on haloed channels-last maps: no copy of the input is ever made."""

    @classmethod
    def fits(cls, window: Window, groups: int) -> bool:
        return groups == 1

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
            self.band_row = (np.arange(self.x_row.size) % product.BAND * c.y.pitch).astype(np.int32)
        else:
            self.y_row = c.y.table(c.images, oh, ow)
        r, s = np.arange(vertical.taps)[:, None], np.arange(horizontal.taps)[None, :]
        taps = r * vertical.dilation * c.x.row_size + s * horizontal.dilation * c.x.pitch
        self.x_col = (taps[:, :, None] + np.arange(c.channels)).ravel().astype(np.int32)
        self.w_row = (np.arange(c.taps) * c.y.pitch).astype(np.int32)
        self.packed = aligned_zeros(c.taps * c.y.pitch, c.dtype)
        self.zeros = aligned_zeros(max(c.y.pitch, c.dx.pitch if c.dx else 0), c.dtype)
        self.none = c.dtype.type(-np.inf)
        self.phases = self._plan_phases(c, c.dy, c.dx) if c.dy and c.dx else []

    def _plan_phases(self, c: Convolution, dy: Layout, dx: Layout) -> list[_Phase]:
        """Return the tables of the input gradient, one set for each phase of the strides."""
        vertical, horizontal = c.window.vertical, c.window.horizontal
        lane_row = np.full(dx.pitch, -1, np.int32)
        lane_row[: c.channels] = np.arange(c.channels) * c.y.pitch
        phases = []
        for h, r in vertical.phases():
            for w, s in horizontal.phases():
                if not (h.size and w.size):
                    continue
                blocks = (r[:, None] * horizontal.taps + s[None, :]).ravel() * c.channels * c.y.pitch
                # The pixel's part and the tap's part of (i + before - t · dilation) / stride.
                oh = (h[:, None] + vertical.before) // vertical.stride
                ow = (w[None, :] + horizontal.before) // horizontal.stride
                up, back = r * vertical.dilation // vertical.stride, s * horizontal.dilation // horizontal.stride
                taps = -(up[:, None, None] * dy.row_size + back[None, :, None] * dy.pitch) + np.arange(c.filters)
                phases.append(
                    _Phase(
                        pixels=h.size * w.size,
                        dy_row=dy.table(c.images, oh, ow),
                        dy_col=taps.ravel().astype(np.int32),
                        dx_row=dx.table(c.images, h[:, None], w[None, :]),
                        blocks=blocks.astype(np.int32),
                        lane_row=lane_row,
                        packed=aligned_zeros(taps.size * dx.pitch, c.dtype),
                    )
                )
        return phases

    def allocate(self) -> Array:
        # A panel of the output's gradient, or a band of the convolution that is pooled at once.
        return aligned_zeros(max(product.PIXELS, product.BAND) * self.convolution.y.pitch, self.convolution.dtype)

    def pack(self, filters: Array) -> None:
        c = self.convolution
        if product.is_panel(c.y.pitch, c.dtype):
            self.packed = filters
        else:
            product.pack(filters, self.w_row, c.taps, c.y.pitch, self.packed)
        for p in self.phases:
            product.pack_transposed(
                filters, p.blocks, p.blocks.size, c.filters, p.lane_row, p.lane_row.size, p.packed
            )

    def forward(self, n: int, x: Array, biases: Array, floor: Any, y: Array, scratch: Any) -> None:
        c = self.convolution
        conv_direct.forward(
            x, self.x_row, 0, n * c.pixels, self.x_col, c.taps, self.packed, 0, y, self.y_row, c.y.pitch, biases, floor
        )

    def forward_pool(
        self, n: int, x: Array, biases: Array, floor: Any, every: bool, y: Array, winners: Array, scratch: Any
    ) -> None:
        c = self.convolution
        conv_direct.forward_pool(
            x, self.x_row, self.x_col, c.taps, self.packed, biases, floor, every, scratch, self.band_row, y, self.y_row,
            winners, n * c.pixels // 4, c.y.pitch,
        )  # fmt: skip

    def input_gradient(self, n: int, dy: Array, dx: Array, scratch: Any) -> None:
        for p in self.phases:
            conv_direct.forward(
                dy, p.dy_row, 0, n * p.pixels, p.dy_col, p.dy_col.size, p.packed, 0, dx, p.dx_row, p.lane_row.size,
                self.zeros, self.none,
            )  # fmt: skip

    def filter_gradient(self, n: int, x: Array, dy: Array, dw: Array, dbias: Array, scratch: Any) -> None:
        c = self.convolution
        product.gradient_product(
            x, self.x_col, c.taps, self.x_row, n * c.pixels, dy, self.dy_row, c.y.pitch, scratch, dw, self.w_row,
            self.zeros, dbias,
        )  # fmt: skip


@dataclass(frozen=True)
class _Phase:
    """Tables of the input gradient for the pixels of one phase of the strides."""

    pixels: int
    dy_row: IntArray
    dy_col: IntArray
    dx_row: IntArray
    blocks: IntArray
    lane_row: IntArray
    packed: Array


class Im2col(Algorithm):
    """Windows copied to a matrix, then BLAS: any case, any machine, groups too."""

    def __init__(self, convolution: Convolution) -> None:
        super().__init__(convolution)
        c = convolution
        if c.pooled:
            self.conv_row, self.y_row = c.y.table(c.images, *c.output_pixels()), c.pooled.pixel_table(c.images)

    def allocate(self) -> Array | None:
        c = self.convolution
        return c.y.allocate(c.images, c.dtype) if c.pooled else None

    def pack(self, filters: Array) -> None:
        c = self.convolution
        self.filters = filters.reshape(
            c.window.vertical.taps, c.window.horizontal.taps, c.channels // c.groups, c.y.pitch
        )[..., : c.filters]

    def forward(self, n: int, x: Array, biases: Array, floor: Any, y: Array, scratch: Any) -> None:
        c = self.convolution
        out = c.y.view(y, n)
        conv_im2col.forward(self._windows(n, x), self.filters, c.groups, out)
        out += biases[: c.filters, None, None]
        np.maximum(out, floor, out=out)

    def forward_pool(
        self, n: int, x: Array, biases: Array, floor: Any, every: bool, y: Array, winners: Array, scratch: Any
    ) -> None:
        c = self.convolution
        self.forward(n, x, biases, floor, scratch, None)
        pool2(
            scratch, self.conv_row, 0, y, self.y_row, winners, 0, n * c.pixels // 4, c.y.pitch, floor, every
        )

    def input_gradient(self, n: int, dy: Array, dx: Array, scratch: Any) -> None:
        c = self.convolution
        assert c.dx is not None
        conv_im2col.input_gradient(c.dy.view(dy, n), self.filters, c.groups, c.window, c.dx.view(dx, n))

    def filter_gradient(self, n: int, x: Array, dy: Array, dw: Array, dbias: Array, scratch: Any) -> None:
        c = self.convolution
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


class Winograd(Algorithm):
    """Minimal filtering F(2 x 2, 3 x 3): 2.25 times fewer multiplications, for 3 x 3 windows of stride 1."""

    @classmethod
    def fits(cls, window: Window, groups: int) -> bool:
        axes = (window.vertical, window.horizontal)
        return groups == 1 and all(axis.taps == 3 and axis.stride == axis.dilation == 1 for axis in axes)

    @classmethod
    def input_halo(cls, window: Window) -> Halo:
        # Patches are read whole, also where the last tile has but one row or column of outputs.
        extra = Halo(bottom=window.vertical.outputs % 2, right=window.horizontal.outputs % 2)
        return window.input_halo + extra

    @classmethod
    def gradient_halo(cls, window: Window) -> Halo:
        v, h = window.vertical, window.horizontal
        odd = Halo(bottom=v.outputs % 2, right=h.outputs % 2)
        return (window.gradient_halo + Halo(bottom=v.size % 2, right=h.size % 2)) | odd

    def __init__(self, convolution: Convolution) -> None:
        super().__init__(convolution)
        c = convolution
        v, h = c.window.vertical, c.window.horizontal
        self.none, self.half = c.dtype.type(-np.inf), c.dtype.type(0.5)
        self.forward_tiles = _Tiles(c.images, c.x, c.y, c.outputs, (-v.before, -h.before), c.channels, c.dtype)
        if c.pooled:
            self.y_row = c.pooled.pixel_table(c.images)
        self.u = aligned_zeros(POINTS * c.channels * c.y.pitch, c.dtype)
        if c.dy:
            # Odd sizes: the halo beside the last pixels is zero and is read instead of them.
            self.dy_pixel = c.dy.table(c.images, *_tile_pixels(c.outputs))
            self.du_row = (np.arange(POINTS * c.channels) * c.y.pitch).astype(np.int32)
        if c.dy and c.dx:
            before = v.before - 2, h.before - 2
            self.backward_tiles = _Tiles(c.images, c.dy, c.dx, (v.size, h.size), before, c.filters, c.dtype)
            # Where the row of a channel begins in each panel of U: a panel is two vectors wide, the last one may be one.
            width = 2 * vector_set().lanes(c.dtype)
            panels, channel = np.arange(0, c.y.pitch, width)[:, None], np.arange(c.dx.pitch)[None, :]
            wide = np.minimum(c.y.pitch - panels, width)
            rows = np.where(channel < c.channels, panels * c.channels + channel * wide, -1)
            self.u_row = rows.ravel().astype(np.int32)
            self.u_flipped = aligned_zeros(POINTS * c.filters * c.dx.pitch, c.dtype)

    def allocate(self) -> Any:
        c, tiles = self.convolution, self.forward_tiles
        sizes = [tiles.v_size]
        if c.dy and c.dx:
            sizes.append(self.backward_tiles.v_size)
        m_sizes = [tiles.m_size] + ([self.backward_tiles.m_size] if c.dy and c.dx else [])
        return (
            aligned_zeros(max(sizes), c.dtype),
            aligned_zeros(max(m_sizes), c.dtype),
            aligned_zeros(POINTS * c.channels * c.y.pitch if c.dy else 0, c.dtype),
        )

    def pack(self, filters: Array) -> None:
        c = self.convolution
        conv_winograd.transform_filters(filters, c.channels, c.y.pitch, self.u, self.half)
        if c.dy and c.dx:
            conv_winograd.flip_transpose(self.u, self.u_row, c.channels, c.filters, c.y.pitch, c.dx.pitch, self.u_flipped)

    def forward(self, n: int, x: Array, biases: Array, floor: Any, y: Array, scratch: Any) -> None:
        t = self.forward_tiles
        v, m, _ = scratch
        conv_winograd.forward(*t.arguments(x, v, self.u, m, n), biases, floor, y, t.y_pixel)

    def forward_pool(
        self, n: int, x: Array, biases: Array, floor: Any, every: bool, y: Array, winners: Array, scratch: Any
    ) -> None:
        t = self.forward_tiles
        v, m, _ = scratch
        conv_winograd.forward_pool(*t.arguments(x, v, self.u, m, n), biases, floor, every, y, self.y_row, winners)

    def input_gradient(self, n: int, dy: Array, dx: Array, scratch: Any) -> None:
        t = self.backward_tiles
        v, m, _ = scratch
        conv_winograd.forward(*t.arguments(dy, v, self.u_flipped, m, n), t.zeros, self.none, dx, t.y_pixel)

    def filter_gradient(self, n: int, x: Array, dy: Array, dw: Array, dbias: Array, scratch: Any) -> None:
        c, t = self.convolution, self.forward_tiles
        v, w, du = scratch
        conv_winograd.filter_gradient(
            x, t.x_tile, t.x.row_size, t.x.pitch, v, t.v_plane, t.point_col, t.tile_col, c.channels,
            dy, self.dy_pixel, w, t.m_plane, c.y.pitch, t.block, n * t.per_image, t.zeros, self.half,
            du, self.du_row, dw, dbias,
        )  # fmt: skip


POINTS = 16
CACHED = 98304  # numbers of transformed input and output of one block of tiles: they stay in the second-level cache


class _Tiles:
    """Tables of one pass of Winograd's algorithm: tiles of 2 x 2 outputs in `y`, patches of 4 x 4 in `x`."""

    def __init__(self, images: int, x: Layout, y: Layout, size: Pair, origin: Pair, channels: int, dtype: np.dtype) -> None:
        self.x, self.y, self.channels = x, y, channels
        rows, columns = -(-size[0] // 2), -(-size[1] // 2)
        self.per_image = rows * columns
        top, left = 2 * np.arange(rows)[:, None] + origin[0], 2 * np.arange(columns)[None, :] + origin[1]
        self.x_tile = x.table(images, top, left)
        h, w = _tile_pixels(size)
        inside = np.broadcast_to((h < size[0]) & (w < size[1]), (rows, columns, 4)).ravel()
        self.y_pixel = np.where(np.tile(inside, images), y.table(images, h, w), np.int32(-1))
        self.block = max(6, CACHED // (POINTS * (x.pitch + y.pitch)) // 6 * 6)
        # The 16 planes must not begin at the same place of the first-level cache.
        self.v_plane, self.m_plane = self.block * x.pitch + 16, self.block * y.pitch + 16
        self.v_size, self.m_size = POINTS * self.v_plane, POINTS * self.m_plane
        point, tile = np.arange(POINTS)[:, None], np.arange(self.block)[None, :]
        self.v_row = (point * self.v_plane + tile * x.pitch).ravel().astype(np.int32)
        self.m_row = (point * self.m_plane + tile * y.pitch).ravel().astype(np.int32)
        self.col = np.arange(channels, dtype=np.int32)
        # The same transformed input, read the other way round: rows are channels, columns are tiles.
        self.point_col = (point * self.v_plane + np.arange(channels)[None, :]).ravel().astype(np.int32)
        self.tile_col = (np.arange(self.block) * x.pitch).astype(np.int32)
        self.zeros = aligned_zeros(y.pitch, dtype)

    def arguments(self, x: Array, v: Array, u: Array, m: Array, n: int) -> tuple[Any, ...]:
        """Return what the forward kernels want of the tables, for `n` images."""
        return (
            x, self.x_tile, self.x.row_size, self.x.pitch, v, self.v_plane, self.v_row, self.col, self.channels, u,
            m, self.m_plane, self.m_row, self.y.pitch, self.block, n * self.per_image, self.zeros,
        )  # fmt: skip


def _tile_pixels(size: Pair) -> tuple[IntArray, IntArray]:
    """Return the pixels (h, w) of all tiles, the four of each tile side by side; the last may lie beyond the image."""
    h = 2 * np.arange(-(-size[0] // 2))[:, None, None] + np.array([0, 0, 1, 1])
    w = 2 * np.arange(-(-size[1] // 2))[None, :, None] + np.array([0, 1, 0, 1])
    return np.broadcast_arrays(h, w)


ALGORITHMS: dict[str, type[Algorithm]] = {"direct": Direct, "im2col": Im2col, "winograd": Winograd}


def choose(algorithm: str, window: Window, channels: int, filters: int, groups: int) -> type[Algorithm]:
    """Return the algorithm of that name, or for `"auto"` the one that was fastest on such shapes.

    An algorithm that does not know the case gives way to the next: Winograd to direct, direct to im2col.
    """
    if algorithm == "auto":
        wide = channels % 16 == 0 and filters % 16 == 0
        algorithm = "im2col" if not vector_set().known else "winograd" if wide else "direct"
    order = [Winograd, Direct, Im2col]
    first = order.index(ALGORITHMS[algorithm])
    return next(candidate for candidate in order[first:] if candidate.fits(window, groups))
