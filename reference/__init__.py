"""The specification of fastcnn: its layers, losses and optimizers as plain NumPy loops over positions, in float64."""

from reference.activation import ReLU
from reference.base import Layer
from reference.conv import Conv2D
from reference.dense import Dense, Softmax
from reference.losses import CrossEntropy
from reference.optimizers import SGD
from reference.pool import MaxPool2, MaxPool2D
from reference.shape import Flatten

__all__ = [
    "SGD",
    "Conv2D",
    "CrossEntropy",
    "Dense",
    "Flatten",
    "Layer",
    "MaxPool2",
    "MaxPool2D",
    "ReLU",
    "Softmax",
]
