"""The live page, as `train --live` and `explore` open it: a port that is in use is an error of one line."""

from __future__ import annotations

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
