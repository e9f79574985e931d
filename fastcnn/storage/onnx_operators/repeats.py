"""Operators of ONNX that repeat numbers or leave some out: what they make is an upsampling, or a cut, or no layer."""

from __future__ import annotations

import math
from typing import NoReturn

import numpy as np

from ...layers.pool import UpSample2D
from ...layers.transpose import Conv2DTranspose
from ...typing import IntArray
from ..onnx_nodes import Node, Read
from ..onnx_rows import MOST, Place, Value

ORDERS = ((0, 1, 2), (1, 2, 0))  # of axes: channels first, channels last


def _expand(node: Node) -> Value:
    """Repeat numbers along axes of size one, as `repeat_interleave` is exported; a Reshape behind it makes images."""
    value = node.value()
    wanted = [int(size) for size in np.ravel(node.constant(1, "shape"))]
    rank = value.index.ndim + 1
    if len(wanted) > rank or (len(wanted) == rank and wanted[0] not in (1, node.batch)):
        node.refuse(f"shape: expected one for samples of shape {value.index.shape}; got {wanted}")
    shape = np.broadcast_shapes(value.index.shape, tuple(wanted[1:] if len(wanted) == rank else wanted))
    _check_size(node, math.prod(shape))
    return settled(Value(value.place, np.broadcast_to(value.index, shape), whole=False), node)


def _tile(node: Node) -> Value:
    """Repeat a sample along its axes."""
    value = node.value()
    repeats = [int(n) for n in np.ravel(node.constant(1, "repeats"))]
    if len(repeats) != value.index.ndim + 1 or repeats[0] != 1 or min(repeats) < 1:
        node.refuse(f"repeats: expected 1 for the batch, then at least 1 for each axis; got {repeats}")
    _check_size(node, math.prod(repeats) * value.index.size)
    return settled(Value(value.place, np.tile(value.index, repeats[1:]), whole=False), node)


def _gather(node: Node) -> Value:
    """Take rows, columns or channels by their constant numbers: each as often as any other, in order."""
    value = node.value()
    numbers, axis = np.asarray(node.constant(1, "indices")), int(node.get("axis", 0)) % (value.index.ndim + 1)
    if axis == 0 or numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        node.refuse(f"expected a row of indices along an axis of a sample; got {numbers.shape} along axis {axis}")
    _check_size(node, value.index.size // value.index.shape[axis - 1] * numbers.size)
    found = settled(Value(value.place, value.index.take(numbers, axis - 1), whole=False), node)
    return found if found.whole else _refuse(node)


def cut(node: Node, value: Value, index: IntArray) -> Value:
    """Return a part of images: of what a transposed convolution gives, which may cut off more itself."""
    found = settled(Value(value.place, index, whole=False), node)
    return found if found.whole else _refuse(node)


def _refuse(node: Node) -> NoReturn:
    node.refuse("expected every s-th pixel of whole images, or each repeated, or the edges of a transposed convolution")


def _check_size(node: Node, size: int) -> None:
    if not 0 < size <= MOST:
        node.refuse(f"expected 1 to {MOST} numbers a sample; got {size}")


def settled(value: Value, node: Node) -> Value:
    """Return a value whose numbers repeat, or are cut off, as all numbers of a place, where a layer does that."""
    place, index = value.place, value.index
    if not value.whole and index.ndim == 2 and len(place.shape) == 3 and place.shape[1] == 1:
        return _settled_strip(value, node)
    if value.whole or index.ndim != 3 or len(place.shape) != 3:
        return value
    own = np.arange(math.prod(place.shape)).reshape(place.shape)
    for order in ORDERS:
        images, sizes = index.transpose(np.argsort(order)), place.shape
        rows, columns = (images.shape[k] // sizes[k] for k in (1, 2))
        if images.shape == (sizes[0], rows * sizes[1], columns * sizes[2]):
            if np.array_equal(images, own.repeat(rows, 1).repeat(columns, 2)):
                return Value.at(_upsampled(node, place, rows, columns), order)
        elif isinstance(place.layer, Conv2DTranspose) and images.shape[0] == sizes[0]:
            _, top, left = (int(n) for n in np.unravel_index(int(images.flat[0]), sizes))
            bottom, right = sizes[1] - top - images.shape[1], sizes[2] - left - images.shape[2]
            if np.array_equal(images, own[:, top : sizes[1] - bottom, left : sizes[2] - right]):
                return Value.at(_narrowed(node, place, ((top, bottom), (left, right))), order)
    return value


def _settled_strip(value: Value, node: Node) -> Value:
    """Return a signal whose numbers repeat, or are cut off, as all numbers of a place, where a layer does that."""
    for axis in (1, 0):
        found = settled(Value(value.place, np.expand_dims(value.index, axis), whole=False), node)
        if found.whole:
            return found.moved(found.index.squeeze(axis))
    return value


def _upsampled(node: Node, place: Place, rows: int, columns: int) -> Place:
    """Return the place behind an upsampling; rows and columns, which come one after the other, in one layer."""
    layer = place.layer
    if isinstance(layer, UpSample2D) and layer.mode == "nearest":
        rows, columns, place = rows * layer.size[0], columns * layer.size[1], place.inputs[0]
    return node.behind(place, UpSample2D((rows, columns))) if rows * columns > 1 else place


def _narrowed(node: Node, place: Place, edges: tuple[tuple[int, int], tuple[int, int]]) -> Place:
    """Return the place behind a transposed convolution that cuts off more."""
    layer = place.layer
    assert isinstance(layer, Conv2DTranspose)
    padding = tuple(
        tuple(margin + edge for margin, edge in zip(*sides, strict=True))
        for sides in zip(layer.margins, edges, strict=True)
    )
    narrow = node.make(Conv2DTranspose, **{**layer._arguments(), "padding": padding})
    return node.behind(place.inputs[0], narrow, **place.weights)


OPERATORS: dict[str, Read] = {
    "Expand": _expand,
    "Gather": _gather,
    "Tile": _tile,
}
