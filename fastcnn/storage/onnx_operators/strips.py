"""Signals, (N, C, L) or (N, L, C): a node with one axis of positions is read as that of images one pixel high."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...typing import Array
from ..onnx_nodes import Node, Read
from ..onnx_rows import Value

ROWS = {1: (0, 1, 2), 0: (1, 2, 0)}  # where the axis of one row is left out, and the order of axes that it makes
OF_POSITIONS = {"kernel_shape": 1, "strides": 1, "dilations": 1, "output_padding": 0, "output_shape": 1}


def axis_of_rows(value: Any) -> int | None:
    """Return before which axis of a signal's samples the one of rows belongs; None of what is no signal."""
    if not isinstance(value, Value) or value.index.ndim != 2 or not value.whole:
        return None
    place = value.place
    if len(place.shape) != 3 or place.shape[1] != 1:
        return None
    for axis, order in ROWS.items():
        if np.array_equal(value.index, Value.at(place, order).index.squeeze(axis)):
            return axis
    return None


def of_strips(read: Read) -> Read:
    """Return what reads a node of images, and one of signals, whose inputs it gives a row first."""

    def read_strips(node: Node) -> Value:
        found = {axis_of_rows(each) for each in node.inputs if isinstance(each, Value)}
        axis = found.pop() if len(found) == 1 else None
        if axis is None:
            return read(node)
        value = read(_with_rows(node, axis))
        return value.moved(value.index.squeeze(axis))

    return read_strips


def _with_rows(node: Node, axis: int) -> Node:
    """Return a node of images from one of signals."""
    attributes, inputs = dict(node.attributes), list(node.inputs)
    for name, value in OF_POSITIONS.items():
        if len(attributes.get(name, ())) == 1:
            attributes[name] = [value, *attributes[name]]
    if "axis" in attributes:
        attributes["axis"] = _moved(int(attributes["axis"]), axis)
    if node.operator in ("Pad", "Resize", "Upsample", "Slice"):
        _spread_axes(node, attributes, inputs, axis)
    elif len(attributes.get("pads", ())) == 2:
        before, after = attributes["pads"]
        attributes["pads"] = [0, before, 0, after]
    for k, each in enumerate(inputs):
        if isinstance(each, Value):
            inputs[k] = each.moved(np.expand_dims(each.index, axis))
        elif node.operator in ("Conv", "ConvTranspose") and k == 1 and np.ndim(each) == 3:
            inputs[k] = each[:, :, None]
    return Node(node.operator, node.name, attributes, inputs, node.sole, node.opset, node.batch)


def _moved(axis: int, rows: int) -> int:
    """Return where an axis of a signal lies among those of images; the batch is 0."""
    axis %= 3
    return axis + 1 if axis > rows else axis


# What has a number for each axis: the place of it among the inputs, and the number of an axis that nothing happens to.
FOR_EACH_AXIS: dict[str, dict[str, tuple[int, float]]] = {
    "Pad": {"pads": (1, 0)},
    "Resize": {"scales": (2, 1), "sizes": (3, 1)},
    "Upsample": {"scales": (1, 1)},
    "Slice": {},
}
AXES = {"Pad": 3, "Slice": 3}


def _spread_axes(node: Node, attributes: dict[str, Any], inputs: list[Any], rows: int) -> None:
    """Give a node that says something of each axis, or of `axes`, that of the rows too."""
    place = AXES.get(node.operator, len(inputs))
    starts = attributes.get("starts", inputs[1] if node.operator == "Slice" and len(inputs) > 1 else ())
    given = attributes.get("axes", inputs[place] if place < len(inputs) else None)
    if given is None and node.operator == "Slice":
        given = range(np.size(starts))
    if given is not None:
        axes = np.array([_moved(int(each), rows) for each in np.ravel(given)], np.int64)
        if "axes" in attributes or "starts" in attributes or node.operator in ("Resize", "Upsample"):
            attributes["axes"] = axes.tolist()
        else:
            inputs += [None] * (place + 1 - len(inputs))
            inputs[place] = axes
        return
    for name, (position, usual) in FOR_EACH_AXIS[node.operator].items():
        if name in attributes:
            attributes[name] = _inserted(attributes[name], rows, usual).tolist()
        elif position < len(inputs) and inputs[position] is not None and np.size(inputs[position]):
            inputs[position] = _inserted(inputs[position], rows, usual)


def _inserted(numbers: Any, rows: int, usual: float) -> Array:
    """Return numbers of three axes, or of both sides of them, as those of four."""
    sides = np.reshape(numbers, (-1, 3))
    return np.insert(sides, rows + 1, usual, axis=1).ravel()
