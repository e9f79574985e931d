"""Python in a process of its own: with its own environment, a time limit, and nothing on standard error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import joblib

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 120  # seconds; a process that hangs is a failure

# No setting of the outside for fastcnn, but the vector set: a program runs the code that the suite is run for. One
# thread for BLAS; all processors for fastcnn, which would heed that limit.
CLEAN = {
    name: value
    for name, value in os.environ.items()
    if name == "FASTCNN_SIMD" or not name.startswith(("FASTCNN_", "NUMBA_", "PYTHON"))
}
# The kernels that tests in this process find compiled: programs that are not about compiling find them too.
CACHE = {name: os.environ[name] for name in ("FASTCNN_CACHE_DIR",) if name in os.environ}
SETTINGS = {"OPENBLAS_NUM_THREADS": "1", "FASTCNN_NUM_THREADS": str(joblib.cpu_count())}


def start_python(code: str, *arguments: str, root: Path = ROOT, **environment: str) -> subprocess.Popen[str]:
    """Start a program, given as text, that finds the packages in `root`.

    It has the suite's compiled kernels, unless its package is a copy, or the caller names a place for caches.
    """
    kernels = {} if root != ROOT or "XDG_CACHE_HOME" in environment else CACHE
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=root,
        env={**CLEAN, **SETTINGS, **kernels, "PYTHONPATH": str(root), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], limit: float = LIMIT) -> str:
    """Return what the program has printed, when it has ended well and quietly within `limit` seconds."""
    try:
        output, errors = process.communicate(timeout=limit)
    finally:
        process.kill()
    assert process.returncode == 0, f"exit status {process.returncode}\n{output}\n{errors}"
    assert not errors, errors
    return output


def run_python(code: str, *arguments: str, root: Path = ROOT, **environment: str) -> str:
    """Run a program to its end."""
    return finish(start_python(code, *arguments, root=root, **environment))
