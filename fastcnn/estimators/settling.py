"""What ends a fit: batch norms get the statistics of training images, and predictions are held against the training."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ..data.augmentation import epoch_order
from ..history import Epoch
from ..training.statistics import renew_statistics
from ..training.trainer import Trainer
from ..typing import Array
from .samples import Samples

MOST = 2048  # images whose statistics are taken: beyond, these change by less than 1 %
WORSE = 0.1  # accuracy by which predictions may be worse than the training, or loss beyond twice that of it


def settle(trainer: Trainer, samples: Samples, batch: int) -> str | None:
    """Renew the statistics of batch norms; return a warning where the model predicts training images much worse.

    Parameters
    ----------
    trainer : Trainer
        Behind its `fit`.
    samples : Samples
        The training set, as the trainer has seen it.
    batch : int
    """
    renew_statistics(trainer, _batches(trainer, samples, batch))
    history = trainer.history
    if history is None or not len(history):
        return None
    loss = accuracy = total = images = 0.0
    for one in _batches(trainer, samples, batch):
        of_batch = trainer._measure(*one)
        loss, total = loss + of_batch[0] * of_batch[2], total + of_batch[2]
        accuracy, images = accuracy + of_batch[1] * len(one[0]), images + len(one[0])
    if not total:
        return None
    return _disagreement(loss / total, accuracy / images, int(images), history.epochs[-1])


def _disagreement(loss: float, accuracy: float, images: int, last: Epoch) -> str | None:
    """Return a warning if the loss or the accuracy of predictions is much worse than that of the last epoch."""
    if math.isnan(accuracy):
        if loss <= 2 * last.loss + WORSE:
            return None
        found = f"a loss of {loss:.3g}, where the last epoch of training had {last.loss:.3g}"
    else:
        if accuracy >= last.accuracy - WORSE - 1 / math.sqrt(images):  # two standard errors
            return None
        found = f"{accuracy:.1%} right, where the last epoch of training had {last.accuracy:.1%}"
    return (
        f"The network predicts {images} of its training images with {found}: layers that differ between training and "
        "prediction, such as BatchNorm, see other numbers than in training. Look for images unlike all others, or use "
        "a larger batch_size."
    )


def _batches(trainer: Trainer, samples: Samples, batch: int) -> Iterator[tuple[Array, ...]]:
    """Yield whole batches of training images in an order by chance; where there is none, all of them as one."""
    size = min(batch, len(samples.y))
    count = max(1, min(len(samples.y), max(MOST, batch)) // size)
    order = epoch_order(trainer._seed, trainer.epochs, len(samples.y))[: count * size]
    for first in range(0, len(order), size):
        yield from samples.taken(order[first : first + size]).batches(size)
