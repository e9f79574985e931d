"""What the verbs share: errors of one line, readers of options, and what is suggested for a misspelt word."""

from __future__ import annotations

import argparse
import difflib
import math
import os
import re
import reprlib
import shlex
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

SHARE = 0.2  # of the images that are held out where a data set has no test images
OTHER_NAMES = {"cifar10": ("cifar-10-batches-bin",)}  # of the folders of known data sets


class CommandError(Exception):
    """A command that makes no sense (exit status 2), or a run that failed (1)."""

    def __init__(self, message: str, status: int = 2) -> None:
        super().__init__(message)
        self.status = status


class Parser(argparse.ArgumentParser):
    """An argument parser that complains in one line, and suggests what was meant."""

    def _print_message(self, message: str, file: Any = None) -> None:
        (file or sys.stderr).write(message)  # argparse's own says nothing when nothing can be written

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {' '.join(message.split())}\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = ", ".join(map(str, action.choices))
            raise argparse.ArgumentError(
                action, f"expected one of {known}; got {value!r}{meant(value, action.choices)}"
            )

    def refuse(self, extra: str) -> NoReturn:
        """Complain of a word that no option takes."""
        name = extra.partition("=")[0]
        what = "unknown option" if extra.startswith("-") else "one word too many:"
        self.error(f"{what} {name!r}{meant(name, self._option_string_actions) if extra.startswith('-') else ''}")


def words_of(error: Exception) -> str:
    """Return what an error says, in a line that begins with the file's name where there is one."""
    if isinstance(error, OSError) and error.strerror:
        return f"{_printable(error.filename)}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def _printable(path: Any) -> str:
    from ..data.files import shown

    return shown(path) if isinstance(path, str | os.PathLike) else str(path)


def meant(word: Any, known: Iterable[Any]) -> str:
    """Return a question for the end of an error, if a known word is near."""
    near = difflib.get_close_matches(str(word), [str(one) for one in known], 1)
    return f"; did you mean {near[0]}?" if near else ""


def completes(action: argparse.Action, table: str, *, files: bool = False) -> None:
    """Let the shell complete an argument to the words of a table of `recipes`, and to files."""

    def complete(prefix: str, **_: Any) -> list[str]:
        from argcomplete.completers import FilesCompleter

        from . import recipes  # with the engine, only when the shell asks

        found = [word for word in getattr(recipes, table) if word.startswith(prefix)]
        return [*found, *FilesCompleter()(prefix)] if files else found

    action.completer = complete  # type: ignore[attr-defined]


def add_model_and_data(parser: argparse.ArgumentParser) -> None:
    """Add a saved network, and the data set that it is measured on or shown with."""
    parser.add_argument("model", metavar="MODEL", help="a file of train --save or fastcnn.save")
    parser.add_argument("data", metavar="DATA", help="as of train")
    parser.add_argument(
        "--validation", type=between(0, 1), metavar="SHARE",
        help="the share that train holds out by the same option (the test set; else what training held out, or all)",
    )  # fmt: skip
    parser.add_argument("--size", type=size, metavar="HxW", help="height and width for a folder's images (their own)")
    add_max_bytes(parser)


def add_common(parser: argparse.ArgumentParser, lines: str) -> None:
    """Add the options that every verb has; `lines` says what --json writes."""
    parser.add_argument("--json", action="store_true", default=None, help=f"write {lines}, nothing else (words)")


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Add the option of the threads."""
    parser.add_argument(
        "--threads", type=whole(1), metavar="N",
        help="the most threads (all processors; fewer where OMP_NUM_THREADS or a variable like it says so)",
    )  # fmt: skip


def add_views(parser: argparse.ArgumentParser) -> None:
    """Add the views of each image."""
    parser.add_argument(
        "--views", metavar="WORDS",
        help="take the mean for several views of each image: flip, vertical-flip, shift=PIXELS, crop (one view)",
    )  # fmt: skip


def add_max_bytes(parser: argparse._ActionsContainer) -> None:
    """Add the limit of packed files."""
    parser.add_argument(
        "--max-bytes", type=whole(1), metavar="N", help="the most that a packed file may take in memory (1000 for 1)"
    )


def whole(least: int, most: float = math.inf) -> Callable[[str], int]:
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


def between(low: float, high: float = math.inf, *, with_low: bool = False) -> Callable[[str], float]:
    """Return a reader of numbers between two; `high` is not included, `low` if it is asked for."""
    wanted = f"above {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
    wanted = f"from {low:g} to less than {high:g}" if with_low else wanted

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (low < value < high or (with_low and value == low)):
            raise argparse.ArgumentTypeError(f"expected a number {wanted}; got {reprlib.repr(text)}")
        return value

    return read


def port(text: str) -> int:
    """Return the number of a port."""
    try:
        return whole(1, 65535)(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, a port") from None


def size(text: str) -> tuple[int, int]:
    """Return height and width from HxW."""
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if match is None or "0" in (match[1].strip("0") or "0", match[2].strip("0") or "0"):
        raise argparse.ArgumentTypeError(f"expected HxW, height and width, such as 32x32; got {reprlib.repr(text)}")
    return int(match[1]), int(match[2])


def check_target(option: str, path: str) -> None:
    """Raise unless a file can be written there; before anything runs."""
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise CommandError(f"{option} {path}: expected the path of a file; this is none")
    if not target.parent.is_dir() or not os.access(target.parent, os.W_OK):
        raise CommandError(f"{option} {path}: expected a file in a folder that can be written to")


def source(name: str, recipe: str = "default") -> str:
    """Return what to load: a name, or the path of something that is there."""
    from ..data import sets
    from . import recipes

    having = [known for known in recipes.RECIPES if known[0] == name]
    if recipe in ("quick", "long") and (name, recipe) not in having:
        of_others = ", ".join(data for data, known in recipes.RECIPES if known == recipe)
        raise CommandError(f"--recipe {recipe}: there is one for {of_others}; got {reprlib.repr(name)}")
    if name in sets.LOADERS:
        return name
    folder = os.environ.get("FASTCNN_DATA", "")
    path = os.path.join(folder, name) if having else name
    for found in (path, *(os.path.join(folder, other) for other in OTHER_NAMES.get(name, ()))):
        if os.path.exists(found):
            return found
    if having:
        raise CommandError(f"{name}: no folder {path!r}; name the folder that has it in FASTCNN_DATA")
    known = [*dict.fromkeys(data for data, _ in recipes.RECIPES)]
    raise CommandError(
        f"unknown data {reprlib.repr(name)}; known: {', '.join(known)}, or the path of a file or folder"
        f"{meant(name, known)}"
    )


def dataset(path: str, size: tuple[int, int] | None, max_bytes: int | None, ranks: Any = None) -> Any:
    """Return the data set of a name or path; images of folders are brought to a size, and shared out among ranks."""
    from ..data import sets

    try:
        if size is None:
            return sets.load(path, max_bytes, ranks)
        if path in sets.LOADERS or not Path(path).is_dir() or any(Path(path).glob("*idx*ubyte*")):
            raise CommandError(f"--size: only the images of a folder are brought to a size; got {path}")
        return sets.load_images(path, size, max_bytes, ranks)
    except (sets.DataError, OSError) as error:
        words = words_of(error)
        if " pixels, as " in words:
            words += "; --size HxW brings all images to one size"
        raise CommandError(words, status=1) from None


def check_model(path: str, error: Exception) -> CommandError:
    """Return the error of a file that is no model, with what an ONNX file takes."""
    advice = f"; fastcnn import {shlex.quote(path)} makes a model of an ONNX file" if path.endswith(".onnx") else ""
    return CommandError(words_of(error) + advice, status=1)
