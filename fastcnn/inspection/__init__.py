"""Why a network says what it says: saliency, class activation maps, occlusion, mistakes, dead units; as arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .attribution import grad_cam as grad_cam
    from .attribution import saliency as saliency
    from .mistakes import Mistakes as Mistakes
    from .mistakes import worst_mistakes as worst_mistakes
    from .patches import occlusion as occlusion
    from .units import dead_units as dead_units

__all__ = ["Mistakes", "dead_units", "grad_cam", "occlusion", "saliency", "worst_mistakes"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Mistakes": "mistakes",
        "dead_units": "units",
        "grad_cam": "attribution",
        "occlusion": "patches",
        "saliency": "attribution",
        "worst_mistakes": "mistakes",
    },
)
