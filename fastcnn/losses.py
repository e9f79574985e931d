"""Losses: what training makes small."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from .kernels import loss as kernels
from .layers.block import Graph, Memory
from .layers.dense import SoftmaxBlock
from .typing import Array, IntArray


class Loss(ABC):
    """A mean over the batch, and its gradient with respect to the model's output."""

    def attach(self, graph: Graph) -> None:
        """Change the graph's end to what the loss wants to see; before the graph is finished."""

    @abstractmethod
    def plan(self, graph: Graph) -> None:
        """Write tables."""

    @abstractmethod
    def targets(self, y: Any, n: int) -> Array:
        """Return the targets of a batch of `n` as the kernel reads them."""

    @abstractmethod
    def evaluate(self, n: int, memory: Memory, targets: Array, first: int, scale: Any, totals: Array) -> None:
        """Write `scale` · gradient to the last edge; add loss, hits and bad targets to `totals`."""


class CrossEntropy(Loss):
    """Mean cross-entropy of the softmax of the logits, for integer classes.

    `loss = -mean(log(softmax(z)[i, y_i]))`; its gradient by the logits z is `(softmax(z) - onehot(y)) / N`.
    A model that ends in the notebook's `Softmax` is taken at its logits.
    """

    def attach(self, graph: Graph) -> None:
        if graph.blocks and isinstance(graph.blocks[-1], SoftmaxBlock):
            graph.output = graph.blocks.pop().x
            graph.shapes.pop()

    def plan(self, graph: Graph) -> None:
        self.edge = graph.output
        layout, gradient = graph.values[self.edge], graph.gradients[self.edge]
        if layout.pixels != 1 or gradient is None:
            raise ValueError(
                f"cross_entropy: model: expected an output (N, classes); got samples of shape {layout.shape}"
            )
        self.classes = layout.channels
        self.x_row, self.dx_row = layout.pixel_table(graph.images), gradient.pixel_table(graph.images)

    def targets(self, y: Any, n: int) -> IntArray:
        array = np.asarray(y)
        if array.dtype.kind not in "iu":
            raise TypeError(f"cross_entropy: y: expected integer classes; got dtype {array.dtype}")
        if array.shape != (n,):
            raise ValueError(f"cross_entropy: y: expected shape ({n},), one class per sample; got shape {array.shape}")
        return np.ascontiguousarray(array, np.int64)

    def evaluate(self, n: int, memory: Memory, targets: Array, first: int, scale: Any, totals: Array) -> None:
        kernels.softmax_cross_entropy(
            memory.values[self.edge], self.x_row, n, self.classes, targets, first, scale,
            memory.gradients[self.edge], self.dx_row, totals,
        )  # fmt: skip


LOSSES: dict[str, type[Loss]] = {"cross_entropy": CrossEntropy}
