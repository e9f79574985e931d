"""`Scale`: constants by which channels are multiplied, and that are added to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import checks
from ..engine.ir import Graph
from ..ops.scale import ScaleOp
from ..typing import Array, Shape
from .base import Layer

Constants = float | tuple[float, ...]


class Scale(Layer):
    """Multiplication by constants, which are not trained: `y = factor · x + shift`.

    In front of a network it normalises: `Scale(1 / deviation, -mean / deviation)`. Behind it, it tempers logits. The
    gradient is `factor · dL/dy`. Keras's `Rescaling`.

    Parameters
    ----------
    factor, shift : float or sequence of float
        One for all channels, or one for each.
    name : str, optional
        By which messages call the layer, and searches find it.

    See Also
    --------
    BatchNorm : Normalisation of each channel over the batch.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import Scale
    >>> Scale((1.0, 2.0), 0.5).forward(np.ones((1, 2))).tolist()
    [[1.5, 2.5]]
    """

    def __init__(
        self, factor: float | Sequence[float], shift: float | Sequence[float] = 0.0, *, name: str | None = None
    ) -> None:
        super().__init__(name=name)
        self.factor, self.shift = _constants(factor, self.name, "factor"), _constants(shift, self.name, "shift")

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return `input_shape`."""
        for name, value in (("factor", self.factor), ("shift", self.shift)):
            if isinstance(value, tuple) and len(value) != input_shape[0]:
                raise ValueError(
                    f"{self.name}: {name}: expected a number, or one for each of {input_shape[0]} channels; "
                    f"got {len(value)}"
                )
        return input_shape

    def _check_input(self, x: Array) -> None:
        super()._check_input(x)
        self.output_shape(x.shape[1:])

    def _lower(self, graph: Graph, x: int, absorbed: Sequence[Layer] = ()) -> int:
        return graph.add(ScaleOp(self, x, graph.value(graph.shapes[x]), self.factor, self.shift))


def _constants(value: Any, owner: str, name: str) -> Constants:
    """Return a number, or a tuple of them."""
    if isinstance(value, int | float | np.integer | np.floating):
        return checks.as_number(value, owner, name)
    if isinstance(value, str) or not isinstance(value, Sequence | np.ndarray) or np.ndim(value) != 1 or not len(value):
        raise TypeError(f"{owner}: {name}: expected a number, or a sequence of numbers; got {value!r}")
    return tuple(checks.as_number(one, owner, f"{name}[{place}]") for place, one in enumerate(value))
