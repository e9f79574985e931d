"""Normalisation to mean 0 and variance 1: of each channel, of groups of channels, of whole examples."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..kernels import norm as kernels
from ..typing import Array, RandomState, Shape
from . import checks
from .base import Layer, Parameter
from .block import Block, Gradients, Graph, Memory, Pass
from .layout import aligned_zeros, padded

BLOCK = 256  # pixels whose sums are added up before they meet those of all others
ROWS = 6  # of the table `k` of the kernels
FIRST = {"gamma": 1.0, "beta": 0.0}


class _Normalisation(Layer):
    """What all normalisations have: epsilon, and the scale gamma and shift beta that they end with."""

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self.epsilon = checks.as_number(epsilon, self.name, "epsilon", at_least=0)

    @property
    def gamma(self) -> Array:
        """The scale."""
        return self._get("gamma")

    @gamma.setter
    def gamma(self, value: Any) -> None:
        self._set("gamma", value)

    @property
    def beta(self) -> Array:
        """The shift."""
        return self._get("beta")

    @beta.setter
    def beta(self, value: Any) -> None:
        self._set("beta", value)

    def _parameters(self, input_shape: Shape) -> dict[str, Parameter]:
        channels = input_shape[0]
        return {
            name: Parameter((channels,), (padded(channels),), lambda stored: stored[:channels], first)
            for name, first in FIRST.items()
        }

    def _check_input(self, x: Array) -> None:
        super()._check_input(x)
        channels = self.input_shape[0] if self.input_shape else x.shape[1]
        if x.shape[1] != channels:
            raise ValueError(
                f"{self.name}: input: expected {channels} channels, as the layer was built; "
                f"got {x.shape[1]} in shape {x.shape}"
            )


class BatchNorm(_Normalisation):
    """Batch normalisation of each channel c over the whole batch.

    For the m numbers x[:, c], with mean μ and variance σ² = Σ (x - μ)² / m,

        y = gamma[c] · (x - μ) / sqrt(σ² + epsilon) + beta[c]

    In training μ and σ² are those of the batch, exactly, into however many shards it is cut, and

        running = (1 - momentum) · running + momentum · batch

    where the running variance takes the unbiased σ² · m / (m - 1). In prediction the running ones serve.

    Parameters
    ----------
    momentum : float
        In [0, 1], the weight of the new batch, as in PyTorch; Keras's momentum is 1 - ours.
    epsilon : float

    Attributes
    ----------
    gamma, beta : array of shape (C,)
        1 and 0 at first.
    running_mean, running_var : array of shape (C,)
        0 and 1 at first.

    Raises
    ------
    ValueError
        In training, if a channel has a single number, which has no variance.

    References
    ----------
    Ioffe and Szegedy, "Batch normalization: accelerating deep network training by reducing internal covariate shift",
    ICML 2015, algorithms 1 and 2.
    """

    def __init__(self, momentum: float = 0.1, epsilon: float = 1e-5) -> None:
        super().__init__(epsilon)
        self._running: dict[str, Array] = {}
        self.momentum = checks.as_number(momentum, self.name, "momentum", at_least=0, at_most=1)

    @property
    def running_mean(self) -> Array:
        """The mean that prediction uses."""
        return self._get("running_mean")

    @running_mean.setter
    def running_mean(self, value: Any) -> None:
        self._set("running_mean", value)

    @property
    def running_var(self) -> Array:
        """The variance that prediction uses."""
        return self._get("running_var")

    @running_var.setter
    def running_var(self, value: Any) -> None:
        self._set("running_var", value)

    def _create(self, shape: Shape, dtype: np.dtype, random_state: RandomState) -> None:
        super()._create(shape, dtype, random_state)
        self._running = {"running_mean": np.zeros(shape[0], dtype), "running_var": np.ones(shape[0], dtype)}

    def _state(self) -> dict[str, Array]:
        return self._running

    def _update_running(self, mean: Array, squares: Array, count: int) -> None:
        """Let a batch of `count` numbers a channel, with Σ (x - mean)² = `squares`, take part."""
        for running, batch in ((self.running_mean, mean), (self.running_var, squares / (count - 1))):
            running[...] = (1 - self.momentum) * running + self.momentum * batch

    def folded(self, filters: Array, biases: Array) -> tuple[Array, Array]:
        """Return the filters (..., pitch) and biases (pitch,) of a convolution that normalises as prediction does."""
        channels = len(self.gamma)
        scale, shift = np.zeros_like(biases), np.zeros_like(biases)
        scale[:channels] = self.gamma / np.sqrt(self.running_var + self.epsilon)
        shift[:channels] = self.beta + (biases[:channels] - self.running_mean) * scale[:channels]
        return (filters.reshape(-1, biases.size) * scale).ravel(), shift

    def _connect(self, graph: Graph, x: int, followers: Sequence[Layer] = ()) -> int:
        return graph.add(_BatchNormBlock(self, x, graph.edge(graph.shapes[x]), bool(followers)))


class GroupNorm(_Normalisation):
    """Group normalisation: each example in groups of C / num_groups channels.

    y = gamma[c] · (x - μ) / sqrt(σ² + epsilon) + beta[c], with the mean μ and the variance σ² (divided by the count) of
    the numbers of the example that lie in the group of channel c.

    Parameters
    ----------
    num_groups : int
        Divides the channels.
    epsilon : float

    Attributes
    ----------
    gamma, beta : array of shape (C,)
        1 and 0 at first.

    References
    ----------
    Wu and He, "Group normalization", ECCV 2018, section 3.
    """

    def __init__(self, num_groups: int, epsilon: float = 1e-5) -> None:
        super().__init__(epsilon)
        self.num_groups = checks.as_positive_int(num_groups, self.name, "num_groups")

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return `input_shape`."""
        if input_shape[0] % self.num_groups:
            raise ValueError(
                f"{self.name}: num_groups: expected a divisor of {input_shape[0]} channels; got {self.num_groups}"
            )
        return input_shape

    def _connect(self, graph: Graph, x: int, followers: Sequence[Layer] = ()) -> int:
        return graph.add(_GroupNormBlock(self, x, graph.edge(graph.shapes[x]), bool(followers)))


class LayerNorm(_Normalisation):
    """Layer normalisation: each example over all its numbers, with a scale and a shift for every one of them.

    y = gamma · (x - μ) / sqrt(σ² + epsilon) + beta, with the mean μ and the variance σ² (divided by the count) of the
    example. As PyTorch's `LayerNorm((C, H, W))`; Keras normalises the last axis alone.

    Parameters
    ----------
    epsilon : float
        PyTorch's default; Keras has 1e-3.

    Attributes
    ----------
    gamma, beta : array of shape (C, H, W) or (D,)
        1 and 0 at first.

    References
    ----------
    Ba, Kiros and Hinton, "Layer normalization", arXiv:1607.06450, section 3.
    """

    def __init__(self, epsilon: float = 1e-5) -> None:
        super().__init__(epsilon)

    def _parameters(self, input_shape: Shape) -> dict[str, Parameter]:
        channels, *size = input_shape

        def view(stored: Array) -> Array:
            return np.moveaxis(stored[..., :channels], -1, 0)

        return {name: Parameter(input_shape, (*size, padded(channels)), view, first) for name, first in FIRST.items()}

    def _check_input(self, x: Array) -> None:
        super()._check_input(x)
        if self.input_shape is not None and x.shape[1:] != self.input_shape:
            raise ValueError(
                f"{self.name}: input: expected samples of shape {self.input_shape}, as the layer was built; "
                f"got {x.shape[1:]} in shape {x.shape}"
            )

    def _connect(self, graph: Graph, x: int, followers: Sequence[Layer] = ()) -> int:
        return graph.add(_LayerNormBlock(self, x, graph.edge(graph.shapes[x]), bool(followers)))


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

    def __init__(self, layer: _Normalisation, x: int, y: int, has_relu: bool) -> None:
        super().__init__(layer, x, y)
        self.has_relu = has_relu

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


class _BatchNormBlock(_NormBlock):
    """Batch normalisation [+ ReLU]: the shards meet for the statistics, and backward for the two sums."""

    meets = True
    layer: BatchNorm

    def _tables(self, graph: Graph) -> int:
        return 1

    def forward_partial(self, n: int, memory: Memory, run: Pass) -> None:
        kept = memory.kept[self.index]
        kernels.moments(
            memory.values[self.x], self.x_row, 0, n * self.height, self.width, self.pitch, self.block,
            kept.own, kept.sums, kept.moments,
        )  # fmt: skip

    def meet_forward(self, shards: Sequence[tuple[int, Memory]]) -> None:
        kept = [memory.kept[self.index] for _, memory in shards]
        counts = np.array([n * self.height * self.width for n, _ in shards], np.float64)
        count = int(counts.sum())
        if count == 1:
            raise ValueError(f"{self.layer.name}: input: expected more than one number a channel in training; got one")
        moments = np.empty(2 * self.pitch)
        kernels.join(np.concatenate([one.moments for one in kept]), counts, self.pitch, moments)
        mean, squares = moments[: self.channels], moments[self.pitch : self.pitch + self.channels]
        self._write(mean, squares / count, kept[0].own)
        for one in kept:
            one.k, one.by_batch = kept[0].own, True
        self.layer._update_running(mean, squares, count)

    def _write(self, mean: Array, variance: Array, k: Array) -> None:
        kernels.coefficients(mean, variance, self.channels, self.pitch, self.gamma, self.beta, self.layer.epsilon, k)

    def forward(self, n: int, memory: Memory, run: Pass) -> None:
        kept = memory.kept[self.index]
        if not run.training:
            # The layer's arrays themselves: a recorded call reads what they hold then.
            self._write(self.layer.running_mean, self.layer.running_var, kept.own)
            kept.k, kept.by_batch = kept.own, False
        kernels.normalise(
            memory.values[self.x], self.x_row, memory.values[self.y], self.y_row, 0, n * self.height, self.width,
            self.pitch, kept.k, self.floor,
        )  # fmt: skip

    def backward_partial(self, n: int, memory: Memory, run: Pass) -> None:
        kept = memory.kept[self.index]
        kernels.gradient_sums(
            memory.values[self.x], self.x_row, memory.gradients[self.y], self.dy_row, 0, n * self.height, self.width,
            self.pitch, self.block, kept.k, self.floor, kept.sums,
        )  # fmt: skip

    def meet_backward(self, shards: Sequence[tuple[int, Memory]]) -> None:
        kept = [memory.kept[self.index] for _, memory in shards]
        if kept[0].by_batch:
            count = sum(n for n, _ in shards) * self.height * self.width
            sums = np.concatenate([one.sums[: 2 * self.pitch] for one in kept])
            kernels.gradient_coefficients(sums, len(kept), count, self.channels, self.pitch, kept[0].k)

    def backward(self, n: int, memory: Memory, gradients: Gradients, run: Pass) -> None:
        kept = memory.kept[self.index]
        kernels.parameter_gradients(kept.sums, kept.k, self.pitch, gradients["gamma"], gradients["beta"])
        if memory.gradients[self.x] is not None:
            kernels.normalise_backward(
                memory.values[self.x], self.x_row, memory.gradients[self.y], self.dy_row, memory.gradients[self.x],
                self.dx_row, 0, n * self.height, self.width, self.pitch, kept.k, self.floor,
            )  # fmt: skip


class _GroupNormBlock(_NormBlock):
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


class _LayerNormBlock(_NormBlock):
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
