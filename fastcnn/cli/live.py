"""The live page, as `train --live` and `explore` open it: a port in use is one line, and Ctrl-C ends it quietly."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .common import CommandError

if TYPE_CHECKING:
    from ..live.page import LivePage


def live_page(X: Any, y: Any, classes: Any, port: int, option: str) -> LivePage:
    """Return a page that listens."""
    from ..live.page import LivePage

    page = LivePage(X, y, classes=classes, port=port)
    try:
        return page.open()
    except OSError as error:
        raise CommandError(f"{option} {port}: {error.strerror}; without a number, a free one is taken", 1) from None


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C be a KeyboardInterrupt, where the command line has made it end the process."""
    handler = signal.getsignal(signal.SIGINT)
    if getattr(handler, "__name__", "") != "leave":
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
