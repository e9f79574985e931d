"""Which loop computes which layer."""

from __future__ import annotations

import importlib
from functools import cache

from ..layers.base import Layer
from ..typing import Shape
from .loop import Loop

LOOPS = {
    "Conv2D": "conv.Filtering", "DepthwiseConv2D": "conv.Filtering", "SeparableConv2D": "conv.Separable",
    "Conv2DTranspose": "conv.Transposed",
    "MaxPool2": "pool.MaximumPool", "MaxPool2D": "pool.MaximumPool", "AvgPool2D": "pool.AveragePool",
    "GlobalAvgPool2D": "pool.GlobalAverage", "GlobalMaxPool2D": "pool.GlobalMaximum", "UpSample2D": "pool.Enlarged",
    "Dense": "dense.Affine", "Softmax": "dense.DenseSoftmax", "Flatten": "dense.Flattened",
    "Dropout": "dense.Passed", "SpatialDropout2D": "dense.Passed",
    "BatchNorm": "norm.BatchNormalised", "GroupNorm": "norm.GroupNormalised", "LayerNorm": "norm.LayerNormalised",
    "Scale": "norm.Rescaled",
    "ReLU": "activation.Rectified", "LeakyReLU": "activation.Leaky", "ELU": "activation.Exponential",
    "CELU": "activation.ContinuousExponential", "Softplus": "activation.SmoothRectified", "Mish": "activation.Gated",
    "ReLU6": "activation.Clipped", "HardSigmoid": "activation.HardLogistic", "HardSwish": "activation.HardGated",
    "PReLU": "activation.Parametric", "Pad": "pool.Framed",
    "GELU": "activation.Gaussian", "SiLU": "activation.Swish", "Sigmoid": "activation.Logistic",
    "Tanh": "activation.HyperbolicTangent", "SoftmaxActivation": "activation.ChannelSoftmax",
    "Residual": "branches.Shortcut", "Concat": "branches.SideBySide", "Sequential": "branches.Nested",
}  # fmt: skip


@cache
def _class(name: str) -> type[Loop]:
    module, _, attribute = name.partition(".")
    found: type[Loop] = getattr(importlib.import_module(f"{__package__}.{module}"), attribute)
    return found


def loop_of(layer: Layer, path: str, source: str, input_shape: Shape) -> Loop:
    """Return the loop of a layer; one that says its own formula, in NumPy, is computed by that."""
    name = "dense.Own"
    if type(layer)._lower is not Layer._lower:
        names = [one.__name__ for one in type(layer).__mro__ if one.__module__.startswith("fastcnn.")]
        name = next((LOOPS[one] for one in names if one in LOOPS), "")
    if not name:
        raise TypeError(f"explain: {layer.name}: expected a layer of fastcnn's, or one that says its _forward")
    return _class(name)(layer, path, source, input_shape)
