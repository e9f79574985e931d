"""The geometry of windows that slide over an image: sizes, padding, and which pixel meets which tap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..engine.layout import Halo
from ..typing import IntArray

MOST_STARTS = 1 << 16  # windows that begin before the image: no image has more of them

Pair = tuple[int, int]
Margins = tuple[Pair, Pair]  # (top, bottom), (left, right)
Padding = int | Pair | Margins | str  # what a layer is given


def as_pair(value: int | Sequence[int], layer: str, name: str, least: int) -> Pair:
    """Return `value` as (vertical, horizontal); an int counts for both."""
    pair = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value, value)
    if len(pair) != 2 or not all(isinstance(v, int | np.integer) and not isinstance(v, bool) for v in pair):
        raise TypeError(f"{layer}: {name}: expected an int or a pair of ints; got {value!r}")
    if min(pair) < least:
        raise ValueError(f"{layer}: {name}: expected {'at least ' + str(least)}; got {value!r}")
    return int(pair[0]), int(pair[1])


def as_padding(value: Any, layer: str) -> Pair | Margins | str:
    """Return the padding as a word, (vertical, horizontal), or ((top, bottom), (left, right)) where sides differ."""
    if isinstance(value, str):
        if value not in ("same", "valid"):
            raise ValueError(
                f'{layer}: padding: expected "same", "valid", an int, a pair of ints or '
                f"((top, bottom), (left, right)); got {value!r}"
            )
        return value
    if not isinstance(value, Sequence) or not any(isinstance(sides, Sequence) for sides in value):
        return as_pair(value, layer, "padding", 0)
    if len(value) != 2 or not all(isinstance(sides, Sequence) for sides in value):
        raise TypeError(f"{layer}: padding: expected ((top, bottom), (left, right)); got {value!r}")
    rows, columns = (as_pair(sides, layer, "padding", 0) for sides in value)
    return (rows[0], columns[0]) if rows[0] == rows[1] and columns[0] == columns[1] else (rows, columns)


def as_margins(padding: Pair | Margins) -> Margins:
    """Return the zeros of each side, ((top, bottom), (left, right))."""
    rows, columns = padding
    return (
        (rows, rows) if isinstance(rows, int) else rows,
        (columns, columns) if isinstance(columns, int) else columns,
    )


@dataclass(frozen=True)
class Axis:
    """One direction of a sliding window over `size` pixels, with `before` and `after` pixels of padding around them.

    Output pixel o reads pixel `o · stride - before + t · dilation` for tap t. The last window may reach by `beyond`
    pixels over the end of the padding, where sizes are rounded up.
    """

    size: int
    taps: int
    stride: int
    dilation: int
    before: int
    after: int
    beyond: int = 0

    @property
    def span(self) -> int:
        """Pixels from the first to the last tap."""
        return (self.taps - 1) * self.dilation + 1

    @property
    def outputs(self) -> int:
        """Number of output pixels: floor((size + padding - span) / stride) + 1."""
        return (self.size + self.before + self.after + self.beyond - self.span) // self.stride + 1

    @property
    def input_halo(self) -> Pair:
        """Padding that windows really touch, before and after."""
        return self.before, max(0, (self.outputs - 1) * self.stride + self.span - self.before - self.size)

    @property
    def misses(self) -> bool:
        """Whether a window, of more span than padding before it, sees no pixel: its gaps are wider than the image."""
        starts = -self.before + self.stride * np.arange(min(self.outputs, -(-self.before // self.stride), MOST_STARTS))
        return self.dilation > self.size and bool((starts % self.dilation >= self.size).any())

    def rounded_up(self) -> Axis:
        """Return the axis with one more output pixel where windows do not end with the padding.

        As in PyTorch, a window that would start behind the image, in the padding, is none.
        """
        last = -((self.span - self.size - self.before - self.after) // self.stride)
        if last * self.stride >= self.size + self.before:
            return self
        end = last * self.stride + self.span
        return replace(self, beyond=max(0, end - self.size - self.before - self.after))

    def phases(self) -> list[tuple[IntArray, IntArray]]:
        """Return, for each phase of the stride, the input pixels of that phase and the taps that reach them.

        The output pixel that joins pixel i and tap t is `(i + before - t · dilation) / stride`: whole just for the
        taps of the pixel's phase, so the gradient of the input is one dense convolution per phase.
        """
        pixels, taps = np.arange(self.size), np.arange(self.taps)
        return [
            (
                pixels[(pixels + self.before) % self.stride == phase],
                taps[(taps * self.dilation) % self.stride == phase],
            )
            for phase in range(self.stride)
        ]

    @property
    def gradient_halo(self) -> Pair:
        """Zeros that the input gradient reads around the output gradient, before and after."""
        first, last = self.before - (self.taps - 1) * self.dilation, self.size - 1 + self.before
        return max(0, -(first // self.stride)), max(0, last // self.stride - (self.outputs - 1))


@dataclass(frozen=True)
class Window:
    """A sliding window in both directions."""

    vertical: Axis
    horizontal: Axis

    @property
    def outputs(self) -> Pair:
        """Rows and columns of output pixels."""
        return self.vertical.outputs, self.horizontal.outputs

    @property
    def halves(self) -> bool:
        """Whether the windows are 2 x 2, side by side and in the image: the case that has a kernel of its own."""
        axes = (self.vertical, self.horizontal)
        return all(axis.taps == axis.stride == 2 and axis.dilation == 1 for axis in axes) and self.input_halo == Halo()

    @property
    def surrounds(self) -> bool:
        """Whether the windows are 3 x 3, around every pixel: they have kernels of their own too."""
        axes = (self.vertical, self.horizontal)
        return all(
            axis.taps == 3 and axis.stride == axis.dilation == axis.before == 1 and axis.outputs == axis.size
            for axis in axes
        )

    @property
    def input_halo(self) -> Halo:
        """Padding that windows really touch."""
        return Halo(*self.vertical.input_halo, *self.horizontal.input_halo)

    @property
    def gradient_halo(self) -> Halo:
        """Zeros that the input gradient reads around the output gradient."""
        return Halo(*self.vertical.gradient_halo, *self.horizontal.gradient_halo)


def resolve_window(
    layer: str,
    size: Pair,
    taps: Pair,
    stride: Pair,
    dilation: Pair,
    padding: str | Pair | Margins,
    ceil_mode: bool = False,
) -> Window:
    """Return the window over an image of `size`; `"same"` gives ceil(size / stride) outputs, the odd zero last."""
    axes = []
    for k in range(2):
        span = (taps[k] - 1) * dilation[k] + 1
        if padding == "same":
            total = max(0, (-(-size[k] // stride[k]) - 1) * stride[k] + span - size[k])
            before, after = total // 2, total - total // 2
        else:
            before, after = (0, 0) if isinstance(padding, str) else as_margins(padding)[k]
        axis = Axis(size[k], taps[k], stride[k], dilation[k], before, after)
        axes.append(axis.rounded_up() if ceil_mode else axis)
    if any(axis.outputs < 1 for axis in axes):
        spans = tuple(axis.span for axis in axes)
        whole = tuple(axis.size + axis.before + axis.after for axis in axes)
        raise ValueError(
            f"{layer}: input: the window {spans[0]} x {spans[1]} "
            f"is larger than the padded image {whole[0]} x {whole[1]}"
            + (": the first argument of Conv2D is the number of filters" if "Conv" in layer and max(taps) >= 16 else "")
        )
    return Window(*axes)


def windows_of_2(height: int, width: int) -> tuple[IntArray, IntArray]:
    """Return the pixels (h, w) of all whole 2 x 2 windows of an image, the four of each window side by side."""
    h = 2 * np.arange(height // 2)[:, None, None] + np.array([0, 0, 1, 1])
    w = 2 * np.arange(width // 2)[None, :, None] + np.array([0, 1, 0, 1])
    return h, w
