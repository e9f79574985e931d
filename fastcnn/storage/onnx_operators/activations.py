"""Activations and dropout: ONNX nodes as layers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...layers.activation import ELU, GELU, LeakyReLU, ReLU, Sigmoid, SiLU, SoftmaxActivation, Tanh
from ...layers.clipped import HardSigmoid, HardSwish, ReLU6
from ...layers.dropout import Dropout
from ...layers.prelu import PReLU
from ...layers.scale import Scale
from ...layers.smooth import CELU, Mish, Softplus
from ..onnx_nodes import Node, Read, flat
from ..onnx_rows import Value
from . import formulas


def _activation(kind: type, function: Any = None, **attributes: tuple[str, Any]) -> Read:
    """Return what reads one elementwise layer; `attributes` tell ONNX's name and default of each argument."""

    def read(node: Node) -> Value:
        arguments = {ours: node.get(theirs, default) for ours, (theirs, default) in attributes.items()}
        value = node.value()
        return Value(node.behind(value.place, node.make(kind, **arguments), function), value.index)

    return read


def _clip(node: Node) -> Value:
    low = node.get("min", node.number(1, "min", -math.inf))
    high = node.get("max", node.number(2, "max", math.inf))
    if low == 0 and high == 6:
        return _activation(ReLU6, lambda x: np.clip(x, 0, 6))(node)
    if low != 0 or high < np.finfo(np.float32).max:
        node.refuse(f"expected numbers from 0 on, a ReLU, or from 0 to 6, a ReLU6; got from {low} to {high}")
    return _activation(ReLU)(node)


def _hard_sigmoid(node: Node) -> Value:
    """Read max(0, min(1, alpha · x + beta)): a scale, where it is not the usual one, before our hard sigmoid."""
    alpha, beta = float(node.get("alpha", 0.2)), float(node.get("beta", 0.5))
    value = node.value()
    place, factor, shift = value.place, 6 * alpha, 6 * (beta - 0.5)
    if not np.allclose([factor, shift], [1, 0], rtol=0, atol=1e-6):
        place = node.behind(place, Scale(factor, shift), lambda x: factor * x + shift)
    return Value(node.behind(place, HardSigmoid(), lambda x: np.clip(x + 3, 0, 6) / 6), value.index)


def _prelu(node: Node) -> Value:
    value, slopes = node.value(), np.asarray(node.constant(1, "slope"))
    try:
        by_channel = value.spread(slopes).reshape(value.place.shape[0], -1)
    except ValueError:
        node.refuse(f"slope: expected one for samples of shape {value.index.shape}; got shape {slopes.shape}")
    if (by_channel != by_channel[:, :1]).any():
        node.refuse("slope: expected one for all channels, or one for each; got others for pixels of a channel")
    slopes = slopes.ravel() if slopes.size == 1 else by_channel[:, 0]
    return Value(node.behind(value.place, PReLU(slopes.size), negative_slope=slopes), value.index)


def _softmax(node: Node) -> Value:
    value = node.value()
    axis = int(node.get("axis", -1 if node.opset >= 13 else 1)) % (value.index.ndim + 1)
    if value.index.ndim == 1 and axis == 1:
        value = flat(value, str(node))
    else:
        order = value.axes if len(value.place.shape) == 3 else None
        one = value.index.shape[1:] == (1, 1) and len(value.place.shape) == 1 and axis == 1
        if not one and (order is None or axis < 1 or order[axis - 1] != 0 or node.opset < 13):
            node.refuse(f"axis: expected the features or the channels; got {axis} of samples {value.index.shape}")
    return Value(node.behind(value.place, SoftmaxActivation()), value.index)


def _dropout(node: Node) -> Value:
    value = node.value()
    if node.number(2, "training_mode", 0):
        node.refuse("training_mode: expected a graph for prediction")
    rate = node.number(1, "ratio", float(node.get("ratio", 0.5)))
    if not 0 < rate < 1:
        return value
    return Value(node.behind(value.place, Dropout(rate)), value.index)


OPERATORS: dict[str, Read] = {
    "Celu": _activation(CELU, alpha=("alpha", 1.0)),
    "Clip": _clip,
    "Dropout": _dropout,
    "Elu": _activation(ELU, alpha=("alpha", 1.0)),
    "Gelu": _activation(GELU, approximate=("approximate", "none")),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _activation(HardSwish),
    "LeakyRelu": _activation(LeakyReLU, negative_slope=("alpha", 0.01)),
    "Mish": _activation(Mish),
    "PRelu": _prelu,
    "Relu": _activation(ReLU),
    "Sigmoid": _activation(Sigmoid, formulas.sigmoid),
    "Softmax": _softmax,
    "Softplus": _activation(Softplus, formulas.softplus),
    "Swish": _activation(SiLU),
    "Tanh": _activation(Tanh, formulas.tanh),
}
