"""What all losses share: the mean over a batch, its gradient by the model's output, and the targets of both."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import checks
from ..engine.allocate import allocate
from ..engine.arrays import aligned_zeros
from ..engine.ir import Graph, Plan
from ..engine.layout import Layout
from ..engine.load import load
from ..engine.planner import make_plan
from ..engine.workspace import Workspace
from ..kernels.maps import Maps
from ..layers.repr import ShownAsCall
from ..settings import Fixed
from ..typing import Array


class Targets(NamedTuple):
    """The targets of a whole batch, as a kernel reads them.

    Attributes
    ----------
    arrays : tuple of array
        Axis 0 is the batch.
    total : float
        What the sum of the losses is divided by. It is known before any shard begins, so shards need not meet.
    weight : float
        Σ_n s_n·m_n, by which means over several batches are weighted.
    counted : int or None
        The predictions that the accuracy is a share of; None for as many as samples.
    """

    arrays: tuple[Array, ...]
    total: float
    weight: float
    counted: int | None = None


class End:
    """The end of a network, where a loss reads the output and leaves its gradient."""

    def __init__(self, plan: Plan, argument: str = "y") -> None:
        layout, gradient = plan.values[plan.output], plan.gradients[plan.output]
        if gradient is None:
            raise ValueError("Trainer: model: expected a layer that computes something; its output is its input")
        self.value, self.dtype, self.layout, self.argument = plan.output, plan.dtype, layout, argument
        self.pixels, self.channels = layout.pixels, layout.channels
        self.x_row, self.dx_row = layout.pixel_table(plan.images), gradient.pixel_table(plan.images)

    def maps(self, workspace: Workspace) -> tuple[Maps, Maps]:
        """Return the output, and its gradient."""
        return Maps(workspace.values[self.value], self.x_row), Maps(workspace.gradients[self.value], self.dx_row)


class Loss(ShownAsCall, Fixed, ABC):
    """Weighted mean over the examples of a batch, `L = Σ_n s_n·ℓ_n / Σ_n s_n·m_n`.

    `s` are the sample weights, 1 unless they are given; `m_n = 1` unless a loss says otherwise. PyTorch's losses take
    no sample weights; as in scikit-learn's metrics the sum is divided by that of the weights, not by N as in Keras.

    A `Trainer` calls losses by itself; alone they are functions of arrays. What an argument is set to takes effect
    in the next step, or it is read-only; another loss is set by `trainer.loss = ...`.

    See Also
    --------
    CrossEntropy : Cross-entropy of one class among several.
    MeanSquaredError : Squared error.
    Trainer : Trains a model step by step.

    Examples
    --------
    >>> from fastcnn import MeanSquaredError
    >>> MeanSquaredError()([[1.0], [4.0]], [[0.0], [2.0]])
    2.5
    >>> MeanSquaredError().gradient([[1.0], [4.0]], [[0.0], [2.0]], sample_weight=[3, 1]).tolist()
    [[1.5], [1.0]]
    """

    name: str  # by which a Trainer knows it, and that messages about data begin with
    swallows = ""  # the function at the end of a model that the loss has in itself
    has_accuracy = False
    replayable = False  # whether `evaluate` does nothing but call kernels, with what its arguments alone determine

    def _fixed_by(self) -> type | None:
        return type(self) if self.replayable else None  # others are called anew in each step

    def _instead(self, name: str) -> str:
        return f"make a new loss: trainer.loss = {type(self).__name__}(...)"

    def _changed(self, name: str) -> None:
        """Take in that a setting has a new value: each step reads it."""

    def __call__(self, output: Any, target: Any, sample_weight: Any = None) -> float:
        """Return the loss L.

        Parameters
        ----------
        output : array of shape (N, ...)
            float64 is computed in float64, float32 in float32.
        target : array
            As the class says.
        sample_weight : array of shape (N,), optional
            At least 0, and not all 0.

        Raises
        ------
        TypeError, ValueError
            If an argument has the wrong type or shape, or holds values that it must not.
        """
        return self._alone(output, target, sample_weight)[0]

    def gradient(self, output: Any, target: Any, sample_weight: Any = None) -> Array:
        """Return dL/d(output), in the shape of `output`; arguments and errors as in a call.

        Parameters
        ----------
        output : array
            What the model has given.
        target : array
            What it should have given.
        sample_weight : array of shape (N,), optional
            The weight of each example.
        """
        return self._alone(output, target, sample_weight)[1]

    def attach(self, graph: Graph) -> None:
        """Read the model before a last softmax or sigmoid that is a part of the loss; called before planning.

        Parameters
        ----------
        graph : Graph
            The operations of the model; `graph.output` is its last value.
        """
        if self.swallows and graph.ops and graph.ops[-1].traits.link == self.swallows:
            graph.output = graph.ops.pop().x
            graph.shapes.pop()
        elif graph.ops and graph.ops[-1].traits.passes_gradient:
            raise ValueError(
                f"{self.name}: model: it ends in Softmax, whose backward takes the gradient by its logits, as "
                "cross_entropy has it; use Dense and SoftmaxActivation"
            )

    def check_end(self, layout: Layout) -> None:
        """Raise ValueError if the loss has no meaning for such outputs.

        Parameters
        ----------
        layout : Layout
            Where the numbers of the model's output lie.
        """

    @abstractmethod
    def targets(self, end: End, y: Any, n: int, sample_weight: Any = None) -> Targets:
        """Return the checked targets of a batch of `n`: of copies, which no other thread can change after the check.

        Parameters
        ----------
        end : End
            The model's output in the plan.
        y : array
            Targets of the batch, as they are given.
        n : int
            Samples of the batch.
        sample_weight : array of shape (n,), optional
            The weight of each sample.
        """

    @abstractmethod
    def evaluate(self, end: End, n: int, workspace: Workspace, targets: Targets, first: int, totals: Array) -> None:
        """Write the gradient of L for the `n` samples from `first` on; add loss and hits to `totals`.

        Parameters
        ----------
        end : End
            The model's output in the plan.
        n : int
            Samples of the shard.
        workspace : Workspace
            The memory of the shard: output and gradient.
        targets : Targets
            Those of the whole batch.
        first : int
            The shard's first sample in the batch.
        totals : array of shape (2,)
            Where the shard's loss and hits are written.
        """

    def mean(self, targets: Targets, totals: Sequence[float]) -> float:
        """Return L from the totals of all shards, added up.

        Parameters
        ----------
        targets : Targets
            Those of the batch.
        totals : array
            Losses and hits of the shards.
        """
        return totals[0] / targets.total

    def _alone(self, output: Any, target: Any, sample_weight: Any) -> tuple[float, Array]:
        z = checks.as_images(output, self.name, "output")
        if z.ndim < 1 or z.size == 0:
            raise ValueError(f"{self.name}: output: expected (N, ...) with at least one number; got shape {z.shape}")
        n, shape = len(z), z.shape
        maps = shape[1:] if z.ndim == 4 else (z.size // n,)
        plan = make_plan(Graph(maps, z.dtype), n, input_gradient=True)
        self.check_end(plan.values[0])
        end, workspace, totals = End(plan, "target"), allocate(plan), aligned_zeros(2, np.float64)
        y = np.asarray(checks.unmasked(target, self.name, "target"))
        if y.shape == shape:
            y = y.reshape(n, *maps)
        targets = self.targets(end, y, n, sample_weight)
        load(plan, z.reshape(n, *maps), n, workspace)
        self.evaluate(end, n, workspace, targets, 0, totals)
        gradient, layout = workspace.gradients[0], plan.gradients[0]
        assert gradient is not None
        assert layout is not None
        return self.mean(targets, totals.tolist()), layout.view(gradient, n).reshape(shape)

    def _sample_weight(self, sample_weight: Any, n: int) -> Array:
        """Return the checked sample weights in float64."""
        if sample_weight is None:
            return np.ones(n)
        weights = np.array(checks.as_images(sample_weight, self.name, "sample_weight"), np.float64)  # a copy
        if weights.shape != (n,):
            raise ValueError(f"{self.name}: sample_weight: expected shape ({n},); got shape {weights.shape}")
        if not (np.isfinite(weights).all() and weights.min() >= 0):
            raise ValueError(f"{self.name}: sample_weight: expected finite weights of at least 0; got {weights}")
        return weights

    def _total(self, weights: Array) -> float:
        total = self._sum(weights)
        if total == 0:
            raise ValueError(f"{self.name}: expected weights of which some are not 0; got a sum of 0")
        return total

    def _sum(self, weights: Array) -> float:
        """Return the sum of weights, rounded once, whatever their order."""
        try:
            total = math.fsum(weights.tolist())
        except OverflowError:
            total = math.inf
        if total == math.inf:
            raise ValueError(f"{self.name}: expected weights with a sum in float64; they reach {weights.max():g}")
        return total
