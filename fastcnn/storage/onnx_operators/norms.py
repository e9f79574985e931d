"""Normalisations: ONNX nodes as layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...layers.norm import BatchNorm, GroupNorm, LayerNorm
from ...typing import Array
from ..onnx_nodes import Node, Read, flat
from ..onnx_rows import Value


def _per_channel(node: Node, value: Value, constants: dict[str, Array], axis: int = 0) -> dict[str, Array]:
    """Return constants for each channel in the order of ours."""
    order = value.axes if len(value.place.shape) == 3 else None
    if len(value.place.shape) == 1:
        index = value.index.reshape(value.place.shape[0], -1)[:, 0]
        return {name: _placed(np.asarray(each).ravel(), index) for name, each in constants.items()}
    if order is None or order[axis] != 0:
        node.refuse(f"expected channels on axis 1; got samples of shape {value.index.shape}")
    return {name: np.asarray(each).ravel() for name, each in constants.items()}


def _placed(array: Array, index: Any) -> Array:
    own = np.empty_like(array)
    own[index] = array
    return own


def _batch_norm(node: Node) -> Value:
    value = node.value()
    if node.get("training_mode", 0):
        node.refuse("training_mode: expected a graph for prediction")
    if value.index.ndim == 1:
        value = flat(value, str(node))
    names = ("gamma", "beta", "running_mean", "running_var")
    given = {name: node.constant(1 + k, name) for k, name in enumerate(names)}
    if any(each is None for each in given.values()):
        node.refuse("expected scale, bias, mean and variance as constants")
    weights = _per_channel(node, value, given)
    layer = node.make(BatchNorm, 1 - float(node.get("momentum", 0.9)), float(node.get("epsilon", 1e-5)))
    return Value(node.behind(value.place, layer, **weights), value.index)


def _instance_norm(node: Node) -> Value:
    """Read it as a group normalisation: by channels, or behind a Reshape by groups of them."""
    value = node.value()
    groups, channels = value.index.shape[0], value.place.shape[0]
    if value.index.ndim == 1 or channels % groups or not _in_order(value):
        node.refuse(f"expected channels or groups of channels on axis 1; got samples of shape {value.index.shape}")
    return _grouped(node, value, groups)


def _group_norm(node: Node) -> Value:
    value = node.value()
    if not _in_order(value):
        node.refuse(f"expected channels on axis 1; got samples of shape {value.index.shape}")
    return _grouped(node, value, int(node.get("num_groups")))


def _grouped(node: Node, value: Value, groups: int) -> Value:
    channels = value.place.shape[0]
    weights = {}
    for place, name in enumerate(("gamma", "beta")):
        array = np.asarray(node.constant(1 + place, name))
        weights[name] = np.repeat(array, channels // len(array))
    layer = node.make(GroupNorm, groups, float(node.get("epsilon", 1e-5)))
    return Value(node.behind(value.place, layer, **weights), value.index)


def _in_order(value: Value) -> bool:
    return np.array_equal(value.index.ravel(), np.arange(value.index.size))


def _layer_norm(node: Node) -> Value:
    value = node.value()
    axis = int(node.get("axis", -1)) % (value.index.ndim + 1)
    if axis != 1:
        node.refuse(f"axis: expected 1, all numbers of a sample; got {node.get('axis', -1)}")
    scale, bias = node.constant(1, "scale"), node.constant(2, "bias", 0.0)
    weights = {"gamma": value.spread(scale), "beta": value.spread(bias)}
    layer = node.make(LayerNorm, float(node.get("epsilon", 1e-5)))
    return Value(node.behind(value.place, layer, **weights), value.index)


OPERATORS: dict[str, Read] = {
    "BatchNormalization": _batch_norm,
    "GroupNormalization": _group_norm,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
}
