"""What a fit is fed with: arrays in any order of memory, parts of maps, batches; and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn import Augmentation, EarlyStopping
from fastcnn.training import feed
from fastcnn.training.feed import ArrayFeed
from tests.fits import samples, trainer, weights


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


@pytest.mark.parametrize("change", [Augmentation(shift=1, mixup=0.5), None], ids=["augmented", "plain"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_of_an_array_are_as_their_copy(change, order):
    """To hold out a share, as the command line does, nothing is copied; order and changes are those of a copy."""
    (X, y), rows = samples(), np.random.RandomState(1).permutation(90)
    X, (chosen, held) = np.asarray(X, order=order), np.split(rows, [60])
    results = []
    for take in (lambda places: X[places], lambda places: feed.Rows(X, places)):
        one = trainer()
        one.fit(take(chosen), y[chosen], epochs=2, batch_size=16, augmentation=change, X_val=take(held), y_val=y[held],
                verbose=0)  # fmt: skip
        results.append((weights(one), one.history["val_loss"], one.evaluate(take(held), y[held])))
    assert results[0] == results[1]


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
        ({"callbacks": EarlyStopping()}, TypeError, "fit: callbacks: expected a list of Callback objects; got EarlyS"),
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


def test_a_last_batch_that_is_not_full_is_left_out():
    feed = ArrayFeed(np.arange(22.0).reshape(11, 2), np.arange(11), None, 4, seed=3, drop_last=True)
    whole = ArrayFeed(np.arange(22.0).reshape(11, 2), np.arange(11), None, 4, seed=3)
    assert feed.steps == 2
    for epoch in range(2):
        kept, all_of_them = ([batch.y.tolist() for batch in one.batches(epoch)] for one in (feed, whole))
        assert kept == all_of_them[:2]
    assert [batch.y.tolist() for batch in feed.batches(1, 1)] == [all_of_them[1]]
    assert sorted({sum(map(sum, [batch.y.tolist() for batch in feed.batches(epoch)])) for epoch in range(9)})[0] < 55
