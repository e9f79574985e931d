"""Where the windows of a convolution or a pooling lie: padding, output size, and the slices of each position."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from reference.base import Array, Pair, pair

Axes = tuple[int, int]  # vertical, horizontal
Margins = tuple[Axes, Axes]  # (top, bottom), (left, right)
Padding = Pair | Margins | str


@dataclass(frozen=True)
class Window:
    """A window of `size` that moves by `stride` over an image in its `padding`, touching every `dilation`-th pixel.

    With `ceil` a last window may reach beyond the padding, as long as it starts before the padding behind the image.
    """

    size: Axes
    stride: Axes = (1, 1)
    padding: Margins = ((0, 0), (0, 0))
    dilation: Axes = (1, 1)
    ceil: bool = False

    @property
    def span(self) -> Axes:
        """Rows and columns from the first to the last that the window touches, d·(k − 1) + 1."""
        return self.dilation[0] * (self.size[0] - 1) + 1, self.dilation[1] * (self.size[1] - 1) + 1

    def output_size(self, image: Axes, owner: str = "Window") -> Axes:
        """Positions of the window along each axis, ⌊(padded − span) / stride⌋ + 1; ValueError if there are none.

        With `ceil` they are ⌈(padded − span) / stride⌉ + 1, without a last one that starts at or behind size + before.
        """
        padded = (image[0] + sum(self.padding[0]), image[1] + sum(self.padding[1]))

        def positions(axis: int) -> int:
            steps, stride = padded[axis] - self.span[axis], self.stride[axis]
            if not self.ceil:
                return steps // stride + 1
            last = -(-steps // stride)
            return last if last * stride >= image[axis] + self.padding[axis][0] else last + 1

        size = positions(0), positions(1)
        if min(size) < 1:
            raise ValueError(
                f"{owner}: input: expected a padded image of at least {self.span[0]}×{self.span[1]}, the window, "
                f"got {padded[0]}×{padded[1]}"
            )
        return size

    def positions(self, output_size: Axes) -> Iterator[tuple[int, int, slice, slice]]:
        """Yield i, j and the rows and columns of the padded image under the window at (i, j).

        NumPy cuts slices at the end of an array: what `ceil` lets reach beyond the padding is no part of a window.
        """
        for i, j in np.ndindex(output_size):
            top, left = i * self.stride[0], j * self.stride[1]
            rows = slice(top, top + self.span[0], self.dilation[0])
            columns = slice(left, left + self.span[1], self.dilation[1])
            yield i, j, rows, columns


def as_padding(owner: str, padding: Any) -> Axes | Margins | str:
    """Return the argument `padding` of a layer: a word, (vertical, horizontal) or ((top, bottom), (left, right))."""
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise ValueError(
                f"{owner}: padding: expected an integer, a pair, a pair of pairs, 'same' or 'valid', got {padding!r}"
            )
        return padding
    if isinstance(padding, tuple) and any(isinstance(sides, tuple) for sides in padding):
        if len(padding) != 2 or not all(isinstance(sides, tuple) for sides in padding):
            raise ValueError(f"{owner}: padding: expected ((top, bottom), (left, right)), got {padding!r}")
        rows, columns = (pair(owner, "padding", sides, at_least=0) for sides in padding)
        return rows, columns
    return pair(owner, "padding", padding, at_least=0)


def margins(padding: Axes | Margins | str, image: Axes, window: Window) -> Margins:
    """Rows and columns to add around the image.

    A pair of numbers is added on both sides of its axis; pairs of them say each side. ``"valid"`` adds nothing.
    ``"same"`` adds as much as an output of ⌈size / stride⌉ needs, the odd one at the bottom and at the right (as
    TensorFlow and Keras; PyTorch: stride 1 only).
    """
    if padding == "valid":
        return (0, 0), (0, 0)
    if not isinstance(padding, str):
        rows, columns = ((each, each) if isinstance(each, int) else each for each in padding)
        return rows, columns

    def same(axis: int) -> Axes:
        size, stride = image[axis], window.stride[axis]
        total = max((-(-size // stride) - 1) * stride + window.span[axis] - size, 0)
        return total // 2, total - total // 2

    return same(0), same(1)


def pad(image: Array, padding: Margins, value: float = 0.0) -> Array:
    """Return (N, C, H, W) with `value` all around."""
    return np.pad(image, ((0, 0), (0, 0), *padding), constant_values=value)


def crop(padded: Array, padding: Margins) -> Array:
    """Return what ``pad`` was given."""
    (top, bottom), (left, right) = padding
    return padded[:, :, top : padded.shape[2] - bottom, left : padded.shape[3] - right]


def image_size(image: Array | tuple[int, ...]) -> Axes:
    """Return (H, W) of an array (N, C, H, W), or of a shape that ends with them."""
    *_, H, W = image if isinstance(image, tuple) else image.shape
    return H, W
