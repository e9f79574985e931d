"""What a model offers beside training: predict from any thread, modes, copies, weights as a list, a summary."""

from __future__ import annotations

import copy
import doctest
import pickle
import threading
import tracemalloc

import numpy as np
import pytest

import fastcnn
import fastcnn.model
from fastcnn import SGD, Concat, Conv2D, Dense, Flatten, Layer, MaxPool2D, ReLU, Residual, Sequential, Softmax, Trainer
from fastcnn import summary as summaries
from tests.arrays import ORDERS, both_dtypes, normal


def small(dtype=np.float32, seed=0) -> Sequential:
    """Return a model with branches, a layer in plain NumPy, a container in a container, and filters that are packed."""
    return Sequential(
        [
            Conv2D(6, 3, padding=1), ReLU(), MaxPool2D(),
            Residual([Conv2D(9, 3, 2, 1), Sequential([Halved(), ReLU()])], "pad"), ReLU(),
            Concat([[], [Conv2D(18, 1)]]), Flatten(), Dense(7),
        ]
    ).build((2, 12, 10), random_state=seed, dtype=dtype)  # fmt: skip


class Halved(Layer):
    """x / 2, in plain NumPy."""

    def _forward(self, x):
        return x / 2

    def _backward(self, x, y, dL_dout):
        return dL_dout / 2


def run_threads(*works) -> None:
    errors = []

    def caught(work):
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=caught, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


# --------------------------------------------------------------------------------------------------------- prediction


@both_dtypes
@pytest.mark.parametrize("batch_size", [1, 3, 256])
@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_predict_is_forward(n, batch_size, dtype):
    model, x = small(dtype), normal(n, 2, 12, 10, dtype=dtype)
    expected = model.forward(x)
    for threads in (None, 1, 3):
        output = model.predict(x, batch_size, threads)
        assert output.dtype == dtype
        assert output.shape == (n, 7)
        np.testing.assert_allclose(output, expected, rtol=0, atol=1e-5 if dtype == np.float32 else 1e-13)


def test_the_length_of_the_batch_and_the_threads_change_no_bit():
    model, x = small(), normal(50, 2, 12, 10, dtype=np.float32)
    whole = model.predict(x)
    for batch_size, threads in ((1, 1), (7, 1), (16, 2), (50, 4), (1000, 3)):
        np.testing.assert_array_equal(model.predict(x, batch_size, threads), whole)
    for n in (1, 2, 3, 17, 49):
        np.testing.assert_array_equal(model.predict(x[:n]), whole[:n])


@pytest.mark.parametrize("filters", [4, 6, 7])
def test_first_layers_of_few_filters(filters):
    """Pixels or filters side by side in a register, one image or many: the same bits."""
    layers = [Conv2D(filters, 5, padding=(2, 1)), ReLU(), MaxPool2D(), Flatten(), Dense(20)]
    model = Sequential(layers).build((1, 17, 23), random_state=0)
    x = normal(3, 1, 17, 23, dtype=np.float32)
    x[1, 0, 3, 4] = np.nan
    whole, trained = model.predict(x), model.forward(x)
    for i in (0, 1, 2):
        np.testing.assert_array_equal(model.predict(x[i : i + 1])[0], whole[i])
    np.testing.assert_array_equal(np.isnan(whole), np.isnan(trained))
    np.testing.assert_array_equal(whole[::2], trained[::2])


def test_what_comes_out_may_be_maps_or_probabilities():
    x = normal(5, 3, 6, 6, dtype=np.float32)
    maps = Sequential([Conv2D(5, 3)]).build((3, 6, 6), random_state=0)
    np.testing.assert_array_equal(maps.predict(x), maps.forward(x))
    nothing = Sequential([Flatten()]).build((3, 6, 6))
    np.testing.assert_array_equal(nothing.predict(x), x.reshape(5, -1))
    probs = Sequential([Conv2D(4, 3), ReLU(), Softmax(64, 3)]).build((3, 6, 6), random_state=0)
    np.testing.assert_allclose(probs.predict(x).sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("order", ORDERS)
def test_any_memory_order(order, n):
    """Each output is that of its own batch, also where the batch before was recorded in another order."""
    model, x = small(), normal(2 * n, 2, 12, 10, dtype=np.float32)
    expected = model.predict(x)
    for one, other in ((slice(n), slice(n, 2 * n)), (slice(n, 2 * n), slice(n))):
        np.testing.assert_array_equal(model.predict(ORDERS[order](x[one]), threads=1), expected[one])
        np.testing.assert_array_equal(model.predict(x[other], threads=1), expected[other])


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.bool_, np.float16, np.float64])
def test_any_real_numbers(kind):
    model = small()
    x = np.random.RandomState(0).randint(0, 2 if kind is np.bool_ else 9, size=(3, 2, 12, 10)).astype(kind)
    scaled = x.astype(np.float32) * np.float32(1 / 255) if kind is np.uint8 else x.astype(np.float32)
    np.testing.assert_array_equal(model.predict(x), model.predict(scaled))
    np.testing.assert_array_equal(model.predict(x.tolist()[:1]), model.predict(x[:1].astype(np.float32)))


@pytest.mark.parametrize("n", [1, 4])
def test_what_is_written_counts_from_the_next_call(n):
    """However it is written: by name, by a layer, by a step, as a list, as bits; and however little."""
    model, x = small(), normal(n, 2, 12, 10, dtype=np.float32)
    writes = [
        lambda: model.parameters["0.filters"].__setitem__((0, 0, 0, 0), 0.5),
        lambda: model.parameters["7.biases"].__setitem__(-1, np.nextafter(np.float32(0), np.float32(1))),
        lambda: setattr(model.layers[7], "weights", np.ones(model.layers[7].weights.shape)),
        lambda: Trainer(model, optimizer=SGD(0.1)).step(x, np.arange(n)),
        lambda: model.set_weights([2 * array for array in model.get_weights()]),
        lambda: model.build((2, 12, 10), random_state=5),
    ]
    for number, write in enumerate(writes):
        before = model.predict(x)
        write()
        after = model.predict(x)
        if number != 1:  # a bias too small to be seen in a sum
            assert not np.array_equal(after, before)
        np.testing.assert_allclose(after, model.forward(x), rtol=0, atol=1e-5 * np.abs(after).max())


@both_dtypes
def test_one_image_again_and_again(dtype):
    """What came before is no excuse: every argument is looked at, every output is new, whatever holds the image."""
    model, images = small(dtype), normal(4, 2, 12, 10, dtype=dtype)
    expected, pixels = model.predict(images), np.arange(240, dtype=np.uint8).reshape(1, 2, 12, 10)
    outputs = [model.predict(images[i : i + 1]) for i in (0, 1, 2, 3, 0)]
    np.testing.assert_array_equal(np.concatenate(outputs), expected[[0, 1, 2, 3, 0]])
    one = images[1:2]
    for same in (one.tolist(), one.astype(np.float64), one[..., ::-1].copy()[..., ::-1], one.view(np.recarray)):
        np.testing.assert_array_equal(model.predict(same), expected[1:2])
    for _ in range(2):
        scaled = pixels.astype(dtype) * dtype(1 / 255)
        np.testing.assert_array_equal(model.predict(pixels), model.predict(scaled))
        np.testing.assert_array_equal(model.predict(pixels.astype(np.int64)), model.predict(pixels.astype(dtype)))
        for wrong in (0, -1, True, 2.5, None):
            with pytest.raises((TypeError, ValueError), match="batch_size: expected a positive int"):
                model.predict(one, batch_size=wrong)
        for wrong in (0, True, 2.5):
            with pytest.raises(ValueError, match="threads: expected a positive int or None"):
                model.predict(one, threads=wrong)
        for shape in ((1, 2, 10, 12), (2, 12, 10), (1, 240), (0, 2, 12, 10)):
            with pytest.raises(ValueError, match="Sequential: input"):
                model.predict(np.zeros(shape, dtype))
        with pytest.raises(TypeError, match="expected real numbers"):
            model.predict(one.astype(complex))


def test_nan_is_not_hidden():
    model, x = small(), normal(4, 2, 12, 10, dtype=np.float32)
    model.predict(x)
    model.parameters["7.biases"][3] = np.nan
    assert np.isnan(model.predict(x)[:, 3]).all()
    x[1] = np.nan
    assert np.isnan(model.predict(x)[1]).all()


def test_from_several_threads_at_once():
    model = small()
    batches = [normal(n, 2, 12, 10, seed=n, dtype=np.float32) for n in (1, 5, 16, 33, 64)]
    expected = [model.predict(x, threads=1) for x in batches]

    def work(seed):
        rng = np.random.RandomState(seed)
        for _ in range(40):
            number = rng.randint(len(batches))
            output = model.predict(batches[number], int(rng.choice([4, 32, 256])), threads=int(rng.randint(1, 4)))
            np.testing.assert_array_equal(output, expected[number])

    run_threads(*(lambda seed=seed: work(seed) for seed in range(6)))


@pytest.mark.parametrize("n", [1, 3])
def test_from_several_threads_while_parameters_change(n):
    """Between two calls another thread may have written: the next output is that of the new weights, in each thread."""
    model, x = small(), normal(n, 2, 12, 10, dtype=np.float32)
    weights = [small(seed=seed).get_weights() for seed in (0, 1)]
    expected = []
    for arrays in weights:
        model.set_weights(arrays)
        expected.append(model.predict(x))
    barrier = threading.Barrier(4)

    def work():
        for turn in range(30):
            if barrier.wait() == 0:
                model.set_weights(weights[turn % 2])
            barrier.wait()
            np.testing.assert_array_equal(model.predict(x, threads=1), expected[turn % 2])

    run_threads(*[work] * 4)


def test_memory_is_bounded_by_the_batch_size():
    model = small()
    x = np.zeros((2000, 2, 12, 10), np.float32)
    model.predict(x[:8], batch_size=8, threads=1)
    tracemalloc.start()
    try:
        model.predict(x, batch_size=8, threads=1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2000 * 7 * 4 + 50_000


def test_predict_keeps_nothing_of_a_call_that_failed():
    class Failing(Halved):
        fails = False

        def _forward(self, x):
            if self.fails:
                raise FloatingPointError("as asked")
            return x / 2

    failing = Failing()
    model = Sequential([Conv2D(4, 3), failing, Flatten(), Dense(2)]).build((1, 6, 6), random_state=0)
    x = normal(3, 1, 6, 6, dtype=np.float32)
    expected = model.predict(x)
    failing.fails = True
    model.parameters["0.filters"][...] *= 2
    with pytest.raises(FloatingPointError, match="as asked"):
        model.predict(x)
    failing.fails = False
    model.parameters["0.filters"][...] /= 2
    np.testing.assert_array_equal(model.predict(x), expected)


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda m: Sequential([Dense(3)]).predict(np.ones((2, 3))), RuntimeError, "Sequential: predict: not built yet"),
    (lambda m: m.predict(np.ones((2, 2, 12, 11))), ValueError, r"of shape \(2, 12, 10\); got \(2, 12, 11\)"),
    (lambda m: m.predict(np.ones((2, 12, 10))), ValueError, "got 3 axes"),
    (lambda m: m.predict(np.ones((0, 2, 12, 10))), ValueError, "empty batch"),
    (lambda m: m.predict(np.ones((1, 2, 12, 10), complex)), TypeError, "complex"),
    (lambda m: m.predict(np.full((1, 2, 12, 10), "a")), TypeError, "real numbers"),
    (lambda m: m.predict(np.ones((1, 2, 12, 10)), 0), ValueError, "batch_size: expected a positive int; got 0"),
    (lambda m: m.predict(np.ones((1, 2, 12, 10)), threads=0), ValueError, "threads"),
])  # fmt: skip
def test_what_predict_refuses(call, error, message):
    with pytest.raises(error, match=message):
        call(small())


# -------------------------------------------------------------------------------------------------------------- modes


def test_modes_go_through_all_containers():
    model = small()
    residual, concat = model.layers[3], model.layers[5]
    everything = [model, *model.layers, *residual.layers, *residual.layers[1].layers, *concat.branches[1]]
    assert all(layer.training for layer in everything)
    assert model.eval() is model
    assert not any(layer.training for layer in everything)
    model.training = True
    assert all(layer.training for layer in everything)
    assert not copy.deepcopy(model.eval()).layers[3].training


# ---------------------------------------------------------------------------------------------------- copies, weights


@both_dtypes
@pytest.mark.parametrize("duplicate", [Sequential.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_is_whole_and_alone(duplicate, dtype):
    model, x = small(dtype), normal(4, 2, 12, 10, dtype=dtype)
    expected = model.predict(x)
    twin = duplicate(model)
    assert type(twin) is Sequential
    assert twin.layers[3].layers[0] is not model.layers[3].layers[0]
    np.testing.assert_array_equal(twin.predict(x), expected)
    assert list(twin.parameters) == list(model.parameters)
    for name, parameter in twin.parameters.items():
        assert parameter.dtype == dtype
        assert np.shares_memory(parameter, twin._flat)
        assert not np.shares_memory(parameter, model.parameters[name])
    assert np.shares_memory(twin.layers[3].layers[0].filters, twin.parameters["3.layers.0.filters"])
    losses = [[Trainer(m).step(x, np.arange(4)) for _ in range(3)] for m in (twin, small(dtype))]
    assert losses[0] == losses[1]
    np.testing.assert_array_equal(model.predict(x), expected)
    assert not np.array_equal(twin.predict(x), expected)


def test_a_copy_draws_no_numbers():
    np.random.seed(0)
    small(seed=None).copy()
    after = np.random.get_state()[1].copy()
    np.random.seed(0)
    small(seed=None)
    np.testing.assert_array_equal(np.random.get_state()[1], after)


def test_weights_are_a_list_of_copies_in_the_order_of_the_names():
    model = small()
    weights = model.get_weights()
    assert len(weights) == len(model.parameters)
    for array, parameter in zip(weights, model.parameters.values(), strict=True):
        np.testing.assert_array_equal(array, parameter)
        assert not np.shares_memory(array, parameter)
    other, x = small(seed=1), normal(2, 2, 12, 10, dtype=np.float32)
    other.set_weights(weights)
    np.testing.assert_array_equal(other.predict(x), model.predict(x))
    np.testing.assert_array_equal(model.layers[0].get_weights()[0], model.parameters["0.filters"])


def test_wrong_weights_change_nothing():
    model = small()
    weights = model.get_weights()
    first, *others = (np.zeros_like(array) for array in weights)
    for wrong, message in (
        ([first], "set_weights: expected 8 arrays; got 1"),
        ([first, *others[:-1], np.zeros(3)], r"set_weights: 7.biases: expected shape \(7,\); got shape \(3,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            model.set_weights(wrong)
        for array, parameter in zip(weights, model.parameters.values(), strict=True):
            np.testing.assert_array_equal(parameter, array)
    for call in (lambda m: m.get_weights(), lambda m: m.set_weights([])):
        with pytest.raises(RuntimeError, match="not built yet"):
            call(Sequential([Dense(3)]))


# ------------------------------------------------------------------------------------------------------------ summary


def test_summary():
    model = small()
    table = {row.place: row for row in summaries.rows(model)}
    assert list(table) == [
        "0", "1", "2", "3", "3.layers.0", "3.layers.1", "3.layers.1.0", "3.layers.1.1", "4", "5", "5.branches.1.0",
        "6", "7",
    ]  # fmt: skip
    assert table["0"] == ("0", "Conv2D", (6, 12, 10), 6 * 2 * 9 + 6, 2 * 6 * 2 * 9 * 120)
    assert table["3"] == ("3", "Residual", (9, 3, 3), None, None)
    assert table["3.layers.0"][1:] == ("Conv2D", (9, 3, 3), 9 * 6 * 9 + 9, 2 * 9 * 6 * 9 * 9)
    assert table["5"][2] == (27, 3, 3)
    assert table["7"][2:] == ((7,), 27 * 9 * 7 + 7, 2 * 27 * 9 * 7)
    assert sum(row.parameters or 0 for row in table.values()) == sum(a.size for a in model.parameters.values())
    text = model.summary(batch_size=10)
    assert len(text.splitlines()) == len(table) + 3
    assert "A training step of 10 images" in text
    for row in table.values():
        assert row.place in text
    assert max(map(len, text.splitlines())) <= 100


def test_summary_of_a_model_that_is_not_built():
    model = Sequential([Conv2D(3, 3, random_state=np.random.RandomState(0)), Flatten(), Dense(2)])
    state = model.layers[0].random_state.get_state()[1].copy()
    with pytest.raises(RuntimeError, match="summary: not built yet"):
        model.summary()
    assert "Conv2D" in model.summary((1, 8, 8))
    assert model.input_shape is None
    assert not model.parameters
    np.testing.assert_array_equal(model.layers[0].random_state.get_state()[1], state)
    with pytest.raises(ValueError, match="layer 0: Conv2D"):
        model.summary((1, 2, 2))


def test_the_memory_of_a_step_is_what_a_trainer_allocates():
    model = small()
    trainer = Trainer(model, threads=1)
    trainer.step(np.zeros((6, 2, 12, 10), np.float32), np.zeros(6, int))
    arrays = {id(a): a for a in summaries._arrays(trainer._program.stores)}
    assert summaries.step_memory(model, 6) == 2 * model._flat.nbytes + sum(a.nbytes for a in arrays.values())


def test_the_docstrings_are_true():
    assert not doctest.testmod(fastcnn.model).failed
