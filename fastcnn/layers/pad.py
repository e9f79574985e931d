"""`Pad`: rows and columns around images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from .. import checks
from ..engine.ir import Graph
from ..ops.pad import PadOp
from ..typing import Shape
from .base import Layer

Mode = Literal["constant", "reflect", "edge"]
MODES = ("constant", "reflect", "edge")
Sides = tuple[int, int, int, int]


class Pad(Layer):
    """Rows and columns around images: (N, C, H, W) to (N, C, top + H + bottom, left + W + right).

    The gradient of a pixel is the sum of those of all pixels that repeat it. Zeros around a convolution or pooling
    need no layer: these have `padding` of their own, and copy nothing.

    Parameters
    ----------
    padding : int, (rows, columns) or (top, bottom, left, right)
        At least 0. An int counts for all sides. The order is that of the axes, in each first before, then behind, as
        in NumPy and Keras, whose pair of pairs, ((top, bottom), (left, right)), is taken as well; PyTorch's functions
        begin with the last axis, (left, right, top, bottom).
    mode : {"constant", "reflect", "edge"}
        What stands there, as in `numpy.pad`: `value`; the image mirrored at the border's pixels, which are not
        repeated; the border's pixels. (PyTorch says "replicate" for "edge".)
    value : float
        With `mode="constant"`.
    name : str, optional
        By which messages call the layer, and searches find it.

    Raises
    ------
    ValueError
        With `mode="reflect"`, if an image is no larger than the padding.

    See Also
    --------
    Conv2D : Convolution, with zeros around the images.
    UpSample2D : Each pixel becomes a block.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import Pad
    >>> Pad((1, 0, 2, 1), mode="reflect").forward(np.arange(6.0).reshape(1, 1, 2, 3))[0, 0]
    array([[5., 4., 3., 4., 5., 4.],
           [2., 1., 0., 1., 2., 1.],
           [5., 4., 3., 4., 5., 4.]])
    """

    def __init__(
        self,
        padding: int | tuple[int, int] | Sides | tuple[tuple[int, int], tuple[int, int]],
        mode: Mode = "constant",
        value: float = 0.0,
        *,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.padding = _as_sides(padding, self.name)
        if mode not in MODES:
            raise ValueError(f"{self.name}: mode: expected 'constant', 'reflect' or 'edge'; got {mode!r}")
        self.mode, self.value = mode, checks.as_number(value, self.name, "value")
        if self.value and mode != "constant":
            raise ValueError(f"{self.name}: value: expected 0 with mode={mode!r}, which repeats pixels; got {value!r}")

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (C, top + H + bottom, left + W + right)."""
        checks.check_maps(input_shape, self.name)
        top, bottom, left, right = self.padding
        channels, height, width = input_shape
        if self.mode == "reflect" and not (max(top, bottom) < height and max(left, right) < width):
            raise ValueError(
                f"{self.name}: input: expected images larger than the padding {self.padding}, which are reflected; "
                f"got {height} x {width}"
            )
        return channels, top + height + bottom, left + width + right

    def _lower(self, graph: Graph, x: int, absorbed: Sequence[Layer] = ()) -> int:
        _, height, width = graph.shapes[x]
        top, bottom, left, right = self.padding
        sources = sources_along(height, top, bottom, self.mode), sources_along(width, left, right, self.mode)
        return graph.add(PadOp(self, x, graph.value(self.output_shape(graph.shapes[x])), sources, self.value))


def sources_along(size: int, before: int, after: int, mode: str) -> list[int | None]:
    """Return for each row or column of the output which one of the input it repeats; None for a constant."""
    places = range(-before, size + after)
    if mode == "constant":
        return [place if 0 <= place < size else None for place in places]
    if mode == "edge":
        return [min(max(place, 0), size - 1) for place in places]
    return [size - 1 - abs(size - 1 - abs(place)) for place in places]


def _as_sides(value: Any, owner: str) -> Sides:
    """Return (top, bottom, left, right)."""
    given = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value, value)
    if len(given) == 2 and all(isinstance(pair, Sequence) and not isinstance(pair, str) for pair in given):
        sides = tuple(side for pair in given for side in pair) if all(len(pair) == 2 for pair in given) else ()
    else:
        sides = (given[0], given[0], given[1], given[1]) if len(given) == 2 else given
    if len(sides) != 4 or not all(isinstance(side, int | np.integer) and not isinstance(side, bool) for side in sides):
        raise TypeError(
            f"{owner}: padding: expected an int, (rows, columns) or (top, bottom, left, right); got {value!r}"
        )
    if min(sides) < 0:
        raise ValueError(f"{owner}: padding: expected at least 0; got {value!r}")
    top, bottom, left, right = (int(side) for side in sides)
    return top, bottom, left, right
