"""Pooling: the maximum or the mean of windows and of whole images; and the opposite of pooling, upsampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .. import checks
from ..engine.ir import Graph
from ..ops.epilogue import Epilogue, Ties
from ..ops.pool import GlobalAverageOp, GlobalMaximumOp, Pool2Op, Pool3Op, PoolOp, WindowSumOp
from ..ops.window import Pair, Window, as_pair, resolve_window
from ..ops.window_tables import inside
from ..typing import Array, Shape
from .base import Layer


class Pooling(Layer):
    """What all poolings share: images in, images out, a window.

    Attributes
    ----------
    ties : "first" or "all"
        Which of equal maxima receive the gradient.
    """

    ties: Ties = "first"
    pool_size: Pair
    stride: Pair
    padding: Pair
    _stride_follows = False

    def _set_window(self, pool_size: int | Pair, stride: int | Pair | None, padding: int | Pair) -> None:
        """Take the arguments that poolings with any window share."""
        self.pool_size = as_pair(pool_size, self.name, "pool_size", 1)
        self.stride = self.pool_size if stride is None else as_pair(stride, self.name, "stride", 1)
        self._stride_follows = stride is None
        self.padding = as_pair(padding, self.name, "padding", 0)
        if any(2 * pad > size for pad, size in zip(self.padding, self.pool_size, strict=True)):
            raise ValueError(
                f"{self.name}: padding: expected at most half of pool_size = {self.pool_size}; got {self.padding}"
            )

    def _arguments(self) -> dict[str, Any]:
        arguments = super()._arguments()
        return {**arguments, "stride": None} if self._stride_follows else arguments

    def window(self, input_shape: Shape) -> Window:
        """Return the sliding window over images of `input_shape`."""
        size = input_shape[1], input_shape[2]
        return resolve_window(self.name, size, self.pool_size, self.stride, (1, 1), self.padding)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (C, oH, oW), rounded down."""
        checks.check_maps(input_shape, self.name)
        return (input_shape[0], *self.window(input_shape).outputs)

    @property
    def halves(self) -> bool:
        """Whether the windows are 2 x 2, side by side: the case that has a kernel of its own."""
        return self.pool_size == self.stride == (2, 2) and self.padding == (0, 0)

    @property
    def surrounds(self) -> bool:
        """Whether the windows are 3 x 3, around every pixel: they have kernels of their own too."""
        return self.pool_size == (3, 3) and self.stride == self.padding == (1, 1)

    def _check_input(self, x: Array) -> None:
        checks.check_shape(x, (None, None, None, None), self.name, "input", "images (N, C, H, W)")

    def _lower(self, graph: Graph, x: int, absorbed: Sequence[Layer] = ()) -> int:
        shape = graph.shapes[x]
        y = graph.value(self.output_shape(shape))
        if self.halves:
            return graph.add(Pool2Op(self, x, y, self.ties))
        if self.surrounds:
            return graph.add(Pool3Op(self, x, y))
        return graph.add(PoolOp(self, x, y, self.window(shape)))

    @property
    def fuses_as(self) -> str:  # type: ignore[override]
        """Windows of 2 x 2 are pooled in the pass of a convolution."""
        return "max_pool_2" if self.halves else ""

    def _fuse(self, epilogue: Epilogue) -> Epilogue:
        return replace(epilogue, pool=self.ties)


class MaxPool2(Pooling):
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


class MaxPool2D(Pooling):
    """Max-pooling as the field has it: the first maximum of a window, row by row, receives the gradient.

    Parameters
    ----------
    pool_size : int or pair of int
        (vertical, horizontal), the window.
    stride : int or pair of int, optional
        `pool_size` if not given.
    padding : int or pair of int
        Pixels around the image that never win; at most half the window.
    name : str, optional
        By which messages call the layer, and searches find it.

    See Also
    --------
    MaxPool2 : The notebook's max-pooling.
    AvgPool2D : The mean of each window.
    GlobalMaxPool2D : The maximum of each channel.

    Notes
    -----
    Sizes are rounded down: `floor((size + 2 · padding - pool_size) / stride) + 1`. Ties as in PyTorch, Keras and ONNX.

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
        padding: int | Pair = 0,
        *,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self._set_window(pool_size, stride, padding)


class AvgPool2D(Pooling):
    """Average pooling: the mean of each window, the padding being zero.

    Parameters
    ----------
    pool_size : int or pair of int
        (vertical, horizontal), the window.
    stride : int or pair of int, optional
        `pool_size` if not given.
    padding : int or pair of int
        Pixels of zeros around the image; at most half the window.
    count_include_pad : bool
        Whether the padding counts in the mean. True is PyTorch's default; Keras ("same") and ONNX do not count it.
    name : str, optional
        By which messages call the layer, and searches find it.

    See Also
    --------
    MaxPool2D : The maximum of each window.
    GlobalAvgPool2D : The mean of each channel.

    Notes
    -----
    Sizes are rounded down as in `MaxPool2D`. Each pixel of a window receives the output's gradient, divided by the
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
        padding: int | Pair = 0,
        count_include_pad: bool = True,
        *,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self._set_window(pool_size, stride, padding)
        self.count_include_pad = bool(count_include_pad)

    halves = False

    def _lower(self, graph: Graph, x: int, absorbed: Sequence[Layer] = ()) -> int:
        axes = self.window(graph.shapes[x])
        weights = tuple(
            [1 / (axis.taps if self.count_include_pad else count) for count in inside(axis)]
            for axis in (axes.vertical, axes.horizontal)
        )
        return graph.add(WindowSumOp(self, x, graph.value(self.output_shape(graph.shapes[x])), axes, weights))


class UpSample2D(Layer):
    """Nearest-neighbour upsampling: each pixel becomes a block of pixels, `y[i, j] = x[i // size, j // size]`.

    A pixel's gradient is the sum of its block's.

    Parameters
    ----------
    size : int or pair of int
        Rows and columns of a block.
    name : str, optional
        By which messages call the layer, and searches find it.

    See Also
    --------
    Conv2DTranspose : The input gradient of a convolution, as a layer.

    References
    ----------
    Odena, Dumoulin and Olah, "Deconvolution and checkerboard artifacts", Distill, 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import UpSample2D
    >>> UpSample2D(2).forward(np.ones((4, 3, 8, 8))).shape
    (4, 3, 16, 16)
    """

    def __init__(self, size: int | Pair = 2, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.size = as_pair(size, self.name, "size", 1)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (C, size · H, size · W)."""
        checks.check_maps(input_shape, self.name)
        return input_shape[0], input_shape[1] * self.size[0], input_shape[2] * self.size[1]

    def _lower(self, graph: Graph, x: int, absorbed: Sequence[Layer] = ()) -> int:
        shape = self.output_shape(graph.shapes[x])
        axes = resolve_window(self.name, (shape[1], shape[2]), self.size, self.size, (1, 1), "valid")
        weights = [1.0] * axes.vertical.outputs, [1.0] * axes.horizontal.outputs
        return graph.add(WindowSumOp(self, x, graph.value(shape), axes, weights, spreads=True))


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
