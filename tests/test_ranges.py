"""A warning of samples on another scale than that of the training, and none of any that are on the same."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning

import fastcnn
from fastcnn import CNNClassifier
from fastcnn.ranges import Range, range_of, read_range, warning_of

DIGITS = load_digits().images[:, None]
BYTES = np.round(DIGITS * 255 / 16).astype(np.uint8)


def said(trained, x, missing=None):
    return warning_of(range_of([trained], missing), x, missing)


SCALES = {
    "bytes": BYTES, "bytes in float": BYTES.astype(float), "0 to 1": BYTES / 255, "-1 to 1": BYTES / 127.5 - 1,
    "standard": (BYTES - BYTES.mean()) / BYTES.std(), "0 to 16": DIGITS, "float32": (BYTES / 255).astype(np.float32),
}  # fmt: skip
SAME = [{"bytes", "bytes in float"}, {"0 to 1", "float32"}]


@pytest.mark.parametrize("trained", ["bytes", "bytes in float", "0 to 1", "float32"])
@pytest.mark.parametrize("given", SCALES)
def test_other_scales_of_the_same_images(trained, given):
    words = said(SCALES[trained][:900], SCALES[given][900:])
    if {trained, given} in SAME or trained == given:
        assert words is None
    elif given in ("bytes", "bytes in float") or (given in ("0 to 1", "float32") and trained.startswith("bytes")):
        low, high = SCALES[given][900:].min(), SCALES[given][900:].max()
        expected = f"numbers from {low:g} to {high:g}, of which those that it was trained on, from "
        assert words.startswith(expected)
        assert f"{SCALES[trained][:900].max():g}, are far" in words


def corruptions(x):
    """Yield images of any range as cameras and other benchmarks spoil them."""
    rng = np.random.default_rng(0)
    low, high = float(x.min()), float(x.max())
    yield "noise", x + rng.normal(scale=0.5 * (high - low), size=x.shape)
    yield "noise alone", rng.uniform(low, high, x.shape)
    yield "normal noise alone", rng.normal(high, 2 * (high - low), x.shape)
    yield "inverted", high + low - x
    yield "brighter", np.clip(x * 1.6, low, high)
    yield "twice", x * 2.0
    yield "dark", x * 0.02
    yield "black", np.full(x.shape, low)
    yield "white", np.full(x.shape, high)
    yield "broken pixels", np.where(rng.random(x.shape) < 0.003, 1e6, x)
    yield "blurred", (x + np.roll(x, 1, -1) + np.roll(x, 1, -2)) / 3
    yield "one", x[:1]


@pytest.mark.parametrize("scale", ["bytes", "0 to 1", "-1 to 1", "standard", "0 to 16"])
def test_spoilt_images_are_no_other_scale(scale):
    x = SCALES[scale].astype(float)
    assert {name: said(x[:900], y) for name, y in corruptions(x[900:])} == dict.fromkeys(dict(corruptions(x[900:])))


@pytest.mark.parametrize("load", [load_iris, load_wine, load_breast_cancer, load_diabetes, load_digits])
def test_rows_of_the_same_table_are_no_other_scale(load):
    X = load(return_X_y=True)[0]
    order = np.random.default_rng(0).permutation(len(X))
    for part in np.array_split(order, 10):
        assert said(np.delete(X, part, axis=0), X[part]) is None


def test_numbers_that_say_nothing_of_a_scale():
    x = np.linspace(0, 1, 100).reshape(1, 1, 10, 10)
    assert said(np.ones((3, 1, 2, 2)), 1e9 * x) is None  # constants have no width
    assert said(255 * x, np.full((1, 1, 4, 4), np.nan)) is None
    assert said(x, np.where(x < 0.5, -9999.0, x), missing=-9999.0) is None
    assert said(np.where(x < 0.5, np.nan, x), np.where(x > 0.5, np.nan, x), missing=float("nan")) is None
    assert said(np.where(x < 0.5, np.nan, x), 255 * x, missing=float("nan")) is not None
    assert warning_of(None, 1e9 * x) is None
    assert range_of([]) is range_of([np.full(3, np.nan)]) is None
    assert said(np.array([[True, False]]), np.array([[True, True]])) is None


def fitted(X, **keywords):
    with warnings.catch_warnings(action="ignore"):  # one epoch converges nowhere
        return CNNClassifier([*small()], max_iter=1, random_state=0, **keywords).fit(
            X[:200], load_digits().target[:200]
        )


def small():
    return [fastcnn.Flatten(), fastcnn.Dense(10)]


@pytest.fixture(scope="module")
def of_floats():
    return fitted(BYTES / 255)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function", "transform"])
def test_estimators_warn_once_at_the_callers_line(of_floats, method):
    estimator = fastcnn.load(saved(of_floats))
    with pytest.warns(UserWarning, match=r"CNNClassifier: X: numbers from 0 to 255, .* from 0 to 1, are far") as caught:
        getattr(estimator, method)(BYTES[:20])
    assert [each.filename for each in caught] == [__file__]
    getattr(estimator, method)(BYTES[:20])  # warnings are errors here


def saved(thing):
    file = io.BytesIO()
    fastcnn.save(thing, file)
    file.seek(0)
    return file


def test_a_fit_on_bytes_warns_of_floats():
    with pytest.warns(UserWarning, match=r"numbers from 0 to 1, .* from 0 to 255, are far"):
        fitted(BYTES).predict(BYTES[:20] / 255)


def test_a_validation_set_on_another_scale(of_floats):
    with (
        warnings.catch_warnings(action="ignore", category=ConvergenceWarning),
        pytest.warns(UserWarning, match="CNNClassifier: X_val: numbers from 0 to 255"),
    ):
        CNNClassifier(small(), max_iter=1, random_state=0).fit(
            BYTES[:100] / 255, load_digits().target[:100], X_val=BYTES[100:150], y_val=load_digits().target[100:150]
        )


def test_what_partial_fit_has_seen_is_known():
    y = load_digits().target
    estimator = CNNClassifier(small(), random_state=0).partial_fit(BYTES[:50] / 2550, y[:50], classes=np.arange(10))
    estimator.partial_fit(BYTES[50:100] / 100, y[50:100]).predict(BYTES[:20] / 100)
    assert estimator._scaler.range.high == pytest.approx(2.55)


def test_files_of_former_versions_know_no_range(of_floats):
    assert fastcnn.load(saved(of_floats))._scaler.range == of_floats._scaler.range == Range(0.0, 1.0, whole=False)
    wrong = (None, [0, 1], [0, 1, 2], ["0", 1, True], [1, 0, True], [0, float("inf"), True], {}, [True, 2, False])
    assert [read_range(values) for values in wrong] == [None] * len(wrong)


@pytest.mark.parametrize("kind", ["floats", "estimator"])
def test_the_command_line_says_it_in_a_line(kind, tmp_path, of_floats):
    y = load_digits().target
    np.savez(tmp_path / "floats.npz", X=DIGITS[:300] * 255 / 16 + 0.25, y=y[:300])
    np.savez(tmp_path / "bytes.npz", X=BYTES[:50], y=y[:50])
    model = tmp_path / "model.safetensors"
    if kind == "estimator":
        fastcnn.save(of_floats, model)
    else:
        train = "train", tmp_path / "floats.npz", "--epochs", "1", "--learning-rate", "0.001"
        assert command(*train, "--save", model, "--quiet").returncode == 0
    done = command("evaluate", model, tmp_path / "bytes.npz")
    assert done.returncode == 0
    assert done.stderr.startswith(f"fastcnn: warning: {model}: numbers from 0 to ")
    assert len(done.stderr.splitlines()) == 1
    if kind == "floats":
        assert command("evaluate", model, tmp_path / "floats.npz").stderr == ""


def command(*words):
    return subprocess.run(
        [sys.executable, "-m", "fastcnn", *map(str, words)], capture_output=True, text=True, check=False, timeout=300
    )
