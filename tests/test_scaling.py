"""Outliers, missing numbers and bad images do not decide how images are scaled, nor what a model predicts."""

import gc
import pickle
import tracemalloc
import warnings

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

import fastcnn
from fastcnn import (
    Augmentation,
    BatchNorm,
    Callback,
    CNNClassifier,
    CNNRegressor,
    Conv2D,
    MaxPool2D,
    ReLU,
    Sequential,
    Trainer,
)
from fastcnn.estimators import scaling
from fastcnn.estimators.scaling import Scaler
from fastcnn.training.statistics import renew_statistics

DIGITS, Y = load_digits(return_X_y=True)
DIGITS = (DIGITS / 16).reshape(-1, 1, 8, 8)
NORMED = [Conv2D(8, 3, bias=False), BatchNorm(), ReLU(), MaxPool2D(2)]
BOTH = pytest.mark.parametrize("kind", [CNNClassifier, CNNRegressor])


def damaged(how):
    """Return digits, to train and to test, and whether a warning speaks of no data."""
    X = DIGITS.copy()
    chance = np.random.RandomState(0).random_sample(X.shape)
    if how == "one value":
        X[17, 0, 2, 2] = 1000
    elif how == "one huge value":
        X[17, 0, 2, 2] = 1e150
    elif how == "an image":
        X[17] = 1e6
    elif how == "a hot pixel":
        X[:, 0, 3, 4] *= 1000
    elif how == "a hot column":
        X[:, 0, :, 7] = 5e4
    elif how == "no data":
        X[chance < 0.03] = -9999
    elif how == "much is no data":
        X[chance < 0.2] = -32768
    return X


@pytest.fixture(scope="module")
def undamaged():
    return (
        CNNClassifier(layers=NORMED, max_iter=12, random_state=0)
        .fit(DIGITS[:900], Y[:900])
        .score(DIGITS[900:], Y[900:])
    )


@pytest.mark.parametrize(
    "how", ["one value", "one huge value", "an image", "a hot pixel", "a hot column", "no data", "much is no data"]
)
def test_damage_spoils_no_model(how, undamaged):
    X = damaged(how)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        model = CNNClassifier(layers=NORMED, max_iter=12, random_state=0).fit(X[:900], Y[:900])
    said = [str(one.message) for one in found]
    assert any("no data" in text for text in said) == ("data" in how or how in ("an image", "a hot column"))
    assert not any("its training images" in text for text in said)
    clean = X if "data" in how or "hot" in how else DIGITS
    cost = {"no data": 0.15, "much is no data": 0.45}.get(how, 0.02)
    assert model.score(clean[900:], Y[900:]) > undamaged - cost


def test_what_is_no_outlier_is_scaled_as_ever():
    X = DIGITS[:300]
    scaler = Scaler(X, None, strips=False)
    assert scaler.zero.item() == 0
    assert scaler.deviation.item() == pytest.approx(X.std(), rel=1e-12)
    np.testing.assert_array_equal(scaler(X, np.float64), X / scaler.deviation)
    rows = np.random.RandomState(0).random_sample((300, 1, 1, 10))
    strips = Scaler(rows, None, strips=True)
    np.testing.assert_allclose(strips(rows, np.float64).std(axis=0), 1)


def test_outliers_keep_their_order_and_begin_where_others_end():
    X = np.random.RandomState(0).random_sample((100, 1, 5, 5))
    scaler = Scaler(X, None, strips=False)
    line = np.concatenate(
        [[-np.finfo("d").max], -np.logspace(300, -3, 200), np.linspace(0, 1, 20), np.logspace(0, 300)]
    )
    line = np.sort(line)[: len(line) // 5 * 5].reshape(-1, 1, 1, 5)
    y = scaler(line, np.float64).ravel()
    assert np.isfinite(y).all()
    assert (np.diff(y) >= 0).all()
    assert np.abs(y).max() < 40
    fence = scaler.high.item()
    below, beyond = scaler(np.array([fence, fence + 1e-6]).reshape(2, 1, 1, 1), np.float64).ravel()
    assert (beyond - below) * scaler.deviation.item() == pytest.approx(1e-6, rel=1e-3)


def test_outliers_count_for_nothing():
    X = DIGITS[:300].copy()
    clean = Scaler(X[:, :, :, :7], None, strips=False)
    X[:, 0, :, 7] = 1e7
    X[5, 0, 1, 1], original = X[5, 0, 1, 1], X[5, 0, 1, 1]
    scaler = Scaler(X, None, strips=False)
    assert original == X[5, 0, 1, 1]
    assert scaler.deviation.item() == pytest.approx(clean.deviation.item(), rel=1e-9)
    weight = np.arange(300.0)
    weighed = Scaler(X, weight, strips=False)
    values = X[:, 0, :, :7]
    mean = np.average(values, weights=np.broadcast_to(weight[:, None, None], values.shape))
    square = np.average((values - mean) ** 2, weights=np.broadcast_to(weight[:, None, None], values.shape))
    assert weighed.deviation.item() == pytest.approx(np.sqrt(square), rel=1e-9)


@pytest.mark.parametrize("background", [0.0, -32768.0])
def test_the_most_frequent_numbers_are_no_part_of_the_bulk(background):
    X = np.full((50, 1, 20, 20), background)
    X[:, :, 7:12] = 1.5e4
    X[:, :, :4] = np.random.RandomState(0).random_sample((50, 1, 4, 20)) + 1
    scaler = Scaler(X, None, strips=False)
    assert 0.4 < scaler.unit.item() < 0.6
    assert scaler.high.item() > 2


def test_constants_have_no_outliers():
    X = np.full((20, 2, 6, 6), 3.0)
    X[:, 1] = np.random.RandomState(0).random_sample((20, 6, 6))
    scaler = Scaler(X, None, strips=False)
    assert (scaler.low[0].item(), scaler.high[0].item()) == (-np.inf, np.inf)
    np.testing.assert_array_equal(scaler(X, np.float32)[:, 0], 0)


@BOTH
@pytest.mark.parametrize("value", [np.nan, -9999.0])
@pytest.mark.parametrize("form", ["images", "rows"])
def test_missing_numbers_become_the_mean_of_their_pixel(kind, value, form):
    X, absent = DIGITS[:400].copy(), np.random.RandomState(1).random_sample((400, 1, 8, 8)) < 0.1
    absent[:, 0, 5, 5] = True  # a pixel that is nowhere
    filled = X.copy()
    means = np.array([X[:, 0].reshape(400, -1)[~gone, pixel].mean() if not gone.all() else X[~absent].mean()
                      for pixel, gone in enumerate(absent.reshape(400, -1).T)])  # fmt: skip
    filled[absent] = np.broadcast_to(means.reshape(8, 8), X.shape)[absent]
    X[absent] = value
    model = kind(layers=NORMED, max_iter=2, random_state=0, missing_values=value)
    if form == "rows":
        X, filled = X.reshape(400, -1), filled.reshape(400, -1)
    model.fit(X, Y[:400])
    assert model.__sklearn_tags__().input_tags.allow_nan == np.isnan(value)
    np.testing.assert_allclose(model.predict(X), model.predict(filled))
    np.testing.assert_allclose(model._outputs(X), model._outputs(filled), rtol=1e-4, atol=1e-5)


@BOTH
def test_without_the_parameter_nan_is_an_error(kind):
    X = np.where(DIGITS > 0.9, np.nan, DIGITS)
    for missing in (None, -1.0):
        with pytest.raises(ValueError, match="Input X contains NaN"):
            kind(max_iter=1, missing_values=missing).fit(X, Y)
    with pytest.raises(ValueError, match="Input X contains infinity"):
        kind(max_iter=1, missing_values=np.nan).fit(np.where(DIGITS > 0.9, np.inf, DIGITS), Y)
    with pytest.raises(ValueError, match="The 'missing_values' parameter"):
        kind(max_iter=1, missing_values="none").fit(DIGITS, Y)


@BOTH
def test_the_scaler_comes_along_in_files_and_copies(kind, tmp_path):
    X = damaged("no data")[:300]
    model = kind(layers=NORMED, max_iter=2, random_state=0, missing_values=-9999).fit(X, Y[:300])
    X[0, 0, 0, 0] = 1e5
    fastcnn.save(model, tmp_path / "model")
    for other in (fastcnn.load(tmp_path / "model"), pickle.loads(pickle.dumps(model))):
        assert other.missing_values == -9999
        np.testing.assert_array_equal(other._outputs(X), model._outputs(X))


# ------------------------------------------------------------------------------------------- statistics of batch norms


def trained(layers):
    model = Sequential([*layers]).build((1, 8, 8), random_state=0)
    trainer = Trainer(model, random_state=0)
    for first in range(0, 256, 64):
        trainer.step(DIGITS[first : first + 64], Y[first : first + 64] % 8)
    return trainer


def test_statistics_are_those_of_the_batches():
    """The mean of the batches' means; the mean of their unbiased variances, plus the variance of the means."""
    from fastcnn import Dense, Flatten

    trainer = trained([BatchNorm(), Conv2D(4, 3), BatchNorm(momentum=0.01), ReLU(), Flatten(), Dense(8)])
    parameters = {name: array.copy() for name, array in trainer.model.parameters.items()}
    batches = [(DIGITS[first : first + 50], Y[first : first + 50] % 8) for first in range(0, 500, 50)]
    renew_statistics(trainer, batches)
    first, second = trainer.model.layers[0], trainer.model.layers[2]
    means = np.array([x.mean() for x, _ in batches])
    variances = np.array([x.var(ddof=1) for x, _ in batches])
    assert first.running_mean.item() == pytest.approx(means.mean(), rel=1e-5)
    assert first.running_var.item() == pytest.approx(variances.mean() + means.var(), rel=1e-5)
    maps = []
    for x, _ in batches:
        normed = (x - x.mean()) / np.sqrt(x.var() + first.epsilon) * first.gamma + first.beta
        maps.append(trainer.model.layers[1].copy().forward(normed.astype("f")))
    expected = np.mean([each.mean(axis=(0, 2, 3)) for each in maps], axis=0)
    np.testing.assert_allclose(second.running_mean, expected, rtol=1e-3, atol=1e-4)
    for name, array in trainer.model.parameters.items():
        np.testing.assert_array_equal(array, parameters[name])


def test_what_ran_before_counts_for_nothing_and_an_exception_changes_nothing():
    from fastcnn import Dense, Flatten

    trainer = trained([BatchNorm(), Flatten(), Dense(8)])
    norm, batches = trainer.model.layers[0], [(DIGITS[:50], Y[:50] % 8)]
    norm.running_mean, norm.running_var = [np.nan], [1e30]
    renew_statistics(trainer, batches)
    once = norm.running_mean.item(), norm.running_var.item()
    assert once[0] == pytest.approx(DIGITS[:50].mean(), rel=1e-5)
    with pytest.raises(ValueError, match="input"):
        renew_statistics(trainer, [*batches, (DIGITS[:50, :, :7], Y[:50] % 8)])
    assert (norm.running_mean.item(), norm.running_var.item()) == once


@BOTH
def test_fit_renews_the_statistics(kind):
    """A momentum of nearly nothing leaves running statistics where they began: the model would predict rubbish."""
    y = Y[:500] if kind is CNNClassifier else DIGITS[:500, 0, :4].sum(axis=(1, 2))
    outputs = [
        kind(layers=[Conv2D(8, 3, bias=False), BatchNorm(momentum), ReLU(), MaxPool2D(2)], max_iter=8, random_state=0)
        .fit(DIGITS[:500], y)
        ._outputs(DIGITS)
        for momentum in (0.1, 1e-3)
    ]
    np.testing.assert_allclose(*outputs, rtol=1e-3, atol=1e-3)


@BOTH
def test_predictions_that_disagree_with_the_training_are_warned_of(kind):
    class Poison(Callback):
        """Layers of momentum 0 keep what they have: here what somebody wrote."""

        def end(self, run):
            run.trainer.model.layers[1].running_var = np.full(8, 1e8)
            run.trainer.model.layers[1].running_mean = np.full(8, 50)

    layers = [Conv2D(8, 3, bias=False), BatchNorm(momentum=0), ReLU(), MaxPool2D(2)]
    y = Y[:500] if kind is CNNClassifier else DIGITS[:500, 0, :4].sum(axis=(1, 2))
    model = kind(layers=layers, max_iter=30, random_state=0, callbacks=[Poison()])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        with pytest.warns(UserWarning, match="predicts 500 of its training images with .*, where the last epoch"):
            model.fit(DIGITS[:500], y)


# ------------------------------------------------------------------------------------------------ a batch at a time


def fitted(kind, images, y, **others):
    model = kind([Conv2D(4, 3, bias=False), BatchNorm(), ReLU(), MaxPool2D(4)], random_state=0, batch_size=8, **others)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(images, y)


@pytest.mark.filterwarnings("ignore:The network predicts 48 of its training images")  # three epochs of noise
@pytest.mark.parametrize("kind", [CNNClassifier, CNNRegressor])
@pytest.mark.parametrize("changes", [{}, {"early_stopping": True}, {"augmentation": Augmentation(shift=2, mixup=1.0)}])
def test_images_that_are_scaled_batch_by_batch_have_the_same_bits(kind, changes, monkeypatch):
    generator = np.random.RandomState(0)
    images, y = generator.randint(0, 256, (60, 20, 20)).astype(np.uint8), np.arange(60) % 3
    whole = fitted(kind, images, y, max_iter=3, **changes)
    expected = whole._outputs(images)
    monkeypatch.setattr(scaling, "WHOLE", 20 * 20 * 7)
    model = fitted(kind, images, y, max_iter=3, **changes)
    np.testing.assert_array_equal(model._outputs(images), expected)
    assert model.loss_curve_ == whole.loss_curve_
    assert model.validation_scores_ == whole.validation_scores_


def peak_of(n, monkeypatch, **others):
    """Return the most bytes that a fit of n images of 64 x 64 takes, and what its prediction does."""
    monkeypatch.setattr(scaling, "WHOLE", 1 << 18)
    images, y = np.random.RandomState(0).randint(0, 256, (n, 64, 64)).astype(np.uint8), np.arange(n) % 3
    fitted(CNNClassifier, images[:80], y[:80], max_iter=1, **others)
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        model = fitted(CNNClassifier, images, y, max_iter=1, **others)
        of_fit = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        model.predict(images)
        return of_fit, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        gc.enable()


def test_a_fit_takes_memory_by_the_batch(monkeypatch):
    few, many = (peak_of(n, monkeypatch, loss="log_loss") for n in (300, 1200))
    copy = 900 * 64 * 64 * 4
    assert many[0] - few[0] < copy / 4
    assert many[1] - few[1] < copy / 4


def test_what_is_tried_gives_its_memory_back(monkeypatch):
    """Five trainings, one behind the other, without the collector: a plan and its steps know each other."""
    released = peak_of(120, monkeypatch)[0]
    monkeypatch.setattr(Trainer, "_release", lambda self: None)
    kept = peak_of(120, monkeypatch)[0]
    print(released, kept)
    assert released < kept / 2


def test_large_images_come_in_small_batches():
    sizes = {side: CNNClassifier([MaxPool2D(8)], random_state=0, max_iter=1, loss="log_loss") for side in (16, 128)}
    for side, model in sizes.items():
        images = np.zeros((400, side, side), np.uint8)
        images[::2, :9] = 200
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(images, np.arange(400) % 2)
        assert model._batch(400) == {16: 20, 128: 16}[side]
