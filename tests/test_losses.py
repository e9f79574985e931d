"""Losses: the reference's values and gradients, alone and in a training step; weights, threads, refusals."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import fastcnn
import reference
from fastcnn import SGD, Conv2D, Dense, Flatten, ReLU, Sequential, Softmax, Trainer
from tests.arrays import ORDERS
from tests.slopes import directional_gradient_check


def normal(*shape, seed=0):
    return np.random.RandomState(seed).standard_normal(shape)


def probabilities(*shape, seed=0):
    p = np.random.RandomState(seed).uniform(0.1, 1, size=shape)
    return p / p.sum(axis=-1, keepdims=True)


W5 = np.array([0.5, 2.0, 1.0, 0.0, 3.0])
CLASSES = np.array([4, 0, 2, 2, 1, 3, 0])
LABELS = np.random.RandomState(1).randint(2, size=(6, 4))
PIXELS = np.random.RandomState(4).randint(5, size=(4, 3, 2))
SPARSE = np.where(np.random.RandomState(5).uniform(size=PIXELS.shape) < 0.4, 255, PIXELS)
SPARSE[1] = 255  # an image without labels

# name, from a module to a loss, output, target
LOSSES = {
    "classes": (lambda m: m.CrossEntropy(), normal(7, 5), CLASSES),
    "one example": (lambda m: m.CrossEntropy(), normal(1, 3), np.array([1])),
    "17 classes": (lambda m: m.CrossEntropy(0.1), normal(9, 17), np.arange(9) % 17),
    "one-hot": (lambda m: m.CrossEntropy(), normal(7, 5), np.eye(5, dtype=int)[CLASSES]),
    "soft": (lambda m: m.CrossEntropy(), normal(7, 5), probabilities(7, 5)),
    "smoothed": (lambda m: m.CrossEntropy(0.2), normal(7, 5), CLASSES),
    "class weights": (lambda m: m.CrossEntropy(0.0, W5), normal(7, 5), CLASSES),
    "all": (lambda m: m.CrossEntropy(0.1, W5), normal(7, 5), probabilities(7, 5)),
    "ignored classes": (lambda m: m.CrossEntropy(ignore_index=2), normal(7, 5), CLASSES),
    "ignored and all": (lambda m: m.CrossEntropy(0.1, W5, -1), normal(7, 5), CLASSES - 3 * (CLASSES == 2)),
    "nothing counts": (lambda m: m.CrossEntropy(0.1, None, 255), normal(4, 5, 3, 2), np.full_like(PIXELS, 255)),
    "pixels": (lambda m: m.CrossEntropy(), normal(4, 5, 3, 2), PIXELS),
    "pixels of 17 classes": (lambda m: m.CrossEntropy(0.1), normal(4, 17, 3, 2), 3 * PIXELS),
    "pixels, all": (lambda m: m.CrossEntropy(0.1, W5, 255), normal(4, 5, 3, 2), SPARSE.astype(np.uint8)),
    "pixels, a class ignored": (lambda m: m.CrossEntropy(ignore_index=0), normal(4, 5, 3, 2), PIXELS),
    "one pixel": (lambda m: m.CrossEntropy(0.1, W5), normal(4, 5, 1, 1), PIXELS[:, :1, :1]),
    "soft pixels": (
        lambda m: m.CrossEntropy(0.1, W5),
        normal(4, 5, 3, 2),
        np.moveaxis(probabilities(4, 3, 2, 5), 3, 1),
    ),
    "square of classes": (lambda m: m.CrossEntropy(0.1), normal(5, 5), probabilities(5, 5)),
    "binary": (lambda m: m.BinaryCrossEntropy(), 3 * normal(6, 4), LABELS),
    "binary soft": (lambda m: m.BinaryCrossEntropy(), normal(6), np.linspace(0, 1, 6)),
    "binary maps": (lambda m: m.BinaryCrossEntropy(), normal(3, 2, 3, 4), normal(3, 2, 3, 4) > 0),
    "squared": (lambda m: m.MeanSquaredError(), normal(6, 4), normal(6, 4, seed=1)),
    "squared numbers": (lambda m: m.MeanSquaredError(), normal(6), normal(6, seed=1)),
    "squared maps": (lambda m: m.MeanSquaredError(), normal(3, 17, 4, 5), normal(3, 17, 4, 5, seed=1)),
    "squared sequences": (lambda m: m.MeanSquaredError(), normal(3, 4, 5), normal(3, 4, 5, seed=1)),
    "absolute": (lambda m: m.MeanAbsoluteError(), normal(6, 4), normal(6, 4, seed=1)),
    "huber": (lambda m: m.Huber(), 2 * normal(6, 4), normal(6, 4, seed=1)),
    "huber small": (lambda m: m.Huber(0.3), normal(6, 4), normal(6, 4, seed=1)),
}
every_loss = pytest.mark.parametrize(("make", "output", "target"), LOSSES.values(), ids=LOSSES.keys())
weighted_or_not = pytest.mark.parametrize("weighted", [False, True], ids=["plain", "sample-weight"])


def weights(n: int, weighted: bool):
    return np.random.RandomState(2).uniform(0, 2, size=n) if weighted else None


@every_loss
@weighted_or_not
def test_value_and_gradient_are_the_references(make, output, target, weighted):
    fast, ref, s = make(fastcnn), make(reference), weights(len(output), weighted)
    assert fast(output, target, s) == pytest.approx(ref(output, target, s), rel=1e-10)
    gradient = fast.gradient(output, target, s)
    assert gradient.shape == output.shape
    assert gradient.dtype == np.float64
    np.testing.assert_allclose(gradient, ref.gradient(output, target, s), rtol=1e-10, atol=1e-12)


@every_loss
@weighted_or_not
def test_gradient_by_finite_differences(make, output, target, weighted):
    z, loss, s = output.copy(), make(fastcnn), weights(len(output), weighted)
    directional_gradient_check(lambda: 7 * loss(z, target, s), z, 7 * loss.gradient(z, target, s), tolerance=1e-8)


@every_loss
@weighted_or_not
def test_single_precision(make, output, target, weighted):
    """Each number of the gradient is a handful of operations; the largest term stands for the scale."""
    z, s = output.astype(np.float32), weights(len(output), weighted)
    fast, ref = make(fastcnn), make(reference)
    expected = ref.gradient(z, target, s)
    gradient = fast.gradient(z, target, s)
    assert gradient.dtype == np.float32
    bound = float(16 * (1 + z.shape[-1]) * np.finfo(np.float32).eps)
    assert fast(z, target, s) == pytest.approx(ref(z, target, s), rel=bound * 4)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=bound * max(scale, 1 / len(z)))


def test_large_logits_overflow_nowhere():
    for dtype in (np.float32, np.float64):
        z = np.array([[800.0, 0.0], [0.0, 800.0]], dtype)
        for loss in (fastcnn.CrossEntropy(), fastcnn.CrossEntropy(class_weight=[1, 1])):
            assert loss(z, [0, 1]) == 0
            assert loss(z, [1, 0]) == 800
            np.testing.assert_array_equal(loss.gradient(z, [1, 0]), [[0.5, -0.5], [-0.5, 0.5]])
        binary, ends = fastcnn.BinaryCrossEntropy(), np.array([800.0, -800.0], dtype)
        assert binary(ends, [1, 0]) == 0
        assert binary(ends, [0, 1]) == 800
        np.testing.assert_array_equal(binary.gradient(ends, [0, 1]), [0.5, -0.5])


def far_ahead(classes: int, margin: float, dtype: type):
    """Return logits whose winner is ahead of all others, at each class once, then of a few it is behind; and labels."""
    labels = np.arange(classes + 3) % classes
    z = normal(len(labels), classes)
    z[np.arange(len(labels)), labels] = z.max(axis=1) + margin * np.repeat([1, -1], [classes, 3])
    return z.astype(dtype), labels


@pytest.mark.parametrize("classes", [2, 5, 10, 17, 40])  # fewer than a register has lanes, more, more than sixteen
@pytest.mark.parametrize("margin", [3, 12, 25, 60])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nothing_is_lost_near_zero(classes, margin, dtype):
    """Relative to the loss, and to each number of its gradient, however small.

    An exponential has the error of its argument, half a unit of what a logit lies below the largest; the rest is a
    handful of roundings.
    """
    z, labels = far_ahead(classes, margin, dtype)
    tolerance = float(np.finfo(dtype).eps) * (8 + 2 * float(np.ptp(z, axis=1).max()))
    rows, maps = np.eye(classes)[labels], (len(z), classes, 1, 1)
    weighted = fastcnn.CrossEntropy(class_weight=np.ones(classes))
    ignoring = fastcnn.CrossEntropy(ignore_index=-1)
    for loss, output, y in (
        (fastcnn.CrossEntropy(), z, labels),
        (weighted, z, labels),
        (fastcnn.CrossEntropy(), z, rows),
        (ignoring, z, labels),
        (ignoring, z.reshape(maps), labels.reshape(-1, 1, 1)),
    ):
        gradient = loss.gradient(output, y).reshape(z.shape)
        np.testing.assert_allclose(gradient, reference.CrossEntropy().gradient(z, labels), rtol=tolerance, atol=0)
        for k in range(len(z)):
            expected = reference.CrossEntropy()(z[k : k + 1], labels[k : k + 1])
            assert expected > 0
            assert loss(output[k : k + 1], y[k : k + 1]) == pytest.approx(expected, rel=tolerance, abs=0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("z", [3.0, 20.0, 60.0, -3.0, -20.0, -60.0])
@pytest.mark.parametrize("missed", [0.0, 2.0**-20, 0.25, 1.0])
def test_nothing_is_lost_near_zero_in_binary_cross_entropy(z, missed, dtype):
    output, y = np.array([z], dtype), np.array([1 - missed if z > 0 else missed])
    tolerance = 16 * float(np.finfo(dtype).eps)
    fast, ref = fastcnn.BinaryCrossEntropy(), reference.BinaryCrossEntropy()
    assert fast(output, y) == pytest.approx(ref(output, y), rel=tolerance, abs=0)
    np.testing.assert_allclose(fast.gradient(output, y), ref.gradient(output, y), rtol=tolerance, atol=0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_gradient_of_a_mixture_is_exact_where_its_terms_are(dtype):
    """Two labels, as mixup and CutMix draw them: what is left of the sums is not what is left of 1."""
    classes = 10
    z, labels = far_ahead(classes, 9.0, dtype)
    tolerance = float(np.finfo(dtype).eps) * (8 + 2 * float(np.ptp(z)))
    y = 0.75 * np.eye(classes)[labels] + 0.25 * np.eye(classes)[(labels + 1) % classes]
    for smoothing in (0.0, 0.1):
        ref, fast = reference.CrossEntropy(smoothing), fastcnn.CrossEntropy(smoothing)
        p = reference.activation.softmax(z.astype(np.float64))
        target = (1 - smoothing) * y + smoothing / classes
        scale = (p * (1 - target) + target * (1 - p)) / len(z)  # both parts of p - y'
        error = np.abs(fast.gradient(z, y) - ref.gradient(z, y))
        assert (error <= tolerance * scale).all()
        assert fast(z, y) == pytest.approx(ref(z, y), rel=tolerance)


@pytest.mark.parametrize("classes", [3, 10, 17, 40])
def test_the_first_of_equal_numbers_wins(classes):
    """A NaN beats nothing, and nothing is right beside it."""
    z = np.zeros((3, classes), np.float32)
    z[0, [1, classes - 1]] = 1
    z[1, classes - 1], z[2, 1] = 2, np.nan
    for arguments in ({}, {"class_weight": np.ones(classes)}, {"ignore_index": -1}):
        model = Sequential([Dense(classes, bias=False)]).build((classes,), random_state=0)
        model.parameters["0.weights"][...] = np.eye(classes)
        for label, right in ((1, [1, 0, 0]), (classes - 1, [0, 1, 0]), (0, [0, 0, 0])):
            for row in range(2):
                trainer = Trainer(model, fastcnn.CrossEntropy(**arguments), SGD(0.0))
                assert trainer.evaluate(z[row : row + 1], [label]).accuracy == right[row]
        loss = fastcnn.CrossEntropy(**arguments)
        assert np.isnan(loss(z[2:], [1]))
        assert loss(z[:1], [1]) == loss(z[:1], [classes - 1])


@every_loss
@pytest.mark.parametrize("order", ORDERS)
def test_any_memory_order(make, output, target, order):
    loss, reorder = make(fastcnn), ORDERS[order]
    z, y = (reorder(array) if array.ndim > 1 else array for array in (output, target))
    assert loss(z, y) == loss(output, target)


# --------------------------------------------------------------------------------------------------- PyTorch's formulas

each_torch_case = pytest.mark.parametrize(
    ("loss", "theirs", "output", "target"),
    [
        (fastcnn.CrossEntropy(0.1, W5), ("CrossEntropyLoss", {"label_smoothing": 0.1, "weight": W5}),
         normal(7, 5), CLASSES),
        (fastcnn.CrossEntropy(), ("CrossEntropyLoss", {}), normal(7, 5), probabilities(7, 5)),
        (fastcnn.CrossEntropy(0.0, None, 2), ("CrossEntropyLoss", {"ignore_index": 2}), normal(7, 5), CLASSES),
        (fastcnn.CrossEntropy(0.1, W5, 255),
         ("CrossEntropyLoss", {"label_smoothing": 0.1, "weight": W5, "ignore_index": 255}),
         normal(4, 5, 3, 2), SPARSE),
        (fastcnn.CrossEntropy(), ("CrossEntropyLoss", {}), normal(4, 5, 3, 2), PIXELS),
        (fastcnn.CrossEntropy(0.2), ("CrossEntropyLoss", {"label_smoothing": 0.2}), normal(4, 5, 3, 2),
         np.moveaxis(probabilities(4, 3, 2, 5), 3, 1)),
        (fastcnn.BinaryCrossEntropy(), ("BCEWithLogitsLoss", {}), normal(3, 2, 4, 4), 1.0 * (normal(3, 2, 4, 4) > 0)),
        (fastcnn.BinaryCrossEntropy(), ("BCEWithLogitsLoss", {}), 3 * normal(6, 4), LABELS.astype(float)),
        (fastcnn.MeanSquaredError(), ("MSELoss", {}), normal(6, 4), normal(6, 4, seed=1)),
        (fastcnn.MeanAbsoluteError(), ("L1Loss", {}), normal(3, 2, 4, 4), normal(3, 2, 4, 4, seed=1)),
        (fastcnn.Huber(0.7), ("HuberLoss", {"delta": 0.7}), normal(6, 4), normal(6, 4, seed=1)),
    ],
)  # fmt: skip


@each_torch_case
def test_pytorch_says_the_same(loss, theirs, output, target):
    torch = pytest.importorskip("torch")
    name, settings = theirs
    settings = {key: torch.tensor(value) if key == "weight" else value for key, value in settings.items()}
    z = torch.tensor(output, requires_grad=True)
    value = getattr(torch.nn, name)(**settings)(z, torch.tensor(target))
    value.backward()
    assert loss(output, target) == pytest.approx(value.item(), rel=1e-10)
    np.testing.assert_allclose(loss.gradient(output, target), z.grad.numpy(), rtol=1e-10, atol=1e-14)


# --------------------------------------------------------------------------------------------------- in a training step


def rows(seed=0):
    return [Conv2D(4, 3, random_state=seed), ReLU(), Flatten(), Dense(5, random_state=seed + 1)]


def maps(seed=0):
    return [Conv2D(4, 3, padding=1, random_state=seed), ReLU(), Conv2D(2, 3, padding=1, random_state=seed + 1)]


x = normal(13, 1, 6, 6, seed=3)
K = np.arange(13) % 5
MASKS = np.random.RandomState(6).randint(2, size=(13, 6, 6))
# name: layers, loss, y, what stands for the accuracy
STEPS = {
    "classes": (rows, "cross_entropy", K),
    "weighted classes": (rows, fastcnn.CrossEntropy(0.1, W5), K),
    "one-hot": (rows, fastcnn.CrossEntropy(), np.eye(5)[K]),
    "ignored": (rows, fastcnn.CrossEntropy(ignore_index=0), K),
    "pixels": (maps, fastcnn.CrossEntropy(), MASKS),
    "ignored pixels": (maps, fastcnn.CrossEntropy(0.1, [1, 3], 255), np.where(normal(13, 6, 6) > 1, 255, MASKS)),
    "soft pixels": (maps, fastcnn.CrossEntropy(), np.moveaxis(probabilities(13, 6, 6, 2), 3, 1)),
    "binary pixels": (maps, "binary_cross_entropy", normal(13, 2, 6, 6) > 0),
    "binary": (rows, "binary_cross_entropy", normal(13, 5) > 0),
    "squared": (rows, "mean_squared_error", normal(13, 5)),
    "absolute maps": (maps, "mean_absolute_error", normal(13, 2, 6, 6)),
    "huber maps": (maps, "huber", normal(13, 2, 6, 6)),
}
each_step = pytest.mark.parametrize(("layers", "loss", "y"), STEPS.values(), ids=STEPS.keys())


@pytest.fixture
def many_shards(monkeypatch):
    monkeypatch.setattr("fastcnn.training.step.SHARD_WORK", 1.0)


def build(layers, dtype=np.float64):
    return Sequential(layers()).build((1, 6, 6), random_state=0, dtype=dtype)


@pytest.mark.usefixtures("many_shards")
@each_step
@weighted_or_not
def test_a_step_is_backward_of_the_losss_gradient(layers, loss, y, weighted):
    """The batch is cut into eight shards of different sizes; the layers alone see it whole."""
    s = weights(13, weighted)
    model, twin = build(layers), build(layers)
    trainer = Trainer(model, loss, SGD(0.1), threads=2)
    alone = trainer.loss
    for _ in range(3):
        output = twin.forward(x)
        value = alone(output, y, s)
        twin.backward(alone.gradient(output, y, s))
        SGD(0.1).step(twin)
        assert trainer.step(x, y, sample_weight=s) == pytest.approx(value, rel=1e-12)
        for name, parameter in twin.parameters.items():
            np.testing.assert_allclose(model.parameters[name], parameter, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("many_shards")
@each_step
@weighted_or_not
def test_the_same_bits_for_any_number_of_threads(layers, loss, y, weighted):
    results = []
    for threads in (1, 2, 3, 4):
        model = build(layers, np.float32)
        trainer = Trainer(model, loss, SGD(0.1), threads=threads)
        losses = [trainer.step(x[:n], y[:n], sample_weight=weights(n, weighted)) for n in (13, 13, 7, 5)]
        results.append([losses, trainer.accuracy, *(p.tobytes() for p in model.parameters.values())])
    assert all(str(result) == str(results[0]) for result in results)


@pytest.mark.usefixtures("many_shards")
def test_accuracy():
    for loss, y, right in [
        ("cross_entropy", K, lambda z: (z.argmax(axis=1) == K).mean()),
        (fastcnn.CrossEntropy(0.1, W5), K, lambda z: (z.argmax(axis=1) == K).mean()),
        ("cross_entropy", np.eye(5)[K], lambda z: (z.argmax(axis=1) == K).mean()),
        ("binary_cross_entropy", np.eye(5)[K], lambda z: ((z > 0) == np.eye(5)[K]).mean()),
    ]:
        model = build(rows)
        trainer = Trainer(model, loss, SGD(0.5))
        for _ in range(4):
            expected = right(model.forward(x))
            trainer.step(x, y)
            assert trainer.accuracy == pytest.approx(expected, rel=1e-12)
    trainer = Trainer(build(rows), "mean_squared_error")
    trainer.step(x, normal(13, 5))
    assert np.isnan(trainer.accuracy)


@pytest.mark.parametrize(
    ("loss", "end", "y"),
    [
        (fastcnn.CrossEntropy(), [Softmax(36, 5)], K),
        (fastcnn.CrossEntropy(0.2), [Softmax(36, 5)], K),
        (fastcnn.CrossEntropy(), [Dense(5), fastcnn.SoftmaxActivation()], K),
        (fastcnn.BinaryCrossEntropy(), [Dense(5), fastcnn.Sigmoid()], np.eye(5)[K]),
    ],
)
def test_a_model_that_ends_in_the_losss_own_function_is_taken_at_its_logits(loss, end, y):
    logits = Sequential([Flatten(), Dense(5)]).build((1, 6, 6), random_state=0, dtype=np.float64)
    probs = Sequential([Flatten(), *end]).build((1, 6, 6), random_state=0, dtype=np.float64)
    probs.layers[1].weights, probs.layers[1].biases = logits.layers[1].weights, logits.layers[1].biases
    for _ in range(2):
        assert Trainer(probs, loss).step(x, y) == Trainer(logits, loss).step(x, y)


@pytest.mark.parametrize("function", [fastcnn.SoftmaxActivation, fastcnn.Sigmoid])
def test_other_losses_see_what_the_model_says(function):
    model = Sequential([Flatten(), Dense(5), function()]).build((1, 6, 6), random_state=0, dtype=np.float64)
    target = probabilities(13, 5)
    value = fastcnn.MeanSquaredError()(model.forward(x), target)
    assert Trainer(model, "mean_squared_error").step(x, target) == pytest.approx(value, rel=1e-12)
    notebook = Sequential([Flatten(), Softmax(36, 5)]).build((1, 6, 6))
    with pytest.raises(ValueError, match=r"^mean_squared_error: model: it ends in Softmax"):
        Trainer(notebook, "mean_squared_error").step(x, target)


def test_one_loss_serves_many_trainers():
    loss, models = fastcnn.CrossEntropy(0.1), [build(rows), build(rows)]
    small = Sequential([Flatten(), Dense(3)]).build((1, 6, 6), random_state=0)
    trainers = [Trainer(models[0], loss), Trainer(small, loss), Trainer(models[1], fastcnn.CrossEntropy(0.1))]
    for _ in range(3):
        first, _, last = (trainer.step(x, K % 3) for trainer in trainers)
        assert first == last


def test_another_loss_later_is_the_one_that_counts():
    """In the middle of training too: with targets of the same kind, and of another."""
    trainer = Trainer(build(rows), optimizer=SGD(0.1))
    for loss, y in (
        (fastcnn.CrossEntropy(), K),
        (fastcnn.MeanSquaredError(), normal(13, 5)),
        (fastcnn.MeanAbsoluteError(), normal(13, 5)),
        (fastcnn.CrossEntropy(0.1, W5), K),
        (fastcnn.Huber(0.1), normal(13, 5)),
    ):
        trainer.loss, twin = loss, Trainer(trainer.model.copy(), loss, SGD(0.1))
        assert [trainer.step(x, y) for _ in range(3)] == [twin.step(x, y) for _ in range(3)]
    trainer.loss = fastcnn.CrossEntropy(class_weight=[1, 1])
    with pytest.raises(ValueError, match="class_weight: expected 5"):
        trainer.step(x, K)


def test_settings_that_are_changed_later_count_or_cannot_be():
    trainer = Trainer(build(rows), "cross_entropy", SGD(0.1))
    for smoothing in (0.0, 0.2, 0.4):
        trainer.loss.label_smoothing = smoothing
        twin = Trainer(trainer.model.copy(), fastcnn.CrossEntropy(smoothing), SGD(0.1))
        assert [trainer.step(x, K) for _ in range(3)] == [twin.step(x, K) for _ in range(3)]
    huber = fastcnn.Huber(0.5)
    with pytest.raises(AttributeError):
        huber.delta = 1.0
    assert (huber.delta, copy.deepcopy(huber).delta) == (0.5, 0.5)


def test_a_single_number_may_have_targets_without_an_axis():
    model = Sequential([Flatten(), Dense(1)]).build((1, 6, 6), random_state=0)
    twin = model.copy()
    y = normal(13)
    assert Trainer(model, "huber").step(x, y) == Trainer(twin, "huber").step(x, y[:, None])


# ----------------------------------------------------------------------------------------------------- what they refuse


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: m.CrossEntropy(1.0), ValueError, "CrossEntropy: label_smoothing: .* got 1.0"),
        (lambda m: m.CrossEntropy(-0.1), ValueError, "CrossEntropy: label_smoothing: .* got -0.1"),
        (lambda m: m.CrossEntropy(True), TypeError, "CrossEntropy: label_smoothing: .* got True"),
        (lambda m: m.CrossEntropy(0, [1, -1]), ValueError, "CrossEntropy: class_weight: .* at least 0"),
        (lambda m: m.CrossEntropy(0, [1, np.nan]), ValueError, "CrossEntropy: class_weight: .*"),
        (lambda m: m.CrossEntropy(0, ["a"]), TypeError, "CrossEntropy: class_weight: .*"),
        (lambda m: m.CrossEntropy(0, [1, 1])(normal(2, 3), [0, 1]), ValueError, ".*class_weight: expected 3 .*got 2"),
        (lambda m: m.CrossEntropy(0, [1, 0])(normal(2, 2), [1, 1]), ValueError, ".* not 0.* got a sum of 0"),
        (lambda m: m.CrossEntropy(0.1)(normal(2, 3), [0, 3]), ValueError, ".*target: .* 0 to 2.* got 3"),
        (lambda m: m.CrossEntropy()(normal(2, 3), [-1, 3]), ValueError, ".*target: .*; got -1 and 1 more beyond"),
        (lambda m: m.CrossEntropy()(normal(2, 3), [0.0, 1.0]), TypeError, ".*target: .* got dtype float64"),
        (lambda m: m.CrossEntropy()(normal(2, 3), [0, 1, 1]), ValueError, r".*target: .* \(2,\).*got shape \(3,\)"),
        (lambda m: m.CrossEntropy()(normal(2, 3), np.eye(2, dtype=int)), ValueError, r".*\(2, 3\).*got shape \(2, 2\)"),
        (lambda m: m.CrossEntropy()(normal(2, 2), np.ones((2, 2))), ValueError, ".*target: .* sum to 1"),
        (lambda m: m.CrossEntropy()(normal(2, 2), [[1.5, -0.5]] * 2), ValueError, ".*target: .* sum to 1"),
        (lambda m: m.CrossEntropy()(np.zeros((0, 3)), []), ValueError, r".*output: .* got shape \(0, 3\)"),
        (lambda m: m.CrossEntropy()(1j * normal(2, 3), [0, 1]), TypeError, ".*output: .* complex128"),
        (lambda m: m.CrossEntropy()(normal(2, 3), [0, 1], [1]), ValueError, r".*sample_weight: .* \(2,\); .*\(1,\)"),
        (lambda m: m.CrossEntropy()(normal(2, 3), [0, 1], [1, -1]), ValueError, ".*sample_weight: .* -1"),
        (lambda m: m.CrossEntropy()(normal(2, 3), [0, 1], [1, np.inf]), ValueError, ".*sample_weight: .* inf"),
        (lambda m: m.MeanSquaredError()(normal(2), normal(2), [0, 0]), ValueError, ".* sum of 0"),
        (lambda m: m.MeanSquaredError()(normal(3, 2), normal(3)), ValueError, r".*target: .*\(3, 2\).* got .*\(3,\)"),
        (lambda m: m.MeanSquaredError()(normal(3, 2), ["a"] * 3), TypeError, ".*target: .*"),
        (lambda m: m.BinaryCrossEntropy()([0.0], [2]), ValueError, r".*target: .* \[0, 1\]; got 2"),
        (lambda m: m.BinaryCrossEntropy()([0.0], [np.nan]), ValueError, r".*target: .* \[0, 1\]; got nan"),
        (lambda m: m.Huber(0), ValueError, "Huber: delta: .* got 0"),
        (lambda m: m.Huber("1"), TypeError, "Huber: delta: .* got '1'"),
        (lambda m: Trainer(build(maps)).step(x, K), ValueError,
         r"cross_entropy: y: expected shape \(13, 6, 6\), .*got shape \(13,\), .* for one class an image, end it in D"),
        (lambda m: Trainer(build(maps)).step(x, MASKS[:, :5]), ValueError, r".*y: .*\(13, 6, 6\).*got .*\(13, 5, 6\)$"),
        (lambda m: Trainer(build(maps)).step(x, MASKS / 1), TypeError, ".*y: expected integer classes; got .*float64"),
        (lambda m: Trainer(build(maps)).step(x, 2 * MASKS), ValueError, ".*y: expected classes from 0 to 1; got 2 and"),
        (lambda m: Trainer(build(maps), m.CrossEntropy(ignore_index=3)).step(x, 2 * MASKS), ValueError,
         ".*y: expected classes from 0 to 1, or ignore_index = 3; got 2 and "),
        (lambda m: Trainer(build(maps), m.CrossEntropy(ignore_index=-1)).step(x, MASKS.astype(np.uint64) - 1),
         ValueError, ".*y: .* or ignore_index = -1; got 18446744073709551615"),
        (lambda m: m.CrossEntropy(ignore_index=0)(normal(2, 2), np.eye(2)), ValueError, ".*integer classes with ign"),
        (lambda m: m.CrossEntropy(ignore_index=1.0), TypeError, "CrossEntropy: ignore_index: .* got 1.0"),
        (lambda m: m.CrossEntropy(ignore_index=0)(normal(2, 2), [0, 0], [0, 0]), ValueError, ".* got a sum of 0"),
        (lambda m: Trainer(build(rows), m.CrossEntropy(0, [1, 1])).step(x, K), ValueError, ".*class_weight: .* got 2"),
        (lambda m: Trainer(build(rows), "huber").step(x, K), ValueError, r"huber: y: .*\(13, 5\).*got shape \(13,\)"),
        (lambda m: Trainer(build(rows)).step(x, K, sample_weight=K - 1), ValueError, ".*sample_weight: .*"),
        (lambda m: Trainer(build(rows), "mse"), ValueError, "Trainer: loss: expected one of .*got 'mse'"),
        (lambda m: Trainer(build(rows), m.MeanSquaredError), TypeError, "Trainer: loss: .*"),
        (lambda m: Trainer(Sequential([Flatten()]), "huber").step(normal(3, 4), normal(3, 4)), ValueError, ".*model: "),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(call, error, message):
    with pytest.raises(error, match="^" + message):
        call(fastcnn)
