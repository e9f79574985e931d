"""`fastcnn report`: a saved classifier on a data set, as one page of HTML."""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
from typing import TYPE_CHECKING, Any

from .common import CommandError, add_common, add_model_and_data, add_threads, check_target, dataset, source, words_of

if TYPE_CHECKING:
    from ..history import History
    from .opened import Opened


def add(verbs: Any) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "report",
        help="write a page on what a saved network does on a data set",
        description="Write one HTML page, which needs nothing else, on a network of classes and a data set: curves, "
        "classes, confusion, worst mistakes with what they depend on, filters, calibration, how to reproduce it. The "
        "images are the data set's own test images; where it has none, those that the training held out, if it was on "
        "this data, and otherwise all.",
        allow_abbrev=False,
    )
    add_model_and_data(parser)
    parser.add_argument("--output", metavar="FILE", required=True, help="the page to write; an old one is replaced")
    parser.add_argument("--title", metavar="WORDS", help="of the page (the names of model and data)")
    add_common(parser, "one line of JSON")
    add_threads(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Write the page, and say so."""
    path = source(options.data)
    check_target("--output", options.output)
    import numpy as np

    from ..report.write import write_report
    from ..runtime.threads import set_num_threads
    from .evaluate import as_the_models, fitting, part
    from .opened import Opened

    set_num_threads(options.threads)
    opened = Opened(options.model)
    names = opened.expect_classes()
    found = dataset(path, options.size, options.max_bytes)
    X, y, which = part(found, options, opened)
    y = as_the_models(y, found.classes, opened, options.data)
    X = np.asarray(fitting(X, opened, options.data)[:])
    labels = getattr(opened.thing, "classes_", None)
    words = ["fastcnn", "report", options.model, options.data]
    words += [part for name in ("validation", "max_bytes") for part in _option(name, getattr(options, name))]
    words += [] if options.size is None else ["--size", "x".join(map(str, options.size))]
    try:
        write_report(
            opened.thing, X, y if labels is None else labels[y], options.output, classes=names,
            history=_history(opened), title=options.title or f"{options.model} on {options.data}", data=options.data,
            about=_about(opened), command=shlex.join([*words, "--output", options.output]),
        )  # fmt: skip
    except (OSError, TypeError, ValueError) as error:
        raise CommandError(words_of(error), status=1) from None
    if options.json:
        print(json.dumps({"output": options.output, "bytes": os.path.getsize(options.output), "images": len(y)}))
        return
    print(f"Wrote {options.output}: {len(y)} {which}images.")


def _option(name: str, value: Any) -> list[str]:
    """Return the words of an option; a switch is there or not."""
    if value is None or value is False:
        return []
    word = f"--{name.replace('_', '-')}"
    return [word] if value is True else [word, str(value)]


def _about(opened: Opened) -> dict[str, Any]:
    """Return what the file says of the training, the command that trains it again included."""
    about = opened.about
    if not about:
        return {}
    recipe = {name: value for name, value in about.get("recipe", {}).items() if value is not None}
    known = {
        name: about[name] for name in ("data", "images", "held_out", "seed", "epochs", "accuracy") if name in about
    }
    words = ["fastcnn", "train", str(about.get("data", "DATA"))]
    for name, value in {
        **recipe,
        **{name: about.get(name) for name in ("size", "validation", "class_weight", "seed")},
    }.items():
        words += _option(name, value)
    if isinstance(known.get("accuracy"), float):
        known["accuracy"] = f"{known['accuracy']:.2%} of those held out, at its end"
    named = {f"training: {name}".replace("_", " "): value for name, value in known.items()}
    return {**named, "trained by": shlex.join(words)}


def _history(opened: Opened) -> History | None:
    """Return the history that `train --save` has written; an estimator and a trainer have theirs."""
    from ..history import Epoch, History

    columns = opened.about.get("history")
    if not isinstance(columns, dict):
        return None
    history = History()
    try:
        for row in zip(*(columns[name] for name in Epoch._fields), strict=True):
            numbers = [math.nan if value is None else float(value) for value in row[1:]]
            history.epochs.append(Epoch(int(row[0]), *numbers))
    except (KeyError, TypeError, ValueError):
        return None  # of a file that was written by hand
    return history
