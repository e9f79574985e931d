"""What a fit on a memory map of 4 GB of bytes takes in memory: `python -m bench.memory_map`, Linux.

The file is sparse and in a folder that is deleted; a whole epoch reads all of it, in a random order. Measured is the
anonymous memory that is resident, what the process cannot give back; the pages of the map are the system's to drop.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import numpy as np

from fastcnn import SGD, Augmentation, Callback, Conv2D, Dense, Flatten, MaxPool2D, ReLU, Sequential, Trainer

SHAPE, BATCH, LIMIT = (3, 64, 64), 256, 600
IMAGES = (4 << 30) // (3 * 64 * 64)


def resident() -> float:
    """Return the resident anonymous memory in MB."""
    return int(re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1e3


class Watch(Callback):
    """Looks at the memory after every tenth step."""

    most = 0.0

    def batch(self, run):
        if run.step % 10 == 0:
            self.most = max(self.most, resident())


def main() -> None:
    began = resident()
    with tempfile.TemporaryDirectory() as folder:
        X = np.memmap(Path(folder) / "X", np.uint8, "w+", shape=(IMAGES, *SHAPE))
        y = np.arange(IMAGES) % 10
        model = Sequential([Conv2D(8, 3, stride=4), ReLU(), MaxPool2D(2), Flatten(), Dense(10)])
        trainer, watch = Trainer(model, optimizer=SGD(0.01), random_state=0), Watch()
        history = trainer.fit(
            X, y, epochs=1, batch_size=BATCH, X_val=X[:10_000], y_val=y[:10_000], callbacks=[watch],
            augmentation=Augmentation(horizontal_flip=True, shift=4),
        )  # fmt: skip
    print(f"{X.nbytes / 1e9:.2f} GB, {IMAGES:,} images, {trainer.steps:,} steps, {history[0].seconds:.0f} s")
    print(f"resident anonymous memory: {began:.0f} MB before, {watch.most:.0f} MB at most (asked: under {LIMIT})")


if __name__ == "__main__":
    main()
