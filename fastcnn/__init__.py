"""fastcnn: convolutional networks on CPUs, with NumPy and Numba."""

from __future__ import annotations

from .former_names import find_former_names
from .lazy import lazy_names
from .version import __version__

# `import fastcnn` loads neither numba nor scikit-learn.
_NAMES = {
    "Adam": "optim.optimizers",
    "AdamW": "optim.optimizers",
    "Augmentation": "data.augmentation",
    "AvgPool2D": "layers.pool",
    "BatchNorm": "layers.norm",
    "BinaryCrossEntropy": "losses",
    "CNNClassifier": "estimators",
    "CNNRegressor": "estimators",
    "Callback": "training.callbacks",
    "Concat": "layers.branches",
    "ConstantRate": "optim.schedules",
    "Conv2D": "layers.conv",
    "Conv2DTranspose": "layers.transpose",
    "CosineDecay": "optim.schedules",
    "CrossEntropy": "losses",
    "Dense": "layers.dense",
    "DepthwiseConv2D": "layers.depthwise",
    "Dropout": "layers.dropout",
    "ELU": "layers.activation",
    "EarlyStopping": "training.callbacks",
    "ExponentialDecay": "optim.schedules",
    "ExponentialMovingAverage": "optim.averaging",
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
    "Lion": "optim.optimizers",
    "Loss": "losses",
    "MaxPool2": "layers.pool",
    "MaxPool2D": "layers.pool",
    "MeanAbsoluteError": "losses",
    "MeanSquaredError": "losses",
    "OneCycle": "optim.schedules",
    "Optimizer": "optim.optimizer",
    "Parameter": "engine.parameter",
    "RMSprop": "optim.optimizers",
    "ReLU": "layers.activation",
    "ReduceOnPlateau": "optim.schedules",
    "Residual": "layers.branches",
    "SGD": "optim.optimizers",
    "Schedule": "optim.schedules",
    "SeparableConv2D": "layers.depthwise",
    "Sequential": "model",
    "SiLU": "layers.activation",
    "Sigmoid": "layers.activation",
    "Softmax": "layers.dense",
    "SoftmaxActivation": "layers.activation",
    "SpatialDropout2D": "layers.dropout",
    "StepDecay": "optim.schedules",
    "StorageError": "storage.errors",
    "Tanh": "layers.activation",
    "Trainer": "training.trainer",
    "UpSample2D": "layers.pool",
    "WarmUp": "optim.schedules",
    "check_gradients": "gradient_check",
    "clip_by_global_norm": "optim.optimizer",
    "get_num_threads": "runtime.threads",
    "set_num_threads": "runtime.threads",
    "load": "saving",
    "models": "",
    "save": "saving",
    "to_onnx": "exchange",
}

__all__ = ["__version__", *_NAMES]  # noqa: PLE0604

__getattr__, __dir__ = lazy_names(__name__, _NAMES)
find_former_names()
