"""`fastcnn info`: versions, processor and cache of this machine; or what a file of a model holds."""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..version import __version__
from .common import add_common

if TYPE_CHECKING:
    from .opened import Opened

PACKAGES = ("numpy", "numba", "llvmlite", "scikit-learn")


def add(verbs: Any) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "info",
        help="tell what fastcnn runs on, or what a file of a model holds",
        description="Tell versions, processor, vector set, threads, and the cache of compiled kernels; of a file of a "
        "model its layers, what it was trained on and how, and its digest.",
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="MODEL", nargs="?", help="a file of train --save or fastcnn.save (none)")
    add_common(parser, "one line of JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Write the facts on this machine, or on a file."""
    if options.model is None:
        known = _machine()
    else:
        from .opened import Opened

        opened = Opened(options.model)
        known = _model(opened)
        if options.json:
            known["layers"] = [repr(layer) for layer in opened.model.layers]
        else:
            print(opened.model.summary())
    if options.json:
        print(json.dumps(known))
        return
    width = max(map(len, known))
    for name, value in known.items():
        print(f"{name.replace('_', ' ').ljust(width)}  {_text(value)}")


def _machine() -> dict[str, Any]:
    """Return versions, processor, threads and the cache."""
    from importlib.metadata import version

    from ..jit.cache import cache_folder
    from ..jit.target import has_fused_multiply_add, vector_set
    from ..runtime.threads import available_cpus, get_num_threads

    folder = cache_folder()
    sizes = [path.stat().st_size for path in Path(folder).iterdir() if path.is_file()] if folder else []
    return {
        "fastcnn": __version__, "python": platform.python_version(), **{name: version(name) for name in PACKAGES},
        "system": platform.platform(), "processor": _processor(),
        "vector_set": vector_set().name, "fused_multiply_add": has_fused_multiply_add(),
        "processors": available_cpus(), "threads": get_num_threads(),
        "cache_folder": None if folder is None else str(folder), "cache_files": len(sizes), "cache_bytes": sum(sizes),
    }  # fmt: skip


def _processor() -> str:
    """Return the name that the processor is sold under, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _model(opened: Opened) -> dict[str, Any]:
    """Return what a file holds."""
    digest = opened.contents.digest
    return {
        "file": opened.path, "bytes": Path(opened.path).stat().st_size, "kind": opened.kind,
        "format": int(opened.contents.number), "written_by": f"fastcnn {opened.contents.version}",
        "input_shape": list(opened.shape), "classes": opened.classes, **_training(opened),
        **({} if digest is None else {"digest": digest}),
    }  # fmt: skip


def _training(opened: Opened) -> dict[str, Any]:
    """Return what the model was trained on and how."""
    from ..training.trainer import Trainer

    about, thing = opened.about, opened.thing
    if isinstance(thing, Trainer):
        how = {"loss": thing.loss, "optimizer": thing.optimizer, "schedule": thing.schedule, "ema": thing.ema}
        return {**{name: repr(value) for name, value in how.items() if value is not None},
                "steps": thing.steps, "epochs": thing.epochs}  # fmt: skip
    if opened.kind != "Sequential":
        return {"estimator": " ".join(repr(thing).split()), "epochs": thing.n_iter_, "loss": thing.loss_}
    recipe = {name: value for name, value in about.get("recipe", {}).items() if value is not None}
    known = {name: value for name, value in about.items() if name not in ("recipe", "classes", "history")}
    return {**{name: value for name, value in known.items() if value is not None}, **recipe}


def _text(value: Any) -> str:
    if isinstance(value, list):
        words = ", ".join(map(str, value))
        return words if len(words) < 200 else f"{words[:200]}, ... ({len(value)})"
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) and value > 9999 else str(value)
