"""How feature maps lie in memory inside the engine: channels last, with a halo of zeros around each image."""

from __future__ import annotations

import operator
from dataclasses import astuple, dataclass, replace

import numpy as np

from ..jit.target import LANES, caches, vector_set
from ..typing import Array, IntArray
from .arrays import aligned_zeros, as_table


@dataclass(frozen=True)
class Halo:
    """Rows and columns of zeros around an image."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    def __or__(self, other: Halo) -> Halo:
        """Return the smallest halo that contains both."""
        return Halo(*map(max, astuple(self), astuple(other)))

    def __add__(self, other: Halo) -> Halo:
        """Return a halo as wide as both together."""
        return Halo(*map(operator.add, astuple(self), astuple(other)))


@dataclass(frozen=True)
class Layout:
    """The place of every number of a batch of feature maps in a flat buffer.

    A buffer of n images is `(n, top + height + bottom, left + width + right, pitch)`, flat and C-ordered. A vector of
    D features is D channels of a 1 x 1 image.

    Attributes
    ----------
    channels, height, width : int
        The public shape of an image.
    pitch : int
        Numbers per pixel: the channels, padded to whole vector registers except in a network's input.
    halo : Halo
    is_padded : bool
        Whether the channels are padded.
    """

    channels: int
    height: int
    width: int
    pitch: int
    halo: Halo = Halo()
    is_padded: bool = True

    @property
    def rows(self) -> int:
        """Rows of an image in memory, halo included."""
        return self.halo.top + self.height + self.halo.bottom

    @property
    def columns(self) -> int:
        """Columns of an image in memory, halo included."""
        return self.halo.left + self.width + self.halo.right

    @property
    def row_size(self) -> int:
        """Numbers from one row to the next."""
        return self.columns * self.pitch

    @property
    def image_size(self) -> int:
        """Numbers from one image to the next."""
        return self.rows * self.row_size

    @property
    def common_pitch(self) -> int:
        """Numbers per pixel where registers have sixteen lanes: what orders sums counts these, on every processor."""
        return -(-self.channels // LANES) * LANES if self.is_padded else self.channels

    @property
    def common_size(self) -> int:
        """Numbers from one image to the next where registers have sixteen lanes."""
        return self.rows * self.columns * self.common_pitch

    @property
    def pixels(self) -> int:
        """Pixels of an image, halo excluded."""
        return self.height * self.width

    @property
    def shape(self) -> tuple[int, int, int]:
        """The public shape (C, H, W)."""
        return self.channels, self.height, self.width

    @property
    def is_public(self) -> bool:
        """Whether a buffer of images is their public array: (C, H, W) in C order, with nothing in between."""
        return self.halo == Halo() and self.pitch == self.channels and (self.channels == 1 or self.pixels == 1)

    def outlasts_cache(self, images: int, dtype: np.dtype) -> bool:
        """Tell whether a buffer of `images` images is better written past the caches, and aligned for that.

        It has then left them before it is read again: many threads share the last level, however large it is.
        """
        size = dtype.itemsize
        return images * self.image_size * size > caches().last and self.pitch * 8 * size % vector_set().bits == 0

    def with_halo(self, halo: Halo) -> Layout:
        """Return the same maps with another halo."""
        return replace(self, halo=halo)

    def offset(self, h: IntArray | int, w: IntArray | int) -> IntArray:
        """Return where channel 0 of pixel (h, w) of the first image is; halo pixels have negative indices."""
        return np.asarray(
            (np.asarray(h) + self.halo.top) * self.row_size + (np.asarray(w) + self.halo.left) * self.pitch
        )

    def table(self, images: int, h: IntArray | int, w: IntArray | int) -> IntArray:
        """Return the offsets of pixels (h, w), any broadcastable arrays, of each of `images` images, flat, int32."""
        one = self.offset(h, w).ravel()
        whole = np.arange(images)[:, None] * self.image_size + one
        if whole.size and whole.max() > np.iinfo(np.int32).max:
            raise ValueError(
                f"images of shape {self.shape}: {images} at once need offsets beyond 32 bits; use smaller batches"
            )
        return as_table(whole)

    def pixel_table(self, images: int) -> IntArray:
        """Return the offsets of all pixels of `images` images, row by row."""
        return self.table(images, np.arange(self.height)[:, None], np.arange(self.width)[None, :])

    def line_table(self, images: int) -> IntArray:
        """Return the offsets of the first pixel of each line of `images` images."""
        return self.table(images, np.arange(self.height), 0)

    def channel_offsets(self, channels: int) -> IntArray:
        """Return the offsets of a pixel's channels."""
        return as_table(np.arange(channels))

    def physical_order(self) -> tuple[IntArray, IntArray]:
        """Return every feature's offset in memory order, and its number in the public order C, H, W."""
        h, w, c = np.meshgrid(np.arange(self.height), np.arange(self.width), np.arange(self.channels), indexing="ij")
        offsets = self.offset(h, w) + c
        numbers = (c * self.height + h) * self.width + w
        return as_table(offsets), as_table(numbers)

    def allocate(self, images: int, dtype: np.dtype) -> Array:
        """Return a zeroed flat buffer for `images` images."""
        return aligned_zeros(images * self.image_size, dtype)

    def view(self, buffer: Array, images: int) -> Array:
        """Return the public (N, C, H, W) view of a buffer: its memory is N, H, W, C."""
        whole = buffer[: images * self.image_size].reshape(images, self.rows, self.columns, self.pitch)
        top, left = self.halo.top, self.halo.left
        inner = whole[:, top : top + self.height, left : left + self.width, : self.channels]
        return inner.transpose(0, 3, 1, 2)


@dataclass(frozen=True)
class BlockedLayout:
    """Maps of a micro-batch as (block, pixel, channel of the block), instead of channels last.

    Attributes
    ----------
    width : int
        Channels of a block: two vectors, or as many as a row of a product has that skips zeros.
    span : int
        Numbers from one block to the next.
    """

    width: int
    span: int

    def table(self, layout: Layout, images: int, h: IntArray | int, w: IntArray | int) -> IntArray:
        """Return the offsets of pixels (h, w) of `images` images, as `Layout.table` does."""
        return Layout(self.width, layout.height, layout.width, self.width).table(images, h, w)

    def channel_offsets(self, channels: int) -> IntArray:
        """Return the offsets of a pixel's channels."""
        channel = np.arange(channels)
        return as_table(channel // self.width * self.span + channel % self.width)

    def image_size(self, layout: Layout, images: int) -> int:
        """Return the numbers of each of `images` images, with its part of what is between blocks."""
        return -(-layout.pitch // self.width * self.span // images)


def padded(channels: int, dtype: np.dtype | type = np.float32) -> int:
    """Return the pitch for `channels`: the next multiple of the lanes of a vector.

    Parameters and the maps between layers are padded for float32 whatever their dtype, so that they fit each other.
    """
    lanes = vector_set().lanes(dtype)
    return -(-channels // lanes) * lanes
