"""Layers that move no number: a change of shape is a change of tables."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..typing import Shape
from .base import Layer
from .block import Graph


class Flatten(Layer):
    """Maps (N, C, H, W) as features (N, C·H·W), in the order C, H, W."""

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (C · H · W,)."""
        return (math.prod(input_shape),)

    def _connect(self, graph: Graph, x: int, followers: Sequence[Layer] = ()) -> int:
        # Dense layers read maps in the public order through their tables.
        return x
