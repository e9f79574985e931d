"""What is not finite ends a fit: the error names layer, epoch and step, and the step is taken back."""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn import (
    SGD,
    Conv2D,
    Dense,
    Flatten,
    Layer,
    ReLU,
    Sequential,
    Trainer,
)
from tests.fits import CLASSES, Each, samples, trainer, weights


class Poison(Layer):
    """Passes everything, until it is told to make it infinite, forward or backward."""

    forward_bad = backward_bad = False

    def _forward(self, x):
        return np.full_like(x, np.inf) if self.forward_bad else x.copy()

    def _backward(self, x, y, dL_dout):
        return np.full_like(x, np.nan) if self.backward_bad else dL_dout.copy()


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("forward_bad", r"epoch 2, step 5, learning rate 0.1: the loss is not finite: layer 2 \(Poison\) is the first"),
        (
            "backward_bad",
            r"epoch 2, step 5, learning rate 0.1: layer 0 \(Conv2D\): 0\.filters is not finite after the step",
        ),
    ],
)
def test_what_is_not_finite_is_named_and_taken_back(where, words):
    poison, kept = Poison(), {}
    model = Sequential([Conv2D(4, 3), ReLU(), poison, Flatten(), Dense(CLASSES)])
    (X, y), one = samples(40), Trainer(model, optimizer=SGD(0.1), random_state=0)

    def act(moment, run):
        kept["weights"] = weights(run.trainer)
        setattr(poison, where, run.step == 4)

    with pytest.raises(FloatingPointError, match=words):
        one.fit(X, y, epochs=3, batch_size=16, callbacks=[Each(act)], verbose=0)
    assert weights(one) == kept["weights"]
    assert len(one.history) == 1
    setattr(poison, where, False)
    assert np.isfinite(one.model.forward(X)).all()
    assert np.isfinite(one.fit(X, y, epochs=1, batch_size=16, verbose=0)[0].loss)


def test_pixels_that_are_not_scaled_are_the_first_suspect():
    X, y = samples(40)
    with pytest.raises(FloatingPointError, match=r"X, with numbers up to \d+, should be scaled to about 1"):
        trainer(rate=1e30).fit(X.astype(float), y, epochs=9, batch_size=16, verbose=0)


def test_a_rate_that_is_too_large():
    X, y = samples(40)
    with pytest.raises(FloatingPointError, match=r"fit: epoch 1, step \d"):
        trainer(rate=1e38).fit(X, y, epochs=3, batch_size=16, verbose=0)
