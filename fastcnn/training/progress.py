"""The progress of a run: lines that stay, and on a terminal a bar below them, by tqdm where it is installed."""

from __future__ import annotations

import sys
import threading
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

    def say(self, words: str) -> None:
        """Show what is done just now, until the next step."""

    @abstractmethod
    def write(self, line: str) -> None:
        """Write a line that stays to standard output."""

    @abstractmethod
    def close(self) -> None:
        """Take the bar away."""


def progress(steps: int | None, *, quiet: bool = False) -> Progress:
    """Return the progress of a run of so many steps, None: not known.

    In a notebook and on a terminal with a bar, by tqdm where it is installed; without it, a terminal has a line that
    counts.
    """
    if quiet:
        return _Silence()
    notebook = in_notebook()
    if not (notebook or sys.stderr.isatty()):
        return _LinesOnly()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a notebook without ipywidgets, where the bar is text
            if notebook:
                from tqdm.auto import tqdm
            else:
                from tqdm import tqdm
            return _Bar(tqdm(total=steps, unit="step", leave=False, dynamic_ncols=True, file=sys.stderr))
    except ImportError:
        return _LinesOnly() if notebook else _Counter(steps)


def in_notebook() -> bool:
    """Tell whether IPython runs this process as the kernel of a notebook."""
    get_shell = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return hasattr(get_shell() if get_shell else None, "kernel")


@contextmanager
def saying(words: str) -> Iterator[None]:
    """Say on a terminal what is done, and for how long; in the end, or elsewhere, there is a line with the seconds."""
    before = time.perf_counter()
    shown = _Counter(None) if sys.stderr.isatty() else _LinesOnly()
    with shown:
        shown.say(words)
        yield
        shown.write(f"{words} ... {time.perf_counter() - before:.1f} s")


class _Ticker:
    """Calls a function once a second, from a thread of its own, during work that has no steps to count."""

    seconds = 1.0

    def __init__(self, tick: Callable[[], None]) -> None:
        self.tick = tick
        self.thread: threading.Thread | None = None
        self.ended = threading.Event()

    def start(self) -> None:
        """Begin to call it; `stop` comes first if it is being called."""
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(self.ended,), daemon=True)
        self.thread.start()

    def _run(self, ended: threading.Event) -> None:
        while not ended.wait(self.seconds):
            self.tick()

    def stop(self) -> None:
        """Call it no more: a call that goes on has ended when this returns."""
        if self.thread is not None:
            self.ended.set()
            self.thread.join()
            self.thread = None


@final
class _Silence(Progress):
    """Writes nothing."""

    def advance(self) -> None:
        pass

    def write(self, line: str) -> None:
        pass

    def close(self) -> None:
        pass


@final
class _LinesOnly(Progress):
    """Writes lines, and no bar."""

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
        self.ticker, self.said = _Ticker(self._tick), ("", 0.0)
        self.began = 0.0  # when the first step was done: what comes before, such as compiling, tells nothing of others

    def advance(self) -> None:
        self.ticker.stop()
        self.step += 1
        now = time.monotonic()
        if self.step == 1:
            self.began = now
        if now >= self.due:
            self._show(self._count(now))

    def say(self, words: str) -> None:
        self.ticker.stop()
        now = time.monotonic()
        self.said = f"{self._count(now)}, {words}" if self.step else words, now
        self._show(self.said[0])
        self.ticker.start()

    def _tick(self) -> None:
        words, since = self.said
        self._show(f"{words} ... {duration(time.monotonic() - since)}")

    def write(self, line: str) -> None:
        self.ticker.stop()
        self._show("")
        print(line, flush=True)
        if self.step and self.step != self.steps:
            self._show(self._count(time.monotonic()))

    def _count(self, now: float) -> str:
        """Return the steps that are done, and the time left as those so far tell it."""
        if not self.steps:
            return f"step {self.step}"
        words = f"{self.step / self.steps:4.0%}  step {self.step} of {self.steps}"
        if self.step < 2:
            return words
        left = (now - self.began) / (self.step - 1) * max(0, self.steps - self.step)
        return f"{words}, {duration(left)} left"

    def close(self) -> None:
        self.ticker.stop()
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
        self.bar, self.said, self.ticker = bar, False, _Ticker(bar.refresh)

    def advance(self) -> None:
        if self.said:
            self.ticker.stop()
            self.bar.set_postfix_str("", refresh=False)
            self.said = False
        self.bar.update()

    def say(self, words: str) -> None:
        self.ticker.stop()
        self.said = True
        self.bar.set_postfix_str(words)
        self.ticker.start()

    def write(self, line: str) -> None:
        self.ticker.stop()
        self.bar.write(line, file=sys.stdout)
        sys.stdout.flush()

    def close(self) -> None:
        self.ticker.stop()
        self.bar.close()


def duration(seconds: float) -> str:
    """Return seconds in words: "8 s", "2 min 5 s", "3 h 20 min"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
