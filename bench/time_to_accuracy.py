"""A whole training beside PyTorch's: ``python -m bench.time_to_accuracy [DATA] [--recipe long] [--quick]``.

The recipe of `fastcnn train` for a data set in the folder that FASTCNN_DATA names. Both sides start from the same
weights and see the same batches. PyTorch gets them already augmented, so that fastcnn alone pays for that, and the
memory order that suits it better in alternating turns on the first batches. With `--quick` those turns are all.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from statistics import median

import numpy as np

from fastcnn import Trainer
from fastcnn.cli.common import source
from fastcnn.cli.recipes import RECIPES, Recipe, augmentation
from fastcnn.data import Dataset, load
from fastcnn.data.augmentation import Augmentation
from fastcnn.training.feed import ArrayFeed

from .sides.pytorch_training import Twin
from .timing import about, cores, table

Batches = Iterator[tuple[np.ndarray, np.ndarray]]
# Turns, and the steps of each: those that are timed, and some before, while the other side's threads come to rest.
ROUNDS, STEPS, SETTLING = 4, 16, 3


class Training:
    """A recipe for a data set: makes either side's beginning, and the batches that both take.

    Parameters
    ----------
    recipe : Recipe
    found : Dataset
    seed : int
    """

    def __init__(self, recipe: Recipe, found: Dataset, seed: int) -> None:
        self.recipe, self.found, self.seed = recipe, found, seed
        self.changes: Augmentation | None = augmentation(recipe.augment)
        self.steps = recipe.steps(len(found.X)) // recipe.epochs  # of an epoch
        self.given = {"batch_size": recipe.batch_size, "augmentation": self.changes, "drop_last": recipe.drop_last}

    def trainer(self) -> Trainer:
        """Return fastcnn's side, built."""
        X = self.found.X
        trainer = self.recipe.trainer(len(X), X.shape[1:], len(self.found.classes), self.seed, None, X=X)
        trainer._build(X)
        return trainer

    def twin(self, channels_last: bool) -> Twin:
        """Return PyTorch's side."""
        return Twin(self.trainer(), self.recipe.label_smoothing, channels_last, cores())

    def batches(self, epoch: int) -> Batches:
        """Yield the batches that `fit` takes in an epoch."""
        found, recipe = self.found, self.recipe
        feed = ArrayFeed(found.X, found.y, None, recipe.batch_size, self.seed, self.changes, drop_last=recipe.drop_last)
        for batch in feed.batches(epoch):
            yield batch.x, batch.y


def ours_on_few(training: Training, trainer: Trainer, steps: int) -> float:
    """Return the seconds of so many steps of `fit`, with the batches made in them."""
    size, found = training.recipe.batch_size, training.found
    few = slice(0, steps * size)
    history = trainer.fit(
        found.X[few], found.y[few], epochs=1, batch_size=size, augmentation=training.changes, verbose=0
    )
    return history.epochs[0].seconds


def choose(training: Training) -> dict[str, float]:
    """Return the seconds of a step on each side, medians of alternating turns."""
    trainer, twins = training.trainer(), {"NCHW": training.twin(False), "channels_last": training.twin(True)}
    supply = itertools.chain.from_iterable(map(training.batches, itertools.count()))
    seconds: dict[str, list[float]] = {"fastcnn": [], **{name: [] for name in twins}}
    for _ in range(ROUNDS):
        for steps in (SETTLING, STEPS):
            turn = ours_on_few(training, trainer, steps)
        seconds["fastcnn"].append(turn / STEPS)
        for name, twin in twins.items():
            for steps in (SETTLING, STEPS):
                turn = twin.train(itertools.islice(supply, steps))
            seconds[name].append(turn / STEPS)
    return {name: median(found) for name, found in seconds.items()}


def train(training: Training, channels_last: bool) -> list[tuple[str, ...]]:
    """Train both sides, epoch by epoch in turn, and return a row of the table for each epoch."""
    trainer, twin, found = training.trainer(), training.twin(channels_last), training.found
    ours, theirs, rows = 0.0, 0.0, []
    for epoch in range(training.recipe.epochs):
        history = trainer.fit(found.X, found.y, epochs=1, verbose=0, **training.given)
        ours += history.epochs[0].seconds
        theirs += twin.train(training.batches(epoch))
        views = training.recipe.views if epoch + 1 == training.recipe.epochs else None
        guesses = trainer.model.predict(found.X_test, views=views).argmax(axis=1)
        accuracies = float(np.mean(guesses == found.y_test)), twin.accuracy(found.X_test, found.y_test, views)
        rows.append((str(epoch + 1), f"{ours:.1f}", f"{accuracies[0]:.2%}", f"{theirs:.1f}", f"{accuracies[1]:.2%}"))
        print("  ".join(rows[-1]), flush=True)
    return rows


def main() -> None:
    """Run the bench as the command line asks."""
    parser = argparse.ArgumentParser(prog="python -m bench.time_to_accuracy", description=__doc__.partition("\n")[0])
    parser.add_argument("data", nargs="?", default="fashion-mnist", choices=("mnist", "fashion-mnist", "cifar10"))
    parser.add_argument("--recipe", default="default", choices=("default", "quick", "long"))
    parser.add_argument("--quick", action="store_true", help="time some steps, and train nothing to its end")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found = load(source(options.data, options.recipe))
    training = Training(RECIPES[options.data, options.recipe], found, options.seed)
    print(about("bench.time_to_accuracy", ("numpy", "numba", "torch")))
    seconds = choose(training)
    rows = [(name, f"{1e3 * one:.1f}", f"{training.steps * one:.1f}", f"{one / seconds['fastcnn']:.2f}")
            for name, one in seconds.items()]  # fmt: skip
    print(table(("side", "ms a step", "s an epoch", "times fastcnn's"), rows))
    if not options.quick:
        rows = train(training, seconds["channels_last"] < seconds["NCHW"])
        print(table(("epoch", "fastcnn s", "test accuracy", "PyTorch s", "test accuracy"), rows))


if __name__ == "__main__":
    main()
