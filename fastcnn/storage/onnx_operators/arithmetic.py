"""Sums, differences, products and quotients: shortcuts of residual blocks, constants, and parts of formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...layers.conv import Conv2D
from ...layers.dense import Dense
from ...layers.depthwise import DepthwiseConv2D
from ...layers.norm import BatchNorm, GroupNorm, LayerNorm
from ...layers.scale import Scale
from ...layers.transpose import Conv2DTranspose
from ...typing import Array
from ..onnx_nodes import Node, Read, flat
from ..onnx_rows import Place, Value
from . import formulas


def _sum(node: Node) -> Value:
    left, right = node.inputs
    if isinstance(left, Value) and isinstance(right, Value):
        return _sum_of_values(node, left, right)
    value, constant, place = (left, right, 0) if isinstance(left, Value) else (right, left, 1)
    return _affine(node, value, place, shift=constant)


def _sum_of_values(node: Node, left: Value, right: Value) -> Value:
    if left.place.shape != right.place.shape and left.index.ndim == right.index.ndim == 1:
        left, right = flat(left, str(node)), flat(right, str(node))
    if left.place.shape != right.place.shape or not np.array_equal(left.index, right.index):
        node.refuse(f"expected values of one shape; got samples of shapes {left.index.shape} and {right.index.shape}")
    place = Place("add", [left.place, right.place], left.place.shape, str(node), function=np.add)
    return Value(formulas.recognised(node, place), left.index)


def _difference(node: Node) -> Value:
    if not isinstance(node.inputs[0], Value):  # a constant less a value
        return _affine(node, node.value(1), 1, scale=-1.0, shift=node.constant(0, "what is subtracted from"))
    return _affine(node, node.value(), 0, shift=-np.asarray(node.constant(1, "what is subtracted")))


def _negative(node: Node) -> Value:
    return _affine(node, node.value(), 0, scale=-1.0)


def _product(node: Node) -> Value:
    left, right = node.inputs
    if isinstance(left, Value) and isinstance(right, Value):
        if left.place.shape != right.place.shape or not np.array_equal(left.index, right.index):
            node.refuse("a product of two values of different shapes; no layer computes it")
        place = Place("other", [left.place, right.place], left.place.shape, str(node), function=np.multiply)
        return Value(formulas.recognised(node, place), left.index)
    value, constant, place_ = (left, right, 0) if isinstance(left, Value) else (right, left, 1)
    return _affine(node, value, place_, scale=constant)


def _quotient(node: Node) -> Value:
    if not isinstance(node.inputs[0], Value):
        node.refuse("expected a value of the network divided by a constant")
    return _affine(node, node.value(), 0, scale=1 / np.asarray(node.constant(1, "divisor"), float))


def _affine(node: Node, value: Value, place: int, scale: Any = 1.0, shift: Any = 0.0) -> Value:
    """Return what stands behind a scale and a shift: a part of the layer before, or a layer of constants."""
    scale, shift = np.asarray(scale, float), np.asarray(shift, float)
    try:
        scales, shifts = value.spread(scale), value.spread(shift)
    except ValueError:
        node.refuse(
            f"expected a constant for samples of shape {value.index.shape}; got {np.broadcast(scale, shift).shape}"
        )
    before = value.place
    if node.sole[place] and before.kind == "layer" and _absorb(before, scales, shifts):
        return value
    function = None
    if scale.size == shift.size == 1:
        factor, term = float(scale.ravel()[0]), float(shift.ravel()[0])
        function = lambda x: x * factor + term  # noqa: E731
    columns = scales.reshape(len(scales), -1), shifts.reshape(len(shifts), -1)
    if any((column != column[:, :1]).any() for column in columns):
        node.refuse("expected the same constant for all pixels of a channel")
    behind = node.behind(before, _scale(columns[0][:, 0], columns[1][:, 0]), function)
    return Value(formulas.recognised(node, behind) if function else behind, value.index)


def _scale(factors: Array, shifts: Array) -> Scale:
    """Return a layer of constants, one for all channels where they are the same."""
    factor, shift = (
        float(each[0]) if (each == each[0]).all() else tuple(map(float, each.tolist())) for each in (factors, shifts)
    )
    return Scale(factor, shift)


def _absorb(place: Place, scales: Array, shifts: Array) -> bool:
    """Let the weights of a layer scale and shift what it gives, if they can."""
    layer, weights = place.layer, place.weights
    if isinstance(layer, LayerNorm):
        weights["gamma"], weights["beta"] = weights["gamma"] * scales, weights["beta"] * scales + shifts
        return True
    scale, shift = (each.reshape(len(each), -1) for each in (scales, shifts))
    if (scale != scale[:, :1]).any() or (shift != shift[:, :1]).any():
        return False
    scale, shift = scale[:, 0], shift[:, 0]
    if isinstance(layer, BatchNorm | GroupNorm):
        weights["gamma"], weights["beta"] = weights["gamma"] * scale, weights["beta"] * scale + shift
        return True
    if isinstance(layer, Scale):
        place.layer = _scale(np.multiply(layer.factor, scale), np.multiply(layer.shift, scale) + shift)
        place.function = _behind(place.function, scale, shift)
        return True
    if isinstance(layer, Conv2D | DepthwiseConv2D):
        weights["filters"] = weights["filters"] * scale[:, None, None, None]
    elif isinstance(layer, Dense):
        weights["weights"] = weights["weights"] * scale
    elif isinstance(layer, Conv2DTranspose) and (scale == 1).all():
        pass
    else:
        return False
    if layer.bias or shift.any():
        weights["biases"] = weights.get("biases", 0.0) * scale + shift
        place.layer = type(layer)(**{**layer._arguments(), "bias": True})
    return True


def _behind(function: Callable[..., Array] | None, scale: Array, shift: Array) -> Callable[..., Array] | None:
    """Return a function times a number, plus a number; None where these differ by channel."""
    if function is None or (scale != scale[0]).any() or (shift != shift[0]).any():
        return None
    return lambda x: function(x) * scale[0] + shift[0]


OPERATORS: dict[str, Read] = {
    "Add": _sum,
    "Div": _quotient,
    "Mul": _product,
    "Neg": _negative,
    "Sub": _difference,
    "Sum": _sum,
}
