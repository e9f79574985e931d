"""The statistics of batch norms, computed again from training images with the last weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .. import exact
from ..layers.norm import BatchNorm
from ..typing import Array

if TYPE_CHECKING:
    from .stepper import Stepper

Running = list[tuple[Array, Array]]  # means and variances of each layer


def renew_statistics(trainer: Stepper, batches: Iterable[tuple[Array, ...]]) -> None:
    """Set the running statistics of all `BatchNorm` to those of some batches (x, y) or (x, y, weight).

    With the mean μᵢ and the unbiased variance σᵢ² of each batch, as in training, the running mean becomes the mean of
    the μᵢ, the running variance the mean of the σᵢ² plus the variance of the μᵢ. What the running statistics held
    counts for nothing, and so does a batch of long ago that went wrong. Batches are of one length. Layers of momentum 0
    keep what they have. An exception leaves all as it was.

    References
    ----------
    Wu and Johnson, "Rethinking 'batch' in BatchNorm", arXiv:2105.07576 (2021), section 3.2 ("PreciseBN").
    """
    norms = [layer for layer in trainer.model._modes() if isinstance(layer, BatchNorm) and layer.momentum]
    if not norms:
        return
    with trainer.model._lock:
        running = [(norm._running["running_mean"], norm._running["running_var"]) for norm in norms]
        before = [(mean.copy(), variance.copy()) for mean, variance in running]
        try:
            found = [_of_batch(trainer, batch, norms, running) for batch in batches]
        except BaseException:
            _put(running, before)
            raise
        _put(running, [_joined([one[place] for one in found]) for place in range(len(norms))])


def _of_batch(trainer: Stepper, batch: tuple[Array, ...], norms: Sequence[BatchNorm], running: Running) -> Running:
    """Return the statistics of one batch: what it adds to running ones of 0, divided by its share."""
    _put(running, [(np.zeros_like(mean), np.zeros_like(variance)) for mean, variance in running])
    trainer._take_in_statistics(*batch)
    return [
        (mean.astype(np.float64) / norm.momentum, variance.astype(np.float64) / norm.momentum)
        for norm, (mean, variance) in zip(norms, running, strict=True)
    ]


def _joined(parts: Running) -> tuple[Array, Array]:
    means = np.array([mean for mean, _ in parts])
    mean = exact.mean(means)
    return mean, exact.mean(np.array([variance for _, variance in parts])) + exact.mean(np.square(means - mean))


def _put(running: Running, values: Running) -> None:
    for arrays, others in zip(running, values, strict=True):
        for array, other in zip(arrays, others, strict=True):
            array[...] = other
