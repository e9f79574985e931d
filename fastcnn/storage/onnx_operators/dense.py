"""Matrix products: ONNX nodes as dense layers."""

from __future__ import annotations

import numpy as np

from ...layers.conv import Conv2D
from ...layers.dense import Dense
from ...typing import Array
from ..onnx_nodes import Node, Read
from ..onnx_rows import Place, Value


def dense_behind(node: Node, value: Value, weights: Array, biases: Array | None) -> Place:
    """Return a dense layer behind a value, its weights in the order of our features."""
    value = node.features(value)
    if weights.ndim != 2 or len(weights) != value.index.size:
        node.refuse(f"weights: expected ({value.index.size}, nodes); got shape {weights.shape}")
    own = np.empty_like(weights)
    own[value.index] = weights  # in the order of our features
    given = {"weights": own}
    if biases is not None:
        given["biases"] = np.broadcast_to(np.asarray(biases).reshape(-1), weights.shape[1])
    return node.behind(value.place, node.make(Dense, weights.shape[1], biases is not None), **given)


def _gemm(node: Node) -> Value:
    weights, biases = node.constant(1, "weights"), node.constant(2, "biases")
    if weights is None or node.get("transA", 0):
        node.refuse("expected x times constant weights, x not transposed")
    if biases is not None and biases.size not in (1, biases.shape[-1] if biases.ndim else 1):
        node.refuse(f"biases: expected the same for each sample; got shape {biases.shape}")
    weights = (weights.T if node.get("transB", 0) else weights) * weights.dtype.type(node.get("alpha", 1.0))
    if biases is not None:
        biases = biases * biases.dtype.type(node.get("beta", 1.0))
    return Value.at(dense_behind(node, node.value(), weights, biases))


def _matmul(node: Node) -> Value:
    value, weights = node.value(), node.constant(1, "weights")
    if value.index.ndim == 3 and len(value.place.shape) == 3 and value.axes is not None and value.axes[2] == 0:
        return _pixel_by_pixel(node, value, weights)
    return Value.at(dense_behind(node, value, weights, None))


def _pixel_by_pixel(node: Node, value: Value, weights: Array) -> Value:
    """Return what a dense layer of Keras makes of images, channels last: a 1 x 1 convolution."""
    if weights.ndim not in (1, 2) or len(weights) != value.place.shape[0]:
        node.refuse(f"weights: expected ({value.place.shape[0]}, nodes); got shape {weights.shape}")
    filters = weights.reshape(len(weights), -1).T[:, :, None, None]
    behind = Value.at(node.behind(value.place, Conv2D(len(filters), 1, bias=False), filters=filters), value.axes)
    return behind if weights.ndim == 2 else behind.moved(behind.index[:, :, 0])


OPERATORS: dict[str, Read] = {
    "Gemm": _gemm,
    "MatMul": _matmul,
}
