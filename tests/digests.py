"""Small trainings that go through all layers, losses, optimizers and schedules, and the digest of each.

`python -m tests.digests` prints them as `test_digests.py` has them, on any machine, Python and NumPy.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np

import fastcnn
from fastcnn import (
    CELU,
    ELU,
    GELU,
    SGD,
    Adam,
    AdamW,
    Augmentation,
    AvgPool2D,
    BatchNorm,
    BinaryCrossEntropy,
    CNNClassifier,
    CNNRegressor,
    Concat,
    ConstantRate,
    Conv2D,
    Conv2DTranspose,
    CosineDecay,
    CrossEntropy,
    Dense,
    DepthwiseConv2D,
    Dirac,
    Dropout,
    ExponentialDecay,
    ExponentialMovingAverage,
    Flatten,
    GlobalAvgPool2D,
    GlobalMaxPool2D,
    GroupNorm,
    HardSigmoid,
    HardSwish,
    HeNormal,
    Huber,
    Layer,
    LayerNorm,
    LeakyReLU,
    Lion,
    Lookahead,
    Loss,
    MaxPool2,
    MaxPool2D,
    MeanAbsoluteError,
    MeanSquaredError,
    Mish,
    Muon,
    OneCycle,
    Optimizer,
    Orthogonal,
    Pad,
    PowerDecay,
    PReLU,
    ReduceOnPlateau,
    ReLU,
    ReLU6,
    Residual,
    RMSprop,
    Scale,
    SeparableConv2D,
    Sequential,
    Sigmoid,
    SiLU,
    Softmax,
    SoftmaxActivation,
    Softplus,
    SpatialDropout2D,
    StepDecay,
    Tanh,
    Trainer,
    Triangle,
    UpSample2D,
    WarmUp,
    Whitening,
)
from fastcnn.data import load_digits
from fastcnn.digest import digest
from fastcnn.typing import Array

DIGITS = 16  # hexadecimal ones of each digest
STEPS = 3


def outcome(model: Sequential, **others: Any) -> str:
    """Return the digest of a model's weights and of what else came of it."""
    arrays = {name: np.asarray(array) for name, array in others.items()}
    return digest({**model._weights(), **arrays})[:DIGITS]


def train(
    layers: list[Layer],
    shape: tuple[int, ...],
    loss: Loss,
    optimizer: Optimizer,
    schedule: Callable[[int], float] | None = None,
    dtype: type = np.float32,
) -> str:
    """Return the digest of a few steps on random numbers: weights, gradients, losses and predictions."""
    generator = np.random.RandomState(0)
    x = (generator.random_sample(shape) * 4 - 2).astype(dtype)
    model = Sequential(layers).build(shape[1:], random_state=1, dtype=dtype)
    output = model.output_shape(shape[1:])
    if isinstance(loss, CrossEntropy):
        y = generator.randint(output[0], size=(len(x), *output[1:]))
    else:
        y = generator.randint(2, size=(len(x), *output)).astype(dtype)
    trainer = Trainer(model, loss, optimizer, random_state=2, schedule=schedule)
    losses = [trainer.step(x, y) for _ in range(STEPS)]
    gradients = {f"gradient {name}": array for name, array in model.gradients.items()}
    return outcome(model, losses=losses, predictions=model.predict(x), **gradients)


def lenet(dtype: type) -> str:
    """Train windows of 5 x 5 with few filters: pixels in registers, gradients from winners alone."""
    layers = [Conv2D(6, 5, padding=2), ReLU(), MaxPool2D(2), Conv2D(16, 5), ReLU(), MaxPool2D(2), Flatten()]
    layers += [Dense(33), ReLU(), Dense(10)]
    return train(layers, (5, 1, 28, 28), CrossEntropy(), SGD(0.1, 0.9), StepDecay(0.1, 1, 0.3), dtype)


def first_layers() -> str:
    """Train a first layer whose gradients from winners alone pay in short registers only, and many features."""
    layers = [Conv2D(32, 5, padding=2), ReLU(), MaxPool2D(2), Conv2D(23, 3), ReLU(), MaxPool2D(2), Flatten(), Dense(10)]
    return train(layers, (3, 1, 34, 34), MeanAbsoluteError(), Adam(0.01, clip_norm=0.1))


def residual() -> str:
    """Train both algorithms of Winograd, and batch normalisation."""

    def unit(filters: int, algorithm: str) -> list[Layer]:
        return [Conv2D(filters, 3, padding=1, bias=False, algorithm=algorithm), BatchNorm()]

    layers = [*unit(16, "auto"), ReLU(), Residual([*unit(16, "winograd"), ReLU(), *unit(16, "winograd4")]), ReLU()]
    layers += [Conv2D(5, 3, 2, 1), Tanh(), GlobalAvgPool2D(), Dense(3)]
    optimizer = SGD(0.1, 0.9, True, 1e-3, clip_norm=1.0)
    return train(layers, (7, 3, 11, 10), CrossEntropy(), optimizer, CosineDecay(0.1, 5))


def separable() -> str:
    """Train depthwise and pointwise convolutions, the latter over the zeros that a ReLU leaves."""
    layers: list[Layer] = [Conv2D(8, 3, padding=1), ReLU()]
    for stride, width in ((1, 128), (2, 24)):
        layers += [DepthwiseConv2D(3, stride, 1, bias=False), BatchNorm(), ReLU()]
        layers += [Conv2D(width, 1, bias=False), BatchNorm(), ReLU()]
    layers += [
        SeparableConv2D(9, 3, padding=1),
        DepthwiseConv2D((2, 3), depth_multiplier=2),
        GlobalMaxPool2D(),
        Dense(4),
    ]
    schedule = WarmUp(ExponentialDecay(0.01, 0.9), 1)
    return train(layers, (6, 2, 8, 8), CrossEntropy(), AdamW(0.01, clip_norm=0.5), schedule)


def odd_widths() -> str:
    """Train channels that are padded by the lengths of registers, in eight shards."""
    layers = [Conv2D(20, 3, padding=1), BatchNorm(), ReLU(), Conv2D(9, 3, padding=1), BatchNorm(), ReLU(), MaxPool2D(2)]
    return train([*layers, Flatten(), Dense(5)], (16, 3, 32, 32), CrossEntropy(), SGD(0.1), ConstantRate(0.1))


def wide_windows() -> str:
    """Train Winograd's algorithms for windows of 5 x 5 and 7 x 7, with poolings behind them, and without padding."""
    layers = [Conv2D(12, 5, padding=2), ReLU(), Conv2D(23, 5, padding=2, algorithm="winograd"), ReLU(), MaxPool2D(2)]
    layers += [Conv2D(9, 7, padding=3, algorithm="winograd"), ReLU(), MaxPool2D(2)]
    layers += [Conv2D(16, 5, padding=1, algorithm="winograd"), BatchNorm(), ReLU(), Flatten(), Dense(5)]
    return train(layers, (9, 3, 13, 14), CrossEntropy(), SGD(0.05, 0.9))


def many_classes(dtype: type) -> str:
    """Train sums over many classes, and normalisations of single examples."""
    layers = [Conv2D(6, 3), LayerNorm(), GELU(), Conv2D(10, 3, bias=False), GroupNorm(2), ReLU(), Flatten(), Dense(41)]
    return train(layers, (5, 3, 9, 9), CrossEntropy(label_smoothing=0.1), Lion(0.001, clip_norm=1.0), dtype=dtype)


def image_to_image() -> str:
    """Train a softmax over channels, branches and transposed convolutions."""
    layers = [Concat([[Conv2D(5, 3, padding=1)], [AvgPool2D(3, 1, 1)]]), LeakyReLU(), MaxPool2D(3, 2, 1), UpSample2D(2)]
    layers += [Conv2DTranspose(21, 3, 2, 1, 1), SoftmaxActivation(), Conv2D(4, 3), SiLU()]
    return train(layers, (3, 2, 6, 5), Huber(), RMSprop(0.01, centered=True, clip_norm=0.1))


def pixels() -> str:
    """Train a class for each pixel, some of them ignored, on maps that are made small and large again."""
    below = [MaxPool2D(2), Conv2D(7, 3, padding=1), ReLU(), UpSample2D(2, "bilinear")]
    layers = [Conv2D(6, 3, padding=1), BatchNorm(), ReLU(), Concat([[], below]), Conv2D(5, 1)]
    loss = CrossEntropy(0.1, [0.5, 2.0, 1.0, 1.5, 0.25], ignore_index=2)
    return train(layers, (6, 2, 8, 6), loss, Adam(0.01))


def groups() -> str:
    """Train groups that do not fill a register, independent answers, and dropout."""
    layers = [Conv2D(12, 3, groups=2), ELU(), SpatialDropout2D(0.2), Conv2D(33, 3, 2, 1, groups=3), MaxPool2D(3, 1, 1)]
    layers += [Dropout(0.3), Flatten(), Dense(3), Sigmoid()]
    return train(layers, (5, 2, 8, 9), BinaryCrossEntropy(), Adam(0.01))


def rectified() -> str:
    """Train rectifiers of every form, slopes that are trained, and padding."""
    layers = [Pad(((1, 0), (2, 1)), "reflect"), Conv2D(9, 3), PReLU(), CELU(1.5), Pad(1, value=-0.5), Conv2D(17, 3)]
    layers += [PReLU(17), Pad(1, "edge"), Conv2D(6, 3, 2), Softplus(1.5), Mish(), Flatten(), Dense(21), HardSwish()]
    layers += [Dense(9), ReLU6(), Dense(8), HardSigmoid(), Dense(5)]
    return train(layers, (7, 3, 7, 6), CrossEntropy(), SGD(0.02, 0.9))


def recipe() -> str:
    """Train what records on small images are made of: whitening, frozen filters, groups of parameters, slow weights."""
    x = np.random.RandomState(3).random_sample((24, 3, 9, 9)).astype(np.float32)
    layers = [Scale((4.0, 3.5, 4.5), -2.0), Conv2D(24, 2, initializer=Whitening(x), trainable=("biases",)), GELU()]
    layers += [Conv2D(32, 3, padding=1, bias=False, initializer=Dirac(HeNormal(1 / 3))), MaxPool2D(2)]
    layers += [BatchNorm(0.4, 1e-12, scale=False), GELU(), Flatten(), Dense(5, False, initializer=Orthogonal())]
    model = Sequential([*layers, Scale(1 / 9)]).build((3, 9, 9), random_state=1)
    factors = {
        "*.beta": {"learning_rate": 64.0, "weight_decay": 1 / 64},
        "1.biases": {"learning_rate": StepDecay(1, 2, 0)},
    }
    optimizer = SGD(0.1, 0.85, True, 0.01, no_decay=("weights",), groups=factors)
    average, rates = Lookahead(2, PowerDecay(1.0, 6, 3.0, 0.2)), Triangle(0.1, 6, 0.2, 0.07, 0.4)
    trainer = Trainer(model, CrossEntropy(0.2), optimizer, random_state=2, schedule=rates, ema=average)
    losses = [trainer.step(x, np.arange(24) % 5) for _ in range(STEPS)]
    return outcome(model, losses=losses, predictions=model.predict(x))


def augmented() -> str:
    """Train on digits that are changed in every way, with an average of the weights."""
    X, y = load_digits()
    changes = Augmentation(True, False, 1, 15.0, 0.1, 0.2, 0.1, 2)
    model = Sequential([Conv2D(8, 3), ReLU(), MaxPool2D(2), Flatten(), Dropout(0.1), Dense(10)])
    average = ExponentialMovingAverage(0.9)
    trainer = Trainer(model, "cross_entropy", RMSprop(0.01), random_state=3, schedule=OneCycle(0.01, 16), ema=average)
    history = trainer.fit(X[:120], y[:120], epochs=2, batch_size=16, augmentation=changes, verbose=0)
    return outcome(model, **average.averages, losses=history["loss"])


def mixed() -> str:
    """Train on digits that are mixed with others, with weights of classes and samples, on a plateau."""
    X, y = load_digits()
    weights = np.random.RandomState(4).random_sample(120)
    loss = CrossEntropy(0.1, class_weight=1 / np.arange(1, 11))
    model = Sequential([Conv2D(8, 3), ReLU(), MaxPool2D(2), Flatten(), Dense(10)])
    schedule = ReduceOnPlateau(0.05, 0.3, patience=0, threshold=0.5)
    trainer = Trainer(model, loss, SGD(0.05, 0.9), random_state=5, schedule=schedule)
    changes = Augmentation("alternating", mixup=0.3, shift=1, padding="reflect")
    history = trainer.fit(
        X[:120], y[:120], sample_weight=weights, epochs=3, batch_size=32, augmentation=changes, verbose=0
    )
    return outcome(model, losses=history["loss"])


def cropped() -> str:
    """Train on crops in other colours, of which parts are others'."""
    X = np.random.RandomState(8).randint(0, 256, (60, 3, 12, 10)).astype(np.uint8)
    model = Sequential([Conv2D(8, 3), ReLU(), MaxPool2D(2), Flatten(), Dense(6)])
    changes = Augmentation(True, crop=(0.2, 1.0), crop_ratio=1.5, color_jitter=(0.4, 0.4, 0.4, 0.1), cutmix=0.7)
    trainer = Trainer(model, CrossEntropy(), SGD(0.05, 0.9), random_state=6)
    history = trainer.fit(X, np.arange(60) % 6, epochs=2, batch_size=16, augmentation=changes, verbose=0)
    return outcome(model, losses=history["loss"])


def muon() -> str:
    """Train matrices of more rows than columns and of fewer, and of more than a band, beside what is no matrix."""
    layers = [Conv2D(20, 3, bias=False), BatchNorm(), GELU(), Conv2D(9, 3), ReLU(), Flatten(), Dense(100), Dense(41)]
    rule = Muon(0.02, weight_decay=0.1, no_decay=("biases",), adam=("7.*",), groups={"3.*": {"learning_rate": 2.0}})
    return train(layers, (6, 2, 9, 9), CrossEntropy(), rule, OneCycle(0.02, STEPS))


def classifier() -> str:
    """Fit `CNNClassifier` with its defaults to digits."""
    X, y = load_digits()
    rows = X.reshape(len(X), -1)[:200].astype(np.float64)
    found = CNNClassifier(random_state=0, max_iter=2).fit(rows, y[:200])
    return outcome(found.model_, probabilities=found.predict_proba(rows), losses=found.loss_curve_)


def regressor() -> str:
    """Fit `CNNRegressor` with its defaults to rows in double precision."""
    X = np.random.RandomState(7).random_sample((300, 10))
    y = 50 * X[:, 0] - 20 * X[:, 1] * X[:, 2] + X[:, 3]
    found = CNNRegressor(random_state=0, max_iter=2, loss=MeanSquaredError()).fit(X, y)
    return outcome(found.model_, predictions=found.predict(X), losses=found.loss_curve_)


def notebook() -> str:
    """Train as the notebook does, layer by layer."""
    X, y = load_digits()
    generator = np.random.RandomState(6)
    layers = [Conv2D(16, 3, random_state=generator), ReLU(), MaxPool2(), Softmax(144, 10, random_state=generator)]
    for first in range(0, 96, 32):
        x: Array = X[first : first + 32].astype(np.float64)
        for layer in layers:
            x = layer.forward(x)
        x[np.arange(32), y[first : first + 32]] -= 1
        for layer in reversed(layers):
            x = layer.backward(x, 0.01)
    weights = {f"{place}.{name}": array for place in (0, 3) for name, array in layers[place].parameters.items()}
    return digest(weights)[:DIGITS]


TRAININGS: dict[str, Callable[[], str]] = {
    "lenet": lambda: lenet(np.float32),
    "lenet, double": lambda: lenet(np.float64),
    "many classes": lambda: many_classes(np.float32),
    "many classes, double": lambda: many_classes(np.float64),
    "first layers": first_layers,
    "residual": residual,
    "separable": separable,
    "odd widths": odd_widths,
    "wide windows": wide_windows,
    "image to image": image_to_image,
    "pixels": pixels,
    "groups": groups,
    "rectified": rectified,
    "recipe": recipe,
    "augmented": augmented,
    "mixed": mixed,
    "cropped": cropped,
    "muon": muon,
    "classifier": classifier,
    "regressor": regressor,
    "notebook": notebook,
}


def digests(threads: int | None = None) -> dict[str, str]:
    """Return the digest of each training on so many threads."""
    fastcnn.set_num_threads(threads)
    try:
        return {name: training() for name, training in TRAININGS.items()}
    finally:
        fastcnn.set_num_threads(None)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Print the digests of small trainings.")
    parser.add_argument("--threads", type=int, help="all that there are if not given")
    for name, value in digests(parser.parse_args().threads).items():
        print(f'    "{name}": "{value}",')
