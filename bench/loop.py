"""What the training loop costs over bare steps: `python -m bench.loop`, Keras's MNIST network, batches of 128."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from fastcnn import SGD, Augmentation, Trainer, models

STEPS, ROUNDS, BATCH = 20, 25, 128


def main() -> None:
    rng = np.random.RandomState(0)
    X = rng.randint(0, 256, size=(STEPS * BATCH, 1, 28, 28)).astype(np.uint8)
    y = rng.randint(10, size=len(X))
    trainer = Trainer(models.keras_mnist(), optimizer=SGD(0.01), random_state=0)

    def bare() -> None:
        for first in range(0, len(X), BATCH):
            trainer.step(X[first : first + BATCH], y[first : first + BATCH])

    def fit(augmentation: Augmentation | None = None) -> None:
        trainer.fit(X, y, epochs=1, batch_size=BATCH, augmentation=augmentation, verbose=0)

    ways = {"bare steps": bare, "fit": fit, "fit, flip and shift": lambda: fit(Augmentation(True, shift=2))}
    trainer._build(X)
    for way in ways.values():
        way()
    rounds = [[_seconds(way) for way in ways.values()] for _ in range(ROUNDS)]  # in turn: all meet the same machine
    fastest = np.min(rounds, axis=0)
    for name, seconds in zip(ways, fastest, strict=True):
        print(f"{name:20} {1e3 * seconds / STEPS:8.2f} ms a step  {seconds / fastest[0] - 1:+.1%}")


def _seconds(way: Callable[[], None]) -> float:
    began = time.perf_counter()
    way()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
