"""The records that kernels take: an array together with the tables that say where in it a kernel reads or writes.

Machine code takes the fields of a record one after another, so that a record costs nothing; two tables of the same type
cannot be swapped by accident.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..typing import Array, IntArray


class Maps(NamedTuple):
    """Rows of numbers in a flat buffer, mostly lines or pixels of feature maps: row i begins at `data[rows[i]]`.

    Both are None for a gradient that is not computed; no kernel is called with that.
    """

    data: Array | None
    rows: IntArray | None


class Matrix(NamedTuple):
    """A matrix that is read through two tables (the indirection buffer of an igemm) and never built.

    Number (i, k) is `data[rows[i] + columns[k]]`: of a convolution, tap k of the window of output pixel i.
    """

    data: Array
    rows: IntArray
    columns: IntArray


class Panel(NamedTuple):
    """A panel of a product's right side: row k of its columns, `vectors` registers, is `data[begin + k * width :]`."""

    data: Array
    begin: int
    vectors: int


class Prefetch(NamedTuple):
    """What a product asks for meanwhile: `data[begin:]`, `distance` bytes for each column of a tile; 0 for nothing."""

    data: Array
    begin: int
    distance: int


class Lines(NamedTuple):
    """Lines of pixels that lie `step` numbers apart: pixel j of line l begins at `data[rows[l] + j * step]`."""

    data: Array
    rows: IntArray
    step: int


class Images(NamedTuple):
    """The sizes of n images of feature maps: pixels of `pitch` numbers, of which the first `channels` count."""

    n: int
    height: int
    width: int
    pitch: int
    channels: int


class Target(NamedTuple):
    """Where a batch is written to: images, rows and pixels this many numbers apart, the first one from `begin` on."""

    data: Array
    begin: int
    image_size: int
    row_size: int
    pitch: int


class PostOps(NamedTuple):
    """What is done to a sum while it is in a register: it begins at `biases[n]`, and ends not below `clamp_min`."""

    biases: Array
    clamp_min: Any


class Pooling(NamedTuple):
    """A max-pooling 2 x 2 behind an operation.

    `argmax` takes which numbers of each window have won, as `pool.pool2` writes it, or has no numbers; with `ties_all`,
    all of equal ones do. `windows` are the numbers of the windows, in the order in which they are computed, negative
    beyond the image; it has no numbers where nothing is pooled.
    """

    ties_all: bool
    argmax: Array
    windows: IntArray


class Patches(NamedTuple):
    """Winograd's input: patches of pixels, `pitch` numbers each, in rows `row_size` apart; t begins at rows[t].

    For each part of a window, patches are shifted by so many numbers.
    """

    data: Array
    rows: IntArray
    shifts: IntArray
    row_size: int
    pitch: int


class Points(NamedTuple):
    """Winograd's transformed numbers: a plane for each point, `plane` numbers apart; its rows in all planes."""

    data: Array
    rows: IntArray
    plane: int


class Blocks(NamedTuple):
    """Winograd's tiles, so many, in the order in which they are computed, block by block.

    `ranges` has eight numbers for each block, four times where in the block the tiles begin, and end, that need a kind
    of points: those that all need, those at infinity of columns, of rows, of both.
    """

    tiles: int
    ranges: IntArray


class PooledGradient(NamedTuple):
    """The gradient of pooled maps: pixel p begins at `data[rows[p]]`; `argmax` as in `Pooling`."""

    data: Array
    rows: IntArray
    argmax: Array


class Entries(NamedTuple):
    """Scratch of `conv_sparse`: entries, `place` and `value`, and where groups of them begin and end."""

    place: IntArray
    value: Array
    begin: IntArray
    end: IntArray


class WindowSums(NamedTuple):
    """Scratch of `conv_sparse`: sums of filter f at `rows[f]`, vector j at `columns[j]` there, tap k at `taps[k]`."""

    data: Array
    rows: IntArray
    columns: IntArray
    taps: IntArray
