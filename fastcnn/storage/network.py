"""A `Sequential` as a description and tensors, and back; and the table of what a file may make."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..data.augmentation import Augmentation
from ..layers import (
    activation,
    branches,
    clipped,
    conv,
    dense,
    depthwise,
    dropout,
    initializers,
    norm,
    pad,
    pool,
    prelu,
    scale,
    shape,
    smooth,
    transpose,
)
from ..layers.base import Layer
from ..layers.container import Container
from ..losses import LOSSES
from ..model import Sequential
from ..optim import muon, optimizers, schedules
from ..optim.averaging import ExponentialMovingAverage, Lookahead
from ..typing import Array, Shape
from .errors import StorageError
from .values import Decoder, Encoder, Table, field

LAYERS = (
    pool.AvgPool2D, norm.BatchNorm, branches.Concat, conv.Conv2D, transpose.Conv2DTranspose, dense.Dense,
    depthwise.DepthwiseConv2D, dropout.Dropout, activation.ELU, shape.Flatten, activation.GELU, pool.GlobalAvgPool2D,
    pool.GlobalMaxPool2D, norm.GroupNorm, norm.LayerNorm, activation.LeakyReLU, pool.MaxPool2, pool.MaxPool2D,
    activation.ReLU, branches.Residual, scale.Scale, depthwise.SeparableConv2D, Sequential, activation.SiLU,
    activation.Sigmoid, dense.Softmax, activation.SoftmaxActivation, dropout.SpatialDropout2D, activation.Tanh,
    pool.UpSample2D, smooth.CELU, smooth.Mish, smooth.Softplus, clipped.HardSigmoid, clipped.HardSwish, clipped.ReLU6,
    prelu.PReLU, pad.Pad,
)  # fmt: skip
SETTINGS = (
    optimizers.Adam, optimizers.AdamW, optimizers.Lion, muon.Muon, optimizers.RMSprop, optimizers.SGD,
    schedules.ConstantRate, schedules.CosineDecay, schedules.ExponentialDecay, schedules.OneCycle,
    schedules.ReduceOnPlateau, schedules.NamedSchedule, schedules.PowerDecay, schedules.StepDecay, schedules.Triangle,
    schedules.WarmUp, ExponentialMovingAverage, Lookahead, Augmentation,
    initializers.HeNormal, initializers.Orthogonal, initializers.Dirac,
    *LOSSES.values(),
)  # fmt: skip
TABLE: Table = {kind.__name__: kind for kind in (*LAYERS, *SETTINGS)}
DTYPES = ("float32", "float64")


def custom_table(custom_layers: Iterable[type] | Mapping[str, type] | None) -> Table:
    """Return the layers of a person's own, by name, if that is what they are."""
    wanted = "a list of classes of layers, or a dict of them by name"
    if custom_layers is None:
        return {}
    if isinstance(custom_layers, type | str) or not isinstance(custom_layers, Iterable):
        raise TypeError(f"load: custom_layers: expected {wanted}; got {custom_layers!r}")
    if isinstance(custom_layers, Mapping):
        table = dict(custom_layers)
    else:
        table = {getattr(kind, "__name__", ""): kind for kind in custom_layers}
    for name, kind in table.items():
        if not (isinstance(name, str) and isinstance(kind, type) and issubclass(kind, Layer)):
            raise TypeError(f"load: custom_layers: expected {wanted}; got {kind!r}")
    return table


def describe(model: Sequential, encoder: Encoder, prefix: str = "") -> dict[str, Any]:
    """Return the description of a built model; its weights become tensors under their public names."""
    model._expect_built("save")
    assert model.input_shape is not None
    layers = list(leaves(model))
    description = {
        "model": architecture(model, encoder),
        "input_shape": list(model.input_shape),
        "dtype": model._flat.dtype.name,
        "training": model.training,
        "extra_state": {place: state for place, layer in layers if (state := layer._extra_state())},
    }
    encoder.tensors.update({prefix + name: array for name, array in model._weights().items()})
    return description


def architecture(model: Sequential, encoder: Encoder) -> Any:
    """Return the call that makes a model."""
    return encoder.encode(model, "model")


def restore(description: Any, decoder: Decoder, prefix: str = "") -> Sequential:
    """Return the model of a description; nothing is allocated before all shapes are those of the file's tensors."""
    model = decoder.decode(field(description, "model", dict), "model")
    if not isinstance(model, Sequential):
        raise StorageError(f"model: expected a Sequential; got {type(model).__name__}")
    input_shape = _sizes(field(description, "input_shape", list))
    dtype = field(description, "dtype", str)
    if dtype not in DTYPES:
        raise StorageError(f"dtype: expected float32 or float64; got {dtype[:40]!r}")
    _check_shapes(model, input_shape, decoder, prefix)
    try:
        model._build_unasked(input_shape, random_state=0, dtype=dtype)
    except Exception as error:  # of layers of a person's own too
        raise StorageError(f"model: {error}") from error
    take_weights(model, decoder, prefix)
    set_extra_state(model, field(description, "extra_state", dict))
    model._enter_mode(field(description, "training", bool))
    return model


def take_weights(model: Sequential, decoder: Decoder, prefix: str = "") -> None:
    """Copy the tensors of a file into the weights of a built model."""
    arrays = weights(model, decoder, prefix)
    for name, target in model._weights().items():
        target[...] = arrays[name]


def weights(model: Sequential, decoder: Decoder, prefix: str) -> dict[str, Array]:
    """Return the tensors of a file that are a built model's weights, checked."""
    arrays = {}
    for name, target in model._weights().items():
        arrays[name] = array = decoder.tensor(prefix + name, "model")
        if array.shape != target.shape or array.dtype != target.dtype:
            raise StorageError(
                f"tensor {prefix + name!r}: expected {target.dtype} of shape {target.shape}; got {array.dtype} of "
                f"shape {array.shape}"
            )
    return arrays


def set_extra_state(model: Sequential, states: Mapping[str, Any]) -> None:
    """Give the layers what they keep besides weights."""
    layers = {place: layer for place, layer in leaves(model) if layer._extra_state()}
    if layers.keys() != states.keys():
        raise StorageError(f"extra_state: expected that of layers {', '.join(layers) or 'none'}")
    for place, layer in layers.items():
        state, own = states[place], layer._extra_state()
        if not isinstance(state, dict) or state.keys() != own.keys() or any(type(n) is not int for n in state.values()):
            raise StorageError(f"extra_state: layer {place}: expected whole numbers {', '.join(own)}")
        layer._set_extra_state(state)


def _check_shapes(model: Sequential, input_shape: Shape, decoder: Decoder, prefix: str) -> None:
    """Raise unless the parameters that the model would allocate are as large as the file's tensors."""
    try:
        shapes = dict(_parameter_shapes(model, input_shape))
    except Exception as error:
        raise StorageError(f"model: {error}") from error
    for name, expected in shapes.items():
        tensor = decoder.tensors.get(prefix + name)
        if tensor is None or tensor.shape != tuple(expected):
            got = "there is none" if tensor is None else f"got shape {tensor.shape}"
            raise StorageError(f"tensor {prefix + name!r}: expected shape {tuple(expected)}; {got}")


def _parameter_shapes(layer: Layer, input_shape: Shape, prefix: str = "") -> Iterator[tuple[str, Sequence[int]]]:
    """Yield the names and shapes of all parameters for an input; nothing is built."""
    if isinstance(layer, Container):
        inside = layer._inner_shapes(input_shape)
        for (place, inner), (_, shape_before) in zip(layer._children(), inside, strict=True):
            yield from _parameter_shapes(inner, shape_before, f"{prefix}{place}.")
        return
    for name, spec in layer._parameters(input_shape).items():
        yield prefix + name, spec.shape


def leaves(layer: Layer, prefix: str = "") -> Iterator[tuple[str, Layer]]:
    """Yield the layers that are no containers, with their places."""
    if isinstance(layer, Container):
        for place, inner in layer._children():
            yield from leaves(inner, f"{prefix}{place}.")
    else:
        yield prefix[:-1], layer


def _sizes(value: list[Any]) -> Shape:
    """Return a shape of positive sizes of which a computer can have that many."""
    if not all(type(size) is int and size > 0 for size in value) or len(value) not in (1, 3):
        raise StorageError(f"input_shape: expected (C, H, W) or (D,), all positive; got {str(value)[:80]}")
    if math.prod(value) >= np.iinfo(np.int64).max:
        raise StorageError(f"input_shape: expected sizes that a computer can have; got {value}")
    return tuple(value)


def digest_of(model: Sequential) -> str | None:
    """Return the model's digest, which a file keeps."""
    return model.digest()


def check_digest(model: Sequential, digest: str | None) -> None:
    """Raise unless the model that was made has the digest of the one that was saved."""
    if digest is not None and digest_of(model) != digest:
        raise StorageError(f"the model that it makes has another digest than the one that was saved, {digest[:80]}")
