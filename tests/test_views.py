"""Several views of an image for prediction: in a model, in estimators, on the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest

import fastcnn
from fastcnn import CNNClassifier, CNNRegressor, Conv2D, Dense, Flatten, ReLU, Sequential
from fastcnn.cli import main
from tests.arrays import normal


def network(dtype=np.float64) -> Sequential:
    return Sequential([Conv2D(4, 3), ReLU(), Flatten(), Dense(3)]).build((2, 7, 6), random_state=0, dtype=dtype)


def shifted(x: np.ndarray, pixels: int) -> np.ndarray:
    """Return images that have moved down and to the right, the border's mirror image behind them."""
    size = abs(pixels)
    padded = np.pad(x, ((0, 0), (0, 0), (size, size), (size, size)), mode="reflect")
    return padded[:, :, size - pixels : size - pixels + x.shape[2], size - pixels : size - pixels + x.shape[3]]


def mirrored(x: np.ndarray) -> np.ndarray:
    return x[:, :, :, ::-1]


BY_HAND = {
    "flip": lambda p, x: (p(x) + p(mirrored(x))) / 2,
    "vertical-flip": lambda p, x: (p(x) + p(x[:, :, ::-1])) / 2,
    "shift=2": lambda p, x: p(x) / 2 + p(shifted(x, -2)) / 4 + p(shifted(x, 2)) / 4,
    "flip,shift=1": lambda p, x: BY_HAND["flip"](
        lambda z: p(z) / 2, x
    ) + sum(BY_HAND["flip"](lambda z: p(z) / 4, shifted(x, k)) for k in (-1, 1)),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8, np.int64])
@pytest.mark.parametrize("views", BY_HAND)
def test_views_are_those_of_plain_numpy(views, dtype):
    model, x = network(), (normal(9, 2, 7, 6) * 40 + 100).clip(0, 255).astype(dtype)
    expected = BY_HAND[views](model.predict, np.ascontiguousarray(x))
    np.testing.assert_allclose(model.predict(x, views=views), expected, rtol=1e-10)
    for threads in (1, 3):
        assert np.array_equal(model.predict(x, 4, threads, views=views), model.predict(x, views=views))


def test_crops_are_the_middle_and_the_corners_of_larger_images():
    model, x = network(), normal(5, 2, 10, 9)
    places = [(1, 1), (0, 0), (0, 3), (3, 0), (3, 3)]
    expected = sum(model.predict(np.ascontiguousarray(x[:, :, r : r + 7, c : c + 6])) for r, c in places) / 5
    np.testing.assert_allclose(model.predict(x, views="crop"), expected, rtol=1e-10)
    assert model.predict(x, views="crop, flip").shape == (5, 3)
    with pytest.raises(ValueError, match="views: expected images of at least 7 x 6 pixels for crops; got 7 x 5"):
        model.predict(x[:, :, :7, :5], views="crop")


def test_many_images_go_through_little_memory(monkeypatch):
    monkeypatch.setattr("fastcnn.data.viewing.CHUNK", 4)
    model, x = network(), normal(9, 2, 7, 6)
    few = np.concatenate([model.predict(x[k : k + 1], views="flip,shift=1") for k in range(9)])
    np.testing.assert_allclose(model.predict(x, views="flip,shift=1"), few, rtol=1e-12)


@pytest.mark.parametrize(("views", "error", "message"), [
    ("mirror", ValueError, "Sequential: views: expected words of flip, vertical-flip, shift=PIXELS, crop, each once"),
    ("flip,flip", ValueError, "each once; got 'flip'"), ("shift", ValueError, "got 'shift'"),
    ("shift=0", ValueError, "got 'shift=0'"), ("flip=2", ValueError, "got 'flip=2'"), ("", ValueError, "got ''"),
    ("shift=6", ValueError, "views: expected a shift below 6 pixels; got 6"),
    (True, TypeError, "views: expected a text of .*; got True"),
])  # fmt: skip
def test_errors(views, error, message):
    with pytest.raises(error, match=message):
        network().predict(normal(2, 2, 7, 6), views=views)
    with pytest.raises(ValueError, match="views: expected images"):
        Sequential([Dense(2)]).build((4,)).predict(normal(2, 4), views="flip")


@pytest.mark.filterwarnings("ignore:Maximum iterations")  # two epochs
def test_estimators_predict_by_views():
    X, y = np.random.default_rng(0).random((40, 1, 8, 8)), np.arange(40) % 3
    classifier = CNNClassifier([Conv2D(4, 3), ReLU()], max_iter=2, random_state=0).fit(X, y)
    z = [classifier.decision_function(one) for one in (X, np.ascontiguousarray(mirrored(X)))]
    mean = (z[0] + z[1]) / 2
    np.testing.assert_allclose(classifier.decision_function(X, views="flip"), mean, rtol=1e-4, atol=1e-5)
    assert np.array_equal(classifier.predict(X, views="flip"), mean.argmax(axis=1))
    probabilities = np.exp(mean) / np.exp(mean).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(classifier.predict_proba(X, views="flip"), probabilities, rtol=1e-4, atol=1e-6)
    regressor = CNNRegressor([Conv2D(4, 3), ReLU()], max_iter=2, random_state=0).fit(X, y)
    mean = (regressor.predict(X) + regressor.predict(np.ascontiguousarray(mirrored(X)))) / 2
    np.testing.assert_allclose(regressor.predict(X, views="flip"), mean, rtol=1e-4, atol=1e-5)


def test_the_command_line_predicts_and_evaluates_by_views(tmp_path, capsys):
    X, y = np.random.default_rng(0).random((12, 1, 8, 8)).astype(np.float32), np.arange(12) % 3
    np.savez(tmp_path / "data.npz", x=X, y=y)
    model = Sequential([Conv2D(4, 3), ReLU(), Flatten(), Dense(3)]).build((1, 8, 8), random_state=0)
    fastcnn.save(model, tmp_path / "model.fastcnn")
    paths = str(tmp_path / "model.fastcnn"), str(tmp_path / "data.npz")
    assert main(["evaluate", *paths, "--views", "flip,shift=1", "--json"]) == 0
    right = (model.predict(X, views="flip,shift=1").argmax(axis=1) == y).mean()
    assert json.loads(capsys.readouterr().out)["accuracy"] == pytest.approx(right)
    assert main(["predict", *paths, "--views", "flip", "--json", "--top", "3"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    z = model.predict(X, views="flip")
    assert [line["classes"][0]["class"] for line in lines] == [str(k) for k in z.argmax(axis=1)]
    assert main(["evaluate", *paths, "--views", "sideways"]) != 0
    assert "views: expected words of" in capsys.readouterr().err
