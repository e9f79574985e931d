"""Segmentation from end to end: a U-Net that learns shapes, what its numbers are means of, files, ranks, refusals."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import fastcnn
from fastcnn import (
    Adam,
    Augmentation,
    Callback,
    Conv2D,
    CrossEntropy,
    MeanSquaredError,
    Sequential,
    Trainer,
    models,
)
from fastcnn.data.label_maps import moved
from fastcnn.labels import checked_labels
from fastcnn.training import checkpoint
from tests.ranks import on_ranks

NOTHING = 255
KINDS = 3  # background, discs, squares


def shapes(n: int, size: int = 24, seed: int = 0):
    """Return grey images (n, 1, size, size) with a disc and a square each, and what each pixel shows."""
    rng, (i, j) = np.random.RandomState(seed), np.mgrid[:size, :size]
    x, y = rng.uniform(0, 0.3, (n, 1, size, size)).astype(np.float32), np.zeros((n, size, size), np.uint8)
    for image, mask in zip(x, y, strict=True):
        for kind in (1, 2):
            (a, b), r = rng.randint(6, size - 6, 2), rng.randint(4, 6)
            inside = (i - a) ** 2 + (j - b) ** 2 < r * r if kind == 1 else np.maximum(abs(i - a), abs(j - b)) < r
            image[0, inside] += 0.4 * kind
            mask[inside] = kind
    return x, y


def network(seed: int = 1, **options):
    return models.unet((1, 24, 24), KINDS, 8, 2, **options).build((1, 24, 24), random_state=seed)


def trainer(communicator=None, loss=None, **options):
    loss = CrossEntropy(0.1, [0.5, 1, 2], NOTHING) if loss is None else loss
    return Trainer(network(**options), loss, Adam(0.01), random_state=2, communicator=communicator, threads=2)


def sparse(y, share: float = 0.5):
    """Return labels of which some are not known; none of the first image."""
    y = np.where(np.random.RandomState(3).uniform(size=y.shape) < share, NOTHING, y).astype(y.dtype)
    y[0] = NOTHING
    return y


@pytest.fixture
def many_shards(monkeypatch):
    monkeypatch.setattr("fastcnn.training.step.SHARD_WORK", 1.0)


@pytest.mark.parametrize("upsampling", ["transposed", "bilinear", "nearest"])
def test_a_unet_learns_shapes_from_some_labels(upsampling):
    """Half of the pixels are labelled; all pixels of other images are found."""
    (X, y), (X_test, y_test) = shapes(96), shapes(32, seed=1)
    one = Trainer(network(upsampling=upsampling), CrossEntropy(ignore_index=NOTHING), Adam(0.01), random_state=0)
    one.fit(X, sparse(y), epochs=6, batch_size=8, verbose=0)
    found = one.model.predict(X_test).argmax(axis=1)
    for kind in range(KINDS):
        both, either = (found == kind) & (y_test == kind), (found == kind) | (y_test == kind)
        assert both.sum() / either.sum() > 0.8
    measured = one.evaluate(X_test, y_test, batch_size=7)
    assert measured.accuracy == pytest.approx((found == y_test).mean(), rel=1e-12)
    assert measured.accuracy > 0.5 + 0.5 * (y_test == 0).mean()


@pytest.mark.usefixtures("many_shards")
def test_epochs_and_evaluations_are_means_over_the_pixels_that_count():
    """Batches and shards have other numbers of such pixels each."""
    X, y = shapes(20)
    y[:7], y[13] = sparse(y[:7], 0.9), NOTHING
    one = trainer(loss=CrossEntropy(ignore_index=NOTHING))
    one.model.eval()
    z, counts = one.model.predict(X).astype(np.float64), y != NOTHING
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    losses = -np.take_along_axis(log_p, np.where(counts, y, 0)[:, None].astype(int), axis=1)[:, 0]
    right = z.argmax(axis=1) == y
    for batch_size in (20, 6, 1):
        loss, accuracy = one.evaluate(X, y, batch_size=batch_size)
        assert loss == pytest.approx(losses[counts].mean(), rel=1e-6)
        assert accuracy == pytest.approx(right[counts].mean(), rel=1e-12)
    seen = []

    class Watch(Callback):
        def batch(self, run):
            seen.append((run.loss, run.accuracy, one._weight))

    history = one.fit(X, y, epochs=1, batch_size=3, callbacks=[Watch()], verbose=0)
    means, shares, weights = np.array(seen).T
    assert weights.sum() == counts.sum()
    assert history["loss"][0] == pytest.approx((means * weights).sum() / weights.sum(), rel=1e-12)
    shares = np.where(weights > 0, shares, 0)
    assert history["accuracy"][0] == pytest.approx((shares * weights).sum() / weights.sum(), rel=1e-12)


@pytest.mark.parametrize("labels", ["pixels", "images"])
def test_a_batch_without_labels_changes_nothing_by_its_loss(labels):
    X, y = shapes(4)
    layers = [Conv2D(KINDS, 3, padding=1)] if labels == "pixels" else [fastcnn.Flatten(), fastcnn.Dense(KINDS)]
    y = y if labels == "pixels" else np.arange(4) % KINDS
    model = Sequential(layers).build((1, 24, 24), random_state=0)
    one = Trainer(model, CrossEntropy(0.1, ignore_index=NOTHING), fastcnn.SGD(0.1))
    for _ in range(3):
        before = model.digest()
        assert one.step(X, np.full_like(y, NOTHING)) == 0
        assert np.isnan(one.accuracy)
        assert model.digest() == before
        assert one.step(X, y) > 0
        assert model.digest() != before
    history = one.fit(X, np.where(np.arange(4).reshape(-1, *[1] * (y.ndim - 1)) < 2, NOTHING, y), epochs=2,
                      batch_size=1, verbose=0)  # fmt: skip
    assert np.isfinite(history["loss"]).all()
    assert np.isfinite(history["accuracy"]).all()
    with pytest.raises(ValueError, match="fit: y: expected targets of which some count; got none that is not ignored"):
        one.fit(X, np.full_like(y, NOTHING), epochs=1, batch_size=2, verbose=0)
    with pytest.raises(ValueError, match="evaluate: y: expected targets of which some count"):
        one.evaluate(X, np.full_like(y, NOTHING))


def test_uint8_images_and_every_kind_of_label():
    X, y = shapes(4)
    X = (255 * X / X.max()).astype(np.uint8)
    found = []
    for dtype in (np.uint8, np.int8, np.int64, np.uint64, ">i4"):
        one = trainer(loss=CrossEntropy())
        found.append([one.step(X, y.astype(dtype)), one.step(X, y.astype(dtype)[..., ::-1]), one.model.digest()])
    assert all(each == found[0] for each in found)


class Meddler:
    """An ignored label that overwrites the labels when it is compared with them."""

    __array_ufunc__ = None
    __hash__ = None

    def __init__(self, y):
        self.y = y

    def __eq__(self, other):
        self.y[...] = 7
        return np.zeros(other.shape, bool)


def test_labels_are_copied_before_anything_is_asked_of_them():
    y = np.arange(6, dtype=np.int32).reshape(1, 2, 3) % KINDS
    before = y.copy()
    np.testing.assert_array_equal(checked_labels(y, KINDS, Meddler(y), "y"), before)
    assert (y == 7).all()


def test_labels_are_copied_before_they_are_checked():
    """Another thread may overwrite them: what is used was in range."""
    X, y = shapes(2)
    one = trainer()
    one.step(X, y)
    targets = one.loss.targets(one._program.end, y, 2)
    assert not any(np.shares_memory(array, y) for array in targets.arrays)
    labels, running = np.zeros((2, 24, 24), np.int32), True

    def disturb():
        while running:
            labels[...] = 7_000_000
            labels[...] = 1

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        for _ in range(50):
            try:
                assert np.isfinite(one.step(X, labels))
            except ValueError as error:
                assert "expected classes from 0 to 2" in str(error)  # noqa: PT017 - it may be raised or not
    finally:
        running = False
        thread.join()


@pytest.mark.usefixtures("many_shards")
def test_the_same_bits_for_any_number_of_threads_and_ranks():
    X, y = shapes(9)
    y = sparse(y)

    def train(communicator=None, threads=2):
        one = trainer(communicator)
        one.threads = threads
        losses = [one.step(X[:n], y[:n]) for n in (9, 9, 9, 5, 1)]
        history = one.fit(X, y, epochs=1, batch_size=4, verbose=0)
        return str([losses, history["loss"], history["accuracy"], one.evaluate(X, y), one.model.digest()])

    expected = train()
    assert train(threads=1) == expected
    assert on_ranks(3, train) == [expected] * 3


class _StopError(Exception):
    pass


def test_a_fit_goes_on_within_an_epoch(tmp_path):
    X, y = shapes(12)
    y, path = sparse(y), tmp_path / "run.safetensors"
    one = trainer()
    history = one.fit(X, y, epochs=2, batch_size=3, verbose=0)

    class Stop(Callback):
        def batch(self, run):
            if run.step == 6:
                raise _StopError

    with pytest.raises(_StopError):
        trainer().fit(X, y, epochs=2, batch_size=3, callbacks=[Stop()], verbose=0, checkpoint=path,
                      checkpoint_every="0.0000001 s")  # fmt: skip
    other = trainer()
    resumed = other.fit(X, y, epochs=2, batch_size=3, verbose=0, checkpoint=path)
    assert other.model.digest() == one.model.digest()
    assert (resumed["loss"], resumed["accuracy"]) == (history["loss"], history["accuracy"])
    fastcnn.save(other, path)
    loaded = fastcnn.load(path)
    assert (loaded.loss.ignore_index, loaded.loss.label_smoothing) == (NOTHING, 0.1)
    assert loaded.step(X, y) == other.step(X, y)


def test_checkpoints_of_before_there_were_pixels(tmp_path, monkeypatch):
    """Within an epoch they say how many images there were, which is how many predictions."""
    X, y = np.random.RandomState(0).uniform(size=(30, 1, 6, 6)), np.arange(30) % KINDS

    def make():
        model = Sequential([fastcnn.Flatten(), fastcnn.Dense(KINDS)]).build((1, 6, 6), random_state=0)
        return Trainer(model, random_state=0)

    class Stop(Callback):
        def batch(self, run):
            if run.step == 4:
                raise _StopError

    history = make().fit(X, y, epochs=1, batch_size=5, verbose=0)
    with monkeypatch.context() as patch:
        whole = checkpoint.astuple
        patch.setattr(checkpoint, "astuple", lambda tally: whole(tally)[:-1])
        with pytest.raises(_StopError):
            make().fit(X, y, epochs=1, batch_size=5, callbacks=[Stop()], verbose=0, checkpoint=tmp_path / "run",
                       checkpoint_every="0.0000001 s")  # fmt: skip
    resumed = make().fit(X, y, epochs=1, batch_size=5, verbose=0, checkpoint=tmp_path / "run")
    assert resumed["accuracy"] == history["accuracy"]


def test_maps_as_targets_of_regression():
    """A convolution learns to make negatives."""
    X, _ = shapes(8)
    model = Sequential([Conv2D(1, 1)]).build((1, 24, 24), random_state=0)
    one = Trainer(model, MeanSquaredError(), Adam(0.1), random_state=0)
    history = one.fit(X, 1 - X, epochs=40, batch_size=4, verbose=0)
    assert history["loss"][-1] < 0.001 < history["loss"][0]
    np.testing.assert_allclose(model.layers[0].filters, -1, atol=0.1)


@pytest.mark.parametrize(("call", "words"), [
    (lambda X, y: trainer().fit(X, y, epochs=1, batch_size=2, augmentation=Augmentation(rotation=9)),
     r"fit: y: expected no maps with an augmentation that displaces pixels.*shape \(4, 24, 24\).*rotation=9"),
    (lambda X, y: trainer().fit([(X, y)], epochs=1, augmentation=Augmentation(scale=0.1)),
     "fit: X: batch 1: expected no maps with an augmentation"),
    (lambda X, y: trainer().fit([(X, y)], epochs=1, augmentation=Augmentation(crop=0.5)),
     r"fit: X: batch 1: expected no maps with an augmentation.*crop="),
    (lambda X, y: trainer().fit(X, y, epochs=1, batch_size=2, augmentation=Augmentation(cutmix=0.5)),
     "fit: (augmentation: cutmix makes|y: expected no maps)"),
    (lambda X, y: trainer(loss=MeanSquaredError()).fit(X, y[:, None] + np.zeros((1, KINDS, 1, 1)), epochs=1,
     batch_size=2, augmentation=Augmentation(horizontal_flip=True)), "fit: y: expected no maps with .*float64"),
    (lambda X, y: trainer(loss=CrossEntropy()).fit(X, y, epochs=1, batch_size=2, augmentation=Augmentation(shift=1)),
     "fit: y: expected a loss with ignore_index, the label of what a shift brings in, or padding='edge'"),
    (lambda X, y: trainer().fit(X, y, epochs=1, batch_size=2, augmentation=Augmentation(mixup=0.1)),
     r"fit: augmentation: mixup makes probabilities of classes.*ignore_index=255"),
    (lambda X, y: trainer(loss=CrossEntropy()).fit(X, y, epochs=1, batch_size=2, augmentation=Augmentation(mixup=0.1)),
     r"fit: augmentation: mixup makes .*shape \(4, 24, 24\), ignore_index=None"),
    (lambda X, y: trainer().fit(X, y + 1, epochs=1, batch_size=2),
     "fit: y: expected classes from 0 to 2, or ignore_index = 255; got 3 and"),
    (lambda X, y: trainer().fit(X, y, epochs=1, batch_size=2, X_val=X, y_val=y + 1), "fit: y_val: expected classes"),
    (lambda X, y: trainer().fit(X, y[:, 0, 0], epochs=1, batch_size=2), r"cross_entropy: y: .*got shape \(2,\)"),
    (lambda X, y: models.unet((1, 24, 20)), "unet: input_shape: .* multiples of 8 = 2.depth; got"),
    (lambda X, y: models.unet((24,)), "unet: input_shape: .* multiples of 8"),
    (lambda X, y: models.unet(upsampling="cubic"), "unet: upsampling: expected .*; got 'cubic'"),
    (lambda X, y: fastcnn.CNNClassifier("unet").fit(X, y[:, 0, 0]), "layers"),
])  # fmt: skip
def test_what_does_not_fit_is_an_error(call, words):
    with pytest.raises(ValueError, match=words):
        call(*shapes(4))


@pytest.mark.parametrize("padding", ["constant", "edge", "reflect"])
@pytest.mark.parametrize("size", [(5, 4), (1, 3)])
def test_labels_go_where_their_pixels_go(padding, size):
    """As images of one channel they are changed by the kernel; nothing else changes them."""
    rng, n = np.random.RandomState(0), 40
    y = rng.randint(KINDS, size=(n, *size)).astype(np.uint8)
    change = Augmentation(horizontal_flip=True, vertical_flip=True, shift=7, padding=padding, fill=300)
    expected = change(y[:, None].astype(np.float64), seed=3, epoch=5)[:, 0]
    moves = change._draw(np.arange(n), (3, 5), (n, 1, *size)).moves
    np.testing.assert_array_equal(moved(change, y, moves, 300), expected)
    assert (expected == 300).any() == (padding == "constant")


@pytest.mark.parametrize("batches", [False, True])
def test_a_fit_takes_labels_along(monkeypatch, batches):
    """The images are their own labels: whatever augmentation does, that stays so."""
    y = np.random.RandomState(0).randint(KINDS, size=(12, 24, 24))
    one = trainer(loss=CrossEntropy(ignore_index=7))
    seen, step = [], one._step
    monkeypatch.setattr(one, "_step", lambda x, y, weight: (seen.append((x.copy(), y)), step(x, y, weight))[1])
    change = Augmentation(horizontal_flip=True, vertical_flip=True, shift=3, fill=7)
    X = y[:, None].astype(np.float32)
    given = {"X": [(X[:5], y[:5]), (X[5:], y[5:])]} if batches else {"X": X, "y": y, "batch_size": 5}
    one.fit(**given, epochs=2, augmentation=change, verbose=0)
    assert len(seen) == (4 if batches else 6)
    for images, labels in seen:
        np.testing.assert_array_equal(images[:, 0], labels)
    assert any((labels == 7).any() for _, labels in seen)


def test_light_and_cutout_leave_maps_where_they_are():
    X, y = shapes(4)
    one = trainer()
    one.fit(X, y, epochs=1, batch_size=2, augmentation=Augmentation(contrast=0.1, brightness=0.1, cutout=3), verbose=0)
    assert one.steps == 2


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1)])
def test_images_of_few_pixels(size):
    x = np.random.RandomState(0).standard_normal((3, 2, *size))
    y = np.random.RandomState(1).randint(KINDS, size=(3, 3 * size[0], 3 * size[1]))
    layers = [fastcnn.UpSample2D(3, "bilinear"), Conv2D(KINDS, 3, padding=1)]
    model = Sequential(layers).build((2, *size), random_state=0, dtype=np.float64)
    twin = model.copy()
    value, loss = CrossEntropy()(twin.forward(x), y), CrossEntropy()
    twin.backward(loss.gradient(twin.forward(x), y))
    assert Trainer(model, loss, fastcnn.SGD(0.1)).step(x, y) == pytest.approx(value, rel=1e-12)
    fastcnn.SGD(0.1).step(twin)
    for name, parameter in twin.parameters.items():
        np.testing.assert_allclose(model.parameters[name], parameter, rtol=1e-10, atol=1e-13)
