"""Files and folders that nobody but the user and root can change: machine code is loaded from nowhere else.

The rule is OpenSSH's for keys (StrictModes): the file, its folder and all folders above belong to the user or to root,
and nobody else can write to them. A group may write only if it is the user's own private group: on Debian, Ubuntu and
Fedora each user has a group of the same name without other members, and the umask is often 0002. Windows has no such
permissions: the user's folders there are private by access lists, and everything counts as trusted.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import BinaryIO

WINDOWS = os.name == "nt"
MOST_LINKS = 40  # as Linux


def resolve(folder: Path, *, create: bool = False) -> Path:
    """Return the real path of a folder that is trusted, and all above it; with `create`, make what is missing.

    Links are followed one at a time, and who owns them is checked too: behind a trusted link nobody can put another. A
    folder above may be open to all if it is sticky, as /tmp: nobody can replace there what belongs to others.

    Raises
    ------
    PermissionError
        If a folder or link on the way is not trusted.
    OSError
        If the folder is not there, or cannot be made.
    """
    path = folder.absolute()
    if WINDOWS:
        return _resolve_unchecked(path, create)
    here, ahead, links = Path(path.anchor), [*reversed(path.parts[1:])], 0
    _check(here, here.lstat(), sticky=True)
    while ahead:
        name = ahead.pop()
        if name == "..":
            here = here.parent
            continue
        status = _status(here / name, create)
        _check(here / name, status, sticky=True)
        if not stat.S_ISLNK(status.st_mode):
            here /= name
            continue
        target = Path(os.readlink(here / name))
        links += 1
        if links > MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(folder))
        here = Path(target.anchor) if target.is_absolute() else here
        ahead += reversed(target.parts[target.is_absolute() :])
    status = here.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(here))
    _check(here, status, sticky=False)
    return here


def _resolve_unchecked(path: Path, create: bool) -> Path:
    """Return the real path of a folder on Windows, which is made if `create`."""
    if create:
        path.mkdir(parents=True, exist_ok=True)
    return path.resolve(strict=True)


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file that is trusted, in a folder that `resolve` has returned; what is opened is what is checked.

    Raises
    ------
    OSError
        If it is not there, not trusted, a link, or no regular file; a FIFO does not block.
    """
    with open(path, "rb", opener=_opener) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise PermissionError(f"{path} is no regular file")
        if not WINDOWS:
            _check(path, status, sticky=False)
        yield file


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))


def _status(path: Path, create: bool) -> os.stat_result:
    """Return the status of a path, a link's own; with `create`, a folder is made if nothing is there."""
    try:
        return path.lstat()
    except FileNotFoundError:
        if not create:
            raise
    # Others may read what is compiled: root compiles while a container is built, a user runs it. Nobody else may write,
    # whatever the umask.
    path.mkdir(mode=0o755, exist_ok=True)
    return path.lstat()


def _check(path: Path, status: os.stat_result, *, sticky: bool) -> None:
    """Raise unless a file, folder or link is the user's or root's and nobody else can write to it."""
    problem = problem_of(status, path, sticky=sticky)
    if problem:
        raise PermissionError(f"{path} {problem}")


def problem_of(status: os.stat_result, path: Path, *, sticky: bool) -> str | None:
    """Return why a file, folder or link is not trusted, None if it is; with `sticky`, a folder such as /tmp is."""
    if status.st_uid not in (0, os.geteuid()):
        return f"belongs to another user, {status.st_uid}"
    if stat.S_ISLNK(status.st_mode) or (sticky and status.st_mode & stat.S_ISVTX):
        return None
    if status.st_mode & stat.S_IWOTH:
        return "can be written to by all users"
    if status.st_mode & stat.S_IWGRP and (not is_private(status.st_gid, os.geteuid()) or _has_access_list(path)):
        return f"can be written to by others, of group {status.st_gid}"
    return None


@cache
def is_private(group: int, user: int) -> bool:
    """Tell whether a group is a user's own: the primary one, of the same name, without other members."""
    import grp
    import pwd

    try:
        owner, members = pwd.getpwuid(user), grp.getgrgid(group)
    except KeyError:
        return False
    return owner.pw_gid == group and members.gr_name == owner.pw_name and set(members.gr_mem) <= {owner.pw_name}


def _has_access_list(path: Path) -> bool:
    """Tell whether a path has a POSIX access list: the bits of the group are its mask then, for other users too."""
    try:
        return bool(os.getxattr(path, "system.posix_acl_access"))
    except (AttributeError, OSError):  # no such attributes: another system, or none set
        return False
