"""The range of the numbers that a network was trained on, and whether others lie far outside: bytes for 0 to 1, say."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from .typing import Array

REACH = 10.0  # ranges beyond the one that is known, at which no noise and no change of light leads
SHARE = 0.005  # of the numbers, that lie so far: less may be a few broken pixels
LEVELS = 10.0  # how high whole numbers have to reach, so that others from 0 to 1 are another scale of them
DARK = 0.5  # and how high these reach then; lower ones may be dark images


class Range(NamedTuple):
    """The lowest and the highest number, and whether all numbers are whole."""

    low: float
    high: float
    whole: bool

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"

    def with_(self, other: Range | None) -> Range:
        """Return the range of both."""
        if other is None:
            return self
        return Range(min(self.low, other.low), max(self.high, other.high), self.whole and other.whole)


def range_of(pieces: Iterable[Array], missing: float | None = None) -> Range | None:
    """Return the range of all numbers but the missing ones; None where there are none.

    Parameters
    ----------
    pieces : iterable of array
        Parts of the numbers, each of a size for which there is memory twice.
    missing : float, optional
        What stands for a missing number, as in the estimators; NaN never counts.
    """
    low, high, whole = math.inf, -math.inf, True
    for piece in pieces:
        x = _present(piece, missing)
        if x.size:
            low, high = min(low, float(np.fmin.reduce(x, axis=None))), max(high, float(np.fmax.reduce(x, axis=None)))
            whole = whole and _are_whole(x)
    return Range(low, high, whole) if low <= high else None


def read_range(values: Any) -> Range | None:
    """Return a range from its three values in a file; None of anything else, as files of former versions have it."""
    if isinstance(values, list) and len(values) == 3 and isinstance(values[2], bool):
        low, high, whole = values
        numbers = all(isinstance(each, float | int) and not isinstance(each, bool) for each in (low, high))
        if numbers and -math.inf < low <= high < math.inf:
            return Range(float(low), float(high), whole)
    return None


def warning_of(known: Range | None, x: Array, missing: float | None = None) -> str | None:
    """Return what is to be said of numbers that are on another scale than those of a training; None of usual ones.

    They are where more than 1 in 200 is farther outside of the known range than ten times its width, as bytes are of 0
    to 1; or where training saw whole numbers from 0 to 10 or more, and these are broken ones from 0 to 1, half of
    that at least.

    Parameters
    ----------
    known : Range or None
        Of the numbers of the training; None where it is not known.
    x : array
    missing : float, optional
    """
    width = known.high - known.low if known is not None else 0.0
    if known is None or not 0 < width < math.inf or not x.size:
        return None
    found = Range(float(np.fmin.reduce(x, axis=None)), float(np.fmax.reduce(x, axis=None)), whole=False)
    below, above = known.low - REACH * width, known.high + REACH * width
    other = False
    if found.low < below or found.high > above:
        x = _present(x, missing)
        far = np.count_nonzero(x < below) + np.count_nonzero(x > above)
        other = bool(far > SHARE * x.size)
    elif known.whole and known.low >= 0 and known.high >= LEVELS and found.low >= 0 and DARK < found.high <= 1:
        other = not _are_whole(x)
    if not other:
        return None
    own = range_of([x]) or found
    return f"numbers from {own}, of which those that it was trained on, from {known}, are far: scale both alike"


def _present(x: Array, missing: float | None) -> Array:
    return x if missing is None or math.isnan(missing) else x[x != missing]


def _are_whole(x: Array) -> bool:
    """Tell whether all numbers are whole; the first few answer it for most."""
    if x.dtype.kind != "f":
        return True
    flat: Any = x.reshape(-1) if x.flags.c_contiguous else x.ravel()
    return all(_whole(part) for part in (flat[:1024], flat))


def _whole(x: Array) -> bool:
    whole = x == np.floor(x)
    return bool((whole | np.isnan(x)).all())
