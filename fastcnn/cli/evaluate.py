"""`fastcnn evaluate`: how good a saved network is on a data set, as a whole and class by class."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .common import (
    SHARE,
    CommandError,
    add_common,
    add_model_and_data,
    add_threads,
    add_views,
    dataset,
    meant,
    source,
)

if TYPE_CHECKING:
    from ..data.sets import Dataset
    from ..typing import IntArray
    from .opened import Opened


def add(verbs: Any) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "evaluate",
        help="tell how good a saved network is on a data set",
        description="Tell accuracy, loss, and precision and recall of each class, of a network that train --save or "
        "fastcnn.save has written. The images are the data set's own test images; where it has none, those that the "
        "training held out, if it was on this data, and otherwise all.",
        allow_abbrev=False,
    )
    add_model_and_data(parser)
    parser.add_argument("--confusion", action="store_true", help="write the confusion matrix too (not)")
    add_views(parser)
    add_common(parser, "one line of JSON")
    add_threads(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Evaluate, and write the results."""
    path = source(options.data)
    from .. import measures
    from .opened import Opened

    opened = Opened(options.model)
    names = opened.expect_classes()
    found = dataset(path, options.size, options.max_bytes)
    X, y, which = part(found, options, opened)
    y = as_the_models(y, found.classes, opened, options.data)
    X = fitting(X, opened, options.data)
    probabilities = opened.outputs(X, options.threads, options.views)
    matrix = measures.confusion(y, probabilities.argmax(axis=1), len(names))
    loss = measures.cross_entropy(probabilities, y)
    if options.json:
        print(json.dumps(_as_json(matrix, loss, names, confusion=options.confusion)))
        return
    for line in _lines(matrix, names, confusion=options.confusion):
        print(line)
    beside = f" ({measures.recall_words(matrix, names)})" if measures.needs_recall(matrix) else ""
    print(f"Accuracy: {measures.accuracy(matrix):.2%}{beside} | Loss: {loss:.4f} | {len(y)} {which}images")


def part(found: Dataset, options: argparse.Namespace, opened: Opened) -> tuple[Any, IntArray, str]:
    """Return the images to measure on, their classes, and a word on the images: "held-out " where training has others.

    Without a share and a test set these are the images that training held out, if it was on this data, so that no image
    is counted as known that the network has learned.
    """
    from .fitting import split

    share: float | None = options.validation
    if share is None and (found.X_test is None or found.y_test is None):
        share = held_out(found, options.data, opened.about)
        if share is None:
            return found.X, found.y, ""
    _, _, X, y = split(found, share)
    return X, y, "" if options.validation is None and found.X_test is not None else "held-out "


def held_out(found: Dataset, data: str, about: Mapping[str, Any]) -> float | None:
    """Return the share of the data that a training held out, by what its file says; None if it was on other data."""
    known = (about.get("data"), about.get("classes"), about.get("images"), about.get("held_out"))
    if not isinstance(known[0], str) or not isinstance(known[2], int) or not isinstance(known[3], int):
        return None  # the file says nothing of its training
    if Path(known[0]).name != Path(data).name or known[1] != found.classes or known[2] + known[3] != len(found.X):
        return None
    share = about.get("validation") or SHARE
    return share if isinstance(share, float) and math.ceil(share * len(found.X)) == known[3] else None


def as_the_models(y: IntArray, names: list[str], opened: Opened, data: str) -> IntArray:
    """Return classes as the model counts them, by their names."""
    import numpy as np

    known = opened.expect_classes()
    present = [names[number] for number in np.unique(y)]
    for name in present:
        if name not in known:
            words = f"{data}: its class {name!r} is none of the model's: {', '.join(known)[:200]}{meant(name, known)}"
            raise CommandError(words, status=1)
    return np.array([known.index(name) if name in known else -1 for name in names])[y]


def fitting(X: Any, opened: Opened, data: str) -> Any:
    """Return images of the model's shape; grey ones for a model of colours become grey in all of them."""
    import numpy as np

    shape, wanted = X.shape[1:], opened.shape
    if opened.kind in ("CNNClassifier", "CNNRegressor") and np.prod(shape) == np.prod(wanted):
        return X
    if len(shape) == 1 and shape[0] == np.prod(wanted):
        return X[:].reshape(-1, *wanted)
    if len(shape) == len(wanted) == 3:
        if shape[1:] != wanted[1:]:
            advice = f"; --size {wanted[1]}x{wanted[2]} brings the images of a folder to that"
            raise CommandError(
                f"{data}: images of {shape[1]} x {shape[2]} pixels; the model takes {wanted[1]} x {wanted[2]}{advice}",
                status=1,
            )
        if shape[0] == 1 and wanted[0] == 3:
            return np.repeat(X[:], 3, axis=1)
    if shape != wanted:
        raise CommandError(f"{data}: samples of shape {shape}; the model takes {wanted}", status=1)
    return X


def _lines(matrix: IntArray, names: list[str], *, confusion: bool) -> list[str]:
    """Return precision and recall of each class as a table, and the confusion matrix."""
    from .. import measures

    rows = [
        (name, measures.percent(p), measures.percent(r), f"{count:,}")
        for name, p, r, count in measures.by_class(matrix, names)
    ]
    lines = measures.table([("class", "precision", "recall", "images"), *rows])
    if confusion:
        columns = [(name, *row) for name, row in zip(names, matrix.tolist(), strict=True)]
        lines += ["", "rows: the class; columns: what it was taken for", *measures.table([("", *names), *columns])]
    return lines


def _as_json(matrix: IntArray, loss: float, names: list[str], *, confusion: bool) -> dict[str, Any]:
    from .. import measures

    by_class = {
        name: {"precision": p, "recall": r, "images": count} for name, p, r, count in measures.by_class(matrix, names)
    }
    known = {"accuracy": measures.accuracy(matrix), "loss": loss, "images": int(matrix.sum())}
    whole = {"confusion": matrix.tolist()} if confusion else {}
    return {**known, "majority": measures.majority(matrix), "classes": by_class, **whole}
