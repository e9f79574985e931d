"""Compiled kernels on disk: names, folders, and when files are deleted.

A file holds one kernel for one combination of kinds of arguments: a checksum, a line of JSON, and an object file as
LLVM has made it. Its name says what it depends on: the source of `kernels/`, `codegen/` and `jit/`, the versions of
Numba and llvmlite, the vector set, and the processor, or the kind of processor, that it is made for. What another
source has left and nobody loads is deleted in the end. A file is read, or a folder written to, only if nobody but the
user and root could have put something else there (`trust`).
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
import warnings
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from llvmlite import binding

from . import trust
from .target import Processor, processors, vector_set

PACKAGE = Path(__file__).resolve().parents[1]
SOURCES = ("codegen", "jit", "kernels")  # the folders whose source machine code depends on
FOLDER = PACKAGE / "kernels"
DAY = 86400.0  # seconds


@cache
def source_mark() -> str:
    """Return the digest of the source, a part of the name of each file that is compiled from it."""
    digest = hashlib.sha256()
    for folder in SOURCES:
        for path in sorted((PACKAGE / folder).glob("*.py")):
            digest.update(f"{folder}/{path.name}".encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


@cache
def source_stamp(processor: Processor) -> str:
    """Return all that a kernel compiled for a processor depends on, besides its argument types."""
    machine = binding.get_process_triple(), *processor, vector_set().name
    return f"{source_mark()} {version('numba')} {version('llvmlite')} {machine} {os.environ.get('NUMBA_OPT')}"


def _user_folders() -> list[Path]:
    """Return the user's own cache folder, as the platform has it; nothing for a process without a home."""
    try:
        if os.name == "nt":
            return [Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")]
        return [Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")]
    except RuntimeError:
        return []


def _candidates() -> list[Path]:
    """Return the folders of kernels, the best first: `FASTCNN_CACHE_DIR`; else the package, then the user's cache."""
    chosen = os.environ.get("FASTCNN_CACHE_DIR")
    roots = [Path(chosen)] if chosen else [FOLDER / "__pycache__", *(folder / "fastcnn" for folder in _user_folders())]
    return [root / vector_set().name for root in roots]


@cache
def _readable_folder(candidate: Path) -> Path | None:
    """Return the real path of a folder, None if it is not trusted; raise while there is none, and look again."""
    try:
        return trust.resolve(candidate)
    except FileNotFoundError:
        raise
    except OSError as error:
        _tell(error)
        return None


@cache
def cache_folder() -> Path | None:
    """Return the folder that kernels are written to: the first that is trusted and can be written to; None without one.

    A folder that can only be read, such as a package that root has installed and used, is read all the same.
    """
    for candidate in _candidates():
        try:
            folder = trust.resolve(candidate, create=True)
        except OSError as error:
            _tell(error)
            continue
        with suppress(OSError), tempfile.TemporaryFile(dir=folder):
            return folder
    return None


def _tell(error: OSError) -> None:
    """Warn of a folder that the user has chosen and that is not used; the others are only tried."""
    chosen = os.environ.get("FASTCNN_CACHE_DIR")
    if chosen:
        _warn_once(f"FASTCNN_CACHE_DIR={chosen}: not used for compiled kernels: {error}")


@cache
def _warn_once(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=2)


@cache
def forget_stale(folder: Path) -> None:
    """Delete the kernels of other sources that no process has loaded for long; once in a process.

    The package's own folder serves one source: what others have left there is deleted after a day. Another folder may
    be shared by several versions: there it takes a month. A process that loads a file at this moment has it, or
    compiles anew.
    """
    patience = DAY if FOLDER in folder.parents else 30 * DAY
    for path in folder.glob("*.kernel*"):  # and what is left of a writing that was cut off
        with suppress(OSError):
            if source_mark() not in path.name and time.time() - path.stat().st_mtime > patience:
                path.unlink()


def file_name(kernel: str, kinds: str, processor: Processor | None = None) -> str:
    """Return the name of a kernel's file, made of all that it depends on: it cannot be mistaken for another."""
    stamp = source_stamp(processor or processors()[0])
    digest = hashlib.sha256(f"{stamp} {kernel} {kinds}".encode()).hexdigest()[:24]
    return f"{kernel}.{source_mark()}.{digest}.kernel"


class ObjectFile(NamedTuple):
    """Compiled machine code.

    Attributes
    ----------
    entry : str
        Name of the function in it that is called.
    needs : list of str
        Functions elsewhere that it calls.
    code : bytes
    """

    entry: str
    needs: list[str]
    code: bytes


def write(kernel: str, kinds: str, compiled: ObjectFile) -> None:
    """Keep machine code on disk."""
    name = file_name(kernel, kinds)
    folder = cache_folder()
    if folder is None:
        return
    content = json.dumps([compiled.entry, compiled.needs]).encode() + b"\n" + compiled.code
    # A full disk is no reason to stop: the kernel is there, and is compiled again next time.
    with suppress(OSError):
        draft = folder / f"{name}.{os.urandom(8).hex()}"
        # As in `trust`: for others to read, not to write.
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o644)
        try:
            with open(descriptor, "wb") as file:
                file.write(hashlib.sha256(content).digest() + content)
            os.replace(draft, folder / name)  # whole, or not at all
        except BaseException:  # Ctrl-C too leaves nothing half-written
            os.unlink(draft)
            raise
    forget_stale(folder)


def read(kernel: str, kinds: str) -> ObjectFile | None:
    """Return what `write` was given, for this processor or all of its vector set.

    None if there is nothing that is trusted, or if a crash has cut it off.
    """
    for processor in processors():
        name = file_name(kernel, kinds, processor)
        for candidate in _candidates():
            with suppress(OSError):
                folder = _readable_folder(candidate)
                found = _parse(_content(folder / name)) if folder else None
                if found:
                    return found
    return None


def _content(path: Path) -> bytes:
    """Return the bytes of a file that is trusted."""
    with trust.opened(path) as file:
        with suppress(OSError):  # it may be somebody else's, or on a disk that is only read
            os.utime(file.fileno() if os.utime in os.supports_fd else path)  # it is in use
        return file.read()


def _parse(content: bytes) -> ObjectFile | None:
    """Return the machine code in a file; None if it is not as it was written."""
    checksum, content = content[:32], content[32:]
    if hashlib.sha256(content).digest() != checksum:
        return None
    header, _, code = content.partition(b"\n")
    entry, needs = json.loads(header)
    return ObjectFile(entry, needs, code)
