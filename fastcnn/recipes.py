"""The recipes of `fastcnn train`: a network, its settings, and the loop that trains it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from .model import Sequential
from .models import digits_default
from .optimizers import SGD
from .training import Trainer
from .typing import Array, IntArray


@dataclass(frozen=True)
class Settings:
    """What a person may choose."""

    epochs: int
    batch_size: int
    learning_rate: float
    seed: int = 0

    def steps(self, images: int) -> int:
        """Return how many steps all epochs take."""
        return self.epochs * -(-images // self.batch_size)


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training images came to; loss and accuracy as each batch found the model."""

    number: int
    loss: float
    accuracy: float
    seconds: float


class Recipe(ABC):
    """A network and how it is trained.

    It never sees the images that are held out: they can choose nothing.
    """

    settings: Settings

    def prepare(self, X: Array, y: IntArray) -> None:
        """Load the kernels, compiled where they are not yet, before a clock starts."""

    @abstractmethod
    def train(self, X: Array, y: IntArray, after_step: Callable[[], None]) -> Iterator[Epoch]:
        """Train on images `X` of classes `y`, epoch by epoch."""

    @abstractmethod
    def predict(self, X: Array) -> IntArray:
        """Return the class of each image."""


@final
class Digits(Recipe):
    """Three convolutions and a dense layer, 32-bit, by plain SGD; half of the images move by up to a pixel.

    Chosen by cross-validation within the training images.
    """

    defaults = Settings(epochs=20, batch_size=32, learning_rate=0.1)

    def __init__(self, settings: Settings = defaults) -> None:
        self.settings = settings
        self.model = self._network()

    def _network(self) -> Sequential:
        return digits_default().build((1, 8, 8), random_state=self.settings.seed)

    def prepare(self, X: Array, y: IntArray) -> None:
        model = self._network()
        Trainer(model).step(X[: self.settings.batch_size], y[: self.settings.batch_size])
        model.forward(X[:1])

    def train(self, X: Array, y: IntArray, after_step: Callable[[], None]) -> Iterator[Epoch]:
        settings, steps, step = self.settings, self.settings.steps(len(X)), 0
        generator = np.random.default_rng(settings.seed)
        trainer = Trainer(self.model, loss="cross_entropy", optimizer=SGD(settings.learning_rate))
        for number in range(1, settings.epochs + 1):
            began, loss, hits = time.perf_counter(), 0.0, 0.0
            order = generator.permutation(len(X))
            images, classes = shift_some(X[order], generator), y[order]
            for batch in _batches(len(X), settings.batch_size):
                trainer.optimizer.learning_rate = settings.learning_rate * one_cycle((step + 0.5) / steps)
                n = len(images[batch])
                loss += n * trainer.step(images[batch], classes[batch])
                hits += n * trainer.accuracy
                step += 1
                after_step()
            yield Epoch(number, loss / len(X), hits / len(X), time.perf_counter() - began)

    def predict(self, X: Array) -> IntArray:
        classes: IntArray = self.model.forward(X).argmax(axis=1)
        return classes


@final
class Notebook(Recipe):
    """The notebook's network and its loop over the layers, 64-bit, until 90 % of an epoch's images were right.

    Parameters
    ----------
    settings : Settings
    engine : module
        Where the four classes come from: `fastcnn` or `reference`. Both draw the same weights from the same seed.
    """

    defaults = Settings(epochs=100, batch_size=32, learning_rate=0.001)
    enough = 0.90

    def __init__(self, settings: Settings, engine: Any) -> None:
        self.settings = settings
        self.generator = np.random.RandomState(settings.seed)
        self.layers = [
            engine.Conv2D(16, 3, random_state=self.generator),
            engine.ReLU(),
            engine.MaxPool2(),
            engine.Softmax(144, 10, random_state=self.generator),
        ]

    def train(self, X: Array, y: IntArray, after_step: Callable[[], None]) -> Iterator[Epoch]:
        X = X.astype(np.float64)
        for number in range(1, self.settings.epochs + 1):
            began, loss, hits = time.perf_counter(), 0.0, 0
            order = self.generator.permutation(len(X))
            for batch in _batches(len(X), self.settings.batch_size):
                images, classes = X[order[batch]], y[order[batch]]
                probs = self._forward(images)
                rows = np.arange(len(images))
                loss -= np.log(np.maximum(probs[rows, classes], np.finfo(np.float64).tiny)).sum()
                hits += int(np.count_nonzero(probs.argmax(axis=1) == classes))
                dL_dout = probs.copy()
                dL_dout[rows, classes] -= 1
                for layer in reversed(self.layers):
                    dL_dout = layer.backward(dL_dout, self.settings.learning_rate)
                after_step()
            epoch = Epoch(number, float(loss) / len(X), hits / len(X), time.perf_counter() - began)
            yield epoch
            if epoch.accuracy >= self.enough:
                return

    def predict(self, X: Array) -> IntArray:
        classes: IntArray = self._forward(X.astype(np.float64)).argmax(axis=1)
        return classes

    def _forward(self, x: Array) -> Array:
        for layer in self.layers:
            x = layer.forward(x)
        return x


def one_cycle(t: float) -> float:
    """Return the share of the learning rate at `t`, from 0 to 1 over the training: up for a tenth, then half a cosine.

    References
    ----------
    Loshchilov and Hutter, "SGDR", ICLR 2017, for the cosine; Goyal et al., arXiv:1706.02677, §2.2, for the start.
    """
    return float(min(1.0, 10 * t) * (1 + np.cos(np.pi * t)) / 2)


def shift_some(X: Array, generator: np.random.Generator, share: float = 0.5) -> Array:
    """Return the images, a `share` of them moved by -1, 0 or 1 pixel in both directions; zeros come in at the edge."""
    n, _, height, width = X.shape
    bordered = np.pad(X, ((0, 0), (0, 0), (1, 1), (1, 1)))
    places = np.lib.stride_tricks.sliding_window_view(bordered, (height, width), axis=(2, 3))
    down, right = np.where(generator.random(n) < share, generator.integers(0, 3, (2, n)), 1)
    moved: Array = places[np.arange(n), :, down, right]
    return moved


def _batches(images: int, batch_size: int) -> Iterator[slice]:
    for start in range(0, images, batch_size):
        yield slice(start, start + batch_size)
