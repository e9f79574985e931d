"""Losses of each number of the output by itself: of regression, and of labels that do not exclude each other."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, final

import numpy as np

from .. import checks
from ..engine.workspace import Workspace
from ..kernels import loss as kernels
from ..typing import Array
from .base import End, Loss, Targets


class Elementwise(Loss):
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
class BinaryCrossEntropy(Elementwise):
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
class MeanSquaredError(Elementwise):
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
class MeanAbsoluteError(Elementwise):
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
class Huber(Elementwise):
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
