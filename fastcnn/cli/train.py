"""`fastcnn train`: a network is trained on a data set, tested on images that it has not seen, and saved."""

from __future__ import annotations

import argparse
import importlib
import json
import math
import reprlib
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .common import (
    SHARE,
    CommandError,
    add_common,
    add_max_bytes,
    add_threads,
    between,
    check_target,
    completes,
    dataset,
    meant,
    port,
    size,
    source,
    whole,
)

if TYPE_CHECKING:
    from ..data.sets import Dataset
    from ..history import Epoch as FitEpoch
    from ..history import History
    from ..ranks.communicator import Communicator
    from ..training.feed import Rows
    from ..training.trainer import Trainer
    from ..typing import Array, IntArray
    from .recipes import Plan

CHOICES = (
    "model", "optimizer", "schedule", "augment", "label_smoothing", "average", "drop_last", "views", "class_weight",
    "validation", "max_bytes", "size", "save", "checkpoint", "quiet", "json", "live",
    "mpi",
)  # fmt: skip


def add(verbs: Any) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "train",
        help="train a network and tell its accuracy on images that it has not seen",
        description="Train a network on a data set and tell its accuracy on the set's own test images, or on a "
        "held-out fifth. The images that are held out choose nothing.",
        allow_abbrev=False,
    )
    data = parser.add_argument(
        "data", metavar="DATA",
        help="digits, scikit-learn's 1797 images of 8 x 8 pixels; mnist, fashion-mnist or cifar10, a folder of that "
        "name (or cifar-10-batches-bin) in the one that the environment variable FASTCNN_DATA names; or a path: a "
        "folder of IDX files (as MNIST's), one file of an IDX pair, an NPZ file, a file or folder of the binary CIFAR, "
        "a folder with a folder of images per class",
    )  # fmt: skip
    completes(data, "DATA", files=True)
    parser.add_argument(
        "--recipe", choices=("default", "quick", "long", "notebook"), default="default",
        help="default: what suits the data; quick: for mnist and cifar10, in a part of the time; long: for "
        "fashion-mnist and cifar10, several times as long; notebook: for digits, one convolution, SGD at 0.001, up to "
        "100 epochs",
    )  # fmt: skip
    parser.add_argument(
        "--engine", choices=("fastcnn", "reference"), default="fastcnn",
        help="who computes the notebook: fastcnn (the default) or the loops of reference/",
    )  # fmt: skip
    parser.add_argument("--epochs", type=whole(1), metavar="N", help="passes over the training images (a path 10)")
    parser.add_argument("--batch-size", type=whole(1), metavar="N", help="images in a step (digits 32, a path 128)")
    parser.add_argument("--learning-rate", type=between(0), metavar="RATE", help="(notebook 0.001; else by optimizer)")
    model = parser.add_argument(
        "--model", metavar="NAME", help="a network of fastcnn.models (digits_default, compact, ...)"
    )
    completes(model, "MODELS")
    optimizer = parser.add_argument(
        "--optimizer", metavar="NAME", help="sgd, momentum, adam, adamw, rmsprop, lion, muon, record (momentum)"
    )
    completes(optimizer, "OPTIMIZERS")
    schedule = parser.add_argument(
        "--schedule", metavar="NAME", help="constant, cosine, one-cycle, step, triangle, exponential (one-cycle)"
    )
    completes(schedule, "SCHEDULES")
    parser.add_argument(
        "--augment", metavar="WORDS",
        help="changes of the images, such as flip,shift=2,rotation=10,scale=0.1,cutout=8,mixup=0.2, "
        "crop=0.25,color_jitter=0.4:0.4:0.4:0.1,cutmix=1; none (the default)",
    )  # fmt: skip
    share = between(0, 1)
    parser.add_argument(
        "--label-smoothing",
        type=between(0, 1, with_low=True),
        metavar="SHARE",
        help="of each target for all classes (0)",
    )
    parser.add_argument("--average", metavar="NAME", help="of the weights: none, ema, lookahead (none)")
    parser.add_argument("--drop-last", action="store_true", default=None, help="leave out a last smaller batch (not)")
    parser.add_argument(
        "--views", metavar="WORDS",
        help="test by the mean for several views of each image, such as flip,shift=1 (one); then only at the end",
    )  # fmt: skip
    parser.add_argument(
        "--class-weight", choices=("balanced",),
        help="balanced: a class counts as much as any other, however many images it has (every image counts alike)",
    )  # fmt: skip
    parser.add_argument("--size", type=size, metavar="HxW", help="height and width of a folder's images (their own)")
    parser.add_argument("--save", metavar="FILE", help="write the network to a file, for evaluate and predict (none)")
    parser.add_argument(
        "--checkpoint", metavar="FILE",
        help="keep the state of the run in a file, from which the same command goes on if it is there (none)",
    )  # fmt: skip
    parser.add_argument("--validation", type=share, metavar="SHARE", help="to hold out (0.2 without a test set)")
    parser.add_argument(
        "--live", type=port, nargs="?", const=0, metavar="PORT",
        help="show the training in a browser on this machine, at a port of its own or this one (no page)",
    )  # fmt: skip
    add_max_bytes(parser)
    parser.add_argument(
        "--mpi", action="store_true", default=None,
        help="train together with the other ranks that mpiexec or srun has started: mpiexec -n 4 python -m mpi4py -m "
        "fastcnn train DATA --mpi (alone)",
    )  # fmt: skip
    parser.add_argument("--quiet", action="store_true", default=None, help="write the last line only (a line an epoch)")
    add_common(parser, "a line of JSON an epoch")
    parser.add_argument("--seed", type=whole(0, 2**32 - 1), metavar="N", help="of weights, order and shifts (0)")
    add_threads(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Train, and write what comes of it; with --mpi together with the other ranks."""
    options.ranks = None
    if not options.mpi:
        _run(options)
        return
    if options.live is not None:
        raise CommandError("--live: expected one process; --mpi makes several")
    from .ranks import one_speaks

    with one_speaks() as options.ranks:
        options.quiet = options.quiet or bool(options.ranks and options.ranks.rank)
        _run(options)


def _run(options: argparse.Namespace) -> None:
    began = time.perf_counter()
    from ..runtime.threads import set_num_threads

    path = source(options.data, options.recipe)
    ranks: Communicator | None = options.ranks
    for option in ("save", "checkpoint"):
        if getattr(options, option) is not None and not (ranks and ranks.rank):
            check_target(f"--{option}", getattr(options, option))
    set_num_threads(options.threads)
    if options.recipe == "notebook":
        _train_as_the_notebook(options)
    elif options.engine != "fastcnn":
        raise CommandError(f"--engine {options.engine} takes --recipe notebook: the loops are too slow for the others")
    else:
        _train_by_plan(options, path, began)


def _engine(name: str) -> Any:
    """Return the package that computes."""
    try:
        engine = importlib.import_module(name)
        engine.MaxPool2  # noqa: B018  (a package of the same name may be somebody else's)
    except (ImportError, AttributeError):
        raise CommandError("--engine reference: the loops are not installed; run this in a clone of fastcnn") from None
    return engine


def _train_as_the_notebook(options: argparse.Namespace) -> None:
    """Train as the notebook does, with its lines."""
    from ..data.sets import hold_out, load_digits
    from ..training.progress import progress
    from .notebook import Notebook

    if options.data != "digits":
        raise CommandError(f"--recipe notebook: there is one for digits; got {reprlib.repr(options.data)}")
    for name in CHOICES:
        if getattr(options, name) is not None:
            raise CommandError(f"--{name.replace('_', '-')}: the notebook's recipe leaves no choice")
    given = {name: getattr(options, name) for name in ("epochs", "batch_size", "learning_rate", "seed")}
    settings = replace(Notebook.defaults, **{name: value for name, value in given.items() if value is not None})
    recipe = Notebook(settings, _engine(options.engine))
    X, X_test, y, y_test = hold_out(*load_digits())
    # A loss that is not finite is an error here: one line, and no words on the way to it.
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning), progress(settings.steps(len(X))) as shown:
        for epoch in recipe.train(X, y, shown.advance):
            if not math.isfinite(epoch.loss):
                words = f"the loss is not finite in epoch {epoch.number}; try a smaller --learning-rate"
                raise CommandError(words, status=1)
            shown.write(f"Epoch {epoch.number} | Loss: {epoch.loss:.4f} | Accuracy: {epoch.accuracy:.2%}")
    print(f"Test Accuracy: {(recipe.predict(X_test) == y_test).mean():.2%} | Digest: {recipe.digest()}")


def _plan(options: argparse.Namespace) -> Plan:
    """Return the plan for the data, with what the command line says otherwise."""
    from ..data.viewing import as_views
    from . import recipes as plans

    chosen = {field.name: getattr(options, field.name, None) for field in fields(plans.Plan)}
    usual = plans.PLANS.get((options.data, options.recipe), plans.Plan())
    plan = replace(usual, **{name: value for name, value in chosen.items() if value is not None})
    try:
        plans.augmentation(plan.augment)
    except ValueError as error:
        raise CommandError(f"--augment: {error}") from None
    if plan.views is not None:
        try:
            as_views(plan.views, "train")
        except ValueError as error:
            raise CommandError(f"--views: {str(error).removeprefix('train: views: ')}") from None
    for option, known in (
        ("model", plans.model_names()),
        ("optimizer", plans.OPTIMIZERS),
        ("schedule", plans.SCHEDULES),
        ("average", plans.AVERAGES),
    ):
        if getattr(plan, option) not in (None, *known):
            given = getattr(plan, option)
            words = f"--{option}: expected one of {', '.join(known)}; got {given!r}{meant(given, known)}"
            raise CommandError(words)
    return plan


def _train_by_plan(options: argparse.Namespace, path: str, began: float) -> None:
    """Train by `Trainer.fit`, in a browser too where that is asked for."""
    plan = _plan(options)
    found = dataset(path, options.size, options.max_bytes, ranks=options.ranks)
    parts = split(found, options.validation)
    if (parts[1] == parts[1][0]).all():
        print(f"fastcnn train: {path}: all images are of one class: there is nothing to tell apart", file=sys.stderr)
    if options.live is None:
        _train_parts(options, plan, found.classes, parts, began, None)
        return
    from .live import interruptible, live_page

    with live_page(parts[2][:2000], parts[3][:2000], found.classes, options.live, "--live") as page:
        aside = sys.stderr if options.json or options.quiet else sys.stdout
        print(f"Open {page.url} in a browser on this machine to see the training.", file=aside, flush=True)
        _train_parts(options, plan, found.classes, parts, began, page)
        if page.watched:
            print("The page stays as long as a browser looks at it; Ctrl-C ends it.", file=aside, flush=True)
            with suppress(KeyboardInterrupt), interruptible():
                page.wait(while_watched=True)


def _train_parts(
    options: argparse.Namespace, plan: Plan, classes: list[str], parts: tuple[Any, ...], began: float, page: Any
) -> None:
    """Train, test and save."""
    from ..training.loop import INTERRUPTED
    from ..training.progress import saying
    from . import recipes as plans

    X, y, X_held, y_held = parts
    if plan.drop_last and len(X) < plan.batch_size:
        raise CommandError(f"--drop-last: expected at least a batch of {plan.batch_size} images; got {len(X)}")
    batches: dict[str, Any] = {"batch_size": plan.batch_size, "augmentation": plans.augmentation(plan.augment),
                               "drop_last": plan.drop_last}  # fmt: skip
    measured: dict[str, Any] = {} if plan.views else {"X_val": X_held, "y_val": y_held}
    weight = plans.balanced(y, len(classes)) if options.class_weight else None

    def trainer() -> Trainer:
        seed = options.seed or 0
        made = plan.trainer(len(X), X.shape[1:], len(classes), seed, options.threads, class_weight=weight, X=X)
        made.communicator = options.ranks
        return made

    def rehearse() -> None:
        few = slice(0, plan.batch_size)
        held = {name: array[few] for name, array in measured.items()}
        trainer().fit(X[few], y[few], epochs=1, verbose=0, **held, **batches)

    try:
        if options.quiet or options.json:
            rehearse()
        else:
            print(f"{len(X)} images to train on, {len(X_held)} held out.")
            with saying("Loading the kernels (the first run compiles them)"):
                rehearse()
            if options.checkpoint and Path(options.checkpoint).exists():
                print(f"Going on from {options.checkpoint}.")
        chosen = trainer()
        with _first_ends_the_fit():
            _fit(chosen, options, plan.steps(len(X)), classes, (X_held, y_held), page, X=X, y=y, epochs=plan.epochs,
                 checkpoint=options.checkpoint, **measured, **batches)  # fmt: skip
    except BrokenPipeError:
        raise
    except (FloatingPointError, TypeError, ValueError, OSError) as error:
        raise CommandError(str(error), status=1) from None
    history = chosen.history
    if history is None or not len(history):
        raise CommandError(f"interrupted{_by_whom(options.ranks)}", status=130)
    about = {
        "data": options.data, "size": "x".join(map(str, options.size)) if options.size else None, "dtype": str(X.dtype),
        "images": len(X), "held_out": len(X_held), "validation": options.validation, "classes": classes,
        "seed": options.seed or 0, "recipe": asdict(plan), "class_weight": options.class_weight, "epochs": len(history),
    }  # fmt: skip
    _tell(chosen, options, X_held, y_held, about, plan.views, began)
    if history.stopped == INTERRUPTED:
        raise CommandError(f"interrupted{_by_whom(options.ranks)}", status=130)


def _by_whom(ranks: Communicator | None) -> str:
    return "" if ranks is None or ranks.interrupted is None else f" by Ctrl-C on rank {ranks.interrupted}"


def _tell(
    trainer: Trainer,
    options: argparse.Namespace,
    X: Array | Rows,
    y: IntArray,
    about: dict[str, Any],
    views: str | None,
    began: float,
) -> None:
    """Write what has come of the training, and save the network."""
    from .. import measures

    history: History = trainer.history  # type: ignore[assignment]
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
        raise CommandError(f"--save: {error}", status=1) from None


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
    """Train, with a line an epoch as the options want it."""
    from ..training.callbacks import Callback, Run
    from ..training.progress import progress

    class Shown(Callback):
        def batch(self, run: Run) -> None:
            shown.advance()

        def epoch(self, run: Run, epoch: FitEpoch) -> None:
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


@contextmanager
def _first_ends_the_fit() -> Iterator[None]:
    """Let the first Ctrl-C end the fit after its step, and a second one the process."""
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or getattr(handler, "__name__", "") != "leave":
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        assert callable(handler)
        handler(signal.SIGINT, None)
    finally:
        signal.signal(signal.SIGINT, handler)
