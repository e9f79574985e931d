"""`Sequential` against a chain of the reference's layers, fused and unfused; its parameters, shapes, and copies."""

from __future__ import annotations

import copy
import pickle
import threading

import numpy as np
import pytest

import fastcnn
from fastcnn import Conv2D, Dense, Flatten, MaxPool2, MaxPool2D, ReLU, Sequential, Softmax
from fastcnn.layers.fusion import find_runs
from tests.arrays import ORDERS, both_dtypes, normal
from tests.models import MODEL_CASES
from tests.processes import run_python

each_model = pytest.mark.parametrize("case", MODEL_CASES, ids=str)


def assert_alike(actual, expected, tolerance=1e-9):
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


def small() -> Sequential:
    return Sequential([Conv2D(6, 3), ReLU(), MaxPool2D(), Flatten(), Dense(4)]).build((2, 8, 8), random_state=0)


# -------------------------------------------------------------------------------------------------------- computation


@pytest.mark.parametrize("fuse", [True, False], ids=["fused", "unfused"])
@each_model
def test_the_model_is_the_chain_of_its_layers(case, fuse):
    model = case.build(fuse=fuse)
    chain, x = case.chain(model), case.batch(5)
    output = model.forward(x)
    assert_alike(output, chain.forward(x))
    assert output.shape == (5, *model.output_shape(case.input_shape))
    dL_dout = normal(*output.shape)
    assert_alike(model.backward(dL_dout), chain.backward(dL_dout))
    assert list(model.gradients) == list(model.parameters)
    for name, gradient in chain.gradients.items():
        assert_alike(model.gradients[name], gradient)


@both_dtypes
@each_model
def test_fusion_changes_nothing(case, dtype):
    fused, unfused = case.build(dtype), case.build(dtype, fuse=False)
    for n in (4, 1, 3):
        x = case.batch(n, dtype)
        output = fused.forward(x)
        tolerance = 1e-4 if dtype == np.float32 else 1e-12
        assert output.dtype == dtype
        assert_alike(output, unfused.forward(x), tolerance)
        dL_dout = normal(*output.shape, dtype=dtype)
        assert_alike(fused.backward(dL_dout), unfused.backward(dL_dout), tolerance)
        for name, gradient in unfused.gradients.items():
            assert_alike(fused.gradients[name], gradient, tolerance)


def test_runs_are_found():
    """Convolution, ReLU and pooling of 2×2 are one block; flatten, dense and ReLU another; the rest stay alone."""
    pooled = [Conv2D(6, 3), ReLU(), MaxPool2(), Conv2D(5, 1), MaxPool2D(), Conv2D(4, 1), ReLU(), MaxPool2D(3), ReLU()]
    dense = [Flatten(), Dense(9), ReLU(), Dense(3), Softmax(3, 3)]
    runs = [[head, *followers] for head, followers in find_runs(pooled + dense)]
    assert [layer for run in runs for layer in run] == pooled + dense
    assert [len(run) for run in runs] == [3, 2, 2, 1, 1, 3, 1, 1]


@pytest.mark.parametrize("learning_rate", [0.0, 0.5])
def test_the_notebooks_step(learning_rate):
    case = MODEL_CASES[0]
    model = case.build()
    chain, x = case.chain(model), case.batch(6)
    dL_dout = model.forward(x) - np.eye(10)[np.arange(6)]
    chain.forward(x)
    model.backward(dL_dout, learning_rate)
    for layer in reversed(chain.layers):
        dL_dout = layer.backward(dL_dout, learning_rate)
    for name, parameter in chain.parameters.items():
        assert_alike(model.parameters[name], parameter, 1e-12)


@pytest.mark.parametrize("order", ORDERS)
def test_any_memory_order(order):
    case = MODEL_CASES[3]
    model, x = case.build(), case.batch(5)
    expected = model.forward(x)
    dL_dout = normal(*expected.shape)
    dL_dinput = model.backward(dL_dout)
    np.testing.assert_array_equal(model.forward(ORDERS[order](x)), expected)
    np.testing.assert_array_equal(model.backward(ORDERS[order](dL_dout)), dL_dinput)


@each_model
def test_batches_that_change(case):
    """Each sample as if it were alone, in batches of any size, also after larger ones."""
    model, x = case.build(), case.batch(7)
    whole = model.forward(x).copy()
    for first, last in ((0, 3), (3, 4), (2, 7), (6, 7), (0, 7)):
        assert_alike(model.forward(x[first:last]), whole[first:last], 1e-12)


@pytest.mark.parametrize("fuse", [True, False], ids=["fused", "unfused"])
@each_model
def test_a_batch_that_is_too_large_for_one_piece(case, fuse, monkeypatch):
    model, x = case.build(fuse=fuse), case.batch(7)
    output = model.forward(x).copy()
    dL_dout = normal(*output.shape)
    dL_dinput = model.backward(dL_dout).copy()
    gradients = {name: gradient.copy() for name, gradient in model.gradients.items()}
    monkeypatch.setattr("fastcnn.engine.executable.CHUNK", 3 * x[0].size)
    pieces = case.build(fuse=fuse)
    assert_alike(pieces.forward(x), output, 1e-12)
    assert_alike(pieces.backward(dL_dout), dL_dinput, 1e-12)
    for name, gradient in gradients.items():
        assert_alike(pieces.gradients[name], gradient, 1e-12)


@pytest.mark.parametrize("method", ["predict", "forward"])
def test_uint8_images_are_scaled(method):
    """As in the training step: a model sees pixels from 0 to 1."""
    x = np.random.RandomState(0).randint(0, 256, size=(3, 2, 8, 8)).astype(np.uint8)
    model = small()
    expected = model.forward((x / 255).astype(np.float32))
    actual = getattr(model, method)(x)
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


@each_model
def test_prediction_is_the_forward_pass(case):
    """In pieces of any size, on any number of threads, with the parameters as they are now."""
    model = case.build()
    for seed in range(2):
        x = case.batch(7, seed=seed)
        expected = model.forward(x)
        for batch_size, threads in ((1, 1), (2, 2), (3, 1), (256, 2)):
            assert_alike(model.predict(x, batch_size, threads), expected, 1e-12)
        for parameter in model.parameters.values():
            parameter[...] *= 0.9


@pytest.mark.parametrize(
    ("given", "computed"), [(np.float32, np.float32), (np.float64, np.float64), (np.int64, np.float64)]
)
def test_the_input_says_the_precision(given, computed):
    model, x = small(), normal(2, 2, 8, 8).astype(given)
    output = model.forward(x)
    assert output.dtype == computed
    assert model.backward(output).dtype == computed
    assert all(parameter.dtype == np.float32 for parameter in model.parameters.values())
    assert_alike(output, model.forward(x.astype(np.float64)), 1e-5)


def test_a_model_within_a_model():
    """Names, parameters, gradients and numbers are those of the layers in a row."""
    outer = Sequential(
        [Sequential([Conv2D(6, 3), ReLU()]), MaxPool2(), Sequential([Flatten(), Sequential([Dense(4)])])]
    )
    flat = Sequential([Conv2D(6, 3), ReLU(), MaxPool2(), Flatten(), Dense(4)])
    for model in (outer, flat):
        model.build((2, 8, 8), random_state=0, dtype=np.float64)
    assert list(outer.parameters) == ["0.0.filters", "0.0.biases", "2.1.0.weights", "2.1.0.biases"]
    x = normal(3, 2, 8, 8)
    output = flat.forward(x)
    assert_alike(outer.forward(x), output, 1e-12)
    assert_alike(outer.backward(output), flat.backward(output), 1e-12)
    for inside, alone in zip(outer.gradients.values(), flat.gradients.values(), strict=True):
        assert_alike(inside, alone, 1e-12)
    loss = [fastcnn.Trainer(model).step(x, np.arange(3)) for model in (outer, flat)]
    assert loss[0] == pytest.approx(loss[1], rel=1e-12)
    np.testing.assert_array_equal(outer.parameters["2.1.0.weights"], outer.layers[2].layers[1].layers[0].weights)


def test_predicting_from_threads_needs_no_lock():
    """A model owns parameters, a call owns its memory; also where all batches are of one shape."""
    case = MODEL_CASES[2]
    model = case.build(np.float32)
    batches = [case.batch(n, np.float32, seed=seed) for seed, n in enumerate((1, 5, 5, 5, 8))]
    expected = [model.predict(x) for x in batches]
    wrong = []

    def predict(number: int) -> None:
        outputs = [model.predict(batches[number]) for _ in range(50)]
        wrong.extend(number for output in outputs if not np.array_equal(output, expected[number]))

    threads = [threading.Thread(target=predict, args=(number,)) for number in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# --------------------------------------------------------------------------------------------------------- parameters


@both_dtypes
def test_parameters_are_named_by_place_and_are_views(dtype):
    model = Sequential([Conv2D(5, 3), ReLU(), Conv2D(17, (2, 3), bias=False), Flatten(), Dense(9), Softmax(9, 3)])
    assert model.parameters == {}
    assert model.build((2, 6, 7), random_state=0, dtype=dtype) is model
    shapes = {name: parameter.shape for name, parameter in model.parameters.items()}
    assert shapes == {
        "0.filters": (5, 2, 3, 3), "0.biases": (5,), "2.filters": (17, 5, 2, 3), "4.weights": (153, 9),
        "4.biases": (9,), "5.weights": (9, 3), "5.biases": (3,),
    }  # fmt: skip
    for name, parameter in model.parameters.items():
        place, attribute = name.split(".")
        layer = model.layers[int(place)]
        assert parameter.dtype == dtype
        assert parameter.flags.writeable
        assert layer.parameters[attribute] is getattr(layer, attribute)
        parameter[...] = 3
        np.testing.assert_array_equal(getattr(layer, attribute), 3)
        setattr(layer, attribute, np.full(parameter.shape, 4))
        np.testing.assert_array_equal(parameter, 4)
        getattr(layer, attribute)[0] = 5
        np.testing.assert_array_equal(parameter[0], 5)


def test_what_is_written_to_parameters_is_computed_with():
    case = MODEL_CASES[2]
    model, x = case.build(), case.batch(3)
    model.forward(x)
    rng = np.random.RandomState(7)
    for parameter in model.parameters.values():
        parameter[...] = rng.standard_normal(parameter.shape) * 0.1
    assert_alike(model.forward(x), case.chain(model).forward(x))
    model.layers[0].filters = np.zeros((16, 3, 3, 3))
    assert_alike(model.forward(x), case.chain(model).forward(x))


def test_gradients_are_views_by_name_of_the_last_backward():
    model, x = small(), normal(3, 2, 8, 8, dtype=np.float32)
    assert model.gradients == {}
    output = model.forward(x)
    model.backward(output)
    first = model.gradients
    kept = {name: gradient.copy() for name, gradient in first.items()}
    model.backward(2 * output)
    for name, gradient in model.gradients.items():
        assert gradient.shape == model.parameters[name].shape
        assert_alike(gradient, 2 * kept[name], 1e-5)
        np.testing.assert_array_equal(first[name], kept[name])


def test_the_seed_says_the_parameters():
    layers = lambda: [Conv2D(4, 3), ReLU(), Conv2D(4, 3), Flatten(), Dense(3)]  # noqa: E731
    one, same, other = (Sequential(layers()).build((1, 8, 8), random_state=seed) for seed in (0, 0, 1))
    for name, parameter in one.parameters.items():
        np.testing.assert_array_equal(parameter, same.parameters[name])
        assert name.endswith("biases") or not np.array_equal(parameter, other.parameters[name])
    # One generator for all layers: two equal layers begin differently.
    twins = Sequential([Dense(5), Dense(5)]).build((5,), random_state=0)
    assert not np.array_equal(twins.parameters["0.weights"], twins.parameters["1.weights"])
    # A layer's own seed comes first.
    own = Sequential([Dense(5), Dense(5, random_state=3)])
    weights = [own.build((5,), random_state=seed).parameters["1.weights"].copy() for seed in (0, 1)]
    np.testing.assert_array_equal(*weights)
    # None is NumPy's global generator.
    np.random.seed(0)
    drawn = Sequential(layers()).build((1, 8, 8))
    np.testing.assert_array_equal(drawn.parameters["0.filters"], one.parameters["0.filters"])


def test_single_and_double_precision_begin_alike():
    single, double = (MODEL_CASES[2].build(dtype) for dtype in (np.float32, np.float64))
    for name, parameter in double.parameters.items():
        np.testing.assert_array_equal(single.parameters[name], parameter.astype(np.float32))


def test_shapes():
    model = Sequential([Conv2D(6, 3, padding="same", stride=2), MaxPool2D(3, 2, 1), Flatten(), Dense(7)])
    assert model.output_shape((3, 17, 20)) == (7,)
    assert Sequential(model.layers[:3]).output_shape((3, 17, 20)) == (6 * 5 * 5,)
    assert Sequential(model.layers[:2]).output_shape((3, 17, 20)) == (6, 5, 5)
    assert model.input_shape is None
    assert model.build((3, 17, 20)).input_shape == (3, 17, 20)


def test_the_first_batch_builds():
    model = Sequential([Conv2D(6, 3, random_state=0), Flatten(), Dense(4, random_state=1)])
    x = normal(3, 2, 5, 5)
    assert model.forward(x).shape == (3, 4)
    assert model.input_shape == (2, 5, 5)
    twin = Sequential([Conv2D(6, 3, random_state=0), Flatten(), Dense(4, random_state=1)]).build(
        (2, 5, 5), dtype=np.float64
    )
    np.testing.assert_array_equal(twin.forward(x), model.forward(x))


# ------------------------------------------------------------------------------------------------------------- copies


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["deepcopy", "pickle"]
)
def test_a_copy_is_whole_and_on_its_own(duplicate):
    """As `sklearn.clone`, joblib and multiprocessing make them."""
    model, x = small(), normal(3, 2, 8, 8, dtype=np.float32)
    output = model.forward(x).copy()
    twin = duplicate(model)
    np.testing.assert_array_equal(twin.forward(x), output)
    fastcnn.Trainer(twin).step(x, np.arange(3))
    np.testing.assert_array_equal(model.forward(x), output)
    for name, parameter in twin.parameters.items():
        place, attribute = name.split(".")
        assert not np.array_equal(parameter, model.parameters[name])  # it has learnt, and shows it
        np.testing.assert_array_equal(getattr(twin.layers[int(place)], attribute), parameter)
    assert not np.array_equal(twin.forward(x), output)
    assert duplicate(Sequential([Dense(3)])).parameters == {}


def test_a_pickled_model_is_read_on_a_machine_with_other_vectors(tmp_path):
    """How filters are padded to whole vectors is an affair of the machine, not of the model."""
    make = (
        "import pickle, sys, numpy as np\n"
        "from fastcnn import Conv2D, Dense, Flatten, Sequential\n"
        "model = Sequential([Conv2D(3, (1, 2)), Conv2D(17, 3), Flatten(), Dense(5)]).build((1, 6, 6), random_state=0)\n"
        "for number, parameter in enumerate(model.parameters.values()):\n"
        "    parameter[...] = number + np.arange(parameter.size).reshape(parameter.shape)\n"
    )
    file = str(tmp_path / "model.pickle")
    run_python(make + "pickle.dump(model, open(sys.argv[1], 'wb'))", file, FASTCNN_SIMD="avx512")
    check = (
        "read = pickle.load(open(sys.argv[1], 'rb'))\n"
        "assert list(read.parameters) == list(model.parameters)\n"
        "for name, parameter in model.parameters.items():\n"
        "    np.testing.assert_array_equal(read.parameters[name], parameter)\n"
    )
    run_python(make + check, file, FASTCNN_SIMD="sse")
