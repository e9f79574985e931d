"""Objects with a lock, by which one thread at a time changes them, also in a forked child."""

from __future__ import annotations

import os
import threading
from weakref import ref


class Exclusive:
    """An object with a reentrant lock, `_lock`, that every method which changes the object holds.

    A pickle and a copy get a lock of their own. So does a forked child: a lock that another thread held at the fork
    would stay locked there.
    """

    def __init__(self) -> None:
        self._open()

    def _open(self) -> None:
        """Begin with an unlocked lock."""
        self._lock = threading.RLock()
        if len(_all) >= 2 * _Living.count:
            for key in [key for key, one in list(_all.items()) if one() is None]:
                _all.pop(key, None)
            _Living.count = max(len(_all), 1000)
        _all[id(self)] = ref(self)


class _Living:
    """The number of objects at which references to dead ones are removed next: at twice as many."""

    count = 1000


_all: dict[int, ref[Exclusive]] = {}  # no weak dictionary: a Ctrl-C in its callbacks would be printed, and lost


def _open_all() -> None:
    for reference in list(_all.values()):
        one = reference()
        if one is not None:
            one._open()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_open_all)
