"""A layer is a part of one model: what it brings, what it refuses, and how its weights come to other models."""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn import BatchNorm, Conv2D, Dense, Flatten, ReLU, Residual, Sequential, Softmax, Trainer

SHAPE = (1, 6, 6)
X, Y = np.random.RandomState(0).rand(12, *SHAPE), np.arange(12) % 3


def trained() -> Sequential:
    layers = [Conv2D(4, 3), BatchNorm(), ReLU(), Residual([Conv2D(4, 3, padding=1)]), Flatten(), Dense(3)]
    model = Sequential(layers).build(SHAPE, random_state=0, dtype=np.float64)
    Trainer(model).step(X, Y)
    return model


def copies(model: Sequential) -> list:
    return [layer.copy() for layer in model.layers]


def test_a_copy_brings_its_weights_and_running_statistics():
    model = trained()
    twin = Sequential(copies(model)).build(SHAPE, random_state=1, dtype=np.float64)
    np.testing.assert_array_equal(twin.predict(X), model.predict(X))
    Trainer(twin).step(X, Y)
    assert (twin.predict(X) != model.predict(X)).any()


def test_a_new_end_is_drawn_and_the_rest_stays():
    """As in transfer learning; the images may have another size, where no weight depends on it."""
    model = trained()
    changed = Sequential([*copies(model)[:-1], Dense(5)]).build((1, 7, 6), random_state=1)
    for place, ours in model.parameters.items():
        if place not in ("5.weights", "5.biases"):
            np.testing.assert_array_equal(changed.parameters[place], ours.astype(np.float32))
    assert changed.output_shape((1, 7, 6)) == (5,)


def test_a_whole_model_in_another_one_shares_its_weights():
    """There is one vector: both see each step."""
    model = trained()
    before = model.predict(X)
    whole = Sequential([model, ReLU()]).build(SHAPE, dtype=np.float64)
    np.testing.assert_array_equal(whole.predict(X), np.maximum(before, 0))
    Trainer(whole).step(X, Y)
    assert (model.predict(X) != before).any()
    np.testing.assert_array_equal(whole.predict(X), np.maximum(model.predict(X), 0))


@pytest.mark.parametrize("trains", [False, True])
def test_the_notebooks_layers_bring_what_they_have_learnt(trains):
    """A `Softmax` draws its first weights for itself; in a model they are the model's, unless it was used."""
    convolution, softmax = Conv2D(2, 3, random_state=0), Softmax(32, 3, random_state=np.random.RandomState(0))
    first = softmax.weights.copy()
    model = Sequential([convolution, softmax])
    if trains:
        probs = softmax.forward(convolution.forward(X))
        convolution.backward(softmax.backward(probs - np.eye(3)[Y], learning_rate=0.1), learning_rate=0.1)
        probs = softmax.forward(convolution.forward(X))
        np.testing.assert_array_equal(model.forward(X), probs)
    else:
        model.build(SHAPE)
        assert (softmax.weights != first).all()


def test_a_model_that_is_built_again_begins_anew():
    model = trained()
    model.build(SHAPE, random_state=0, dtype=np.float64)
    fresh = Sequential([Conv2D(4, 3), Flatten()]).build(SHAPE, random_state=0, dtype=np.float64)
    np.testing.assert_array_equal(model.parameters["0.filters"], fresh.parameters["0.filters"])


@pytest.mark.parametrize(
    "take",
    [
        lambda layers: Sequential([*layers[:-1], Dense(5)]),
        lambda layers: Sequential([Conv2D(4, 3), *layers[2:]]),
        lambda layers: Sequential(
            [ReLU(), Residual([Conv2D(4, 3), *layers[3:4]], [Conv2D(4, 3)]), Flatten(), Dense(2)]
        ),
    ],
    ids=["first", "without parameters", "inside"],
)
@pytest.mark.parametrize("use", ["build", "forward", "step"])
def test_a_layer_of_another_model_is_refused(take, use):
    model = trained()
    before = model.predict(X)
    other = take(model.layers)
    uses = {"build": lambda: other.build(SHAPE), "forward": lambda: other.forward(X),
            "step": lambda: Trainer(other).step(X, Y)}  # fmt: skip
    with pytest.raises(ValueError, match=r"layer \d: .*: this object is a part of another model.*layer\.copy\(\)"):
        uses[use]()
    np.testing.assert_array_equal(model.predict(X), before)


def test_a_layer_of_a_model_is_not_built_alone():
    model = trained()
    with pytest.raises(RuntimeError, match="Conv2D: build: it is a part of a model"):
        model.layers[0].build(SHAPE)
    inner = Sequential([Flatten()])
    Sequential([inner, Dense(2)]).build(SHAPE)
    with pytest.raises(RuntimeError, match="Sequential: build: it is a part of a model"):
        inner.build(SHAPE)


def test_weights_of_another_shape_are_refused_and_stay():
    model = trained()
    layers = copies(model)
    with pytest.raises(ValueError, match=r"layer 5: Dense: input: expected samples of shape \(64,\).*; got \(80,\)"):
        Sequential(layers).build((1, 7, 6))
    for layer, original in zip(layers, model.layers, strict=True):
        for ours, theirs in zip(layer.get_weights(), original.get_weights(), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6)
