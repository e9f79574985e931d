"""The network that an estimator trains: chosen for the shape of the images, by name, or from a list of layers."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from .. import models
from ..layers.activation import ReLU, Sigmoid, SoftmaxActivation
from ..layers.base import Layer
from ..layers.conv import Conv2D
from ..layers.dense import Dense
from ..layers.norm import BatchNorm
from ..layers.pool import GlobalAvgPool2D, MaxPool2D
from ..layers.shape import Flatten
from ..model import Sequential
from ..typing import Shape

NAMES = ("digits_default", "keras_mnist", "lenet5", "mobilenet_small", "resnet20", "vgg6")
LARGEST = 512  # the side up to which a larger image is looked for


def choose_network(layers: str | Sequence[Layer], input_shape: Shape, outputs: int, name: str) -> Sequential:
    """Return a network for images of `input_shape`, not built yet; layers of a person's own are copied."""
    if isinstance(layers, str):
        if layers == "auto":
            return automatic(input_shape, outputs)
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


def automatic(input_shape: Shape, outputs: int) -> Sequential:
    """Return a network for images of any size.

    Strips and images below 5 pixels: a convolution that keeps the size, and a hidden dense layer. Larger ones: 3 x 3
    convolutions with batch normalisation (32, 32, pooling, 64, pooling), with one more group (128, pooling) for each
    doubling of the size beyond 16 pixels.
    """
    _, height, width = input_shape
    side = min(height, width)
    if side < 5:
        convolution = Conv2D(16, (min(height, 3), 3), padding=(min(height, 3) // 2, 1))
        if height == 2:
            convolution = Conv2D(16, 3, padding=1)
        return Sequential([convolution, ReLU(), Flatten(), Dense(64), ReLU(), Dense(outputs)])
    row = [*_group(32), *_group(32), MaxPool2D(2), *_group(64), MaxPool2D(2)]
    side //= 4
    while side > 4:
        row += [*_group(128), MaxPool2D(2)]
        side //= 2
    return Sequential([*row, Flatten(), Dense(outputs)])


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


def with_arguments(layer: Layer, changed: dict[str, Any], name: str) -> Layer:
    """Return a new layer like `layer`, with some constructor arguments changed."""
    known = layer._arguments()
    for argument in changed:
        if argument not in known:
            raise ValueError(
                f"Invalid parameter {argument!r} for layer {layer.name} of {name}. Valid parameters are: {[*known]}."
            )
    return type(layer)(**{**known, **changed})
