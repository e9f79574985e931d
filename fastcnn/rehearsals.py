"""Which kernels ready networks need, found without computing anything: for `fastcnn compile`."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

from . import models
from .data.augmentation import Augmentation
from .estimators import networks
from .estimators.classifier import CNNClassifier
from .estimators.regressor import CNNRegressor
from .jit.recorder import Rehearsal, rehearsing
from .layers.dense import Dense
from .losses import CrossEntropy, Loss, MeanSquaredError
from .model import Sequential
from .optim.optimizers import OPTIMIZERS, SGD
from .training.trainer import Trainer
from .typing import Array, Shape

IMAGES, CLASSES = 64, 10  # as many images as long trainings have in a batch, or nearly: batches are cut alike
DTYPES = (np.float32, np.uint8)
ALL = (
    Augmentation(True, True, 1, rotation=5.0, scale=0.1, contrast=0.1, brightness=0.1, cutout=2, mixup=0.2),
    Augmentation(shift=1),
    Augmentation(crop=0.5, color_jitter=0.1, cutmix=0.2),
    Augmentation(cutmix=0.2),
)


NAMES = (*networks.NAMES, *models.OF_PIXELS, "estimators")


def rehearse_networks(chosen: Iterable[str | Sequential]) -> Rehearsal:
    """Return the kernels that training, evaluation and prediction need.

    Parameters
    ----------
    chosen : iterable of str or Sequential
        Ready networks by name and built models of your own, with momentum and cross-entropy, and the mean squared error
        where the output is no row of logits, on float32 and uint8 images; and "estimators": both estimators with
        defaults on images of 8, 28 and 32 pixels and on rows, and all optimizers and augmentations.
    """
    rehearsal = Rehearsal()
    # The numbers in the arrays do not matter.
    with rehearsing(rehearsal), np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
        for network in chosen:
            if network == "estimators":
                _estimators()
            elif isinstance(network, Sequential):
                _network(copy.deepcopy(network))
            else:
                make = getattr(models, network)
                _network(make().build(inspect.signature(make).parameters["input_shape"].default, random_state=0))
    return rehearsal


def _network(model: Sequential) -> None:
    """Train, measure and predict."""
    assert model.input_shape is not None
    outputs = model.output_shape(model.input_shape)
    losses: list[Loss] = [CrossEntropy()] if outputs[0] > 1 else []
    if len(outputs) > 1 or outputs[0] == 1:
        losses.append(MeanSquaredError())
    for loss in losses:
        trainer = Trainer(model, loss, SGD(0.01, momentum=0.9), threads=1, random_state=0)
        for dtype in DTYPES:
            _train(trainer, _zeros(model.input_shape, dtype))


def _train(trainer: Trainer, x: Array, augmentation: Augmentation | None = None) -> None:
    model = trainer.model
    y: Array = np.arange(len(x)) % CLASSES
    if isinstance(trainer.loss, CrossEntropy) and model.input_shape is not None:
        classes, *size = model.output_shape(model.input_shape)
        y = np.ascontiguousarray(np.broadcast_to((y % classes).reshape(-1, *[1] * len(size)), (len(x), *size)))
    elif model.input_shape is not None:
        y = _zeros(model.output_shape(model.input_shape), np.float32)
    trainer.fit(x, y, epochs=1, batch_size=len(x), verbose=False, augmentation=augmentation)
    trainer.evaluate(x, y)
    for count in (1, len(x)):
        model.predict(x[:count], threads=1)


def _estimators() -> None:
    for shape in ((1, 8, 8), (1, 28, 28), (3, 32, 32), (20,)):
        for dtype in DTYPES:
            x = _zeros(shape, dtype)
            x[..., 0] = np.arange(len(x)).reshape(-1, *[1] * (x.ndim - 2))  # no two samples are alike
            for kind, y in ((CNNClassifier, np.arange(len(x)) % CLASSES), (CNNRegressor, np.arange(len(x)) / len(x))):
                estimator = kind(max_iter=1, n_jobs=1, random_state=0)
                estimator.fit(x, y)
                estimator.predict(x)
                estimator.predict(x[:1])
    x = _zeros((1, 8, 8), np.float32)
    for rule in OPTIMIZERS.values():
        trainer = Trainer(Sequential([Dense(CLASSES)]), CrossEntropy(), rule(), threads=1, random_state=0)
        _train(trainer, x.reshape(len(x), -1))
    for augmentation in ALL:
        for dtype in DTYPES:
            _train(Trainer(models.digits_default(), threads=1, random_state=0), x.astype(dtype), augmentation)


def _zeros(shape: Shape, dtype: Any) -> Array:
    return np.zeros((IMAGES, *shape), dtype)
