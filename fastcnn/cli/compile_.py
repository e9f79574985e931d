"""`fastcnn compile`: machine code before it is needed, for the image of a container or the nodes of a cluster."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .common import CommandError, add_common, add_threads, meant

if TYPE_CHECKING:
    from ..jit.recorder import Rehearsal

SETS = ("sse", "avx2", "avx512", "neon")


def add(verbs: Any) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "compile",
        help="compile kernels before they are needed",
        description="Compile the kernels that networks need and keep them, so that no later run has to: in the image "
        "of a container, or in a folder that the nodes of a cluster share. They are found in the folder that "
        "FASTCNN_CACHE_DIR names, which may be one that can only be read.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--for", dest="sets", metavar="SET[,SET...]",
        help=f"vector sets, of {', '.join(SETS)}: code for every processor that has one (code for this very processor)",
    )  # fmt: skip
    parser.add_argument(
        "--models", nargs="+", default=["all"], metavar="NAME",
        help="ready networks; estimators: their defaults, all optimizers and augmentations; files of train --save or "
        "fastcnn.save (all: every name)",
    )  # fmt: skip
    parser.add_argument("--into", metavar="FOLDER", help="where they are kept (the cache that runs use anyway)")
    add_threads(parser)
    add_common(parser, "one line of JSON for each vector set")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Compile for each vector set, and say what there is."""
    if options.into is not None:
        _check_folder(options.into)
        os.environ["FASTCNN_CACHE_DIR"] = os.path.abspath(options.into)
    if options.sets is None:
        _report(_compile(options), options)
        return
    for name in _sets(options.sets):
        _report(_in_a_process(name, options), options)


def _sets(words: str) -> list[str]:
    """Return the vector sets that the user names, checked before anything is compiled."""
    from ..jit.target import architecture

    names = [*dict.fromkeys(words.split(","))]
    for name in names:
        if name not in SETS:
            raise CommandError(f"--for: expected some of {', '.join(SETS)}; got {name!r}{meant(name, SETS)}")
        if (name == "neon") != (architecture() == "aarch64"):
            raise CommandError(f"--for {name}: expected a vector set of {architecture()}; code is not made for others")
    return names


def _check_folder(folder: str) -> None:
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"--into {folder}: {error.strerror}", status=1) from None


def _in_a_process(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Compile for every processor with a vector set, in a process of its own, and return its report."""
    from ..jit.target import BASELINES, FEATURES_VARIABLE, NAME_VARIABLE

    processor = BASELINES[name]
    settings = {"FASTCNN_SIMD": name, NAME_VARIABLE: processor.name, FEATURES_VARIABLE: processor.features}
    threads = [] if options.threads is None else ["--threads", str(options.threads)]
    command = [sys.executable, "-m", "fastcnn", "compile", "--json", *threads, "--models", *options.models]
    done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CommandError(f"--for {name}: {done.stderr.strip().partition(': ')[2] or 'the compiler ended'}", status=1)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _compile(options: argparse.Namespace) -> dict[str, Any]:
    """Compile for this process's own vector set and processor; return a report."""
    rehearsal = _rehearsal(options.models)
    from ..jit.ahead import compile_together
    from ..jit.cache import cache_folder
    from ..jit.target import processors, vector_set
    from ..runtime.threads import get_num_threads

    folder, begin = cache_folder(), time.perf_counter()
    if folder is None:
        raise CommandError("there is no folder that compiled kernels can be written to: --into names one", status=1)
    compiled = compile_together(rehearsal.needed, options.threads or get_num_threads())
    files = [path.stat().st_size for path in folder.glob("*.kernel")]
    return {
        "vector_set": vector_set().name, "processor": processors()[0].name, "kernels": len(rehearsal.needed),
        "compiled": compiled, "seconds": round(time.perf_counter() - begin, 1), "folder": str(folder),
        "files": len(files), "bytes": sum(files),
    }  # fmt: skip


def _rehearsal(names: list[str]) -> Rehearsal:
    """Return the kernels of networks, by name or in files."""
    from .. import rehearsals
    from .opened import Opened

    chosen: list[Any] = []
    for name in names:
        if name == "all":
            chosen += rehearsals.NAMES
        elif name in rehearsals.NAMES:
            chosen.append(name)
        elif os.path.exists(name):
            chosen.append(Opened(name).model)
        else:
            known = ("all", *rehearsals.NAMES)
            raise CommandError(
                f"--models: expected some of {', '.join(known)}, or a file; got {name!r}{meant(name, known)}"
            )
    return rehearsals.rehearse_networks(dict.fromkeys(chosen))


def _report(found: dict[str, Any], options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps(found))
        return
    print(
        f"{found['vector_set']}, {found['processor']}: {found['kernels']} kernels, {found['compiled']} of them "
        f"compiled in {found['seconds']} s; {found['files']} files, {found['bytes']:,} bytes in {found['folder']}"
    )
