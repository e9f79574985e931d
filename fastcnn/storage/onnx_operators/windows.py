"""Convolutions, poolings, means over pixels and upsampling: ONNX nodes as layers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...layers.base import Layer
from ...layers.conv import Conv2D
from ...layers.depthwise import DepthwiseConv2D
from ...layers.pool import AvgPool2D, GlobalAvgPool2D, GlobalMaxPool2D, MaxPool2D, UpSample2D
from ...layers.transpose import Conv2DTranspose
from ...typing import Array
from ..onnx_nodes import Node, Read, layer_padding, resolve_pads
from ..onnx_rows import MOST, Place, Value
from . import dense


def _span(kernel: tuple[int, ...], dilations: tuple[int, ...]) -> tuple[int, ...]:
    return tuple((taps - 1) * dilation + 1 for taps, dilation in zip(kernel, dilations, strict=True))


def _convolution(node: Node) -> Value:
    filters, biases = node.constant(1, "filters"), node.constant(2, "biases")
    if filters is None or filters.ndim != 4:
        node.refuse("filters: expected (F, C, kH, kW), for images")
    value, groups = node.value(), int(node.get("group", 1))
    kernel = filters.shape[2:]
    strides, dilations = node.spatial("strides", 1), node.spatial("dilations", 1)
    if len(value.place.shape) == 1 and value.index.shape == (*value.place.shape, 1, 1):
        return _convolution_of_one_pixel(node, value, filters, biases)
    place = node.images()
    span = _span(kernel, dilations)
    extra, size = [[0, 0], [0, 0]], place.shape[1:]
    if place.kind == "padded":
        top, left, bottom, right = place.amount
        extra, place = [[top, bottom], [left, right]], place.inputs[0]
        size = place.shape[1] + top + bottom, place.shape[2] + left + right
    pads = resolve_pads(node, size, span, strides)
    pads = [[pads[k][side] + extra[k][side] for side in range(2)] for k in range(2)]
    padding = layer_padding(pads, place.shape[1:], span, strides)
    channels = place.shape[0]
    bias = biases is not None
    if groups == channels > 1 and len(filters) % groups == 0:
        layer: Layer = node.make(DepthwiseConv2D, kernel, strides, padding, dilations, len(filters) // groups, bias)
    else:
        layer = node.make(Conv2D, len(filters), kernel, strides, padding, dilations, groups, bias)
    if channels != filters.shape[1] * groups:
        node.refuse(f"filters: expected those of {channels} channels in {groups} groups; got shape {filters.shape}")
    return Value.at(node.behind(place, layer, filters=filters, **({"biases": biases} if bias else {})))


def _convolution_of_one_pixel(node: Node, value: Value, filters: Array, biases: Array | None) -> Value:
    """Return what stands behind a 1 x 1 convolution of what a global pooling has left: a dense layer."""
    if filters.shape[2:] != (1, 1) or node.get("group", 1) != 1 or any(node.get("pads", [0])):
        node.refuse("expected a 1 x 1 convolution behind a global pooling")
    place = dense.dense_behind(node, Value(value.place, value.index[:, 0, 0]), filters[:, :, 0, 0].T, biases)
    return Value(place, np.arange(len(filters)).reshape(-1, 1, 1))


def _transposed(node: Node) -> Value:
    filters, biases = node.constant(1, "filters"), node.constant(2, "biases")
    if filters is None or filters.ndim != 4:
        node.refuse("filters: expected (C, F, kH, kW), for images")
    place, groups = node.images(), int(node.get("group", 1))
    strides, dilations = node.spatial("strides", 1), node.spatial("dilations", 1)
    extra, span = list(node.spatial("output_padding", 0)), _span(filters.shape[2:], dilations)
    rows, columns = _transposed_pads(node, place, strides, span, extra)
    bias = biases is not None
    layer = node.make(
        Conv2DTranspose, filters.shape[1] * groups, filters.shape[2:], strides, (tuple(rows), tuple(columns)),
        tuple(extra), dilations, groups, bias,
    )  # fmt: skip
    return Value.at(node.behind(place, layer, filters=filters, **({"biases": biases} if bias else {})))


def _transposed_pads(
    node: Node, place: Place, strides: tuple[int, ...], span: tuple[int, ...], extra: list[int]
) -> list[list[int]]:
    """Return what is cut off; `output_shape` and `auto_pad` say it by what is left."""
    automatic, wanted = node.get("auto_pad", "NOTSET"), node.get("output_shape")
    if wanted is None and automatic in ("NOTSET", "VALID"):
        return resolve_pads(node, place.shape[1:], span, strides)
    pads = []
    for k in range(2):
        left = wanted[-2 + k] if wanted is not None else place.shape[1 + k] * strides[k]
        total = strides[k] * (place.shape[1 + k] - 1) + extra[k] + span[k] - left
        if total < 0:
            extra[k], total = extra[k] - total, 0
        pads.append([total - total // 2, total // 2] if automatic != "SAME_UPPER" else [total // 2, total - total // 2])
    return pads


def _pool(kind: type) -> Read:
    def read(node: Node) -> Value:
        place = node.images()
        kernel = node.spatial("kernel_shape", 1)
        strides, dilations = node.spatial("strides", 1), node.spatial("dilations", 1)
        size, span = place.shape[1:], _span(kernel, dilations)
        pads = resolve_pads(node, size, span, strides)
        given: dict[str, Any] = {"dilation": dilations}
        if kind is AvgPool2D:
            given["count_include_pad"] = bool(node.get("count_include_pad", 0))
            if place.kind == "padded":
                return _average_of_padded(node, place, kernel, strides, pads, given)
        open_ = any((size[k] + sum(pads[k]) - span[k]) % strides[k] for k in range(2))
        if node.get("ceil_mode", 0) and open_:
            padding: Any = (tuple(pads[0]), tuple(pads[1]))
            given["ceil_mode"] = True
        else:
            padding = layer_padding(pads, size, span, strides)
        return Value.at(node.behind(place, node.make(kind, kernel, strides, padding, **given)))

    return read


def _average_of_padded(
    node: Node, place: Place, kernel: Any, strides: Any, pads: list[list[int]], given: dict[str, Any]
) -> Value:
    """Return the average of images with zeros around them: those count, and what the node pads itself may not."""
    top, left, bottom, right = place.amount
    place, sides = place.inputs[0], ((top, bottom), (left, right))
    if given["count_include_pad"]:
        (above, below), (before, behind) = pads
        sides = ((top + above, bottom + below), (left + before, right + behind))
    layer = node.make(AvgPool2D, kernel, strides, sides, **{**given, "count_include_pad": True})
    if not given["count_include_pad"] and any(map(any, pads)):
        layer = node.make(AvgPool2D, kernel, strides, sides, **{**given, "count_include_pad": True, "ceil_mode": True})
        window = layer.window(place.shape)
        if pads != [[0, window.vertical.beyond], [0, window.horizontal.beyond]]:
            node.refuse(f"pads: expected none behind a Pad, or count_include_pad; got {pads}")
    return Value.at(node.behind(place, layer))


def _global_pool(kind: type) -> Read:
    def read(node: Node) -> Value:
        place = node.behind(node.images(), kind())
        return Value(place, np.arange(place.shape[0]).reshape(-1, 1, 1))

    return read


def _reduce(whole: type, part: type) -> Read:
    """Return what reads a mean or maximum over axes of images, wherever those stand: over both, or over one of them."""

    def read(node: Node) -> Value:
        value = node.value()
        axes, rank = node.axes(1, value.index.ndim + 1), value.index.ndim + 1
        if axes is None or 0 in axes or len(value.place.shape) != 3 or len(set(axes)) != len(axes):
            node.refuse(f"axes: expected height and width of images; got {axes} of shape {value.index.shape}")
        kept = [axis for axis in range(1, rank) if axis not in axes]
        rows = np.sort(value.index.transpose([axis - 1 for axis in (*kept, *axes)]).reshape(-1, _size(value, axes)))
        shape = [1 if axis in axes else value.index.shape[axis - 1] for axis in range(1, rank)]
        if not node.get("keepdims", 1):
            shape = [value.index.shape[axis - 1] for axis in kept]
        _, height, width = value.place.shape
        first, pixels = rows[:, 0], np.arange(height * width).reshape(height, width)
        for taken, index, layer in (
            (pixels.ravel(), first // pixels.size, whole()),
            (pixels[0], first // width, part((1, width))),
            (pixels[:, 0], first // pixels.size * width + first % width, part((height, 1))),
        ):
            if np.array_equal(rows, first[:, None] + taken):
                return Value(node.behind(value.place, layer), index.reshape(shape))
        node.refuse(f"axes: expected height and width of images; got {axes} of shape {value.index.shape}")

    return read


def _size(value: Value, axes: list[int]) -> int:
    return math.prod(value.index.shape[axis - 1] for axis in axes)


def _resize(node: Node) -> Value:
    place, order = node.images_in_any_order()
    scales = node.constant(1 if node.operator == "Upsample" or node.opset < 11 else 2, "scales")
    sizes = node.constant(3, "sizes") if len(node.inputs) > 3 else None
    if sizes is None and scales is None:
        scales = node.get("scales")
    if sizes is not None or scales is not None:
        scales = _scales(node, order, scales if sizes is None else sizes, np.array(place.shape), of=sizes is not None)
    modes: dict[str, Any] = {"nearest": "nearest", "linear": "bilinear"}
    mode = modes.get(node.get("mode", "nearest"))
    if scales is None or mode is None:
        node.refuse("mode: expected 'nearest' or 'linear', with constant scales")
    scales = np.asarray(scales, float).ravel()
    if not math.prod(scales.tolist()) * math.prod(place.shape) <= MOST:
        node.refuse(f"scales: expected at most {MOST} numbers a sample; got scales {scales.tolist()}")
    fits = _repeats(node, scales[-2:], place.shape[1:]) if mode == "nearest" else _keeps_centres(node)
    if any(scales[:-2] != 1) or any(scales % 1) or min(scales) < 1 or not fits:
        node.refuse(f"expected each pixel to become a block of whole pixels; got scales {scales.tolist()}")
    return Value.at(node.behind(place, UpSample2D((int(scales[-2]), int(scales[-1])), mode)), order)


def _scales(node: Node, order: tuple[int, ...], given: Any, shape: Array, *, of: bool) -> Array:
    """Return the scales of batch, channels, rows and columns; `given` has those of some axes, or the new sizes of them.

    The graph's axes may have another order.
    """
    known = np.ravel(np.asarray(given, float))
    axes = [int(axis) % 4 for axis in node.get("axes", range(4))]
    if len(known) != len(axes) or len(set(axes)) < len(axes):
        node.refuse(f"scales: expected one for each of the axes {axes}; got {known.tolist()}")
    scales = np.ones(4)
    for axis, value in zip(axes, known.tolist(), strict=True):
        if axis == 0:
            scales[0] = 1.0 if of else value  # as many samples as there are
        else:
            own = order[axis - 1]
            scales[1 + own] = value / shape[own] if of else value
    return scales


def _keeps_centres(node: Node) -> bool:
    """Tell whether the centres of pixels keep their places."""
    where = node.get("coordinate_transformation_mode", "half_pixel")
    old = node.operator == "Upsample" or node.opset < 11
    return not old and where in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric")


def _repeats(node: Node, scales: Array, size: Any) -> bool:
    """Tell whether output i reads pixel i // scale."""
    old = node.operator == "Upsample" or node.opset < 11
    where = node.get("coordinate_transformation_mode", "asymmetric" if old else "half_pixel")
    rounding = node.get("nearest_mode", "floor" if old else "round_prefer_floor")
    roundings: dict[str, Any] = {
        "floor": np.floor, "ceil": np.ceil, "round_prefer_floor": lambda x: np.ceil(x - 0.5),
        "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    }  # fmt: skip
    for scale, pixels in zip(scales, size, strict=True):
        i = np.arange(int(scale) * pixels)
        if where == "asymmetric":
            x = i / scale
        elif where in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric"):
            x = (i + 0.5) / scale - 0.5
        else:
            return False
        if not np.array_equal(np.clip(roundings[rounding](x), 0, pixels - 1), i // int(scale)):
            return False
    return True


OPERATORS: dict[str, Read] = {
    "AveragePool": _pool(AvgPool2D),
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "GlobalAveragePool": _global_pool(GlobalAvgPool2D),
    "GlobalMaxPool": _global_pool(GlobalMaxPool2D),
    "MaxPool": _pool(MaxPool2D),
    "ReduceMax": _reduce(GlobalMaxPool2D, MaxPool2D),
    "ReduceMean": _reduce(GlobalAvgPool2D, AvgPool2D),
    "Resize": _resize,
    "Upsample": _resize,
}
