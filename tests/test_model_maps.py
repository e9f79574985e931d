"""Layers of a model one by one: feature maps against the reference, slices, iteration."""

from __future__ import annotations

import doctest
import pickle
import threading

import numpy as np
import pytest

import fastcnn
import fastcnn.model
import reference
from fastcnn import BatchNorm, Concat, Conv2D, Dense, Dropout, Flatten, MaxPool2D, ReLU, Residual, Sequential, Trainer
from tests.arrays import normal
from tests.models import MODEL_CASES


def block(m):
    """Return layers with a residual block, batch norms, branches and a model in a model."""
    inner = [m.Conv2D(6, 3, padding=1, random_state=1), m.BatchNorm(), m.ReLU(), m.Conv2D(6, 3, 2, 1, random_state=2)]
    return [
        m.Conv2D(4, 3, padding=1, random_state=0), m.ReLU(), m.Residual(inner, "pad"), m.ReLU(),
        m.Concat([[], [m.Conv2D(3, 1, random_state=3), m.Tanh()]]), m.Dropout(0.5), m.GlobalAvgPool2D(),
        m.Dense(5, random_state=4),
    ]  # fmt: skip


def residual(dtype=np.float64, **names) -> Sequential:
    model = Sequential(block(fastcnn)).build((2, 8, 6), random_state=0, dtype=dtype)
    model.layers[2].layers[1].running_mean = np.linspace(-1, 1, 6)
    model.layers[2].layers[1].running_var = np.linspace(0.5, 2, 6)
    return model


@pytest.mark.parametrize("case", MODEL_CASES, ids=str)
def test_every_map_is_that_of_the_reference(case):
    model, x = case.build(), case.batch(3)
    expected, maps = x, model.outputs(x)
    assert [*maps] == [str(place) for place in range(len(model))]
    for place, layer in enumerate(case.chain(model).layers):
        expected = layer.forward(expected)
        np.testing.assert_allclose(maps[str(place)], expected, rtol=0, atol=1e-10)
    np.testing.assert_allclose(maps[str(len(model) - 1)], model.predict(x), rtol=0, atol=1e-10)


def test_maps_inside_blocks_are_those_of_the_reference():
    model, x = residual(), normal(3, 2, 8, 6)
    maps, twin = model.outputs(x), reference.Residual([*block(reference)[2].layers], "pad").build((4, 8, 6))
    assert [*maps] == [
        "0", "1", "2", "2.layers.0", "2.layers.1", "2.layers.2", "2.layers.3", "3",
        "4", "4.branches.1.0", "4.branches.1.1", "5", "6", "7",
    ]  # fmt: skip
    assert [*maps] == [line.split()[0] for line in model.summary().splitlines()[1:-2]]
    for name, array in twin.parameters.items():
        array[...] = model.parameters[f"2.{name}"]
    norm = twin.layers[1]
    norm.running_mean[...], norm.running_var[...] = np.linspace(-1, 1, 6), np.linspace(0.5, 2, 6)
    twin.training = False
    for layer in twin.layers:
        layer.training = False
    value = maps["1"]
    for place, layer in enumerate(twin.layers):
        value = layer.forward(value)
        np.testing.assert_allclose(maps[f"2.layers.{place}"], value, rtol=0, atol=1e-10)
    np.testing.assert_allclose(maps["2"], twin.forward(maps["1"]), rtol=0, atol=1e-10)
    np.testing.assert_array_equal(maps["4"], np.concatenate([maps["3"], maps["4.branches.1.1"]], axis=1))
    np.testing.assert_array_equal(maps["5"], maps["4"])  # dropout is off
    np.testing.assert_allclose(maps["7"], model.predict(x), rtol=0, atol=1e-10)


def test_maps_are_asked_for_by_place_and_by_name():
    model = Sequential([Conv2D(3, 3, name="first"), Residual([ReLU(name="inner")]), Flatten(), Dense(2)])
    model.build((1, 5, 4), random_state=0)
    x = normal(2, 1, 5, 4, dtype=np.float32)
    whole = model.outputs(x)
    some = model.outputs(x, ["inner", -1, "first", np.int64(1), "1.layers.0"])
    assert [*some] == ["inner", -1, "first", 1, "1.layers.0"]
    for asked, place in (("inner", "1.layers.0"), (-1, "3"), ("first", "0"), (1, "1")):
        np.testing.assert_array_equal(some[asked], whole[place])
    assert [*model.outputs(x, "first")] == ["first"]
    assert [*model.outputs(x, -2)] == [-2]
    assert model.outputs(x, []) == {}
    assert {array.dtype for array in whole.values()} == {np.dtype(np.float32)}


def test_bytes_and_integers_are_read_as_by_predict():
    model, x = residual(np.float32), np.random.RandomState(0).randint(0, 256, (5, 2, 8, 6))
    for given in (x.astype(np.uint8), x, x.astype(np.float16), np.asfortranarray(x.astype("f"))):
        np.testing.assert_allclose(model.outputs(given, -1)[-1], model.predict(given), rtol=1e-4, atol=1e-4)


def test_neither_the_batch_size_nor_threads_nor_what_else_is_asked_for_change_a_bit():
    model, x = residual(np.float32), normal(20, 2, 8, 6, dtype=np.float32)
    whole = model.outputs(x)
    for batch_size, threads in ((1, 1), (3, 2), (7, 3), (100, 1)):
        for place, array in model.outputs(x, batch_size=batch_size, threads=threads).items():
            np.testing.assert_array_equal(array, whole[place])
    for place in whole:
        np.testing.assert_array_equal(model.outputs(x, place)[place], whole[place])


def test_maps_change_nothing_and_follow_the_weights():
    model, x = residual(np.float32), normal(8, 2, 8, 6, dtype=np.float32)
    trainer = Trainer(model, random_state=0)
    trainer.step(x, np.arange(8) % 5)
    gradients = {name: array.copy() for name, array in model.gradients.items()}
    before = pickle.dumps(model)
    first = model.outputs(x)
    assert pickle.dumps(model) == before
    assert model.training
    assert all(np.array_equal(array, gradients[name]) for name, array in model.gradients.items())
    model.parameters["0.filters"][...] *= 2
    model.parameters["0.biases"][...] *= 2
    np.testing.assert_allclose(model.outputs(x, "0")["0"], 2 * first["0"], rtol=1e-5, atol=1e-5)
    model.build((2, 8, 6), random_state=1)
    np.testing.assert_allclose(model.outputs(x, -1)[-1], model.predict(x), rtol=1e-4, atol=1e-5)


def test_maps_of_copies():
    model, x = residual(), normal(2, 2, 8, 6)
    expected = model.outputs(x)
    for twin in (model.copy(), pickle.loads(pickle.dumps(model))):
        for _ in range(2):
            assert all(np.array_equal(array, expected[place]) for place, array in twin.outputs(x).items())


def test_maps_from_several_threads():
    model, x = residual(np.float32), normal(8, 2, 8, 6, dtype=np.float32)
    expected, found = model.outputs(x, [3, -1]), []

    def look():
        found.extend(model.outputs(x, [3, -1]) for _ in range(5))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 20
    assert all(np.array_equal(maps[place], expected[place]) for maps in found for place in expected)


@pytest.mark.parametrize(
    ("layers", "error", "words"),
    [
        (8, ValueError, r"outputs: layers: expected a place from -8 to 7; got 8"),
        ("nonsense", ValueError, r"expected the place or the name of a layer, of 0, 1, 2, 2\.layers\.0.*'nonsense'"),
        ("9", ValueError, r"got '9'"),
        ([1.5], TypeError, r"layers: expected the place \(int or str\) or the name of a layer; got 1\.5"),
        (True, TypeError, r"got True"),
    ],
)
def test_what_is_no_layer_is_refused(layers, error, words):
    with pytest.raises(error, match=words):
        residual().outputs(normal(1, 2, 8, 6), layers)


def test_other_errors_of_maps():
    twice = Sequential([ReLU(name="same"), Flatten(), Dense(2), ReLU(name="same")])
    with pytest.raises(RuntimeError, match="outputs: not built yet"):
        twice.outputs(np.ones((1, 2)))
    twice.build((1, 2, 2))
    with pytest.raises(ValueError, match="'same' is the name of several layers, at 0, 3"):
        twice.outputs(np.ones((1, 1, 2, 2)), "same")
    for wrong in (np.ones((1, 1, 2, 3)), np.ones((0, 1, 2, 2)), np.ones((1, 4))):
        with pytest.raises(ValueError, match="expected"):
            twice.outputs(wrong)
    with pytest.raises(TypeError, match="X: expected real numbers"):
        twice.outputs(np.ones((1, 1, 2, 2), complex))
    with pytest.raises(ValueError, match="batch_size"):
        twice.outputs(np.ones((1, 1, 2, 2)), batch_size=0)


# ------------------------------------------------------------------------------------------------- a row as a sequence


def test_a_model_is_a_sequence_of_its_layers():
    model = residual()
    assert len(model) == 8
    assert [*model] == model.layers
    assert model[0] is model.layers[0]
    assert model[-1] is model.layers[-1]
    assert model[np.int64(2)] is model.layers[2]
    assert model.layers[1] in model
    for wrong in (8, -9):
        with pytest.raises(IndexError, match=f"expected a place below 8, that of a layer; got {wrong}"):
            model[wrong]
    for wrong in ("0", 1.0, True, None):
        with pytest.raises(TypeError, match=r"expected the place of a layer, an int, or a slice such as \[:3\]; got"):
            model[wrong]


@pytest.mark.parametrize("k", [1, 3, 5, 8])
def test_a_slice_computes_what_the_layers_do(k):
    model, x = residual(), normal(3, 2, 8, 6)
    model.eval()
    head, tail = model[:k], model[k - 1 :]
    np.testing.assert_allclose(head.predict(x), model.outputs(x, k - 1)[k - 1], rtol=0, atol=1e-12)
    before = x if k == 1 else model.outputs(x, k - 2)[k - 2]
    np.testing.assert_allclose(tail.predict(before), model.predict(x), rtol=0, atol=1e-12)
    assert not head.training
    assert head.fuse == model.fuse


def test_a_slice_has_weights_of_its_own():
    model, x = residual(np.float32), normal(8, 2, 8, 6, dtype=np.float32)
    head, before = model[:3], model.digest()
    digest = head.digest()
    Trainer(head[:1], "mean_squared_error").step(x, np.zeros((8, 4, 8, 6)))
    head.parameters["0.filters"][...] = 0
    assert model.digest() == before
    model.parameters["0.filters"][...] = 1
    assert head.digest() != digest
    assert np.all(head.parameters["0.filters"] == 0)
    assert model[2:3].input_shape == (4, 8, 6)


def test_a_slice_of_a_model_that_is_not_built_is_not_built():
    model = Sequential([Conv2D(3, 3), BatchNorm(), ReLU(), MaxPool2D(2), Flatten(), Dropout(0.1), Dense(2)])
    part = model[1:5]
    assert part.input_shape is None
    assert [type(layer) for layer in part] == [BatchNorm, ReLU, MaxPool2D, Flatten]
    assert part[0] is not model[1]
    for wrong in (slice(3, 3), slice(5, 2), slice(9, None)):
        with pytest.raises(ValueError, match="expected a slice with at least one of the 7 layers; got none in"):
            model[wrong]
    for wrong in (slice(None, None, 2), slice(None, None, -1)):
        with pytest.raises(ValueError, match="without a step; got step"):
            model[wrong]


def test_a_model_in_a_model_is_one_layer():
    inner = Concat([[Dense(2)], [Sequential([Dense(3), ReLU()])]])
    model = Sequential([inner, Dense(2)]).build((4,), random_state=0, dtype=np.float64)
    maps = model.outputs(np.ones((2, 4)))
    assert [*maps] == ["0", "0.branches.0.0", "0.branches.1.0", "0.branches.1.0.0", "0.branches.1.0.1", "1"]
    np.testing.assert_array_equal(maps["0.branches.1.0"], maps["0.branches.1.0.1"])


def test_the_examples_run():
    assert doctest.testmod(fastcnn.model).failed == 0
