"""Checkpoints: a fit that was killed and is called again ends as one that was not; other runs are refused."""

from __future__ import annotations

import os

import numpy as np
import pytest

import fastcnn
from fastcnn import (
    SGD,
    Adam,
    Augmentation,
    Callback,
    ConstantRate,
    Dense,
    Dropout,
    EarlyStopping,
    ExponentialMovingAverage,
    Flatten,
    Sequential,
    Trainer,
)
from tests import killed_runs
from tests.fits import CLASSES, samples, trainer, weights


@pytest.mark.parametrize(("kind", "mapped"), [("everything", True), ("plateau", False)])
def test_a_fit_that_is_killed_ends_as_one_that_is_not(tmp_path, kind, mapped):
    """Killed in the middle of the first file, before and after one takes the place of the old one, and in between."""
    data, checkpoint = tmp_path / "X.npy", str(tmp_path / "run.safetensors")
    np.save(data, samples(240)[0])
    given = str(data) if mapped else None
    expected = killed_runs.run(kind, None)  # everything is loaded: the forked processes begin at once
    killed_runs.is_killed(lambda: killed_runs.run(kind, checkpoint, given), "", 0.03)  # unless it ends before
    (tmp_path / "run.safetensors").unlink(missing_ok=True)
    for moment, count in [("write", 5), ("fsync", 7), ("replace", 4), ("write", 40)]:
        assert killed_runs.is_killed(lambda: killed_runs.run(kind, checkpoint, given), moment, count)
    assert (
        killed_runs.finish(killed_runs.start(kind, tmp_path / "run.safetensors", data if mapped else None)) == expected
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["X.npy", "run.safetensors"]


class _StopError(Exception):
    pass


class _Ends(Callback):
    """Ends a fit at a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def batch(self, run):
        if run.step == self.step:
            raise _StopError


def fit(one: Trainer, path=None, *, stop: int = 0, every=None, **options):
    X, y = samples(90)
    options = {"epochs": 3, "batch_size": 20, "callbacks": [], "X": X, "y": y, **options}
    callbacks = [*options.pop("callbacks"), *([_Ends(stop)] if stop else [])]
    return one.fit(**options, callbacks=callbacks, verbose=0, checkpoint=path, checkpoint_every=every)


@pytest.mark.parametrize("stop", [5, 7, 10, 12])
@pytest.mark.parametrize("every", [1, "0.0000001 s"])
@pytest.mark.parametrize(
    "augmentation", [None, Augmentation(shift=1, mixup=0.3), Augmentation(crop=0.5, color_jitter=0.2, cutmix=0.3)]
)
def test_the_same_call_goes_on(tmp_path, stop, every, augmentation):
    path, options = tmp_path / "run", {"augmentation": augmentation}
    one = trainer()
    history = fit(one, **options)
    with pytest.raises(_StopError):
        fit(trainer(), path, stop=stop, every=every, **options)
    other = trainer()
    resumed = fit(other, path, every=every, **options)
    assert weights(other) == weights(one)
    assert resumed["loss"] == history["loss"]
    assert (other.steps, other.epochs) == (one.steps, one.epochs)


def test_a_schedule_by_its_name_goes_on_and_begins_anew_in_a_fit_of_its_own(tmp_path):
    options = {"schedule": "cosine", "ema": ExponentialMovingAverage(0.9)}
    path, one, other = tmp_path / "run", trainer(**options), trainer(**options)
    history = fit(one)
    assert history["learning_rate"][-1] < 0.01
    with pytest.raises(_StopError):
        fit(trainer(**options), path, stop=7, every="0.0000001 s")
    fit(other, path)
    assert weights(other) == weights(one)
    with pytest.raises(ValueError, match=r"another schedule_steps: 15, not 25"):
        fit(trainer(**options), path, epochs=5)
    assert fit(one)["learning_rate"] == history["learning_rate"]


def test_batches_of_ones_own_go_on(tmp_path):
    X, y = samples(90)
    batches = [(X[i : i + 20], y[i : i + 20], np.full(len(y[i : i + 20]), i % 40 + 0.0)) for i in range(0, 90, 20)]
    options = {"X": batches, "y": None, "batch_size": None, "augmentation": Augmentation(shift=1)}
    one, path = trainer(), tmp_path / "run"
    history = fit(one, **options)
    with pytest.raises(_StopError):
        fit(trainer(), path, stop=5, every="0.0000001 s", **options)
    other = trainer()
    assert fit(other, path, **options)["loss"] == history["loss"]
    assert weights(other) == weights(one)
    changed = [*batches[:-1], (X[:3], y[:3])]
    with pytest.raises(ValueError, match="another set of data"):
        fit(trainer(), path, **{**options, "X": changed})


def test_a_fit_that_has_ended_is_not_begun_again_and_takes_more_epochs(tmp_path):
    path, one = tmp_path / "run", trainer()
    fit(one, path)
    before = weights(one)
    assert len(fit(one, path)) == 3  # a cell that is run again
    assert weights(one) == before
    other = trainer()
    assert len(fit(other, path)) == 3
    assert weights(other) == before
    fit(other, path, epochs=5)
    longer = trainer()
    fit(longer, epochs=5)
    assert weights(other) == weights(longer)


def test_ctrl_c_leaves_a_file_from_which_the_same_call_goes_on(tmp_path):
    class Interrupting(Callback):
        def batch(self, run):
            if run.step == 7:
                os.kill(os.getpid(), 2)

    path, one, whole = tmp_path / "run", trainer(), trainer()
    assert fit(one, path, callbacks=[Interrupting()]).stopped == "Ctrl-C"
    assert one.steps == 7
    history = fit(one, path)
    expected = fit(whole)
    assert history["loss"] == expected["loss"]
    assert history.stopped is None
    assert weights(one) == weights(whole)


def test_early_stopping_goes_on_with_the_best_weights(tmp_path):
    X, y = samples(40, seed=1)
    options = {"X_val": X, "y_val": y, "epochs": 8}
    path, one, other = tmp_path / "run", trainer(rate=2.0), trainer(rate=2.0)
    first, second = EarlyStopping(patience=2), EarlyStopping(patience=2)
    fit(one, callbacks=[first], **options)
    with pytest.raises(_StopError):
        fit(trainer(rate=2.0), path, stop=12, every=1, callbacks=[EarlyStopping(patience=2)], **options)
    fit(other, path, callbacks=[second], **options)
    assert (second.best, second.best_epoch) == (first.best, first.best_epoch)
    assert weights(other) == weights(one)
    with pytest.raises(ValueError, match=r"another callbacks.*patience=2.*patience=3"):
        fit(trainer(rate=2.0), path, callbacks=[EarlyStopping(patience=3)], **options)


def other_model(**options) -> Trainer:
    return Trainer(Sequential([Flatten(), Dropout(0.5), Dense(CLASSES)]), optimizer=SGD(0.2), random_state=0, **options)


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (lambda: trainer(seed=1), {}, "another seed: 0, not 1"),
        (other_model, {}, "another model"),
        (lambda: trainer(rate=0.1), {}, r"another optimizer.*0\.2.*0\.1"),
        (lambda: trainer(schedule=ConstantRate(0.1)), {}, "another schedule: null"),
        (lambda: trainer(schedule=lambda step: 0.1), {}, "another schedule: null, not .*lambda"),
        (trainer, {"X": samples(90, seed=2)[0]}, "another set of data"),
        (trainer, {"y": np.zeros(90, int)}, "another set of data"),
        (trainer, {"batch_size": 10}, "another batch_size: 20, not 10"),
        (trainer, {"augmentation": Augmentation(shift=1)}, "another augmentation"),
        (trainer, {"X_val": samples(9)[0], "y_val": samples(9)[1]}, "another validation set"),
    ],
)
def test_another_run_is_refused(tmp_path, make, options, words):
    path = tmp_path / "run"
    fit(trainer(), path)
    with pytest.raises(ValueError, match=rf"fit: checkpoint: .*run is of a run with {words}"):
        fit(make(), path, **options)


def test_another_start_is_refused(tmp_path):
    path, one = tmp_path / "run", trainer()
    fit(one)
    fit(one, path)
    with pytest.raises(ValueError, match=r"another start: the trainer had taken other steps: \[15, 3\], not \[0, 0\]"):
        fit(trainer(), path)
    models = [Sequential([Flatten(), Dense(CLASSES)]).build((1, 8, 8), random_state=seed) for seed in (0, 1)]
    fit(Trainer(models[0], random_state=0), tmp_path / "built")
    with pytest.raises(ValueError, match="the model began with other weights"):
        fit(Trainer(models[1], random_state=0), tmp_path / "built")


def test_without_a_seed_the_files_own_is_taken(tmp_path):
    path, one, other = tmp_path / "run", trainer(seed=None), trainer(seed=None)
    with pytest.raises(_StopError):
        fit(one, path, stop=12, every=1)
    fit(other, path)
    assert other._seed == one._seed
    fit(one, path)
    assert weights(one) == weights(other)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"checkpoint": 3}, TypeError, "checkpoint: expected a path; got 3"),
        ({"checkpoint": "nowhere/run"}, OSError, "expected a file in a folder"),
        ({"checkpoint_every": 1}, ValueError, "checkpoint_every: expected None without a checkpoint"),
        ({"checkpoint": "x", "checkpoint_every": 0}, ValueError, "checkpoint_every: expected a positive int"),
        ({"checkpoint": "x", "checkpoint_every": 1.5}, TypeError, "checkpoint_every: expected a positive int"),
        ({"checkpoint": "x", "checkpoint_every": "soon"}, ValueError, "checkpoint_every: expected epochs, or seconds"),
    ],
)
def test_nonsense_is_refused_before_the_first_step(arguments, error, words):
    X, y = samples(40)
    one = trainer()
    with pytest.raises(error, match=words):
        one.fit(X, y, epochs=1, batch_size=20, verbose=0, **arguments)
    assert not one.steps


def test_a_file_that_is_no_checkpoint_is_refused_and_stays(tmp_path):
    path = tmp_path / "run"
    one = trainer()
    fit(one)
    fastcnn.save(one.model, path)
    before = path.read_bytes()
    with pytest.raises(fastcnn.StorageError, match="expected the file of a fit"):
        fit(trainer(), path)
    path.write_bytes(b"words")
    with pytest.raises(fastcnn.StorageError, match="run: no file of fastcnn"):
        fit(trainer(), path)
    path.write_bytes(before[:-1])
    with pytest.raises(fastcnn.StorageError, match="run: truncated"):
        fit(trainer(), path)
    assert path.read_bytes() == before[:-1]


def test_a_checkpoint_loads_as_a_trainer(tmp_path):
    path, one = tmp_path / "run", trainer()
    with pytest.raises(_StopError):
        fit(one, path, stop=12, every=1, callbacks=[EarlyStopping("loss")])
    loaded = fastcnn.load(path)
    assert (loaded.steps, loaded.epochs, len(loaded.history)) == (10, 2, 2)
    fit(loaded, path, callbacks=[EarlyStopping("loss")])
    whole = trainer()
    fit(whole, callbacks=[EarlyStopping("loss")])
    assert weights(loaded) == weights(whole)


def test_a_schedule_that_no_file_can_keep_goes_on_too(tmp_path):
    def schedule(step):
        return 0.1 / (1 + step)

    path, one, other = tmp_path / "run", trainer(schedule=schedule), trainer(schedule=schedule)
    fit(one)
    with pytest.raises(_StopError):
        fit(trainer(schedule=schedule), path, stop=12, every=1)
    fit(other, path)
    assert weights(one) == weights(other)


def test_large_data_is_recognised_by_samples_of_it(monkeypatch):
    from fastcnn.training import facts

    X = np.arange(5000.0).reshape(1000, 5)
    whole = facts.digest_arrays([X])
    monkeypatch.setattr(facts, "DIGESTED", 4000)
    assert sum(piece.size for piece in facts._pieces(X)) == 500
    assert facts.digest_arrays([X]) != whole
    X[0] += 1
    assert facts.digest_arrays([X]) != facts.digest_arrays([X + 0.5])


def test_the_optimizer_keeps_its_numbers(tmp_path):
    path = tmp_path / "run"
    one = Trainer(trainer().model, optimizer=Adam(0.01, clip_norm=1.0), random_state=0)
    fit(one, path)
    other = Trainer(trainer().model, optimizer=Adam(0.01, clip_norm=1.0), random_state=0)
    fit(other, path)
    assert other.optimizer.gradient_norm == one.optimizer.gradient_norm
    for name, array in one.optimizer.get_state().items():
        np.testing.assert_array_equal(other.optimizer.get_state()[name], array)
