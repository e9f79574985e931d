"""For each operator of ONNX that has a layer: the function that reads it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..layers.activation import ELU, GELU, LeakyReLU, ReLU, Sigmoid, SiLU, SoftmaxActivation, Tanh
from ..layers.base import Layer
from ..layers.clipped import HardSigmoid, HardSwish, ReLU6
from ..layers.conv import Conv2D
from ..layers.dense import Dense
from ..layers.depthwise import DepthwiseConv2D
from ..layers.dropout import Dropout
from ..layers.norm import BatchNorm, GroupNorm, LayerNorm
from ..layers.pad import Pad
from ..layers.pool import AvgPool2D, GlobalAvgPool2D, GlobalMaxPool2D, MaxPool2D, UpSample2D
from ..layers.prelu import PReLU
from ..layers.scale import Scale
from ..layers.smooth import CELU, Mish, Softplus
from ..layers.transpose import Conv2DTranspose
from ..typing import Array
from .onnx_nodes import Node, flat, layer_padding, resolve_pads
from .onnx_rows import MOST, Place, Value, concatenated

Read = Callable[[Node], Value]

# Windows.


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
    extra = [[0, 0], [0, 0]]
    if place.kind == "padded":
        top, left, bottom, right = place.amount
        extra, place = [[top, bottom], [left, right]], place.inputs[0]
        size = place.shape[1] + top + bottom, place.shape[2] + left + right
    else:
        size = place.shape[1:]  # type: ignore[assignment]
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
    place = _dense_behind(node, Value(value.place, value.index[:, 0, 0]), filters[:, :, 0, 0].T, biases)
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
    place = node.images()
    scales = node.constant(1 if node.operator == "Upsample" or node.opset < 11 else 2, "scales")
    sizes = node.constant(3, "sizes") if len(node.inputs) > 3 else None
    axes = [int(axis) % 4 for axis in node.get("axes", [2, 3])]
    if sorted(axes) != [2, 3]:
        node.refuse(f"axes: expected height and width; got {axes}")
    if sizes is not None:
        scales = np.asarray(sizes, float)[-2:] / np.array(place.shape)[[axis - 1 for axis in axes]]
    elif scales is None:
        scales = node.get("scales")
    if scales is not None and axes == [3, 2]:
        scales = np.ravel(scales)[::-1]
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
    return Value.at(node.behind(place, UpSample2D((int(scales[-2]), int(scales[-1])), mode)))


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


# Dense layers.


def _dense_behind(node: Node, value: Value, weights: Array, biases: Array | None) -> Place:
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
    return Value.at(_dense_behind(node, node.value(), weights, biases))


def _matmul(node: Node) -> Value:
    weights = node.constant(1, "weights")
    return Value.at(_dense_behind(node, node.value(), weights, None))


# Normalisations.


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


# Activations.


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


# Formulas: what no layer computes alone may be a part of what one computes.


def _formula(function: Any) -> Read:
    """Return what reads an elementwise function that is no layer."""

    def read(node: Node) -> Value:
        value = node.value()
        place = Place("other", [value.place], value.place.shape, str(node), function=function)
        return Value(_recognised(node, place), value.index)

    return read


def _power(node: Node) -> Value:
    exponent = node.number(1, "exponent", 1)
    return _formula(lambda x: np.power(x, exponent))(node)


def _erf(x: Array) -> Array:
    return np.array([math.erf(value) for value in np.ravel(x)]).reshape(np.shape(x))


GRID = np.linspace(-4, 4, 33)


def _softplus(x: Array) -> Array:
    values = [math.log1p(math.exp(-abs(value))) + max(value, 0.0) for value in np.ravel(x).tolist()]
    return np.array(values).reshape(np.shape(x))


KNOWN: tuple[tuple[Callable[[], Layer], Array], ...] = (
    (SiLU, GRID / (1 + np.array([math.exp(-x) for x in GRID.tolist()]))),
    (Mish, GRID * np.array([math.tanh(value) for value in _softplus(GRID).tolist()])),
    (HardSwish, GRID * np.clip(GRID + 3, 0, 6) / 6),
    (GELU, GRID * (1 + _erf(GRID * math.sqrt(0.5))) / 2),
    (
        lambda: GELU("tanh"),
        GRID * (1 + np.array([math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)) for x in GRID.tolist()])) / 2,
    ),
)


LONGEST = 16  # nodes of a formula: GELU by tanh has nine


def _recognised(node: Node, place: Place) -> Place:
    """Return the place, or one behind an activation that a formula of several nodes computes."""
    inner = _formula_of(place)
    bases = {before.number: before for each in inner for before in each.inputs if before not in inner}
    if len(inner) < 2 or len(bases) != 1:
        return place
    (base,) = bases.values()
    with np.errstate(all="ignore"):
        values = _evaluate(place, {base.number: GRID})
    for make, known in KNOWN:
        if np.allclose(values, known, rtol=0, atol=1e-5):
            return node.behind(base, make())
    return place


def _formula_of(place: Place) -> list[Place]:
    """Return the elementwise places that a place is computed by; none if there are more than any known formula has."""
    found: list[Place] = []
    waiting = [place]
    while waiting:
        if len(found) > LONGEST:
            return []
        each = waiting.pop()
        if each.function is not None and each not in found:
            found.append(each)
            waiting += each.inputs
    return found


def _evaluate(place: Place, known: dict[int, Array]) -> Array:
    if place.number not in known:
        assert place.function is not None
        known[place.number] = place.function(*(_evaluate(each, known) for each in place.inputs))
    return known[place.number]


# Sums and products.


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
    return Value(_recognised(node, place), left.index)


def _difference(node: Node) -> Value:
    if not isinstance(node.inputs[0], Value):  # a constant less a value
        return _affine(node, node.value(1), 1, scale=-1.0, shift=node.constant(0, "what is subtracted from"))
    return _affine(node, node.value(), 0, shift=-np.asarray(node.constant(1, "what is subtracted")))


def _product(node: Node) -> Value:
    left, right = node.inputs
    if isinstance(left, Value) and isinstance(right, Value):
        if left.place.shape != right.place.shape or not np.array_equal(left.index, right.index):
            node.refuse("a product of two values of different shapes; no layer computes it")
        place = Place("other", [left.place, right.place], left.place.shape, str(node), function=np.multiply)
        return Value(_recognised(node, place), left.index)
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
    return Value(_recognised(node, behind) if function else behind, value.index)


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


# Branches.


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


# What moves numbers about.


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
    return Value(value.place, value.index.reshape(rest))


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
    return Value(value.place, value.index.transpose([axis - 1 for axis in order[1:]]))


def _squeeze(node: Node) -> Value:
    value = node.value()
    axes = node.axes(1, value.index.ndim + 1)
    if axes is None:
        axes = [1 + k for k, size in enumerate(value.index.shape) if size == 1]
    if 0 in axes:
        node.refuse("axes: expected the batch to stay")
    return Value(value.place, value.index.squeeze(tuple(axis - 1 for axis in axes)))


def _unsqueeze(node: Node) -> Value:
    value = node.value()
    given = node.get("axes", node.constant(1, "axes"))
    axes = [int(axis) % (value.index.ndim + 1 + np.size(given)) for axis in np.ravel(given)]
    if 0 in axes:
        node.refuse("axes: expected the batch to stay first")
    return Value(value.place, np.expand_dims(value.index, tuple(axis - 1 for axis in axes)))


# Padding by itself, and every s-th pixel.


def _pad(node: Node) -> Value:
    place = node.images()
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
    (_, front, top, left), (_, behind, bottom, right) = pads[:4], pads[4:]
    channels, height, width = place.shape
    if not any(pads):
        return node.value()
    if pads[0] or pads[4] or front or (behind and (top or left or bottom or right)):
        node.refuse(f"pads: expected zeros around images, or behind their channels; got {pads}")
    if mode != "constant" or value:
        if behind:
            node.refuse(f"mode, value: expected zeros behind channels; got {mode!r}, {value}")
        constant = value if mode == "constant" else 0.0
        return Value.at(node.behind(place, node.make(Pad, ((top, bottom), (left, right)), mode, constant)))
    if behind:
        shape = (channels + behind, height, width)
        return Value.at(Place("channels", [place], shape, str(node), amount=(behind,)))
    shape = (channels, height + top + bottom, width + left + right)
    return Value.at(Place("padded", [place], shape, str(node), amount=(top, left, bottom, right)))


def _slice(node: Node) -> Value:
    place = node.images()
    starts, ends = (np.ravel(node.get(name, node.constant(k, name))) for k, name in ((1, "starts"), (2, "ends")))
    axes = node.axes(3, 4) or [*range(len(starts))]
    steps = np.ravel(node.constant(4, "steps", np.ones(len(starts), np.int64)))
    strides = [1, 1, 1, 1]
    for start, end, axis, step in zip(starts.tolist(), ends.tolist(), axes, steps.tolist(), strict=True):
        if start != 0 or axis < 1 or end < place.shape[axis - 1] - step + 1 or step < 1:
            node.refuse("expected every s-th pixel of whole images")
        strides[axis] = step
    if strides[1] != 1:
        node.refuse("expected all channels")
    if strides == [1, 1, 1, 1]:
        return node.value()
    shape = (place.shape[0], -(-place.shape[1] // strides[2]), -(-place.shape[2] // strides[3]))
    rows, columns = strides[2:]
    if place.kind == "subsample":  # PyTorch takes every s-th row first, then every s-th column
        rows, columns, place = rows * place.amount[0], columns * place.amount[1], place.inputs[0]
    return Value.at(Place("subsample", [place], shape, str(node), amount=(rows, columns)))


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.array([math.exp(-min(max(value, -700), 700)) for value in np.ravel(x)]).reshape(np.shape(x)))


def _tanh(x: Array) -> Array:
    return np.array([math.tanh(value) for value in np.ravel(x)]).reshape(np.shape(x))


OPERATORS: dict[str, Read] = {
    "Add": _sum, "AveragePool": _pool(AvgPool2D), "BatchNormalization": _batch_norm, "Cast": _cast,
    "Celu": _activation(CELU, alpha=("alpha", 1.0)), "Clip": _clip, "Concat": _concat, "Conv": _convolution,
    "ConvTranspose": _transposed, "Div": _quotient, "Dropout": _dropout, "Elu": _activation(ELU, alpha=("alpha", 1.0)),
    "Erf": _formula(_erf), "Flatten": _flatten, "Gelu": _activation(GELU, approximate=("approximate", "none")),
    "Gemm": _gemm, "GlobalAveragePool": _global_pool(GlobalAvgPool2D), "GlobalMaxPool": _global_pool(GlobalMaxPool2D),
    "GroupNormalization": _group_norm, "HardSigmoid": _hard_sigmoid, "HardSwish": _activation(HardSwish),
    "Identity": _same, "InstanceNormalization": _instance_norm, "LayerNormalization": _layer_norm,
    "LeakyRelu": _activation(LeakyReLU, negative_slope=("alpha", 0.01)), "MatMul": _matmul, "MaxPool": _pool(MaxPool2D),
    "Mish": _activation(Mish), "Mul": _product, "PRelu": _prelu, "Pad": _pad, "Pow": _power,
    "ReduceMax": _reduce(GlobalMaxPool2D, MaxPool2D), "ReduceMean": _reduce(GlobalAvgPool2D, AvgPool2D),
    "Relu": _activation(ReLU), "Reshape": _reshape, "Resize": _resize, "Sigmoid": _activation(Sigmoid, _sigmoid),
    "Slice": _slice, "Softmax": _softmax, "Softplus": _activation(Softplus, _softplus), "Squeeze": _squeeze,
    "Sub": _difference, "Sum": _sum, "Swish": _activation(SiLU), "Tanh": _activation(Tanh, _tanh),
    "Transpose": _transpose, "Unsqueeze": _unsqueeze, "Upsample": _resize,
}  # fmt: skip
