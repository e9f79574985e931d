"""Normalisations: line by line, where the layers in `norm.py` say what and why."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..engine.arrays import aligned_zeros, owned
from ..engine.ir import Op, Plan, RunContext, Traits
from ..engine.weights import Weights
from ..engine.workspace import Workspace
from ..kernels import norm as kernels
from ..typing import Array, Gradients
from .epilogue import NOTHING, Epilogue, FoldedNorm

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
    unused : array of shape (pitch,)
        Where the gradient of a scale or shift goes that is not there.
    by_batch : bool
        Whether the statistics were those of the batch.
    """

    k: Array
    own: Array
    sums: Array
    moments: Array
    unused: Array
    by_batch: bool = True


class _NormOp(Op):
    """A normalisation [+ ReLU], line by line."""

    traits = Traits(replayable=True)

    def __init__(self, weights: Weights, x: int, y: int, epsilon: float, epilogue: Epilogue = NOTHING) -> None:
        super().__init__(weights, x, y)
        self.epsilon, self.epilogue = epsilon, epilogue
        self.traits = replace(self.traits, rectifies=epilogue.rectifies)

    def bind(self, plan: Plan) -> None:
        x, y = plan.values[self.x], plan.values[self.y]
        dx, dy = plan.gradients[self.x], plan.gradients[self.y]
        self.x_row, self.y_row = x.line_table(plan.images), y.line_table(plan.images)
        self.dx_row = dx.line_table(plan.images) if dx else None
        self.dy_row = dy.line_table(plan.images) if dy else None
        self.channels, self.height, self.width, self.pitch = x.channels, x.height, x.width, x.pitch
        self.dtype = plan.dtype
        self.floor = plan.dtype.type(self.epilogue.clamp_min)
        self.block = max(1, BLOCK // x.width)
        self.ones, self.zeros = owned(np.ones(self.pitch, self.dtype)), aligned_zeros(self.pitch, self.dtype)

    def allocate(self, plan: Plan) -> _Kept:
        own = aligned_zeros(self._tables(plan) * ROWS * self.pitch, self.dtype)
        sums, unused = (aligned_zeros(count * self.pitch, self.dtype) for count in (4, 1))
        return _Kept(own, own, sums, aligned_zeros(2 * self.pitch, np.float64), unused)

    def overwrites_gradient(self, value: int) -> bool:
        return True

    @abstractmethod
    def _tables(self, plan: Plan) -> int:
        """Return how many sets of statistics a shard has."""

    def prepare(self) -> None:
        have = self.weights._stored
        self.gamma, self.beta = (
            self.weights._values(name, self.dtype) if name in have else constant
            for name, constant in (("gamma", self.ones), ("beta", self.zeros))
        )


class BatchNormOp(_NormOp):
    """Batch normalisation [+ ReLU]: the shards meet for the statistics, and backward for the two sums."""

    traits = Traits(replayable=True, syncs=True, micro_batches=True, writes_blocked=True)

    def __init__(
        self, weights: Weights, x: int, y: int, epsilon: float, momentum: float, epilogue: Epilogue = NOTHING
    ) -> None:
        super().__init__(weights, x, y, epsilon, epilogue)
        self.momentum = momentum
        running = weights._state()
        self.mean, self.variance = running["running_mean"], running["running_var"]

    def bind(self, plan: Plan) -> None:
        super().bind(plan)
        self.y_panels, self.dx_panels = plan.blocked_values.get(self.y), plan.blocked_gradients.get(self.x)

    def _tables(self, plan: Plan) -> int:
        return 1

    def forward_partial(self, n: int, workspace: Workspace, context: RunContext) -> None:
        kept = workspace.saved[self.index]
        kernels.moments(
            workspace.values[self.x], self.x_row, 0, n * self.height, self.width, self.pitch, self.block,
            workspace.done * self.height, kept.own, kept.sums, kept.moments,
        )  # fmt: skip

    def sync_forward(self, shards: Sequence[tuple[int, Workspace]]) -> None:
        first, *others = kept = [workspace.saved[self.index] for _, workspace in shards]
        counts = [n * self.height * self.width for n, _ in shards]
        count = sum(counts)
        if count == 1:
            raise ValueError(
                f"{self.weights.name}: input: expected more than one number a channel in training; got one"
            )
        for shard, one in enumerate(others, 1):
            kernels.join(first.moments, sum(counts[:shard]), one.moments, counts[shard], self.pitch)
        kernels.update_running(first.moments, count, self.pitch, self.mean, self.variance, self.momentum)
        self._write(first.moments, first.moments[self.pitch :], count, first.own)
        for one in kept:
            one.k, one.by_batch = first.own, True

    def shared_forward(self, workspace: Workspace) -> Array:
        moments: Array = workspace.saved[self.index].moments
        return moments

    def _write(self, mean: Array, squares: Array, count: int, k: Array) -> None:
        kernels.coefficients(mean, squares, count, self.channels, self.pitch, self.gamma, self.beta, self.epsilon, k)

    def forward(self, n: int, workspace: Workspace, context: RunContext) -> None:
        kept = workspace.saved[self.index]
        if not context.training:
            # The layer's arrays themselves: a recorded call reads what they hold then.
            self._write(self.mean, self.variance, 1, kept.own)
            kept.k, kept.by_batch = kept.own, False
        kernels.normalise(
            workspace.values[self.x], self.x_row, workspace.values[self.y], self.y_row, 0, n * self.height, self.width,
            self.pitch, kept.k, self.floor,
        )  # fmt: skip

    def recompute(self, n: int, workspace: Workspace, context: RunContext) -> None:
        if self.y_panels is None:
            self.forward(n, workspace, context)
            return
        kernels.normalise_panels(
            workspace.values[self.x], self.x_row, workspace.values[self.y], n * self.height, self.width, self.pitch,
            workspace.saved[self.index].k, self.floor, self.y_panels.span,
        )  # fmt: skip

    def backward_partial(self, n: int, workspace: Workspace, context: RunContext) -> None:
        kept = workspace.saved[self.index]
        kernels.gradient_sums(
            workspace.values[self.x], self.x_row, workspace.gradients[self.y], self.dy_row, 0, n * self.height,
            self.width, self.pitch, self.block, kept.k, self.floor, kept.sums, workspace.done == 0,
        )  # fmt: skip

    def sync_backward(self, shards: Sequence[tuple[int, Workspace]]) -> None:
        kept = [workspace.saved[self.index] for _, workspace in shards]
        if not kept[0].by_batch:
            return
        total = kept[0].moments  # which has served
        for shard, one in enumerate(kept):
            kernels.add_sums(total, one.sums, self.pitch, shard == 0)
        count = sum(n for n, _ in shards) * self.height * self.width
        kernels.gradient_coefficients(total, count, self.channels, self.pitch, kept[0].k)

    def shared_backward(self, workspace: Workspace) -> Array:
        sums: Array = workspace.saved[self.index].sums
        return sums[: 2 * self.pitch]

    def backward(self, n: int, workspace: Workspace, gradients: Gradients, context: RunContext) -> None:
        kept = workspace.saved[self.index]
        if not workspace.done:
            trained = [name in gradients and self.weights._trains(name) for name in ("gamma", "beta")]
            if any(trained):
                dgamma, dbeta = (gradients.get(name, kept.unused) for name in ("gamma", "beta"))
                kernels.parameter_gradients(kept.sums, kept.k, self.pitch, dgamma, dbeta)
        if self.dx_panels:
            kernels.normalise_backward_panels(
                workspace.values[self.x], self.x_row, workspace.gradients[self.y], self.dy_row,
                workspace.gradients[self.x], n * self.height, self.width, self.pitch, kept.k, self.floor,
                self.dx_panels.width, self.dx_panels.span,
            )  # fmt: skip
        elif workspace.gradients[self.x] is not None:
            kernels.normalise_backward(
                workspace.values[self.x], self.x_row, workspace.gradients[self.y], self.dy_row,
                workspace.gradients[self.x], self.dx_row, 0, n * self.height, self.width, self.pitch, kept.k,
                self.floor,
            )  # fmt: skip


class GroupNormOp(_NormOp):
    """Group normalisation [+ ReLU]."""

    def __init__(
        self, weights: Weights, x: int, y: int, epsilon: float, num_groups: int, epilogue: Epilogue = NOTHING
    ) -> None:
        super().__init__(weights, x, y, epsilon, epilogue)
        self.num_groups = num_groups

    def _tables(self, plan: Plan) -> int:
        return plan.images

    def forward(self, n: int, workspace: Workspace, context: RunContext) -> None:
        kept = workspace.saved[self.index]
        kernels.group_norm(
            workspace.values[self.x], self.x_row, workspace.values[self.y], self.y_row, n, self.height, self.width,
            self.pitch, self.channels, self.num_groups, self.block, self.gamma, self.beta, self.epsilon,
            self.floor, kept.sums, kept.moments, kept.k,
        )  # fmt: skip

    def backward(self, n: int, workspace: Workspace, gradients: Gradients, context: RunContext) -> None:
        kept, x, dy, dx = (
            workspace.saved[self.index], workspace.values[self.x], workspace.gradients[self.y],
            workspace.gradients[self.x]
        )  # fmt: skip
        kernels.group_norm_sums(
            x, self.x_row, dy, self.dy_row, n, self.height, self.width, self.pitch, self.channels,
            self.num_groups, self.block, self.gamma, self.floor, kept.sums, kept.k, gradients["gamma"],
            gradients["beta"],
        )  # fmt: skip
        if dx is not None:
            kernels.group_norm_backward(
                x, self.x_row, dy, self.dy_row, dx, self.dx_row, n, self.height, self.width, self.pitch, kept.k,
                self.floor,
            )  # fmt: skip


class LayerNormOp(_NormOp):
    """Layer normalisation [+ ReLU]."""

    def _tables(self, plan: Plan) -> int:
        return plan.images

    def forward(self, n: int, workspace: Workspace, context: RunContext) -> None:
        kept = workspace.saved[self.index]
        kernels.layer_norm(
            workspace.values[self.x], self.x_row, workspace.values[self.y], self.y_row, n, self.height, self.width,
            self.pitch, self.channels, self.block, self.gamma, self.beta, self.epsilon, self.floor, kept.sums,
            kept.moments, kept.k,
        )  # fmt: skip

    def backward(self, n: int, workspace: Workspace, gradients: Gradients, context: RunContext) -> None:
        kept, x, dy, dx = (
            workspace.saved[self.index], workspace.values[self.x], workspace.gradients[self.y],
            workspace.gradients[self.x]
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


def fold(norm: FoldedNorm, filters: Array, biases: Array) -> tuple[Array, Array]:
    """Return the filters (..., pitch) and biases (pitch,) of a convolution that normalises as prediction does."""
    weights = norm.weights._weights()
    mean, variance = weights["running_mean"], weights["running_var"]
    channels = len(mean)
    gamma, beta = weights.get("gamma", np.ones_like(mean)), weights.get("beta", np.zeros_like(mean))
    scale, shift = np.zeros_like(biases), aligned_zeros(biases.size, biases.dtype)
    scale[:channels] = gamma / np.sqrt(variance + norm.epsilon)
    shift[:channels] = beta + (biases[:channels] - mean) * scale[:channels]
    return owned((filters.reshape(-1, biases.size) * scale).ravel()), shift
