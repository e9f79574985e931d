"""The live page: a network while it trains, in a browser; each number can be asked for its sum."""

from __future__ import annotations

from ..lazy import lazy_names

_NAMES = {"LivePage": "page"}

__all__ = [*_NAMES]  # noqa: PLE0604

__getattr__, __dir__ = lazy_names(__name__, _NAMES)
