"""`fastcnn import`: a network of another framework as a file that the other commands take."""

from __future__ import annotations

import argparse
import json
from typing import Any

from .common import CommandError, add_common, check_target, words_of


def add(verbs: Any) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "import",
        help="turn an ONNX file into one that evaluate, predict, info and fastcnn.load take",
        description="Read an ONNX file, as PyTorch and Keras export, and write its network as fastcnn.save does.",
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="MODEL.onnx", help="an ONNX file")
    parser.add_argument("--output", metavar="FILE", required=True, help="the file to write; an old one is replaced")
    add_common(parser, "one line of JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Write the file, and say so."""
    check_target("--output", options.output)
    from ..exchange import from_onnx
    from ..saving import save
    from ..storage.errors import StorageError

    try:
        model = from_onnx(options.model)
        save(model, options.output)
    except (ImportError, OSError, StorageError) as error:
        raise CommandError(words_of(error), status=1) from None
    assert model.input_shape is not None
    known = {
        "output": options.output, "input_shape": [*model.input_shape],
        "output_shape": [*model.output_shape(model.input_shape)],
        "parameters": sum(array.size for array in model.parameters.values()), "digest": model.digest(),
    }  # fmt: skip
    if options.json:
        print(json.dumps({**known, "layers": [repr(layer) for layer in model.layers]}))
        return
    print(model.summary())
    print(f"{options.output}: digest {model.digest()}")
