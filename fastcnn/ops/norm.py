"""Normalisations, forward beside backward; `layers/norm.py` has the formulas and their sources."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..engine.arrays import aligned_zeros, owned
from ..engine.ir import Piece, Plan, RunContext, Traits
from ..engine.weights import Weights
from ..engine.workspace import Workspace
from ..kernels import norm as kernels
from ..kernels.maps import Images
from ..typing import Array, Gradients
from .epilogue import NOTHING, Epilogue, FoldedNorm
from .lines import LineOp

BLOCK = 256  # pixels that are summed by themselves, before their sum joins that of all others: short sums round less
ROWS = 6  # of the table `k` of the kernels


@dataclass
class _Saved:
    """What a normalisation saves for backward: what each channel was normalised with, and sums.

    Attributes
    ----------
    k : array
        The table that the kernels read: the workspace's own, or, behind a sync point, that of the first shard.
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


class _NormOp(LineOp):
    """A normalisation [+ ReLU], line by line."""

    traits = Traits(replayable=True, forward_by_image=True)

    def __init__(self, weights: Weights, x: int, y: int, epsilon: float, epilogue: Epilogue = NOTHING) -> None:
        super().__init__(weights, x, y)
        self.epsilon, self.epilogue = epsilon, epilogue
        self.traits = replace(self.traits, rectifies=epilogue.rectifies)

    def bind(self, plan: Plan) -> None:
        super().bind(plan)
        self.clamp_min = plan.dtype.type(self.epilogue.clamp_min)
        self.block = max(1, BLOCK // self.width)
        self.ones, self.zeros = owned(np.ones(self.pitch, self.dtype)), aligned_zeros(self.pitch, self.dtype)

    def allocate(self, plan: Plan) -> _Saved:
        own = aligned_zeros(self._tables(plan) * ROWS * self.pitch, self.dtype)
        sums, unused = (aligned_zeros(count * self.pitch, self.dtype) for count in (4, 1))
        return _Saved(own, own, sums, aligned_zeros(2 * self.pitch, np.float64), unused)

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
    """Batch normalisation [+ ReLU]: sync points for the statistics, and backward for the two sums."""

    traits = Traits(
        replayable=True,
        forward_by_image=True,
        backward_by_image=True,
        syncs=True,
        micro_batches=True,
        writes_blocked=True,
    )

    def __init__(
        self, weights: Weights, x: int, y: int, epsilon: float, momentum: float, epilogue: Epilogue = NOTHING
    ) -> None:
        super().__init__(weights, x, y, epsilon, epilogue)
        self.momentum = momentum
        running = weights._state()
        self.mean, self.variance = running["running_mean"], running["running_var"]

    def bind(self, plan: Plan) -> None:
        super().bind(plan)
        self.y_blocked, self.dx_blocked = plan.blocked_values.get(self.y), plan.blocked_gradients.get(self.x)

    def _tables(self, plan: Plan) -> int:
        return 1

    def forward_partial(self, n: int, workspace: Workspace, context: RunContext) -> None:
        saved, (x, _) = workspace.saved[self.index], self._values(workspace)
        kernels.moments(
            x, 0, n * self.height, self.width, self.pitch, self.block, workspace.done * self.height, saved.own,
            saved.sums, saved.moments,
        )  # fmt: skip

    def sync_forward(self, shards: Sequence[tuple[int, Workspace]]) -> None:
        first, *others = saved = [workspace.saved[self.index] for _, workspace in shards]
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
        for one in saved:
            one.k, one.by_batch = first.own, True

    def shared_forward(self, workspace: Workspace) -> Array:
        moments: Array = workspace.saved[self.index].moments
        return moments

    def _write(self, mean: Array, squares: Array, count: int, k: Array) -> None:
        kernels.coefficients(mean, squares, count, self.channels, self.pitch, self.gamma, self.beta, self.epsilon, k)

    def forward(self, n: int, workspace: Workspace, context: RunContext) -> None:
        saved = workspace.saved[self.index]
        if not context.training:
            # The layer's arrays themselves: a recorded call reads what they hold then.
            self._write(self.mean, self.variance, 1, saved.own)
            saved.k, saved.by_batch = saved.own, False
        x, y = self._values(workspace)
        kernels.normalise(x, y, 0, n * self.height, self.width, self.pitch, saved.k, self.clamp_min)

    def recompute(self, n: int, workspace: Workspace, context: RunContext) -> None:
        if self.y_blocked is None:
            self.forward(n, workspace, context)
            return
        x, y = self._values(workspace)
        kernels.normalise_blocked(
            x, y.data, n * self.height, self.width, self.pitch, workspace.saved[self.index].k, self.clamp_min,
            self.y_blocked.span,
        )  # fmt: skip

    def backward_partial(self, n: int, workspace: Workspace, context: RunContext) -> None:
        saved, (x, _), (_, dy) = workspace.saved[self.index], self._values(workspace), self._gradients(workspace)
        kernels.gradient_sums(
            x, dy, 0, n * self.height, self.width, self.pitch, self.block, saved.k, self.clamp_min, saved.sums,
            workspace.done > 0,
        )  # fmt: skip

    def sync_backward(self, shards: Sequence[tuple[int, Workspace]]) -> None:
        saved = [workspace.saved[self.index] for _, workspace in shards]
        if not saved[0].by_batch:
            return
        total = saved[0].moments  # of the forward pass, and free by now
        for shard, one in enumerate(saved):
            kernels.add_sums(total, one.sums, self.pitch, shard > 0)
        count = sum(n for n, _ in shards) * self.height * self.width
        kernels.gradient_coefficients(total, count, self.channels, self.pitch, saved[0].k)

    def shared_backward(self, workspace: Workspace) -> Array:
        sums: Array = workspace.saved[self.index].sums
        return sums[: 2 * self.pitch]

    def backward(self, n: int, workspace: Workspace, gradients: Gradients, context: RunContext) -> None:
        self.parameter_gradients(n, workspace, gradients, context, Piece())
        self.backward_images(n, workspace, context)

    def pieces(self, most: int) -> int:
        return int(self.trains)

    def parameter_gradients(
        self, n: int, workspace: Workspace, gradients: Gradients, context: RunContext, piece: Piece
    ) -> None:
        saved = workspace.saved[self.index]
        if not workspace.done:
            trained = [name in gradients and self.weights._trains(name) for name in ("gamma", "beta")]
            if any(trained):
                dgamma, dbeta = (gradients.get(name, saved.unused) for name in ("gamma", "beta"))
                kernels.parameter_gradients(saved.sums, saved.k, self.pitch, dgamma, dbeta)

    def backward_images(self, n: int, workspace: Workspace, context: RunContext) -> None:
        saved, (x, _), (dx, dy) = workspace.saved[self.index], self._values(workspace), self._gradients(workspace)
        if self.dx_blocked:
            kernels.normalise_backward_blocked(
                x, dy, dx.data, n * self.height, self.width, self.pitch, saved.k, self.clamp_min,
                self.dx_blocked.width, self.dx_blocked.span,
            )  # fmt: skip
        elif dx.data is not None:
            kernels.normalise_backward(
                x, dy, dx, 0, n * self.height, self.width, self.pitch, saved.k, self.clamp_min
            )  # fmt: skip


class _SampleNormOp(_NormOp):
    """A normalisation of each sample by itself."""

    def _tables(self, plan: Plan) -> int:
        return plan.images

    def saved_from(self, plan: Plan, saved: _Saved, image: int) -> _Saved:
        k = saved.own[image * ROWS * self.pitch :]
        return replace(self.allocate(plan), k=k, own=k)

    def _images(self, n: int) -> Images:
        return Images(n, self.height, self.width, self.pitch, self.channels)


class GroupNormOp(_SampleNormOp):
    """Group normalisation [+ ReLU]."""

    def __init__(
        self, weights: Weights, x: int, y: int, epsilon: float, num_groups: int, epilogue: Epilogue = NOTHING
    ) -> None:
        super().__init__(weights, x, y, epsilon, epilogue)
        self.num_groups = num_groups

    def forward(self, n: int, workspace: Workspace, context: RunContext) -> None:
        saved = workspace.saved[self.index]
        kernels.group_norm(
            *self._values(workspace), self._images(n), self.num_groups, self.block, self.gamma, self.beta,
            self.epsilon, self.clamp_min, saved.sums, saved.moments, saved.k,
        )  # fmt: skip

    def backward(self, n: int, workspace: Workspace, gradients: Gradients, context: RunContext) -> None:
        saved, (x, _), (dx, dy) = workspace.saved[self.index], self._values(workspace), self._gradients(workspace)
        kernels.group_norm_sums(
            x, dy, self._images(n), self.num_groups, self.block, self.gamma, self.clamp_min, saved.sums, saved.k,
            gradients["gamma"], gradients["beta"],
        )  # fmt: skip
        if dx.data is not None:
            kernels.group_norm_backward(x, dy, dx, self._images(n), saved.k, self.clamp_min)


class LayerNormOp(_SampleNormOp):
    """Layer normalisation [+ ReLU]."""

    def forward(self, n: int, workspace: Workspace, context: RunContext) -> None:
        saved = workspace.saved[self.index]
        kernels.layer_norm(
            *self._values(workspace), self._images(n), self.block, self.gamma, self.beta, self.epsilon,
            self.clamp_min, saved.sums, saved.moments, saved.k,
        )  # fmt: skip

    def backward(self, n: int, workspace: Workspace, gradients: Gradients, context: RunContext) -> None:
        saved, (x, _), (dx, dy) = workspace.saved[self.index], self._values(workspace), self._gradients(workspace)
        kernels.layer_norm_sums(
            x, dy, self._images(n), self.gamma, self.beta, self.clamp_min, saved.sums, saved.k, gradients["gamma"],
            gradients["beta"],
        )  # fmt: skip
        if dx.data is not None:
            kernels.layer_norm_backward(
                x, dy, dx, self._images(n), self.gamma, self.beta, saved.k, self.clamp_min
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
