"""Where the windows of a convolution or a pooling lie: padding, output size, and the slices of each position."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from reference.base import Array

Axes = tuple[int, int]  # vertical, horizontal
Margins = tuple[Axes, Axes]  # (top, bottom), (left, right)


@dataclass(frozen=True)
class Window:
    """A window of `size` that moves by `stride` over an image in its `padding`, touching every `dilation`-th pixel."""

    size: Axes
    stride: Axes = (1, 1)
    padding: Margins = ((0, 0), (0, 0))
    dilation: Axes = (1, 1)

    @property
    def span(self) -> Axes:
        """Rows and columns from the first to the last that the window touches, d·(k − 1) + 1."""
        return self.dilation[0] * (self.size[0] - 1) + 1, self.dilation[1] * (self.size[1] - 1) + 1

    def output_size(self, image: Axes, owner: str = "Window") -> Axes:
        """Positions of the window along each axis, ⌊(padded − span) / stride⌋ + 1; ValueError if there are none."""
        padded = (image[0] + sum(self.padding[0]), image[1] + sum(self.padding[1]))
        if self.span[0] > padded[0] or self.span[1] > padded[1]:
            raise ValueError(
                f"{owner}: input: expected a padded image of at least {self.span[0]}×{self.span[1]}, the window, "
                f"got {padded[0]}×{padded[1]}"
            )
        return (padded[0] - self.span[0]) // self.stride[0] + 1, (padded[1] - self.span[1]) // self.stride[1] + 1

    def positions(self, output_size: Axes) -> Iterator[tuple[int, int, slice, slice]]:
        """Yield i, j and the rows and columns of the padded image under the window at (i, j)."""
        for i, j in np.ndindex(output_size):
            top, left = i * self.stride[0], j * self.stride[1]
            rows = slice(top, top + self.span[0], self.dilation[0])
            columns = slice(left, left + self.span[1], self.dilation[1])
            yield i, j, rows, columns


def margins(padding: Axes | str, image: Axes, window: Window) -> Margins:
    """Rows and columns to add around the image.

    A pair is added on both sides of its axis. ``"valid"`` adds nothing. ``"same"`` adds as much as an output of
    ⌈size / stride⌉ needs, the odd one at the bottom and at the right (as TensorFlow and Keras; PyTorch: stride 1 only).
    """
    if padding == "valid":
        return (0, 0), (0, 0)
    if not isinstance(padding, str):
        return (padding[0], padding[0]), (padding[1], padding[1])

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
