"""Warnings that name the line from which fastcnn is called."""

from __future__ import annotations

import sys
import warnings

INNER = {"fastcnn", "sklearn"}  # scikit-learn's frames lie between ours: wrappers of `fit`, searches


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the innermost line that is neither fastcnn's nor scikit-learn's, however deep the call is."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in INNER:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
