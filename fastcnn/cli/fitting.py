"""What `fastcnn train` does with a recipe: fit, a line an epoch, test on what is held out, save."""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .common import SHARE, CommandError, words_of
from .interrupts import ends_the_fit

if TYPE_CHECKING:
    from ..data.sets import Dataset
    from ..history import Epoch, History
    from ..ranks.communicator import Communicator
    from ..training.feed import Rows
    from ..training.trainer import Trainer
    from ..typing import Array, IntArray
    from .recipes import Recipe

PIECE = 1024  # samples that are read at once


def train_and_tell(
    options: argparse.Namespace, recipe: Recipe, classes: list[str], parts: tuple[Any, ...], began: float, page: Any
) -> None:
    """Train, test and save."""
    from ..training.loop import INTERRUPTED

    X, _, X_held, y_held = parts
    if recipe.drop_last and len(X) < recipe.batch_size:
        raise CommandError(f"--drop-last: expected at least a batch of {recipe.batch_size} images; got {len(X)}")
    trainer = _fitted(options, recipe, classes, parts, page)
    history = trainer.history
    if history is None or not len(history):
        raise CommandError(f"interrupted{_by_whom(options.ranks)}", status=130)
    about = {
        "data": options.data, "size": "x".join(map(str, options.size)) if options.size else None, "dtype": str(X.dtype),
        "images": len(X), "held_out": len(X_held), "validation": options.validation, "classes": classes,
        "seed": options.seed or 0, "recipe": asdict(recipe), "class_weight": options.class_weight,
        "epochs": len(history), "range": _range(X),
    }  # fmt: skip
    _tell(trainer, history, options, X_held, y_held, about, recipe.views, began)
    if history.stopped == INTERRUPTED:
        raise CommandError(f"interrupted{_by_whom(options.ranks)}", status=130)


def _fitted(
    options: argparse.Namespace, recipe: Recipe, classes: list[str], parts: tuple[Any, ...], page: Any
) -> Trainer:
    """Return a trainer that has been fitted; its kernels are compiled by one step of another one before."""
    from . import recipes

    X, y, X_held, y_held = parts
    batches: dict[str, Any] = {"batch_size": recipe.batch_size, "augmentation": recipes.augmentation(recipe.augment),
                               "drop_last": recipe.drop_last}  # fmt: skip
    measured: dict[str, Any] = {} if recipe.views else {"X_val": X_held, "y_val": y_held}
    weight = recipes.balanced(y, len(classes)) if options.class_weight else None

    def make() -> Trainer:
        seed = options.seed or 0
        made = recipe.trainer(len(X), X.shape[1:], len(classes), seed, options.threads, class_weight=weight, X=X)
        made.communicator = options.ranks
        return made

    def rehearse() -> None:
        few = slice(0, recipe.batch_size)
        held = {name: array[few] for name, array in measured.items()}
        make().fit(X[few], y[few], epochs=1, verbose=0, **held, **batches)

    try:
        _announce(options, rehearse, f"{len(X)} images to train on, {len(X_held)} held out.")
        trainer = make()
        with ends_the_fit():
            _fit(trainer, options, recipe.steps(len(X)), classes, (X_held, y_held), page, X=X, y=y,
                 epochs=recipe.epochs, checkpoint=options.checkpoint, **measured, **batches)  # fmt: skip
    except OSError as error:
        if error.filename is None:  # of standard output
            raise
        raise CommandError(words_of(error), status=1) from None
    except (FloatingPointError, TypeError, ValueError) as error:
        raise CommandError(str(error), status=1) from None
    return trainer


def _announce(options: argparse.Namespace, rehearse: Callable[[], None], sizes: str) -> None:
    """Load the kernels, and print what will be done unless the command is to be quiet."""
    from ..training.progress import saying

    if options.quiet or options.json:
        rehearse()
        return
    print(sizes)
    with saying("Loading the kernels (the first run compiles them)"):
        rehearse()
    if options.checkpoint and Path(options.checkpoint).exists():
        print(f"Going on from {options.checkpoint}.")


def _range(X: Array | Rows) -> list[Any] | None:
    """Return the range of the numbers that the network has seen; None of bytes, which are always seen from 0 to 1."""
    if X.dtype == "uint8":
        return None
    from ..ranges import range_of

    found = range_of(X[first : first + PIECE] for first in range(0, len(X), PIECE))
    return None if found is None else [*found]


def _by_whom(ranks: Communicator | None) -> str:
    return "" if ranks is None or ranks.interrupted is None else f" by Ctrl-C on rank {ranks.interrupted}"


def _tell(
    trainer: Trainer,
    history: History,
    options: argparse.Namespace,
    X: Array | Rows,
    y: IntArray,
    about: dict[str, Any],
    views: str | None,
    began: float,
) -> None:
    """Write the results of the training, and save the network."""
    from .. import measures

    accuracy, seconds = history.epochs[-1].val_accuracy, sum(epoch.seconds for epoch in history)
    if math.isnan(accuracy):  # an epoch that was interrupted
        accuracy = trainer.evaluate(X, y).accuracy
    names, seen = about["classes"], ""
    matrix = _confusion(trainer, X, y, len(names), views)
    if views:
        plain, accuracy = accuracy, measures.accuracy(matrix)
        seen = f" by the views {views}, {plain:.2%} without"
        if options.json:
            print(json.dumps({"views": views, "accuracy": accuracy, "without": plain}), flush=True)
    if options.save and not (trainer.communicator and trainer.communicator.rank):
        columns = {
            name: [value if math.isfinite(value) else None for value in values]
            for name, values in history.to_dict().items()
        }
        _save(trainer, options.save, {**about, "accuracy": accuracy, "seconds": seconds, "history": columns})
    if not options.json:
        beside = f" ({measures.recall_words(matrix, names)})" if measures.needs_recall(matrix) else ""
        total = time.perf_counter() - began
        measured = f"Test Accuracy: {accuracy:.2%}{seen}{beside} | {seconds:.2f} s of training, {total:.2f} s in all"
        print(f"{measured} | Digest: {trainer.model.digest()}")


def _confusion(trainer: Trainer, X: Array | Rows, y: IntArray, classes: int, views: str | None = None) -> IntArray:
    """Return the confusion matrix of the network on images; by several views of each, if they are given."""
    import numpy as np

    from .. import measures

    firsts = range(0, len(X), 1024)
    guesses = [trainer.model.predict(X[first : first + 1024], views=views).argmax(axis=1) for first in firsts]
    return measures.confusion(y, np.concatenate(guesses), classes)


def _recall(trainer: Trainer, X: Array | Rows, y: IntArray, names: list[str]) -> dict[str, Any]:
    """Return what the last line of JSON says besides, where classes are unbalanced."""
    from .. import measures

    matrix = _confusion(trainer, X, y, len(names))
    if not measures.needs_recall(matrix):
        return {}
    return {"recall": dict(zip(names, measures.recall(matrix), strict=True)), "majority": measures.majority(matrix)}


def _save(trainer: Trainer, path: str, about: dict[str, Any]) -> None:
    """Write the network to a file, with what it was trained on and how."""
    from ..saving import model_contents
    from ..storage import layout

    contents = model_contents(trainer.model)
    contents.description["about"] = about
    try:
        layout.write(contents, path)
    except OSError as error:
        raise CommandError(f"--save {words_of(error)}", status=1) from None


def as_images(found: Dataset, path: str) -> Dataset:
    """Return a data set whose rows of pixels are images, as the estimators read them: squares, grey or in colour."""
    if found.X.ndim != 2:
        return found
    from ..estimators.images import choose_reading

    reading = choose_reading(found.X.shape[1:], None, "train")
    if reading.shape[1] == 1:
        words = "expected images, or rows of the pixels of square ones"
        raise CommandError(f"{path}: {words}; got rows of {found.X.shape[1]} numbers", status=1)
    X_test = None if found.X_test is None else reading.images(found.X_test)
    return replace(found, X=reading.images(found.X), X_test=X_test)


def split(found: Dataset, share: float | None) -> tuple[Array | Rows, IntArray, Array | Rows, IntArray]:
    """Return the images to train on and those to measure on: a share of the training images, or the test set."""
    from ..data.sets import hold_out
    from ..training.feed import Rows

    if share is None and found.X_test is not None and found.y_test is not None:
        return found.X, found.y, found.X_test, found.y_test
    share = SHARE if share is None else share
    if not 0 < math.ceil(share * len(found.X)) < len(found.X):
        raise CommandError(f"--validation {share:g}: nothing is left of {len(found.X)} images to train on", status=1)
    chosen, held, y, y_held = hold_out(range(len(found.X)), found.y, share)
    return Rows(found.X, chosen), y, Rows(found.X, held), y_held


def _fit(
    trainer: Trainer,
    options: argparse.Namespace,
    steps: int,
    names: list[str],
    held: tuple[Array | Rows, IntArray],
    page: Any,
    **arguments: Any,
) -> None:
    """Train, with a line for each epoch, in words or JSON."""
    from ..training.callbacks import Callback, Run
    from ..training.progress import progress

    class Shown(Callback):
        def batch(self, run: Run) -> None:
            shown.advance()

        def epoch(self, run: Run, epoch: Epoch) -> None:
            if options.json:
                values = {name: value if math.isfinite(value) else None for name, value in epoch._asdict().items()}
                last = epoch.epoch == arguments["epochs"]
                more = _recall(trainer, *held, names) if last else {}
                print(json.dumps({**values, "digest": trainer.model.digest(), **more}), flush=True)
                return
            held_out = "" if math.isnan(epoch.val_accuracy) else f" | Held-out: {epoch.val_accuracy:.2%}"
            shown.write(
                f"Epoch {epoch.epoch} | Loss: {epoch.loss:.4f} | Accuracy: {epoch.accuracy:.2%}{held_out} | "
                f"{epoch.images_per_second:,.0f} images/s"
            )

    with progress(steps, quiet=options.quiet or options.json) as shown:
        trainer.fit(**arguments, callbacks=[Shown(), *([] if page is None else [page])], verbose=0)
