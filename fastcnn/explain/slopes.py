"""The gradient of a loss by the output of one sample, by the formulas of `reference/`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..losses import BinaryCrossEntropy, CrossEntropy, Huber, Loss, MeanAbsoluteError, MeanSquaredError
from ..typing import Array
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
        d = sigmoid(output) - y.reshape(output.shape)
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
    """Return the gradient of the cross-entropy by the logits: p − y, with smoothing and class weights."""
    if not isinstance(loss, CrossEntropy):
        raise TypeError(f"explain_gradient: loss: expected CrossEntropy behind a softmax; got {loss!r}")
    K = p.shape[1]
    y = np.asarray(target)
    if y.ndim == 0:
        if y.dtype.kind not in "iu" or not 0 <= y < K:
            raise ValueError(f"explain_gradient: y: expected a class from 0 to {K - 1}; got {target!r}")
        y = np.eye(K)[int(y)]
    if y.size != K:
        raise ValueError(f"explain_gradient: y: expected a class, or {K} probabilities; got {target!r}")
    y = y.astype(np.float64).reshape(1, K)
    w = np.ones(K) if loss.class_weight is None else np.asarray(loss.class_weight, np.float64)
    wy = w * ((1 - loss.label_smoothing) * y + loss.label_smoothing / K)
    total = float(np.sum(np.sum(w * y, axis=1)))
    return np.asarray((p * wy.sum(axis=1, keepdims=True) - wy) / total)
