"""The network that an estimator trains: chosen for the shape of the images, by name, or from a list of layers."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from typing import Any

from .. import models
from ..layers.activation import ReLU, Sigmoid, SiLU, SoftmaxActivation
from ..layers.base import Layer
from ..layers.conv import Conv2D
from ..layers.dense import Dense
from ..layers.norm import BatchNorm
from ..layers.pool import GlobalAvgPool2D, MaxPool2D
from ..layers.shape import Flatten
from ..model import Sequential
from ..typing import Shape

NAMES = tuple(
    name
    for name, value in vars(models).items()
    if inspect.isfunction(value)
    and [*inspect.signature(value).parameters][:2] == ["input_shape", "num_classes"]
    and name not in models.OF_PIXELS
)
SMALLEST = 5  # pixels: with fewer on a side, samples are no images but numbers in a row
SHORTEST = 16  # numbers in a signal, which shorter strips are not
LARGEST = 512  # the side up to which a larger image is looked for


def choose_network(
    layers: str | Sequence[Layer],
    input_shape: Shape,
    outputs: int,
    name: str,
    *,
    places: bool,
    signal: bool = False,
) -> Sequential:
    """Return a network for images of `input_shape`, not built yet; layers of a person's own are copied."""
    if isinstance(layers, str):
        if layers == "auto":
            return (automatic_1d if signal else automatic)(input_shape, outputs, places=places)
        try:
            return getattr(models, layers)(input_shape, outputs)  # type: ignore[no-any-return]
        except ValueError as error:
            raise _too_small(lambda s: getattr(models, layers)(s, outputs), input_shape, name, error) from None
    row = [copy.deepcopy(layer) for layer in layers]
    if row and isinstance(row[-1], SoftmaxActivation | Sigmoid):
        del row[-1]  # the loss has it in itself
    if not row:
        row = [Flatten()]
    try:
        shape = Sequential(row).output_shape(input_shape)
    except ValueError as error:
        raise _too_small(lambda s: Sequential(row).output_shape(s), input_shape, name, error) from None
    ended = shape == (outputs,) and isinstance(row[-1], Dense | GlobalAvgPool2D)
    if not ended:
        row += [Flatten(), Dense(outputs)] if len(shape) == 3 else [Dense(outputs)]
    return Sequential(row)


def takes_rows(layers: str | Sequence[Layer]) -> bool:
    """Tell whether the layers begin with `Flatten`: where in an image a number is means nothing to them."""
    return not isinstance(layers, str) and (not layers or isinstance(layers[0], Flatten))


def automatic(input_shape: Shape, outputs: int, *, places: bool) -> Sequential:
    """Return a network for images of any size.

    Strips and images below 5 pixels: a convolution that keeps the size, and a hidden dense layer; where `places`
    matter, three dense layers with SiLU, which is smooth as most functions of rows are. Larger images: 3 x 3
    convolutions with batch normalisation (32, 32, pooling, 64, 64); before them one more (32, pooling) for each
    doubling of the size beyond 16 pixels. Behind them the mean over all places, which is what tells classes best; where
    `places` matter, as to numbers that say how much is where, a pooling and everything that is left.
    """
    _, height, width = input_shape
    side = min(height, width)
    if side < SMALLEST and places:
        hidden: list[Layer] = [layer for _ in range(3) for layer in (Dense(64), SiLU())]
        return Sequential([Flatten(), *hidden, Dense(outputs)])
    if side < SMALLEST:
        convolution = Conv2D(16, (min(height, 3), 3), padding=(min(height, 3) // 2, 1))
        if height == 2:
            convolution = Conv2D(16, 3, padding=1)
        return Sequential([convolution, ReLU(), Flatten(), Dense(64), ReLU(), Dense(outputs)])
    row: list[Layer] = []
    while side > 16:
        row += [*_group(32), MaxPool2D(2)]
        side //= 2
    row += [*_group(32), *_group(32), MaxPool2D(2), *_group(64), *_group(64)]
    end = [MaxPool2D(2), Flatten()] if places and side >= 4 else [Flatten()] if places else [GlobalAvgPool2D()]
    return Sequential([*row, *end, Dense(outputs)])


def automatic_1d(input_shape: Shape, outputs: int, *, places: bool) -> Sequential:
    """Return a network for signals (C, H, L) or (C, L, H) of few rows H: convolutions along the long axis.

    As for images, with windows of 5: the first spans all rows; 32 filters and a pooling for each doubling of the length
    beyond 32, then 32, 32, pooling, 64, 64.
    """
    _, height, width = input_shape
    flat = width >= height

    def oriented(across: int, along: int) -> tuple[int, int]:
        return (across, along) if flat else (along, across)

    def group(filters: int, rows: int = 1) -> list[Layer]:
        convolution = Conv2D(filters, oriented(rows, 5), padding=oriented(0, 2), bias=False)
        return [convolution, BatchNorm(), ReLU()]

    length, rows = max(height, width), min(height, width)
    row: list[Layer] = []
    while length > 32:
        row += [*group(32, rows), MaxPool2D(oriented(1, 2))]
        length, rows = length // 2, 1
    row += [*group(32, rows), *group(32), MaxPool2D(oriented(1, 2)), *group(64), *group(64)]
    end = [MaxPool2D(oriented(1, 2)), Flatten()] if places else [GlobalAvgPool2D()]
    return Sequential([*row, *end, Dense(outputs)])


def _group(width: int) -> list[Layer]:
    return [Conv2D(width, 3, padding=1, bias=False), BatchNorm(), ReLU()]


def _too_small(try_shape: Any, input_shape: Shape, name: str, error: ValueError) -> ValueError:
    """Return an error that tells the smallest square images that would do."""
    for side in range(min(input_shape[1:]) + 1, LARGEST):
        shape = input_shape[0], max(side, input_shape[1]), max(side, input_shape[2])
        try:
            try_shape(shape)
        except ValueError:
            continue
        return ValueError(
            f"{name}: layers: images of shape {input_shape} are too small for the network's windows; "
            f"the smallest that would do: {shape} ({error})"
        )
    return ValueError(f"{name}: layers: they do not fit images of shape {input_shape}: {error}")
