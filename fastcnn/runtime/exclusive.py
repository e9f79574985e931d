"""Objects that one thread at a time works with, and the locks that see to it, also in a forked child."""

from __future__ import annotations

import os
import threading
from weakref import ref


class Exclusive:
    """An object with a lock, `_lock`, which whoever changes the object holds meanwhile, as often as it likes.

    A pickle and a copy have a lock of their own. So has a forked child: there, nobody would open one that another
    thread held.
    """

    def __init__(self) -> None:
        self._open()

    def _open(self) -> None:
        """Begin with a lock that nobody holds."""
        self._lock = threading.RLock()
        if len(_all) >= 2 * _Living.count:
            for key in [key for key, one in list(_all.items()) if one() is None]:
                _all.pop(key, None)
            _Living.count = max(len(_all), 1000)
        _all[id(self)] = ref(self)


class _Living:
    """How many there were when those that had gone were last left out."""

    count = 1000


_all: dict[int, ref[Exclusive]] = {}  # no weak dictionary: a Ctrl-C in its callbacks would be printed, and lost


def _open_all() -> None:
    for reference in list(_all.values()):
        one = reference()
        if one is not None:
            one._open()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_open_all)
