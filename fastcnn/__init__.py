"""fastcnn: convolutional networks on CPUs, with NumPy and Numba."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Names are imported when they are first asked for, so that `import fastcnn` loads neither numba nor scikit-learn.
_ROOMS = {
    "Adam": "optimizers",
    "AdamW": "optimizers",
    "Augmentation": "augmentation",
    "AvgPool2D": "layers.pool",
    "BatchNorm": "layers.norm",
    "BinaryCrossEntropy": "losses",
    "CNNClassifier": "estimators",
    "CNNRegressor": "estimators",
    "Callback": "callbacks",
    "Concat": "layers.residual",
    "ConstantRate": "schedules",
    "Conv2D": "layers.conv",
    "Conv2DTranspose": "layers.transpose",
    "CosineDecay": "schedules",
    "CrossEntropy": "losses",
    "Dense": "layers.dense",
    "DepthwiseConv2D": "layers.depthwise",
    "Dropout": "layers.dropout",
    "ELU": "layers.activation",
    "EarlyStopping": "callbacks",
    "ExponentialDecay": "schedules",
    "ExponentialMovingAverage": "averaging",
    "Flatten": "layers.shape",
    "GELU": "layers.activation",
    "GlobalAvgPool2D": "layers.pool",
    "GlobalMaxPool2D": "layers.pool",
    "GroupNorm": "layers.norm",
    "History": "history",
    "Huber": "losses",
    "Layer": "layers.base",
    "LayerNorm": "layers.norm",
    "LeakyReLU": "layers.activation",
    "Lion": "optimizers",
    "Loss": "losses",
    "MaxPool2": "layers.pool",
    "MaxPool2D": "layers.pool",
    "MeanAbsoluteError": "losses",
    "MeanSquaredError": "losses",
    "OneCycle": "schedules",
    "Optimizer": "descent",
    "Parameter": "layers.parameter",
    "RMSprop": "optimizers",
    "ReLU": "layers.activation",
    "ReduceOnPlateau": "schedules",
    "Residual": "layers.residual",
    "SGD": "optimizers",
    "Schedule": "schedules",
    "SeparableConv2D": "layers.depthwise",
    "Sequential": "model",
    "SiLU": "layers.activation",
    "Sigmoid": "layers.activation",
    "Softmax": "layers.dense",
    "SoftmaxActivation": "layers.activation",
    "SpatialDropout2D": "layers.dropout",
    "StepDecay": "schedules",
    "Tanh": "layers.activation",
    "Trainer": "training",
    "UpSample2D": "layers.pool",
    "WarmUp": "schedules",
    "check_gradients": "gradient_check",
    "clip_by_global_norm": "descent",
    "get_num_threads": "parallel",
    "set_num_threads": "parallel",
}

# Rooms that are shown as a whole.
_WHOLE = ("models",)

__all__ = ["__version__", *_ROOMS, *_WHOLE]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name in _WHOLE:
        return importlib.import_module(f".{name}", __name__)
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_ROOMS[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
