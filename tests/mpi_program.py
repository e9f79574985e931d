"""A training on the ranks that mpiexec has started, for `test_ranks_mpi.py`; prints a line of JSON on each rank.

`python -m mpi4py -m tests.mpi_program FOLDER [--fail KIND --rank R --step N] [--slow MOMENT]`; FOLDER has `X.npy` and
`y.npy`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
from mpi4py import MPI

import fastcnn
import fastcnn.training.step
from fastcnn import (
    Adam,
    Augmentation,
    BatchNorm,
    Callback,
    Conv2D,
    Dense,
    Dropout,
    ExponentialMovingAverage,
    Flatten,
    ReLU,
    Sequential,
    Trainer,
)
from fastcnn.ranks.communicator import RankError

COMM = MPI.COMM_WORLD
RANK = COMM.rank


class Fail(Callback):
    """What may happen to a rank after a step."""

    def __init__(self, kind: str, rank: int, step: int) -> None:
        self.kind, self.rank, self.step = kind, rank, step

    def batch(self, run) -> None:
        if (run.step, RANK) == (self.step, self.rank):
            if self.kind == "exception":
                raise OSError("the disk is full")
            if self.kind == "fork":
                fork(run.trainer)
                return
            os.kill(os.getpid(), {"interrupt": signal.SIGINT, "kill": signal.SIGKILL}[self.kind])


def fork(trainer: Trainer) -> None:
    """Fork, and see that the child cannot train with the other ranks."""
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0, "a fork was taken for a rank"
        return
    try:
        trainer.step(np.zeros((1, 3, 8, 8), "f"), [0])
    except RankError as error:
        os._exit(0 if "forked from a rank" in str(error) else 1)
    finally:
        os._exit(2)


class Slow(Callback):
    """Lets a training take long enough to be hurt in its middle: from outside, by signals."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def batch(self, run) -> None:
        be_known(self.folder)
        time.sleep(0.2)


def fail(number, frame) -> None:
    raise OSError("the disk is full")


def be_known(folder: Path) -> None:
    """Tell the number of this process, which is waited for."""
    signal.signal(signal.SIGUSR1, fail)
    path = folder / f"pid-{RANK}"
    if not path.exists():
        path.write_text(str(os.getpid()))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fail", choices=("exception", "fork", "interrupt", "kill"))
    parser.add_argument("--rank", type=int, default=0)
    parser.add_argument("--step", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--slow", choices=("from the start", "from the first step"), help="when its number is told")
    options = parser.parse_args()
    if options.slow == "from the start":
        be_known(options.folder)
    fastcnn.training.step.SHARD_WORK = 1e3
    X, y = np.load(options.folder / "X.npy", mmap_mode="r"), np.load(options.folder / "y.npy")
    layers = [Conv2D(8, 3, padding=1), BatchNorm(), ReLU(), Dropout(0.2), Flatten(), Dense(5)]
    trainer = Trainer(
        Sequential(layers), optimizer=Adam(0.01, clip_norm=1.0), random_state=0, schedule="cosine",
        ema=ExponentialMovingAverage(0.9), communicator=COMM, threads=options.threads,
    )  # fmt: skip
    failing = [Fail(options.fail, options.rank, options.step)] if options.fail else []
    failing += [Slow(options.folder)] if options.slow else []
    history = trainer.fit(
        X, y, epochs=3, batch_size=16, X_val=X[:20], y_val=y[:20], augmentation=Augmentation(True, shift=1, mixup=0.2),
        callbacks=failing, verbose=0, checkpoint=options.folder / "run.safetensors",
    )  # fmt: skip
    averages = sorted(trainer.ema.averages.items())
    told = {
        "digest": trainer.model.digest(),
        "average": fastcnn.digest.digest(dict(averages)),
        "val_loss": list(history["val_loss"]),
        "stopped": history.stopped,
        "steps": trainer.steps,
        "threads": fastcnn.get_num_threads(),
        "interrupted": trainer.communicator.interrupted if trainer.communicator else None,
    }
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
