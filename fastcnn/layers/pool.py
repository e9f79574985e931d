"""Pooling: the maximum or the mean of windows and of whole images; and the opposite of pooling, upsampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from .. import checks
from ..engine.ir import Graph
from ..ops.epilogue import Epilogue, Ties
from ..ops.pool import GlobalAverageOp, GlobalMaximumOp, Pool2Op, Pool3Op, PoolOp, WindowSumOp
from ..ops.window import Axis, Margins, Padding, Pair, Window, as_margins, as_padding, as_pair, resolve_window
from ..ops.window_tables import Reach, inside, interpolations, owners, transposed, windows
from ..typing import Array, Shape
from .base import Layer


class WindowPooling(Layer):
    """What all poolings share: images in, images out, a window.

    Attributes
    ----------
    ties : "first" or "all"
        Which of equal maxima receive the gradient.
    """

    ties: Ties = "first"
    pool_size: Pair
    stride: Pair
    padding: Pair | Margins | str
    dilation: Pair = (1, 1)
    ceil_mode: bool = False
    _stride_follows = False

    def _set_window(
        self,
        pool_size: int | Pair,
        stride: int | Pair | None,
        padding: Padding,
        dilation: int | Pair,
        ceil_mode: bool,
    ) -> None:
        """Take the arguments that poolings with any window share."""
        self.pool_size = as_pair(pool_size, self.name, "pool_size", 1)
        self.stride = self.pool_size if stride is None else as_pair(stride, self.name, "stride", 1)
        self._stride_follows = stride is None
        self.dilation = as_pair(dilation, self.name, "dilation", 1)
        self.ceil_mode = checks.as_bool(ceil_mode, self.name, "ceil_mode")
        self.padding = as_padding(padding, self.name)
        spans = [(size - 1) * step + 1 for size, step in zip(self.pool_size, self.dilation, strict=True)]
        sides = () if isinstance(self.padding, str) else zip(as_margins(self.padding), spans, strict=True)
        if any(max(pads) >= span for pads, span in sides):
            raise ValueError(
                f"{self.name}: padding: expected less than the window, {spans[0]} x {spans[1]}, on each side; "
                f"got {self.padding}"
            )

    def _arguments(self) -> dict[str, Any]:
        arguments = super()._arguments()
        return {**arguments, "stride": None} if self._stride_follows else arguments

    def window(self, input_shape: Shape) -> Window:
        """Return the sliding window over images of `input_shape`."""
        size = input_shape[1], input_shape[2]
        window = resolve_window(
            self.name, size, self.pool_size, self.stride, self.dilation, self.padding, self.ceil_mode
        )
        if window.vertical.misses or window.horizontal.misses:
            raise ValueError(
                f"{self.name}: padding: expected that each window sees the image of {size[0]} x {size[1]}; "
                f"got {self.padding}"
            )
        return window

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (C, oH, oW), rounded down, or up with `ceil_mode`."""
        checks.check_maps(input_shape, self.name)
        return (input_shape[0], *self.window(input_shape).outputs)

    @property
    def halves(self) -> bool:
        """Whether the windows are 2 x 2, side by side, for images of any size: a convolution pools them as it goes."""
        simple = self.padding in ((0, 0), "valid") and self.dilation == (1, 1) and not self.ceil_mode
        return simple and self.pool_size == self.stride == (2, 2)

    def _check_input(self, x: Array) -> None:
        checks.check_shape(x, (None, None, None, None), self.name, "input", "images (N, C, H, W)")

    def _lower(self, graph: Graph, x: int, absorbed: Sequence[Layer] = ()) -> int:
        window, y = self.window(graph.shapes[x]), graph.value(self.output_shape(graph.shapes[x]))
        if window.halves:
            return graph.add(Pool2Op(self, x, y, self.ties))
        if window.surrounds:
            return graph.add(Pool3Op(self, x, y))
        return graph.add(PoolOp(self, x, y, window))

    @property
    def fuses_as(self) -> str:  # type: ignore[override]
        """Windows of 2 x 2 are pooled in the pass of a convolution."""
        return "max_pool_2" if self.halves else ""

    def _fuse(self, epilogue: Epilogue) -> Epilogue:
        return replace(epilogue, pool=self.ties)


class MaxPool2(WindowPooling):
    """Max-pooling 2 x 2 as in the notebook: every tied maximum receives the gradient.

    The output is `max(x[2i, 2j], x[2i, 2j+1], x[2i+1, 2j], x[2i+1, 2j+1])`; a last odd row or column is left out.

    Parameters
    ----------
    name : str, optional
        By which messages call the layer, and searches find it.
    trainable : bool
        Whether a `Trainer` changes the parameters.

    See Also
    --------
    MaxPool2D : The maximum of each window.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import MaxPool2
    >>> MaxPool2().forward(np.ones((4, 3, 9, 9))).shape
    (4, 3, 4, 4)
    """

    ties = "all"
    pool_size = stride = (2, 2)
    padding = (0, 0)


class MaxPool2D(WindowPooling):
    """Max-pooling as the field has it: the first maximum of a window, row by row, receives the gradient.

    Parameters
    ----------
    pool_size : int or pair of int
        (vertical, horizontal), the window.
    stride : int or pair of int, optional
        `pool_size` if not given.
    padding : int, pair of int, ((top, bottom), (left, right)), "same" or "valid"
        Pixels around the image that never win; less than the window. `"same"` gives ceil(size / stride) outputs, as in
        Keras: the odd pixel comes last.
    dilation : int or pair of int
        Steps between the pixels of a window.
    ceil_mode : bool
        Whether sizes are rounded up: a last window may reach beyond the padding.
    name : str, optional
        By which messages call the layer, and searches find it.

    See Also
    --------
    MaxPool2 : The notebook's max-pooling.
    AvgPool2D : The mean of each window.
    GlobalMaxPool2D : The maximum of each channel.

    Notes
    -----
    Sizes are rounded down: `floor((size + before + after - dilation · (pool_size - 1) - 1) / stride) + 1`; with
    `ceil_mode` they are rounded up, and a last window that would start in the padding behind the image is left out, as
    in PyTorch. Ties as in PyTorch, Keras and ONNX.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import MaxPool2D
    >>> MaxPool2D(3, stride=2, padding=1).forward(np.ones((4, 3, 8, 8))).shape
    (4, 3, 4, 4)
    """

    def __init__(
        self,
        pool_size: int | Pair = 2,
        stride: int | Pair | None = None,
        padding: Padding = 0,
        *,
        dilation: int | Pair = 1,
        ceil_mode: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self._set_window(pool_size, stride, padding, dilation, ceil_mode)


class AvgPool2D(WindowPooling):
    """Average pooling: the mean of each window, the padding being zero.

    Parameters
    ----------
    pool_size : int or pair of int
        (vertical, horizontal), the window.
    stride : int or pair of int, optional
        `pool_size` if not given.
    padding : int, pair of int, ((top, bottom), (left, right)), "same" or "valid"
        Pixels of zeros around the image, as in `MaxPool2D`.
    count_include_pad : bool
        Whether the padding counts in the mean. True is PyTorch's default; Keras ("same") and ONNX do not count it.
    dilation : int or pair of int
        Steps between the pixels of a window.
    ceil_mode : bool
        Whether sizes are rounded up: a last window may reach beyond the padding, where nothing counts.
    name : str, optional
        By which messages call the layer, and searches find it.

    See Also
    --------
    MaxPool2D : The maximum of each window.
    GlobalAvgPool2D : The mean of each channel.

    Notes
    -----
    Sizes are rounded as in `MaxPool2D`. Each pixel of a window receives the output's gradient, divided by the
    number of pixels that counted.

    References
    ----------
    LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition", 1998, section II.A.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import AvgPool2D
    >>> AvgPool2D(2).forward(np.ones((4, 3, 8, 8))).shape
    (4, 3, 4, 4)
    """

    def __init__(
        self,
        pool_size: int | Pair = 2,
        stride: int | Pair | None = None,
        padding: Padding = 0,
        count_include_pad: bool = True,
        *,
        dilation: int | Pair = 1,
        ceil_mode: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self._set_window(pool_size, stride, padding, dilation, ceil_mode)
        self.count_include_pad = checks.as_bool(count_include_pad, self.name, "count_include_pad")

    halves = False

    def _lower(self, graph: Graph, x: int, absorbed: Sequence[Layer] = ()) -> int:
        window = self.window(graph.shapes[x])
        down, across = (
            (axis, [1 / count for count in inside(axis, self.count_include_pad)])
            for axis in (window.vertical, window.horizontal)
        )
        sums, returned = ((side(*down), side(*across)) for side in (windows, owners))
        return graph.add(WindowSumOp(self, x, graph.value(self.output_shape(graph.shapes[x])), sums, returned))


class UpSample2D(Layer):
    """Upsampling by whole factors: each pixel becomes a block of pixels.

    "nearest": `y[i, j] = x[i // size, j // size]`; a pixel's gradient is the sum of its block's. "bilinear": along each
    axis the centre of output i lies at `p = (i + 1/2) / size - 1/2` of the input, within [0, pixels - 1], and
    `y[i] = (1 - f)·x[⌊p⌋] + f·x[⌊p⌋ + 1]`, `f = p - ⌊p⌋`; gradients go back by the same weights.

    Parameters
    ----------
    size : int or pair of int
        Rows and columns of a block.
    mode : {"nearest", "bilinear"}
        How pixels of the output are made.
    name : str, optional
        By which messages call the layer, and searches find it.

    See Also
    --------
    Conv2DTranspose : The input gradient of a convolution, as a layer.
    models.unet : A network that makes images small and large again.

    Notes
    -----
    "bilinear" is PyTorch's with `align_corners=False`, Keras's `interpolation="bilinear"`, and ONNX's linear `Resize`
    with `half_pixel`.

    References
    ----------
    Odena, Dumoulin and Olah, "Deconvolution and checkerboard artifacts", Distill, 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import UpSample2D
    >>> UpSample2D(2).forward(np.ones((4, 3, 8, 8))).shape
    (4, 3, 16, 16)
    >>> UpSample2D((1, 2), "bilinear").forward([[[[0.0, 4.0]]]]).tolist()
    [[[[0.0, 1.0, 3.0, 4.0]]]]
    """

    def __init__(
        self, size: int | Pair = 2, mode: Literal["nearest", "bilinear"] = "nearest", *, name: str | None = None
    ) -> None:
        super().__init__(name=name)
        self.size = as_pair(size, self.name, "size", 1)
        if mode not in ("nearest", "bilinear"):
            raise ValueError(f"{self.name}: mode: expected 'nearest' or 'bilinear'; got {mode!r}")
        self.mode = mode

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (C, size · H, size · W)."""
        checks.check_maps(input_shape, self.name)
        return input_shape[0], input_shape[1] * self.size[0], input_shape[2] * self.size[1]

    def _lower(self, graph: Graph, x: int, absorbed: Sequence[Layer] = ()) -> int:
        _, height, width = graph.shapes[x]
        down, across = self._reaches(height, self.size[0]), self._reaches(width, self.size[1])
        y = graph.value(self.output_shape(graph.shapes[x]))
        return graph.add(WindowSumOp(self, x, y, (down[0], across[0]), (down[1], across[1])))

    def _reaches(self, size: int, factor: int) -> tuple[Reach, Reach]:
        """Return what outputs read along an axis of so many pixels, and what gradients of the input read."""
        if self.mode == "bilinear":
            reach = interpolations(size, factor)
            return reach, transposed(reach, size)
        blocks, ones = Axis(size * factor, factor, factor, 1, 0, 0), [1.0] * size
        return owners(blocks, ones), windows(blocks, ones)


class _GlobalPooling(Layer):
    """Whole images to one number a channel."""

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (C,)."""
        checks.check_maps(input_shape, self.name)
        return input_shape[:1]


class GlobalAvgPool2D(_GlobalPooling):
    """Mean of each channel: (N, C, H, W) to (N, C). Each pixel receives the gradient divided by H · W.

    Parameters
    ----------
    name : str, optional
        By which messages call the layer, and searches find it.
    trainable : bool
        Whether a `Trainer` changes the parameters.

    See Also
    --------
    GlobalMaxPool2D : The maximum of each channel.
    AvgPool2D : The mean of each window.

    References
    ----------
    Lin, Chen and Yan, "Network in network", ICLR 2014, section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import GlobalAvgPool2D
    >>> GlobalAvgPool2D().forward(np.ones((4, 3, 8, 8))).shape
    (4, 3)
    """

    def _lower(self, graph: Graph, x: int, absorbed: Sequence[Layer] = ()) -> int:
        return graph.add(GlobalAverageOp(self, x, graph.value(self.output_shape(graph.shapes[x]))))


class GlobalMaxPool2D(_GlobalPooling):
    """Maximum of each channel: (N, C, H, W) to (N, C). The first maximum, row by row, receives the gradient.

    Parameters
    ----------
    name : str, optional
        By which messages call the layer, and searches find it.
    trainable : bool
        Whether a `Trainer` changes the parameters.

    See Also
    --------
    GlobalAvgPool2D : The mean of each channel.
    MaxPool2D : The maximum of each window.

    References
    ----------
    Oquab, Bottou, Laptev and Sivic, "Is object localization for free?", CVPR 2015, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import GlobalMaxPool2D
    >>> GlobalMaxPool2D().forward(np.ones((4, 3, 8, 8))).shape
    (4, 3)
    """

    def _lower(self, graph: Graph, x: int, absorbed: Sequence[Layer] = ()) -> int:
        return graph.add(GlobalMaximumOp(self, x, graph.value(self.output_shape(graph.shapes[x]))))
