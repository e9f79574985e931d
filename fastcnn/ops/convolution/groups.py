"""Convolution in groups: the direct algorithm on the channels and filters of one group, or of a few, after another."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from ...engine.arrays import aligned_zeros
from ...engine.ir import Piece
from ...jit.target import vector_set
from ...kernels import conv_groups as kernels
from ...kernels.maps import PostOps
from ...typing import Array
from .algorithm import UNCUT, WHOLE, Convolution, MicroBatch, TwoPasses
from .direct import Direct


class Grouped(TwoPasses):
    """Bundles of groups, each a direct convolution of its own between the same pixels.

    A group whose filters do not fill whole vectors writes beyond them, into columns that the next group overwrites:
    so groups go in order, and the last ones are bundled, with zeros between them, until nothing lies beyond the pitch.
    """

    def __init__(self, convolution: Convolution) -> None:
        super().__init__(convolution)
        c = convolution
        self.size = c.channels // c.groups, c.filters // c.groups
        self.taps = c.window.vertical.taps * c.window.horizontal.taps
        pitches = c.dx.pitch if c.dx else None, c.y.pitch
        lanes = vector_set().lanes(c.dtype)
        kinds: dict[int, Direct] = {}
        self.bundles = []
        for first, count in _bundles(c.groups, self.size, pitches, lanes):
            if count not in kinds:
                kinds[count] = Direct(self._part(count, lanes))
            self.bundles.append(self._bundle(first, count, kinds[count]))
        self.most = max(bundle.dense.size for bundle in self.bundles)

    def _part(self, count: int, lanes: int) -> Convolution:
        """Return the convolution of the first `count` groups."""
        channels, filters = (count * size for size in self.size)
        columns = -(-channels // lanes) * lanes, -(-filters // lanes) * lanes
        return replace(self.convolution, channels=channels, filters=filters, groups=1, pooled=None, columns=columns)

    def _bundle(self, first: int, count: int, kind: Direct) -> _Bundle:
        """Return `count` groups: tables as any bundle of that many, filters of their own."""
        direct, dtype = copy.copy(kind), self.convolution.dtype
        direct.packed = aligned_zeros(kind.packed.size, dtype)
        direct.panels = [replace(panel, packed=aligned_zeros(panel.packed.size, dtype)) for panel in kind.panels]
        c = direct.convolution
        dense = aligned_zeros(c.taps * c.columns_of_y, dtype)
        return _Bundle(count, first * self.size[0], first * self.size[1], c.columns_of_y, dense, direct)

    def allocate(self) -> Any:
        kinds = {bundle.count: bundle.direct for bundle in self.bundles}
        panels = [kind.allocate() for kind in kinds.values()]
        return (*super().allocate(), max(panels, key=len), aligned_zeros(self.most, self.convolution.dtype))

    def pack(self, filters: Array) -> None:
        pitch = self.convolution.y.pitch
        for b in self.bundles:
            kernels.spread(filters, b.filter, pitch, self.taps, b.count, *self.size, b.dense, b.columns)
            b.direct.pack(b.dense)

    def forward(self, n: int, x: Array, post: PostOps, y: Array, scratch: Any, micro_batch: MicroBatch = WHOLE) -> None:
        for b in self.bundles:
            b.direct.forward(n, x[b.channel :], _behind(post, b.filter), y[b.filter :], scratch[1])

    def input_gradient(self, n: int, dy: Array, dx: Array, scratch: Any, micro_batch: MicroBatch = WHOLE) -> None:
        for b in self.bundles:
            b.direct.input_gradient(n, dy[b.filter :], dx[b.channel :], scratch[1])

    def transposed(self, n: int, x: Array, post: PostOps, y: Array) -> None:
        for b in self.bundles:
            b.direct.transposed(n, x[b.filter :], _behind(post, b.channel), y[b.channel :])

    def filter_gradient(
        self, n: int, x: Array, dy: Array, dw: Array, dbias: Array, scratch: Any, micro_batch: MicroBatch = WHOLE,
        piece: Piece = UNCUT,
    ) -> None:  # fmt: skip
        pitch, dense = self.convolution.y.pitch, scratch[2]
        for b in self.bundles:
            b.direct.filter_gradient(n, x[b.channel :], dy[b.filter :], dense, dbias[b.filter :], scratch[1])
            kernels.gather(dense, b.columns, self.taps, b.count, *self.size, dw, b.filter, pitch)


def _behind(post: PostOps, first: int) -> PostOps:
    """Return the post-ops of the outputs from `first` on."""
    return post._replace(biases=post.biases[first:])


@dataclass(frozen=True)
class _Bundle:
    """A few groups: their first channel and filter, the columns of their output, their filters as one matrix."""

    count: int
    channel: int
    filter: int
    columns: int
    dense: Array
    direct: Direct


def _bundles(
    groups: int, size: tuple[int, int], pitches: tuple[int | None, int], lanes: int
) -> Iterator[tuple[int, int]]:
    """Yield the first group and the number of groups of each bundle.

    Groups that are narrower than a vector share one. The last bundle takes as many as it needs for no bundle to write
    beyond a pitch; with all groups in one it always fits.
    """
    step = max(1, min(lanes // width for width in size))
    starts = list(range(0, groups, step))

    def fits(first: int, count: int) -> bool:
        ends = [first * width - (-count * width // lanes) * lanes for width in size]
        return all(pitch is None or end <= pitch for end, pitch in zip(ends, pitches, strict=True))

    last = next(
        start
        for start in reversed(starts)
        if fits(start, groups - start) and all(fits(first, step) for first in starts if first < start)
    )
    for first in starts:
        if first < last:
            yield first, step
    yield last, groups - last
