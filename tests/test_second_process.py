"""The same seed gives the same bits: in a second process and for any number of threads, everything random on."""

from __future__ import annotations

from hashlib import sha256

import numpy as np

from fastcnn import AdamW, BatchNorm, Conv2D, Dense, Dropout, Flatten, ReLU, Sequential, SpatialDropout2D, Trainer
from fastcnn.data.augmentation import Augmentation
from tests.processes import run_python


def outcome(threads: int) -> str:
    """Return a digest of what training comes to with dropout, batch norm, an order and an augmentation."""
    generator = np.random.RandomState(2)
    X, y = generator.standard_normal((64, 2, 12, 12)).astype(np.float32), generator.randint(3, size=64)
    layers = [Conv2D(24, 3, padding=1, bias=False), BatchNorm(), ReLU(), SpatialDropout2D(0.2),
              Conv2D(24, 3, padding=1), BatchNorm(), ReLU(), Flatten(), Dropout(0.4), Dense(3)]  # fmt: skip
    trainer = Trainer(Sequential(layers), optimizer=AdamW(0.01), threads=threads, random_state=7)
    trainer.fit(X, y, epochs=2, batch_size=32, augmentation=Augmentation(horizontal_flip=True, shift=1), verbose=0)
    assert len(trainer._program.slices(32)) > 1
    arrays = [*trainer.model.get_weights(), trainer.model.predict(X), np.array(trainer.history["loss"])]
    return sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()


def test_the_same_bits():
    there = run_python("from tests.test_second_process import outcome; print(outcome(3))").strip()
    assert [outcome(threads) for threads in (1, 2, 4)] == [there] * 3
