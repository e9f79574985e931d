"""`fastcnn predict`: the likeliest classes of images, folders, arrays and tables, as a saved network sees them."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .common import CommandError, add_common, add_max_bytes, add_threads, add_views, size, whole, words_of

if TYPE_CHECKING:
    from ..data.unlabelled import NamedSamples
    from ..typing import Array
    from .opened import Opened


def add(verbs: Any) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "predict",
        help="tell the likeliest classes of images by a saved network",
        description="Tell the likeliest classes of images, or the numbers that a regressor gives: a line a sample.",
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="MODEL", help="a file of train --save or fastcnn.save")
    parser.add_argument(
        "paths", metavar="PATH", nargs="*",
        help="images, folders of images, NPZ, NPY, IDX and CSV files (rows of pixels); - is standard input (-)",
    )  # fmt: skip
    parser.add_argument("--top", type=whole(1), default=1, metavar="K", help="so many classes of each sample (1)")
    parser.add_argument("--size", type=size, metavar="HxW", help="what images are brought to (their own)")
    parser.add_argument("--csv", action="store_true", help="write a table: name, class, probability, ... (words)")
    add_views(parser)
    add_max_bytes(parser)
    add_common(parser, "a line of JSON a sample")
    add_threads(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Predict, and write the results."""
    if options.csv and options.json:
        raise CommandError("--csv, --json: expected one of them")
    from .opened import Opened

    opened = Opened(options.model)
    if "-" in (options.paths or ["-"]) and sys.stdin is None:
        raise CommandError("standard input is closed; expected a PATH, or samples there")
    if options.size is not None and options.size != opened.shape[1:]:
        raise CommandError(f"--size: the model takes {opened.in_words}; expected its height and width", status=2)
    top = min(options.top, len(opened.classes or ()))
    table = csv.writer(sys.stdout, lineterminator="\n") if options.csv else None
    if table is not None:
        pairs = [name for k in range(1, top + 1) for name in (f"class{k}", f"probability{k}")]
        table.writerow(["name", *(pairs or ["value"])])
    for samples in _samples(options, opened):
        outputs = opened.outputs(samples.X, options.threads, options.views)
        for name, row in zip(samples.names, outputs, strict=True):
            found = _likeliest(row, opened.classes, top)
            if table is not None:
                table.writerow([name, *_flat(found)])
            else:
                print(json.dumps({"name": name, **_as_json(found)}) if options.json else _line(name, found))


Found = list[tuple[str, float]] | list[float]


def _samples(options: argparse.Namespace, opened: Opened) -> Iterator[NamedSamples]:
    """Yield the samples of all paths; an error is one line with the path."""
    from ..data.files import DataError
    from ..data.unlabelled import read_samples, read_stream

    how = opened.shape, options.size, options.max_bytes
    for path in options.paths or ["-"]:
        try:
            if path == "-":
                yield from read_stream(sys.stdin.buffer, *how)
            else:
                yield from read_samples(Path(path), *how)
        except (DataError, OSError) as error:
            raise CommandError(words_of(error), status=1) from None


def _likeliest(row: Array, classes: list[str] | None, top: int) -> Found:
    """Return the likeliest classes with their probabilities, or the numbers of a model without classes."""
    if classes is None:
        return [float(value) for value in row.reshape(-1)]
    order = (-row).argsort(kind="stable")[:top]
    return [(classes[k], float(row[k])) for k in order]


def _flat(found: Found) -> list[Any]:
    return [part for one in found for part in (one if isinstance(one, tuple) else (one,))]


def _as_json(found: Found) -> dict[str, Any]:
    if found and not isinstance(found[0], tuple):
        return {"values": found}
    return {"classes": [{"class": one[0], "probability": one[1]} for one in found if isinstance(one, tuple)]}


def _line(name: str, found: Found) -> str:
    from ..data.files import shown

    return f"{shown(name)}: {_words(found)}"


def _words(found: Found) -> str:
    return ", ".join(f"{one[0]} {one[1]:.1%}" if isinstance(one, tuple) else f"{one:.6g}" for one in found)
