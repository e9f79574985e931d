"""`Trainer`: one step on a batch, and the loop of epochs around it."""

from __future__ import annotations

from ..lazy import lazy_names

__all__ = ["Trainer"]  # fmt: skip

__getattr__, __dir__ = lazy_names(__name__, dict.fromkeys(__all__, "trainer"))
