"""Objects that one thread at a time works with, and the locks that see to it, also in a forked child."""

from __future__ import annotations

import os
import threading
from weakref import WeakValueDictionary


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
        _all[id(self)] = self


_all: WeakValueDictionary[int, Exclusive] = WeakValueDictionary()


def _open_all() -> None:
    for one in list(_all.values()):
        one._open()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_open_all)
