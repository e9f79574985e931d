"""The notebook's training step against `reference`: ``python -m bench.notebook_step``.

8×8 images, batches of 32, float64 on all sides, one thread, in one process and alternating turns. What is timed is an
epoch of the digits as the notebook runs it: 45 steps, the last of them on the 29 images that are left. fastcnn takes
them in both of its ways: `Trainer.step`, and layer by layer as the notebook does, where arrays come and go each time.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import fastcnn
import reference

from .timing import Side, about, alternate, milliseconds, table

BATCH, CLASSES, LEARNING_RATE, IMAGES = 32, 10, 0.001, 1437  # of the digits, four fifths
STEPS = -(-IMAGES // BATCH)
BOUND = 1e-10  # float64: rounding is 1e-16, sums have up to 1,152 terms, and the steps add theirs up


def network(package: ModuleType) -> list[Any]:
    """Return the notebook's network out of either package."""
    return [
        package.Conv2D(num_filters=16, filter_size=3),
        package.ReLU(),
        package.MaxPool2(),
        package.Softmax(input_len=144, nodes=CLASSES),
    ]


def training_epoch(layers: list[Any], images: np.ndarray, targets: np.ndarray) -> Callable[[], np.ndarray]:
    """Return the notebook's epoch, of steps forward, `probs - y`, and backward with a learning rate."""

    def step(images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        probs = images
        for layer in layers:
            probs = layer.forward(probs)
        gradient = probs - targets
        for layer in reversed(layers):
            gradient = layer.backward(gradient, LEARNING_RATE)
        return probs

    def epoch() -> np.ndarray:
        return np.concatenate([step(images[i : i + BATCH], targets[i : i + BATCH]) for i in range(0, IMAGES, BATCH)])

    return epoch


def main() -> None:
    """Check, time and print."""
    argparse.ArgumentParser(prog="python -m bench.notebook_step", description=__doc__.partition("\n")[0]).parse_args()
    rng = np.random.default_rng(0)
    images = rng.random((IMAGES, 1, 8, 8))
    targets = np.eye(CLASSES)[rng.integers(0, CLASSES, IMAGES)]
    ours, loops, trained = network(fastcnn), network(reference), network(fastcnn)
    for layers in (ours, loops):
        layers[0].forward(images[:1])  # layers know their shapes from the first batch
    for layer, twin in zip(ours, loops, strict=True):
        for name, value in twin.parameters.items():
            layer.parameters[name][...] = value
    model = fastcnn.Sequential(trained).build((1, 8, 8), dtype=np.float64)
    for name, parameter in model.parameters.items():
        place, _, which = name.partition(".")
        parameter[...] = loops[int(place)].parameters[which]
    trainer = fastcnn.Trainer(model, optimizer=fastcnn.SGD(LEARNING_RATE), threads=1)
    labels = targets.argmax(axis=1)
    sides = [
        Side("fastcnn, layer by layer", training_epoch(ours, images, targets)),
        Side("reference", training_epoch(loops, images, targets)),
    ]

    def trained_epoch() -> list[float]:
        return [trainer.step(images[i : i + BATCH], labels[i : i + BATCH]) for i in range(0, IMAGES, BATCH)]

    ours_step = Side("fastcnn, Trainer.step", trained_epoch)
    print(about("bench.notebook_step", ("numpy", "numba")))
    with threadpool_limits(1):
        (probs,), (expected,) = (side.turn(1).values for side in sides)
        apart = np.max(np.abs(probs - expected))
        if not apart <= BOUND:
            raise AssertionError(f"the probabilities differ by {apart:.1e}; float64 allows {BOUND:.0e}")
        print(f"equal: probabilities of {STEPS} steps, {apart:.1e} apart at most; allowed {BOUND:.0e}")
        (losses,) = ours_step.turn(1).values
        entropies = -np.log(expected[np.arange(IMAGES), labels])
        entropies = [entropies[i : i + BATCH].mean() for i in range(0, IMAGES, BATCH)]
        apart = np.max(np.abs(np.array(losses) - entropies))
        if not apart <= BOUND:
            raise AssertionError(f"the losses differ by {apart:.1e}; float64 allows {BOUND:.0e}")
        timings = alternate([*sides, ours_step], rounds=10, seconds=0.1)
    rows = [
        (n, milliseconds(t.median / STEPS), milliseconds(t.minimum / STEPS), f"{t.cores:.1f}")
        for n, t in timings.items()
    ]
    print(table(("notebook step in its epoch, float64", "median ms", "minimum ms", "cores busy"), rows))
    for name in ("fastcnn, Trainer.step", "fastcnn, layer by layer"):
        print(
            f"reference by {name}: {timings['reference'].median / timings[name].median:.1f}; of minima "
            f"{timings['reference'].minimum / timings[name].minimum:.1f}"
        )


if __name__ == "__main__":
    main()
