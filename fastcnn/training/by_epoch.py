"""Settings that change with the epochs of a fit: `{0: 64, 5: 256}` is 64 in the first five epochs, then 256."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import numpy as np

from .. import checks

T = TypeVar("T")


class ByEpoch(Generic[T]):
    """A value for each epoch of a fit, counted from 0.

    Parameters
    ----------
    value : T or dict of int to T
        One for all epochs, or from which epoch on; epoch 0 must be there.
    name : str
        Of the argument of `fit`.
    check : function
        From a value and its name to the value to keep, or an error.
    """

    def __init__(self, value: Any, name: str, check: Callable[[Any, str], T]) -> None:
        if not isinstance(value, Mapping):
            self.rows = {0: check(value, name)}
            return
        for epoch in value:
            if isinstance(epoch, bool) or not isinstance(epoch, int | np.integer) or epoch < 0:
                raise ValueError(f"fit: {name}: expected epochs, counted from 0, as keys; got {epoch!r}")
        if 0 not in value:
            raise ValueError(f"fit: {name}: expected a value from epoch 0 on; got epochs {sorted(value)}")
        self.rows = {int(epoch): check(value[epoch], f"{name}[{epoch}]") for epoch in sorted(value)}

    def at(self, epoch: int) -> T:
        """Return the value of an epoch."""
        return next(value for begin, value in reversed(self.rows.items()) if begin <= epoch)

    def spelt(self) -> Any:
        """Return it as JSON: a single value by itself."""
        rows = {str(epoch): [*value] if isinstance(value, tuple) else value for epoch, value in self.rows.items()}
        return rows["0"] if len(rows) == 1 else rows


def batch_sizes(value: Any) -> ByEpoch[int]:
    """Return the batch size of each epoch."""
    return ByEpoch(value, "batch_size", lambda size, name: checks.as_positive_int(size, "fit", name))


def resolutions(value: Any) -> ByEpoch[tuple[int, int]]:
    """Return height and width of the images of each epoch."""
    return ByEpoch(value, "resolution", _as_size)


def _as_size(value: Any, name: str) -> tuple[int, int]:
    if isinstance(value, tuple | list):
        if len(value) != 2:
            raise ValueError(f"fit: {name}: expected an int, or height and width; got {value!r}")
        height, width = value
    else:
        height = width = value
    return checks.as_positive_int(height, "fit", name), checks.as_positive_int(width, "fit", name)
