"""Resident memory stays flat: over a thousand steps, and over fifty models that are built, trained and dropped."""

from __future__ import annotations

import ctypes
import gc
import os
import weakref
from pathlib import Path

import numpy as np
import pytest

from fastcnn import SGD, BatchNorm, Conv2D, Dense, Dropout, Flatten, MaxPool2D, ReLU, Residual, Sequential, Trainer
from tests.processes import run_python

STATM = Path("/proc/self/statm")
pytestmark = pytest.mark.skipif(not STATM.exists(), reason="the system does not tell the resident memory so")
SHAPE = (1, 16, 16)


def resident() -> int:
    """Return the bytes of this process that are in memory, what the allocator keeps for later given back."""
    gc.collect()
    getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)(0)
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def stepped(images: int, steps: int) -> Trainer:
    """Return a trainer after some steps of a small network with everything in it, and a prediction."""
    inside = [Conv2D(16, 3, padding=1), BatchNorm()]
    layers = [Conv2D(16, 3, padding=1), BatchNorm(), ReLU(), Residual(inside), ReLU(), MaxPool2D(), Dropout(0.1)]
    model = Sequential([*layers, Flatten(), Dense(4)]).build(SHAPE, random_state=0)
    trainer = Trainer(model, optimizer=SGD(0.01, momentum=0.9), threads=2)
    x, y = np.ones((images, *SHAPE), np.float32), np.arange(images) % 4
    for _ in range(steps):
        trainer.step(x, y)
    model.predict(x)
    return trainer


# In processes of their own: what other tests have left cannot be told from what stays.


def test_over_a_thousand_steps():
    grown = int(run_python("from tests.test_memory import thousand; print(thousand())"))
    assert grown < 4 << 20


def test_over_fifty_models():
    grown = int(run_python("from tests.test_memory import fifty; print(fifty())"))
    assert grown < 16 << 20


def thousand() -> int:
    """Return by how much a thousand steps let the process grow."""
    trainer, x, y = stepped(8, 50), np.ones((8, *SHAPE), np.float32), np.arange(8) % 4
    before = resident()
    for _ in range(1000):
        trainer.step(x, y)
    return resident() - before


def fifty() -> int:
    """Return by how much fifty models with a step of over 8 MB each let the process grow; all of them are gone."""
    for _ in range(10):
        stepped(64, 1)
    before = resident()
    dropped = [weakref.ref(stepped(64, 1)) for _ in range(50)]
    gc.collect()
    assert all(trainer() is None for trainer in dropped)
    return resident() - before
