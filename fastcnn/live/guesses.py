"""The confusion matrix of a page: the last guess of each held-out image, made a few at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..typing import Array, IntArray
from .samples import ShownSamples

SHOWN = 50  # images of a cell


class Guesses:
    """What a model takes each image for.

    Parameters
    ----------
    samples : ShownSamples
    classes : int
        0 of a model of numbers, which guesses nothing.

    Attributes
    ----------
    matrix : array of shape (classes, classes)
        How many images of each class (rows) were taken for each class (columns) so far; (0, 0) before the first guess.
    """

    def __init__(self, samples: ShownSamples, classes: int) -> None:
        self.samples, self.classes = samples, classes
        self.last: IntArray = np.full(len(samples), -1)
        self.matrix: IntArray = np.zeros((0, 0), np.int64)
        self._next = 0
        y = samples.y
        self.are_possible = y is not None and len(y) > 0 and classes > 0 and y.min() >= 0 and y.max() < classes

    @property
    def made(self) -> int:
        """How many images were guessed."""
        return int(np.count_nonzero(self.last >= 0))

    def grow(self, outputs: Callable[[Array], Array], most: int) -> None:
        """Guess the classes of a few more images, from the first on again behind the last, and count all anew."""
        y = self.samples.y
        assert y is not None
        if self._next >= len(y):
            self._next = 0
        part = slice(self._next, min(len(y), self._next + most))
        self.last[part] = outputs(self.samples.x(part)).argmax(axis=1)
        self._next = part.stop
        if self.matrix.shape != (self.classes, self.classes):
            self.matrix = np.zeros((self.classes, self.classes), np.int64)
        known = self.last >= 0
        self.matrix[...] = 0
        np.add.at(self.matrix, (y[known], self.last[known]), 1)

    def cell(self, true: int, guess: int) -> list[int]:
        """Return the first images of a class that were taken for one."""
        if self.samples.y is None:
            return []
        found = np.flatnonzero((self.samples.y == true) & (self.last == guess))
        return [int(number) for number in found[:SHOWN]]
