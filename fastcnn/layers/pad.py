"""`Pad`: rows and columns around images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from .. import checks
from ..engine.ir import Graph
from ..ops.pad import PadOp, Sources
from ..ops.window import Margins, Pair, as_margins, as_padding
from ..typing import Shape
from .base import Layer

Mode = Literal["constant", "reflect", "edge"]
MODES = ("constant", "reflect", "edge")


class Pad(Layer):
    """Rows and columns around images: (N, C, H, W) to (N, C, top + H + bottom, left + W + right).

    The gradient of a pixel is the sum of those of all pixels that repeat it. Zeros around a convolution or pooling
    need no layer: these have `padding` of their own, and copy nothing.

    Parameters
    ----------
    padding : int, pair of int or ((top, bottom), (left, right))
        At least 0: for all sides, for (vertical, horizontal), or for each side, in the order of NumPy and Keras;
        PyTorch's functions begin with the last axis, (left, right, top, bottom).
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
    >>> Pad(((1, 0), (2, 1)), mode="reflect").forward(np.arange(6.0).reshape(1, 1, 2, 3))[0, 0]
    array([[5., 4., 3., 4., 5., 4.],
           [2., 1., 0., 1., 2., 1.],
           [5., 4., 3., 4., 5., 4.]])
    """

    def __init__(
        self,
        padding: int | Pair | Margins,
        mode: Mode = "constant",
        value: float = 0.0,
        *,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        if isinstance(padding, str):
            raise TypeError(f"{self.name}: padding: expected an int or pairs of ints; got {padding!r}")
        self.padding = as_padding(padding, self.name)
        if mode not in MODES:
            raise ValueError(f"{self.name}: mode: expected 'constant', 'reflect' or 'edge'; got {mode!r}")
        self.mode, self.value = mode, checks.as_number(value, self.name, "value")
        if self.value and mode != "constant":
            raise ValueError(f"{self.name}: value: expected 0 with mode={mode!r}, which repeats pixels; got {value!r}")

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (C, top + H + bottom, left + W + right)."""
        checks.check_maps(input_shape, self.name)
        (top, bottom), (left, right) = self._margins()
        channels, height, width = input_shape
        if self.mode == "reflect" and not (max(top, bottom) < height and max(left, right) < width):
            raise ValueError(
                f"{self.name}: input: expected images larger than the padding {self.padding}, which are reflected; "
                f"got {height} x {width}"
            )
        return channels, top + height + bottom, left + width + right

    def _lower(self, graph: Graph, x: int, absorbed: Sequence[Layer] = ()) -> int:
        _, height, width = graph.shapes[x]
        sources = self._sources((height, width))
        return graph.add(PadOp(self, x, graph.value(self.output_shape(graph.shapes[x])), sources, self.value))

    def _margins(self) -> Margins:
        assert not isinstance(self.padding, str)
        return as_margins(self.padding)

    def _sources(self, size: Pair) -> tuple[Sources, Sources]:
        """Return which rows and columns of images of this size those of the output repeat."""
        rows, columns = (_sources(n, *sides, self.mode) for n, sides in zip(size, self._margins(), strict=True))
        return rows, columns


def _sources(size: int, before: int, after: int, mode: str) -> Sources:
    """Return for each row or column of the output which one of the input it repeats; None for a constant."""
    places = range(-before, size + after)
    if mode == "constant":
        return [place if 0 <= place < size else None for place in places]
    if mode == "edge":
        return [min(max(place, 0), size - 1) for place in places]
    return [size - 1 - abs(size - 1 - abs(place)) for place in places]
