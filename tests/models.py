"""Networks that tests build on both sides: each way in which layers follow each other, small."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np

import fastcnn
import reference


@dataclass(frozen=True)
class ModelCase:
    """Layers, made from the module that is given (reference or fastcnn), and the shape of one sample for them."""

    name: str
    input_shape: tuple[int, ...]
    make: Callable[[ModuleType], list[Any]]

    def __str__(self) -> str:
        return self.name

    def build(self, dtype=np.float64, fuse: bool = True) -> fastcnn.Sequential:
        """Return the built model, the same in each call; its biases are not zero."""
        model = fastcnn.Sequential(self.make(fastcnn), fuse=fuse).build(self.input_shape, random_state=0, dtype=dtype)
        rng = np.random.RandomState(1)
        for name, parameter in model.parameters.items():
            if name.endswith("biases"):
                parameter[...] = 0.1 * rng.standard_normal(parameter.shape)
        return model

    def batch(self, n: int, dtype=np.float64, seed: int = 2) -> np.ndarray:
        """Return a batch in which half of the pixels are 0, so that poolings meet ties."""
        rng = np.random.RandomState(seed)
        shape = (n, *self.input_shape)
        return (rng.randint(-8, 9, size=shape) * (rng.rand(*shape) < 0.5) / 8).astype(dtype)

    def chain(self, model: fastcnn.Sequential) -> Chain:
        """Return the reference's layers, with the model's parameters."""
        return Chain(self.make(reference), self.input_shape, model.parameters)


class Chain:
    """Layers of the reference, one after the other: what `Sequential` should compute."""

    def __init__(self, layers: list[Any], input_shape: tuple[int, ...], parameters: dict[str, np.ndarray]) -> None:
        self.layers = layers
        # What would be drawn here number by number, in plain Python, is replaced below.
        with mock.patch.object(reference.base, "normal", lambda generator, shape: np.zeros(shape)):
            for layer in layers:
                input_shape = layer.build(input_shape).output_shape(input_shape)
        self.parameters = self._named("parameters")
        assert self.parameters.keys() == parameters.keys()
        for name, parameter in parameters.items():
            assert self.parameters[name].shape == parameter.shape
            self.parameters[name][...] = parameter

    def _named(self, attribute: str) -> dict[str, np.ndarray]:
        return {
            f"{place}.{name}": array
            for place, layer in enumerate(self.layers)
            for name, array in getattr(layer, attribute).items()
        }

    @property
    def gradients(self) -> dict[str, np.ndarray]:
        """Gradients by place and name."""
        return self._named("gradients")

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return the last layer's output."""
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, dL_dout: np.ndarray) -> np.ndarray:
        """Return the gradient by the input."""
        for layer in reversed(self.layers):
            dL_dout = layer.backward(dL_dout)
        return dL_dout

    def step(self, x: np.ndarray, y: np.ndarray, learning_rate: float) -> float:
        """Take a step of gradient descent on the mean cross-entropy and return the loss before it."""
        output, loss = self.forward(x), reference.CrossEntropy()
        if isinstance(self.layers[-1], reference.Softmax):  # its backward takes the gradient by the logits
            output = np.log(output)
        self.backward(loss.gradient(output, y))
        reference.SGD(learning_rate).step(self.parameters, self.gradients)
        return loss(output, y)


MODEL_CASES = (
    ModelCase("notebook", (1, 8, 8), lambda m: [m.Conv2D(16, 3), m.ReLU(), m.MaxPool2(), m.Softmax(144, 10)]),
    ModelCase(
        "lenet",
        (1, 14, 14),
        lambda m: [
            m.Conv2D(6, 5, padding=2), m.ReLU(), m.MaxPool2D(), m.Conv2D(16, 5), m.ReLU(), m.Flatten(),
            m.Dense(20), m.ReLU(), m.Dense(17), m.ReLU(), m.Dense(10),
        ],
    ),
    ModelCase(
        "vgg",
        (3, 12, 12),
        lambda m: [
            m.Conv2D(16, 3, padding=1), m.ReLU(), m.Conv2D(16, 3, padding="same"), m.ReLU(), m.MaxPool2D(),
            m.Conv2D(32, 3, padding=1), m.ReLU(), m.Conv2D(32, 3), m.ReLU(), m.MaxPool2D(), m.Flatten(), m.Dense(10),
        ],
    ),
    ModelCase(
        "odd-sizes",
        (2, 11, 9),
        lambda m: [m.Conv2D(5, 3, padding=1), m.ReLU(), m.MaxPool2(), m.Conv2D(16, 3), m.MaxPool2D(), m.Softmax(16, 3)],
    ),
    ModelCase(
        "pool-then-relu",
        (3, 8, 8),
        lambda m: [m.Conv2D(17, 3), m.MaxPool2(), m.ReLU(), m.Conv2D(4, 2), m.Flatten(), m.ReLU(), m.Dense(3)],
    ),
    ModelCase(
        "strided",
        (3, 11, 13),
        lambda m: [
            m.Conv2D(8, 3, 2, 1), m.ReLU(), m.Conv2D(9, (2, 3), (1, 2)), m.ReLU(), m.MaxPool2D(2, 1), m.Softmax(72, 4),
        ],
    ),
    ModelCase(
        "overlapping-pools",
        (2, 13, 12),
        lambda m: [
            m.MaxPool2D(3, 2, 1), m.ReLU(), m.Conv2D(6, 3), m.ReLU(), m.MaxPool2D(3, 2), m.Flatten(), m.Dense(5),
        ],
    ),
    ModelCase(
        "groups-and-dilation",
        (4, 10, 10),
        lambda m: [
            m.Conv2D(6, 3, groups=2), m.ReLU(), m.MaxPool2(), m.Conv2D(5, 2, dilation=2, bias=False), m.ReLU(),
            m.Softmax(20, 3),
        ],
    ),
    ModelCase("features", (13,), lambda m: [m.Dense(20), m.ReLU(), m.Dense(7, bias=False), m.ReLU(), m.Softmax(7, 3)]),
    ModelCase("pixels", (5, 1, 1), lambda m: [m.ReLU(), m.Conv2D(16, 1), m.ReLU(), m.Conv2D(3, 1), m.Flatten()]),
)  # fmt: skip


def labels(case: ModelCase, n: int, seed: int = 5) -> np.ndarray:
    """Return classes for n samples of a network."""
    (classes,) = fastcnn.Sequential(case.make(fastcnn)).output_shape(case.input_shape)
    return np.random.RandomState(seed).randint(classes, size=n)
