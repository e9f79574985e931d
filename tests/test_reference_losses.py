"""The reference's losses: formulas, finite differences, weights, and what they refuse."""

from __future__ import annotations

from decimal import Context, Decimal, localcontext

import numpy as np
import pytest

import reference
from tests.slopes import directional_gradient_check


def normal(*shape, seed=0):
    return np.random.RandomState(seed).standard_normal(shape)


def probabilities(*shape, seed=0):
    p = np.random.RandomState(seed).uniform(0.1, 1, size=shape)
    return p / p.sum(axis=-1, keepdims=True)


WEIGHTS = np.array([0.5, 2.0, 1.0, 0.0, 3.0])
CLASSES = np.array([4, 0, 2, 2, 1, 3, 0])
PIXELS = np.random.RandomState(3).randint(5, size=(2, 3, 2))
LABELS = np.random.RandomState(1).randint(2, size=(6, 4))

# name, loss, output, target
LOSSES = [
    ("cross-entropy", reference.CrossEntropy(), normal(7, 5), CLASSES),
    ("cross-entropy-one-example", reference.CrossEntropy(), normal(1, 3), [1]),
    ("cross-entropy-one-hot", reference.CrossEntropy(), normal(7, 5), np.eye(5)[CLASSES]),
    ("cross-entropy-soft", reference.CrossEntropy(), normal(7, 5), probabilities(7, 5)),
    ("cross-entropy-smoothed", reference.CrossEntropy(0.2), normal(7, 5), CLASSES),
    ("cross-entropy-weighted", reference.CrossEntropy(0.0, WEIGHTS), normal(7, 5), CLASSES),
    ("cross-entropy-all", reference.CrossEntropy(0.1, WEIGHTS), normal(7, 5), probabilities(7, 5)),
    ("cross-entropy-ignored", reference.CrossEntropy(0.1, WEIGHTS, 2), normal(7, 5), CLASSES),
    ("cross-entropy-pixels", reference.CrossEntropy(), normal(2, 5, 3, 2), PIXELS),
    ("cross-entropy-pixels-all", reference.CrossEntropy(0.1, WEIGHTS, -1), normal(2, 5, 3, 2), PIXELS - (PIXELS == 0)),
    ("binary-cross-entropy", reference.BinaryCrossEntropy(), 3 * normal(6, 4), LABELS),
    ("binary-cross-entropy-soft", reference.BinaryCrossEntropy(), normal(6), np.linspace(0, 1, 6)),
    ("mean-squared-error", reference.MeanSquaredError(), normal(6, 4), normal(6, 4, seed=1)),
    ("mean-squared-error-rows", reference.MeanSquaredError(), normal(6), normal(6, seed=1)),
    ("mean-squared-error-images", reference.MeanSquaredError(), normal(3, 2, 4, 5), normal(3, 2, 4, 5, seed=1)),
    ("mean-absolute-error", reference.MeanAbsoluteError(), normal(6, 4), normal(6, 4, seed=1)),
    ("huber", reference.Huber(), 2 * normal(6, 4), normal(6, 4, seed=1)),
    ("huber-small", reference.Huber(0.3), normal(6, 4), normal(6, 4, seed=1)),
]
every_loss = pytest.mark.parametrize(
    ("loss", "output", "target"), [row[1:] for row in LOSSES], ids=[row[0] for row in LOSSES]
)


@every_loss
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "sample-weight"])
def test_gradient(loss, output, target, weighted):
    z = output.copy()
    s = np.random.RandomState(2).uniform(0, 2, size=len(z)) if weighted else None
    gradient = loss.gradient(z, target, s)
    # The gradients of a mean are small: seven times the loss has slopes of about 1.
    directional_gradient_check(lambda: 7 * loss(z, target, s), z, 7 * gradient, tolerance=1e-8)
    assert gradient.dtype == np.float64
    assert isinstance(loss(z, target, s), float)


@every_loss
def test_sample_weights_are_repetitions(loss, output, target):
    target = np.asarray(target)
    s = np.arange(1, 1 + len(output))
    repeated = np.repeat(np.arange(len(output)), s)
    assert loss(output, target, s) == pytest.approx(loss(output[repeated], target[repeated]), rel=1e-12)
    summed = np.zeros_like(output)
    np.add.at(summed, repeated, loss.gradient(output[repeated], target[repeated]))
    np.testing.assert_allclose(loss.gradient(output, target, s), summed, rtol=1e-12, atol=1e-15)
    assert loss(output, target, np.full(len(output), 3.0)) == pytest.approx(loss(output, target), rel=1e-12)


def test_cross_entropy_is_its_formula():
    z = normal(7, 5)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    loss = reference.CrossEntropy()
    assert loss(z, CLASSES) == pytest.approx(-np.mean(np.log(p[np.arange(7), CLASSES])), rel=1e-13)
    np.testing.assert_allclose(loss.gradient(z, CLASSES), (p - np.eye(5)[CLASSES]) / 7, rtol=1e-13, atol=1e-16)
    # Logarithms of probabilities are logits too: the notebook's loss, and N times the gradient is its probs − y.
    assert loss(np.log(p), CLASSES) == pytest.approx(loss(z, CLASSES), rel=1e-13)
    np.testing.assert_allclose(7 * loss.gradient(np.log(p), CLASSES), p - np.eye(5)[CLASSES], rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("margin", [2, 15, 40, 300])
def test_nothing_is_lost_near_zero(margin):
    """Against fifty digits: log p and p - 1 of a class that is far ahead."""
    z = normal(1, 5)
    z[0, 3] += margin
    with localcontext(Context(prec=50)):
        exponentials = [Decimal(float(x)).exp() for x in z[0]]
        p = [x / sum(exponentials) for x in exponentials]
        loss = float(-p[3].ln()) if margin < 60 else float(sum(p[:3]) + p[4])
        gradient = [float(x) for x in (*p[:3], -(sum(p[:3]) + p[4]), p[4])]
    assert reference.CrossEntropy()(z, [3]) == pytest.approx(loss, rel=1e-13, abs=0)
    np.testing.assert_allclose(reference.CrossEntropy().gradient(z, [3])[0], gradient, rtol=1e-13)


@pytest.mark.parametrize("z", [2.0, 15.0, 300.0, -2.0, -15.0, -300.0])
@pytest.mark.parametrize("y", [0.0, 2.0**-30, 0.5, 1 - 2.0**-30, 1.0])
def test_nothing_is_lost_near_zero_in_binary_cross_entropy(z, y):
    with localcontext(Context(prec=400)):
        p, target = 1 / (1 + Decimal(-z).exp()), Decimal(y)
        loss, slope = float(-target * p.ln() - (1 - target) * (1 - p).ln()), float(p - target)
    binary = reference.BinaryCrossEntropy()
    assert binary([z], [y]) == pytest.approx(loss, rel=1e-13, abs=0)
    np.testing.assert_allclose(binary.gradient(np.array([z]), [y]), [slope], rtol=1e-13)


@pytest.mark.parametrize("label_smoothing", [0, 0.3])
@pytest.mark.parametrize("class_weight", [None, WEIGHTS])
def test_classes_are_one_hot_rows(label_smoothing, class_weight):
    loss, z = reference.CrossEntropy(label_smoothing, class_weight), normal(7, 5)
    s, rows = np.arange(7.0), np.eye(5)[CLASSES]
    assert loss(z, CLASSES, s) == loss(z, rows, s)
    np.testing.assert_array_equal(loss.gradient(z, CLASSES, s), loss.gradient(z, rows, s))


def test_pixels_are_samples():
    z, y = normal(2, 5, 3, 2), PIXELS
    rows, classes = np.moveaxis(z, 1, 3).reshape(-1, 5), y.ravel()
    for loss in (reference.CrossEntropy(0.1, WEIGHTS), reference.CrossEntropy(ignore_index=3)):
        assert loss(z, y) == pytest.approx(loss(rows, classes), rel=1e-13)
        gradient = np.moveaxis(loss.gradient(z, y), 1, 3).reshape(-1, 5)
        np.testing.assert_allclose(gradient, loss.gradient(rows, classes), rtol=1e-13, atol=1e-16)


def test_what_is_ignored_is_not_there():
    loss, z, there = reference.CrossEntropy(0.1, WEIGHTS, ignore_index=2), normal(7, 5), CLASSES != 2
    known = reference.CrossEntropy(0.1, WEIGHTS)
    assert loss(z, CLASSES) == pytest.approx(known(z[there], CLASSES[there]), rel=1e-13)
    np.testing.assert_array_equal(loss.gradient(z, CLASSES)[~there], 0)
    assert loss(z, np.full(7, 2)) == 0
    np.testing.assert_array_equal(loss.gradient(z, np.full(7, 2)), 0)


def test_class_weights_are_sample_weights():
    z = normal(7, 5)
    weighted = reference.CrossEntropy(class_weight=WEIGHTS)
    assert weighted(z, CLASSES) == pytest.approx(reference.CrossEntropy()(z, CLASSES, WEIGHTS[CLASSES]), rel=1e-13)


def test_label_smoothing_mixes_with_the_uniform_distribution():
    z = normal(7, 5)
    mixed = 0.8 * np.eye(5)[CLASSES] + 0.2 / 5
    smoothed = reference.CrossEntropy(label_smoothing=0.2)
    assert smoothed(z, CLASSES) == pytest.approx(reference.CrossEntropy()(z, mixed), rel=1e-13)


def test_large_logits_overflow_nowhere():
    z = np.array([[800.0, 0.0], [0.0, 800.0]])
    loss = reference.CrossEntropy()
    assert loss(z, [0, 1]) == 0
    assert loss(z, [1, 0]) == 800
    np.testing.assert_array_equal(loss.gradient(z, [1, 0]), [[0.5, -0.5], [-0.5, 0.5]])
    binary = reference.BinaryCrossEntropy()
    assert binary([800.0, -800.0], [1, 0]) == 0
    assert binary([800.0, -800.0], [0, 1]) == 800
    np.testing.assert_array_equal(binary.gradient([800.0, -800.0], [0, 1]), [0.5, -0.5])


def test_regression_losses_are_their_formulas():
    z, y = np.array([[0.0, 1.0], [5.0, -1.0]]), np.array([[0.0, 3.0], [2.0, -1.5]])  # errors 0, −2, 3, 0.5
    assert reference.MeanSquaredError()(z, y) == (4 + 9 + 0.25) / 4
    np.testing.assert_array_equal(reference.MeanSquaredError().gradient(z, y), [[0, -1], [1.5, 0.25]])
    assert reference.MeanAbsoluteError()(z, y) == 5.5 / 4
    np.testing.assert_array_equal(reference.MeanAbsoluteError().gradient(z, y), [[0, -0.25], [0.25, 0.25]])
    assert reference.Huber(2)(z, y) == (2 + 2 * (3 - 1) + 0.125) / 4
    np.testing.assert_array_equal(reference.Huber(2).gradient(z, y), [[0, -0.5], [0.5, 0.125]])
    p = 1 / (1 + np.exp(-z))
    labels = np.array([[0, 1], [1, 0]])
    expected = -np.mean(labels * np.log(p) + (1 - labels) * np.log(1 - p))
    assert reference.BinaryCrossEntropy()(z, labels) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: reference.CrossEntropy(1.0), ValueError, "CrossEntropy: label_smoothing: .* got 1.0"),
        (lambda: reference.CrossEntropy(-0.1), ValueError, "CrossEntropy: label_smoothing: .* got -0.1"),
        (lambda: reference.CrossEntropy(0, [1, -1]), ValueError, "CrossEntropy: class_weight: .* at least 0"),
        (
            lambda: reference.CrossEntropy(0, [1, 1])(normal(2, 3), [0, 1]),
            ValueError,
            "CrossEntropy: class_weight: expected 3 weights.* got 2",
        ),
        (
            lambda: reference.CrossEntropy(0, [1, 0])(normal(2, 2), [1, 1]),
            ValueError,
            "CrossEntropy: expected weights of which some are not 0, got a sum of 0",
        ),
        (
            lambda: reference.CrossEntropy()(normal(3), [0]),
            ValueError,
            r"CrossEntropy: output: .* \(N, K, H, W\), got shape \(3,\)",
        ),
        (
            lambda: reference.CrossEntropy()(normal(2, 3), [0, 3]),
            ValueError,
            "CrossEntropy: target: .* 0 to 2, got 0 to 3",
        ),
        (lambda: reference.CrossEntropy()(normal(2, 3), [-1, 1]), ValueError, "CrossEntropy: target: .* got -1 to 1"),
        (
            lambda: reference.CrossEntropy()(normal(2, 3), [0.0, 1.0]),
            TypeError,
            "CrossEntropy: target: .* got dtype float64",
        ),
        (
            lambda: reference.CrossEntropy()(normal(2, 3), [0, 1, 1]),
            ValueError,
            "CrossEntropy: target: .* 2 classes.* got 3",
        ),
        (
            lambda: reference.CrossEntropy()(normal(2, 3), np.eye(2)),
            ValueError,
            r"CrossEntropy: target: expected shape \(2, 3\).* got \(2, 2\)",
        ),
        (
            lambda: reference.CrossEntropy()(normal(2, 2), np.ones((2, 2))),
            ValueError,
            "CrossEntropy: target: .* sum to 1",
        ),
        (
            lambda: reference.CrossEntropy()(np.zeros((0, 3)), []),
            ValueError,
            r"CrossEntropy: output: .* got shape \(0, 3\)",
        ),
        (lambda: reference.CrossEntropy()(1j * normal(2, 3), [0, 1]), TypeError, "CrossEntropy: output: .* complex128"),
        (
            lambda: reference.CrossEntropy()(normal(2, 3), [0, 1], [1]),
            ValueError,
            r"CrossEntropy: sample_weight: expected shape \(2,\), got \(1,\)",
        ),
        (
            lambda: reference.CrossEntropy()(normal(2, 3), [0, 1], [1, -1]),
            ValueError,
            "CrossEntropy: sample_weight: .* -1",
        ),
        (
            lambda: reference.MeanSquaredError()(normal(2), normal(2), [0, 0]),
            ValueError,
            "MeanSquaredError: .* sum of 0",
        ),
        (
            lambda: reference.MeanSquaredError()(normal(3, 1), normal(3)),
            ValueError,
            r"MeanSquaredError: target: expected shape \(3, 1\).* got \(3,\)",
        ),
        (
            lambda: reference.BinaryCrossEntropy()([0.0], [2]),
            ValueError,
            r"BinaryCrossEntropy: target: .* \[0, 1\], got 2",
        ),
        (lambda: reference.Huber(0), ValueError, "Huber: delta: expected a number > 0, got 0"),
    ],
)
def test_wrong_arguments_are_named(call, error, message):
    with pytest.raises(error, match="^" + message):
        call()
