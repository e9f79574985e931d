"""How good guesses are, class by class: the confusion matrix, precision and recall, and how they are written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .typing import Array, IntArray

MARGIN = 0.05  # an accuracy that beats always guessing the largest class by less is not told alone
UNBALANCED = 1.2  # times its share among equal classes, from which on the largest makes them unbalanced
SHOWN = 20  # classes that are told one by one


def confusion(y: IntArray, guesses: IntArray, classes: int) -> IntArray:
    """Return how many samples of each class (rows) were taken for each class (columns)."""
    counts: IntArray = np.bincount(y * classes + guesses, minlength=classes * classes).reshape(classes, classes)
    return counts


def recall(matrix: IntArray) -> list[float | None]:
    """Return the share of each class that was found; None for a class without samples."""
    return _shares(matrix.diagonal(), matrix.sum(axis=1))


def precision(matrix: IntArray) -> list[float | None]:
    """Return the share of the guesses of each class that were right; None for a class that was never guessed."""
    return _shares(matrix.diagonal(), matrix.sum(axis=0))


def _shares(parts: IntArray, totals: IntArray) -> list[float | None]:
    return [part / total if total else None for part, total in zip(parts.tolist(), totals.tolist(), strict=True)]


def accuracy(matrix: IntArray) -> float:
    """Return the share that was right."""
    return float(matrix.trace() / matrix.sum())


def majority(matrix: IntArray) -> float:
    """Return the share of the largest class."""
    return float(matrix.sum(axis=1).max() / matrix.sum())


def needs_recall(matrix: IntArray) -> bool:
    """Tell whether classes are unbalanced, and the accuracy is hardly above what the largest alone would reach."""
    share = majority(matrix)
    present = int(np.count_nonzero(matrix.sum(axis=1)))
    return share > UNBALANCED / present and share > accuracy(matrix) - MARGIN


def recall_words(matrix: IntArray, names: Sequence[str]) -> str:
    """Return the recall of each class, of many the lowest ones, and what always guessing the largest would reach."""
    known = [(share, name) for share, name in zip(recall(matrix), names, strict=True) if share is not None]
    lowest = sorted(known)[:SHOWN] if len(known) > SHOWN else known
    words = "recall, lowest first" if len(known) > SHOWN else "recall"
    shares = ", ".join(f"{name} {share:.1%}" for share, name in lowest)
    return f"{words}: {shares}; the largest class alone: {majority(matrix):.2%}"


def by_class(matrix: IntArray, names: Sequence[str]) -> list[tuple[str, float | None, float | None, int]]:
    """Return name, precision, recall and number of samples of each class."""
    counts = matrix.sum(axis=1).tolist()
    return [*zip(names, precision(matrix), recall(matrix), counts, strict=True)]


def cross_entropy(probabilities: Array, y: IntArray) -> float:
    """Return the mean of −log p over the samples, p the probability (n, classes) of a sample's own class."""
    right = probabilities[np.arange(len(y)), y]
    return float(-np.log(np.maximum(right, np.finfo(np.float64).tiny)).mean())


def percent(share: float | None) -> str:
    """Return a share in words."""
    return "-" if share is None else f"{share:.2%}"


def table(rows: Sequence[Sequence[Any]]) -> list[str]:
    """Return lines of a table: the first column to the left, the others to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for first, *others in cells:
        row = [first.ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(others, widths[1:], strict=True))]
        lines.append("  ".join(row).rstrip())
    return lines


def softmax(z: Array) -> Array:
    """Return probabilities from logits, in float64."""
    z = z.astype(np.float64)
    z -= z.max(axis=1, keepdims=True)
    np.exp(z, out=z)
    z /= z.sum(axis=1, keepdims=True)
    return z
