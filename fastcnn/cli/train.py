"""`fastcnn train`: a network is trained on a data set, tested on images that it has not seen, and saved."""

from __future__ import annotations

import argparse
import importlib
import math
import reprlib
import sys
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from . import interrupts
from .common import (
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
from .fitting import as_images, split, train_and_tell

if TYPE_CHECKING:
    from ..ranks.communicator import Communicator
    from .recipes import Recipe

CHOICES = (
    "model", "optimizer", "schedule", "augment", "label_smoothing", "average", "drop_last", "views", "class_weight",
    "validation", "max_bytes", "size", "save", "checkpoint", "quiet", "json", "live",
    "mpi",
)  # fmt: skip

VIEWS = ("flip", "vertical-flip", "shift", "crop")


def add(verbs: Any) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "train",
        help="train a network and tell its accuracy on images that it has not seen",
        description="Train a network on a data set and tell its accuracy on the set's own test images, or on a "
        "held-out fifth. The images that are held out choose nothing.",
        allow_abbrev=False,
    )
    _add_data(parser)
    _add_recipe(parser)
    _add_images(parser.add_argument_group("images"))
    _add_network(parser.add_argument_group("network and training"))
    _add_files(parser.add_argument_group("files and pages"))
    add_common(parser, "a line of JSON an epoch")
    parser.add_argument("--quiet", action="store_true", default=None, help="write the last line only (a line an epoch)")
    parser.add_argument("--seed", type=whole(0, 2**32 - 1), metavar="N", help="of weights, order and shifts (0)")
    add_threads(parser)
    parser.add_argument(
        "--mpi", action="store_true", default=None,
        help="train together with the other ranks that mpiexec or srun has started: mpiexec -n 4 python -m mpi4py -m "
        "fastcnn train DATA --mpi (alone)",
    )  # fmt: skip
    parser.set_defaults(run=run)


def _add_data(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument(
        "data", metavar="DATA",
        help="digits, scikit-learn's 1797 images of 8 x 8 pixels; mnist, fashion-mnist or cifar10, a folder of that "
        "name (or cifar-10-batches-bin) in the one that the environment variable FASTCNN_DATA names; or a path: a "
        "folder of IDX files (as MNIST's), one file of an IDX pair, an NPZ file, a file or folder of the binary CIFAR, "
        "a folder with a folder of images per class",
    )  # fmt: skip
    completes(data, "DATA", files=True)


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--recipe", choices=("default", "quick", "long", "notebook"), default="default",
        help="default: what suits the data; quick: for mnist and cifar10, in a part of the time; long: for "
        "fashion-mnist and cifar10, several times as long; notebook: for digits, one convolution, SGD at 0.001, up to "
        "100 epochs",
    )  # fmt: skip
    parser.add_argument(
        "--engine", choices=("fastcnn", "reference"), default="fastcnn",
        help="what computes the notebook: fastcnn (the default) or the loops of reference/",
    )  # fmt: skip


def _add_images(group: argparse._ArgumentGroup) -> None:
    """Add the options that say which images are taken, and what is done to them."""
    group.add_argument("--size", type=size, metavar="HxW", help="height and width of a folder's images (their own)")
    add_max_bytes(group)
    share = between(0, 1)
    group.add_argument("--validation", type=share, metavar="SHARE", help="to hold out (0.2 without a test set)")
    group.add_argument(
        "--augment", metavar="WORDS",
        help="changes of the images, such as flip,shift=2,rotation=10,scale=0.1,cutout=8,mixup=0.2, "
        "crop=0.25,color_jitter=0.4:0.4:0.4:0.1,cutmix=1; none (the default)",
    )  # fmt: skip
    group.add_argument(
        "--views", metavar="WORDS",
        help="test by the mean for several views of each image, such as flip,shift=1 (one); then only at the end",
    )  # fmt: skip


def _add_network(group: argparse._ArgumentGroup) -> None:
    """Add the options that say which network is trained, for how long and by which rule."""
    group.add_argument(
        "--epochs", type=whole(1), metavar="N", help="passes over the training images (a path 10, few images more)"
    )
    group.add_argument(
        "--batch-size", type=whole(1), metavar="N", help="images in a step (digits 32, a path 128, few images fewer)"
    )
    group.add_argument("--learning-rate", type=between(0), metavar="RATE", help="(notebook 0.001; else by optimizer)")
    for option, table, words in (
        ("--model", "MODELS", "a network of fastcnn.models (digits_default, compact, ...)"),
        (
            "--optimizer",
            "OPTIMIZERS",
            "sgd, momentum, adam, adamw, rmsprop, lion, muon, muon-record, record (momentum)",
        ),
        ("--schedule", "SCHEDULES", "constant, cosine, one-cycle, step, linear, triangle, exponential (one-cycle)"),
        ("--average", "AVERAGES", "of the weights: none, ema, lookahead (none)"),
    ):
        completes(group.add_argument(option, metavar="NAME", help=words), table)
    smoothing = between(0, 1, with_low=True)
    group.add_argument("--label-smoothing", type=smoothing, metavar="SHARE", help="of each target for all classes (0)")
    group.add_argument("--drop-last", action="store_true", default=None, help="leave out a last smaller batch (not)")
    group.add_argument(
        "--class-weight", choices=("balanced",),
        help="balanced: a class counts as much as any other, however many images it has (every image counts alike)",
    )  # fmt: skip


def _add_files(group: argparse._ArgumentGroup) -> None:
    """Add the options that say where the network, the state of the run and its page are."""
    group.add_argument("--save", metavar="FILE", help="write the network to a file, for evaluate and predict (none)")
    group.add_argument(
        "--checkpoint", metavar="FILE",
        help="keep the state of the run in a file, from which the same command goes on if it is there (none)",
    )  # fmt: skip
    group.add_argument(
        "--live", type=port, nargs="?", const=0, metavar="PORT",
        help="show the training in a browser on this machine, at a port of its own or this one (no page)",
    )  # fmt: skip


def run(options: argparse.Namespace) -> None:
    """Train, and write the results; with --mpi together with the other ranks."""
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
        _train_by_recipe(options, path, began)


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


def _recipe(options: argparse.Namespace) -> Recipe:
    """Return the recipe for the data, with what the command line says otherwise."""
    from ..data.viewing import as_views
    from . import recipes

    chosen = {field.name: getattr(options, field.name, None) for field in fields(recipes.Recipe)}
    usual = recipes.RECIPES.get((options.data, options.recipe), recipes.Recipe())
    recipe = replace(usual, **{name: value for name, value in chosen.items() if value is not None})
    try:
        recipes.augmentation(recipe.augment)
    except ValueError as error:
        near = _meant_words(recipe.augment, recipes.augmentation_words())
        raise CommandError(f"--augment: {error}{near}") from None
    if recipe.views is not None:
        try:
            as_views(recipe.views, "train")
        except ValueError as error:
            words = str(error).removeprefix("train: views: ")
            raise CommandError(f"--views: {words}{_meant_words(recipe.views, VIEWS)}") from None
    for option, known in (
        ("model", recipes.model_names()),
        ("optimizer", recipes.OPTIMIZERS),
        ("schedule", recipes.SCHEDULES),
        ("average", recipes.AVERAGES),
    ):
        if getattr(recipe, option) not in (None, *known):
            given = getattr(recipe, option)
            words = f"--{option}: expected one of {', '.join(known)}; got {given!r}{meant(given, known)}"
            raise CommandError(words)
    return recipe


def _sized(recipe: Recipe, options: argparse.Namespace, images: int) -> Recipe:
    """Return a recipe that suits the number of images, where neither the data nor the command line has its own."""
    from . import recipes

    if (options.data, options.recipe) in recipes.RECIPES:
        return recipe
    suits = recipes.for_few(images)
    return replace(recipe, **{name: value for name, value in suits.items() if getattr(options, name) is None})


def _meant_words(text: str, known: Sequence[str]) -> str:
    """Return what was meant by the first word of a list that is not known, if one is near."""
    names = (word.strip().partition("=")[0] for word in text.split(","))
    return next((meant(name, known) for name in names if name not in known), "")


def _train_by_recipe(options: argparse.Namespace, path: str, began: float) -> None:
    """Train by `Trainer.fit`, in a browser too where that is asked for."""
    from ..data.files import shown

    recipe = _recipe(options)
    found = as_images(dataset(path, options.size, options.max_bytes, ranks=options.ranks), path)
    parts = split(found, options.validation)
    recipe = _sized(recipe, options, len(parts[0]))
    if (parts[1] == parts[1][0]).all():
        words = "all images to train on are of one class: there is nothing to tell apart"
        print(f"fastcnn train: {shown(path)}: {words}", file=sys.stderr)
    if options.live is None:
        train_and_tell(options, recipe, found.classes, parts, began, None)
        return
    from .live import live_page

    with live_page(parts[2], parts[3], found.classes, options.live, "--live") as page:
        aside = sys.stderr if options.json or options.quiet else sys.stdout
        print(f"Open {page.url} in a browser on this machine to see the training.", file=aside, flush=True)
        train_and_tell(options, recipe, found.classes, parts, began, page)
        if page.watched:
            print("The page stays as long as a browser looks at it; Ctrl-C ends it.", file=aside, flush=True)
            with suppress(KeyboardInterrupt), interrupts.raises():
                page.wait(while_watched=True)
