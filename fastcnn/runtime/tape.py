"""Kernel calls that are recorded once and repeated as one native call, whatever their number.

Each call from Python costs what a small kernel costs, and holds the GIL while it finds the machine addresses of its
arguments. A tape has written them down: a loop in machine code takes them from there, and other threads run meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import Any

import numpy as np

from .replay import inverter, player

Function = Callable[..., Any]


class Tape:
    """Calls, to be made again in their order with the same arguments.

    Where kernels follow each other they become one call. Their arguments are kept alive, and must stay where they are
    in memory.
    """

    def __init__(self) -> None:
        self._calls: list[tuple[Function | int, Any, tuple[Any, ...]]] = []
        self._steps: list[tuple[Function, tuple[Any, ...]]] | None = None
        self._tables: list[np.ndarray] = []  # what machine code reads: alive

    def add(self, function: Function, arguments: tuple[Any, ...]) -> None:
        """Append a call of Python."""
        self._calls.append((function, None, arguments))

    def add_kernel(self, address: int, words: bytes, arguments: tuple[Any, ...]) -> None:
        """Append the call of a kernel: of machine code that takes its arguments from `words`."""
        self._calls.append((address, words, arguments))

    def add_inversion(self, word: np.ndarray) -> None:
        """Append `word[0] = ~word[0]`, of int64: what tells a caller that an exception has torn off how far it came."""
        self._calls.append((inverter(), np.array([word.ctypes.data], np.int64).tobytes(), (word,)))

    def play(self) -> None:
        """Make all calls."""
        for function, arguments in self._steps or self._join():
            function(*arguments)

    def __add__(self, other: Tape) -> Tape:
        """Return the calls of both in one tape."""
        both = Tape()
        both._calls = self._calls + other._calls
        return both

    def native(self) -> tuple[int, int] | None:
        """Return the address and the number of its kernel calls, if it is nothing else."""
        if any(callable(function) for function, *_ in self._calls):
            return None
        if self._steps is None:
            self._join()
        return (self._tables[0].ctypes.data, len(self._calls)) if self._calls else (0, 0)

    def _join(self) -> list[tuple[Function, tuple[Any, ...]]]:
        """Turn each run of kernel calls into one."""
        steps: list[tuple[Function, tuple[Any, ...]]] = []
        for is_python, calls in groupby(self._calls, key=lambda call: callable(call[0])):
            if is_python:
                steps += [(function, arguments) for function, _, arguments in calls if callable(function)]
            else:
                table = np.array([(address, _address(words)) for address, words, _ in calls], np.int64)
                task = np.array([table.ctypes.data, len(table)])
                self._tables += [table, task]
                steps.append((player()(int(task.ctypes.data)), (None,)))
        self._steps = steps
        return steps


def _address(words: Any) -> int:
    """Return where bytes, or an array's numbers, lie."""
    return int(np.frombuffer(words, np.uint8).ctypes.data)
