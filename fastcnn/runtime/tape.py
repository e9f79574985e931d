"""Kernel calls that are recorded once and repeated as one native call, whatever their number.

A call from Python takes as long as a small kernel, and holds the GIL while it finds the machine addresses of its
arguments. A tape has them already: a loop in machine code makes its calls, while other threads run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from ..jit.signature import values_of
from .replay import inverter, player, player_on_arrays

Function = Callable[..., Any]
DATA = 4  # of the words of an array, see `values_of`: the address of its numbers


class Tape:
    """Calls, to be made again in their order with the same arguments.

    Where kernels follow each other they become one call. Their arguments are kept alive, and must stay where they are
    in memory.
    """

    __slots__ = ("_calls", "_steps", "_tables")  # a trainer has hundreds: one for each shard, worker and length

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
        """Append `word[0] = ~word[0]`, of int64: by it a caller sees, after an exception, how far the calls came."""
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

    def on(self, buffers: Sequence[np.ndarray]) -> Callable[[tuple[np.ndarray, ...]], Any]:
        """Return a function that makes the calls, all of them of kernels, on other arrays in place of `buffers`.

        Its argument is a tuple of arrays, one in place of each buffer: as long, and with the same order of numbers in
        memory. Buffers are contiguous, and do not overlap. The caller keeps this tape alive, and both.
        """
        begins = [buffer.ctypes.data for buffer in buffers]
        moved, rows, kept = [], [], []
        for address, words, arguments in self._calls:
            assert not callable(address)
            kept.append(own := np.frombuffer(words, np.int64).copy())
            rows.append((address, _address(own)))
            for place, array in _arrays(arguments):
                for number, (begin, buffer) in enumerate(zip(begins, buffers, strict=True)):
                    offset = array.ctypes.data - begin
                    if array.size and 0 <= offset < buffer.nbytes:
                        moved.append((_address(own) + own.itemsize * place, number, offset))
        table, addresses = np.array(rows, np.int64), np.array(moved, np.int64)
        task = np.array([table.ctypes.data, len(rows), addresses.ctypes.data, len(moved)])
        self._tables += [*kept, table, addresses, task, *buffers]
        return player_on_arrays()(int(task.ctypes.data))

    def touches(self, buffer: np.ndarray) -> bool:
        """Tell whether a kernel call has an array that begins inside a buffer."""
        begin, calls = buffer.ctypes.data, self._calls
        arrays = (array for *_, arguments in calls for _, array in _arrays(arguments) if array.size)
        return any(begin <= array.ctypes.data < begin + buffer.nbytes for array in arrays)

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


def _arrays(arguments: Sequence[Any], first: int = 0) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the arrays among a kernel's arguments, and which of its words has the address of their numbers."""
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            yield first + DATA, argument
        elif isinstance(argument, tuple):
            yield from _arrays(argument, first)
        first += len(values_of([argument]))


def _address(words: Any) -> int:
    """Return where bytes, or an array's numbers, lie."""
    return int(np.frombuffer(words, np.uint8).ctypes.data)
