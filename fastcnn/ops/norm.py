"""Normalisations as blocks: line by line, where the layers in `norm.py` say what and why."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..engine.graph import Graph
from ..engine.ir import Block, Gradients, Memory, Pass
from ..engine.layout import aligned_zeros
from ..kernels import norm as kernels
from ..layers.base import Layer
from ..typing import Array

if TYPE_CHECKING:
    from ..layers.norm import BatchNorm, GroupNorm, LayerNorm

BLOCK = 256  # pixels whose sums are added up before they meet those of all others
ROWS = 6  # of the table `k` of the kernels


@dataclass
class _Kept:
    """What a normalisation keeps for backward: what each channel was normalised with, and sums.

    Attributes
    ----------
    k : array
        The table that the kernels read: the memory's own, or, after a meeting, that of the first shard.
    own : array
    sums : array of shape (4 · pitch,)
        What the gradient needs, and scratch.
    moments : array of shape (2 · pitch,)
        Means and sums of squares, in float64.
    by_batch : bool
        Whether the statistics were those of the batch.
    """

    k: Array
    own: Array
    sums: Array
    moments: Array
    by_batch: bool = True


class _NormBlock(Block):
    """A normalisation [+ ReLU], line by line."""

    replayable = True

    def __init__(self, layer: Layer, x: int, y: int, has_relu: bool) -> None:
        super().__init__(layer, x, y)
        self.has_relu = self.rectifies = has_relu

    def plan(self, graph: Graph) -> None:
        x, y = graph.values[self.x], graph.values[self.y]
        dx, dy = graph.gradients[self.x], graph.gradients[self.y]
        self.x_row, self.y_row = x.line_table(graph.images), y.line_table(graph.images)
        self.dx_row = dx.line_table(graph.images) if dx else None
        self.dy_row = dy.line_table(graph.images) if dy else None
        self.channels, self.height, self.width, self.pitch = x.channels, x.height, x.width, x.pitch
        self.dtype = graph.dtype
        self.floor = graph.dtype.type(0 if self.has_relu else -np.inf)
        self.block = max(1, BLOCK // x.width)

    def allocate(self, graph: Graph) -> _Kept:
        own = aligned_zeros(self._tables(graph) * ROWS * self.pitch, self.dtype)
        return _Kept(own, own, aligned_zeros(4 * self.pitch, self.dtype), aligned_zeros(2 * self.pitch, np.float64))

    def fills(self, edge: int) -> bool:
        return True

    @abstractmethod
    def _tables(self, graph: Graph) -> int:
        """Return how many sets of statistics a shard has."""

    def prepare(self) -> None:
        self.gamma, self.beta = (self.layer._values(name, self.dtype) for name in ("gamma", "beta"))


class BatchNormBlock(_NormBlock):
    """Batch normalisation [+ ReLU]: the shards meet for the statistics, and backward for the two sums."""

    meets = True
    in_pieces = True
    writes_panels = True
    layer: BatchNorm

    def plan(self, graph: Graph) -> None:
        super().plan(graph)
        self.y_panels, self.dx_panels = graph.value_panels.get(self.y), graph.gradient_panels.get(self.x)

    def _tables(self, graph: Graph) -> int:
        return 1

    def forward_partial(self, n: int, memory: Memory, run: Pass) -> None:
        kept = memory.kept[self.index]
        kernels.moments(
            memory.values[self.x], self.x_row, 0, n * self.height, self.width, self.pitch, self.block,
            memory.done * self.height, kept.own, kept.sums, kept.moments,
        )  # fmt: skip

    def meet_forward(self, shards: Sequence[tuple[int, Memory]]) -> None:
        first, *others = kept = [memory.kept[self.index] for _, memory in shards]
        counts = [n * self.height * self.width for n, _ in shards]
        count = sum(counts)
        if count == 1:
            raise ValueError(f"{self.layer.name}: input: expected more than one number a channel in training; got one")
        for shard, one in enumerate(others, 1):
            kernels.join(first.moments, sum(counts[:shard]), one.moments, counts[shard], self.pitch)
        mean, variance = self.layer.running_mean, self.layer.running_var
        kernels.update_running(first.moments, count, self.pitch, mean, variance, self.layer.momentum)
        self._write(first.moments, first.moments[self.pitch :], count, first.own)
        for one in kept:
            one.k, one.by_batch = first.own, True

    def _write(self, mean: Array, squares: Array, count: int, k: Array) -> None:
        kernels.coefficients(
            mean, squares, count, self.channels, self.pitch, self.gamma, self.beta, self.layer.epsilon, k
        )

    def forward(self, n: int, memory: Memory, run: Pass) -> None:
        kept = memory.kept[self.index]
        if not run.training:
            # The layer's arrays themselves: a recorded call reads what they hold then.
            self._write(self.layer.running_mean, self.layer.running_var, 1, kept.own)
            kept.k, kept.by_batch = kept.own, False
        kernels.normalise(
            memory.values[self.x], self.x_row, memory.values[self.y], self.y_row, 0, n * self.height, self.width,
            self.pitch, kept.k, self.floor,
        )  # fmt: skip

    def recall(self, n: int, memory: Memory, run: Pass) -> None:
        if self.y_panels is None:
            self.forward(n, memory, run)
            return
        kernels.normalise_panels(
            memory.values[self.x], self.x_row, memory.values[self.y], n * self.height, self.width, self.pitch,
            memory.kept[self.index].k, self.floor, self.y_panels.span,
        )  # fmt: skip

    def backward_partial(self, n: int, memory: Memory, run: Pass) -> None:
        kept = memory.kept[self.index]
        kernels.gradient_sums(
            memory.values[self.x], self.x_row, memory.gradients[self.y], self.dy_row, 0, n * self.height, self.width,
            self.pitch, self.block, kept.k, self.floor, kept.sums, memory.done == 0,
        )  # fmt: skip

    def meet_backward(self, shards: Sequence[tuple[int, Memory]]) -> None:
        kept = [memory.kept[self.index] for _, memory in shards]
        if not kept[0].by_batch:
            return
        total = kept[0].moments  # which has served
        for shard, one in enumerate(kept):
            kernels.add_sums(total, one.sums, self.pitch, shard == 0)
        count = sum(n for n, _ in shards) * self.height * self.width
        kernels.gradient_coefficients(total, count, self.channels, self.pitch, kept[0].k)

    def backward(self, n: int, memory: Memory, gradients: Gradients, run: Pass) -> None:
        kept = memory.kept[self.index]
        if not memory.done:
            kernels.parameter_gradients(kept.sums, kept.k, self.pitch, gradients["gamma"], gradients["beta"])
        if self.dx_panels:
            kernels.normalise_backward_panels(
                memory.values[self.x], self.x_row, memory.gradients[self.y], self.dy_row, memory.gradients[self.x],
                n * self.height, self.width, self.pitch, kept.k, self.floor, self.dx_panels.width,
                self.dx_panels.span,
            )  # fmt: skip
        elif memory.gradients[self.x] is not None:
            kernels.normalise_backward(
                memory.values[self.x], self.x_row, memory.gradients[self.y], self.dy_row, memory.gradients[self.x],
                self.dx_row, 0, n * self.height, self.width, self.pitch, kept.k, self.floor,
            )  # fmt: skip


class GroupNormBlock(_NormBlock):
    """Group normalisation [+ ReLU]."""

    layer: GroupNorm

    def _tables(self, graph: Graph) -> int:
        return graph.images

    def forward(self, n: int, memory: Memory, run: Pass) -> None:
        kept = memory.kept[self.index]
        kernels.group_norm(
            memory.values[self.x], self.x_row, memory.values[self.y], self.y_row, n, self.height, self.width,
            self.pitch, self.channels, self.layer.num_groups, self.block, self.gamma, self.beta, self.layer.epsilon,
            self.floor, kept.sums, kept.moments, kept.k,
        )  # fmt: skip

    def backward(self, n: int, memory: Memory, gradients: Gradients, run: Pass) -> None:
        kept, x, dy, dx = (
            memory.kept[self.index], memory.values[self.x], memory.gradients[self.y], memory.gradients[self.x]
        )  # fmt: skip
        kernels.group_norm_sums(
            x, self.x_row, dy, self.dy_row, n, self.height, self.width, self.pitch, self.channels,
            self.layer.num_groups, self.block, self.gamma, self.floor, kept.sums, kept.k, gradients["gamma"],
            gradients["beta"],
        )  # fmt: skip
        if dx is not None:
            kernels.group_norm_backward(
                x, self.x_row, dy, self.dy_row, dx, self.dx_row, n, self.height, self.width, self.pitch, kept.k,
                self.floor,
            )  # fmt: skip


class LayerNormBlock(_NormBlock):
    """Layer normalisation [+ ReLU]."""

    layer: LayerNorm

    def _tables(self, graph: Graph) -> int:
        return graph.images

    def forward(self, n: int, memory: Memory, run: Pass) -> None:
        kept = memory.kept[self.index]
        kernels.layer_norm(
            memory.values[self.x], self.x_row, memory.values[self.y], self.y_row, n, self.height, self.width,
            self.pitch, self.channels, self.block, self.gamma, self.beta, self.layer.epsilon, self.floor, kept.sums,
            kept.moments, kept.k,
        )  # fmt: skip

    def backward(self, n: int, memory: Memory, gradients: Gradients, run: Pass) -> None:
        kept, x, dy, dx = (
            memory.kept[self.index], memory.values[self.x], memory.gradients[self.y], memory.gradients[self.x]
        )  # fmt: skip
        kernels.layer_norm_sums(
            x, self.x_row, dy, self.dy_row, n, self.height, self.width, self.pitch, self.channels, self.gamma,
            self.beta, self.floor, kept.sums, kept.k, gradients["gamma"], gradients["beta"],
        )  # fmt: skip
        if dx is not None:
            kernels.layer_norm_backward(
                x, self.x_row, dy, self.dy_row, dx, self.dx_row, n, self.height, self.width, self.pitch, self.gamma,
                self.beta, kept.k, self.floor,
            )  # fmt: skip
