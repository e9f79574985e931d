"""The types that annotations use."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
IntArray: TypeAlias = npt.NDArray[np.integer[Any]]
Gradients: TypeAlias = dict[str, Array]  # name of a parameter -> flat storage
Shape: TypeAlias = tuple[int, ...]
RandomState: TypeAlias = int | np.random.RandomState | np.random.Generator | None
