"""Fits that are killed and started again; `python -m tests.killed_runs 100` kills each kind at that many moments.

A child process fits with a checkpoint. It is killed by SIGKILL: by itself, at a certain moment of writing the file, or
from outside after a random time. In the end it must have what a fit has that nobody has killed.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fastcnn import (
    SGD,
    AdamW,
    Augmentation,
    BatchNorm,
    CNNClassifier,
    Conv2D,
    CosineDecay,
    Dense,
    Dropout,
    EarlyStopping,
    ExponentialMovingAverage,
    Flatten,
    MaxPool2D,
    ReduceOnPlateau,
    ReLU,
    Sequential,
    Trainer,
    WarmUp,
)
from tests.fits import CLASSES, samples
from tests.processes import CACHE, CLEAN, ROOT

KINDS = ("everything", "plateau", "classifier")
MOMENTS = ("write", "fsync", "replace")  # of writing a file


def run(kind: str, checkpoint: str | None, data: str | None = None) -> str:
    """Fit, and return a digest of all that comes of it."""
    X, y = samples(240)
    if data is not None:
        X = np.load(data, mmap_mode="r")
    if kind == "classifier":
        return _fit_a_classifier(X, y, checkpoint)
    layers = [Conv2D(8, 3, padding=1, bias=False), BatchNorm(), ReLU(), MaxPool2D(2), Flatten(), Dropout(0.3)]
    model = Sequential([*layers, Dense(CLASSES)])
    stop = EarlyStopping(patience=3)
    if kind == "everything":
        schedule, ema = WarmUp(CosineDecay(0.01, 90), 5), ExponentialMovingAverage(0.9)
        trainer = Trainer(model, optimizer=AdamW(clip_norm=1.0), random_state=3, schedule=schedule, ema=ema)
        augmentation = Augmentation(horizontal_flip="alternating", shift=1, rotation=5, mixup=0.2)
    else:
        schedule, augmentation, ema = ReduceOnPlateau(0.1, patience=0), None, None
        trainer = Trainer(model, optimizer=SGD(momentum=0.9), random_state=3, schedule=schedule)
    every = None if checkpoint is None else "0.005 s"
    history = trainer.fit(
        X[:200], y[:200], epochs=9, batch_size=16, X_val=X[200:], y_val=y[200:], augmentation=augmentation,
        callbacks=[stop], verbose=0, checkpoint=checkpoint, checkpoint_every=every,
    )  # fmt: skip
    arrays = [*trainer.model._weights().values(), *trainer.optimizer.get_state().values()]
    arrays += [] if ema is None else ema.get_state().values()
    epochs = [epoch[:6] for epoch in history]
    return _digest(arrays, (epochs, history.stopped, stop.best, stop.best_epoch, trainer.steps, trainer.epochs))


def _fit_a_classifier(X, y, checkpoint: str | None) -> str:
    one = CNNClassifier(
        [Conv2D(8, 3), BatchNorm(), ReLU(), Dropout(0.2)], max_iter=6, batch_size=16, random_state=3,
        early_stopping=True, n_iter_no_change=3, augmentation=Augmentation(shift=1),
    )  # fmt: skip
    one.fit(np.asarray(X), y, checkpoint=checkpoint)
    curves = one.loss_curve_, one.validation_loss_curve_, one.validation_scores_, one.n_iter_, one.best_loss_
    return _digest([*one.model_._weights().values(), one.predict_proba(X)], curves)


def _digest(arrays, others) -> str:
    digest = hashlib.sha256(repr(others).encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def start(kind: str, checkpoint: Path, data: Path | None, moment: str = "", count: int = 0) -> subprocess.Popen[str]:
    """Start a fit in a process of its own; it kills itself at a moment of writing, when that comes for the nth time."""
    arguments = [kind, str(checkpoint), "" if data is None else str(data), moment, str(count)]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.killed_runs", "child", *arguments],
        cwd=ROOT, env={**CLEAN, **CACHE, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str], after: float | None = None) -> str | None:
    """Wait for a fit, at most so many seconds; return its digest, None if it was killed."""
    try:
        output, errors = process.communicate(timeout=after or 120)
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
    if process.returncode == -signal.SIGKILL:
        return None
    assert process.returncode == 0, errors
    return output.strip()


def is_killed(function: Callable[[], object], moment: str, count: float) -> bool:
    """Call a function in a forked process that is killed at a moment of writing, or after so many seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks with threads; ours wait for none
        child = os.fork()
    if not child:
        try:
            _be_killed(moment, count)
            function()
        finally:
            os._exit(0)
    if not moment:
        time.sleep(count)
        os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def _be_killed(moment: str, count: float) -> None:
    """Let this process kill itself when it writes a file for the nth time."""
    left = [int(count)]

    def deadly(function):
        def call(*arguments):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments)

        return call

    if moment == "write":
        from fastcnn.storage import layout

        layout._bytes = deadly(layout._bytes)  # half of the tensors are in the file
    elif moment:
        setattr(os, moment, deadly(getattr(os, moment)))


def _child(kind: str, checkpoint: str, data: str, moment: str, count: str) -> None:
    _be_killed(moment, int(count))
    print(run(kind, checkpoint, data or None))


def _main(kills: int) -> None:
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "X.npy")
        np.save(data, samples(240)[0])
        for kind in KINDS:
            expected, killed, began = run(kind, None), 0, time.perf_counter()
            longest = 6.0
            while killed < kills:
                checkpoint, mapped = Path(folder, f"{kind}.safetensors"), chance.choice([data, None])
                while True:  # one fit, killed as often as it takes
                    if chance.random() < 0.5:
                        process = start(kind, checkpoint, mapped, chance.choice(MOMENTS), chance.randrange(1, 60))
                        digest = finish(process)
                    else:
                        digest = finish(start(kind, checkpoint, mapped), chance.uniform(0.5, longest))
                    killed += digest is None
                    if digest is not None:
                        break
                assert digest == expected, f"{kind}: another digest after {killed} kills"
                checkpoint.unlink()
                assert not [path for path in Path(folder).iterdir() if path != data], "something is left behind"
            print(f"{kind}: {killed} kills, always the same digest, {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    if sys.argv[1] == "child":
        _child(*sys.argv[2:])
    else:
        _main(int(sys.argv[1]))
