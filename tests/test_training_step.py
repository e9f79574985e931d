"""What goes into a training step, and what comes out: kinds of numbers, classes, losses and optimizers of one's own."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn
from fastcnn import SGD, Conv2D, Dense, Flatten, MaxPool2D, ReLU, Sequential, Trainer
from fastcnn.engine.allocate import allocate
from fastcnn.engine.load import load, load_from
from fastcnn.losses import Targets
from fastcnn.ops.convolution.select import ALGORITHMS
from fastcnn.training.step import Program, Step
from tests.arrays import ORDERS, both_dtypes
from tests.models import MODEL_CASES, labels
from tests.plans import plan_of

each_model = pytest.mark.parametrize("case", MODEL_CASES, ids=str)


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
    plan = plan_of(Sequential([first]).build(shape, random_state=0, dtype=dtype), 4)
    for kind in (np.uint8, np.float32, np.float64):
        expected, actual = allocate(plan), allocate(plan)
        x = (255 * np.random.default_rng(0).random((7, *shape))).astype(kind)
        load(plan, x[2:6], 4, expected)
        load_from(plan, np.array([x.ctypes.data]), np.zeros(0, kind), 2, 4, actual)
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
@pytest.mark.parametrize(("shards", "threads"), [(1, 1), (1, 2), (4, 1), (4, 2), (4, 3)])
def test_a_step_that_is_one_call_has_the_bits_of_its_parts(shards, threads, clip_norm, monkeypatch):
    """Convolutions, batch norms, dropout, averages; with clipping something is settled on the way."""
    monkeypatch.setattr(fastcnn.training.step, "SHARD_WORK", 20e6 if shards == 1 else 1e3)
    monkeypatch.setattr(fastcnn.training.step, "ROW_WORK", 0)
    x, y, results = np.random.default_rng(0).random((6, 1, 8, 8), np.float32), np.arange(6) % 3, []
    for whole in (True, False):
        if not whole:
            monkeypatch.setattr(Step, "_join", lambda step, update, threads: None)
        layers = [Conv2D(4, 3), fastcnn.BatchNorm(), ReLU(), MaxPool2D(), fastcnn.Dropout(0.4), Flatten(), Dense(3)]
        model = Sequential([*layers, fastcnn.BatchNorm()]).build((1, 8, 8), random_state=0)
        average = fastcnn.ExponentialMovingAverage()
        trainer = Trainer(model, optimizer=SGD(0.1, 0.9, clip_norm=clip_norm), ema=average, threads=threads)
        losses = [trainer.step(x[:n], y[:n]) for n in (6, 6, 4, 6, 6, 4, 4, 4, 6)]
        steps = trainer._program.steps.values()
        assert [len(step.slices) for step in steps] == [shards] * 2
        assert [any(step.whole.values()) for step in steps] == [whole and clip_norm is None] * 2
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


@pytest.mark.parametrize(
    ("loss", "y", "weight"),
    [
        ("cross_entropy", np.array([0, 1, 2, 0]), None),
        ("cross_entropy", np.array([0, 1, 2, 0]), np.ones(4)),
        ("cross_entropy", np.eye(3)[[0, 1, 2, 0]], np.ones(4)),
        ("binary_cross_entropy", np.eye(3)[[0, 1, 2, 0]], np.ones(4)),
        ("mean_squared_error", np.eye(3)[[0, 1, 2, 0]], np.ones(4)),
        ("huber", np.eye(3)[[0, 1, 2, 0]], np.ones(4)),
        ("mean_squared_error", np.eye(3, dtype=np.float32)[[0, 1, 2, 0]], None),
    ],
)  # fmt: skip
def test_what_was_checked_is_what_is_used(loss, y, weight, monkeypatch):
    """Another thread overwrites targets and weights between the check and the step."""
    model = Sequential([Flatten(), Dense(3)]).build((1, 2, 2), random_state=0)
    x, step = np.random.default_rng(0).random((4, 1, 2, 2), np.float32), Program.step
    expected = [Trainer(model.copy(), loss).step(x, y.copy(), sample_weight=weight) for _ in range(2)]
    y = y.copy()

    def overwritten(plan, x, targets):
        y[...] = 2**40
        if weight is not None:
            weight[...] = np.nan
        return step(plan, x, targets)

    monkeypatch.setattr(Program, "step", overwritten)
    assert Trainer(model, loss).step(x, y, sample_weight=weight) == expected[0]


@pytest.mark.filterwarnings("ignore:Setting the dtype:DeprecationWarning")
def test_an_array_that_changes_its_dtype_is_read_as_it_was(monkeypatch):
    """Another thread takes the bytes of a checked batch for larger numbers, of which there are fewer."""
    model = Sequential([Flatten(), Dense(3)]).build((1, 64, 64), random_state=0)
    x, check = np.ones((8, 1, 64, 64), np.float32), Trainer._program_of
    expected = Trainer(model.copy()).step(x, np.zeros(8, int))

    def changed(trainer, batch):
        plan = check(trainer, batch)
        x.dtype = np.float64
        return plan

    monkeypatch.setattr(Trainer, "_program_of", changed)
    assert Trainer(model).step(x, np.zeros(8, int)) == expected


def test_a_loss_in_python():
    """Its targets, and what their sum is divided by, change from batch to batch."""

    class Scaled(fastcnn.Loss):
        name = "scaled"

        def targets(self, end, y, n, sample_weight=None):
            return Targets((np.asarray(y, float),), float(np.sum(sample_weight)), float(np.sum(sample_weight)))

        def evaluate(self, end, n, memory, targets, first, totals):
            x, dx = memory.values[end.value], memory.gradients[end.value]
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


def test_a_model_without_parameters_is_measured_but_not_trained():
    trainer = Trainer(Sequential([Flatten()]), "mean_squared_error")
    x = np.arange(12.0).reshape(3, 1, 2, 2)
    assert trainer.evaluate(x, x.reshape(3, 4) + 1).loss == pytest.approx(1)
    with pytest.raises(ValueError, match="Trainer: model: expected a model with parameters to train"):
        trainer.step(x, x.reshape(3, 4))


def test_batches_of_few_images_have_plans_of_their_own_whichever_came_first():
    """Their bits do not depend on the batches before, as after a checkpoint; and nothing is planned twice."""

    def trainer():
        layers = [Conv2D(32, 1), ReLU(), Conv2D(32, 3, padding=1), ReLU(), Flatten(), Dense(3)]
        return Trainer(Sequential(layers).build((2, 6, 6), random_state=0), optimizer=SGD(0.1))

    def implementations(one):
        return [op.implementation for op in one._program.graph.ops if hasattr(op, "implementation")]

    x, y = np.random.default_rng(0).standard_normal((40, 2, 6, 6)).astype(np.float32), np.arange(40) % 3
    going_on = trainer()
    going_on.step(x, y)
    many = implementations(going_on)
    fresh = trainer()
    for name, parameter in going_on.model.parameters.items():
        fresh.model.parameters[name][...] = parameter
    assert going_on.step(x[:1], y[:1]) == fresh.step(x[:1], y[:1])
    assert implementations(going_on) != many
    plans = list(going_on._programs)
    assert len(plans) == 2
    for n in (40, 1, 40, 1):
        assert going_on.step(x[:n], y[:n]) == fresh.step(x[:n], y[:n])
        assert np.shares_memory(going_on.model.gradients["0.filters"], going_on._program.gradients)
    assert set(going_on._programs) == set(plans)
    assert going_on.model.digest() == fresh.model.digest()
