"""Small trainings that together go through every kernel in which numbers are summed; printed, they are digests."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

import numpy as np

from fastcnn import (
    ELU,
    GELU,
    SGD,
    Adam,
    AdamW,
    AvgPool2D,
    BatchNorm,
    Concat,
    Conv2D,
    Conv2DTranspose,
    CrossEntropy,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAvgPool2D,
    GlobalMaxPool2D,
    GroupNorm,
    LayerNorm,
    LeakyReLU,
    Lion,
    MaxPool2D,
    ReLU,
    Residual,
    RMSprop,
    Sequential,
    Sigmoid,
    SiLU,
    SoftmaxActivation,
    Tanh,
    Trainer,
    UpSample2D,
)

STEPS = 2


def train(layers, shape, loss, optimizer, dtype=np.float32, threads=None) -> str:
    """Return the digest of the weights, gradients and losses of a few steps on random numbers."""
    generator = np.random.RandomState(0)
    x = generator.standard_normal(shape).astype(dtype)
    model = Sequential(layers).build(shape[1:], random_state=1, dtype=dtype)
    output = model.output_shape(shape[1:])
    if isinstance(loss, CrossEntropy):
        y = generator.randint(output[0], size=len(x))
    else:
        y = generator.randint(2, size=(len(x), *output)).astype(dtype)
    trainer = Trainer(model, loss, optimizer, threads=threads, random_state=2)
    arrays = [np.array([trainer.step(x, y) for _ in range(STEPS)])]
    arrays += [*model.get_weights(), *model.gradients.values(), model.predict(x)]
    return sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()[:16]


def lenet(**run) -> str:
    """Train windows of 5 x 5 with few filters: pixels in registers, gradients from winners alone."""
    layers = [Conv2D(6, 5, padding=2), ReLU(), MaxPool2D(2), Conv2D(16, 5), ReLU(), MaxPool2D(2), Flatten()]
    return train([*layers, Dense(33), ReLU(), Dense(10)], (5, 1, 28, 28), CrossEntropy(), SGD(0.1, 0.9), **run)


def first_layers(**run) -> str:
    """Train a first layer whose gradients from winners alone pay in short registers only, and many features."""
    layers = [Conv2D(32, 5, padding=2), ReLU(), MaxPool2D(2), Conv2D(23, 3), ReLU(), MaxPool2D(2), Flatten()]
    return train([*layers, Dense(10)], (3, 1, 34, 34), CrossEntropy(), Adam(0.01, clip_norm=0.1), **run)


def residual(**run) -> str:
    """Train both algorithms of Winograd, and batch normalisation."""

    def unit(filters, algorithm):
        return [Conv2D(filters, 3, padding=1, bias=False, algorithm=algorithm), BatchNorm()]

    layers = [*unit(16, "auto"), ReLU(), Residual([*unit(16, "winograd"), ReLU(), *unit(16, "winograd4")]), ReLU()]
    layers += [Conv2D(5, 3, 2, 1), Tanh(), GlobalAvgPool2D(), Dense(3)]
    return train(layers, (7, 3, 11, 10), CrossEntropy(), SGD(0.1, 0.9, True, 1e-3, clip_norm=1.0), **run)


def separable(**run) -> str:
    """Train depthwise and pointwise convolutions, the latter over the zeros that a ReLU leaves."""
    layers = []
    for stride, width in ((1, 128), (2, 24)):
        layers += [DepthwiseConv2D(3, stride, 1, bias=False), BatchNorm(), ReLU()]
        layers += [Conv2D(width, 1, bias=False), BatchNorm(), ReLU()]
    layers = [Conv2D(8, 3, padding=1), ReLU(), *layers, DepthwiseConv2D((2, 3), depth_multiplier=2), GlobalMaxPool2D()]
    return train([*layers, Dense(4)], (6, 2, 8, 8), CrossEntropy(), AdamW(0.01, clip_norm=0.5), **run)


def odd_widths(**run) -> str:
    """Train channels that are padded by the lengths of registers, in maps that are cut to pieces by their size."""
    layers = [Conv2D(20, 3, padding=1), BatchNorm(), ReLU(), Conv2D(9, 3, padding=1), BatchNorm(), ReLU(), MaxPool2D(2)]
    return train([*layers, Flatten(), Dense(5)], (16, 3, 32, 32), CrossEntropy(), SGD(0.1), **run)


def many_classes(**run) -> str:
    """Train sums over many classes, and normalisations of single examples."""
    layers = [Conv2D(6, 3), LayerNorm(), GELU(), Conv2D(10, 3, bias=False), GroupNorm(2), ReLU(), Flatten(), Dense(41)]
    return train(layers, (5, 3, 9, 9), CrossEntropy(label_smoothing=0.1), Lion(0.001, clip_norm=1.0), **run)


def image_to_image(**run) -> str:
    """Train a softmax over channels, branches and transposed convolutions."""
    layers = [Concat([[Conv2D(5, 3, padding=1)], [AvgPool2D(3, 1, 1)]]), LeakyReLU(), MaxPool2D(3, 2, 1), UpSample2D(2)]
    layers += [Conv2DTranspose(21, 3, 2, 1, 1), SoftmaxActivation(), Conv2D(4, 3, groups=2 - 1), SiLU()]
    return train(layers, (3, 2, 6, 5), "huber", RMSprop(0.01, centered=True, clip_norm=0.1), **run)


def groups(**run) -> str:
    """Train groups that do not fill a register, independent answers, and dropout."""
    layers = [
        Conv2D(12, 3, groups=2),
        ELU(),
        Conv2D(33, 3, 2, 1, groups=3),
        MaxPool2D(3, 1, 1),
        Dropout(0.3, 0),
        Flatten(),
    ]
    return train([*layers, Dense(3), Sigmoid()], (5, 2, 8, 9), "binary_cross_entropy", Adam(0.01), **run)


SINGLE = (lenet, first_layers, residual, separable, odd_widths, many_classes, image_to_image, groups)
DOUBLE = (lenet, many_classes)


def digests(threads: int | None = None) -> dict[str, str]:
    """Return the digest of each training, by its name and precision."""
    runs: list[tuple[Callable[..., str], type]] = [(one, np.float32) for one in SINGLE]
    runs += [(one, np.float64) for one in DOUBLE]
    return {f"{one.__name__} {dtype.__name__}": one(dtype=dtype, threads=threads) for one, dtype in runs}
