"""Where compiled kernels are kept on disk, and when they go stale.

Numba stamps a cached function with the one file that holds it, so an edit in a helper file would go unseen. Here the
stamp is the source of the whole `kernels/` folder, the versions of Numba and llvmlite, and the vector set. What another
source has left and nobody loads is deleted in the end.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba import types
from numba.core import config
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile, _CacheLocator
from numba.core.registry import CPUDispatcher

from .machine import vector_set
from .panel import ready
from .tape import recorder

FOLDER = Path(__file__).resolve().parent
DAY = 86400.0  # seconds


@cache
def source_mark() -> str:
    """Return the mark of this source, a part of the name of each file that it leaves."""
    digest = hashlib.sha256()
    for path in sorted(FOLDER.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


@cache
def source_stamp() -> str:
    """Return all that a compiled kernel depends on, besides its argument types."""
    settings = (numba.__version__, llvmlite.__version__, vector_set().name, config.BOUNDSCHECK, config.OPT)
    return f"{source_mark()} {settings!r}"


def _user_folders() -> list[Path]:
    """Return the user's own cache folder, as the platform has it; nothing for a process without a home."""
    try:
        if os.name == "nt":
            return [Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")]
        return [Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")]
    except RuntimeError:
        return []


def _is_usable(folder: Path) -> bool:
    """Tell whether files can be written to `folder`, and by nobody that we do not trust: they are pickles."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.name != "nt" and folder.stat().st_mode & stat.S_IWOTH:
            return False
        with tempfile.TemporaryFile(dir=folder):
            return True
    except (OSError, RuntimeError):
        return False


@cache
def cache_folder() -> Path | None:
    """Return the folder for compiled kernels: `FASTCNN_CACHE_DIR`, the package, the user's cache; else None."""
    name = vector_set().name + ("-boundscheck" if config.BOUNDSCHECK else "")
    chosen = os.environ.get("FASTCNN_CACHE_DIR")
    roots = [Path(chosen)] if chosen else [FOLDER / "__pycache__", *(folder / "fastcnn" for folder in _user_folders())]
    return next((root / name for root in roots if _is_usable(root / name)), None)


@cache
def forget_stale(folder: Path) -> None:
    """Delete the kernels of other sources that nobody has loaded for long; once in a process.

    The package's own folder serves one source: what others have left there goes after a day. Another folder may be
    shared by several versions: there it takes a month. Who loads a file at this moment has it, or compiles anew.
    """
    patience = DAY if FOLDER in folder.parents else 30 * DAY
    for path in folder.glob("*.nbc*"):  # and what is left of a writing that was cut off
        with suppress(OSError):
            if source_mark() not in path.name and time.time() - path.stat().st_mtime > patience:
                path.unlink()


class _Locator(_CacheLocator):
    """Tells Numba the folder and the stamp."""

    def __init__(self, py_func: Callable[..., Any], py_file: str) -> None:
        self._py_file = py_file

    def get_cache_path(self) -> str:
        return str(cache_folder())

    def get_source_stamp(self) -> str:
        return source_stamp()

    def get_disambiguator(self) -> str:
        return "kernel"

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> _Locator:
        return cls(py_func, py_file)


class _Files(IndexDataCacheFile):
    """One file per kernel and signature, named by what it depends on.

    Numba's own index file numbers the signatures; two processes that compile at the same time can hand out one number
    twice, and then one loads the other's machine code. A name made of the key cannot be mistaken.
    """

    def _path(self, key: object) -> Path:
        digest = hashlib.sha256(f"{self._source_stamp} {key!r}".encode()).hexdigest()[:24]
        return Path(self._cache_path) / self._index_name.replace(".nbi", f".{source_mark()}.{digest}.nbc")

    def save(self, key: object, data: object) -> None:
        # A full disk is no reason to stop: the kernel is there, and is compiled again next time.
        with suppress(OSError):
            self._save_data(str(self._path(key)), data)
        forget_stale(Path(self._cache_path))

    def load(self, key: object) -> object | None:
        path = self._path(key)
        for argument in key[0]:  # type: ignore[index]
            if isinstance(getattr(argument, "dtype", None), types.Float):
                ready(argument.dtype)  # the machine code may call it by name
        try:
            data = self._load_data(str(path))
        except Exception:  # a file that a crash cut off may fail in any way: compile anew
            return None
        with suppress(OSError):
            os.utime(path)  # it is in use
        return data

    def flush(self) -> None:
        """Forget nothing here: a stale kernel has another name, and goes with `forget_stale`."""


class _Implementation(CompileResultCacheImpl):
    _locator_classes = (_Locator,)


class _Cache(FunctionCache):
    _impl_class = _Implementation

    def __init__(self, py_func: Callable[..., Any]) -> None:
        super().__init__(py_func)
        self._cache_file = _Files(self._cache_path, self._impl.filename_base, source_stamp())


class Kernel(CPUDispatcher):
    """A compiled function that can note its calls down, see `tape.recording`."""

    def __call__(self, *arguments: Any) -> Any:
        """Run the kernel."""
        result = super().__call__(*arguments)
        tape = recorder()
        if tape is not None:
            compiled = self.overloads[tuple(numba.typeof(argument) for argument in arguments)]
            tape.add(compiled.entry_point, arguments, compiled)
        return result


def kernel(function: Callable[..., Any]) -> Any:
    """Compile `function` at its first call for each combination of argument types; keep the result on disk.

    Kernels release the GIL and never check, allocate or print. Division by zero follows IEEE 754.
    """
    if config.DISABLE_JIT:
        return function
    options = {"nopython": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract"}, "boundscheck": None}
    dispatcher = Kernel(function, targetoptions=options)
    if cache_folder() is not None:
        dispatcher._cache = _Cache(function)
    return dispatcher
