"""How images are centred and scaled before a network sees them: by their bulk, so that no outlier decides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import caller, exact
from ..ranges import Range, range_of, warning_of
from ..typing import Array, Shape

CHUNK = 1 << 20  # numbers that are summed at once
IN_CACHE = 1 << 15  # numbers that are scaled at once
WHOLE = 1 << 22  # numbers up to which a set is scaled as a whole: beyond, a batch at a time, which takes 1 % longer
SAMPLE = 1 << 17  # numbers by which the bulk is found, or rows of strips: their quartiles are within 0.3 %
REACH = 1.5  # units beyond the quartiles up to which numbers are as they are (Tukey's fences): 99.3 % of normal ones
FAR = 20.0  # units beyond the fences, at which no picture goes on
ARRAYS = ("zero", "deviation", "low", "high", "unit", "fill")  # what predictions need
Column = tuple[Array, Array]  # numbers, and the weight of each


class Scaler:
    """Scales images to variance 1, their darkest value, of signals the mean, to 0; strips likewise, each feature.

    Numbers far from the bulk of their channel, or of their feature in strips, are outliers: those farther than 1.5
    units from the quartiles, a unit being the distance of the quartiles. They count for nothing that is found here, and
    are drawn in: d units beyond these fences become log(1 + log(1 + d)) units, which begins with slope 1, keeps their
    order, and is 2.4 for a d of 17,000. The two most frequent numbers, such as a background and what stands for "no
    data", are left out of the quartiles. Where the others' quartiles are one, the two of these three that are nearest
    to each other serve.

    Parameters
    ----------
    X : array of shape (n, C, H, W)
    weight : array of shape (n,) or None
    strips : bool
    missing : number, optional
        What stands for a missing number, NaN included; it becomes the mean of its pixel, of its channel where the pixel
        has none.
    signals : bool
        Channels get the mean 0 rather than the darkest value.

    Attributes
    ----------
    zero, deviation : float64 array of shape (C, 1, 1), of strips (C, H, W)
        The image is (x - zero) / deviation.
    low, high, unit : float64 array, likewise
        The fences, and the unit.
    fill : float64 array of shape (C, H, W) or None
    range : Range or None
        From the lowest to the highest number; None of files of former versions.
    repeated : tuple of float, optional
        A number that is farther than 20 units, more than once, and the share of all numbers that it has: perhaps it
        stands for "no data".

    References
    ----------
    Tukey, "Exploratory data analysis" (1977), section 2D (quartiles and fences).
    """

    # Of scalers from former versions.
    low, high, unit = np.array(-np.inf), np.array(np.inf), np.array(1.0)
    fill: Array | None = None
    missing: float | None = None
    range: Range | None = None
    has_warned = False

    def __init__(
        self, X: Array, weight: Array | None, *, strips: bool, missing: float | None = None, signals: bool = False
    ) -> None:
        self.missing = missing
        self.see(X)
        columns, shape = _columns(X, weight, strips)
        columns = [_present(column, missing) for column in columns]
        found = np.array([_fence(*column) for column in columns])
        self.low, self.high, self.unit = (row.reshape(shape) for row in found.T)
        self.repeated = _repeated(columns, found)
        sums = _Sums(self, X, weight, strips)
        with np.errstate(over="ignore", invalid="ignore"):
            mean = sums.of(lambda x: x)
            square = sums.of(lambda x: _square(x - mean))
        if not np.isfinite(square).all():
            raise ValueError("X: its numbers are too large: the sum of their squares is beyond float64; scale them")
        deviation = np.sqrt(square)
        # What becomes 0 is what convolutions and shifts add beyond the edge.
        self.zero = mean if strips or signals else self._darkest(X, mean)
        # A constant feature has only rounding for a deviation.
        self.deviation = np.where(deviation > 1e-12 * np.abs(mean), deviation, 1.0)
        if missing is not None:
            self.fill = _Sums(self, X, weight, strips=True).of(lambda x: x, otherwise=mean)

    def see(self, X: Array) -> None:
        """Note the range of numbers that a network is trained on."""
        found = range_of((X[rows] for rows in chunks(X)), self.missing)
        if found is not None:
            self.range = found.with_(self.range)

    def check_range(self, X: Array, name: str) -> None:
        """Warn of numbers on another scale than that of the training; once, for a stream would be told forever."""
        if self.has_warned:
            return
        words = warning_of(self.range, X, self.missing)
        if words is not None:
            self.has_warned = True
            caller.warn(f"{name}: {words}")

    def __call__(self, X: Array, dtype: Any) -> Array:
        """Return the images in float32 or float64."""
        out = np.empty(X.shape, dtype)
        for rows in chunks(X, IN_CACHE):
            centred = self._drawn_in(self._filled(X[rows])) - self.zero
            centred /= self.deviation
            out[rows] = centred
        return out

    def slope(self, x: Array) -> Array:
        """Return the derivative of the image by each number: 1 / deviation, less of outliers, 0 of missing ones.

        Beyond a fence, with d units to it, that of `log(1 + log(1 + d))` is `1 / ((1 + d) · (1 + log(1 + d)))`.
        """
        slope = np.ones(x.shape) / self.deviation
        for outside, fence, sign in ((x > self.high, self.high, 1.0), (x < self.low, self.low, -1.0)):
            ends, unit = np.broadcast_to(fence, x.shape)[outside], np.broadcast_to(self.unit, x.shape)[outside]
            distance = np.minimum(sign * (x[outside].astype(np.float64) - ends) / unit, 1e300)
            slope[outside] /= (1.0 + distance) * (1.0 + exact.log_one_plus(distance))
        if self.missing is not None:
            slope[is_missing(x, self.missing)] = 0.0
        return slope

    def counts(self, x: Array) -> Array:
        """Tell which numbers are neither outliers nor missing."""
        inside: Array = (x >= self.low) & (x <= self.high)  # NaN is not
        return inside if self.missing is None else inside & ~is_missing(x, self.missing)

    def _darkest(self, X: Array, mean: Array) -> Array:
        parts = [X[rows] for rows in chunks(X)]
        darkest = [np.where(self.counts(x), x, np.inf).min(axis=(0, 2, 3), keepdims=True)[0] for x in parts]
        found: Array = np.min(darkest, axis=0).astype(np.float64)
        return np.where(np.isfinite(found), found, mean)

    def _filled(self, x: Array) -> Array:
        if self.missing is None or self.fill is None:
            return x
        absent = is_missing(x, self.missing)
        return np.where(absent, self.fill, x) if absent.any() else x

    def _drawn_in(self, x: Array) -> Array:
        """Return the numbers with outliers drawn in."""
        above, below = x > self.high, x < self.low
        if not (above.any() or below.any()):
            return x
        y = x.astype(np.float64)
        for outside, fence, sign in ((above, self.high, 1.0), (below, self.low, -1.0)):
            ends, unit = np.broadcast_to(fence, x.shape)[outside], np.broadcast_to(self.unit, x.shape)[outside]
            with np.errstate(over="ignore"):
                distance = np.minimum(sign * (y[outside] - ends) / unit, 1e300)
            y[outside] = ends + sign * unit * exact.log_one_plus(exact.log_one_plus(distance))
        return y


class _Sums:
    """Means over the numbers that count: by channel, or by feature of strips."""

    def __init__(self, scaler: Scaler, X: Array, weight: Array | None, strips: bool) -> None:
        self.scaler, self.X, self.weight, self.strips = scaler, X, weight, strips
        self.whole = all(scaler.counts(X[rows]).all() for rows in chunks(X))
        if self.whole:
            self.total: Any = (len(X) if weight is None else exact.total(weight)) * (1 if strips else X[0, 0].size)
        else:
            self.total = self._summed(lambda x: np.ones(x.shape))

    def of(self, function: Any, otherwise: Any = 0.0) -> Array:
        """Return the mean of a function of the numbers; `otherwise` where none counts."""
        summed = self._summed(function)
        mean: Array = summed / np.where(np.asarray(self.total) > 0, self.total, 1.0)
        return mean if self.whole else np.where(self.total > 0, mean, otherwise)

    def _summed(self, function: Any) -> Any:
        return sum(self._part(rows, function) for rows in chunks(self.X))

    def _part(self, rows: slice, function: Any) -> Array:
        x = self.X[rows]
        values = function(x)
        if not self.whole:
            values = np.where(self.scaler.counts(x), values, 0.0)
        if self.weight is not None:
            values = values * self.weight[rows].reshape(-1, 1, 1, 1)
        numbers = exact.total(values)
        return numbers if self.strips else exact.total(numbers.reshape(len(numbers), -1).T)[:, None, None]


def is_missing(x: Array, missing: float) -> Array:
    """Tell which numbers stand for a missing one."""
    absent: Array = np.isnan(x) if math.isnan(missing) else np.equal(x, missing)
    return absent


def _columns(X: Array, weight: Array | None, strips: bool) -> tuple[list[Column], Shape]:
    """Return the numbers of each channel, or feature of strips, by which its bulk is found; and the shape of these."""
    n, channels, height, width = X.shape
    generator = np.random.RandomState(0)
    if strips:
        rows = np.arange(n) if n <= SAMPLE else generator.randint(n, size=SAMPLE)
        weights = np.ones(len(rows)) if weight is None else weight[rows]
        return [(column, weights) for column in X[rows].reshape(len(rows), -1).T], (channels, height, width)
    if n * height * width <= SAMPLE:
        places = np.indices((n, height, width)).reshape(3, -1)
    else:
        places = np.array([generator.randint(size, size=SAMPLE, dtype=np.int64) for size in (n, height, width)])
    weights = np.ones(places.shape[1]) if weight is None else weight[places[0]]
    return [(X[places[0], channel, places[1], places[2]], weights) for channel in range(channels)], (channels, 1, 1)


def _present(column: Column, missing: float | None) -> Column:
    if missing is None:
        return column
    present = ~is_missing(column[0], missing)
    return column[0][present], column[1][present]


def _fence(values: Array, weights: Array) -> tuple[float, float, float]:
    """Return the fences of some numbers and their unit; constants have none."""
    order = np.argsort(values, kind="stable")
    values, weights = values[order].astype(np.float64), weights[order]
    starts = np.flatnonzero(np.diff(values, prepend=np.nan))  # of equal numbers
    if len(starts) < 2:
        return -np.inf, np.inf, 1.0
    counts = np.diff(np.append(np.cumsum(weights)[starts[1:] - 1], np.cumsum(weights)[-1]), prepend=0.0)
    frequent = np.argsort(-counts, kind="stable")[:2]
    known = values[starts[frequent]]
    counts[frequent] = 0
    ranks = np.cumsum(counts)
    first, third = (values[starts[np.searchsorted(ranks, share * ranks[-1])]] for share in (0.25, 0.75))
    if not ranks[-1] or first == third:
        known = np.unique(np.append(known, first) if ranks[-1] else known)
        nearest = np.diff(known).argmin()
        first, third = known[nearest : nearest + 2]
    unit = third - first
    return float(first - REACH * unit), float(third + REACH * unit), float(unit)


def _repeated(columns: Sequence[Column], fences: Array) -> tuple[float, float] | None:
    """Return the most frequent number that is far beyond the fences, and its share, if it is no single case."""
    far = np.concatenate(
        [
            column[(column < low - FAR * unit) | (column > high + FAR * unit)].astype(np.float64)
            for (column, _), (low, high, unit) in zip(columns, fences, strict=True)
        ]
    )
    values, counts = np.unique(far, return_counts=True)
    if not len(values) or counts.max() < max(3, len(far) / 2):
        return None
    share = int(counts.max()) / sum(column.size for column, _ in columns)
    return float(values[counts.argmax()]), share


def _square(x: Array) -> Array:
    np.square(x, out=x)
    return x


def chunks(X: Array, numbers: int = CHUNK) -> list[slice]:
    """Return slices of so many numbers, at least one sample each."""
    step = max(1, numbers // max(1, X[:1].size))
    return [slice(first, first + step) for first in range(0, len(X), step)]
