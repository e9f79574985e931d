"""The executables of a layer, kept by shape and dtype of the batch: an epoch's last batch has a size of its own."""

from __future__ import annotations

import numpy as np

from ..typing import Array, Shape
from .executable import CHUNK, Executable, Lowerable

KEPT = 4  # executables of a layer: for whole batches, for the last one of an epoch, and for as many of a test


class ExecutableCache:
    """The executables of a layer by shape and dtype of the batch: a few, as long as they fit CHUNK numbers together.

    Attributes
    ----------
    last : Executable or None
        That of the last forward pass.
    """

    def __init__(self) -> None:
        self.last: Executable | None = None
        self._kept: dict[tuple[Shape, np.dtype], Executable] = {}  # the one that was used last stands last

    def find(self, x: Array) -> Executable | None:
        """Return the executable for batches such as `x`, if there is one; it is the last one from now on."""
        last = self.last
        if last is not None and x.shape == last.shape and x.dtype == last.dtype:
            return last
        executable = self._kept.pop((x.shape, x.dtype), None)
        return None if executable is None else self._enter(executable)

    def compile(self, layer: Lowerable, x: Array, calls: int) -> Executable:
        """Return a new executable for batches such as `x`, when there were so many calls before."""
        executable = Executable(layer, x.shape, x.dtype, calls)
        while self._kept and not self._has_room(executable):
            del self._kept[next(iter(self._kept))]
        return self._enter(executable)

    def _enter(self, executable: Executable) -> Executable:
        """Let an executable follow the last one: it counts the calls on."""
        if self.last is not None:
            executable.calls, self.last.ready = self.last.calls, False
        self._kept[executable.shape, executable.dtype] = self.last = executable
        return executable

    def _has_room(self, executable: Executable) -> bool:
        size = executable.size + sum(kept.size for kept in self._kept.values())
        return len(self._kept) < KEPT and size <= CHUNK
