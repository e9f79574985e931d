"""Losses: what training makes small; the mean over a batch, and its gradient by the model's output."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple, final

import numpy as np

from . import checks, exact
from .engine.allocate import allocate
from .engine.arrays import aligned_zeros
from .engine.ir import Graph, Plan
from .engine.layout import Layout
from .engine.load import load
from .engine.planner import make_plan
from .engine.workspace import Workspace
from .kernels import loss as kernels
from .kernels.maps import Maps
from .labels import checked_labels, counts, wrong_labels
from .layers.repr import ShownAsCall
from .settings import Fixed, Setting, number, optional_whole
from .typing import Array, Shape


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
        y = np.asarray(target)
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
        total = math.fsum(weights.tolist())  # rounded once, whatever the order
        if total == 0:
            raise ValueError(f"{self.name}: expected weights of which some are not 0; got a sum of 0")
        return total


@final
class CrossEntropy(Loss):
    """Cross-entropy of a target distribution y and the softmax p of the logits.

    With K classes, label smoothing ε and class weights w: `y' = (1 − ε)·y + ε/K`, `ℓ_n = −Σ_k w_k·y'_nk·log p_nk`,
    `m_n = Σ_k w_k·y_nk`; the gradient by the logits is `p_nk·Σ_m w_m·y'_nm − w_k·y'_nk`, over the sum of `s·m`: plainly
    `(p − y) / N`. Targets are classes (N,) of integers, or one-hot or soft rows (N, K) that sum to 1. A model that ends
    in a softmax is taken at its logits.

    For segmentation, an output of maps (N, K, H, W): n counts the pixels of all images, each with the weight of its
    image; the softmax is along the channels. Targets are classes (N, H, W), or probabilities (N, K, H, W).

    Parameters
    ----------
    label_smoothing : float
        ε, in [0, 1).
    class_weight : array of shape (K,), optional
        w, at least 0.
    ignore_index : int, optional
        The label of samples or pixels that do not count, neither in the sums nor in the accuracy: any whole number. If
        it is one of the classes, that class is no target. Every label counts if not given.

    See Also
    --------
    BinaryCrossEntropy : Cross-entropy of independent answers.
    models.unet : A network for segmentation.

    Notes
    -----
    With class weights the mean is divided by the sum of the weights of the targets, as PyTorch does for integer
    targets. For rows PyTorch divides by N; here a one-hot row counts as the integer that it stands for.

    PyTorch's `ignore_index` is −100 unless it is given; here nothing is ignored then, so that a wrong label is an
    error. Where every label of a batch is ignored, or has a class weight of 0 in all pixels, PyTorch's mean is NaN;
    here the loss and its gradient are 0, the accuracy is NaN, and the batch does not count in the means of an epoch.

    A loss near 0 is exact to a few units in the last place, and so is its gradient: `−log p` of the likeliest class is
    computed as `log(1 + Σ_m exp(z_m − z_k))` over the other classes, where PyTorch's is 0 below 6e-8.

    References
    ----------
    Bishop, "Pattern recognition and machine learning", 2006, section 4.3.4; Szegedy et al., "Rethinking the Inception
    architecture for computer vision", CVPR 2016, section 7, for the smoothing; Long, Shelhamer and Darrell, "Fully
    convolutional networks for semantic segmentation", CVPR 2015, section 4, for the sum over pixels.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import CrossEntropy
    >>> round(CrossEntropy()([[2.0, -1.0, 0.0]], [0]), 4)
    0.1698
    >>> round(CrossEntropy(label_smoothing=0.1)([[2.0, -1.0, 0.0]], [0]), 4)
    0.3365
    >>> maps, labels = np.zeros((1, 3, 2, 2)), [[[0, 1], [2, 255]]]
    >>> round(CrossEntropy(ignore_index=255)(maps, labels), 4)  # the logarithm of 3
    1.0986
    """

    name = "cross_entropy"
    swallows = "softmax"
    has_accuracy = True
    replayable = True
    label_smoothing = number(at_least=0, below=1)
    class_weight: Setting[Array | None] = Setting(lambda value, owner, name: _class_weight(value))
    ignore_index = optional_whole()

    def __init__(self, label_smoothing: float = 0.0, class_weight: Any = None, ignore_index: int | None = None) -> None:
        self.label_smoothing, self.class_weight, self.ignore_index = label_smoothing, class_weight, ignore_index

    def targets(self, end: End, y: Any, n: int, sample_weight: Any = None) -> Targets:
        array, classes, class_weight = np.asarray(y), end.channels, self.class_weight
        if class_weight is not None and class_weight.size != classes:
            raise ValueError(
                f"{self.name}: class_weight: expected {classes} weights, one a class; got {class_weight.size}"
            )
        is_plain = self.ignore_index is None and end.pixels == 1
        if is_plain and array.shape == (n,) and array.dtype.kind in "biu":
            return self._labels(end, array, sample_weight)
        labels, rows = _target_shapes(end, n)
        if array.shape in rows and array.dtype.kind in "biuf":
            return self._distributions(end, array, n, sample_weight)
        if array.shape not in labels or array.dtype.kind not in "biu":
            raise self._wrong_kind(end, array, n)
        if is_plain:
            return self._labels(end, array.reshape(n), sample_weight)
        return self._label_maps(end, array, n, sample_weight)

    def _labels(self, end: End, array: Array, sample_weight: Any) -> Targets:
        """Return the targets of one class for each sample."""
        n, classes, class_weight = len(array), end.channels, self.class_weight
        labels = array.astype(np.int64)  # a copy: what is checked is what is used, whatever another thread does to y
        if labels.item(labels.argmin()) < 0 or labels.item(labels.argmax()) >= classes:
            wrong = labels[(labels < 0) | (labels >= classes)].astype(array.dtype)
            raise wrong_labels(wrong, classes, None, f"{self.name}: {end.argument}")
        if sample_weight is None and class_weight is None and self.label_smoothing == 0:
            return Targets((labels,), float(n), float(n))
        mass = None if class_weight is None else class_weight[labels]
        return self._soft(end, np.eye(classes)[labels], mass, self._sample_weight(sample_weight, n))

    def _label_maps(self, end: End, array: Array, n: int, sample_weight: Any) -> Targets:
        """Return the targets of classes that lie in maps, or of which some are ignored."""
        classes, smoothing, where = end.channels, self.label_smoothing, f"{self.name}: {end.argument}"
        labels = checked_labels(array, classes, self.ignore_index, where).reshape(n, end.pixels)
        s, w = self._sample_weight(sample_weight, n), self._weights_of(classes)
        self._total(s)
        found = np.count_nonzero(labels >= 0, axis=1)
        mass = s * found if self.class_weight is None else (s[:, None] * (w * counts(labels, classes))).ravel()
        total = math.fsum(mass.tolist())
        scale = s / total if total else np.zeros(n)
        parts = [smoothing / classes * w, (1 - smoothing) * w]
        table = np.array([*parts[0], *parts[1], math.fsum(parts[0].tolist())])
        arrays = labels.ravel(), table.astype(end.dtype), scale.astype(end.dtype)
        return Targets(arrays, 1.0, total, int(found.sum()))

    def _distributions(self, end: End, array: Array, n: int, sample_weight: Any) -> Targets:
        """Return the targets of probabilities, for each sample or pixel."""
        if self.ignore_index is not None:
            raise ValueError(
                f"{self.name}: {end.argument}: expected integer classes with ignore_index = {self.ignore_index}; got "
                f"probabilities of shape {array.shape}"
            )
        pixels = np.moveaxis(array.reshape(n, end.channels, end.pixels), 1, 2).reshape(-1, end.channels)
        rows = _check_rows(pixels, f"{self.name}: {end.argument}")
        weighted = rows if self.class_weight is None else rows * self.class_weight
        s = np.repeat(self._sample_weight(sample_weight, n), end.pixels)
        targets = self._soft(end, rows, exact.total(weighted.T), s)
        return targets if end.pixels == 1 else targets._replace(counted=n * end.pixels)

    def _wrong_kind(self, end: End, array: Array, n: int) -> Exception:
        """Return what to raise for targets that are neither classes nor rows."""
        where, (labels, rows) = f"{self.name}: {end.argument}", _target_shapes(end, n)
        if array.dtype.kind not in "biu" and (array.dtype.kind != "f" or array.shape in labels):
            return TypeError(f"{where}: expected integer classes; got dtype {array.dtype}")
        one, other = ("pixel", "probabilities") if end.pixels > 1 else ("sample", "one row")
        hint = ""
        if end.pixels > 1 and array.ndim < 3:
            hint = f", and samples of shape {end.layout.shape} from the model: for one class an image, end it in Dense"
        return ValueError(
            f"{where}: expected shape {labels[0]}, one class per {one}, or {rows[0]}, {other}; "
            f"got shape {array.shape}{hint}"
        )

    def _weights_of(self, classes: int) -> Array:
        return np.ones(classes) if self.class_weight is None else self.class_weight

    def _soft(self, end: End, rows: Array, mass: Array | None, s: Array) -> Targets:
        """Return s·w·y' / Σ s·m for each row, and the likeliest classes; `mass` is m, None where all are 1."""
        w = self._weights_of(end.channels)
        smooth = (1 - self.label_smoothing) * rows + self.label_smoothing / end.channels
        total = self._total(s if mass is None else s * mass)
        weights = (s[:, None] * w * smooth / total).astype(end.dtype).ravel()
        return Targets((rows.argmax(axis=1), weights), 1.0, total)

    def evaluate(self, end: End, n: int, workspace: Workspace, targets: Targets, first: int, totals: Array) -> None:
        labels, *weights = targets.arrays
        x, dx = end.maps(workspace)
        if len(weights) == 2:
            table, scale = weights
            kernels.label_cross_entropy(x, n, end.pixels, end.channels, labels, table, scale, first, dx, totals)
        elif weights:
            first, n = first * end.pixels, n * end.pixels
            kernels.soft_cross_entropy(x, n, end.channels, weights[0], labels, first, dx, totals)
        else:
            share = end.dtype.type(1 / targets.total)
            kernels.softmax_cross_entropy(x, n, end.channels, labels, first, share, dx, totals)


class _Elementwise(Loss):
    """A loss of each number of the output by itself; ℓ_n is the mean over the numbers of one example.

    So without sample weights L is the mean over all numbers, as PyTorch's `reduction="mean"`.
    """

    replayable = True

    def targets(self, end: End, y: Any, n: int, sample_weight: Any = None) -> Targets:
        where = f"{self.name}: {end.argument}"
        array = np.array(checks.as_images(y, self.name, end.argument))  # a copy: what is checked is what is used
        shape = end.layout.shape if end.pixels > 1 else (end.channels,)
        allowed = {(n, *shape), (n, *end.layout.shape), *([(n,)] if shape == (1,) else [])}
        if array.shape not in allowed:
            raise ValueError(f"{where}: expected shape {(n, *shape)}, that of the output; got shape {array.shape}")
        self._check_values(array, where)
        s = self._sample_weight(sample_weight, n)
        total = self._total(s)
        weights = s / (total * end.pixels * end.channels)
        numbers = array.reshape(n, *end.layout.shape).transpose(0, 2, 3, 1)
        return Targets((np.ascontiguousarray(numbers, end.dtype).ravel(), weights.astype(end.dtype)), 1.0, total)

    def _check_values(self, target: Array, where: str) -> None:
        """Raise ValueError for targets that have no meaning."""

    def evaluate(self, end: End, n: int, workspace: Workspace, targets: Targets, first: int, totals: Array) -> None:
        numbers, weights = targets.arrays
        x, dx = end.maps(workspace)
        self._run(x, n, end.pixels, end.channels, numbers, weights, first, dx, totals)

    @abstractmethod
    def _run(self, *arguments: Any) -> None:
        """Call the kernel."""


@final
class BinaryCrossEntropy(_Elementwise):
    """Cross-entropy of independent answers (multi-label): `−y·log σ(z) − (1 − y)·log(1 − σ(z))`, gradient `σ(z) − y`.

    The output z holds logits, the target y probabilities in [0, 1] in the output's shape; σ is the logistic function. A
    model that ends in a `Sigmoid` is taken at its logits. Computed as `|z|·(1 − y)` or, for z < 0, `|z|·y`, plus
    `log(1 + e^−|z|)`, which neither overflows nor cancels; PyTorch's `BCEWithLogitsLoss`. The accuracy is the share of
    answers that are on the right side: `(z > 0) == (y > 1/2)`.

    See Also
    --------
    CrossEntropy : Cross-entropy of one class among several.
    Sigmoid : Logistic function.

    References
    ----------
    Bishop, "Pattern recognition and machine learning", 2006, section 4.3.2.

    Examples
    --------
    >>> from fastcnn import BinaryCrossEntropy
    >>> round(BinaryCrossEntropy()([[2.0, -1.0]], [[1, 0]]), 4)
    0.2201
    """

    name = "binary_cross_entropy"
    swallows = "logistic"
    has_accuracy = True

    def _check_values(self, target: Array, where: str) -> None:
        if not ((target >= 0) & (target <= 1)).all():
            raise ValueError(f"{where}: expected probabilities in [0, 1]; got {target.min()} to {target.max()}")

    def _run(self, *arguments: Any) -> None:
        kernels.binary_cross_entropy(*arguments)


@final
class MeanSquaredError(_Elementwise):
    """Squared error `(z − y)²`, gradient `2·(z − y)`: PyTorch's and scikit-learn's; some texts halve it.

    See Also
    --------
    MeanAbsoluteError : Absolute error.
    Huber : Squared for small errors, absolute for large ones.

    References
    ----------
    Bishop, "Pattern recognition and machine learning", 2006, section 1.1.

    Examples
    --------
    >>> from fastcnn import MeanSquaredError
    >>> MeanSquaredError()([[1.0], [4.0]], [[0.0], [2.0]])
    2.5
    """

    name = "mean_squared_error"

    def _run(self, *arguments: Any) -> None:
        kernels.squared_error(*arguments)


@final
class MeanAbsoluteError(_Elementwise):
    """Absolute error `|z − y|`, gradient `sign(z − y)`, 0 at 0.

    See Also
    --------
    MeanSquaredError : Squared error.
    Huber : Squared for small errors, absolute for large ones.

    References
    ----------
    Hastie et al., "The elements of statistical learning", 2009, section 10.6.

    Examples
    --------
    >>> from fastcnn import MeanAbsoluteError
    >>> MeanAbsoluteError()([[1.0], [4.0]], [[0.0], [2.0]])
    1.5
    """

    name = "mean_absolute_error"

    def _run(self, *arguments: Any) -> None:
        kernels.absolute_error(*arguments)


@final
class Huber(_Elementwise):
    """Squared for small errors, absolute for large ones: `d²/2` where `|d| <= δ`, else `δ·(|d| − δ/2)`, `d = z − y`.

    The gradient is d, clipped to [−δ, δ]. PyTorch's `HuberLoss`.

    Parameters
    ----------
    delta : float
        δ, above 0.

    See Also
    --------
    MeanSquaredError : Squared error.
    MeanAbsoluteError : Absolute error.

    References
    ----------
    Huber, "Robust estimation of a location parameter", Ann. Math. Statist. 35 (1964).

    Examples
    --------
    >>> from fastcnn import Huber
    >>> Huber(delta=1.0)([[1.0], [4.0]], [[0.0], [2.0]])
    1.0
    """

    name = "huber"

    def __init__(self, delta: float = 1.0) -> None:
        self._delta = checks.as_number(delta, "Huber", "delta", above=0)

    @property
    def delta(self) -> float:
        """δ; it cannot be changed, for recorded steps would not see it."""
        return self._delta

    def _run(self, x: Any, *arguments: Any) -> None:
        kernels.huber(*(x, *arguments, x.data.dtype.type(self._delta)))


def _class_weight(value: Any) -> Array | None:
    """Return checked class weights, a read-only copy in float64."""
    if value is None:
        return None
    weights = np.array(checks.as_images(value, "CrossEntropy", "class_weight"), np.float64)
    if weights.ndim != 1 or not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError(f"CrossEntropy: class_weight: expected (K,) finite weights of at least 0; got {value!r}")
    weights.flags.writeable = False
    return weights


def _target_shapes(end: End, n: int) -> tuple[list[Shape], list[Shape]]:
    """Return the shapes that classes may have, and those of probabilities; errors tell the first of each."""
    channels, *size = end.layout.shape
    labels: list[Shape] = [(n, *size)]
    rows: list[Shape] = [(n, channels, *size)]
    return (labels, rows) if end.pixels > 1 else ([(n,), *labels], [(n, channels), *rows])


def _check_rows(rows: Array, where: str) -> Array:
    """Return rows of probabilities in float64."""
    y = rows.astype(np.float64)
    if not ((y >= 0).all() and np.allclose(y.sum(axis=1), 1, atol=1e-3)):
        raise ValueError(f"{where}: expected rows of probabilities that sum to 1; got {rows}")
    return y


LOSSES: dict[str, type[Loss]] = {
    loss.name: loss for loss in (CrossEntropy, BinaryCrossEntropy, MeanSquaredError, MeanAbsoluteError, Huber)
}
