"""Files of data, opened and bounded: what is no file is refused, and a file may claim only so much for its size."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

RATIO = (
    1000  # bytes of data for each byte of a packed file, at most: deflate reaches 1032, images as people have them 10
)
FLOOR = 1 << 20  # bytes that any file may hold: sorted labels pack very well
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class DataError(ValueError):
    """A file of data that is not what it should be; the message is one line and begins with its path.

    Parameters
    ----------
    path : path
        The file.
    problem : str
        What is wrong with it.

    See Also
    --------
    load : Reads a data set of any known kind.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from fastcnn.data import DataError, load
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "set.npz")
    ...     written = path.write_bytes(b"damaged")
    ...     try:
    ...         load(path)
    ...     except DataError:
    ...         print("no data set")
    no data set
    """

    def __init__(self, path: str | os.PathLike[str], problem: str) -> None:
        super().__init__(f"{shown(path)}: {' '.join(problem.split())}")


def shown(path: str | os.PathLike[str]) -> str:
    """Return a path as it is written in a message; one with line ends or the like as Python writes it."""
    text = os.fspath(path)
    return text if text.isprintable() else repr(text)


def check_kind(path: Path, status: os.stat_result | None = None) -> None:
    """Raise DataError if a path is no file: a FIFO would block, a device never end."""
    kind = stat.S_IFMT((status or path.stat()).st_mode)
    if kind != stat.S_IFREG:
        raise DataError(path, f"expected a file; got {KINDS.get(kind, 'something else')}")


@contextmanager
def opened(path: Path) -> Iterator[tuple[BufferedReader, int]]:
    """Open a file and give it with its size; what is no file is refused without being waited for."""
    check_kind(path)  # to open a device may do something already
    with open(path, "rb", opener=_without_waiting) as file:
        status = os.fstat(file.fileno())
        check_kind(path, status)
        yield file, status.st_size


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def check_claim(path: Path, claimed: int, size: int, max_bytes: int | None, what: str, floor: int = FLOOR) -> None:
    """Raise DataError if the data of a packed file take more memory than its size makes likely, or than is allowed."""
    most = max(floor, RATIO * size) if max_bytes is None else max_bytes
    if claimed > most:
        bound = f"at most {most:,}, for {size:,} packed" if max_bytes is None else f"at most max_bytes, {most:,}"
        raise DataError(path, f"{what} take {claimed:,} bytes; expected {bound} (argument max_bytes, or --max-bytes)")


def check_max_bytes(max_bytes: int | None) -> None:
    """Raise if the argument makes no sense."""
    if max_bytes is None:
        return
    if isinstance(max_bytes, bool) or not hasattr(max_bytes, "__index__"):
        raise TypeError(f"max_bytes: expected a whole number or None; got {max_bytes!r}")
    if max_bytes < 1:
        raise ValueError(f"max_bytes: expected at least 1; got {max_bytes!r}")
