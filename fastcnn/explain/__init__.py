"""A number of a network, and the sum behind it: `explain` and `explain_gradient`, computed by loops in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .network import Loops as Loops
    from .network import explain as explain
    from .network import explain_gradient as explain_gradient
    from .steps import Explanation as Explanation
    from .steps import Step as Step
    from .steps import Term as Term

_NAMES = {
    "Explanation": "steps", "Loops": "network", "Step": "steps", "Term": "steps", "explain": "network",
    "explain_gradient": "network",
}  # fmt: skip

__all__ = [*_NAMES]  # noqa: PLE0604

__getattr__, __dir__ = lazy_names(__name__, _NAMES)
