"""The command line: `fastcnn train digits`, or a path.

Exit status: 0 done, 1 the run failed, 2 the command makes no sense, 130 interrupted. An error is one line on standard
error.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import reprlib
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from .. import __version__

# The engine is imported by the verbs, when they run: `--help` does not wait for it, and Ctrl-C ends it quietly.
if TYPE_CHECKING:
    from ..data.sets import Dataset
    from ..history import Epoch as FitEpoch
    from ..training.feed import Rows
    from ..training.trainer import Trainer
    from ..typing import Array, IntArray
    from .recipes import Plan

EXAMPLES = """\
examples:
  fastcnn train digits                                      a small network, in seconds
  fastcnn train digits --seed 1 --threads 1
  fastcnn train digits --recipe notebook                    the notebook, line by line
  fastcnn train digits --recipe notebook --engine reference the same with loops (in a clone)
  fastcnn train mnist                                       from $FASTCNN_DATA/mnist, in two minutes
  fastcnn train fashion-mnist --recipe long                 from $FASTCNN_DATA/fashion-mnist, in seven
  fastcnn train data/emnist --augment shift=2,rotation=10   a folder with IDX files
  fastcnn train images/ --model resnet20 --validation 0.1   a folder of images for each class
  fastcnn train cifar-10-batches-bin --augment flip,shift=4 --optimizer adamw --schedule cosine --json
"""

CHOICES = ("model", "optimizer", "schedule", "augment", "label_smoothing", "validation", "max_bytes", "quiet", "json")


class CommandError(Exception):
    """A command that makes no sense (exit status 2), or a run that failed (1)."""

    def __init__(self, message: str, status: int = 2) -> None:
        super().__init__(message)
        self.status = status


class _Parser(argparse.ArgumentParser):
    """An argument parser that complains in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {' '.join(message.split())}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    command = "fastcnn"
    try:
        options = _parser().parse_args(arguments)
        command += f" {options.verb}"
        with _interruptible(command):
            options.run(options)
    except CommandError as error:
        print(f"{command}: {error}", file=sys.stderr)
        return error.status
    except BrokenPipeError:
        # The reader has gone (`| head`); the flush at the end of the process shall not complain about it either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


@contextmanager
def _interruptible(command: str) -> Iterator[None]:
    """Let Ctrl-C end the process at once, with one line.

    An exception would not do: while kernels are compiled it can be lost in a callback, or come out as another error.
    """

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        line = f"{command}: interrupted\n"
        os.write(2, (f"\n{line}" if os.isatty(2) else line).encode())
        os._exit(130)

    # Whoever has a handler of its own, ignores the signal (nohup), or calls this from another thread, is left alone.
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not (ours and threading.current_thread() is threading.main_thread()):
        yield
        return
    signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="fastcnn",
        description="Convolutional networks on CPUs.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"fastcnn {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, title="commands", metavar="COMMAND")
    _add_train(verbs)
    return parser


def _add_train(verbs: Any) -> None:
    parser = verbs.add_parser(
        "train",
        help="train a network and tell its accuracy on images that it has not seen",
        description="Train a network on a data set and tell its accuracy on the set's own test images, or on a "
        "held-out fifth. The images that are held out choose nothing.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "data", metavar="DATA",
        help="digits, scikit-learn's 1797 images of 8 x 8 pixels; mnist or fashion-mnist, a folder of that name in the "
        "one that the environment variable FASTCNN_DATA names; or a path: a folder of IDX files (as MNIST's), one file "
        "of an IDX pair, an NPZ file, a file or folder of the binary CIFAR, a folder with a folder of images per class",
    )  # fmt: skip
    parser.add_argument(
        "--recipe", choices=("default", "long", "notebook"), default="default",
        help="default: what suits the data; long: for fashion-mnist, seven minutes in place of two; "
        "notebook: for digits, one convolution, SGD at 0.001, up to 100 epochs",
    )  # fmt: skip
    parser.add_argument(
        "--engine", choices=("fastcnn", "reference"), default="fastcnn",
        help="who computes the notebook: fastcnn (the default) or the loops of reference/",
    )  # fmt: skip
    parser.add_argument("--epochs", type=_whole(1), metavar="N", help="passes over the training images")
    parser.add_argument("--batch-size", type=_whole(1), metavar="N", help="images in a step (digits 32, a path 128)")
    parser.add_argument("--learning-rate", type=_between(0), metavar="RATE", help="(notebook 0.001; else by optimizer)")
    parser.add_argument("--model", metavar="NAME", help="a network of fastcnn.models (digits_default, compact, ...)")
    parser.add_argument("--optimizer", metavar="NAME", help="sgd, momentum, adam, adamw, rmsprop, lion (momentum)")
    parser.add_argument("--schedule", metavar="NAME", help="constant, cosine, one-cycle, step, exponential (one-cycle)")
    parser.add_argument(
        "--augment", metavar="WORDS",
        help="changes of the images, such as flip,shift=2,rotation=10,scale=0.1,cutout=8,mixup=0.2; none (the default)",
    )  # fmt: skip
    share = _between(0, 1)
    parser.add_argument("--label-smoothing", type=share, metavar="SHARE", help="of each target for all classes (0)")
    parser.add_argument("--validation", type=share, metavar="SHARE", help="to hold out (0.2 without a test set)")
    parser.add_argument(
        "--max-bytes", type=_whole(1), metavar="N", help="the most that a packed file may take in memory (1000 for 1)"
    )
    parser.add_argument("--quiet", action="store_true", default=None, help="write the last line only")
    parser.add_argument("--json", action="store_true", default=None, help="write a line of JSON an epoch, nothing else")
    parser.add_argument("--seed", type=_whole(0, 2**32 - 1), metavar="N", help="of weights, order and shifts (0)")
    parser.add_argument(
        "--threads", type=_whole(1), metavar="N",
        help="the most threads (all processors; fewer where OMP_NUM_THREADS or a variable like it says so)",
    )  # fmt: skip
    parser.set_defaults(run=_train)


def _whole(least: int, most: float = math.inf) -> Callable[[str], int]:
    """Return a reader of whole numbers."""
    wanted = f"of at least {least}" if most == math.inf else f"from {least} to {most}"

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"expected a whole number {wanted}; got {reprlib.repr(text)}")
        return value

    return read


def _between(low: float, high: float = math.inf) -> Callable[[str], float]:
    """Return a reader of numbers between two, neither of them included."""
    wanted = f"above {low:g}" if high == math.inf else f"between {low:g} and {high:g}"

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low < value < high:
            raise argparse.ArgumentTypeError(f"expected a number {wanted}; got {reprlib.repr(text)}")
        return value

    return read


def _train(options: argparse.Namespace) -> None:
    """Train, and write what comes of it."""
    began = time.perf_counter()
    from .. import set_num_threads

    source = _source(options.data, options.recipe)
    set_num_threads(options.threads)
    if options.recipe == "notebook":
        _train_as_the_notebook(options)
    elif options.engine != "fastcnn":
        raise CommandError(f"--engine {options.engine} takes --recipe notebook: the loops are too slow for the others")
    else:
        _train_by_plan(options, source, began)


def _source(name: str, recipe: str) -> str:
    """Return what to load: a name, or the path of something that is there."""
    from ..data import sets as data
    from . import recipes as plans

    recipes = [known for known in plans.PLANS if known[0] == name]
    if recipe == "long" and (name, recipe) not in recipes:
        having = ", ".join(data for data, known in plans.PLANS if known == recipe)
        raise CommandError(f"--recipe long: there is one for {having}; got {reprlib.repr(name)}")
    if name in data.LOADERS:
        return name
    path = os.path.join(os.environ.get("FASTCNN_DATA", ""), name) if recipes else name
    if os.path.exists(path):
        return path
    if recipes:
        raise CommandError(f"{name}: no folder {path!r}; name the folder that has it in FASTCNN_DATA")
    known = ", ".join(dict.fromkeys(data for data, _ in plans.PLANS))
    raise CommandError(f"unknown data {reprlib.repr(name)}; known: {known}, or the path of a file or folder")


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
    from . import recipes as plans

    given = {field.name: getattr(options, field.name) for field in fields(plans.Plan)}
    usual = plans.PLANS.get((options.data, options.recipe), plans.Plan())
    plan = replace(usual, **{name: value for name, value in given.items() if value is not None})
    try:
        plans.augmentation(plan.augment)
    except ValueError as error:
        raise CommandError(f"--augment: {error}") from None
    for option, known in (
        ("model", plans.model_names()),
        ("optimizer", plans.OPTIMIZERS),
        ("schedule", plans.SCHEDULES),
    ):
        if getattr(plan, option) not in (None, *known):
            raise CommandError(f"--{option}: expected one of {', '.join(known)}; got {getattr(plan, option)!r}")
    return plan


def _train_by_plan(options: argparse.Namespace, source: str, began: float) -> None:
    """Train by `Trainer.fit`."""
    from ..data.sets import DataError, load
    from . import recipes as plans

    plan = _plan(options)
    try:
        found = load(source, options.max_bytes)
    except (DataError, OSError) as error:
        raise CommandError(str(error), status=1) from None
    X, y, X_held, y_held = _split(found, options.validation)
    batches: dict[str, Any] = {"batch_size": plan.batch_size, "augmentation": plans.augmentation(plan.augment)}

    def trainer() -> Trainer:
        return plan.trainer(len(X), X.shape[1:], len(found.classes), options.seed or 0, options.threads)

    def rehearse() -> None:
        few = slice(0, plan.batch_size)
        trainer().fit(X[few], y[few], epochs=1, X_val=X_held[few], y_val=y_held[few], verbose=0, **batches)

    try:
        if options.quiet or options.json:
            rehearse()
        else:
            print(f"{len(X)} images to train on, {len(X_held)} held out.")
            with _timed("Loading the kernels (the first run compiles them) ... "):
                rehearse()
        chosen = trainer()
        with _first_ends_the_fit():
            _fit(chosen, options, plan.steps(len(X)), X=X, y=y, X_val=X_held, y_val=y_held, epochs=plan.epochs,
                 **batches)  # fmt: skip
    except (FloatingPointError, TypeError, ValueError) as error:
        raise CommandError(str(error), status=1) from None
    history = chosen.history
    if history is None or not len(history):
        raise CommandError("interrupted", status=130)
    if not options.json:
        accuracy = history.epochs[-1].val_accuracy
        if math.isnan(accuracy):  # an epoch that was interrupted
            accuracy = chosen.evaluate(X_held, y_held).accuracy
        seconds, total = sum(epoch.seconds for epoch in history), time.perf_counter() - began
        measured = f"Test Accuracy: {accuracy:.2%} | {seconds:.2f} s of training, {total:.2f} s in all"
        print(f"{measured} | Digest: {chosen.model.digest()}")
    if history.stopped:
        raise CommandError("interrupted", status=130)


@contextmanager
def _timed(words: str) -> Iterator[None]:
    """Write what is done, and behind it how long it took; the line ends whatever happens."""
    print(words, end="", flush=True)
    before, took = time.perf_counter(), ""
    try:
        yield
        took = f"{time.perf_counter() - before:.1f} s"
    finally:
        print(took, flush=True)


def _split(found: Dataset, share: float | None) -> tuple[Array | Rows, IntArray, Array | Rows, IntArray]:
    """Return the images to train on and those to measure on: a share of the training images, or the test set."""
    from ..data.sets import hold_out
    from ..training.feed import Rows

    if share is None and found.X_test is not None and found.y_test is not None:
        return found.X, found.y, found.X_test, found.y_test
    share = 0.2 if share is None else share
    if not 0 < math.ceil(share * len(found.X)) < len(found.X):
        raise CommandError(f"--validation {share:g}: nothing is left of {len(found.X)} images to train on", status=1)
    chosen, held, y, y_held = hold_out(range(len(found.X)), found.y, share)
    return Rows(found.X, chosen), y, Rows(found.X, held), y_held


def _fit(trainer: Trainer, options: argparse.Namespace, steps: int, **arguments: Any) -> None:
    """Train, with a line an epoch as the options want it."""
    from ..training.callbacks import Callback, Run
    from ..training.progress import progress

    class Shown(Callback):
        def batch(self, run: Run) -> None:
            shown.advance()

        def epoch(self, run: Run, epoch: FitEpoch) -> None:
            if options.json:
                values = {name: value if math.isfinite(value) else None for name, value in epoch._asdict().items()}
                print(json.dumps({**values, "digest": trainer.model.digest()}), flush=True)
                return
            held_out = "" if math.isnan(epoch.val_accuracy) else f" | Held-out: {epoch.val_accuracy:.2%}"
            shown.write(
                f"Epoch {epoch.epoch} | Loss: {epoch.loss:.4f} | Accuracy: {epoch.accuracy:.2%}{held_out} | "
                f"{epoch.images_per_second:,.0f} images/s"
            )

    with progress(steps, quiet=options.quiet or options.json) as shown:
        trainer.fit(**arguments, callbacks=[Shown()], verbose=0)


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
