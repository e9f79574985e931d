"""What "auto" chooses: epochs, changes of the images, the temperature, and the network for signals."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss

from fastcnn import (
    Augmentation,
    BatchNorm,
    CNNClassifier,
    CNNRegressor,
    Conv2D,
    CrossEntropy,
    GlobalAvgPool2D,
    ReLU,
)
from fastcnn.estimators import choosing
from fastcnn.estimators.samples import Samples

X, Y = load_digits(return_X_y=True)
NET = [Conv2D(8, 3, bias=False), BatchNorm(), ReLU()]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 5.0])
def test_the_temperature_is_that_of_the_outputs(temperature):
    """Labels that are drawn with the probabilities of z are likeliest at the temperature by which z is too far out."""
    generator = np.random.RandomState(0)
    z = 2 * generator.standard_normal((4000, 5))
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    y = np.array([generator.choice(5, p=row) for row in p])
    found, losses = choosing.fit_temperature(temperature * z, Samples(z, y, None))
    assert found == pytest.approx(temperature, rel=0.08)
    scaled = temperature * z / found
    assert losses.mean() == pytest.approx(log_loss(y, np.exp(scaled) / np.exp(scaled).sum(axis=1, keepdims=True)))


def test_the_temperature_of_labels_and_of_weighted_samples():
    generator = np.random.RandomState(0)
    z = 2 * generator.standard_normal((3000, 4))
    y = (generator.random_sample(z.shape) < 1 / (1 + np.exp(-z))).astype("f")
    assert choosing.fit_temperature(3 * z, Samples(z, y, None))[0] == pytest.approx(3, rel=0.1)
    wrong = np.arange(3000) % 2 == 1
    y[wrong] = 1 - y[wrong]
    weighed = choosing.fit_temperature(3 * z, Samples(z, y, np.where(wrong, 0.0, 1.0)))[0]
    assert weighed == pytest.approx(3, rel=0.1)
    assert choosing.fit_temperature(3 * z, Samples(z, y, None))[0] > 6


def test_few_samples_that_are_all_right_leave_the_temperature_near_1():
    z = np.array([[9.0, 0.0]] * 10)
    assert 0.7 < choosing.fit_temperature(z, Samples(z, np.zeros(10, int), None))[0] < 1.01


@pytest.mark.parametrize("n", [50, 499, 500, 1999, 5000])
def test_held_out_samples_keep_the_shares_of_classes(n):
    groups = np.arange(n) % 7 % 3
    parts = choosing.held_out(n, groups, 3)
    assert len(parts) == (2 if n < 500 else 1)
    for kept, held in parts:
        assert sorted([*kept, *held]) == [*range(n)]
        for group in range(3):
            assert (groups[held] == group).mean() == pytest.approx((groups == group).mean(), abs=0.07)
    if len(parts) == 2:
        assert not set(parts[0][1]) & set(parts[1][1])
    assert not choosing.held_out(49, groups, 3)


def test_probabilities_are_calibrated():
    """A network that knows all of its training images is sure of the others, too, unless it is cooled."""
    generator = np.random.RandomState(0)
    noisy = X / 16 + 0.5 * generator.standard_normal(X.shape)
    sure = CNNClassifier(NET, loss=CrossEntropy(), max_iter=40, random_state=0).fit(noisy[:400], Y[:400])
    model = CNNClassifier(NET, max_iter=40, random_state=0).fit(noisy[:400], Y[:400])
    np.testing.assert_array_equal(model.predict(noisy), sure.predict(noisy))
    losses = [log_loss(Y[400:], each.predict_proba(noisy[400:])) for each in (model, sure)]
    assert losses[0] < 0.9 * losses[1]
    ours, theirs = model.decision_function(noisy), sure.decision_function(noisy)
    np.testing.assert_allclose(theirs, ours * (theirs[0, 0] / ours[0, 0]), rtol=1e-3, atol=1e-3)


def test_without_a_dense_layer_at_the_end_nothing_is_divided():
    layers = [Conv2D(8, 3), ReLU(), Conv2D(10, 3), GlobalAvgPool2D()]
    plain = CNNClassifier(layers, max_iter=2, random_state=0, loss="log_loss").fit(X[:200], Y[:200])
    auto = CNNClassifier(layers, max_iter=2, random_state=0).fit(X[:200], Y[:200])
    np.testing.assert_array_equal(auto.predict_proba(X), plain.predict_proba(X))


def stripes(n, side=20, *, mirrored):
    """Return images whose class is the direction of their stripes, or (`mirrored`) the sign of that direction."""
    generator = np.random.RandomState(0)
    y = generator.randint(2, size=n)
    rows, columns = np.indices((side, side))
    slope = np.where(y == 1, 1, -1) if mirrored else np.where(y == 1, 0, 1)
    phase = generator.random_sample(n) * 6
    waves = np.sin(columns + slope[:, None, None] * rows + phase[:, None, None])
    return (waves + 0.5 * generator.standard_normal(waves.shape)).astype("f"), y


def tried(model, monkeypatch, *data):
    """Return the augmentations that a fit goes through; the last is that of the fit itself."""
    found, original = [], CNNClassifier._fit

    def fit(self, trainer, samples, batch, epochs, augmentation, **others):
        found.append(augmentation)
        return original(self, trainer, samples, batch, epochs, augmentation, **others)

    monkeypatch.setattr(CNNClassifier, "_fit", fit)
    model.fit(*data)
    return found


def test_held_out_images_judge_flips(monkeypatch):
    images, y = stripes(600, mirrored=True)
    found = tried(CNNClassifier(NET, max_iter=4, random_state=0), monkeypatch, images, y)
    assert repr(found[0]) == "Augmentation(shift=1, padding='edge')"
    assert len(found) == 4
    assert any(each.horizontal_flip for each in found)
    assert not found[-1].horizontal_flip


def test_what_is_no_image_of_16_pixels_is_not_changed(monkeypatch):
    assert tried(CNNClassifier(NET, max_iter=2, random_state=0), monkeypatch, X[:200], Y[:200]) == [None] * 3
    images, y = stripes(60, mirrored=False)
    assert tried(CNNClassifier(NET, max_iter=2, augmentation=None), monkeypatch, images[:40], y[:40]) == [None]
    assert len(tried(CNNClassifier(NET, max_iter=2, loss="log_loss"), monkeypatch, images, y)) == 1


@pytest.mark.parametrize(("n", "epochs"), [(100, 53), (1000, 16), (1797, 12)])
def test_few_samples_get_more_epochs(n, epochs):
    model = CNNClassifier([Conv2D(1, 3, stride=3)], random_state=0, loss="log_loss").fit(X[:n], Y[:n])
    assert model.n_iter_ == epochs


@pytest.mark.parametrize("form", ["(n, 1, L)", "(n, 1, 1, L)", "(n, L, 1)", "rows"])
def test_signals_get_a_network_along_them(form):
    generator = np.random.RandomState(0)
    y, t = generator.randint(3, size=400), np.arange(48)
    middle = generator.randint(8, 40, size=(400, 1))
    bumps = [np.exp(-((t - middle) ** 2) / 8), np.sign(t - middle) * (np.abs(t - middle) < 5), np.abs(t - middle) < 5]
    signals = np.choose(y[:, None], bumps) + 0.2 * generator.standard_normal((400, 48))
    shape = {"(n, 1, L)": (1, 48), "(n, 1, 1, L)": (1, 1, 48), "(n, L, 1)": (48, 1), "rows": (48,)}[form]
    signals = signals.reshape(400, *shape)
    model = CNNClassifier(random_state=0, max_iter=8, input_shape=(1, 1, 48) if form == "rows" else None)
    model.fit(signals[:300], y[:300])
    assert model.model_.layers[0].filter_size in ((1, 5), (5, 1))
    assert model.score(signals[300:], y[300:]) > 0.9


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # there is nothing to learn
@pytest.mark.parametrize("kind", [CNNClassifier, CNNRegressor])
@pytest.mark.parametrize("shape", [(1, 1, 16), (1, 3, 40), (2, 4, 33), (1, 100, 1)])
def test_signals_of_any_size(kind, shape):
    signals = np.random.RandomState(0).random_sample((12, *shape))
    assert kind(max_iter=2, input_shape=shape).fit(signals, np.arange(12) % 2).predict(signals).shape == (12,)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # there is nothing to learn
def test_rows_without_a_shape_and_short_strips_are_features():
    for rows, shape in ((np.random.RandomState(0).random_sample((40, 30)), None),
                        (np.random.RandomState(0).random_sample((40, 1, 15)), None)):  # fmt: skip
        model = CNNClassifier(max_iter=5, input_shape=shape).fit(rows, np.arange(40) % 2)
        assert not any(isinstance(layer, BatchNorm) for layer in model.model_.layers)


def test_a_warm_start_trains_what_was_trained_and_keeps_the_temperature():
    model = CNNClassifier(NET, max_iter=12, warm_start=True, random_state=0, augmentation=None).fit(X[:100], Y[:100])
    plain = CNNClassifier(NET, max_iter=12, warm_start=True, random_state=0, augmentation=None, loss="log_loss").fit(
        X[:100], Y[:100]
    )
    temperature = model.temperature_
    assert temperature != 1
    for _ in range(2):
        model.fit(X[:100], Y[:100])
        plain.fit(X[:100], Y[:100])
        assert model.temperature_ == temperature
        np.testing.assert_allclose(model.loss_curve_, plain.loss_curve_, rtol=1e-3)
    model.partial_fit(X[:100], Y[:100])
    plain.partial_fit(X[:100], Y[:100])
    np.testing.assert_allclose(model._outputs(X) * temperature, plain._outputs(X), rtol=0.05, atol=0.05)


def mislabelled(share):
    wrong = np.random.RandomState(0).random_sample(len(Y)) < share
    return np.where(wrong, np.random.RandomState(1).randint(10, size=len(Y)), Y)


def test_wrong_labels_are_not_known_by_heart(monkeypatch):
    """Beyond 10 % of wrong labels mixup is tried; the digits themselves need one short training and one whole."""
    images = X.reshape(-1, 1, 8, 8)
    lengths = []
    fit = CNNClassifier._fit

    def counted(self, trainer, samples, batch, epochs, *args, **others):
        lengths.append((len(samples.y), epochs))
        return fit(self, trainer, samples, batch, epochs, *args, **others)

    monkeypatch.setattr(CNNClassifier, "_fit", counted)
    model = CNNClassifier(max_iter=16, random_state=0).fit(images[:600], Y[:600])
    assert model.augmentation_ is None
    assert [epochs for _, epochs in lengths] == [4, 16]
    assert len({n for n, _ in lengths}) == 1
    assert 540 <= lengths[0][0] <= 550
    noisy = CNNClassifier(max_iter=16, random_state=0).fit(images[:600], mislabelled(0.3)[:600])
    assert noisy.augmentation_.mixup
    assert len(lengths) == 2 + 4
    plain = CNNClassifier(max_iter=16, random_state=0, augmentation=None)
    assert noisy.score(images[600:], Y[600:]) > plain.fit(images[:600], mislabelled(0.3)[:600]).score(
        images[600:], Y[600:]
    )


def test_a_training_that_goes_on_changes_images_as_before(monkeypatch):
    images, y = X.reshape(-1, 1, 8, 8)[:300], mislabelled(0.4)[:300]
    model = CNNClassifier(NET, max_iter=6, random_state=0, warm_start=True).fit(images, y)
    model.augmentation_ = Augmentation(mixup=4.0)
    for ordered, mixup in ((False, 4.0), (True, 0.0)):
        model.set_params(shuffle=not ordered)
        assert model._next_augmentation().mixup == mixup
        assert tried(model, monkeypatch, images, y)[-1].mixup == mixup
    model.set_params(augmentation=None)
    assert tried(model, monkeypatch, images, y) == [None]


@pytest.mark.parametrize("n", [501, 1437, 6000, 60000])
def test_reserved_samples_are_of_all_classes_that_have_enough(n):
    groups = np.minimum(np.arange(n) % 10, 8)
    groups[:2] = 77
    kept, held = choosing.reserve(n, groups, 5)
    assert sorted([*kept, *held]) == [*range(n)]
    assert {*groups[held]} == {*range(9)}
    wanted = max(min(n // 10, 250), min(n // 20, 1000))
    assert 0.85 * wanted < len(held) < 1.15 * wanted
    assert (groups[held] == 8).mean() == pytest.approx(0.2, abs=0.03)
    every, some = choosing.reserve(n, None, 5)
    assert sorted([*every, *some]) == [*range(n)]
    assert 0.85 * wanted < len(some) < 1.15 * wanted
