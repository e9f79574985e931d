"""The gradient of a loss by the output of one sample, by the formulas of `reference/`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..losses import BinaryCrossEntropy, CrossEntropy, Huber, Loss, MeanAbsoluteError, MeanSquaredError
from ..typing import Array, Shape
from .activation import sigmoid, softmax


def slope(loss: Loss, output: Array, target: Any) -> Array:
    """Return dL/d(output), (1, ...), of a loss of one sample."""
    if isinstance(loss, CrossEntropy):
        return softmax_slope(loss, softmax(output), target)
    y = np.asarray(target, np.float64)
    if y.size != output.size:
        raise ValueError(f"explain_gradient: y: expected {output.size} numbers, as the output has; got {y.size}")
    d = output - y.reshape(output.shape)
    if isinstance(loss, BinaryCrossEntropy):
        y = y.reshape(output.shape)
        d = np.where(output >= 0, (1 - y) - sigmoid(-output), sigmoid(output) - y)
    elif isinstance(loss, MeanSquaredError):
        d = 2 * d
    elif isinstance(loss, MeanAbsoluteError):
        d = np.sign(d)
    elif isinstance(loss, Huber):
        d = np.clip(d, -loss.delta, loss.delta)
    else:
        raise TypeError(f"explain_gradient: loss: expected a loss of fastcnn's; got {loss!r}")
    return np.asarray(d * len(output) / output.size)


def softmax_slope(loss: Loss, p: Array, target: Any) -> Array:
    """Return the gradient of the cross-entropy by the logits: p − y, with smoothing and class weights; 0 if ignored."""
    if not isinstance(loss, CrossEntropy):
        raise TypeError(f"explain_gradient: loss: expected CrossEntropy behind a softmax; got {loss!r}")
    K, size = p.shape[1], p.shape[2:]
    y = _distributions(np.asarray(target), K, size, loss.ignore_index)
    w = np.ones(K) if loss.class_weight is None else np.asarray(loss.class_weight, np.float64)
    w = w.reshape(K, *[1] * len(size))
    counts = y.any(axis=1, keepdims=True)
    wy = w * counts * ((1 - loss.label_smoothing) * y + loss.label_smoothing / K)
    total = float(np.sum(w * y)) or np.inf  # where nothing counts, the gradient is 0
    return np.asarray((p * _sums_of_others(wy) - wy * _sums_of_others(p)) / total)  # no difference of p and 1


def _sums_of_others(x: Array) -> Array:
    """Return the sums of all but one along axis 1, for each one."""
    return np.stack([np.delete(x, k, axis=1).sum(axis=1) for k in range(x.shape[1])], axis=1)


def _distributions(y: Array, K: int, size: Shape, ignore_index: int | None) -> Array:
    """Return the target of one sample as probabilities (1, K, ...), of each pixel of maps; 0 where it is ignored."""
    if y.shape == size and y.dtype.kind in "iub":
        counts = np.ones(size, bool) if ignore_index is None else y != ignore_index
        if not ((y >= 0) & (y < K))[counts].all():
            wrong = y[counts & ((y < 0) | (y >= K))][0] if size else y
            raise ValueError(f"explain_gradient: y: expected a class from 0 to {K - 1}; got {wrong}")
        classes = np.arange(K).reshape(K, *[1] * len(size))
        return np.asarray((classes == y) & counts, np.float64)[None]
    if y.size != K * math.prod(size) or y.dtype.kind not in "fiub":
        one = f"classes of shape {size}" if size else "a class"
        raise ValueError(f"explain_gradient: y: expected {one}, or {(K, *size)} probabilities; got shape {y.shape}")
    return y.astype(np.float64).reshape(1, K, *size)
