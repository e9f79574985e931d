"""Flatten: before a dense layer a change of tables that moves no number, elsewhere a copy."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..engine.ir import Graph
from ..ops.flatten import FlattenOp
from ..typing import Shape
from .base import Layer


class Flatten(Layer):
    """Maps (N, C, H, W) as features (N, C·H·W), in the order C, H, W.

    Parameters
    ----------
    name : str, optional
        By which messages call the layer, and searches find it.
    trainable : bool
        Whether a `Trainer` changes the parameters.

    See Also
    --------
    GlobalAvgPool2D : The mean of each channel.
    Dense : Fully connected layer.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import Flatten
    >>> Flatten().forward(np.ones((4, 3, 8, 8))).shape
    (4, 192)
    """

    absorbs = (("dense", "relu"), ("dense", "activation"), ("dense",), ("softmax",))

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (C · H · W,)."""
        return (math.prod(input_shape),)

    def _lower(self, graph: Graph, x: int, absorbed: Sequence[Layer] = ()) -> int:
        if absorbed:  # a dense layer, which reads maps in the public order through its tables
            return absorbed[0]._lower(graph, x, absorbed[1:])
        if graph.shapes[x][1:] == (1, 1):
            return x
        return graph.add(FlattenOp(self, x, graph.value((math.prod(graph.shapes[x]),))))
