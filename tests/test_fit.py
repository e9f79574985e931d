"""The training loop: it takes the steps that it should, shows and remembers them, and survives what ends it."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from fastcnn import (
    SGD,
    Augmentation,
    BatchNorm,
    Conv2D,
    CrossEntropy,
    Dense,
    Dropout,
    EarlyStopping,
    Flatten,
    MaxPool2D,
    ReduceOnPlateau,
    ReLU,
    Sequential,
    Trainer,
    WarmUp,
)
from fastcnn.data.augmentation import epoch_order
from fastcnn.history import Epoch, History
from fastcnn.training import step as engine
from tests.fits import CLASSES, Each, network, samples, trainer, weights
from tests.processes import run_python

# ----------------------------------------------------------------------------------------------------------- the steps


def test_an_epoch_is_the_steps_on_its_batches():
    """Every sample once, in an order that only seed and epoch decide, the last batch smaller."""
    (X, y), one, other = samples(), trainer(), trainer()
    history = one.fit(X, y, epochs=3, batch_size=20, verbose=0)
    orders = []
    other._build(X)
    for epoch in range(3):
        order = epoch_order(0, epoch, len(X))
        losses = [(len(b), other.step(X[b], y[b]), other.accuracy) for b in np.split(order, [20, 40, 60, 80])]
        assert history[epoch].loss == pytest.approx(sum(n * loss for n, loss, _ in losses) / 90, rel=1e-12)
        assert history[epoch].accuracy == pytest.approx(sum(n * hit for n, _, hit in losses) / 90, rel=1e-12)
        orders.append(tuple(order))
    assert weights(one) == weights(other)
    assert len(set(orders)) == 3
    assert history[-1].accuracy > history[0].accuracy


def test_a_second_fit_goes_on():
    X, y = samples()
    whole, halves = trainer(), trainer()
    whole.fit(X, y, epochs=4, batch_size=16, verbose=0)
    for _ in range(2):
        halves.fit(X, y, epochs=2, batch_size=16, verbose=0)
    assert weights(whole) == weights(halves)
    assert halves.epochs == 4


def test_seeds():
    X, y = samples()

    def run(seed):
        np.random.seed(7)
        one = Trainer(network(), random_state=seed)
        one.fit(X, y, epochs=1, batch_size=16, verbose=0)
        return weights(one)

    assert run(1) == run(1) != run(2)
    assert run(None) == run(None)  # NumPy's global generator, as in scikit-learn
    assert run(np.random.RandomState(1)) == run(np.random.RandomState(1))
    assert run(np.random.default_rng(1)) == run(np.random.default_rng(1))


def bits(threads: int, path: str | None = None) -> str:
    """Return a digest of all that a fit comes to, with dropout, batch normalisation and augmentation; of a file's X."""
    engine.SHARD_WORK = 1.0  # as many shards as there can be
    X, y = samples()
    if path:
        X = np.memmap(path, np.uint8, "r", shape=X.shape)
    model = Sequential([Conv2D(4, 3), BatchNorm(), ReLU(), Dropout(0.3), MaxPool2D(2), Flatten(), Dense(CLASSES)])
    one = Trainer(model, optimizer=SGD(0.1), threads=threads, random_state=0)
    changes = Augmentation(True, shift=1, rotation=5, contrast=0.1, cutout=2, mixup=0.2)
    history = one.fit(X, y, epochs=2, batch_size=40, augmentation=changes, X_val=X, y_val=y, verbose=0)
    digest = hashlib.sha256(b"".join(array.tobytes() for array in model.get_weights()))
    digest.update(repr((history["loss"], history["accuracy"], history["val_loss"])).encode())
    return digest.hexdigest()


def test_the_same_seed_gives_the_same_bits(tmp_path, monkeypatch):
    """For any number of threads, from an array or a memory map, and in another process."""
    monkeypatch.setattr(engine, "SHARD_WORK", engine.SHARD_WORK)  # restored behind the test
    path = str(tmp_path / "X")
    samples()[0].tofile(path)
    code = f"from tests.test_fit import bits; print(bits(2), bits(3, {path!r}))"
    found = [bits(1), bits(2), bits(3), bits(4), bits(1, path), bits(4, path), *run_python(code).split()]
    assert len(found) == 8
    assert len(set(found)) == 1


# ------------------------------------------------------------------------------------------------- what is measured


def test_evaluate_measures_the_model_as_it_predicts():
    (X, y), one = samples(), trainer()
    one.fit(X, y, epochs=2, batch_size=30, verbose=0)
    before = weights(one)
    logits = one.model.forward(X / np.float32(255)).astype(np.float64)
    expected = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(90), y]
    for size in (7, 90, None):
        loss, accuracy = one.evaluate(X, y, batch_size=size)
        assert loss == pytest.approx(expected.mean(), rel=1e-5)
        assert accuracy == pytest.approx((logits.argmax(axis=1) == y).mean())
    assert weights(one) == before


def test_the_loss_of_an_epoch_is_the_mean_over_all_its_samples():
    """By sample and class weights, though the batches differ in size and weight; with no weight there is no step."""
    (X, y), rng = samples(), np.random.RandomState(5)
    weight, by_class = rng.rand(90) * (rng.rand(90) < 0.7), np.arange(1.0, 1 + CLASSES)
    weight[60:] = 0
    one = Trainer(network(), CrossEntropy(class_weight=by_class), SGD(0.0), random_state=0)
    one._build(X)
    logits = one.model.forward(X / np.float32(255)).astype(np.float64)
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(90), y]
    expected = np.average(losses, weights=weight * by_class[y])
    batches = [(X[i : i + 20], y[i : i + 20], weight[i : i + 20]) for i in range(0, 90, 20)]
    for arguments in ({"X": X, "y": y, "batch_size": 20, "sample_weight": weight}, {"X": batches}):
        assert one.fit(**arguments, epochs=1, verbose=0)[0].loss == pytest.approx(expected, rel=1e-5)
        assert one.evaluate(**arguments).loss == pytest.approx(expected, rel=1e-5)
    assert one.steps == 5 + 3
    with pytest.raises(ValueError, match="at least one batch in each epoch, of some weight"):
        one.fit(X, y, epochs=1, batch_size=20, sample_weight=np.zeros(90), verbose=0)


@pytest.mark.parametrize(
    ("options", "validated", "column"),
    [
        ({}, True, "val_loss"),
        ({}, False, "loss"),
        ({"mode": "max"}, True, "val_accuracy"),
        ({"mode": "max"}, False, "accuracy"),
        ({"monitor": "loss"}, True, "loss"),
    ],
)
def test_a_plateau_is_noticed_by_fit(options, validated, column):
    X, y = samples(40)
    schedule = ReduceOnPlateau(1e-9, 0.5, patience=0, **options)  # at such a rate nothing improves
    seen, report = [], schedule.report
    schedule.report = lambda value: seen.append(value) or report(value)
    one = Trainer(network(), optimizer=SGD(9.0), schedule=WarmUp(schedule, 2, 1.0), random_state=0)
    validation = {"X_val": X[:20], "y_val": y[:20]} if validated else {}
    history = one.fit(X, y, epochs=3, batch_size=20, **validation, verbose=0)
    assert seen == history[column]
    assert history["learning_rate"] == [1e-9, 1e-9, 0.5e-9]


def test_what_needs_a_validation_set_is_refused_before_the_first_step():
    plateau = ReduceOnPlateau(0.1, monitor="val_accuracy")
    for schedule, callbacks, name in (
        (plateau, [], "ReduceOnPlateau: monitor: val_accuracy"),
        (WarmUp(plateau, 2), [], "WarmUp: monitor: val_accuracy"),
        (None, [EarlyStopping("loss"), EarlyStopping()], "EarlyStopping: monitor: val_loss"),
    ):
        one = trainer(schedule=schedule)
        with pytest.raises(ValueError, match=f"{name} is measured on a validation set: pass X_val, y_val to fit"):
            one.fit(*samples(40), epochs=2, batch_size=20, callbacks=callbacks, verbose=0)
        assert one.steps == 0
    validated = {"X_val": samples(20)[0], "y_val": samples(20)[1]}
    trainer(schedule=WarmUp(plateau, 2)).fit(*samples(40), epochs=1, batch_size=20, **validated, verbose=0)


def test_validation_comes_after_each_epoch_and_changes_nothing():
    (X, y), (X_val, y_val), one, other = samples(), samples(31, 1), trainer(), trainer()
    history = one.fit(X, y, epochs=2, batch_size=16, X_val=X_val, y_val=y_val, verbose=0)
    for epoch in range(2):
        other.fit(X, y, epochs=1, batch_size=16, verbose=0)
        assert (history[epoch].val_loss, history[epoch].val_accuracy) == other.evaluate(X_val, y_val, batch_size=16)
    assert weights(one) == weights(other)


def test_history_is_a_table_and_a_dictionary():
    history = History()
    assert str(history).split()[:2] == ["Epoch", "Loss"]
    history.epochs += [
        Epoch(1, 2.0, 0.5, 1.5, float("nan"), 0.1, 1.0, 12345.0),
        Epoch(2, 1.0, 0.75, float("nan"), float("nan"), 0.05, 1.0, 20000.0),
    ]
    history.stopped = "Ctrl-C"
    assert str(history).splitlines() == [
        "Epoch    Loss  Accuracy  Val loss  Rate  Seconds  Images/s",
        "    1  2.0000    50.00%    1.5000   0.1     1.00    12,345",
        "    2  1.0000    75.00%         -  0.05     1.00    20,000",
        "Stopped: Ctrl-C",
    ]
    table = history.to_dict()
    assert list(table) == list(Epoch._fields)
    assert table["loss"] == history["loss"] == [2.0, 1.0]
    assert {len(column) for column in table.values()} == {2}
    with pytest.raises(KeyError, match="expected one of epoch, loss"):
        history["cost"]


def test_one_line_an_epoch_or_silence(capsys):
    (X, y), one = samples(40), trainer()
    one.fit(X, y, epochs=2, batch_size=16, X_val=X, y_val=y)
    out, err = capsys.readouterr()
    first, second = out.splitlines()
    assert first.startswith("Epoch 1 | Loss: ")
    assert " | Val loss: " in second
    assert second.endswith(" images/s")
    assert err == ""
    one.fit(X, y, epochs=2, batch_size=16, verbose=0)
    assert capsys.readouterr() == ("", "")


# --------------------------------------------------------------------------------------------------------- callbacks


def test_the_moments_in_their_order():
    (X, y), each = samples(40), Each()
    trainer().fit(X, y, epochs=2, batch_size=16, callbacks=[each], verbose=0)
    assert each.moments == ["begin", *2 * ["batch", "batch", "batch", "epoch"], "end"]


def test_a_callback_can_stop_the_run():
    def stop(moment, run):
        if run.step == 4 and moment == "batch":
            run.stop("four are enough")

    (X, y), each, one = samples(40), Each(stop), trainer()
    history = one.fit(X, y, epochs=9, batch_size=16, X_val=X, y_val=y, callbacks=[each], verbose=0)
    assert each.moments == ["begin", "batch", "batch", "batch", "epoch", "batch", "epoch", "end"]
    assert history.stopped == "four are enough"
    assert len(history) == 2
    assert np.isnan(history[1].val_loss)  # an epoch that was cut short is not validated
    assert np.isfinite(history[1].loss)


@pytest.mark.parametrize("when", ["begin", "batch", "epoch", "end"])
def test_an_exception_in_a_callback_leaves_everything_usable(when):
    def fail(moment, run):
        if moment == when and (run.step >= 2 or moment == "begin"):
            raise KeyError("mine")

    (X, y), one = samples(40), trainer()
    with pytest.raises(KeyError, match="mine"):
        one.fit(X, y, epochs=2, batch_size=16, callbacks=[Each(fail)], verbose=0)
    assert len(one.history) == {"begin": 0, "batch": 0, "epoch": 1, "end": 2}[when]
    assert np.isfinite(one.model.forward(X)).all()
    assert one.fit(X, y, epochs=5, batch_size=16, verbose=0)[-1].accuracy > 0.5


def test_early_stopping_restores_the_best_weights():
    X, y = samples(40)
    kept = {}

    def spoil(moment, run):
        if moment == "epoch":
            kept[run.epoch] = weights(run.trainer)
        if moment == "batch" and run.epoch > 3:  # from the fourth epoch on it only gets worse
            run.trainer.model.parameters["4.biases"][...] += (9, 0, 0, -9)

    one, stopping = trainer(), EarlyStopping(patience=2)
    history = one.fit(X, y, epochs=20, batch_size=16, X_val=X, y_val=y, callbacks=[Each(spoil), stopping], verbose=0)
    assert len(history) == 5
    assert history.stopped == "val_loss has not improved since epoch 3"
    assert (stopping.best_epoch, stopping.best) == (3, history[2].val_loss)
    assert weights(one) == kept[3] != kept[5]


def test_early_stopping_wants_more_accuracy():
    X, y = samples(40)
    one, stopping = trainer(rate=1e-9), EarlyStopping("val_accuracy", patience=3, restore_best=False)
    history = one.fit(X, y, epochs=20, batch_size=16, X_val=X, y_val=y, callbacks=[stopping], verbose=0)
    assert len(history) == 4
    with pytest.raises(ValueError, match="monitor: expected one of loss"):
        EarlyStopping("val_cost")


def test_no_layer_is_held_still_in_silence():
    """A model that predicts is trained all the same; a single layer inside cannot be set to."""
    (X, y), one, other = samples(40), trainer(), trainer()
    one._build(X)
    one.model.eval()
    one.fit(X, y, epochs=1, batch_size=16, verbose=0)
    other.fit(X, y, epochs=1, batch_size=16, verbose=0)
    assert weights(one) == weights(other)
    one.model.train()
    with pytest.raises(AttributeError, match="MaxPool2D: training: read-only in a part of a built model"):
        one.model.layers[2].training = False
    assert weights(one) == weights(other)


@pytest.mark.parametrize("seed", [-1, 1 << 64])
def test_a_seed_that_is_none_is_said(seed):
    built = network().build((1, 8, 8), random_state=0)
    with pytest.raises(ValueError, match=r"Trainer: random_state: expected an int of at least 0, below .*; got"):
        Trainer(built, random_state=seed).fit(np.zeros((4, 1, 8, 8)), np.zeros(4, int), epochs=1, batch_size=2)
