"""Nodes that move numbers: concatenation, reshaping, orders of axes, padding, and every s-th pixel."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...layers.pad import Pad
from ..onnx_nodes import Node, Read, flat
from ..onnx_rows import Place, Value, concatenated
from .repeats import cut, settled


def _concat(node: Node) -> Value:
    values = [node.value(k) for k in range(len(node.inputs))]
    axis = int(node.get("axis", 1)) % (values[0].index.ndim + 1)
    if values[0].index.ndim == 1:
        values = [flat(value, str(node)) for value in values]
    orders: list[Any] = [value.axes for value in values] if values[0].index.ndim == 3 else [(0,)] * len(values)
    order = orders[0]
    if axis < 1 or order is None or orders.count(order) < len(orders) or order[axis - 1] != 0:
        node.refuse(f"axis: expected that of the channels or features of all; got {axis}")
    shapes = [value.place.shape for value in values]
    if len({shape[1:] for shape in shapes}) > 1:
        node.refuse(f"expected images of one size; got {shapes}")
    shape = (sum(each[0] for each in shapes), *shapes[0][1:])
    place = concatenated([value.place for value in values], shape, str(node))
    if len(shape) == 3:
        return Value.at(place, order)
    starts = np.cumsum([0, *(value.index.size for value in values)])
    return Value(place, np.concatenate([value.index + start for value, start in zip(values, starts, strict=False)]))


def _same(node: Node) -> Value:
    return node.value()


def _cast(node: Node) -> Value:
    if int(node.get("to")) not in (1, 10, 11, 16):
        node.refuse("to: expected a dtype of floating-point numbers")
    return node.value()


def _reshape(node: Node) -> Value:
    value = node.value()
    wanted = [int(size) for size in np.ravel(node.constant(1, "shape", node.get("shape")))]
    sizes = [node.batch, *value.index.shape]
    if not node.get("allowzero", 0):
        wanted = [sizes[k] if size == 0 and k < len(sizes) else size for k, size in enumerate(wanted)]
    rest = wanted[1:]
    if -1 in rest:
        known = math.prod(size for size in rest if size != -1)
        if known <= 0 or value.index.size % known:
            node.refuse(f"shape: expected one for samples of shape {value.index.shape}; got {wanted}")
        rest = [value.index.size // known if size == -1 else size for size in rest]
    if not wanted or wanted[0] not in (-1, node.batch) or math.prod(rest) != value.index.size:
        node.refuse(f"shape: expected the batch first, then {value.index.size} numbers; got {wanted}")
    return settled(value.moved(value.index.reshape(rest)), node)


def _flatten(node: Node) -> Value:
    value = node.value()
    if int(node.get("axis", 1)) % (value.index.ndim + 1) != 1:
        node.refuse(f"axis: expected 1; got {node.get('axis')}")
    return Value(value.place, value.index.reshape(-1))


def _transpose(node: Node) -> Value:
    value = node.value()
    order = [int(axis) for axis in node.get("perm", [*range(value.index.ndim, -1, -1)])]
    if order[0] != 0:
        node.refuse(f"perm: expected the batch to stay first; got {order}")
    return value.moved(value.index.transpose([axis - 1 for axis in order[1:]]))


def _squeeze(node: Node) -> Value:
    value = node.value()
    axes = node.axes(1, value.index.ndim + 1)
    if axes is None:
        axes = [1 + k for k, size in enumerate(value.index.shape) if size == 1]
    if 0 in axes:
        node.refuse("axes: expected the batch to stay")
    return value.moved(value.index.squeeze(tuple(axis - 1 for axis in axes)))


def _unsqueeze(node: Node) -> Value:
    value = node.value()
    given = node.get("axes", node.constant(1, "axes"))
    axes = [int(axis) % (value.index.ndim + 1 + np.size(given)) for axis in np.ravel(given)]
    if 0 in axes:
        node.refuse("axes: expected the batch to stay first")
    return value.moved(np.expand_dims(value.index, tuple(axis - 1 for axis in axes)))


def _pad(node: Node) -> Value:
    place, order = node.images_in_any_order()
    pads = [int(n) for n in np.ravel(node.get("pads", node.constant(1, "pads")))]
    axes = node.axes(3, 4)
    if axes is not None:
        full = [0] * 8
        for k, axis in enumerate(axes):
            full[axis], full[4 + axis] = pads[k], pads[len(axes) + k]
        pads = full
    value = node.get("value", 0.0) if node.opset < 11 else node.number(2, "value", 0.0)
    mode = node.get("mode", "constant")
    if min(pads) < 0 or len(pads) != 8:
        node.refuse(f"pads: expected at least 0 on both sides of four axes; got {pads}")
    (front, top, left), (behind, bottom, right) = (
        [side[1 + order.index(axis)] for axis in range(3)] for side in (pads[:4], pads[4:])
    )
    channels, height, width = place.shape
    if not any(pads):
        return node.value()
    if pads[0] or pads[4] or front or (behind and (top or left or bottom or right)):
        node.refuse(f"pads: expected zeros around images, or behind their channels; got {pads}")
    if mode != "constant" or value:
        if behind:
            node.refuse(f"mode, value: expected zeros behind channels; got {mode!r}, {value}")
        constant = value if mode == "constant" else 0.0
        return Value.at(node.behind(place, node.make(Pad, ((top, bottom), (left, right)), mode, constant)), order)
    if behind:
        shape = (channels + behind, height, width)
        return Value.at(Place("channels", [place], shape, str(node), amount=(behind,)), order)
    shape = (channels, height + top + bottom, width + left + right)
    return Value.at(Place("padded", [place], shape, str(node), amount=(top, left, bottom, right)), order)


def _slice(node: Node) -> Value:
    value = node.value()
    starts, ends = (np.ravel(node.get(name, node.constant(k, name))) for k, name in ((1, "starts"), (2, "ends")))
    axes = node.axes(3, value.index.ndim + 1) or [*range(len(starts))]
    steps = np.ravel(node.constant(4, "steps", np.ones(len(starts), np.int64)))
    if (steps == 1).all():
        parts = [slice(None)] * (value.index.ndim + 1)
        for start, end, axis in zip(starts.tolist(), ends.tolist(), axes, strict=True):
            parts[axis] = slice(start, end)
        index = value.index[tuple(parts[1:])]
        if parts[0] != slice(None) and not (parts[0].start == 0 and parts[0].stop >= node.batch):
            node.refuse("expected the whole batch")
        return value if index.shape == value.index.shape else cut(node, value, index)
    place = node.images()
    strides = [1, 1, 1, 1]
    for start, end, axis, step in zip(starts.tolist(), ends.tolist(), axes, steps.tolist(), strict=True):
        if start != 0 or axis < 1 or end < place.shape[axis - 1] - step + 1 or step < 1:
            node.refuse("expected every s-th pixel of whole images")
        strides[axis] = step
    if strides[1] != 1:
        node.refuse("expected all channels")
    shape = (place.shape[0], -(-place.shape[1] // strides[2]), -(-place.shape[2] // strides[3]))
    rows, columns = strides[2:]
    if place.kind == "subsample":  # PyTorch takes every s-th row first, then every s-th column
        rows, columns, place = rows * place.amount[0], columns * place.amount[1], place.inputs[0]
    return Value.at(Place("subsample", [place], shape, str(node), amount=(rows, columns)))


OPERATORS: dict[str, Read] = {
    "Cast": _cast,
    "Concat": _concat,
    "Flatten": _flatten,
    "Identity": _same,
    "Pad": _pad,
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
