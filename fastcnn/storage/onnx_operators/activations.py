"""Activations and dropout: ONNX nodes as layers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...layers.activation import ELU, GELU, LeakyReLU, ReLU, Sigmoid, SiLU, SoftmaxActivation, Tanh
from ...layers.base import Layer
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


FARTHEST = 32.0  # bound of a Clip: of larger ones the sums below would lose digits of the numbers between


def _clip(node: Node) -> Value:
    """Read a ReLU or a ReLU6, between scales where the bounds are others than theirs."""
    low = node.get("min", node.number(1, "min", -math.inf))
    high = node.get("max", node.number(2, "max", math.inf))
    largest = float(np.finfo(np.float32).max)
    low, high = (-math.inf if low <= -largest else low), (math.inf if high >= largest else high)
    if not low < high:
        node.refuse(f"expected min below max; got {low} and {high}")
    if any(abs(bound) > FARTHEST for bound in (low, high) if math.isfinite(bound)):
        node.refuse(f"expected bounds from {-FARTHEST} to {FARTHEST}; got from {low} to {high}")
    if (low, high) == (-math.inf, math.inf):
        return node.value()
    if math.isinf(high):
        return _between_scales(node, 1.0, -low, ReLU(), lambda x: np.maximum(x, 0))
    if math.isinf(low):
        return _between_scales(node, -1.0, high, ReLU(), lambda x: np.maximum(x, 0))
    factor = 6 / (high - low)
    return _between_scales(node, factor, -low * factor, ReLU6(), lambda x: np.clip(x, 0, 6))


def _between_scales(node: Node, factor: float, shift: float, layer: Layer, function: Any) -> Value:
    """Return what stands behind a layer of `factor` · x + `shift`, scaled back."""
    value = node.value()
    if (factor, shift) == (1.0, 0.0):
        return Value(node.behind(value.place, layer, function), value.index)
    scaled = node.behind(value.place, Scale(factor, shift), lambda x: factor * x + shift)
    place = node.behind(scaled, layer, function)
    return Value(node.behind(place, Scale(1 / factor, -shift / factor), lambda x: (x - shift) / factor), value.index)


SELU_ALPHA, SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875  # ONNX's defaults


def _selu(node: Node) -> Value:
    """Read gamma times the ELU of `alpha`."""
    alpha, gamma = float(node.get("alpha", SELU_ALPHA)), float(node.get("gamma", SELU_GAMMA))
    value = node.value()
    place = node.behind(value.place, node.make(ELU, alpha))
    return Value(node.behind(place, Scale(gamma)), value.index)


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
    rate = node.number(1, "ratio", float(node.get("ratio", 0.5)))
    if rate and node.number(2, "training_mode", 0):
        node.refuse("training_mode: expected a graph for prediction")
    if not 0 <= rate < 1:
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
    "Selu": _selu,
    "Sigmoid": _activation(Sigmoid, formulas.sigmoid),
    "Softmax": _softmax,
    "Softplus": _activation(Softplus, formulas.softplus),
    "Swish": _activation(SiLU),
    "Tanh": _activation(Tanh, formulas.tanh),
}
