"""A number of a network, and the sum behind it: `explain` and `explain_gradient`, computed by loops in float64."""

from __future__ import annotations

from ..lazy import lazy_names

_NAMES = {"Explanation": "steps", "explain": "network", "explain_gradient": "network"}

__all__ = [*_NAMES]  # noqa: PLE0604

__getattr__, __dir__ = lazy_names(__name__, _NAMES)
