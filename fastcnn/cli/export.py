"""`fastcnn export`: a saved network in another format, for other runtimes."""

from __future__ import annotations

import argparse
import json
from typing import Any

from .common import CommandError, add_common, check_target, whole, words_of

DTYPES = ("float32", "float64", "uint8")


def add(verbs: Any) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "export",
        help="write a saved network in another format",
        description="Write a network of train --save or fastcnn.save as ONNX, which onnxruntime and others compute.",
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="MODEL", help="a file of train --save or fastcnn.save")
    parser.add_argument("--to", choices=("onnx",), required=True, help="the format")
    parser.add_argument("--output", metavar="FILE", required=True, help="the file to write; an old one is replaced")
    parser.add_argument("--batch", type=whole(1), metavar="N", help="samples of a call of what is written (any number)")
    parser.add_argument(
        "--input-dtype", choices=DTYPES, default="float32",
        help="what it takes (float32); a network of train --save scales uint8 to [0, 1], as in training",
    )  # fmt: skip
    add_common(parser, "one line of JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Write the file, and say so."""
    check_target("--output", options.output)
    from ..exchange import to_onnx
    from ..training.trainer import Trainer
    from .opened import Opened

    opened = Opened(options.model)
    thing = opened.model if isinstance(opened.thing, Trainer) else opened.thing
    try:
        made = to_onnx(thing, options.output, batch=options.batch or "dynamic", input_dtype=options.input_dtype)
    except (ImportError, OSError, TypeError) as error:
        raise CommandError(words_of(error), status=1) from None
    known = {
        "output": options.output, "bytes": made.ByteSize(), "opset": made.opset_import[0].version,
        "inputs": [each.name for each in made.graph.input], "outputs": [each.name for each in made.graph.output],
    }  # fmt: skip
    if options.json:
        print(json.dumps(known))
        return
    names = ", ".join(known["inputs"]), ", ".join(known["outputs"])
    print(f"{options.output}: ONNX, opset {known['opset']}, {known['bytes']:,} bytes, from {names[0]} to {names[1]}")
