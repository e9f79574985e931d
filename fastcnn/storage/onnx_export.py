"""Layers as ONNX nodes: for each layer the function that writes it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..layers.activation import ELU, GELU, LeakyReLU, ReLU, Sigmoid, SiLU, SoftmaxActivation, Tanh
from ..layers.base import Layer
from ..layers.branches import Concat, Residual
from ..layers.clipped import HardSigmoid, HardSwish, ReLU6
from ..layers.container import row_shapes
from ..layers.conv import Conv2D
from ..layers.dense import Dense, Softmax
from ..layers.depthwise import DepthwiseConv2D, SeparableConv2D
from ..layers.dropout import Dropout, SpatialDropout2D
from ..layers.norm import BatchNorm, GroupNorm, LayerNorm
from ..layers.pad import Pad
from ..layers.pool import AvgPool2D, GlobalAvgPool2D, GlobalMaxPool2D, MaxPool2, MaxPool2D, UpSample2D, WindowPooling
from ..layers.prelu import PReLU
from ..layers.scale import Scale
from ..layers.shape import Flatten
from ..layers.smooth import CELU, Mish, Softplus
from ..layers.transpose import Conv2DTranspose
from ..model import Sequential
from ..ops.branches import strides_between
from ..ops.window import Window
from ..typing import Shape
from .onnx_graph import GraphWriter, as_float

# (writer, layer, x, shape of a sample of x, prefix of the layer's constants) -> y
Write = Callable[[GraphWriter, Any, str, Shape, str], str]


def write_model(writer: GraphWriter, model: Sequential, x: str, prefix: str = "") -> str:
    """Write a built model behind the value `x`, float32; return its output."""
    assert model.input_shape is not None
    return write_row(writer, model.layers, x, model.input_shape, prefix)


def write_row(writer: GraphWriter, layers: Sequence[Layer], x: str, shape: Shape, prefix: str) -> str:
    """Write layers one after another."""
    for place, (layer, before, _) in enumerate(row_shapes(layers, shape, "to_onnx")):
        x = write_layer(writer, layer, x, before, f"{prefix}{place}.")
    return x


def write_layer(writer: GraphWriter, layer: Layer, x: str, shape: Shape, prefix: str) -> str:
    """Write a layer.

    Raises
    ------
    TypeError
        If it has no form in ONNX, as a layer of a person's own.
    """
    write = WRITERS.get(type(layer))
    if write is None:
        raise TypeError(
            f"to_onnx: layer {prefix.rstrip('.')}: {layer.name}: expected layers of fastcnn's own, which have a form "
            f"in ONNX; got {layer!r}"
        )
    return write(writer, layer, x, shape, prefix)


def add_weights(writer: GraphWriter, layer: Layer, names: Iterable[str], prefix: str) -> list[str]:
    """Add parameters of a layer as constants under their public names, those that it has."""
    weights = layer._weights()
    return [writer.constant(prefix + name, as_float(weights[name])) for name in names if name in weights]


# Convolutions.


def pads_of(window: Window) -> list[int]:
    """Return the padding as ONNX has it: top, left, bottom, right."""
    vertical, horizontal = window.vertical, window.horizontal
    return [vertical.before, horizontal.before, vertical.after, horizontal.after]


def _window_attributes(layer: Any, window: Window) -> dict[str, Any]:
    return {
        "kernel_shape": list(layer.filter_size), "strides": list(layer.stride), "dilations": list(layer.dilation),
        "pads": pads_of(window),
    }  # fmt: skip


def _convolution(writer: GraphWriter, layer: Conv2D, x: str, shape: Shape, prefix: str) -> str:
    constants = add_weights(writer, layer, ("filters", "biases"), prefix)
    attributes = _window_attributes(layer, layer.window(shape))
    return writer.node("Conv", [x, *constants], group=layer.groups, **attributes)


def _depthwise(writer: GraphWriter, layer: DepthwiseConv2D, x: str, shape: Shape, prefix: str) -> str:
    constants = add_weights(writer, layer, ("filters", "biases"), prefix)
    attributes = _window_attributes(layer, layer.window(shape))
    return writer.node("Conv", [x, *constants], group=shape[0], **attributes)


def _separable(writer: GraphWriter, layer: SeparableConv2D, x: str, shape: Shape, prefix: str) -> str:
    depthwise, pointwise, *biases = add_weights(
        writer, layer, ("depthwise_filters", "pointwise_filters", "biases"), prefix
    )
    attributes = _window_attributes(layer, layer.window(shape))
    x = writer.node("Conv", [x, depthwise], group=shape[0], **attributes)
    return writer.node("Conv", [x, pointwise, *biases], kernel_shape=[1, 1])


def _transposed(writer: GraphWriter, layer: Conv2DTranspose, x: str, shape: Shape, prefix: str) -> str:
    filters, *biases = add_weights(writer, layer, ("filters", "biases"), prefix)
    before, after = zip(*layer.margins, strict=True)
    attributes: dict[str, Any] = {
        "kernel_shape": list(layer.filter_size), "strides": list(layer.stride), "dilations": list(layer.dilation),
        "group": layer.groups,
    }  # fmt: skip
    if all(extra < stride for extra, stride in zip(layer.output_padding, layer.stride, strict=True)):
        return writer.node(
            "ConvTranspose", [x, filters, *biases], pads=[*before, *after],
            output_padding=list(layer.output_padding), **attributes,
        )  # fmt: skip
    # Runtimes refuse an output_padding of stride or more: less is cut off then, and zeros come behind.
    steps = list(zip(after, layer.output_padding, strict=True))
    cut, missing = [max(0, pad - extra) for pad, extra in steps], [max(0, extra - pad) for pad, extra in steps]
    x = writer.node("ConvTranspose", [x, filters], pads=[*before, *cut], **attributes)
    x = writer.node("Pad", [x, writer.constant(f"{prefix}pads", [0] * 6 + missing, np.int64)])
    if not biases:
        return x
    column = writer.constant(f"{prefix}column", as_float(layer.biases).reshape(-1, 1, 1))
    return writer.node("Add", [x, column])


# Pooling.


def _pool(writer: GraphWriter, operator: str, layer: WindowPooling, x: str, pads: list[int], **attributes: Any) -> str:
    if layer.dilation != (1, 1):
        attributes["dilations"] = list(layer.dilation)
    kernel, strides = list(layer.pool_size), list(layer.stride)
    return writer.node(operator, [x], kernel_shape=kernel, strides=strides, pads=pads, **attributes)


def _padded(writer: GraphWriter, x: str, pads: list[int], value: float, prefix: str) -> str:
    """Write a node that pads with a number."""
    whole = writer.constant(f"{prefix}pads", [0, 0, *pads[:2], 0, 0, *pads[2:]], np.int64)
    return writer.node("Pad", [x, whole, writer.constant(f"{prefix}padding", value, np.float32)])


def _open(window: Window) -> list[int]:
    """Return the padding with what windows reach beyond it: `ceil_mode`, about which runtimes disagree."""
    top, left, bottom, right = pads_of(window)
    return [top, left, bottom + window.vertical.beyond, right + window.horizontal.beyond]


def _fits(layer: WindowPooling, pads: list[int]) -> bool:
    """Tell whether runtimes take such padding: less than the number of taps, gaps not counted."""
    return all(pad < taps for pad, taps in zip(pads, (*layer.pool_size, *layer.pool_size), strict=True))


def _max_pool(writer: GraphWriter, layer: WindowPooling, x: str, shape: Shape, prefix: str) -> str:
    pads = _open(layer.window(shape))
    if not _fits(layer, pads):
        x, pads = _padded(writer, x, pads, -math.inf, prefix), [0, 0, 0, 0]
    return _pool(writer, "MaxPool", layer, x, pads)


def _average_pool(writer: GraphWriter, layer: AvgPool2D, x: str, shape: Shape, prefix: str) -> str:
    """Write a mean of what counts: where runtimes disagree about that, zeros that count are a node of their own."""
    window = layer.window(shape)
    pads, whole = pads_of(window), _open(window)
    counts = layer.count_include_pad and any(pads)
    if layer.dilation != (1, 1):
        writer.require(19)  # AveragePool has had dilations since
    elif counts and pads == whole:
        return _pool(writer, "AveragePool", layer, x, pads, count_include_pad=1)
    if counts:
        x = _padded(writer, x, pads, 0.0, prefix)
        whole = [0, 0, *(end - pad for end, pad in zip(whole[2:], pads[2:], strict=True))]
    if not _fits(layer, whole):
        raise ValueError(
            f"to_onnx: layer {prefix.rstrip('.')}: {layer.name}: runtimes take less padding than a window has pixels, "
            f"{layer.pool_size}; got {whole[:2]} before and {whole[2:]} behind"
        )
    return _pool(writer, "AveragePool", layer, x, whole)


def _global(operator: str) -> Write:
    def write(writer: GraphWriter, layer: Layer, x: str, shape: Shape, prefix: str) -> str:
        return writer.node("Flatten", [writer.node(operator, [x])], axis=1)

    return write


def _upsample(writer: GraphWriter, layer: UpSample2D, x: str, shape: Shape, prefix: str) -> str:
    scales = writer.constant(f"{prefix}scales", [1, 1, *layer.size], np.float32)
    if layer.mode == "bilinear":
        return writer.node("Resize", [x, "", scales], mode="linear", coordinate_transformation_mode="half_pixel")
    return writer.node(
        "Resize", [x, "", scales], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    )


def _pad(writer: GraphWriter, layer: Pad, x: str, shape: Shape, prefix: str) -> str:
    (top, bottom), (left, right) = layer._margins()
    pads = writer.constant(f"{prefix}pads", [0, 0, top, left, 0, 0, bottom, right], np.int64)
    value = writer.constant(f"{prefix}value", layer.value, np.float32)
    return writer.node("Pad", [x, pads, value], mode=layer.mode)


# Dense layers and shapes.


def _flatten(writer: GraphWriter, layer: Layer, x: str, shape: Shape, prefix: str) -> str:
    return writer.node("Flatten", [x], axis=1)


def _dense(writer: GraphWriter, layer: Layer, x: str, shape: Shape, prefix: str) -> str:
    return writer.node("Gemm", [x, *add_weights(writer, layer, ("weights", "biases"), prefix)])


def _notebook_softmax(writer: GraphWriter, layer: Softmax, x: str, shape: Shape, prefix: str) -> str:
    if len(shape) == 3:
        x = _flatten(writer, layer, x, shape, prefix)
    return writer.node("Softmax", [_dense(writer, layer, x, shape, prefix)], axis=1)


# Normalisations.


def _batch_norm(writer: GraphWriter, layer: BatchNorm, x: str, shape: Shape, prefix: str) -> str:
    weights, usual = layer._weights(), {"gamma": np.ones(shape[0]), "beta": np.zeros(shape[0])}
    names = ("gamma", "beta", "running_mean", "running_var")
    constants = [
        writer.constant(prefix + name, as_float(weights[name] if name in weights else usual[name])) for name in names
    ]
    # Keras's momentum and ONNX's are the weight of what was before.
    return writer.node("BatchNormalization", [x, *constants], epsilon=layer.epsilon, momentum=1 - layer.momentum)


def _group_norm(writer: GraphWriter, layer: GroupNorm, x: str, shape: Shape, prefix: str) -> str:
    """Write it by InstanceNormalization, as PyTorch does: GroupNormalization came with opset 18, and changed in 21."""
    groups = layer.num_groups
    together = writer.constant(f"{prefix}groups", [0, groups, -1], np.int64)
    one, zero = (writer.constant(prefix + name, np.full(groups, value), np.float32) for name, value in ONE_ZERO)
    x = writer.node("Reshape", [x, together])
    x = writer.node("InstanceNormalization", [x, one, zero], epsilon=layer.epsilon)
    x = writer.node("Reshape", [x, writer.constant(f"{prefix}shape", [0, *shape], np.int64)])
    by_channel = (shape[0], *[1] * (len(shape) - 1))
    gamma, beta = (
        writer.constant(prefix + name, as_float(layer.parameters[name]).reshape(by_channel))
        for name in ("gamma", "beta")
    )
    return writer.node("Add", [writer.node("Mul", [x, gamma]), beta])


def _scale(writer: GraphWriter, layer: Scale, x: str, shape: Shape, prefix: str) -> str:
    by_channel = (-1, *[1] * (len(shape) - 1))
    factor, shift = (
        writer.constant(prefix + name, as_float(np.broadcast_to(value, shape[:1])).reshape(by_channel))
        for name, value in (("factor", layer.factor), ("shift", layer.shift))
    )
    return writer.node("Add", [writer.node("Mul", [x, factor]), shift])


ONE_ZERO = (("one", 1), ("zero", 0))


def _layer_norm(writer: GraphWriter, layer: LayerNorm, x: str, shape: Shape, prefix: str) -> str:
    constants = add_weights(writer, layer, ("gamma", "beta"), prefix)
    return writer.node("LayerNormalization", [x, *constants], axis=1, epsilon=layer.epsilon)


# Activations.


def _plain(operator: str, **attributes: str) -> Write:
    """Return what writes one node; `attributes` tell the layer's name of each attribute of the node's."""

    def write(writer: GraphWriter, layer: Layer, x: str, shape: Shape, prefix: str) -> str:
        return writer.node(operator, [x], **{theirs: getattr(layer, ours) for theirs, ours in attributes.items()})

    return write


def _silu(writer: GraphWriter, layer: SiLU, x: str, shape: Shape, prefix: str) -> str:
    return writer.node("Mul", [x, writer.node("Sigmoid", [x])])


def _gelu(writer: GraphWriter, layer: GELU, x: str, shape: Shape, prefix: str) -> str:
    """Write the formula: the operator Gelu came with opset 20."""

    def number(name: str, value: float) -> str:
        return writer.constant(prefix + name, value, np.float32)

    if layer.approximate == "none":
        inside = writer.node("Erf", [writer.node("Mul", [x, number("scale", math.sqrt(0.5))])])
    else:
        cube = writer.node("Mul", [writer.node("Mul", [x, x]), x])
        sum = writer.node("Add", [x, writer.node("Mul", [cube, number("cube", 0.044715)])])
        inside = writer.node("Tanh", [writer.node("Mul", [sum, number("scale", math.sqrt(2 / math.pi))])])
    half = writer.node("Mul", [x, number("half", 0.5)])
    return writer.node("Mul", [half, writer.node("Add", [inside, number("one", 1)])])


def _mish(writer: GraphWriter, layer: Mish, x: str, shape: Shape, prefix: str) -> str:
    """Write the formula: the operator Mish came with opset 18."""
    return writer.node("Mul", [x, writer.node("Tanh", [writer.node("Softplus", [x])])])


def _softplus(writer: GraphWriter, layer: Softplus, x: str, shape: Shape, prefix: str) -> str:
    """Write ONNX's Softplus, which has neither beta nor threshold; from 20 on a threshold makes no difference."""
    z, usual = x, layer.beta == 1
    if not usual:
        z = writer.node("Mul", [x, writer.constant(f"{prefix}beta", layer.beta, np.float32)])
    y = writer.node("Softplus", [z])
    if not usual:
        y = writer.node("Mul", [y, writer.constant(f"{prefix}width", 1 / layer.beta, np.float32)])
    if layer.threshold >= 20:
        return y
    far = writer.node("Greater", [z, writer.constant(f"{prefix}threshold", layer.threshold, np.float32)])
    return writer.node("Where", [far, x, y])


def _relu6(writer: GraphWriter, layer: ReLU6, x: str, shape: Shape, prefix: str) -> str:
    return writer.node(
        "Clip", [x, *(writer.constant(prefix + name, n, np.float32) for name, n in (("low", 0), ("high", 6)))]
    )


def _hard_sigmoid(writer: GraphWriter, layer: HardSigmoid, x: str, shape: Shape, prefix: str) -> str:
    return writer.node("HardSigmoid", [x], alpha=1 / 6, beta=0.5)


def _prelu(writer: GraphWriter, layer: PReLU, x: str, shape: Shape, prefix: str) -> str:
    slopes = as_float(layer.negative_slope).reshape(-1, *[1] * (len(shape) - 1))
    return writer.node("PRelu", [x, writer.constant(f"{prefix}negative_slope", slopes)])


def _softmax(writer: GraphWriter, layer: Layer, x: str, shape: Shape, prefix: str) -> str:
    return writer.node("Softmax", [x], axis=1)


def _dropout(writer: GraphWriter, layer: Dropout, x: str, shape: Shape, prefix: str) -> str:
    """Write a node that passes all numbers in prediction; its rate is for further training."""
    return writer.node("Dropout", [x, writer.constant(f"{prefix}rate", layer.rate, np.float32)])


def _nothing(writer: GraphWriter, layer: Layer, x: str, shape: Shape, prefix: str) -> str:
    return x


# Branches.


def _residual(writer: GraphWriter, layer: Residual, x: str, shape: Shape, prefix: str) -> str:
    y = write_row(writer, layer.layers, x, shape, f"{prefix}layers.")
    if layer.shortcut == "pad":
        side = _padded_shortcut(writer, x, shape, layer.output_shape(shape), prefix)
    else:
        side = write_row(writer, layer.rows["shortcut"], x, shape, f"{prefix}shortcut.")
    return writer.node("Add", [y, side])


def _padded_shortcut(writer: GraphWriter, x: str, shape: Shape, output_shape: Shape, prefix: str) -> str:
    """Write every s-th pixel, and zeros behind the channels."""
    if len(shape) == 3 and shape[1:] != output_shape[1:]:
        starts, ends, axes, steps = ([0, 0], [*shape[1:]], [2, 3], strides_between(shape, output_shape))
        bounds = (("starts", starts), ("ends", ends), ("axes", axes), ("steps", steps))
        x = writer.node("Slice", [x, *(writer.constant(prefix + name, bound, np.int64) for name, bound in bounds)])
    missing = output_shape[0] - shape[0]
    if missing:
        pads = [0] * (1 + len(shape)) + [0, missing] + [0] * (len(shape) - 1)
        x = writer.node("Pad", [x, writer.constant(f"{prefix}pads", pads, np.int64)])
    return x


def _concat(writer: GraphWriter, layer: Concat, x: str, shape: Shape, prefix: str) -> str:
    outputs = [write_row(writer, row, x, shape, f"{prefix}{name}.") for name, row in layer.rows.items()]
    return writer.node("Concat", outputs, axis=1)


def _sequential(writer: GraphWriter, layer: Sequential, x: str, shape: Shape, prefix: str) -> str:
    return write_row(writer, layer.layers, x, shape, prefix)


WRITERS: dict[type, Write] = {
    AvgPool2D: _average_pool, BatchNorm: _batch_norm, CELU: _plain("Celu", alpha="alpha"), Concat: _concat,
    Conv2D: _convolution, Conv2DTranspose: _transposed, Dense: _dense, DepthwiseConv2D: _depthwise, Dropout: _dropout,
    ELU: _plain("Elu", alpha="alpha"), Flatten: _flatten, GELU: _gelu, GlobalAvgPool2D: _global("GlobalAveragePool"),
    GlobalMaxPool2D: _global("GlobalMaxPool"), GroupNorm: _group_norm, HardSigmoid: _hard_sigmoid,
    HardSwish: _plain("HardSwish"), LayerNorm: _layer_norm, LeakyReLU: _plain("LeakyRelu", alpha="negative_slope"),
    MaxPool2: _max_pool, MaxPool2D: _max_pool, Mish: _mish, PReLU: _prelu, Pad: _pad, ReLU: _plain("Relu"),
    ReLU6: _relu6, Residual: _residual, Scale: _scale, SeparableConv2D: _separable, Sequential: _sequential,
    SiLU: _silu, Sigmoid: _plain("Sigmoid"), Softmax: _notebook_softmax, SoftmaxActivation: _softmax,
    Softplus: _softplus, SpatialDropout2D: _nothing, Tanh: _plain("Tanh"), UpSample2D: _upsample,
}  # fmt: skip
