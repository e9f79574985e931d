"""What "auto" chooses by held-out samples before a fit: how images are changed, and how sure probabilities are."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from .. import exact
from ..data.augmentation import Augmentation, epoch_order
from ..layers.dense import Dense
from ..model import Sequential
from ..typing import Array, IntArray
from .samples import Samples

FEWEST = 50  # samples below which nothing is held out
FEW = 500  # samples up to which two thirds are held out, one at a time; beyond, one part alone
MANY = 5000  # samples that are looked at: beyond, a part of them chooses, and some are held out of the fit itself
RESERVED = ((0.1, 250), (0.05, 1000))  # how many: the most of these shares, each at most so many
SMALLEST_SHIFTED = 16  # pixels of a side from which on images are shifted
SHIFT = 14  # pixels of a side for each pixel of a shift
ROTATION, SCALE = 10.0, 0.1
MIXUP = 4.0  # halves, more or less: of 1.0, 5 % of the digits are wrong behind 20 % of wrong labels, of this 1.5 %
WRONG = 0.1  # share of held-out samples that a network has wrong, beyond which mixup is tried
PROBED = 4  # of a fit's epochs one in so many tells whether this is so
STEPS = 80  # of the logarithm of a temperature, from -LOWEST on
LOWEST, STEP = -1.5, 0.05
SPREAD = 1.0  # of the logarithm of a temperature, before anything is known

Trial = Callable[[Samples, Samples, Augmentation | None], Array]


class Choice(NamedTuple):
    """What a fit goes by.

    Attributes
    ----------
    augmentation : Augmentation or None
    temperature : float
        Outputs are divided by it.
    """

    augmentation: Augmentation | None
    temperature: float = 1.0


def shifts(shape: tuple[int, ...]) -> Augmentation | None:
    """Return small shifts, by a fourteenth of the side, for images (C, H, W) from 16 pixels on; None for others."""
    side = min(shape[1:])
    return Augmentation(shift=round(side / SHIFT), padding="edge") if side >= SMALLEST_SHIFTED else None


def candidates(n: int, *, moved: bool, mixed: bool) -> list[dict[str, object]]:
    """Return changes that held-out samples must agree to; few can tell no flip.

    Mixup keeps a network from knowing wrong labels by heart.
    """
    changes: list[tuple[bool, dict[str, object]]] = [
        (moved, {"rotation": ROTATION, "scale": SCALE}),
        (moved and n >= FEW, {"horizontal_flip": True}),
        (mixed, {"mixup": MIXUP}),
    ]
    return [change for tried, change in changes if tried]


def choose(
    samples: Samples,
    groups: Array | None,
    seed: int,
    first: Augmentation | None,
    try_: Trial,
    *,
    changes: bool,
    mixes: bool,
) -> Choice:
    """Return the choice that held-out samples make.

    Parameters
    ----------
    samples : Samples
        Scaled and encoded.
    groups : array of shape (n,), optional
        Classes, whose shares the parts keep.
    seed : int
    first : Augmentation or None
        What is tried first.
    try_ : function of two Samples and an Augmentation
        Trains with the first, and returns the outputs for the second.
    changes : bool
        Whether rotation, scale and flips are tried too: taken where the loss is lower by a standard error.
    mixes : bool
        Whether mixup is, likewise, where a tenth of what is held out is wrong.
    """
    parts = held_out(len(samples.y), groups, seed)
    if not parts:
        return Choice(first)

    judges = samples.taken(np.concatenate([held for _, held in parts]))

    def outputs(augmentation: Augmentation | None) -> Array:
        found = [try_(samples.taken(kept), samples.taken(held), augmentation) for kept, held in parts]
        return np.concatenate(found)

    best, z = first, outputs(first)
    temperature, losses = fit_temperature(z, judges)
    for change in candidates(len(samples.y), moved=changes, mixed=mixes and wrong(z, judges) > WRONG):
        other = Augmentation(**{**({} if best is None else best._arguments()), **change})
        its_temperature, its_losses = fit_temperature(outputs(other), judges)
        if is_better(losses - its_losses):
            best, temperature, losses = other, its_temperature, its_losses
    return Choice(best, temperature)


def is_better(gain: Array) -> bool:
    """Tell whether losses fall by more than a standard error of their mean."""
    mean = float(exact.mean(gain))
    return mean > math.sqrt(float(exact.mean(np.square(gain - mean))) / len(gain))


def wrong(z: Array, held: Samples) -> float:
    """Return the share of labels that outputs have wrong."""
    right = z.argmax(axis=1) == held.y if held.y.ndim == 1 else exact.mean(((z > 0) == held.y).T.astype(np.float64))
    return 1 - float(exact.mean(right.astype(np.float64), held.weight))


def held_out(n: int, groups: Array | None, seed: int) -> Sequence[tuple[IntArray, IntArray]]:
    """Return which samples are kept and which held out: two thirds in turn of few, one fifth or tenth of more."""
    if n < FEWEST:
        return []
    order = epoch_order(seed, 0, n)
    if groups is not None:  # in turn from each class
        order = order[np.argsort(groups[order], kind="stable")]
    rank = np.arange(n)
    count, turns = (3, 2) if n < FEW else (5 if n < 4 * FEW else 10, 1)
    found = []
    for part in range(turns):
        held = order[rank % count == part]
        kept = np.setdiff1d(order, held)
        found.append((kept, np.sort(held)))
    return found


def reserve(n: int, groups: Array | None, seed: int) -> tuple[IntArray, IntArray]:
    """Return most of n samples, to train with, and some by which the temperature is found.

    Of each class the same share is reserved, and nothing of a class that has too few samples for one.
    """
    order, place = epoch_order(seed, 2, n), np.arange(n)
    every = n // max(min(int(share * n), most) for share, most in RESERVED)
    if groups is not None:  # places within each class
        order = order[np.argsort(groups[order], kind="stable")]
        starts = np.flatnonzero(np.diff(groups[order], prepend=groups[order[0]] - 1))
        place = place - np.repeat(starts, np.diff(np.append(starts, n)))
    held = order[place % every == every - 1]
    return np.setdiff1d(order, held), np.sort(held)


def fit_temperature(outputs: Array, held: Samples) -> tuple[float, Array]:
    """Return the temperature at which held-out samples are likeliest, and the loss of each sample at that.

    The likelihood is that of Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", ICML 2017,
    section 4.2, times a normal prior of the temperature's logarithm, which matters for few samples only.
    """
    z = np.asarray(outputs, np.float64)
    known: dict[int, tuple[float, Array]] = {}

    def cost(place: int) -> float:
        if place not in known:
            logarithm = LOWEST + STEP * place
            losses = sample_losses(z * float(exact.exp(-logarithm)), held.y)
            known[place] = float(exact.mean(losses, held.weight)) + (logarithm / SPREAD) ** 2 / (2 * len(z)), losses
        return known[place][0]

    low, high = 0, STEPS
    while high - low > 2:  # the cost is convex in 1 / T, and falls towards its only minimum
        left, right = low + (high - low) // 3, high - (high - low) // 3
        if cost(left) <= cost(right):
            high = right
        else:
            low = left
    place = min(range(low, high + 1), key=cost)
    return float(exact.exp(LOWEST + STEP * place)), known[place][1]


def sample_losses(z: Array, y: Array) -> Array:
    """Return the cross-entropy of each row of outputs: with classes (n,), or labels (n, K)."""
    if y.ndim == 2:
        losses = np.maximum(z, 0) - z * y + exact.log_one_plus(exact.exp(-np.abs(z)))
        labels: Array = exact.mean(losses.T)
        return labels
    z = z - z.max(axis=1, keepdims=True)
    classes: Array = exact.log(exact.total(exact.exp(z).T)) - z[np.arange(len(z)), y]
    return classes


def last_dense(model: Sequential) -> Dense | None:
    """Return the dense layer that a model ends with, if it does."""
    last = model.layers[-1]
    return last if isinstance(last, Dense) else None


def cool(model: Sequential, temperature: float) -> None:
    """Divide the outputs of a model by a temperature: the weights and biases of its last dense layer."""
    dense = last_dense(model)
    if dense is None or temperature == 1:
        return
    dense.weights = dense.weights / dense.weights.dtype.type(temperature)
    if dense.biases is not None:
        dense.biases = dense.biases / dense.biases.dtype.type(temperature)
