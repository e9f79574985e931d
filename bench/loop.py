"""What the training loop costs over bare steps: `python -m bench.loop`, Keras's MNIST network, batches of 128."""

from __future__ import annotations

import time

import numpy as np

from fastcnn import SGD, Augmentation, Trainer, models

STEPS, ROUNDS, BATCH = 10, 5, 128


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
    fastest = dict.fromkeys(ways, float("inf"))
    trainer._build(X)
    for way in ways.values():
        way()
    for _ in range(ROUNDS):  # in turn, so that all meet the same machine
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            fastest[name] = min(fastest[name], time.perf_counter() - began)
    for name, seconds in fastest.items():
        over = seconds / fastest["bare steps"] - 1
        print(f"{name:20} {1e3 * seconds / STEPS:8.2f} ms a step  {over:+.1%}")


if __name__ == "__main__":
    main()
