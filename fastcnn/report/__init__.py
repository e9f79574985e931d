"""A report of a classifier on a data set: one page of HTML that needs nothing else."""

from __future__ import annotations

from ..lazy import lazy_names

_NAMES = {"write_report": "write"}

__all__ = [*_NAMES]  # noqa: PLE0604

__getattr__, __dir__ = lazy_names(__name__, _NAMES)
