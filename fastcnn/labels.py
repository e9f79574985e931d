"""Integer classes as targets, one for each sample or pixel: checked copies, and how many of each there are."""

from __future__ import annotations

from typing import Any

import numpy as np

from .typing import Array, IntArray

CHUNK = 1 << 20  # labels that are looked at in one go, for instance of a memory map
NOTHING = -1  # the label of what counts nowhere


def checked_labels(y: Array, classes: int, ignore_index: int | None, where: str) -> IntArray:
    """Return labels as int32, `NOTHING` where they are ignored: a copy, made before it is checked.

    Parameters
    ----------
    y : array of whole numbers
        Another thread may overwrite it.
    classes : int
    ignore_index : int or None
    where : str
        What an error begins with.

    Raises
    ------
    ValueError
        If a label that is not ignored is no class.
    """
    given = np.array(y, order="C")
    ignored = None if ignore_index is None else given == ignore_index
    lowest, highest = given.item(given.argmin()), given.item(given.argmax())
    if lowest < 0 or highest >= classes:
        wrong = (given < 0) | (given >= classes)
        if ignored is not None:
            wrong &= ~ignored
        if wrong.any():
            raise wrong_labels(given[wrong], classes, ignore_index, where, lowest=lowest)
    labels: IntArray = given.astype(np.int32)
    if ignored is not None:
        labels[ignored] = NOTHING
    return labels


def check_range(y: Any, classes: int, ignore_index: int | None, where: str) -> None:
    """Raise ValueError if a label of a whole set is no class; in pieces, so that a memory map stays one."""
    rows = max(1, CHUNK // max(1, y.size // max(1, len(y))))
    for first in range(0, len(y), rows):
        checked_labels(y[first : first + rows], classes, ignore_index, where)


def wrong_labels(wrong: Array, classes: int, ignore_index: int | None, where: str, *, lowest: int = 0) -> ValueError:
    """Return what to raise for labels that are no classes."""
    first, *others = wrong.ravel().tolist()
    more = f" and {len(others)} more beyond" if others else ""
    ignored = "" if ignore_index is None else f", or ignore_index = {ignore_index}"
    from_one = ": classes count from 0, these perhaps from 1" if lowest == 1 and {first, *others} == {classes} else ""
    return ValueError(f"{where}: expected classes from 0 to {classes - 1}{ignored}; got {first}{more}{from_one}")


def counts(labels: IntArray, classes: int) -> IntArray:
    """Return how many labels of each class each sample has, (n, classes); `labels` is (n, pixels)."""
    n = len(labels)
    places = (np.arange(n)[:, None] * classes + labels)[labels >= 0]
    found: IntArray = np.bincount(places, minlength=n * classes).reshape(n, classes)
    return found
