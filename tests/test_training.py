"""The training step: the curves of the reference, the same bits for any number of threads, nothing allocated."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pytest

import fastcnn
import reference
from fastcnn import SGD, Conv2D, Dense, Flatten, MaxPool2D, ReLU, Sequential, Trainer, parallel
from fastcnn.layers.block import Graph
from fastcnn.layers.winograd import ALGORITHMS
from fastcnn.losses import Targets
from fastcnn.step import Step
from tests.arrays import ORDERS, both_dtypes
from tests.models import MODEL_CASES

each_model = pytest.mark.parametrize("case", MODEL_CASES, ids=str)


def labels(case, n: int, seed: int = 5) -> np.ndarray:
    (classes,) = fastcnn.Sequential(case.make(fastcnn)).output_shape(case.input_shape)
    return np.random.RandomState(seed).randint(classes, size=n)


@pytest.fixture
def many_shards(monkeypatch):
    """Cut every batch into as many shards as there may be, however little work it is."""
    monkeypatch.setattr("fastcnn.step.SHARD_WORK", 1.0)
    monkeypatch.setattr("fastcnn.step.SWEEP", 1 << 10)


# -------------------------------------------------------------------------------------------------------------- curves


def notebook_curve(engine, X: np.ndarray, y: np.ndarray, steps: int) -> tuple[list[float], dict[str, np.ndarray]]:
    """Train as the notebook does and return the loss of each step, and the parameters at the end."""
    np.random.seed(0)
    conv = engine.Conv2D(num_filters=16, filter_size=3)
    relu, pool = engine.ReLU(), engine.MaxPool2()
    softmax = engine.Softmax(input_len=144, nodes=10)
    losses = []
    for step in range(steps):
        batch = slice(32 * step, 32 * (step + 1))
        probs = softmax.forward(pool.forward(relu.forward(conv.forward(X[batch]))))
        one_hot = np.eye(10)[y[batch]]
        losses.append(-np.mean(np.sum(one_hot * np.log(probs), axis=1)))
        dL_dout = softmax.backward(probs - one_hot, 0.001)
        conv.backward(relu.backward(pool.backward(dL_dout)), 0.001)
    return losses, {
        "filters": conv.filters,
        "biases": conv.biases,
        "softmax.weights": softmax.weights,
        "softmax.biases": softmax.biases,
    }


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return an epoch of the notebook: 45 batches of 32."""
    sklearn = pytest.importorskip("sklearn.datasets")
    data = sklearn.load_digits()
    order = np.random.RandomState(42).permutation(len(data.target))[: 45 * 32]
    return data.images[order][:, None] / 16, data.target[order]


def test_both_engines_go_through_the_notebooks_epoch_alike():
    """45 steps in float64, from the same seed of NumPy's global generator, through pixels with many ties."""
    X, y = digits()
    fast, fast_parameters = notebook_curve(fastcnn, X, y, 45)
    ref, ref_parameters = notebook_curve(reference, X, y, 45)
    np.testing.assert_allclose(fast, ref, rtol=1e-8)
    assert fast_parameters.keys() == ref_parameters.keys()
    for name, parameter in ref_parameters.items():
        np.testing.assert_allclose(fast_parameters[name], parameter, rtol=1e-8, atol=1e-10)
    assert not np.array_equal(fast_parameters["biases"], np.zeros(16))


def test_the_notebooks_epoch_in_single_precision():
    X, y = digits()
    fast, _ = notebook_curve(fastcnn, X.astype(np.float32), y, 45)
    ref, _ = notebook_curve(reference, X, y, 45)
    np.testing.assert_allclose(fast, ref, rtol=1e-5)


@pytest.mark.parametrize("fuse", [True, False], ids=["fused", "unfused"])
@each_model
def test_the_trainer_goes_the_references_way(case, fuse):
    """Ten steps, the last ones on smaller batches: the same losses, the same parameters, gradients of the mean."""
    model = case.build(fuse=fuse)
    chain, trainer = case.chain(model), Trainer(model, optimizer=SGD(learning_rate=0.1))
    for step, n in enumerate([6, 6, 6, 6, 6, 6, 5, 1, 6, 3]):
        x, y = case.batch(n, seed=step), labels(case, n, seed=step)
        assert trainer.step(x, y) == pytest.approx(chain.step(x, y, 0.1), rel=1e-9)
        assert list(model.gradients) == list(model.parameters)
        for name, gradient in chain.gradients.items():
            scale = np.abs(gradient).max()
            np.testing.assert_allclose(model.gradients[name], gradient, rtol=1e-9, atol=1e-9 * scale)
            np.testing.assert_allclose(model.parameters[name], chain.parameters[name], rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("many_shards")
@each_model
def test_shards_go_the_references_way(case):
    """A batch in eight slices of different sizes is still one batch."""
    model = case.build()
    chain, trainer = case.chain(model), Trainer(model, optimizer=SGD(0.1), threads=2)
    for step, n in enumerate([13, 8, 3, 13]):
        x, y = case.batch(n, seed=step), labels(case, n, seed=step)
        assert trainer.step(x, y) == pytest.approx(chain.step(x, y, 0.1), rel=1e-9)
        for name, parameter in chain.parameters.items():
            np.testing.assert_allclose(model.parameters[name], parameter, rtol=1e-9, atol=1e-9)


@each_model
def test_single_precision_follows_double_precision(case):
    single, double = (Trainer(case.build(dtype), optimizer=SGD(0.05)) for dtype in (np.float32, np.float64))
    for step in range(10):
        x, y = case.batch(8, np.float32, seed=step), labels(case, 8, seed=step)
        assert single.step(x, y) == pytest.approx(double.step(x, y), rel=1e-3, abs=1e-5)


def test_fused_and_unfused_models_learn_the_same():
    case = MODEL_CASES[2]
    curves = []
    for fuse in (True, False):
        trainer = Trainer(case.build(np.float64, fuse=fuse), optimizer=SGD(0.1))
        curves.append([trainer.step(case.batch(8, seed=s), labels(case, 8, seed=s)) for s in range(6)])
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-10)


def test_pytorch_is_one_more_witness():
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    features = [Conv2D(6, 5, padding=2), ReLU(), MaxPool2D(), Conv2D(16, 3), ReLU(), MaxPool2D()]
    model = Sequential([*features, Flatten(), Dense(20), ReLU(), Dense(10)])
    model.build((1, 14, 14), random_state=0, dtype=np.float64)
    theirs = {name: torch.tensor(np.array(p), requires_grad=True) for name, p in model.parameters.items()}
    optimizer = torch.optim.SGD(theirs.values(), lr=0.1)

    def forward(x):
        for conv, padding in (("0", 2), ("3", 0)):
            x = functional.conv2d(x, theirs[f"{conv}.filters"], theirs[f"{conv}.biases"], padding=padding)
            x = functional.max_pool2d(functional.relu(x), 2)
        x = functional.relu(x.flatten(1) @ theirs["7.weights"] + theirs["7.biases"])
        return x @ theirs["9.weights"] + theirs["9.biases"]

    trainer = Trainer(model, optimizer=SGD(0.1))
    for step in range(10):
        rng = np.random.RandomState(step)
        x, y = rng.standard_normal((12, 1, 14, 14)), rng.randint(10, size=12)
        loss = functional.cross_entropy(forward(torch.tensor(x)), torch.tensor(y))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert trainer.step(x, y) == pytest.approx(loss.item(), rel=1e-9)
        for name, tensor in theirs.items():
            np.testing.assert_allclose(model.parameters[name], tensor.detach().numpy(), rtol=1e-8, atol=1e-10)


# ---------------------------------------------------------------------------------------------- what goes into a step


def test_uint8_is_scaled_on_the_way_in():
    case = MODEL_CASES[2]
    x = np.random.RandomState(0).randint(0, 256, size=(5, *case.input_shape)).astype(np.uint8)
    y = labels(case, 5)
    bytes_in, scaled = Trainer(case.build()), Trainer(case.build())
    for order in ORDERS.values():
        assert bytes_in.step(order(x), y) == pytest.approx(scaled.step(x / 255, y), rel=1e-9)


@both_dtypes
@pytest.mark.parametrize("padding", [0, 2])
@pytest.mark.parametrize("shape", [(1, 3, 3), (1, 5, 9), (1, 8, 8), (1, 17, 28), (3, 7, 5), (5,), (40,)], ids=str)
def test_the_kernel_loads_a_batch_as_numpy_does(shape, padding, dtype):
    """Bytes and floats, in rows with a halo between them and without: the same bits, and zeros in the halo."""
    first = Conv2D(4, 3, padding=padding) if len(shape) == 3 else Dense(4)
    model, graph = Sequential([first]).build(shape, random_state=0, dtype=dtype), Graph(shape, 4, np.dtype(dtype))
    graph.output = model._connect(graph, 0)
    graph.finish()
    for kind in (np.uint8, np.float32, np.float64):
        expected, actual = graph.allocate(), graph.allocate()
        x = (255 * np.random.default_rng(0).random((7, *shape))).astype(kind)
        graph.load(x[2:6], 4, expected)
        graph.load_from(np.array([x.ctypes.data]), np.zeros(0, kind), 2, 4, actual)
        np.testing.assert_array_equal(actual.values[0], expected.values[0])


@pytest.mark.parametrize("kind", [np.float16, np.float64, np.int32, np.bool_, ">f4"])
def test_other_numbers_are_taken_as_they_are(kind):
    case = MODEL_CASES[2]
    x, y = (case.batch(5) > 0).astype(kind), labels(case, 5)
    expected = Trainer(case.build(np.float32)).step(x.astype(np.float32), y)
    assert Trainer(case.build(np.float32)).step(x, y) == expected


@pytest.mark.parametrize("order", ORDERS)
def test_any_memory_order(order):
    case = MODEL_CASES[2]
    x, y = case.batch(5, np.float32), labels(case, 5)
    expected, actual = Trainer(case.build(np.float32)), Trainer(case.build(np.float32))
    for _ in range(3):
        assert actual.step(ORDERS[order](x), y) == expected.step(x, y)


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.int32, np.uint64, ">i4", list])
def test_integer_classes_of_any_kind(kind):
    case = MODEL_CASES[0]
    x, y = case.batch(5), labels(case, 5)
    expected = Trainer(case.build()).step(x, y)
    assert Trainer(case.build()).step(x, y.tolist() if kind is list else y.astype(kind)) == expected


@pytest.mark.parametrize("clip_norm", [None, 0.1])
def test_a_step_that_is_one_call_has_the_bits_of_its_parts(clip_norm, monkeypatch):
    """Convolutions, batch norms, dropout, averages; with clipping something is settled on the way."""
    x, y, results = np.random.default_rng(0).random((6, 1, 8, 8), np.float32), np.arange(6) % 3, []
    for whole in (True, False):
        if not whole:
            monkeypatch.setattr(Step, "_join", lambda step, update: None)
        layers = [Conv2D(4, 3), fastcnn.BatchNorm(), ReLU(), MaxPool2D(), fastcnn.Dropout(0.4), Flatten(), Dense(3)]
        model = Sequential([*layers, fastcnn.BatchNorm()]).build((1, 8, 8), random_state=0)
        trainer = Trainer(model, optimizer=SGD(0.1, 0.9, clip_norm=clip_norm), ema=fastcnn.ExponentialMovingAverage())
        losses = [trainer.step(x[:n], y[:n]) for n in (6, 6, 4, 6, 6, 4)]
        joined = [step.whole is not None for step in trainer._plan.steps.values()]
        assert joined == [whole and clip_norm is None] * 2
        arrays = [*model.get_weights(), *trainer.ema.averages.values()]
        results.append([losses, trainer.accuracy, *(array.tobytes() for array in arrays)])
    assert results[0] == results[1]


def test_a_class_that_is_none_changes_nothing():
    """It is found before anything is computed; the step after it is as if nothing had happened."""
    model = Sequential([Conv2D(4, 3), fastcnn.BatchNorm(), ReLU(), Flatten(), Dense(3)]).build(
        (1, 6, 6), random_state=0
    )
    trainer, twin, x = Trainer(model), Trainer(model.copy()), np.random.default_rng(0).random((4, 1, 6, 6), np.float32)
    for _ in range(3):
        for bad in (3, -1, 2**62):
            weights = [array.copy() for array in model.get_weights()]
            with pytest.raises(ValueError, match=f"y: expected classes from 0 to 2; got {bad}"):
                trainer.step(x, [0, bad, 2, 1])
            assert all(np.array_equal(*pair) for pair in zip(weights, model.get_weights(), strict=True))
        assert trainer.step(x, [0, 1, 2, 0]) == twin.step(x, [0, 1, 2, 0])
    assert trainer.steps == trainer.optimizer.steps == 3


def test_a_loss_in_python():
    """Its targets, and what their sum is divided by, change from batch to batch."""

    class Scaled(fastcnn.Loss):
        name = "scaled"

        def targets(self, end, y, n, sample_weight=None):
            return Targets((np.asarray(y, float),), float(np.sum(sample_weight)), float(np.sum(sample_weight)))

        def evaluate(self, end, n, memory, targets, first, totals):
            x, dx = memory.values[end.edge], memory.gradients[end.edge]
            for i in range(n):
                error = x[end.x_row[i]] - targets.arrays[0][first + i]
                totals[0] += error**2
                dx[end.dx_row[i]] = 2 * error / targets.total

    model = Sequential([Flatten(), Dense(1)]).build((1, 2, 2), random_state=0, dtype=np.float64)
    trainer, twin, rng = Trainer(model, Scaled(), SGD(0.1)), model.copy(), np.random.default_rng(0)
    for _ in range(4):
        x, y, weight = rng.random((5, 1, 2, 2)), rng.random(5), rng.random(5)
        error = twin.forward(x)[:, 0] - y
        assert trainer.step(x, y, sample_weight=weight) == pytest.approx((error**2).sum() / weight.sum(), rel=1e-12)
        twin.backward(2 * error[:, None] / weight.sum())
        SGD(0.1).step(twin)
        np.testing.assert_allclose(model._flat, twin._flat, rtol=1e-12)


def test_the_first_batch_builds():
    trainer = Trainer(Sequential([Conv2D(4, 3, random_state=0), Flatten(), Dense(3, random_state=1)]))
    assert np.isfinite(trainer.step(np.ones((2, 1, 6, 6), np.uint8), [0, 1]))
    assert trainer.model.input_shape == (1, 6, 6)
    assert trainer.model.parameters["0.filters"].dtype == np.float32


def test_what_changes_between_steps_is_seen():
    """Parameters that are set, another learning rate, a model that is built anew: no step repeats an old one."""
    case = MODEL_CASES[2]
    model = case.build()
    trainer, x, y = Trainer(model, optimizer=SGD(0.1)), case.batch(6), labels(case, 6)
    for learning_rate in (0.1, 0.0, 0.3):
        trainer.optimizer.learning_rate = learning_rate
        chain = case.chain(model)
        for _ in range(2):
            assert trainer.step(x, y) == pytest.approx(chain.step(x, y, learning_rate), rel=1e-9)
        for parameter in model.parameters.values():
            parameter[...] *= 0.9
        model.layers[0].biases = model.layers[0].biases + 0.1
    model.build(case.input_shape, random_state=9, dtype=np.float64)
    chain = case.chain(model)
    assert trainer.step(x, y) == pytest.approx(chain.step(x, y, 0.3), rel=1e-9)
    for name, parameter in chain.parameters.items():
        np.testing.assert_allclose(model.parameters[name], parameter, rtol=1e-9, atol=1e-12)
    # Arrays that are used again with other contents are read again, whatever they hold and wherever they are.
    x[...], y[...] = case.batch(6, seed=8), labels(case, 6, seed=8)
    assert trainer.step(x, y) == pytest.approx(chain.step(x, y, 0.3), rel=1e-9)
    assert trainer.step(x.copy(), y[::-1]) == pytest.approx(chain.step(x, y[::-1], 0.3), rel=1e-9)


def test_between_steps_the_model_predicts():
    case = MODEL_CASES[2]
    model = case.build()
    trainer, chain = Trainer(model, optimizer=SGD(0.1)), case.chain(model)
    for step in range(4):
        x, y = case.batch(6, seed=step), labels(case, 6, seed=step)
        np.testing.assert_allclose(model.forward(x[:4]), chain.forward(x[:4]), rtol=1e-9, atol=1e-9)
        assert trainer.step(x, y) == pytest.approx(chain.step(x, y, 0.1), rel=1e-9)


def test_accuracy_is_that_of_the_batch_before_the_step():
    case = MODEL_CASES[2]
    model = case.build()
    trainer, x = Trainer(model, optimizer=SGD(0.3)), case.batch(20)
    assert np.isnan(trainer.accuracy)
    for _ in range(3):
        right = model.forward(x).argmax(axis=1) == labels(case, 20)
        trainer.step(x, labels(case, 20))
        assert trainer.accuracy == right.mean()


def test_what_is_given_is_not_changed():
    case = MODEL_CASES[2]
    x, y = case.batch(6, np.float32), labels(case, 6)
    x.flags.writeable = y.flags.writeable = False
    trainer = Trainer(case.build(np.float32))
    for _ in range(3):
        trainer.step(x, y)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_each_algorithm_learns_the_same(algorithm):
    def curve(algorithm):
        layers = [
            Conv2D(16, 3, padding=1, algorithm=algorithm), ReLU(),
            Conv2D(16, 3, algorithm=algorithm), ReLU(), MaxPool2D(), Flatten(), Dense(5),
        ]  # fmt: skip
        model = Sequential(layers).build((3, 10, 10), random_state=0, dtype=np.float64)
        trainer = Trainer(model, optimizer=SGD(0.1))
        rng = np.random.RandomState(0)
        return [trainer.step(rng.standard_normal((6, 3, 10, 10)), rng.randint(5, size=6)) for _ in range(8)]

    np.testing.assert_allclose(curve(algorithm), curve("auto"), rtol=1e-9)


# -------------------------------------------------------------------------------------------------------------- threads


def bits(case, threads: int, dtype=np.float32) -> list[bytes]:
    model = case.build(dtype)
    trainer = Trainer(model, optimizer=SGD(0.1), threads=threads)
    losses = [
        trainer.step(case.batch(n, dtype, seed=step), labels(case, n, seed=step))
        for step, n in enumerate([19, 19, 19, 7, 19, 1, 16])
    ]
    return [np.array(losses).tobytes(), *(p.tobytes() for p in model.parameters.values())]


@pytest.mark.usefixtures("many_shards")
@both_dtypes
@each_model
def test_the_same_bits_for_any_number_of_threads(case, dtype):
    one = bits(case, 1, dtype)
    for threads in (2, 3, 4):
        assert bits(case, threads, dtype) == one


def test_the_same_bits_with_shards_as_they_are_cut_in_earnest():
    layers = [Conv2D(32, 3, padding=1), ReLU(), Conv2D(32, 3, padding=1), ReLU(), MaxPool2D(), Flatten(), Dense(10)]
    x, y = np.random.RandomState(0).rand(24, 3, 20, 20).astype(np.float32), np.arange(24) % 10
    results = []
    for threads in (1, 2, 3, 4):
        model = Sequential([layer.copy() for layer in layers]).build((3, 20, 20), random_state=0)
        trainer = Trainer(model, threads=threads)
        losses = [trainer.step(x, y) for _ in range(3)]
        assert len(trainer._plan.cuts(24)) > 1
        results.append([losses, *(parameter.tobytes() for parameter in model.parameters.values())])
    assert all(result == results[0] for result in results)


@pytest.mark.usefixtures("many_shards")
def test_what_is_measured_between_steps_changes_no_bit():
    """Also while threads still record shards that they had not had before, between meetings of batch norm."""
    x, y = np.random.default_rng(0).standard_normal((19, 3, 8, 8)).astype(np.float32), np.arange(19) % 5
    results = []
    for threads, measured in ((1, False), (1, True), (2, False), (2, True), (3, True)):
        layers = [Conv2D(6, 3), fastcnn.BatchNorm(), ReLU(), Conv2D(5, 3), fastcnn.BatchNorm(), Flatten(), Dense(5)]
        model = Sequential(layers).build((3, 8, 8), random_state=0)
        trainer, losses = Trainer(model, threads=threads), []
        for n in (19, 19, 7, 19, 19, 7):
            losses.append(trainer.step(x[:n], y[:n]))
            if measured:
                mean, _ = trainer.evaluate(x[::-1], y)
                expected = fastcnn.CrossEntropy()(model.predict(x[::-1]), y)
                assert mean == pytest.approx(expected, rel=1e-5)
        results.append([losses, *(array.tobytes() for array in model.get_weights())])
    assert all(result == results[0] for result in results)


def test_a_small_step_stays_on_one_thread(monkeypatch):
    """A network whose step takes 50 µs never pays for a thread; one with much work is shared out."""
    asked = []
    monkeypatch.setattr(
        parallel, "run", lambda count, task, threads: asked.append(count) or [task(i, 0) for i in range(count)]
    )
    case = MODEL_CASES[0]
    Trainer(case.build(np.float32), threads=4).step(case.batch(32, np.float32), labels(case, 32))
    assert set(asked) <= {1}
    asked.clear()
    model = Sequential([Conv2D(64, 3, padding=1), ReLU(), Conv2D(64, 3), Flatten(), Dense(10)]).build((3, 16, 16))
    Trainer(model, threads=4).step(np.ones((32, 3, 16, 16), np.float32), np.arange(32) % 10)
    assert max(asked) >= 4


# --------------------------------------------------------------------------------------------------------------- memory

SMALL = 64 << 10  # bytes: Python's own objects of a step and its threads; the smallest array of a shard is larger


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", [np.float32, np.uint8])
def test_the_steady_state_allocates_nothing(threads, kind, monkeypatch):
    """Over 100 steps nothing grows, and no step needs, even for a moment, memory of the size of its arrays."""
    monkeypatch.setattr("fastcnn.step.SHARD_WORK", 1e5)
    features = [Conv2D(16, 3), ReLU(), MaxPool2D(), Conv2D(32, 3, padding=1), ReLU(), MaxPool2D(3, 2)]
    model = Sequential([*features, Flatten(), Dense(40), ReLU(), Dense(10)]).build((1, 28, 28), random_state=0)
    trainer = Trainer(model, threads=threads)
    x = np.random.RandomState(0).randint(0, 256, size=(64, 1, 28, 28)).astype(kind)
    y = np.arange(64) % 10
    one_shard = 8 * 16 * 26 * 26 * 4
    assert one_shard > 4 * SMALL
    for _ in range(30):
        trainer.step(x, y)
    gc.collect()
    tracemalloc.start()
    try:
        trainer.step(x, y)
        before = tracemalloc.get_traced_memory()[0]
        highest = 0
        for _ in range(100):
            tracemalloc.reset_peak()
            now = tracemalloc.get_traced_memory()[0]
            trainer.step(x, y)
            highest = max(highest, tracemalloc.get_traced_memory()[1] - now)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert highest < SMALL
    assert grown < SMALL


def test_batches_of_all_sizes_do_not_pile_up(monkeypatch):
    """Plans for sizes that have come by are small, or are forgotten."""
    monkeypatch.setattr("fastcnn.step.SHARD_WORK", 1e5)
    model = Sequential([Conv2D(8, 3), ReLU(), MaxPool2D(), Flatten(), Dense(10)]).build((1, 12, 12), random_state=0)
    trainer, x, y = Trainer(model), np.ones((64, 1, 12, 12), np.float32), np.arange(64) % 10
    trainer.step(x, y)
    tracemalloc.start()
    try:
        for n in range(1, 65):
            trainer.step(x[:n], y[:n])
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert kept < 4 << 20


def test_another_optimizer_later_is_the_one_that_counts():
    """The recorded update is void with other arrays: a new optimizer goes the way that it goes in a new trainer."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((4, 1, 6, 6)).astype(np.float32), np.arange(4)
    model = Sequential([Conv2D(4, 3), ReLU(), Flatten(), Dense(4)]).build((1, 6, 6), random_state=0)
    trainer = Trainer(model, optimizer=SGD(0.1, momentum=0.9))
    for _ in range(3):
        trainer.step(x, y)
    copy = model.copy()
    trainer.optimizer, other = SGD(0.2, momentum=0.5), Trainer(copy, optimizer=SGD(0.2, momentum=0.5))
    for _ in range(3):
        assert trainer.step(x, y) == other.step(x, y)
    for name, parameter in model.parameters.items():
        np.testing.assert_array_equal(parameter, copy.parameters[name], err_msg=name)


def test_another_average_later_is_the_one_that_counts():
    """One that comes, one that takes its place, none: each has seen the steps that it was there for."""
    case, averages = MODEL_CASES[2], [fastcnn.ExponentialMovingAverage(decay) for decay in (0.5, 0.9)]
    model, x, y = case.build(), case.batch(6), labels(case, 6)
    trainer, expected = Trainer(model, optimizer=SGD(0.1)), [{}, {}]
    for turn in (None, 0, 1, None):
        trainer.ema = None if turn is None else averages[turn]
        for _ in range(3):
            trainer.step(x, y)
            if turn is not None:
                decay, mean = averages[turn].decay, expected[turn]
                for name, parameter in model.parameters.items():
                    mean[name] = decay * mean.get(name, parameter) + (1 - decay) * parameter
    for average, mean in zip(averages, expected, strict=True):
        for name, array in average.averages.items():
            np.testing.assert_allclose(array, mean[name], rtol=1e-12, atol=1e-14, err_msg=name)
