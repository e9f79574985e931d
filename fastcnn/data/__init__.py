"""Data sets from files, and augmentation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_names

if TYPE_CHECKING:
    from .sets import DataError as DataError
    from .sets import Dataset as Dataset
    from .sets import hold_out as hold_out
    from .sets import load as load
    from .sets import load_cifar as load_cifar
    from .sets import load_digits as load_digits
    from .sets import load_idx as load_idx
    from .sets import load_images as load_images
    from .sets import load_npz as load_npz

__all__ = [
    "DataError", "Dataset", "hold_out", "load", "load_cifar", "load_digits", "load_idx", "load_images", "load_npz",
]  # fmt: skip

__getattr__, __dir__ = lazy_names(__name__, dict.fromkeys(__all__, "sets"))
