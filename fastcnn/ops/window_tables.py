"""Tables for sums over windows: which pixels each pixel reads, in which order, and with what weights.

Pooling and its gradient read the same pairs (output, tap) from two sides, so each side is one table for one kernel; no
kernel adds to a pixel that another turn of its loop has written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..engine.arrays import aligned_zeros, owned
from ..engine.layout import Layout
from ..typing import Array, IntArray
from .window import Axis

Tap = tuple[int, int, float]  # where its source is, counted from the target's first; its number in the window; weight


@dataclass(frozen=True)
class Reach:
    """What the targets along one axis read: from the source `base` on, the taps of their `kind`."""

    base: IntArray
    kind: IntArray
    kinds: list[tuple[Tap, ...]]

    @staticmethod
    def of(targets: Iterator[tuple[int, tuple[Tap, ...]]]) -> Reach:
        """Return the reach of targets that are given as (base, taps)."""
        kinds: dict[tuple[Tap, ...], int] = {}
        rows = [(base, kinds.setdefault(taps, len(kinds))) for base, taps in targets]
        base, kind = np.array(rows).T
        return Reach(base, kind, list(kinds))


def windows(axis: Axis, weights: Sequence[float]) -> Reach:
    """Return what each output reads: the taps of its window that lie in the image, with the output's weight."""
    return Reach.of(
        (
            output * axis.stride - axis.before,
            tuple(
                (t * axis.dilation, t, weights[output])
                for t in range(axis.taps)
                if 0 <= _pixel(axis, output, t) < axis.size
            ),
        )
        for output in range(axis.outputs)
    )


def owners(axis: Axis, weights: Sequence[float]) -> Reach:
    """Return what each pixel reads in a gradient: the outputs whose windows it lies in, with their weights."""
    return transposed(windows(axis, weights), axis.size)


def interpolations(size: int, factor: int) -> Reach:
    """Return what each of `size · factor` pixels reads in linear interpolation: the two pixels that it lies between.

    Centres of pixels keep their places, `(i + 1/2) / factor - 1/2` in pixels of the source; beyond the outermost
    centres there is one pixel to read.
    """
    return Reach.of(_between(size, 2 * i + 1 - factor, 2 * factor) for i in range(size * factor))


def _between(size: int, place: int, unit: int) -> tuple[int, tuple[Tap, ...]]:
    """Return the base and the taps of a place, in units of so many to a pixel."""
    pixel, rest = divmod(min(max(place, 0), (size - 1) * unit), unit)
    taps = ((0, 0, (unit - rest) / unit), (1, 1, rest / unit))
    return pixel, taps if rest else ((0, 0, 1.0),)


def transposed(reach: Reach, size: int) -> Reach:
    """Return the same pairs from the other side: what each of `size` sources reads in a gradient, in their order."""
    members: list[list[tuple[int, int, float]]] = [[] for _ in range(size)]
    for target, (base, kind) in enumerate(zip(reach.base.tolist(), reach.kind.tolist(), strict=True)):
        for offset, t, weight in reach.kinds[kind]:
            members[base + offset].append((target, t, weight))
    bases = [taps[0][0] if taps else 0 for taps in members]
    return Reach.of(
        (base, tuple((output - base, t, weight) for output, t, weight in taps))
        for base, taps in zip(bases, members, strict=True)
    )


def inside(axis: Axis, padding: bool = False) -> list[int]:
    """Return how many taps of each output's window lie in the image, or in the image and its padding."""
    first, end = (-axis.before, axis.size + axis.after) if padding else (0, axis.size)
    return [sum(first <= _pixel(axis, output, t) < end for t in range(axis.taps)) for output in range(axis.outputs)]


def _pixel(axis: Axis, output: int, tap: int) -> int:
    return output * axis.stride - axis.before + tap * axis.dilation


@dataclass(frozen=True)
class Table:
    """What a kernel reads: for each target (offset, kind); for each kind (count, offsets...), numbers and weights."""

    row: IntArray
    window: IntArray
    number: IntArray
    weight: Array

    @staticmethod
    def of(vertical: Reach, horizontal: Reach, taps: int, layout: Layout, images: int, dtype: np.dtype) -> Table:
        """Return the table for sources in `layout`; `taps` is the width of the window, for the taps' numbers."""
        kinds = [_joined(rows, columns, taps, layout) for rows in vertical.kinds for columns in horizontal.kinds]
        shape = len(kinds), max(1, *map(len, kinds)) if len(kinds) > 1 else max(1, len(kinds[0]))
        window, number = aligned_zeros((shape[0], 1 + shape[1]), np.int32), aligned_zeros(shape, np.int32)
        weight = aligned_zeros(shape, dtype)
        for k, kind in enumerate(kinds):
            window[k, 0] = len(kind)
            if kind:
                window[k, 1 : 1 + len(kind)], number[k, : len(kind)], weight[k, : len(kind)] = zip(*kind, strict=True)
        kind_of = (vertical.kind[:, None] * len(horizontal.kinds) + horizontal.kind[None, :]).ravel()
        start = layout.table(images, vertical.base[:, None], horizontal.base[None, :])
        row = owned(np.stack([start, np.tile(kind_of, images)], axis=1).astype(np.int32))
        return Table(row, window, number, weight)


def _joined(rows: tuple[Tap, ...], columns: tuple[Tap, ...], taps: int, layout: Layout) -> list[Tap]:
    """Return the taps of a kind of window in both directions, row by row."""
    return [(h * layout.row_size + w * layout.pitch, t * taps + u, a * b) for h, t, a in rows for w, u, b in columns]
