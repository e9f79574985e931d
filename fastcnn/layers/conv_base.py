"""What all layers with sliding filters share: their arguments, and how filters and biases are stored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import checks
from ..engine.layout import padded
from ..engine.parameter import Parameter
from ..engine.weights import ArrayProperty
from ..ops.window import Padding, Pair, Window, as_padding, as_pair, resolve_window
from ..typing import Array, RandomState, Shape
from .base import Layer
from .initializers import USUAL, Initializer, as_initializer

# What a convolution computes in the same pass, the longest row first.
CONVOLUTION_ABSORBS = (("relu", "max_pool_2"), ("relu",), ("max_pool_2",), ("activation",))
# Without a backward pass a batch normalisation behind it is a part of the filters and biases.
CONVOLUTION_ABSORBS_IN_PREDICTION = (
    *(("batch_norm", *row) for row in (*CONVOLUTION_ABSORBS, ())),
    *CONVOLUTION_ABSORBS,
)


class Convolving(Layer):
    """A layer whose windows slide over an image.

    Attributes
    ----------
    biases : array of shape (num_filters,)
        If the layer has any.
    """

    biases = ArrayProperty("The biases, (num_filters,).")

    def __init__(
        self,
        filter_size: int | Sequence[int],
        stride: int | Sequence[int],
        padding: Padding,
        dilation: int | Sequence[int],
        bias: bool,
        random_state: RandomState,
        *,
        initializer: Initializer | None = None,
        trainable: bool | Sequence[str] = True,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name, trainable=trainable)
        self.initializer = as_initializer(initializer, self.name)
        self.filter_size = as_pair(filter_size, self.name, "filter_size", 1)
        self.stride = as_pair(stride, self.name, "stride", 1)
        self.dilation = as_pair(dilation, self.name, "dilation", 1)
        self.padding = as_padding(padding, self.name)
        self.bias, self.random_state = checks.as_bool(bias, self.name, "bias"), random_state

    def window(self, input_shape: Shape) -> Window:
        """Return the sliding window over images of `input_shape`."""
        return resolve_window(
            self.name, (input_shape[1], input_shape[2]), self.filter_size, self.stride, self.dilation, self.padding
        )

    def _expect_images(self, input_shape: Shape) -> None:
        if len(input_shape) != 3:
            raise ValueError(f"{self.name}: input: expected images (N, C, H, W); got samples of shape {input_shape}")

    def _check_input(self, x: Array) -> None:
        channels = self.input_shape[0] if self.input_shape else None
        checks.check_shape(x, (None, channels, None, None), self.name, "input", "images (N, C, H, W)")

    def _bias_parameters(self, num_filters: int) -> dict[str, Parameter]:
        """Return how the biases are stored, if there are any."""
        if not self.bias:
            return {}
        pitch = padded(num_filters)
        return {"biases": Parameter((num_filters,), (pitch,), lambda stored: stored[:num_filters])}


class WithFilters(Convolving):
    """A layer with one array of filters.

    Attributes
    ----------
    filters : array
    """

    filters = ArrayProperty("The filters.")


def filter_parameter(
    num_filters: int, channels: int, size: Pair, fan_in: int, initializer: Initializer | None, groups: int = 1
) -> Parameter:
    """Return filters (num_filters, channels, kH, kW), stored as (kH, kW, channels, pitch)."""
    rule = initializer or USUAL
    shape = (num_filters, channels, *size)
    return Parameter(
        shape,
        (*size, channels, padded(num_filters)),
        lambda stored: stored[..., :num_filters].transpose(3, 2, 0, 1),
        lambda generator: rule._draw_in_groups(generator, shape, fan_in, groups),
    )


def drawn_filters(
    num_filters: int, channels: int, size: Pair, initializer: Initializer | None, groups: int = 1
) -> Parameter:
    """Return filters of a convolution of so many channels in each group."""
    return filter_parameter(num_filters, channels, size, channels * int(np.prod(size)), initializer, groups)
