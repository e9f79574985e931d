"""`fastcnn explore`: a saved network in a browser, on a data set; each number can be asked for its sum."""

from __future__ import annotations

import argparse
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from . import interrupts
from .common import CommandError, add_common, add_model_and_data, add_threads, dataset, port, source

if TYPE_CHECKING:
    from ..typing import Array, IntArray
    from .opened import Opened


def add(verbs: Any) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "explore",
        help="show a saved network in a browser",
        description="Show a network of train --save or fastcnn.save in a browser on this machine: its filters, the "
        "feature maps of images of the data set or of what is drawn with the mouse, and the sum behind each number. "
        "Ctrl-C ends it.",
        allow_abbrev=False,
    )
    add_model_and_data(parser)
    parser.add_argument("--port", type=port, default=0, metavar="PORT", help="of this machine's loopback (a free one)")
    add_common(parser, "one line of JSON, with the address")
    add_threads(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C."""
    from .live import live_page

    opened, X, y = prepared(options)
    with live_page(X, y, opened.classes, options.port, "--port") as page, interrupts.raises():
        page.show(opened.model)
        words = f"Open {page.url} in a browser on this machine; Ctrl-C ends it."
        print(json.dumps({"url": page.url, "images": len(X)}) if options.json else words, flush=True)
        with suppress(KeyboardInterrupt):
            page.wait()


def prepared(options: argparse.Namespace) -> tuple[Opened, Array, IntArray | None]:
    """Return the model of the file, images as its network reads them, and their classes as it counts them."""
    path = source(options.data)
    from ..live.samples import MOST
    from ..runtime.threads import set_num_threads
    from ..saving import ESTIMATORS
    from .evaluate import as_the_models, fitting, part
    from .opened import Opened

    set_num_threads(options.threads)
    opened = Opened(options.model)
    found = dataset(path, options.size, options.max_bytes)
    images, targets, _ = part(found, options, opened)
    X = fitting(images[:MOST], opened, options.data)
    y = as_the_models(targets[:MOST], found.classes, opened, options.data) if opened.classes else None
    try:
        if opened.kind in ESTIMATORS:  # which bring images into the order of axes and the range that they know
            X = opened.thing._scaler(opened.thing._read(X, reset=False), opened.thing._dtype)
    except (TypeError, ValueError) as error:
        raise CommandError(f"{options.model}: {error}", status=1) from None
    return opened, X.reshape(-1, *opened.shape), y
