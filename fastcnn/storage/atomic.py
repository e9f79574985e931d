"""Files that are replaced as a whole: written beside the old one, synced, and renamed over it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def replace_file(path: str | os.PathLike[str], write: Callable[[BinaryIO], None]) -> None:
    """Let `write` fill a new file, and put that in the place of `path`.

    Whatever happens meanwhile, an exception, a full disk or the end of the process, `path` is the old file or the new
    one, whole. What a process that was killed has left beside it is removed by the next call.
    """
    target = Path(os.path.realpath(path))  # a symbolic link goes on pointing to the file
    if target.exists() and not target.is_file():
        raise OSError(f"{path}: expected the path of a file; this is a {'folder' if target.is_dir() else 'device'}")
    _remove_leftovers(target)
    part = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:  # of the temporary file's name, or of none
            raise OSError(error.errno, os.strerror(error.errno), os.fspath(path)) from error
        raise
    _sync_folder(target.parent)


def _remove_leftovers(target: Path) -> None:
    """Remove the parts that processes which are no more have left."""
    if os.name != "posix":  # elsewhere os.kill with signal 0 is no question
        return
    start = f".{target.name}."
    for part in target.parent.iterdir():
        if part.name.startswith(start) and part.name.endswith(".part"):
            number = part.name[len(start) :].partition("-")[0]
            if number.isdigit() and not _is_running(int(number)):
                part.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _sync_folder(folder: Path) -> None:
    """Let the new name reach the disk too, where folders can be synced."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some file systems cannot
        pass
    finally:
        os.close(descriptor)
