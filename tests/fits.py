"""Small things to fit, and a callback that notes what happens."""

from __future__ import annotations

import numpy as np

from fastcnn import (
    SGD,
    Callback,
    Conv2D,
    Dense,
    Flatten,
    MaxPool2D,
    ReLU,
    Sequential,
    Trainer,
)

CLASSES = 4


def samples(n: int = 90, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return bytes in which the bright corner tells the class."""
    rng = np.random.RandomState(seed)
    X, y = rng.randint(0, 100, size=(n, 1, 8, 8)).astype(np.uint8), rng.randint(CLASSES, size=n)
    for image, label in zip(X, y, strict=True):
        image[0, 4 * (label // 2) :, 4 * (label % 2) :][:4, :4] += 100
    return X, y


def network() -> Sequential:
    return Sequential([Conv2D(8, 3, padding=1), ReLU(), MaxPool2D(2), Flatten(), Dense(CLASSES)])


def trainer(seed: int = 0, rate: float = 0.2, **options) -> Trainer:
    return Trainer(network(), optimizer=SGD(rate), random_state=seed, **options)


def weights(one: Trainer) -> bytes:
    return one.model._flat.tobytes()


class Each(Callback):
    """Notes every moment; `act` does what a test wants in one of them."""

    def __init__(self, act=lambda moment, run: None) -> None:
        self.moments, self.act = [], act

    def _note(self, moment: str, run) -> None:
        self.moments.append(moment)
        self.act(moment, run)

    def begin(self, run):
        self._note("begin", run)

    def batch(self, run):
        self._note("batch", run)

    def epoch(self, run, epoch):
        self._note("epoch", run)

    def end(self, run):
        self._note("end", run)
