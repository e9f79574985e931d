"""Pictures by matplotlib (extra `[plot]`): training curves, filters, feature maps, saliency, mistakes.

As scikit-learn's displays, each class is made by `from_estimator` or another `from_…` from what it shows, draws with
`plot(ax=...)`, and keeps what it has drawn in `figure_` and `axes_`. Confusion matrices are those of scikit-learn:
`ConfusionMatrixDisplay.from_estimator(classifier, X, y)`.
"""

from __future__ import annotations

from ..lazy import lazy_names

_NAMES = {
    "FeatureMapsDisplay": "network", "FiltersDisplay": "network", "MistakesDisplay": "explained",
    "SaliencyDisplay": "explained", "TrainingCurveDisplay": "curves",
}  # fmt: skip

__all__ = [*_NAMES]  # noqa: PLE0604

__getattr__, __dir__ = lazy_names(__name__, _NAMES)
