"""The progress of a run: lines that stay, and on a terminal a bar below them, by tqdm where it is installed."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, Self, final


class Progress(ABC):
    """What a run writes while it goes on; a context manager that leaves nothing but the lines."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def advance(self) -> None:
        """Count a step."""

    @abstractmethod
    def write(self, line: str) -> None:
        """Write a line that stays to standard output."""

    @abstractmethod
    def close(self) -> None:
        """Take the bar away."""


def progress(steps: int | None, *, quiet: bool = False) -> Progress:
    """Return the progress of a run of so many steps, None: not known; with a bar if standard error is a terminal."""
    if quiet:
        return _Silence()
    if not sys.stderr.isatty():
        return _Lines()
    try:
        from tqdm import tqdm
    except ImportError:
        return _Counter(steps)
    return _Bar(tqdm(total=steps, unit="step", leave=False, dynamic_ncols=True, file=sys.stderr))


@final
class _Silence(Progress):
    """Nothing."""

    def advance(self) -> None:
        pass

    def write(self, line: str) -> None:
        pass

    def close(self) -> None:
        pass


@final
class _Lines(Progress):
    """Lines only."""

    def advance(self) -> None:
        pass

    def write(self, line: str) -> None:
        print(line, flush=True)

    def close(self) -> None:
        pass


@final
class _Counter(Progress):
    """Lines, and below them one that is written over and over."""

    interval = 0.1  # seconds between two writings: an eye needs no more, and a step should not wait for a terminal

    def __init__(self, steps: int | None) -> None:
        self.steps, self.step, self.shown, self.due = steps, 0, "", 0.0

    def advance(self) -> None:
        self.step += 1
        if time.monotonic() >= self.due:
            done = f"{self.step / self.steps:4.0%}  step {self.step} of {self.steps}" if self.steps else ""
            self._show(done or f"step {self.step}")

    def write(self, line: str) -> None:
        shown = self.shown
        self._show("")
        print(line, flush=True)
        self._show(shown)

    def close(self) -> None:
        self._show("")

    def _show(self, text: str) -> None:
        # Blanks rather than an escape sequence: every terminal knows them.
        if text != self.shown:
            sys.stderr.write("\r" + " " * len(self.shown) + "\r" + text)
            sys.stderr.flush()
        self.shown, self.due = text, time.monotonic() + self.interval


@final
class _Bar(Progress):
    """Lines, and below them tqdm's bar."""

    def __init__(self, bar: Any) -> None:
        self.bar = bar

    def advance(self) -> None:
        self.bar.update()

    def write(self, line: str) -> None:
        self.bar.write(line, file=sys.stdout)
        sys.stdout.flush()

    def close(self) -> None:
        self.bar.close()
