"""Saliency, Grad-CAM, occlusion, mistakes and dead units, against the reference and finite differences."""

from __future__ import annotations

import doctest
import importlib
import pickle

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastcnn
from fastcnn import (
    BatchNorm,
    CNNClassifier,
    CNNRegressor,
    Conv2D,
    Dense,
    Flatten,
    GlobalAvgPool2D,
    ReLU,
    Residual,
    Sequential,
    Sigmoid,
    SoftmaxActivation,
    Tanh,
    Trainer,
    draws,
)
from fastcnn.inspection import Mistakes, dead_units, grad_cam, occlusion, saliency, worst_mistakes
from fastcnn.inspection.attribution import resize
from tests.arrays import normal
from tests.models import MODEL_CASES

EVERY = [*MODEL_CASES]
OF_IMAGES = [case for case in MODEL_CASES if len(case.input_shape) == 3]


def smooth(dtype=np.float64) -> Sequential:
    """Return a model without kinks: a residual block, batch norms with statistics of their own."""
    block = [Conv2D(6, 3, padding=1), BatchNorm(), Tanh(name="inner"), Conv2D(6, 3, padding=1, bias=False)]
    model = Sequential(
        [Conv2D(6, 3, name="first"), Residual(block), BatchNorm(name="norm"), Tanh(), GlobalAvgPool2D(), Dense(4)]
    ).build((2, 7, 6), random_state=0, dtype=dtype)
    for norm in (model.layers[2], model.layers[1].layers[1]):
        norm.running_mean, norm.running_var = np.linspace(-1, 1, 6), np.linspace(0.5, 2, 6)
    return model


def classes_of(model) -> int:
    return model.output_shape(model.input_shape)[0]


# ----------------------------------------------------------------------------------------------------------- saliency


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("case", EVERY, ids=str)
def test_saliency_is_the_gradient_of_the_reference(case, n):
    """The reference's `Softmax` takes the gradient by its logits."""
    model, x = case.build(), case.batch(n)
    chain, targets = case.chain(model), np.arange(n) % classes_of(model)
    output = chain.forward(x)
    chosen = np.zeros(output.shape)
    chosen[np.arange(n), targets] = 1
    gradient = saliency(model, x, targets)
    np.testing.assert_allclose(gradient, chain.backward(chosen), rtol=0, atol=1e-10)
    likeliest = saliency(model, x)
    np.testing.assert_array_equal(likeliest, saliency(model, x, output.argmax(axis=1)))


def test_saliency_is_the_slope_of_the_score():
    model, x, way = smooth(), normal(5, 2, 7, 6), normal(5, 2, 7, 6, seed=1)
    for target in range(4):
        gradient = saliency(model, x, target)
        slope = (model.predict(x + 1e-5 * way) - model.predict(x - 1e-5 * way))[:, target] / 2e-5
        np.testing.assert_allclose((gradient * way).sum(axis=(1, 2, 3)), slope, rtol=1e-6, atol=1e-9)


def test_many_samples_are_differentiated_one_by_one():
    model, x = smooth(np.float32), normal(150, 2, 7, 6, dtype=np.float32)
    whole = saliency(model, x, np.arange(150) % 4)
    for n in (0, 63, 64, 149):
        np.testing.assert_allclose(whole[n : n + 1], saliency(model, x[n : n + 1], n % 4), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("last", [SoftmaxActivation, Sigmoid])
def test_the_score_is_taken_before_a_last_softmax(last):
    model = smooth()
    probabilities = Sequential([*(layer.copy() for layer in model), last()]).build(
        (2, 7, 6), random_state=0, dtype=np.float64
    )
    x = normal(3, 2, 7, 6)
    np.testing.assert_allclose(saliency(probabilities, x, 1), saliency(model, x, 1), rtol=0, atol=1e-12)


def test_smooth_grad_is_the_mean_gradient_around_the_sample():
    model, x = smooth(), normal(3, 2, 7, 6)
    generator = np.random.RandomState(7)
    width = 0.2 * (x.max(axis=(1, 2, 3)) - x.min(axis=(1, 2, 3))).reshape(-1, 1, 1, 1)
    near = [saliency(model, x + width * draws.normal(generator, x.shape), 2) for _ in range(4)]
    found = saliency(model, x, 2, method="smooth_grad", samples=4, noise=0.2, random_state=7)
    np.testing.assert_allclose(found, np.mean(near, axis=0), rtol=0, atol=1e-12)
    still = saliency(model, x, 2, method="smooth_grad", samples=3, noise=0, random_state=0)
    np.testing.assert_allclose(still, saliency(model, x, 2), rtol=0, atol=1e-12)


def test_integrated_gradients_add_up_to_the_difference_of_the_scores():
    model, x = smooth(), normal(3, 2, 7, 6)
    for baseline in (None, 0.5, [1.0, -1.0]):
        start = np.zeros_like(x) + np.reshape(0 if baseline is None else baseline, (1, -1, 1, 1))
        found = saliency(model, x, 1, method="integrated_gradients", steps=200, baseline=baseline)
        difference = (model.predict(x) - model.predict(start))[:, 1]
        np.testing.assert_allclose(found.sum(axis=(1, 2, 3)), difference, rtol=1e-3)
    linear = Sequential([Flatten(), Dense(3)]).build((2, 7, 6), random_state=0, dtype=np.float64)
    found = saliency(linear, x, 0, method="integrated_gradients", steps=1)
    np.testing.assert_allclose(found, x * linear[1].weights[:, 0].reshape(2, 7, 6), rtol=0, atol=1e-12)


FORMS = {
    "rows": lambda X: X.reshape(len(X), -1),
    "images": lambda X: X,
    "channels first": lambda X: X[:, None],
    "channels last": lambda X: X[..., None],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", [CNNClassifier, CNNRegressor])
def test_the_saliency_of_an_estimator_is_by_the_numbers_of_x(kind, form):
    X = FORMS[form](10 + 4 * np.random.RandomState(0).rand(30, 6, 6))
    y = np.array(["a", "b", "c"])[np.arange(30) % 3] if kind is CNNClassifier else np.arange(90).reshape(30, 3) % 7.0
    layers = [Conv2D(4, 3), Tanh(), Flatten(), Dense(3)]
    estimator = kind(layers, max_iter=2, random_state=0).fit(X, y)
    target = "c" if kind is CNNClassifier else 2
    gradient = saliency(estimator, X, target)
    assert gradient.shape == X.shape
    way = np.random.RandomState(1).standard_normal(X.shape)
    slope = (estimator._outputs(X + 0.02 * way) - estimator._outputs(X - 0.02 * way))[:, 2] / 0.04
    axes = tuple(range(1, X.ndim))
    np.testing.assert_allclose((gradient * way).sum(axis=axes), slope, rtol=2e-2, atol=1e-3)
    integrated = saliency(estimator, X, target, method="integrated_gradients", steps=100)
    darkest = estimator._outputs(np.full_like(X, X.min()))[:, 2]
    difference = estimator._outputs(X)[:, 2] - darkest
    np.testing.assert_allclose(integrated.sum(axis=axes), difference, rtol=1e-2, atol=1e-3)
    assert integrated.shape == X.shape
    same = saliency(estimator, X, target, method="integrated_gradients", steps=100, baseline=X.min())
    np.testing.assert_allclose(same, integrated, rtol=1e-4, atol=1e-5)


def test_the_saliency_of_strips():
    X = np.random.RandomState(0).standard_normal((40, 7)) * [1, 10, 100, 1, 1, 1, 1]
    estimator = CNNRegressor([Flatten(), Dense(4), Tanh(), Dense(1)], max_iter=2, random_state=0).fit(X, X[:, 0])
    gradient, way = saliency(estimator, X), np.random.RandomState(1).standard_normal(X.shape)
    slope = (estimator._outputs(X + 1e-5 * way) - estimator._outputs(X - 1e-5 * way))[:, 0] / 2e-5
    np.testing.assert_allclose((gradient * way).sum(axis=1), slope, rtol=1e-5, atol=1e-8)


def test_bytes_are_numbers_from_0_to_1():
    model, x = smooth(np.float32), np.random.RandomState(0).randint(0, 256, (3, 2, 7, 6)).astype(np.uint8)
    np.testing.assert_allclose(saliency(model, x, 0), saliency(model, x / 255, 0), rtol=1e-4, atol=1e-6)


# ----------------------------------------------------------------------------------------------------------- Grad-CAM


def cam(maps, slopes):
    """Return the formula of the docstring, with loops."""
    heat = np.zeros((len(maps), *maps.shape[2:]))
    for n, (a, g) in enumerate(zip(maps, slopes, strict=True)):
        alpha = [g[k].sum() / g[k].size for k in range(len(a))]
        for i in range(a.shape[1]):
            for j in range(a.shape[2]):
                heat[n, i, j] = max(0.0, sum(alpha[k] * a[k, i, j] for k in range(len(a))))
    return heat


@pytest.mark.parametrize("case", OF_IMAGES, ids=str)
def test_grad_cam_of_every_layer_with_maps_is_that_of_the_reference(case):
    model, x = case.build(), case.batch(2)
    chain, found = case.chain(model), {}
    output = x
    for place, layer in enumerate(chain.layers):
        output = found[place] = layer.forward(output)
    slope = np.zeros(output.shape)
    slope[:, 1] = 1
    for place in reversed(range(len(chain.layers))):
        if found[place].ndim == 4:
            expected = cam(found[place], slope)
            np.testing.assert_allclose(grad_cam(model, x, 1, layer=place), expected, rtol=0, atol=1e-9)
        slope = chain.layers[place].backward(slope)


def test_grad_cam_inside_a_residual_block():
    """S = w · mean(x + A) + b, so that alpha is w / (h·w)."""
    model = Sequential([Residual([Conv2D(3, 3, padding=1), Tanh(name="inner")]), GlobalAvgPool2D(), Dense(2)])
    x = normal(4, 3, 5, 6)
    model.build((3, 5, 6), random_state=0, dtype=np.float64)
    w, a = model[-1].weights, model.outputs(x, "inner")["inner"]
    expected = np.maximum(np.einsum("k,nkij->nij", w[:, 1], a) / 30, 0)
    for layer in ("inner", "0.layers.1"):
        np.testing.assert_allclose(grad_cam(model, x, 1, layer=layer), expected, rtol=0, atol=1e-12)
    whole = np.einsum("k,nkij->nij", w[:, 1], a + x) / 30
    np.testing.assert_allclose(grad_cam(model, x, 1), np.maximum(whole, 0), rtol=0, atol=1e-12)


def test_the_layer_of_grad_cam_is_the_last_with_several_pixels_behind_a_convolution():
    x = normal(2, 2, 7, 6, dtype=np.float32)
    model = smooth(np.float32)
    np.testing.assert_array_equal(grad_cam(model, x, 0), grad_cam(model, x, 0, layer=3))
    narrow = Sequential([Conv2D(3, 3), ReLU(), Conv2D(2, (5, 4)), Flatten(), Dense(2)]).build((2, 7, 6), random_state=0)
    assert grad_cam(narrow, x).shape == (2, 5, 4)
    assert grad_cam(narrow, x, layer=2).shape == (2, 1, 1)
    assert grad_cam(narrow, x, size="input").shape == (2, 7, 6)
    many = normal(130, 2, 7, 6, dtype=np.float32)
    whole = grad_cam(model, many, 0)
    np.testing.assert_allclose(whole[100:103], grad_cam(model, many[100:103], 0), rtol=1e-4, atol=1e-6)


def test_resized_maps():
    maps = np.array([[[0.0, 1.0], [2.0, 3.0]]])
    np.testing.assert_array_equal(resize(maps, (2, 2)), maps)
    np.testing.assert_array_equal(resize(maps, (4, 2))[0, :, 0], [0, 0.5, 1.5, 2])
    np.testing.assert_array_equal(resize(np.full((1, 1, 1), 3.0), (2, 3)), np.full((1, 2, 3), 3.0))


# ---------------------------------------------------------------------------------------------------------- occlusion


@pytest.mark.parametrize(("size", "stride", "value"), [(None, 1, None), (2, 2, 0.5), ((1, 4), (3, 1), None)])
@pytest.mark.parametrize("case", [c for c in OF_IMAGES if c.name in ("lenet", "vgg", "pool-then-relu")], ids=str)
def test_occlusion_is_the_fall_of_the_references_score(case, size, stride, value):
    model, x = case.build(), case.batch(2)
    chain = case.chain(model)
    tall, wide = (3, 3) if size is None else (size, size) if isinstance(size, int) else size
    down, right = (stride, stride) if isinstance(stride, int) else stride
    found = occlusion(model, x, 1, size=size, stride=stride, value=value)
    height, width = x.shape[2:]
    assert found.shape == (2, (height - tall) // down + 1, (width - wide) // right + 1)
    before = chain.forward(x)[:, 1]
    places = [(0, 0), (found.shape[1] - 1, found.shape[2] - 1), (1, 2)]
    for i, j in places:
        covered = x.copy()
        covered[:, :, i * down : i * down + tall, j * right : j * right + wide] = value or 0
        np.testing.assert_allclose(found[:, i, j], before - chain.forward(covered)[:, 1], rtol=0, atol=1e-10)


def test_occlusion_of_an_estimator_covers_with_the_darkest_value():
    X = 10 + np.random.RandomState(0).rand(30, 6, 6)
    estimator = CNNClassifier([Conv2D(3, 3), ReLU()], max_iter=2, random_state=0).fit(X, np.arange(30) % 3)
    found = occlusion(estimator, X, 2, size=2)
    covered = X.copy()
    covered[:, 1:3, 3:5] = X.min()
    expected = (estimator.decision_function(X) - estimator.decision_function(covered))[:, 2]
    np.testing.assert_allclose(found[:, 1, 3], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(occlusion(estimator, X, 2, size=2, value=X.min()), found, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 1, 1), (1, 1, 4), (1, 2, 1)])
def test_the_smallest_images(shape):
    model = Sequential([Conv2D(3, 1), Tanh(), Flatten(), Dense(2)]).build(shape, random_state=0)
    x = np.ones((1, *shape), np.float32)
    assert saliency(model, x).shape == x.shape
    assert grad_cam(model, x).shape == (1, *shape[1:])
    assert occlusion(model, x, size=shape[1:]).size == 1
    one = occlusion(model, x, 0, size=1)
    assert one.shape == (1, *shape[1:])


# -------------------------------------------------------------------------------------------- mistakes and dead units


def test_worst_mistakes_are_those_of_the_largest_cross_entropy():
    rng = np.random.RandomState(0)
    X, y = rng.rand(60, 36), np.array([10, 20, 30])[rng.randint(3, size=60)]
    estimator = CNNClassifier([Conv2D(3, 3), ReLU()], max_iter=3, random_state=0).fit(X, y)
    proba, found = estimator.predict_proba(X), worst_mistakes(estimator, X, y)
    truth = proba[np.arange(60), y // 10 - 1]
    wrong = np.flatnonzero(estimator.predict(X) != y)
    assert len(wrong) > 3
    np.testing.assert_array_equal(found.indices, wrong[np.argsort(truth[wrong], kind="stable")])
    np.testing.assert_array_equal(found.truth, y[found.indices])
    np.testing.assert_array_equal(found.predicted, estimator.predict(X)[found.indices])
    np.testing.assert_allclose(found.probability, proba.max(axis=1)[found.indices], rtol=1e-6)
    np.testing.assert_allclose(found.probability_of_truth, truth[found.indices], rtol=1e-6)
    np.testing.assert_allclose(found.loss, -np.log(truth[found.indices]), rtol=1e-5)
    first = worst_mistakes(estimator, X, y, count=2)
    assert isinstance(first, Mistakes)
    assert all(np.array_equal(a, b[:2]) for a, b in zip(first, found, strict=True))


@pytest.mark.parametrize("last", [[Dense(3)], [Dense(3), SoftmaxActivation()], [fastcnn.Softmax(4, 3)]])
def test_worst_mistakes_of_a_model_and_of_a_trainer(last):
    model = Sequential(last).build((4,), random_state=0, dtype=np.float64)
    x, y = normal(30, 4), np.arange(30) % 3
    found = worst_mistakes(model, x, y)
    p = np.exp(model.predict(x)) if type(last[-1]) is Dense else model.predict(x)
    p /= p.sum(axis=1, keepdims=True)
    assert {*found.indices} == {*np.flatnonzero(p.argmax(axis=1) != y)}
    np.testing.assert_allclose(found.loss, -np.log(p[found.indices, found.truth]), rtol=1e-8)
    assert worst_mistakes(Trainer(model), x, y).indices.tolist() == found.indices.tolist()
    assert all(len(array) == 0 for array in worst_mistakes(model, x, p.argmax(axis=1)))


def test_dead_units_are_those_that_no_sample_wakes():
    model = Sequential([Conv2D(4, 3), BatchNorm(), ReLU(), Residual([Conv2D(4, 1), ReLU()]), Flatten(), Dense(2)])
    model.build((1, 6, 5), random_state=0)
    model[1].beta = [0, -100, 0, 0]
    model[3].layers[0].biases = [-100, 0, 0, -100]
    x = normal(100, 1, 6, 5, dtype=np.float32)
    found = dead_units(model, x)
    assert [*found] == ["2", "3.layers.1"]
    assert found["2"].tolist() == [False, True, False, False]
    assert found["3.layers.1"].tolist() == [True, False, False, True]
    for n in (0, -1):  # a single sample wakes a unit, in the first batch or in the last
        once = x.copy()
        once[n] *= 1e4
        woken = dead_units(model, once)["2"]
        assert woken.tolist() == [False] * 4
    assert woken.dtype == bool


# -------------------------------------------------------------------------------------------- what they have in common

CALLS = {
    "gradient": saliency,
    "smooth_grad": lambda model, x: saliency(model, x, method="smooth_grad", samples=2, random_state=0),
    "integrated_gradients": lambda model, x: saliency(model, x, method="integrated_gradients", steps=2),
    "grad_cam": grad_cam,
    "occlusion": lambda model, x: occlusion(model, x, size=4, stride=3),
    "worst_mistakes": lambda model, x: worst_mistakes(model, x, np.zeros(len(x), int)),
    "dead_units": dead_units,
}


@pytest.mark.parametrize("call", CALLS)
def test_nothing_changes_in_the_model(call):
    block = Residual([Conv2D(4, 3, padding=1), fastcnn.Dropout(0.5), ReLU()])
    model = Sequential([Conv2D(4, 3), BatchNorm(), ReLU(), block, Flatten(), Dense(3)]).build((2, 8, 7), random_state=0)
    x = normal(5, 2, 8, 7, dtype=np.float32)
    first = model.forward(x)
    before = pickle.dumps(model)
    gradients, digest = dict(model.gradients), model.digest()
    mine, state = x.copy(), np.random.get_state()[1].copy()
    CALLS[call](model, x)
    assert model.training
    assert pickle.dumps(model) == before
    assert model.digest() == digest
    assert {*model.gradients} == {*gradients}
    np.testing.assert_array_equal(x, mine)
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    assert model.backward(np.ones_like(first)).shape == x.shape  # of the forward pass before


@pytest.mark.parametrize("call", CALLS)
def test_what_is_no_model_is_refused(call):
    x, y = np.random.RandomState(0).rand(6, 1, 6, 6), np.arange(6) % 2
    with pytest.raises(TypeError, match="model: expected a Sequential, a Trainer, a CNNClassifier or a CNNRegressor"):
        CALLS[call]("model", x)
    pipeline = make_pipeline(StandardScaler(), CNNClassifier([ReLU()], max_iter=2)).fit(x.reshape(6, 36), y)
    with pytest.raises(TypeError, match=r"got Pipeline: take its last step, pipeline\[-1\]"):
        CALLS[call](pipeline, x)
    with pytest.raises(RuntimeError, match="not built yet"):
        CALLS[call](Sequential([Dense(2)]), x)
    with pytest.raises(NotFittedError):
        CALLS[call](CNNClassifier(), x)
    model = Sequential([Conv2D(2, 3), ReLU(), Flatten(), Dense(2)]).build((1, 6, 6), random_state=0)
    with pytest.raises(ValueError, match="expected samples of shape"):
        CALLS[call](model, np.zeros((1, 1, 6, 7)))
    with pytest.raises(ValueError, match="X: expected finite numbers; got NaN or infinity"):
        CALLS[call](model, x + np.nan)
    with pytest.raises(TypeError, match="X: expected real numbers"):
        CALLS[call](model, x + 1j)


def maps_only() -> Sequential:
    return Sequential([Conv2D(2, 3), ReLU()]).build((1, 6, 6), random_state=0)


def features() -> Sequential:
    return Sequential([Dense(3), Dense(2)]).build((4,), random_state=0)


X4, X6 = np.zeros((2, 4)), np.zeros((2, 1, 6, 6))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: saliency(maps_only(), X6), ValueError, r"saliency: model: expected outputs of shape \(N, classes\)"),
        (lambda: saliency(features(), X4, 2), ValueError, "target: expected one of the classes 0, 1; got 2"),
        (lambda: saliency(features(), X4, True), ValueError, "target: expected one of the classes"),
        (lambda: saliency(features(), X4, [0, 1, 1]), ValueError, "target: expected a single class, or one for each"),
        (lambda: saliency(features(), X4, method="nonsense"), ValueError, "method: expected one of gradient"),
        (lambda: saliency(features(), X4, method="smooth_grad", samples=0), ValueError, "samples: expected a positive"),
        (lambda: saliency(features(), X4, method="smooth_grad", noise=-1), ValueError, "noise: expected a finite"),
        (lambda: saliency(features(), X4, method="integrated_gradients", steps=1.5), TypeError, "steps: expected"),
        (
            lambda: saliency(features(), X4, method="integrated_gradients", baseline=[1, 2]),
            ValueError,
            "baseline: expected a finite number, or one for each channel",
        ),
        (lambda: grad_cam(features(), X4), ValueError, "grad_cam: model: expected a convolution"),
        (lambda: grad_cam(features(), X4, layer=0), ValueError, r"layer: expected one with maps \(C, h, w\); 0 has"),
        (lambda: grad_cam(features(), X4, layer="x"), ValueError, "layer: expected the place or the name"),
        (lambda: grad_cam(maps_only(), X6, size=3), ValueError, "size: expected 'layer' or 'input'; got 3"),
        (lambda: occlusion(features(), X4), ValueError, "occlusion: model: expected a model of images"),
        (lambda: occlusion(maps_only(), X6, size=7), ValueError, r"size: expected at most the image's \(6, 6\)"),
        (lambda: occlusion(maps_only(), X6, size=(1, 2, 3)), ValueError, "size: expected an int or"),
        (lambda: occlusion(maps_only(), X6, stride=0), ValueError, "stride: expected a positive int"),
        (lambda: worst_mistakes(features(), X4, [0, 5]), ValueError, "y: expected classes of 0, 1; got 5"),
        (lambda: worst_mistakes(features(), X4, [0]), ValueError, r"y: expected shape \(2,\)"),
        (lambda: worst_mistakes(features(), X4, [0, 1], count=0), ValueError, "count: expected a positive int"),
        (lambda: dead_units(features(), X4), ValueError, "dead_units: model: expected a ReLU"),
    ],
)
def test_errors_name_the_argument(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_what_tells_no_class_is_refused_or_asked_for_one():
    X = np.random.RandomState(0).rand(20, 36)
    regressor = CNNRegressor([Flatten()], max_iter=2, random_state=0).fit(X, X[:, :2])
    with pytest.raises(ValueError, match="worst_mistakes: model: expected a classifier with one class a sample"):
        worst_mistakes(regressor, X, X[:, 0])
    with pytest.raises(ValueError, match="saliency: target: expected the number of an output, 0 to 1; got None"):
        saliency(regressor, X)
    labels = CNNClassifier([Flatten()], max_iter=2, random_state=0).fit(X, (X[:, :3] > 0.5).astype(int))
    assert saliency(labels, X, 2).shape == X.shape
    with pytest.raises(ValueError, match="got CNNClassifier of several labels"):
        worst_mistakes(labels, X, X[:, 0])


@pytest.mark.parametrize("module", ["attribution", "patches", "mistakes", "units"])
def test_the_examples_run(module):
    assert doctest.testmod(importlib.import_module(f"fastcnn.inspection.{module}")).failed == 0


def test_names():
    assert fastcnn.inspection.saliency is saliency
    assert set(fastcnn.inspection.__all__) <= {*dir(fastcnn.inspection)}
