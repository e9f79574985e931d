"""Why a network says what it says: saliency, class activation maps, occlusion, mistakes, dead units; as arrays."""

from __future__ import annotations

from ..lazy import lazy_names

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
