"""`Trainer`: one step on a batch, and the loop of epochs around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .trainer import Trainer as Trainer

__all__ = ["Trainer"]  # fmt: skip

__getattr__, __dir__ = lazy_names(__name__, dict.fromkeys(__all__, "trainer"))
