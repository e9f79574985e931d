"""The shapes that every layer is tested on, reference and fast alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

# --------------------------------------------------------------------------------------------------------- convolutions


@dataclass(frozen=True)
class ConvCase:
    """Arguments of a Conv2D and the shape of a batch for it."""

    name: str
    input_shape: tuple[int, int, int, int]  # N, C, H, W
    num_filters: int
    filter_size: int | tuple[int, int]
    stride: int | tuple[int, int] = 1
    padding: Any = 0
    dilation: int | tuple[int, int] = 1
    groups: int = 1
    bias: bool = True

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of the constructor."""
        names = ("num_filters", "filter_size", "stride", "padding", "dilation", "groups", "bias")
        return {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        N, C, H, W = self.input_shape
        return f"{self.name}-N={N}-C={C}-HW={H}x{W}-F={self.num_filters}-K={_size(self.filter_size)}"


CONV_CASES = (
    ConvCase("smallest", (1, 1, 1, 1), 1, 1),
    ConvCase("notebook", (2, 1, 8, 8), 16, 3),
    ConvCase("odd", (3, 1, 7, 7), 6, 3),
    ConvCase("non-square", (2, 3, 5, 9), 8, 3),
    ConvCase("non-square-filter", (2, 3, 6, 8), 6, (2, 5)),
    ConvCase("even-filter", (2, 2, 6, 7), 8, 2),
    ConvCase("pointwise", (2, 8, 4, 5), 17, 1),
    ConvCase("large-filter", (2, 3, 11, 10), 6, 7),
    ConvCase("window-is-image", (2, 3, 5, 4), 8, (5, 4)),
    ConvCase("window-is-padded-image", (2, 2, 3, 3), 6, 5, padding=1),
    ConvCase("row-of-pixels", (2, 3, 1, 9), 8, (1, 3)),
    ConvCase("column-of-pixels", (2, 3, 9, 1), 8, (3, 1)),
    ConvCase("batch-1", (1, 3, 8, 8), 16, 3, padding=1),
    ConvCase("batch-9", (9, 1, 6, 6), 8, 3),
    ConvCase("three-channels", (2, 3, 8, 8), 33, 3, padding=1),
    ConvCase("16-channels", (2, 16, 6, 6), 16, 3, padding=1),
    ConvCase("17-channels", (2, 17, 5, 6), 17, 3, padding=1),
    ConvCase("33-channels", (2, 33, 4, 5), 8, 3, padding="same"),
    ConvCase("no-bias", (2, 3, 6, 6), 8, 3, bias=False),
    ConvCase("stride-2", (2, 3, 9, 8), 16, 3, stride=2),
    ConvCase("stride-2-padded", (2, 3, 8, 8), 8, 3, stride=2, padding=1),
    ConvCase("stride-3", (2, 2, 11, 10), 6, 3, stride=3),
    ConvCase("stride-pair", (2, 3, 9, 10), 8, 3, stride=(1, 2)),
    ConvCase("stride-over-window", (2, 3, 9, 8), 8, 2, stride=3),
    ConvCase("strided-pointwise", (2, 8, 6, 7), 16, 1, stride=2),
    ConvCase("padding-pair", (2, 3, 5, 6), 8, 3, padding=(2, 1)),
    ConvCase("padding-over-window", (2, 1, 3, 3), 6, 2, padding=3),
    ConvCase("same", (2, 3, 6, 5), 8, 5, padding="same"),
    ConvCase("same-even-filter", (2, 3, 6, 5), 8, (2, 4), padding="same"),
    ConvCase("same-stride-2", (2, 3, 8, 7), 8, 3, stride=2, padding="same"),
    ConvCase("same-stride-3", (2, 2, 8, 10), 6, (4, 3), stride=3, padding="same"),
    ConvCase("same-pointwise", (2, 3, 5, 4), 8, 1, padding="same"),
    ConvCase("same-stride-over-window", (2, 3, 8, 9), 8, 2, stride=3, padding="same"),
    ConvCase("same-dilated", (2, 2, 7, 6), 6, 3, padding="same", dilation=2),
    ConvCase("valid", (2, 3, 6, 5), 8, 3, padding="valid"),
    ConvCase("dilation-2", (2, 3, 9, 8), 8, 3, dilation=2),
    ConvCase("dilation-pair", (2, 3, 9, 8), 6, 3, padding=1, dilation=(3, 2)),
    ConvCase("dilation-stride-padding", (2, 2, 10, 11), 8, 3, stride=2, padding=2, dilation=2),
    ConvCase("groups-2", (2, 6, 6, 5), 8, 3, padding=1, groups=2),
    ConvCase("groups-3-strided", (2, 6, 7, 8), 33, 3, stride=2, padding=1, groups=3),
    ConvCase("groups-wide", (1, 32, 4, 4), 32, 3, padding=1, groups=2),
    ConvCase("depthwise", (2, 17, 6, 6), 17, 3, padding=1, groups=17),
    ConvCase("depthwise-multiplied", (2, 3, 6, 6), 6, 3, groups=3),
    ConvCase("sides", (2, 3, 6, 5), 8, 3, padding=((2, 0), (1, 2))),
    ConvCase("sides-stride-2", (2, 17, 7, 8), 17, 3, stride=2, padding=((0, 1), (0, 1))),
    ConvCase("sides-winograd", (2, 16, 9, 10), 16, 3, padding=((0, 2), (1, 0))),
    ConvCase("5x5-under-a-tile", (3, 6, 3, 2), 7, 5, padding="same"),
    ConvCase("7x7-under-a-tile", (3, 6, 2, 1), 7, 7, padding="same"),
    ConvCase("5x5-sides", (1, 17, 9, 8), 19, 5, padding=((4, 1), (0, 3))),
    ConvCase("sides-pointwise", (2, 8, 4, 5), 17, 1, padding=((1, 0), (0, 2))),
    ConvCase("sides-groups", (2, 6, 6, 5), 8, (2, 3), 2, ((1, 2), (0, 1)), (2, 1), groups=2),
    ConvCase("sides-beyond-last-window", (2, 3, 5, 6), 6, 2, stride=3, padding=((0, 2), (1, 1))),
    ConvCase("everything", (2, 4, 9, 11), 6, (3, 2), (2, 3), (2, 1), (2, 3), groups=2, bias=False),
)


@dataclass(frozen=True)
class DepthwiseCase:
    """Arguments of a DepthwiseConv2D and the shape of a batch for it."""

    name: str
    input_shape: tuple[int, int, int, int]
    filter_size: int | tuple[int, int]
    stride: int | tuple[int, int] = 1
    padding: Any = 0
    dilation: int | tuple[int, int] = 1
    depth_multiplier: int = 1
    bias: bool = True

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of the constructor."""
        names = ("filter_size", "stride", "padding", "dilation", "depth_multiplier", "bias")
        return {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        N, C, H, W = self.input_shape
        return f"{self.name}-N={N}-C={C}-HW={H}x{W}-M={self.depth_multiplier}-K={_size(self.filter_size)}"


DEPTHWISE_CASES = (
    DepthwiseCase("smallest", (1, 1, 1, 1), 1),
    DepthwiseCase("mobilenet", (2, 32, 6, 6), 3, padding=1),
    DepthwiseCase("mobilenet-stride-2", (2, 16, 7, 8), 3, 2, 1),
    DepthwiseCase("mobilenet-halved", (3, 9, 8, 10), 3, 2, 1),
    DepthwiseCase("odd", (3, 3, 7, 5), 3),
    DepthwiseCase("17-channels", (2, 17, 5, 6), 3, padding="same"),
    DepthwiseCase("33-channels", (1, 33, 4, 5), 3, padding=1),
    DepthwiseCase("large-filter", (2, 8, 9, 10), 5, padding=2),
    DepthwiseCase("non-square", (2, 5, 6, 9), (2, 5), (1, 2), (1, 2)),
    DepthwiseCase("same-stride-2", (2, 8, 8, 7), 3, 2, "same"),
    DepthwiseCase("stride-3", (2, 4, 10, 11), 3, 3),
    DepthwiseCase("dilation-2", (2, 8, 9, 8), 3, 1, 2, 2),
    DepthwiseCase("window-is-image", (2, 8, 5, 4), (5, 4)),
    DepthwiseCase("sides", (2, 17, 6, 7), 3, 1, ((0, 2), (2, 1))),
    DepthwiseCase("sides-stride-2", (2, 9, 8, 7), 3, 2, ((0, 1), (0, 1))),
    DepthwiseCase("multiplied", (2, 3, 6, 6), 3, padding=1, depth_multiplier=2),
    DepthwiseCase("multiplied-strided", (2, 5, 7, 6), 3, 2, 1, depth_multiplier=3, bias=False),
    DepthwiseCase("no-bias", (2, 8, 6, 6), 3, bias=False),
)


@dataclass(frozen=True)
class TransposeCase:
    """Arguments of a Conv2DTranspose and the shape of a batch for it."""

    name: str
    input_shape: tuple[int, int, int, int]
    num_filters: int
    filter_size: int | tuple[int, int]
    stride: int | tuple[int, int] = 1
    padding: Any = 0
    output_padding: int | tuple[int, int] = 0
    dilation: int | tuple[int, int] = 1
    groups: int = 1
    bias: bool = True

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of the constructor."""
        names = ("num_filters", "filter_size", "stride", "padding", "output_padding", "dilation", "groups", "bias")
        return {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        N, C, H, W = self.input_shape
        return f"{self.name}-N={N}-C={C}-HW={H}x{W}-F={self.num_filters}-K={_size(self.filter_size)}"


TRANSPOSE_CASES = (
    TransposeCase("smallest", (1, 1, 1, 1), 1, 1),
    TransposeCase("one-pixel", (2, 3, 1, 1), 8, 3),
    TransposeCase("doubling", (2, 8, 4, 5), 6, 2, 2),
    TransposeCase("doubling-padded", (2, 3, 4, 4), 16, 4, 2, 1),
    TransposeCase("output-padding", (2, 3, 4, 5), 8, 3, 2, 1, 1),
    TransposeCase("output-padding-pair", (2, 3, 4, 3), 6, 3, (2, 3), 1, (0, 2)),
    TransposeCase("output-padding-over-stride", (2, 2, 4, 5), 6, 3, 1, 1, 1, 2),
    TransposeCase("odd", (3, 1, 5, 3), 6, 3),
    TransposeCase("17-channels", (2, 17, 3, 4), 17, 3, padding=1),
    TransposeCase("33-filters", (1, 3, 4, 4), 33, 3, 2),
    TransposeCase("stride-over-window", (2, 3, 3, 4), 8, 2, 3),
    TransposeCase("dilation", (2, 3, 4, 5), 8, (3, 2), 1, 1, dilation=(2, 3)),
    TransposeCase("groups", (2, 6, 4, 3), 4, 3, 2, 1, groups=2),
    TransposeCase("no-bias", (2, 3, 4, 4), 8, 3, bias=False),
    TransposeCase("sides", (2, 3, 4, 5), 8, 3, 2, ((1, 0), (0, 2))),
    TransposeCase("sides-output-padding", (2, 17, 3, 4), 6, (3, 4), 2, ((0, 2), (1, 3)), (1, 0), groups=1),
    TransposeCase("everything", (2, 4, 3, 4), 6, (3, 2), (2, 3), (1, 2), (1, 0), (2, 3), groups=2, bias=False),
)

# -------------------------------------------------------------------------------------------------------------- pooling


@dataclass(frozen=True)
class PoolCase:
    """Arguments of a pooling layer and the shape of a batch for it."""

    name: str
    input_shape: tuple[int, int, int, int]
    pool_size: int | tuple[int, int] = 2
    stride: int | tuple[int, int] | None = None
    padding: Any = 0
    dilation: int | tuple[int, int] = 1
    ceil_mode: bool = False

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of the constructor."""
        names = ("pool_size", "stride", "padding", "dilation", "ceil_mode")
        return {name: getattr(self, name) for name in names}

    @property
    def is_symmetric(self) -> bool:
        """Whether there is as much padding before as after, and at most half a window: all that PyTorch has."""
        if isinstance(self.padding, str) or np.ndim(self.padding) > 1:
            return False
        return bool((2 * np.broadcast_to(self.padding, 2) <= np.broadcast_to(self.pool_size, 2)).all())

    @property
    def is_2x2(self) -> bool:
        """Whether MaxPool2() pools the same windows."""
        return (self.pool_size, self.stride, self.padding, self.dilation, self.ceil_mode) == (2, None, 0, 1, False)

    def __str__(self) -> str:
        N, C, H, W = self.input_shape
        return f"{self.name}-N={N}-C={C}-HW={H}x{W}-K={_size(self.pool_size)}"


POOL_CASES = (
    PoolCase("smallest", (1, 1, 2, 2)),
    PoolCase("notebook", (2, 16, 6, 6)),
    PoolCase("odd", (2, 3, 7, 5)),
    PoolCase("non-square", (2, 3, 4, 10)),
    PoolCase("batch-1", (1, 8, 8, 8)),
    PoolCase("17-channels", (3, 17, 4, 6)),
    PoolCase("33-channels", (2, 33, 5, 4)),
    PoolCase("one-pixel", (2, 3, 3, 4), 1),
    PoolCase("window-is-image", (2, 3, 5, 4), (5, 4)),
    PoolCase("non-square-window", (2, 8, 6, 9), (2, 3)),
    PoolCase("overlapping", (2, 3, 7, 8), 3, 2),
    PoolCase("overlapping-padded", (2, 16, 8, 7), 3, 2, 1),
    PoolCase("around-every-pixel", (2, 17, 6, 7), 3, 1, 1),
    PoolCase("around-one-pixel", (2, 3, 1, 1), 3, 1, 1),
    PoolCase("stride-1", (2, 3, 5, 6), 2, 1),
    PoolCase("stride-3", (2, 3, 9, 10), 2, 3),
    PoolCase("stride-pair", (2, 3, 6, 8), 3, (1, 2)),
    PoolCase("padding-pair", (2, 3, 5, 6), (2, 3), None, (1, 0)),
    PoolCase("padded-beyond-last-window", (2, 3, 6, 6), 4, 3, 2),
    PoolCase("window-over-image", (2, 3, 2, 3), 4, None, 2),
    PoolCase("padded-over-half", (2, 3, 6, 5), 3, 1, 2),
    PoolCase("sides", (2, 17, 6, 5), 3, 2, ((0, 1), (2, 0))),
    PoolCase("same", (2, 3, 7, 6), 3, 2, "same"),
    PoolCase("same-halves", (2, 16, 6, 8), 2, None, "same"),
    PoolCase("same-odd", (2, 3, 5, 7), 2, None, "same"),
    PoolCase("same-around-every-pixel", (2, 17, 5, 4), 3, 1, "same"),
    PoolCase("valid", (2, 3, 6, 8), 2, None, "valid"),
    PoolCase("dilation", (2, 17, 7, 8), 2, 1, 0, 2),
    PoolCase("dilation-stride-padding", (2, 3, 9, 8), 3, 2, (2, 1), (2, 1)),
    PoolCase("dilation-over-a-byte", (1, 3, 40, 38), 17, 3, 8, (2, 2)),
    PoolCase("ceil", (2, 3, 7, 8), 3, 2, ceil_mode=True),
    PoolCase("ceil-halves", (2, 17, 5, 7), 2, ceil_mode=True),
    PoolCase("ceil-that-changes-nothing", (2, 3, 6, 8), 2, ceil_mode=True),
    PoolCase("ceil-padded", (2, 3, 6, 8), 3, 2, 1, ceil_mode=True),
    PoolCase("ceil-starts-in-the-padding", (2, 3, 2, 5), 1, 3, 0, ceil_mode=True),
    PoolCase("ceil-starts-behind-the-image", (2, 3, 2, 5), 3, 3, 1, ceil_mode=True),
    PoolCase("ceil-window-over-image", (2, 3, 2, 3), 4, 3, 0, ceil_mode=True),
    PoolCase("ceil-dilation", (2, 5, 8, 9), (3, 2), 3, 1, (2, 1), ceil_mode=True),
    PoolCase("ceil-sides", (2, 5, 8, 9), 3, 2, ((0, 1), (1, 0)), ceil_mode=True),
)

# ------------------------------------------------------------------------------------------------ dense and elementwise


@dataclass(frozen=True)
class DenseCase:
    """Shape of a batch of features and the number of nodes."""

    name: str
    N: int
    D: int
    nodes: int
    bias: bool = True

    def __str__(self) -> str:
        return f"{self.name}-N={self.N}-D={self.D}-nodes={self.nodes}"


DENSE_CASES = (
    DenseCase("smallest", 1, 1, 1),
    DenseCase("notebook", 32, 144, 10),
    DenseCase("one-node", 5, 7, 1),
    DenseCase("one-feature", 5, 1, 6),
    DenseCase("batch-1", 1, 33, 10),
    DenseCase("vectors", 8, 16, 8),
    DenseCase("odd", 3, 17, 17),
    DenseCase("wide", 4, 12, 65),
    DenseCase("no-bias", 4, 9, 5, bias=False),
)

# Shapes for layers that take any: images and rows, smallest, odd, non-square, across and beyond a vector's length.
ELEMENTWISE_SHAPES = (
    (1, 1),
    (3, 10),
    (5, 17),
    (1, 1, 1, 1),
    (2, 16, 6, 6),
    (1, 3, 5, 7),
    (3, 17, 4, 5),
    (2, 33, 3, 3),
)


# Shapes for normalisations; the channels are divisible by 1, 2 and themselves.
NORM_SHAPES = (
    (2, 2),
    (5, 16),
    (3, 34),
    (2, 2, 1, 1),
    (1, 4, 3, 3),
    (2, 16, 6, 6),
    (3, 6, 5, 7),
    (2, 34, 3, 4),
)


def _size(size: int | tuple[int, int]) -> str:
    return str(size) if isinstance(size, int) else "x".join(map(str, size))


# --------------------------------------------------------------------------------------------- one row for every layer


@dataclass(frozen=True)
class LayerCase:
    """A layer, made from the module that is given (reference or fastcnn), and the shape of a batch for it."""

    name: str
    input_shape: tuple[int, ...]
    make: Callable[[ModuleType], Any]
    draws: bool = False  # at random in each forward, so that no two are alike

    @property
    def layers(self) -> set[str]:
        """The names of all layers that it is made of."""
        names = _Names()
        self.make(names)
        return set(names)

    def __str__(self) -> str:
        return self.name


class _Names(list):
    """Stands for a module, and notes down which layers are asked of it."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        self.append(name)
        return lambda *arguments, **keywords: None


def _block(m: ModuleType, num_filters: int, stride: int = 1) -> list[Any]:
    """Layers of a basic residual block, with something other than 1 and 0 for γ and β to do."""
    return [
        m.Conv2D(num_filters, 3, stride, 1, bias=False, random_state=0),
        m.BatchNorm(),
        m.ReLU(),
        m.Conv2D(num_filters, 3, 1, "same", random_state=1),
    ]


# Each row gets every contract test for free: finite differences, shapes, errors, the learning rate, the mirror.
LAYER_CASES = (
    LayerCase("Conv2D", (3, 2, 6, 5), lambda m: m.Conv2D(6, 3, random_state=0)),
    LayerCase("Conv2D-everything", (2, 4, 9, 8), lambda m: m.Conv2D(6, (3, 2), 2, "same", (1, 2), 2, False, 0)),
    LayerCase("DepthwiseConv2D", (3, 3, 6, 5), lambda m: m.DepthwiseConv2D(3, 2, 1, 1, 2, random_state=0)),
    LayerCase("SeparableConv2D", (3, 3, 6, 5), lambda m: m.SeparableConv2D(4, 3, 1, "same", random_state=0)),
    LayerCase("SeparableConv2D-strided", (2, 3, 7, 6), lambda m: m.SeparableConv2D(8, 3, 2, 1, 1, False, 0)),
    LayerCase("Conv2DTranspose", (3, 2, 3, 4), lambda m: m.Conv2DTranspose(5, 3, 2, 1, 1, random_state=0)),
    LayerCase("MaxPool2", (3, 2, 5, 6), lambda m: m.MaxPool2()),
    LayerCase("MaxPool2D", (3, 2, 7, 6), lambda m: m.MaxPool2D(3, 2, 1)),
    LayerCase("AvgPool2D", (3, 2, 7, 6), lambda m: m.AvgPool2D(3, 2, 1)),
    LayerCase("AvgPool2D-not-counting", (3, 2, 7, 6), lambda m: m.AvgPool2D(3, 2, 1, count_include_pad=False)),
    LayerCase("Conv2D-sides", (3, 2, 6, 5), lambda m: m.Conv2D(6, 3, 2, ((0, 1), (1, 2)), random_state=0)),
    LayerCase(
        "DepthwiseConv2D-sides", (3, 3, 6, 5), lambda m: m.DepthwiseConv2D(3, 2, ((0, 1), (0, 2)), random_state=0)
    ),
    LayerCase(
        "SeparableConv2D-sides", (3, 3, 6, 5), lambda m: m.SeparableConv2D(4, 3, 2, ((0, 1), (0, 1)), random_state=0)
    ),
    LayerCase(
        "Conv2DTranspose-sides", (3, 2, 3, 4), lambda m: m.Conv2DTranspose(5, 3, 2, ((0, 1), (2, 1)), random_state=0)
    ),
    LayerCase("MaxPool2D-sides", (3, 2, 7, 6), lambda m: m.MaxPool2D(3, 2, ((0, 1), (1, 0)))),
    LayerCase("MaxPool2D-same", (3, 2, 7, 6), lambda m: m.MaxPool2D(3, 2, "same")),
    LayerCase("MaxPool2D-dilation-ceil", (3, 2, 8, 9), lambda m: m.MaxPool2D(3, 2, 1, dilation=2, ceil_mode=True)),
    LayerCase("AvgPool2D-sides-ceil", (3, 2, 7, 6), lambda m: m.AvgPool2D(3, 2, ((0, 1), (1, 0)), ceil_mode=True)),
    LayerCase("AvgPool2D-dilation", (3, 2, 7, 6), lambda m: m.AvgPool2D(2, 2, 1, False, dilation=2)),
    LayerCase("GlobalAvgPool2D", (3, 5, 4, 3), lambda m: m.GlobalAvgPool2D()),
    LayerCase("GlobalMaxPool2D", (3, 5, 4, 3), lambda m: m.GlobalMaxPool2D()),
    LayerCase("UpSample2D", (3, 2, 4, 3), lambda m: m.UpSample2D((2, 3))),
    LayerCase("UpSample2D-bilinear", (3, 2, 4, 3), lambda m: m.UpSample2D((2, 3), "bilinear")),
    LayerCase("Pad", (3, 2, 4, 3), lambda m: m.Pad(((1, 0), (2, 3)))),
    LayerCase("Pad-constant", (3, 2, 4, 3), lambda m: m.Pad((1, 2), "constant", -0.5)),
    LayerCase("Pad-reflect", (3, 5, 4, 3), lambda m: m.Pad(((3, 1), (0, 2)), "reflect")),
    LayerCase("Pad-edge", (3, 2, 4, 3), lambda m: m.Pad(((5, 1), (0, 2)), "edge")),
    LayerCase("Flatten", (3, 2, 4, 5), lambda m: m.Flatten()),
    LayerCase("Scale", (3, 3, 4, 5), lambda m: m.Scale((0.5, -2.0, 1.5), (0.1, 0.0, -0.3))),
    LayerCase("Scale-dense", (3, 7), lambda m: m.Scale(1 / 9)),
    LayerCase("Dense", (3, 7), lambda m: m.Dense(5, random_state=0)),
    LayerCase("Dense-wide", (3, 7), lambda m: m.Dense(19, random_state=0)),
    LayerCase(
        "Dense-behind-maps",
        (3, 2, 3, 5),
        lambda m: m.Concat(
            [
                [m.Conv2D(3, 1, random_state=2), m.Tanh(), m.Flatten(), m.Dense(30, random_state=0)],
                [m.Conv2D(9, 2, random_state=3), m.Tanh(), m.Flatten(), m.Dense(17, random_state=1)],
            ]
        ),
    ),
    LayerCase(
        "Dense-of-maps-with-a-halo",
        (3, 2, 4, 5),
        lambda m: m.Concat(
            [
                [m.Flatten(), m.Dense(18, random_state=0)],
                [m.Conv2D(3, 3, 1, 1, random_state=1), m.GlobalAvgPool2D()],
                [m.Flatten(), m.Dense(33, random_state=2)],
            ]
        ),
    ),
    LayerCase("ReLU", (3, 2, 4, 5), lambda m: m.ReLU()),
    LayerCase("LeakyReLU", (3, 2, 4, 5), lambda m: m.LeakyReLU(0.2)),
    LayerCase("ELU", (3, 2, 4, 5), lambda m: m.ELU(1.5)),
    LayerCase("CELU", (3, 2, 4, 5), lambda m: m.CELU(1.5)),
    LayerCase("GELU", (3, 2, 4, 5), lambda m: m.GELU()),
    LayerCase("GELU-tanh", (3, 2, 4, 5), lambda m: m.GELU("tanh")),
    LayerCase("SiLU", (3, 2, 4, 5), lambda m: m.SiLU()),
    LayerCase("Softplus", (3, 2, 4, 5), lambda m: m.Softplus()),
    LayerCase("Softplus-bent", (3, 2, 4, 5), lambda m: m.Softplus(2.5, 1.5)),
    LayerCase("Mish", (3, 2, 4, 5), lambda m: m.Mish()),
    LayerCase("ReLU6", (3, 2, 4, 5), lambda m: m.ReLU6()),
    LayerCase("HardSigmoid", (3, 2, 4, 5), lambda m: m.HardSigmoid()),
    LayerCase("HardSwish", (3, 2, 4, 5), lambda m: m.HardSwish()),
    LayerCase("PReLU", (3, 2, 4, 5), lambda m: m.PReLU()),
    LayerCase("PReLU-channels", (3, 5, 4, 7), lambda m: m.PReLU(5, -0.5)),
    LayerCase("PReLU-dense", (3, 7), lambda m: m.PReLU(7)),
    LayerCase("Sigmoid", (3, 2, 4, 5), lambda m: m.Sigmoid()),
    LayerCase("Tanh", (3, 2, 4, 5), lambda m: m.Tanh()),
    LayerCase("SoftmaxActivation", (3, 7), lambda m: m.SoftmaxActivation()),
    LayerCase("SoftmaxActivation-images", (3, 5, 2, 3), lambda m: m.SoftmaxActivation()),
    LayerCase("BatchNorm", (3, 5, 4, 3), lambda m: m.BatchNorm()),
    LayerCase("BatchNorm-dense", (5, 7), lambda m: m.BatchNorm(0.3, 1e-3)),
    LayerCase("BatchNorm-center", (3, 5, 4, 3), lambda m: m.BatchNorm(0.3, 1e-3, False)),
    LayerCase("BatchNorm-plain", (3, 5, 4, 3), lambda m: m.BatchNorm(scale=False, center=False)),
    LayerCase("GroupNorm", (3, 6, 4, 3), lambda m: m.GroupNorm(2)),
    LayerCase("GroupNorm-dense", (3, 6), lambda m: m.GroupNorm(2)),
    LayerCase("LayerNorm", (3, 5, 4, 3), lambda m: m.LayerNorm()),
    LayerCase("LayerNorm-dense", (3, 7), lambda m: m.LayerNorm()),
    LayerCase("Dropout", (3, 5, 4, 3), lambda m: m.Dropout(0.4, random_state=0), draws=True),
    LayerCase("SpatialDropout2D", (3, 9, 4, 3), lambda m: m.SpatialDropout2D(0.4, random_state=0), draws=True),
    LayerCase("Residual", (3, 4, 5, 6), lambda m: m.Residual(_block(m, 4))),
    LayerCase("Residual-pad", (3, 4, 5, 6), lambda m: m.Residual(_block(m, 6, 2), "pad")),
    LayerCase(
        "Residual-pointwise",
        (3, 4, 5, 6),
        lambda m: m.Residual(_block(m, 6, 2), [m.Conv2D(6, 1, 2, random_state=2), m.BatchNorm()]),
    ),
    LayerCase("Residual-dense", (3, 4), lambda m: m.Residual([m.Tanh(), m.Dense(4, random_state=0)])),
    LayerCase(
        "Concat",
        (3, 3, 6, 5),
        lambda m: m.Concat([[], [m.Conv2D(4, 3, 1, 1, random_state=0), m.Tanh()], [m.AvgPool2D(3, 1, 1)]]),
    ),
    LayerCase("Concat-dense", (3, 3), lambda m: m.Concat([[m.Dense(2, random_state=0)], [m.Dense(5, random_state=1)]])),
)
