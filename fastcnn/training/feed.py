"""Where a fit's batches come from: arrays in a seeded order, memory maps among them, or batches of a person's own."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, NamedTuple, final

import numpy as np

from .. import checks
from ..data.augmentation import Augmentation, Chances, epoch_order
from ..data.label_maps import check_movable, moved
from ..data.resizing import resized
from ..jit.target import COMMON
from ..kernels import augment as kernels
from ..typing import Array, IntArray
from .by_epoch import ByEpoch, batch_sizes

CHUNK = 1 << 20  # numbers that are looked at in one go, for instance of a memory map
DRAWN = (
    COMMON.first // 8
)  # samples whose random numbers are drawn together: a vector of them stays in the first-level cache


class Batch(NamedTuple):
    """Samples, their targets, and their weights if they have any; the arrays may be overwritten by the next batch."""

    x: Array
    y: Any
    weight: Array | None


class Rows:
    """Some samples of an array, by their places, read when they are needed: a part of a memory map, nothing copied."""

    is_plain = True  # whether samples are those of the array as they are

    def __init__(self, array: Array, places: Any) -> None:
        self.array, self.places = array, np.asarray(places)
        self.shape, self.dtype, self.ndim = (len(places), *array.shape[1:]), array.dtype, array.ndim
        self.size = math.prod(self.shape)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, chosen: Any) -> Array:
        found: Array = self.array[self.places[chosen]]
        return found


class Feed(ABC):
    """A source of batches, the same for the same epoch.

    Attributes
    ----------
    steps : int or None
        Batches of an epoch, if known.
    own : function or None
        From the length of a batch to the images of it that this process reads; what stands in place of the others does
        not matter. None: all.
    """

    steps: int | None
    own: Callable[[int], slice] | None = None
    size: tuple[int, int] | None = None  # of the images of this epoch, where they are resized

    def begin(self, epoch: int) -> None:
        """Get ready for an epoch of the fit, counted from 0: batch size and resolution may be others."""

    def steps_of(self, epochs: int) -> int | None:
        """Return the batches of so many epochs, if known."""
        return None if self.steps is None else epochs * self.steps

    @abstractmethod
    def batches(self, epoch: int, begin: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, which is counted from 0, from number `begin` on."""


@final
class ArrayFeed(Feed):
    """Batches from arrays, gathered into one buffer; nothing of the size of the set is copied.

    Parameters
    ----------
    X : array or Rows
        A memory map stays one: only what a batch needs is read.
    y : array
    weight : array or None
    batch_size : int or ByEpoch
    seed : int or None
        Of the order: a permutation for each epoch. None: the order of the arrays.
    augmentation : Augmentation or None
    dtype : dtype
        Of augmented images.
    classes : int or None
        How many there are, if `y` are classes: mixup and cutmix make soft targets of them.
    drop_last : bool
        Whether the samples of an epoch that fill no batch are left out.
    unknown : int or None
        The label of pixels that augmentation brings in from beyond the edge, if `y` are labels of pixels.
    resolution : ByEpoch, optional
        Height and width that images are brought to.
    """

    steps: int

    def __init__(
        self,
        X: Array | Rows,
        y: Array,
        weight: Array | None,
        batch_size: int | ByEpoch[int],
        seed: int | None = None,
        augmentation: Augmentation | None = None,
        dtype: Any = np.float32,
        classes: int | None = None,
        drop_last: bool = False,
        unknown: int | None = None,
        resolution: ByEpoch[tuple[int, int]] | None = None,
    ) -> None:
        self.X, self.y, self.weight = X, y, weight
        self.batch_sizes = batch_size if isinstance(batch_size, ByEpoch) else batch_sizes(batch_size)
        self.resolution = resolution
        self.seed, self.augmentation, self.classes = seed, augmentation, classes
        self.unknown = unknown
        if augmentation is not None:
            check_movable(augmentation, X.shape[2:], y, unknown, "fit: y")
        self.drop_last = drop_last
        self.begin(0)
        shape = (min(max(self.batch_sizes.rows.values()), len(X)), *X.shape[1:])
        # np.take copies an array whole unless it is laid out like this.
        self._array = X.array if isinstance(X, Rows) else X
        self._places: IntArray | None = X.places if isinstance(X, Rows) else None
        flags = self._array.flags
        plain = not isinstance(X, Rows) or X.is_plain
        self._simple = plain and flags.c_contiguous and flags.aligned and X.dtype.isnative
        self._buffers = [np.zeros(shape, X.dtype) if self._simple else None for _ in range(2)]
        self._images = np.zeros((2, *shape), augmentation._dtype(X.dtype, dtype)) if augmentation else None

    def begin(self, epoch: int) -> None:
        self.batch_size, n = self.batch_sizes.at(epoch), len(self.X)
        self.count = n // self.batch_size * self.batch_size if self.drop_last else n  # samples of an epoch
        self.steps = -(-self.count // self.batch_size)
        self.size = None if self.resolution is None else self.resolution.at(epoch)

    def steps_of(self, epochs: int) -> int:
        total = 0
        for epoch in range(epochs) if len(self.batch_sizes.rows) > 1 else (0,):
            self.begin(epoch)
            total += self.steps
        self.begin(0)
        return total if len(self.batch_sizes.rows) > 1 else epochs * total

    def batches(self, epoch: int, begin: int = 0) -> Iterator[Batch]:
        for batch in self._batches(epoch, begin):
            yield batch if self.size is None else batch._replace(x=resized(batch.x, self.size))

    def _batches(self, epoch: int, begin: int) -> Iterator[Batch]:
        """Yield the batches as they are in the arrays, or augmented."""
        n = len(self.X)
        order = None if self.seed is None else epoch_order(self.seed, epoch, n)
        chances = self._chances(order, epoch)
        if self.augmentation is not None:
            chances = itertools.islice(chances, begin, None)
        for first in range(begin * self.batch_size, self.count, self.batch_size):
            last = min(first + self.batch_size, n)
            if order is None:
                weight = None if self.weight is None else self.weight[first:last]
                yield Batch(self.X[first:last], self.y[first:last], weight)
                continue
            chosen = order[first:last]
            own = slice(0, len(chosen)) if self.own is None else self.own(len(chosen))
            x, y = self._gather(chosen, 0, own), self.y[chosen]
            if self.augmentation is not None:
                x, y = self._augmented(self.augmentation, x, y, chosen, next(chances), epoch, own)
            yield Batch(x, y, None if self.weight is None else self.weight[chosen])

    def _chances(self, order: IntArray | None, epoch: int) -> Iterator[Chances]:
        """Yield what happens to the samples of each batch; drawn for many batches at once, for little more than one."""
        assert self.augmentation is not None
        assert self.seed is not None
        assert order is not None
        block = self.batch_size * max(1, DRAWN // self.batch_size)
        for first in range(0, len(order), block):
            chosen = order[first : first + block]
            drawn = self.augmentation._draw(chosen, (self.seed, epoch), self.X.shape)
            for begin in range(0, len(chosen), self.batch_size):
                yield drawn.of(begin, begin + self.batch_size)

    def _gather(self, chosen: IntArray, which: int, own: slice) -> Array:
        buffer = self._buffers[which]
        if buffer is None:
            if self.own is None:
                return self.X[chosen]
            found = np.zeros((len(chosen), *self.X.shape[1:]), self.X.dtype)
            found[own] = self.X[chosen[own]]
            return found
        places = chosen[own] if self._places is None else self._places[chosen[own]]
        # "clip" since "raise" makes a copy in between; the indices are a permutation's.
        np.take(self._array, places, axis=0, out=buffer[own], mode="clip")
        return buffer[: len(chosen)]

    def _augmented(
        self, augmentation: Augmentation, x: Array, y: Array, chosen: IntArray, chances: Chances, epoch: int, own: slice
    ) -> tuple[Array, Any]:
        assert self._images is not None
        assert self.seed is not None
        key, batch = (self.seed, epoch), self._images[0, : len(x)]
        images = augmentation._write(x[own], chances.of(own.start, own.stop), batch[own])
        if y.ndim == 3 and augmentation._displaces:
            y = moved(augmentation, y, chances.moves, self.unknown)
        if not augmentation.mixes:
            return batch, y
        partner, share = augmentation._partners(chosen, key, len(self.X))
        chances = augmentation._draw(partner[own], key, self.X.shape)
        others = augmentation._write(self._gather(partner, 1, own)[own], chances, self._images[1, : len(images)])
        if augmentation.cutmix:
            n, channels, *size = images.shape
            boxes, share = augmentation._boxes(chosen, key, share, (size[0], size[1]))
            kernels.paste(images.reshape(-1), others.reshape(-1), n, channels, size[0], size[1], boxes[own])
            return batch, _mixed(y, self.y[partner], share, self.classes)
        factor = share[own].astype(images.dtype).reshape(-1, *[1] * (images.ndim - 1))
        images -= others
        images *= factor
        images += others
        return batch, _mixed(y, self.y[partner], share, self.classes)


def _mixed(y: Array, other: Array, share: Array, classes: int | None) -> Array:
    """Return share · y + (1 - share) · other, classes as their one-hot rows."""
    if classes is not None:
        one_hot = np.eye(classes)
        y, other = one_hot[y], one_hot[other]
    factor = share.reshape(-1, *[1] * (y.ndim - 1))
    mixed: Array = factor * y + (1 - factor) * other
    return mixed


@final
class BatchFeed(Feed):
    """Batches (x, y) or (x, y, weight) of a person's own, in their order; checked as they come."""

    def __init__(
        self,
        batches: Iterable[Any],
        seed: int,
        augmentation: Augmentation | None = None,
        dtype: Any = np.float32,
        what: str = "fit",
        argument: str = "X",
        unknown: int | None = None,
    ) -> None:
        self.what, self.name = what, f"{what}: {argument}"
        if isinstance(batches, np.ndarray) or not isinstance(batches, Iterable):
            kind = type(batches).__name__
            raise TypeError(f"{self.name}: expected arrays X and y, or batches (x, y); got a {kind} and no y")
        if iter(batches) is batches:
            raise TypeError(
                f"{self.name}: expected arrays, or batches that can be iterated once for each epoch (a list, or an "
                f"object whose __iter__ begins anew); got a {type(batches).__name__}, which ends after one pass"
            )
        if augmentation is not None and augmentation.mixes:
            which = "mixup" if augmentation.mixup else "cutmix"
            raise ValueError(f"fit: augmentation: {which} needs arrays: its partners come from the whole set")
        self.source, self.seed, self.augmentation, self.dtype = batches, seed, augmentation, dtype
        self.unknown = unknown
        self.steps = len(batches) if isinstance(batches, Sized) else None

    def batches(self, epoch: int, begin: int = 0) -> Iterator[Batch]:
        first = 0
        for number, batch in enumerate(self.source, 1):
            if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
                raise TypeError(f"{self.name}: batch {number}: expected (x, y) or (x, y, weight); got {_kind(batch)}")
            weight = batch[2] if len(batch) == 3 else None
            if number <= begin:
                first += len(batch[0])
                continue
            x, y, weight = check_set(batch[0], batch[1], weight, f"{self.name}: batch {number}")
            if self.augmentation is not None:
                check_movable(self.augmentation, x.shape[2:], y, self.unknown, f"{self.name}: batch {number}")
                x, y = self._augmented(self.augmentation, x, y, np.arange(first, first + len(x)), epoch)
            first += len(x)
            yield Batch(x, y, weight)

    def _augmented(
        self, augmentation: Augmentation, x: Array, y: Array, places: IntArray, epoch: int
    ) -> tuple[Array, Array]:
        out = np.empty(x.shape, augmentation._dtype(x.dtype, self.dtype))
        chances = augmentation._draw(places, (self.seed, epoch), x.shape)
        if y.ndim == 3 and augmentation._displaces:
            y = moved(augmentation, y, chances.moves, self.unknown)
        return augmentation._write(x, chances, out), y


def check_set(X: Any, y: Any, weight: Any, what: str = "fit", end: str = "") -> tuple[Array, Array, Array | None]:
    """Return samples, targets and weights as arrays of one length; raise if they are none, or not finite.

    Errors begin with `what`; the arguments are called X, y and sample_weight with this `end`.
    """
    x, targets = _as_array(X, f"{what}: X{end}"), _as_array(y, f"{what}: y{end}")
    if x.dtype.kind not in "fiub":
        raise TypeError(f"{what}: X{end}: expected real numbers; got dtype {x.dtype}")
    if x.ndim not in (2, 4) or not x.size:
        raise ValueError(
            f"{what}: X{end}: expected images (N, C, H, W) or features (N, D), at least one; got shape {x.shape}"
            + (f": grey images are X{end}[:, None]" if x.ndim == 3 and x.size else "")
        )
    if targets.shape[:1] != x.shape[:1]:
        raise ValueError(
            f"{what}: y{end}: expected {len(x)} targets, one for each sample of X{end}; got shape {targets.shape}"
        )
    _check_finite(x, f"{what}: X{end}")
    _check_finite(targets, f"{what}: y{end}")
    if weight is None:
        return x, targets, None
    weights = checks.as_images(weight, what, "sample_weight")
    if weights.shape != x.shape[:1]:
        raise ValueError(f"{what}: sample_weight: expected shape ({len(x)},); got shape {weights.shape}")
    _check_finite(weights, f"{what}: sample_weight")
    if weights.min() < 0:
        raise ValueError(f"{what}: sample_weight: expected numbers of at least 0; got {weights.min()}")
    return x, targets, weights


def _as_array(value: Any, name: str) -> Any:
    """Return an array; `Rows` stay unread, since a feed takes them too."""
    layer, _, argument = name.rpartition(": ")
    checks.unmasked(value, layer, argument)
    try:
        return value if isinstance(value, Rows) else np.asarray(value)
    except ValueError as error:  # lists of unequal lengths
        raise ValueError(f"{name}: expected an array: {error}") from None


def _check_finite(array: Array, name: str) -> None:
    """Raise if a number is NaN or infinite; in pieces, so that a memory map is never in memory as a whole."""
    if array.dtype.kind != "f":
        return
    rows = max(1, CHUNK // max(1, array[:1].size))
    for first in range(0, len(array), rows):
        finite = np.isfinite(array[first : first + rows])
        if not finite.all():
            where = np.argwhere(~finite)[0]
            value = array[first : first + rows][tuple(where)]
            raise ValueError(f"{name}: expected finite numbers; got {value} in sample {first + where[0]}")


def _kind(value: Any) -> str:
    return f"{type(value).__name__} of {len(value)}" if isinstance(value, tuple | list) else type(value).__name__
