"""Optimizers of each kind, and what tests train with them: a network, a batch, a loop without a Trainer."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn
from fastcnn import Conv2D, Dense, Flatten, ReLU, Sequential
from tests.arrays import normal

NO_DECAY = ("biases", "gamma", "beta")
OPTIMIZERS = {
    "SGD": lambda m: m.SGD(0.1),
    "SGD-decay": lambda m: m.SGD(0.1, weight_decay=0.1),
    "SGD-momentum": lambda m: m.SGD(0.1, 0.9),
    "SGD-nesterov": lambda m: m.SGD(0.1, 0.9, True, 0.01),
    "Adam": lambda m: m.Adam(0.01),
    "Adam-decay": lambda m: m.Adam(0.01, (0.8, 0.95), 1e-3, 0.1),
    "AdamW": lambda m: m.AdamW(0.01, weight_decay=0.1),
    "AdamW-no-decay": lambda m: m.AdamW(0.01, weight_decay=0.5, no_decay=NO_DECAY),
    "RMSprop": lambda m: m.RMSprop(0.01),
    "RMSprop-momentum": lambda m: m.RMSprop(0.01, 0.9, 1e-4, 0.1, 0.5),
    "RMSprop-centered": lambda m: m.RMSprop(0.01, momentum=0.5, centered=True),
    "RMSprop-centered-plain": lambda m: m.RMSprop(0.01, centered=True),
    "Lion": lambda m: m.Lion(0.01, weight_decay=0.1),
    "Muon": lambda m: m.Muon(0.02),
    "Muon-plain": lambda m: m.Muon(
        0.02,
        0.6,
        False,
        0.5,
        NO_DECAY,
        ns_steps=2,
        adjust_learning_rate="match_rms_adamw",
        adam=("*.weights",),
        adam_factor=0.3,
        adam_betas=(0.8, 0.9),
        epsilon=1e-6,
    ),
    "Lion-no-decay": lambda m: m.Lion(0.01, weight_decay=0.5, no_decay=NO_DECAY),
}
every_optimizer = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())


def build(dtype=np.float64, seed=0) -> Sequential:
    """Return a network whose filters and weights fill no whole vectors.

    Direct convolutions, whose gradients are 0 where all terms are: Winograd's are noise there, and Lion takes its sign.
    """
    direct = {"algorithm": "direct"}
    layers = [
        Conv2D(5, 3, **direct),
        ReLU(),
        Conv2D(17, 3, bias=False, **direct),
        ReLU(),
        Flatten(),
        Dense(7),
        ReLU(),
        Dense(3),
    ]
    return Sequential(layers).build((2, 8, 8), random_state=seed, dtype=dtype)


x, y = normal(12, 2, 8, 8), np.arange(12) % 3


def own_loop(model: Sequential, optimizer, steps: int, after=lambda: None) -> None:
    """Train as one does without a Trainer."""
    loss = fastcnn.CrossEntropy()
    for step in range(steps):
        images, classes = np.roll(x, step, axis=3).astype(model._flat.dtype), np.roll(y, step)
        model.backward(loss.gradient(model.forward(images), classes))
        optimizer.step(model)
        after()


def assert_close(actual: dict, expected: dict, rtol=1e-10) -> None:
    assert list(actual) == list(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(actual[name], array, rtol=rtol, atol=rtol, err_msg=name)
