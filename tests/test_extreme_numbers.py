"""Masked arrays, and numbers and weights whose sums no float64 holds: refused by name, not read as something else."""

from __future__ import annotations

import re

import numpy as np
import pytest

from fastcnn import CNNClassifier, CNNRegressor, CrossEntropy, Dense, MeanSquaredError, Sequential, Trainer
from tests.arrays import normal

x, y = normal(8, 5), np.arange(8) % 2
masked_x, masked_y = np.ma.masked_greater(x, 1.0), np.ma.masked_equal(y, 1)
masked_weight = np.ma.masked_array(np.ones(8), mask=y == 1)
huge = np.full(8, 1e308)


def trainer(loss: object = "cross_entropy") -> Trainer:
    return Trainer(Sequential([Dense(2)]).build((5,), random_state=0, dtype=np.float64), loss)  # type: ignore[arg-type]


def fit(*arrays, **others):
    return trainer().fit(*arrays, epochs=1, batch_size=4, verbose=0, **others)


def estimator(kind=CNNClassifier, **arguments):
    return kind(max_iter=2, random_state=0, **arguments)


REFUSED = {
    "step x": ("x", lambda: trainer().step(masked_x, y)),
    "step y": ("y", lambda: trainer().step(x, masked_y)),
    "step weight": ("sample_weight", lambda: trainer().step(x, y, sample_weight=masked_weight)),
    "step rows": ("y", lambda: trainer().step(x, np.ma.masked_array(np.eye(2)[y], mask=np.eye(2)[y] == 1))),
    "step numbers": ("y", lambda: trainer("huber").step(x, np.ma.masked_greater(x[:, :2], 1.0))),
    "fit X": ("X", lambda: fit(masked_x, y)),
    "fit y": ("y", lambda: fit(x, masked_y)),
    "fit weight": ("sample_weight", lambda: fit(x, y, sample_weight=masked_weight)),
    "evaluate": ("X", lambda: trainer().evaluate(masked_x, y, batch_size=4)),
    "predict": ("x", lambda: trainer().model.predict(masked_x)),
    "forward": ("input", lambda: trainer().model.forward(masked_x)),
    "layer": ("input", lambda: Dense(2).forward(masked_x)),
    "loss": ("target", lambda: CrossEntropy()(x[:, :2], masked_y)),
    "loss of numbers": ("target", lambda: MeanSquaredError()(x, masked_x)),
    "classifier X": ("X", lambda: estimator().fit(masked_x, y)),
    "classifier y": ("y", lambda: estimator().fit(x, masked_y)),
    "classifier predict": ("X", lambda: estimator().fit(x, y).predict(masked_x)),
    "regressor y": ("y", lambda: estimator(CNNRegressor).fit(x, masked_x[:, 0])),
    "partial_fit": ("y", lambda: estimator().partial_fit(x, masked_y, classes=[0, 1])),
}


@pytest.mark.parametrize(("argument", "call"), REFUSED.values(), ids=REFUSED)
def test_masked_numbers_are_refused(argument, call):
    with pytest.raises(ValueError, match=rf": {argument}: expected an array without masked numbers; got \d+ of"):
        call()


def test_masked_arrays_of_which_nothing_is_masked_are_arrays():
    assert trainer().step(np.ma.masked_array(x), np.ma.masked_array(y)) == trainer().step(x, y)


TOO_LARGE = {
    "step": ("cross_entropy: expected weights with a sum", lambda: trainer().step(x, y, sample_weight=huge)),
    "class weights": (
        "cross_entropy: expected weights with a sum",
        lambda: trainer(CrossEntropy(class_weight=[1e308, 1e308])).step(x, y),
    ),
    "fit": ("expected weights with a sum", lambda: fit(x, y, sample_weight=huge)),
    "classifier": ("sample_weight: expected weights with a sum", lambda: estimator().fit(x, y, sample_weight=huge)),
    "regressor": (
        "sample_weight: expected weights with a sum",
        lambda: estimator(CNNRegressor).fit(x, x[:, 0], sample_weight=huge),
    ),
    "class_weight": (
        "class_weight: expected weights with a sum",
        lambda: estimator(class_weight={0: 1e308, 1: 1e308}).fit(x, y),
    ),
    "class_weight 0": (
        "class_weight: expected weights with a sum in float64, not all 0",
        lambda: estimator(class_weight={0: 0, 1: 0}).fit(x, y),
    ),
    "class_weight -1": (
        "class_weight: expected finite weights of at least 0; got {0: -1}",
        lambda: estimator(class_weight={0: -1}).fit(x, y),
    ),
    "y": ("y: its numbers are too large", lambda: estimator(CNNRegressor).fit(x, 1e300 * x[:, 0])),
}


@pytest.mark.parametrize(("message", "call"), TOO_LARGE.values(), ids=TOO_LARGE)
def test_sums_beyond_float64_are_refused(message, call):
    """A regressor whose y was beyond had predicted infinity."""
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_weights_of_any_scale_are_the_same():
    losses = {trainer().step(x, y, sample_weight=scale * np.ones(8)) for scale in (1.0, 2.0**-1070, 2.0**1000)}
    assert len(losses) == 1
