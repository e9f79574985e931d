"""Batch size and resolution by epochs; models that take another size with their weights; images at another size."""

from __future__ import annotations

import io

import numpy as np
import pytest

import fastcnn
import reference
from fastcnn import (
    SGD,
    Augmentation,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    ExponentialMovingAverage,
    Flatten,
    GlobalAvgPool2D,
    Layer,
    MaxPool2D,
    Parameter,
    ReLU,
    Residual,
    Sequential,
    Trainer,
)
from fastcnn.data.resizing import resized
from fastcnn.training.callbacks import Callback
from tests.arrays import normal

X, y = np.random.RandomState(0).randint(0, 256, (50, 3, 12, 12)).astype(np.uint8), np.arange(50) % 4


def network() -> Sequential:
    inside = [Conv2D(8, 3, padding=1), BatchNorm(), ReLU()]
    return Sequential([Conv2D(8, 3), Residual(inside), MaxPool2D(2), Dropout(0.1), GlobalAvgPool2D(), Dense(4)])


def trainer(**options) -> Trainer:
    average = ExponentialMovingAverage(0.9, statistics=True)
    return Trainer(network(), optimizer=SGD(0.05, 0.9), random_state=0, schedule="cosine", ema=average, **options)


class Seen(Callback):
    """Notes the size of each batch."""

    def __init__(self) -> None:
        self.images, self.sizes, self.shapes = 0, [], []

    def batch(self, run) -> None:
        self.sizes.append(run.images - self.images)
        self.images = run.images
        self.shapes.append(run.trainer.model.input_shape)


# ------------------------------------------------------------------------------------------------------------- batches


def test_batches_grow():
    seen = Seen()
    history = trainer().fit(X, y, epochs=3, batch_size={0: 20, 2: 40}, callbacks=[seen], verbose=0)
    assert seen.sizes == [20, 20, 10, 20, 20, 10, 40, 10]
    assert history[-1].learning_rate < 0.01  # the schedule by its name counts the steps of all epochs
    seen = Seen()
    trainer().fit(X, y, epochs=2, batch_size={1: 50, 0: 30}, drop_last=True, callbacks=[seen], verbose=0)
    assert seen.sizes == [30, 50]


def test_an_epoch_has_the_batches_of_its_size():
    """The bits of two fits, each of one size."""
    one, other = trainer(), trainer()
    one.schedule = other.schedule = None
    one.fit(X, y, epochs=3, batch_size={0: 16, 1: 32}, augmentation=Augmentation(True, shift=1), verbose=0)
    for epochs, size in ((1, 16), (2, 32)):
        other.fit(X, y, epochs=epochs, batch_size=size, augmentation=Augmentation(True, shift=1), verbose=0)
    assert one.model.digest() == other.model.digest()


# ---------------------------------------------------------------------------------------------------------- resolutions


def test_images_and_model_change_their_size_together():
    seen, one = Seen(), trainer()
    one.fit(X, y, epochs=3, batch_size=25, resolution={0: 8, 1: (10, 8), 2: 12}, callbacks=[seen], X_val=X, y_val=y,
            verbose=0)  # fmt: skip
    assert seen.shapes == [(3, 8, 8)] * 2 + [(3, 10, 8)] * 2 + [(3, 12, 12)] * 2
    assert one.evaluate(X, y) == (one.history[-1].val_loss, one.history[-1].val_accuracy)


def test_an_epoch_at_a_resolution_is_one_on_resized_images():
    """Weights, momentum and averages go on when the size changes."""
    one, other = trainer(), trainer()
    one.schedule = other.schedule = None
    one.fit(X, y, epochs=2, batch_size=20, resolution={0: 8, 1: 12}, verbose=0)
    other.model.build((3, 12, 12), random_state=0).resize((3, 8, 8))
    other.fit(resized(X, (8, 8)), y, epochs=1, batch_size=20, verbose=0)
    other.model.resize((3, 12, 12))
    other.fit(X, y, epochs=1, batch_size=20, verbose=0)
    assert one.model.digest() == other.model.digest()
    for name, array in one.ema.averages.items():
        np.testing.assert_array_equal(array, other.ema.averages[name])


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("stop", [2, 4, 7])
def test_the_same_call_goes_on(tmp_path, stop, threads):
    """Stopped within an epoch and between two, of either size; on any number of threads."""
    options = {"epochs": 3, "batch_size": {0: 20, 2: 13}, "resolution": {0: 8, 1: 10, 2: 12}, "verbose": 0,
               "augmentation": Augmentation(True, cutmix=1.0)}  # fmt: skip
    whole = trainer(threads=1)
    whole.fit(X, y, **options)

    class Stops(Callback):
        def batch(self, run) -> None:
            if run.step == stop:
                raise RuntimeError("stopped")

    torn = trainer(threads=threads)
    with pytest.raises(RuntimeError, match="stopped"):
        torn.fit(X, y, **options, checkpoint=tmp_path / "run", checkpoint_every="0.000001 s", callbacks=[Stops()])
    other = trainer(threads=threads)
    other.fit(X, y, **options, checkpoint=tmp_path / "run", checkpoint_every="0.000001 s", callbacks=[])
    assert other.model.digest() == whole.model.digest()
    with pytest.raises(ValueError, match=r"another resolution: .*; give what it had, or another path"):
        trainer().fit(X, y, **{**options, "resolution": {0: 8, 1: 12}}, checkpoint=tmp_path / "run")
    with pytest.raises(ValueError, match=r"another batch_size: .*; give what it had, or another path"):
        trainer().fit(X, y, **{**options, "batch_size": {0: 20, 2: 16}}, checkpoint=tmp_path / "run")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"batch_size": {1: 5}}, ValueError, r"fit: batch_size: expected a value from epoch 0 on; got epochs \[1\]"),
        ({"batch_size": {0: 5, -1: 6}}, ValueError, "fit: batch_size: expected epochs, .*; got -1"),
        ({"batch_size": {0: 5, 2: 0}}, ValueError, r"fit: batch_size\[2\]: expected .*; got 0"),
        ({"batch_size": {0: 5, 2: 60}, "drop_last": True}, ValueError, "drop_last: expected at least a batch of 60"),
        ({"resolution": {0: (8, 8, 8)}}, ValueError, r"fit: resolution\[0\]: expected an int, or height and width"),
        ({"resolution": {0: 8, 3: 2}}, ValueError, r"fit: resolution: Sequential: resize: .* got \(3, 2, 2\): layer 0"),
    ],
)
def test_nonsense_is_refused_before_the_first_step(options, error, words):
    one = trainer()
    with pytest.raises(error, match=words):
        one.fit(X, y, **{"epochs": 4, "batch_size": 25, "verbose": 0, **options})
    assert one.steps == 0


def test_a_resolution_wants_arrays_of_images_and_one_row_of_outputs():
    batches = [(X, y)]
    with pytest.raises(ValueError, match="fit: resolution: expected None with batches"):
        trainer().fit(batches, epochs=1, resolution=8)
    with pytest.raises(ValueError, match="fit: X_val: expected arrays X_val and y_val with a resolution; got batches"):
        trainer().fit(X, y, epochs=1, batch_size=25, X_val=batches, resolution=8)
    maps = Trainer(Sequential([Conv2D(3, 1)]), "mean_squared_error")
    with pytest.raises(ValueError, match="fit: resolution: expected a model with one row of outputs an image"):
        maps.fit(X, np.zeros(X.shape), epochs=1, batch_size=25, resolution=8)


# --------------------------------------------------------------------------------------------------------------- models


def test_a_resized_model_is_one_that_was_built_so():
    model = network().build((3, 12, 12), random_state=1)
    model.predict(X[:2])
    model.forward(normal(2, 3, 12, 12).astype(np.float32))
    twin = network().build((3, 9, 15), random_state=2)
    twin.set_weights(model.get_weights())
    x, before = normal(5, 3, 9, 15).astype(np.float32), model.digest()
    assert model.resize((3, 9, 15)) is model
    np.testing.assert_array_equal(model.predict(x), twin.predict(x))
    assert model.digest() == before
    assert model.outputs(x, -1)[-1].shape == (5, 4)
    file = io.BytesIO()
    fastcnn.save(model, file)
    again = fastcnn.load(io.BytesIO(file.getvalue()))
    assert again.input_shape == (3, 9, 15)
    np.testing.assert_array_equal(again.predict(x), twin.predict(x))
    model.training = twin.training = False
    np.testing.assert_array_equal(model.forward(x), twin.forward(x))
    with pytest.raises(ValueError, match=r"expected samples of shape \(3, 9, 15\); got \(3, 12, 12\)"):
        model.predict(X)


class Slopes(Layer):
    """A layer of one's own, with a number for each pixel."""

    def _parameters(self, input_shape):
        return {"slope": Parameter(input_shape)}

    def _forward(self, x):
        return x * self.parameters["slope"]


@pytest.mark.parametrize(
    ("layers", "target", "words"),
    [
        (
            [Conv2D(2, 3), Flatten(), Dense(3)],
            (3, 9, 9),
            r"layer 2: Dense: weights .* \(72, 3\), .*\(98, 3\)",
        ),
        (
            [Residual([Conv2D(3, 3, padding=1), Slopes()])],
            (3, 9, 9),
            "layer 0: Residual: .*1: Slopes: slope have",
        ),
        ([Conv2D(2, 6), Conv2D(2, 3)], (3, 7, 7), "layer 1: Conv2D: "),
        ([GlobalAvgPool2D(), Dense(2)], (4, 8, 8), r"layer 1: Dense: weights have the shape \(3, 2\)"),
    ],
)
def test_weights_that_depend_on_the_size_are_named(layers, target, words):
    model = Sequential(layers).build((3, 8, 8), random_state=0)
    before = model.digest()
    with pytest.raises(ValueError, match=f"Sequential: resize: expected a shape that .*{words}"):
        model.resize(target)
    assert model.input_shape == (3, 8, 8)
    assert model.digest() == before


def test_only_a_built_model_of_its_own_is_resized():
    with pytest.raises(RuntimeError, match="resize"):
        network().resize((3, 8, 8))
    inner = Sequential([Conv2D(3, 3, padding=1)])
    Sequential([inner, GlobalAvgPool2D()]).build((3, 8, 8), random_state=0)
    with pytest.raises(RuntimeError, match="Sequential: resize: it is a part of a model"):
        inner.resize((3, 9, 9))


# --------------------------------------------------------------------------------------------------------------- images


@pytest.mark.parametrize("size", [(12, 12), (6, 6), (5, 9), (1, 1), (20, 7), (24, 24)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_resized_images_are_their_twins(size, dtype):
    x = X[:3] if dtype == np.uint8 else (X[:3] / 255).astype(dtype)
    actual = resized(x, size)
    if size == (12, 12):
        assert actual is x
        return
    expected = np.array(
        [reference.augmentation.resized(image / (255 if dtype == np.uint8 else 1), *size) for image in x]
    )
    np.testing.assert_allclose(actual, expected, atol=1e-12 if dtype == np.float64 else 1e-6)
    assert actual.dtype == (np.float64 if dtype == np.float64 else np.float32)


def test_pytorch_resizes_alike():
    torch = pytest.importorskip("torch")
    x = X[:4] / 255
    for size in ((7, 5), (6, 6), (17, 30)):
        theirs = torch.nn.functional.interpolate(torch.tensor(x), size, mode="bilinear", antialias=True)
        np.testing.assert_allclose(resized(x, size), theirs.numpy(), atol=1e-12)
