"""The notebook's recipe: its network, its settings, and its loop over four layers, for both engines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from ..digest import digest
from ..typing import Array, IntArray


@dataclass(frozen=True)
class Settings:
    """The settings that the command line can change."""

    epochs: int
    batch_size: int
    learning_rate: float
    seed: int = 0

    def steps(self, images: int) -> int:
        """Return how many steps all epochs take."""
        return self.epochs * -(-images // self.batch_size)


@dataclass(frozen=True)
class EpochMeans:
    """Loss and accuracy of one pass over the training images, of each batch before its own step."""

    number: int
    loss: float
    accuracy: float
    seconds: float


@final
class Notebook:
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

    def train(self, X: Array, y: IntArray, after_step: Callable[[], None]) -> Iterator[EpochMeans]:
        """Train on images `X` of classes `y`, epoch by epoch."""
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
            epoch = EpochMeans(number, float(loss) / len(X), hits / len(X), time.perf_counter() - began)
            yield epoch
            if epoch.accuracy >= self.enough:
                return

    def predict(self, X: Array) -> IntArray:
        """Return the class of each image."""
        classes: IntArray = self._forward(X.astype(np.float64)).argmax(axis=1)
        return classes

    def digest(self) -> str:
        """Return the digest of the four layers' parameters, named as in a `Sequential`; see `fastcnn.Layer.digest`."""
        return digest(
            {f"{place}.{name}": array for place, layer in enumerate(self.layers)
             for name, array in layer.parameters.items()}
        )  # fmt: skip

    def _forward(self, x: Array) -> Array:
        for layer in self.layers:
            x = layer.forward(x)
        return x


def _batches(images: int, batch_size: int) -> Iterator[slice]:
    for start in range(0, images, batch_size):
        yield slice(start, start + batch_size)
