"""Kernels compiled before they are called, side by side: in other processes, since Numba compiles one at a time.

`runtime/rehearsal.py` knows what will be called, and asks here for all of it at once. The other processes run `serve`:
they compile what they are told, and leave it in the folder on disk. This process takes part in the work, and loads the
results. What is missing at the end, for whatever reason, is compiled by the call that needs it.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from . import cache as disk
from .kernel import Kernel, kernel_of
from .signature import Kind, RecordKind

Need = tuple[Kernel, tuple[Kind, ...]]
FEW = 4  # kernels for each process: it takes about a second to begin, in which this one compiles as many
BEGIN = """import json, sys
sys.path[:] = json.loads(sys.stdin.buffer.readline())
from fastcnn.jit import ahead
ahead.serve()"""
DONE = b"done\n"
PATIENCE = 60.0  # seconds that another process may take for its last kernel


def compile_together(needs: Iterable[Need], processes: int) -> int:
    """Compile kernels that are neither in this process nor on disk, in up to so many processes, this one included.

    Return how many there were.
    """
    missing = deque((kernel, kinds) for kernel, kinds in needs if not kernel.is_there(kinds))
    count = len(missing)
    helpers = [_Helper(missing) for _ in range(min(processes - 1, len(missing) // FEW) if _can_help() else 0)]
    try:
        while missing:
            kernel, kinds = missing.popleft()
            kernel.compile(kinds)
        for helper in helpers:
            helper.thread.join(PATIENCE)
    finally:
        missing.clear()
        for helper in helpers:
            helper.end()
    return count


def _can_help() -> bool:
    """Tell whether other processes can compile: there is a folder for their results, and an interpreter to start."""
    name = Path(sys.executable or "").name.lower()
    return disk.cache_folder() is not None and name.startswith(("python", "pypy")) and not getattr(sys, "frozen", False)


class _Helper:
    """A process that compiles, and the thread that hands it one kernel after another."""

    def __init__(self, missing: deque[Need]) -> None:
        self.missing = missing
        self.process: subprocess.Popen[bytes] | None = None
        self.thread = threading.Thread(target=self._serve, name="fastcnn compile", daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        # A process that cannot be started, or dies, takes no more work; the call that needs its kernel compiles it.
        with suppress(OSError, ValueError, IndexError):
            self.process = process = _start()
            assert process.stdin is not None
            assert process.stdout is not None
            self._tell(json.dumps(sys.path))
            while True:
                kernel, kinds = self.missing.popleft()
                self._tell(json.dumps([kernel.family, kernel.name, encode(kinds)]))
                if process.stdout.readline() != DONE:
                    return

    def _tell(self, line: str) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def end(self) -> None:
        """End the process: at the end of its work, or amid it, if this one was interrupted."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()


def _start() -> subprocess.Popen[bytes]:
    """Start a process that compiles; Ctrl-C at the terminal does not reach it, and it ends when its input does."""
    apart: dict[str, Any] = {"start_new_session": True}
    if os.name == "nt":
        apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}  # type: ignore[attr-defined]
    return subprocess.Popen(
        [sys.executable, "-I", "-c", BEGIN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        **apart,
    )  # fmt: skip


def serve() -> None:
    """Compile the kernels that standard input names, a line for each, and answer with a line when one is done."""
    for line in sys.stdin.buffer:
        family, name, kinds = json.loads(line)
        kernel_of(family, name).compile(decode(kinds))
        os.write(1, DONE)


PYTHON = {kind.__name__: kind for kind in (int, float, bool)}


def encode(kinds: Sequence[Kind]) -> list[Any]:
    """Return kinds of arguments as JSON has them."""
    return list(map(_word, kinds))


def _word(kind: Kind) -> Any:
    if isinstance(kind, RecordKind):
        return {"record": [kind.record.__module__, kind.record.__name__], "fields": encode(kind.fields)}
    if isinstance(kind, tuple):
        return [kind[0].str, *kind[1:]]
    return np.dtype(kind).str if issubclass(kind, np.generic) else kind.__name__


def decode(kinds: Sequence[Any]) -> tuple[Kind, ...]:
    """Return the kinds that `encode` was given."""
    return tuple(map(_kind, kinds))


def _kind(word: Any) -> Kind:
    if isinstance(word, dict):
        module, name = word["record"]
        return RecordKind(getattr(importlib.import_module(module), name), decode(word["fields"]))
    if isinstance(word, str):
        return PYTHON.get(word) or np.dtype(word).type
    dtype, ndim, flags = word
    return np.dtype(dtype), int(ndim), int(flags)
