"""The command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .main import main as main

__all__ = ["main"]  # fmt: skip

__getattr__, __dir__ = lazy_names(__name__, dict.fromkeys(__all__, "main"))
