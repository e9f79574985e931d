"""The specification of fastcnn: its layers, losses and optimizers as plain NumPy loops over positions, in float64."""

from reference.activation import ELU, GELU, LeakyReLU, ReLU, Sigmoid, SiLU, SoftmaxActivation, Tanh
from reference.augmentation import Augmentation
from reference.base import Layer
from reference.conv import Conv2D, Conv2DTranspose
from reference.dense import Dense, Softmax
from reference.depthwise import DepthwiseConv2D, SeparableConv2D
from reference.dropout import Dropout, SpatialDropout2D
from reference.losses import BinaryCrossEntropy, CrossEntropy, Huber, Loss, MeanAbsoluteError, MeanSquaredError
from reference.norm import BatchNorm, GroupNorm, LayerNorm
from reference.optimizers import (
    SGD,
    Adam,
    AdamW,
    ExponentialMovingAverage,
    Lion,
    Muon,
    Optimizer,
    RMSprop,
    clip_by_global_norm,
)
from reference.pool import AvgPool2D, GlobalAvgPool2D, GlobalMaxPool2D, MaxPool2, MaxPool2D, UpSample2D
from reference.residual import Concat, Residual
from reference.schedules import (
    ConstantRate,
    CosineDecay,
    ExponentialDecay,
    OneCycle,
    PowerDecay,
    ReduceOnPlateau,
    Schedule,
    StepDecay,
    Triangle,
    WarmUp,
)
from reference.shape import Flatten, Scale

__all__ = [
    "ELU",
    "GELU",
    "SGD",
    "Adam",
    "AdamW",
    "Augmentation",
    "AvgPool2D",
    "BatchNorm",
    "BinaryCrossEntropy",
    "Concat",
    "ConstantRate",
    "Conv2D",
    "Conv2DTranspose",
    "CosineDecay",
    "CrossEntropy",
    "Dense",
    "DepthwiseConv2D",
    "Dropout",
    "ExponentialDecay",
    "ExponentialMovingAverage",
    "Flatten",
    "GlobalAvgPool2D",
    "GlobalMaxPool2D",
    "GroupNorm",
    "Huber",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Lion",
    "Loss",
    "MaxPool2",
    "MaxPool2D",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Muon",
    "OneCycle",
    "Optimizer",
    "PowerDecay",
    "RMSprop",
    "ReLU",
    "ReduceOnPlateau",
    "Residual",
    "Scale",
    "Schedule",
    "SeparableConv2D",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "SoftmaxActivation",
    "SpatialDropout2D",
    "StepDecay",
    "Tanh",
    "Triangle",
    "UpSample2D",
    "WarmUp",
    "clip_by_global_norm",
]
