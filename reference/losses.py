"""Losses: one number for a batch, the mean over its examples, and its gradient by the output of the model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import numpy as np
from numpy.typing import ArrayLike

from reference.activation import sigmoid, softmax
from reference.base import Array, Shape, real, real_array


class Loss(ABC):
    """Weighted mean over the examples of a batch, L = Σ_n s_n·ℓ_n / Σ_n s_n·m_n; m_n = 1 unless a loss says otherwise.

    ``gradient`` is dL/d(output) of that mean, so the factor 1/N is in it: hand it to ``backward`` without a learning
    rate, and the gradients to an optimizer. (The notebook's step divides by N itself: ``dL_dout`` is N times this.)

    PyTorch has no sample weights; as in scikit-learn's metrics the weighted losses are divided by the sum of the
    weights, not by N as in Keras.
    """

    def __init__(self) -> None:
        self.name = type(self).__name__

    def __call__(self, output: ArrayLike, target: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the loss L.

        Parameters
        ----------
        output : array, (N, ...)
        target : array
            As the class says.
        sample_weight : array, (N,), optional
            s, at least 0 and not all 0; default 1.

        Raises
        ------
        TypeError, ValueError
            If an argument has the wrong type or shape, or holds values that it must not.
        """
        z, y, s = self._check(output, target, sample_weight)
        return float(np.sum(s * self._each(z, y)) / self._total(y, s))

    def gradient(self, output: ArrayLike, target: ArrayLike, sample_weight: ArrayLike | None = None) -> Array:
        """Return dL/d(output), in the shape of ``output``; arguments and errors as in a call."""
        z, y, s = self._check(output, target, sample_weight)
        s_n = s.reshape(-1, *[1] * (z.ndim - 1))
        return np.asarray(s_n * self._each_gradient(z, y) / self._total(y, s))

    @abstractmethod
    def _each(self, output: Array, target: Array) -> Array:
        """ℓ, (N,)."""

    @abstractmethod
    def _each_gradient(self, output: Array, target: Array) -> Array:
        """dℓ_n/d(output_n), in the shape of the output."""

    def _size(self, target: Array) -> Array:
        """m, (N,)."""
        return np.ones(len(target))

    def _target(self, target: ArrayLike, shape: Shape) -> Array:
        """Return the checked target for an output of this shape."""
        y = real_array(self.name, "target", target)
        if y.shape != shape:
            raise ValueError(f"{self.name}: target: expected shape {shape}, that of the output, got {y.shape}")
        return y

    def _check(
        self, output: ArrayLike, target: ArrayLike, sample_weight: ArrayLike | None
    ) -> tuple[Array, Array, Array]:
        z = real_array(self.name, "output", output)
        if z.ndim < 1 or z.size == 0:
            raise ValueError(f"{self.name}: output: expected (N, ...) with at least one example, got shape {z.shape}")
        s = np.ones(len(z)) if sample_weight is None else real_array(self.name, "sample_weight", sample_weight)
        if s.shape != (len(z),):
            raise ValueError(f"{self.name}: sample_weight: expected shape {(len(z),)}, got {s.shape}")
        if not (s >= 0).all():
            raise ValueError(f"{self.name}: sample_weight: expected weights of at least 0, got {s.min()}")
        return z, self._target(target, z.shape), s

    def _total(self, target: Array, sample_weight: Array) -> float:
        total = float(np.sum(sample_weight * self._size(target)))
        if total == 0:
            raise ValueError(f"{self.name}: expected weights of which some are not 0, got a sum of 0")
        return total


@final
class CrossEntropy(Loss):
    """Cross-entropy of a target distribution and the softmax of the output.

    With p = softmax(output), y the target, K classes, label smoothing ε and class weights w:
    y' = (1 − ε)·y + ε/K, ℓ_n = −Σ_k w_k·y'_nk·log p_nk, m_n = Σ_k w_k·y_nk,
    dℓ_n/d(output_nk) = p_nk·Σ_m w_m·y'_nm − w_k·y'_nk, which is p − y without weights.

    The output holds logits. If only probabilities are at hand (those of ``Softmax``), their logarithms are logits
    too: ``loss(np.log(probs), target)``.

    Parameters
    ----------
    label_smoothing : float
        ε, in [0, 1).
    class_weight : array, (K,), optional
        w, at least 0.
    ignore_index : int, optional
        The label of what counts nowhere: there ℓ and m are 0.

    Notes
    -----
    Targets are classes (N,) of integers, or one-hot or soft rows (N, K) that sum to 1. For an output of maps
    (N, K, H, W) they are classes (N, H, W), or (N, K, H, W); ℓ_n and m_n are sums over the pixels of an image. Where
    nothing counts, L and its gradient are 0. With class weights the mean is
    divided by the sum of the weights of the targets, as PyTorch does for integer targets. For rows PyTorch divides by
    N; here a one-hot row counts as the integer that it stands for.

    References
    ----------
    Bishop 2006, "Pattern Recognition and Machine Learning", §4.3.4; Szegedy et al. 2016, "Rethinking the Inception
    architecture for computer vision", §7 (label smoothing).
    """

    def __init__(
        self, label_smoothing: float = 0.0, class_weight: ArrayLike | None = None, ignore_index: int | None = None
    ) -> None:
        super().__init__()
        self.label_smoothing = real(self.name, "label_smoothing", label_smoothing, at_least=0, below=1)
        self.class_weight = None if class_weight is None else real_array(self.name, "class_weight", class_weight)
        if self.class_weight is not None and (self.class_weight.ndim != 1 or not (self.class_weight >= 0).all()):
            raise ValueError(f"{self.name}: class_weight: expected (K,) weights of at least 0, got {self.class_weight}")
        self.ignore_index = ignore_index

    def _weights(self, output: Array) -> Array:
        """Return w, in a shape that goes with the output's."""
        K = output.shape[1]
        w = np.ones(K) if self.class_weight is None else self.class_weight
        return np.asarray(w.reshape(K, *[1] * (output.ndim - 2)))

    def _smooth(self, target: Array) -> Array:
        counts = target.any(axis=1, keepdims=True)  # a target without a class is ignored
        return np.asarray(counts * ((1 - self.label_smoothing) * target + self.label_smoothing / target.shape[1]))

    def _each(self, output: Array, target: Array) -> Array:
        below = output.max(axis=1, keepdims=True) - output
        others = _sums_of_others(np.exp(-below)).min(axis=1, keepdims=True)  # those of the largest, which itself is 1
        minus_log_p = below + np.log1p(others)
        wy = self._weights(output) * self._smooth(target)
        return np.asarray(np.sum((wy * minus_log_p).reshape(len(output), -1), axis=1))

    def _each_gradient(self, output: Array, target: Array) -> Array:
        wy = self._weights(output) * self._smooth(target)
        p = softmax(output)
        # p_k·Σ_m wy_m − wy_k, without the difference of p_k and 1.
        return p * _sums_of_others(wy) - wy * _sums_of_others(p)

    def _size(self, target: Array) -> Array:
        return np.asarray(np.sum((self._weights(target) * target).reshape(len(target), -1), axis=1))

    def _total(self, target: Array, sample_weight: Array) -> float:
        has_unlabelled = target.ndim == 4 or self.ignore_index is not None
        if has_unlabelled and sample_weight.any() and not np.any(sample_weight * self._size(target)):
            return np.inf  # by which L and its gradient are 0
        return super()._total(target, sample_weight)

    def _target(self, target: ArrayLike, shape: Shape) -> Array:
        if len(shape) not in (2, 4):
            raise ValueError(f"{self.name}: output: expected (N, K) or (N, K, H, W), got shape {shape}")
        N, K, *size = shape
        if self.class_weight is not None and len(self.class_weight) != K:
            raise ValueError(
                f"{self.name}: class_weight: expected {K} weights, one a class, got {len(self.class_weight)}"
            )
        classes = np.asarray(target)
        if classes.ndim != len(shape) - 1:
            y = super()._target(target, shape)
            if self.ignore_index is not None:
                raise ValueError(f"{self.name}: target: expected classes with ignore_index, got probabilities")
            if not ((y >= 0).all() and np.allclose(y.sum(axis=1), 1, atol=1e-3)):
                raise ValueError(f"{self.name}: target: expected rows of probabilities that sum to 1, got {classes}")
            return y
        if classes.dtype.kind not in "bui":
            raise TypeError(f"{self.name}: target: expected classes (integers) or rows of K, got dtype {classes.dtype}")
        if classes.shape != (N, *size):
            got = classes.shape if size else len(classes)
            raise ValueError(
                f"{self.name}: target: expected {(N, *size) if size else N} classes, one for each, got {got}"
            )
        return self._one_hot(classes, K)

    def _one_hot(self, classes: Array, K: int) -> Array:
        """Return 1 at the class of each sample or pixel, along axis 1; nothing where it is ignored."""
        counts = np.ones(classes.shape, bool) if self.ignore_index is None else classes != self.ignore_index
        known = classes[counts]
        if known.size and (known.min() < 0 or known.max() >= K):
            raise ValueError(f"{self.name}: target: expected classes 0 to {K - 1}, got {known.min()} to {known.max()}")
        y = np.zeros((len(classes), K, *classes.shape[1:]))
        for place in np.argwhere(counts):
            n, *pixel = place
            y[(n, classes[tuple(place)], *pixel)] = 1
        return y


def _sums_of_others(x: Array) -> Array:
    """Return Σ_m x_m over m ≠ k along axis 1, for each k."""
    return np.stack([np.delete(x, k, axis=1).sum(axis=1) for k in range(x.shape[1])], axis=1)


class _Elementwise(Loss):
    """A loss of each number of the output by itself; ℓ_n is the mean over the numbers of one example."""

    @abstractmethod
    def _of(self, z: Array, y: Array) -> Array:
        """Loss of each number z of the output with target y."""

    @abstractmethod
    def _slope(self, z: Array, y: Array) -> Array:
        """Its derivative by z."""

    def _each(self, output: Array, target: Array) -> Array:
        return np.asarray(self._of(output, target).reshape(len(output), -1).mean(axis=1))

    def _each_gradient(self, output: Array, target: Array) -> Array:
        return self._slope(output, target) * len(output) / output.size


@final
class BinaryCrossEntropy(_Elementwise):
    """Cross-entropy of independent answers (multi-label): −y·log σ(z) − (1 − y)·log(1 − σ(z)), derivative σ(z) − y.

    The output z holds logits, the target y probabilities in [0, 1] in the output's shape; σ is the logistic function.
    Computed as |z|·(1 − y) or, for z < 0, |z|·y, plus log(1 + e^−|z|): neither overflows nor cancels.

    References
    ----------
    Bishop 2006, "Pattern Recognition and Machine Learning", §4.3.2.
    """

    def _of(self, z: Array, y: Array) -> Array:
        return np.asarray(np.abs(z) * np.where(z >= 0, 1 - y, y) + np.log1p(np.exp(-np.abs(z))))

    def _slope(self, z: Array, y: Array) -> Array:
        return np.asarray(np.where(z >= 0, (1 - y) - sigmoid(-z), sigmoid(z) - y))

    def _target(self, target: ArrayLike, shape: Shape) -> Array:
        y = super()._target(target, shape)
        if not ((y >= 0) & (y <= 1)).all():
            raise ValueError(f"{self.name}: target: expected probabilities in [0, 1], got {y.min()} to {y.max()}")
        return y


@final
class MeanSquaredError(_Elementwise):
    """Squared error (z − y)², derivative 2·(z − y). PyTorch's and scikit-learn's; some texts halve it.

    References
    ----------
    Bishop 2006, "Pattern Recognition and Machine Learning", §1.1.
    """

    def _of(self, z: Array, y: Array) -> Array:
        return (z - y) * (z - y)

    def _slope(self, z: Array, y: Array) -> Array:
        return 2 * (z - y)


@final
class MeanAbsoluteError(_Elementwise):
    """Absolute error |z − y|, derivative sign(z − y), 0 at 0.

    References
    ----------
    Hastie et al. 2009, "The Elements of Statistical Learning", §10.6.
    """

    def _of(self, z: Array, y: Array) -> Array:
        return np.abs(z - y)

    def _slope(self, z: Array, y: Array) -> Array:
        return np.sign(z - y)


@final
class Huber(_Elementwise):
    """Squared error for small errors, absolute error for large ones: d²/2 where |d| ≤ δ, else δ·(|d| − δ/2), d = z − y.

    Derivative: d clipped to [−δ, δ].

    Parameters
    ----------
    delta : float
        δ, above 0.

    References
    ----------
    Huber 1964, "Robust estimation of a location parameter"; Hastie et al. 2009, "The Elements of Statistical
    Learning", §10.6.
    """

    def __init__(self, delta: float = 1.0) -> None:
        super().__init__()
        self.delta = real(self.name, "delta", delta, above=0)

    def _of(self, z: Array, y: Array) -> Array:
        d = np.abs(z - y)
        return np.where(d <= self.delta, d * d / 2, self.delta * (d - self.delta / 2))

    def _slope(self, z: Array, y: Array) -> Array:
        return np.clip(z - y, -self.delta, self.delta)
