"""Data sets from files, and augmentation."""

from __future__ import annotations

from ..lazy import lazy_names

__all__ = [
    "DataError", "Dataset", "hold_out", "load", "load_cifar", "load_digits", "load_idx", "load_images", "load_npz",
]  # fmt: skip

__getattr__, __dir__ = lazy_names(__name__, dict.fromkeys(__all__, "sets"))
