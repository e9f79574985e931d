"""What the convolution algorithms have in common: each is bound to the layouts of one convolution.

All have the same functions: `pack` for new filters, `forward`, `input_gradient`, `filter_gradient`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ...engine.ir import Piece
from ...engine.layout import BlockedLayout, Halo, Layout
from ...kernels import conv_depthwise, pool
from ...kernels.maps import Lines, Maps, PooledGradient, PostOps
from ...typing import Array, IntArray
from ..window import Pair, Window, windows_of_2


class MicroBatch(NamedTuple):
    """The images of a shard that a call is for.

    Attributes
    ----------
    accumulate : bool
        Whether sums over images are added to what those before have left; the first ones overwrite it.
    prefetch : sequence of array
        What is read next, see `Workspace`.
    """

    accumulate: bool = False
    prefetch: Sequence[Array] = ()


WHOLE = MicroBatch()
UNCUT = Piece()
NO_TAPS = np.zeros(0, np.int32)


@dataclass(frozen=True)
class Convolution:
    """One convolution, bound to workspace.

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
        Gradient of the input, or None where it is not needed.
    dtype : dtype
    x_panels, dy_panels : BlockedLayout or None
        How the input and the gradient of the output stand in a backward pass, where not as their layouts say.
    columns : pair of int or None
        Numbers per pixel of the input's gradient and of the output that are written, where not the whole pitches.
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
    x_panels: BlockedLayout | None = None
    dy_panels: BlockedLayout | None = None
    columns: Pair | None = None

    @property
    def columns_of_dx(self) -> int:
        """Numbers per pixel of the input's gradient that are written."""
        return self.columns[0] if self.columns else self.dx.pitch if self.dx else 0

    @property
    def columns_of_y(self) -> int:
        """Numbers per pixel of the output that are written, and of a row of the filters."""
        return self.columns[1] if self.columns else self.y.pitch

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

    Attributes
    ----------
    reads_any_pitch : bool
        Whether the channels of the input need no padding.
    replayable : bool
        Whether it does nothing but call kernels.
    copies : bool
        Whether `pack` keeps copies of the filters, and not the array itself.
    spreads_pooling : bool
        Whether it has `filter_gradient_pool`: the filter gradient straight from the pooled gradient.
    fills : bool
        Whether the input gradient is written as a whole, padding channels too.
    accumulates : bool
        Whether it takes the images of a shard a few at a time, and adds up the filters' gradient.
    """

    reads_any_pitch = True
    replayable = True
    copies = True
    spreads_pooling = False
    fills = False
    accumulates = False

    @classmethod
    def fits(cls, window: Window, groups: int) -> bool:
        """Tell whether the algorithm knows such a convolution."""
        return True

    @classmethod
    def reads_panels(cls, window: Window) -> bool:
        """Tell whether backward can find the input, and the gradient of the output, in panels."""
        return False

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

    @property
    def forward_by_image(self) -> bool:
        """Whether threads may share out the images of a shard in `forward` and `forward_pool`."""
        return self.replayable

    @property
    def backward_by_image(self) -> bool:
        """Whether they may in `input_gradient`: each number of it is then the same sum in the same order."""
        return self.replayable

    def pieces(self, most: int) -> int:
        """Return into how many pieces, up to `most`, threads may cut the filter gradient."""
        return 1

    @property
    def scratch_key(self) -> Hashable:
        """The key of the scratch: algorithms with equal keys reuse one; by default this one alone."""
        return self

    def allocate(self) -> Any:
        """Return the scratch of one worker."""
        return None

    @abstractmethod
    def pack(self, filters: Array) -> None:
        """Take new filters."""

    @property
    def backward_filters(self) -> int:
        """As of `Op`."""
        return 0

    def take_turns_in(self, memory: Array) -> None:
        """As of `Op`."""

    def pack_backward(self, filters: Array) -> None:
        """Take new filters for backward alone."""

    @abstractmethod
    def forward(self, n: int, x: Array, post: PostOps, y: Array, scratch: Any, micro_batch: MicroBatch = WHOLE) -> None:
        """y = max(post.clamp_min, post.biases + x * filters)."""

    def forward_pool(
        self, n: int, x: Array, post: PostOps, y: Array, ties_all: bool, argmax: Array, scratch: Any
    ) -> None:
        """y = max-pool 2 x 2 of what `forward` computes; `ties_all` and `argmax` as in `Pooling`."""
        raise NotImplementedError

    def filter_gradient_pool(self, n: int, x: Array, dy: PooledGradient, dw: Array, dbias: Array, scratch: Any) -> None:
        """Dw and dbias from the gradient of the pooled maps, for a first layer."""
        raise NotImplementedError

    @abstractmethod
    def input_gradient(self, n: int, dy: Array, dx: Array, scratch: Any, micro_batch: MicroBatch = WHOLE) -> None:
        """dx = dy, correlated with the flipped filters."""

    @abstractmethod
    def filter_gradient(
        self, n: int, x: Array, dy: Array, dw: Array, dbias: Array, scratch: Any, micro_batch: MicroBatch = WHOLE,
        piece: Piece = UNCUT,
    ) -> None:  # fmt: skip
        """dw = x correlated with dy; dbias = dy summed over images and pixels.

        Of several pieces, no more than `pieces` says, this is one; other threads compute the others meanwhile.
        """


class TwoPasses(Algorithm):
    """An algorithm that does not pool as it goes: where a pooling follows, the maps stand in `scratch[0]` first."""

    def __init__(self, convolution: Convolution) -> None:
        super().__init__(convolution)
        c = convolution
        if c.pooled:
            self.conv_row, self.pooled_row = c.y.table(c.images, *c.output_pixels()), c.pooled.pixel_table(c.images)

    @property
    def forward_by_image(self) -> bool:
        return self.replayable and not self.convolution.pooled  # all maps of a shard are in its scratch

    @property
    def backward_by_image(self) -> bool:
        return self.forward_by_image

    def allocate(self) -> Any:
        c = self.convolution
        return (c.y.allocate(c.images, c.dtype) if c.pooled else None,)

    def forward_pool(
        self, n: int, x: Array, post: PostOps, y: Array, ties_all: bool, argmax: Array, scratch: Any
    ) -> None:
        c, maps = self.convolution, scratch[0]
        self.forward(n, x, post, maps, scratch)
        pool.pool2(
            Maps(maps, self.conv_row), 0, Maps(y, self.pooled_row), argmax, 0, n * c.pixels // 4, c.y.pitch,
            post.clamp_min, ties_all,
        )  # fmt: skip


def bias_gradient(dy: Lines, lines: int, width: int, pitch: int, dbias: Array, accumulate: bool = False) -> None:
    """dbias = dy summed over `lines` lines of pixels: a depthwise filter gradient without taps."""
    if not accumulate:
        conv_depthwise.clear(dbias, dbias.size)
    conv_depthwise.filter_gradient(dy, NO_TAPS, dy, lines, width, pitch, Maps(dbias, NO_TAPS), dbias)
