"""The training loop: it takes the steps that it should, shows and remembers them, and survives what ends it."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from fastcnn import (
    SGD,
    Augmentation,
    BatchNorm,
    Callback,
    Conv2D,
    CrossEntropy,
    Dense,
    Dropout,
    EarlyStopping,
    Flatten,
    Layer,
    MaxPool2D,
    ReduceOnPlateau,
    ReLU,
    Sequential,
    Trainer,
    WarmUp,
    feed,
    training,
)
from fastcnn.history import Epoch, History
from tests.processes import run_python

CLASSES = 4


def samples(n: int = 90, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return bytes in which the bright corner tells the class."""
    rng = np.random.RandomState(seed)
    X, y = rng.randint(0, 100, size=(n, 1, 8, 8)).astype(np.uint8), rng.randint(CLASSES, size=n)
    for image, label in zip(X, y, strict=True):
        image[0, 4 * (label // 2) :, 4 * (label % 2) :][:4, :4] += 100
    return X, y


def network() -> Sequential:
    return Sequential([Conv2D(8, 3, padding=1), ReLU(), MaxPool2D(2), Flatten(), Dense(CLASSES)])


def trainer(seed: int = 0, rate: float = 0.2, **options) -> Trainer:
    return Trainer(network(), optimizer=SGD(rate), random_state=seed, **options)


def weights(one: Trainer) -> bytes:
    return one.model._flat.tobytes()


class Each(Callback):
    """Notes every moment; `act` does what a test wants in one of them."""

    def __init__(self, act=lambda moment, run: None) -> None:
        self.moments, self.act = [], act

    def _note(self, moment: str, run) -> None:
        self.moments.append(moment)
        self.act(moment, run)

    def begin(self, run):
        self._note("begin", run)

    def batch(self, run):
        self._note("batch", run)

    def epoch(self, run, epoch):
        self._note("epoch", run)

    def end(self, run):
        self._note("end", run)


# ----------------------------------------------------------------------------------------------------------- the steps


def test_an_epoch_is_the_steps_on_its_batches():
    """Every sample once, in an order that only seed and epoch decide, the last batch smaller."""
    (X, y), one, other = samples(), trainer(), trainer()
    history = one.fit(X, y, epochs=3, batch_size=20, verbose=0)
    orders = []
    other._build(X)
    for epoch in range(3):
        order = np.random.default_rng((0, epoch)).permutation(len(X))
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
    training.SHARD_WORK = 1.0  # as many shards as there can be
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
    monkeypatch.setattr(training, "SHARD_WORK", training.SHARD_WORK)  # restored behind the test
    path = str(tmp_path / "X")
    samples()[0].tofile(path)
    code = f"from tests.test_fit import bits; print(bits(2), bits(3, {path!r}))"
    found = [bits(1), bits(2), bits(3), bits(4), bits(1, path), bits(4, path), *run_python(code).split()]
    assert len(found) == 8
    assert len(set(found)) == 1


@pytest.mark.parametrize(
    "change",
    [
        np.asfortranarray,
        lambda X: np.repeat(X, 2, axis=3)[..., ::2],
        lambda X: X.tolist(),
        lambda X: X.astype(">i2"),
    ],
    ids=["fortran", "strided", "list", "big-endian"],
)
def test_any_memory_order(change):
    X, y = samples(40)
    plain = X if change(X[:1]).__class__ is np.ndarray and change(X[:1]).dtype == np.uint8 else X.astype(np.float64)
    one, other = trainer(), trainer(rate=0.2)
    one.fit(change(X), y, epochs=1, batch_size=16, verbose=0)
    other.fit(plain, y, epochs=1, batch_size=16, verbose=0)
    assert weights(one) == weights(other)


def test_no_float_copy_of_the_set_is_made():
    import tracemalloc

    X, y = np.zeros((20000, 1, 8, 8), np.uint8), np.zeros(20000, int)
    one = trainer()
    shifted = Augmentation(shift=1)
    one.fit(X[:64], y[:64], epochs=1, batch_size=32, X_val=X[:32], y_val=y[:32], augmentation=shifted, verbose=0)
    tracemalloc.start()
    one.fit(X, y, epochs=1, batch_size=32, X_val=X, y_val=y, augmentation=shifted, verbose=0)
    assert tracemalloc.get_traced_memory()[1] < X.nbytes  # the order of an epoch, 8 bytes a sample, and buffers
    tracemalloc.stop()


def test_batches_of_ones_own():
    (X, y), one, other = samples(), trainer(), trainer()
    one._build(X)
    batches = [(X[i : i + 16], y[i : i + 16]) for i in range(0, 90, 16)]
    history = one.fit(batches, epochs=2, X_val=batches[:2], verbose=0)
    other._build(X)
    for x, t in 2 * batches:
        other.step(x, t)
    assert weights(one) == weights(other)
    assert history[-1].val_loss == pytest.approx(one.evaluate(X[:32], y[:32]).loss, rel=1e-6)

    class Stream:
        def __iter__(self):
            return iter(batches)

    third = trainer()
    third.fit(Stream(), epochs=2, verbose=0)
    assert weights(third) == weights(one)


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


def test_a_plateau_of_what_is_not_measured():
    one = trainer(schedule=ReduceOnPlateau(0.1, monitor="val_accuracy"))
    with pytest.raises(ValueError, match="ReduceOnPlateau: monitor: val_accuracy was not measured in epoch 1"):
        one.fit(*samples(40), epochs=2, batch_size=20, verbose=0)


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
    with pytest.raises(ValueError, match="val_loss was not measured"):
        one.fit(X, y, epochs=2, batch_size=16, callbacks=[EarlyStopping()], verbose=0)
    with pytest.raises(ValueError, match="monitor: expected one of loss"):
        EarlyStopping("val_cost")


# ------------------------------------------------------------------------------------------------- not finite


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


def test_no_layer_is_held_still_in_silence():
    """A model that predicts is trained all the same; a single layer inside that should is an error."""
    (X, y), one, other = samples(40), trainer(), trainer()
    one._build(X)
    one.model.eval()
    one.fit(X, y, epochs=1, batch_size=16, verbose=0)
    other.fit(X, y, epochs=1, batch_size=16, verbose=0)
    assert weights(one) == weights(other)
    one.model.train()
    one.model.layers[2].training = False
    with pytest.raises(ValueError, match=r"Trainer: model: layer 2 \(MaxPool2D\): expected training = True; got False"):
        one.fit(X, y, epochs=1, batch_size=16, verbose=0)
    assert weights(one) == weights(other)


def test_a_rate_that_is_too_large():
    X, y = samples(40)
    with pytest.raises(FloatingPointError, match=r"fit: epoch 1, step \d"):
        trainer(rate=1e38).fit(X, y, epochs=3, batch_size=16, verbose=0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["array", "map", "batches", "validation"])
def test_data_that_are_not_finite_are_refused(value, kind, tmp_path, monkeypatch):
    monkeypatch.setattr(feed, "CHUNK", 500)
    (X, y), one = samples(40), trainer()
    bad = (X / 255).astype(np.float32)
    bad[37, 0, 3, 3] = value
    if kind == "map":
        bad.tofile(tmp_path / "X")
        bad = np.memmap(tmp_path / "X", np.float32, "r", shape=bad.shape)
    arguments = {"X": bad, "y": y, "batch_size": 16}
    if kind == "batches":
        arguments = {"X": [(bad, y)]}
    elif kind == "validation":
        arguments = {"X": X, "y": y, "batch_size": 16, "X_val": bad, "y_val": y}
    one._build(X)
    before = weights(one)
    with pytest.raises(ValueError, match=r"got -?(nan|inf) in sample 37"):
        one.fit(**arguments, epochs=1, verbose=0)
    assert weights(one) == before


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"epochs": 0}, ValueError, "fit: epochs: expected a positive int; got 0"),
        ({"batch_size": 0}, ValueError, "fit: batch_size: expected a positive int; got 0"),
        ({"batch_size": None}, ValueError, "fit: batch_size"),
        ({"y": np.zeros(3, int)}, ValueError, r"fit: y: expected 40 targets.*got shape \(3,\)"),
        ({"X": np.zeros((40, 8, 8))}, ValueError, r"fit: X: expected images \(N, C, H, W\) or features"),
        ({"X": np.zeros((40, 1, 8, 8), complex)}, TypeError, "fit: X: expected real numbers; got dtype complex128"),
        ({"X": np.zeros((0, 1, 8, 8)), "y": np.zeros(0, int)}, ValueError, "at least one; got shape"),
        ({"sample_weight": np.ones(3)}, ValueError, r"fit: sample_weight: expected shape \(40,\); got shape \(3,\)"),
        ({"sample_weight": -np.ones(40)}, ValueError, "sample_weight: expected numbers of at least 0; got -1"),
        ({"augmentation": "flip"}, TypeError, "fit: augmentation: expected an Augmentation or None; got 'flip'"),
        ({"callbacks": [print]}, TypeError, "fit: callbacks: expected Callback objects; got <built-in"),
        ({"callbacks": EarlyStopping()}, TypeError, "fit: callbacks: expected a list of Callback objects; got <"),
        ({"X_val": np.zeros((3, 1, 8, 8))}, TypeError, "fit: X_val: expected arrays X and y, .*; got a ndarray and no"),
        ({"X_val": np.zeros((3, 1, 8, 7)), "y_val": [0, 1, 2]}, ValueError, r"expected samples of shape \(1, 8, 8\)"),
        ({"X_val": np.zeros((3, 1, 8, 8)), "y_val": [0, 4, 2]}, ValueError, "fit: y_val: .* from 0 to 3; got 4"),
        ({"X": [[1, 2], [3]], "y": [1, 2]}, ValueError, "fit: X: expected an array: .*inhomogeneous"),
        ({"y_val": np.zeros(3, int)}, ValueError, "fit: X_val"),
        ({"X": iter([]), "y": None, "batch_size": None}, TypeError, "which ends after one pass"),
        ({"X": [], "y": None, "batch_size": None}, ValueError, "at least one batch in each epoch"),
        (
            {"X": [3], "y": None, "batch_size": None},
            TypeError,
            r"fit: X: batch 1: expected \(x, y\) or \(x, y, weight\)",
        ),
        ({"X": 3, "y": None, "batch_size": None}, TypeError, "expected arrays X and y, or batches"),
        ({"X": [3], "y": None}, ValueError, "batch_size, sample_weight: expected none with batches"),
        ({"y": np.full(40, 9)}, ValueError, "fit: y: expected classes from 0 to 3; got 9"),
        ({"y": np.full(40, -1), "augmentation": Augmentation(mixup=1)}, ValueError, "from 0 to 3; got -1"),
    ],
)
def test_nonsense_is_refused(arguments, error, words):
    X, y = samples(40)
    one = trainer()
    one._build(X)
    before = weights(one)
    with pytest.raises(error, match=words):
        one.fit(**{"X": X, "y": y, "epochs": 1, "batch_size": 16, "verbose": 0, **arguments})
    assert weights(one) == before
