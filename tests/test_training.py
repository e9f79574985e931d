"""The training step: the curves of the reference, the same bits for any number of threads, nothing allocated."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pytest

import fastcnn
import reference
from fastcnn import SGD, Callback, Conv2D, CosineDecay, Dense, Flatten, MaxPool2D, ReLU, Sequential, Trainer
from fastcnn.runtime import threads as parallel
from fastcnn.training import stage_sums
from tests.arrays import both_dtypes
from tests.models import MODEL_CASES, labels

each_model = pytest.mark.parametrize("case", MODEL_CASES, ids=str)


@pytest.fixture
def many_shards(monkeypatch):
    """Cut every batch into as many shards as there may be, however little work it is."""
    monkeypatch.setattr("fastcnn.training.step.SHARD_WORK", 1.0)
    monkeypatch.setattr("fastcnn.training.update.SWEEP", 1 << 10)


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
        assert len(trainer._program.slices(24)) > 1
        results.append([losses, *(parameter.tobytes() for parameter in model.parameters.values())])
    assert all(result == results[0] for result in results)


@pytest.mark.usefixtures("many_shards")
@pytest.mark.parametrize("norm", [[], [fastcnn.BatchNorm]], ids=["one stage", "batch norm"])
def test_the_same_digest_for_up_to_128_threads(norm):
    """Of steps that record, while each thread meets new shards, and of those that replay all in one native call."""
    x, y = np.random.default_rng(0).standard_normal((32, 3, 8, 8)).astype(np.float32), np.arange(32) % 5
    digests = set()
    for threads in (1, 2, 3, 7, 16, 64, 128):
        layers = [Conv2D(16, 3, padding=1), *[kind() for kind in norm], ReLU(), MaxPool2D(), Flatten(), Dense(5)]
        trainer = Trainer(Sequential(layers).build((3, 8, 8), random_state=0), threads=threads)
        for _ in range(11):
            trainer.step(x, y)
        (step,) = trainer._program.steps.values()
        assert len(step.slices) == 8
        assert isinstance(step.whole[threads], parallel.Jobs) == (threads > 1)
        digests.add(trainer.model.digest())
    assert len(digests) == 1


@pytest.mark.usefixtures("many_shards")
@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.5}, {"frozen": True}])
@pytest.mark.parametrize("threads", [1, 3])
def test_stages_are_summed_in_less_memory(threads, options, monkeypatch):
    """Channels that fill registers share places, others (10 of the head) have their own; what is frozen stays."""
    x, y = np.random.default_rng(0).standard_normal((16, 3, 8, 8)).astype(np.float32), np.arange(16) % 10
    digests, sizes, frozen = [], [], options.get("frozen", False)
    for least in (1 << 60, 0):
        monkeypatch.setattr(stage_sums, "LEAST", least)
        layers = [
            *(Conv2D(16, 3, padding=1, trainable=not frozen), fastcnn.BatchNorm(), ReLU()),
            *(fastcnn.SeparableConv2D(16, 3, padding=1), fastcnn.BatchNorm(trainable=("beta",)), ReLU()),
            fastcnn.Residual([Conv2D(16, 3, padding=1), fastcnn.BatchNorm(), ReLU(), Conv2D(16, 3, padding=1)]),
            *(fastcnn.BatchNorm(), ReLU(), fastcnn.GlobalAvgPool2D(), Dense(10)),
        ]
        model = Sequential(layers).build((3, 8, 8), random_state=0)
        optimizer = SGD(0.1, 0.9, clip_norm=options.get("clip_norm"))
        trainer = Trainer(model, optimizer=optimizer, ema=fastcnn.ExponentialMovingAverage(), threads=threads)
        losses = [trainer.step(x, y) for _ in range(6)]
        gradients = [gradient.tobytes() for gradient in model.gradients.values()]
        digests.append((losses, model.digest(), gradients))
        plan = trainer._program
        sizes.append(plan.gradients.nbytes + (plan.stage_sums.rows.nbytes if plan.stage_sums else 0))
    assert digests[0] == digests[1]
    assert sizes[1] < 0.8 * sizes[0]


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
    monkeypatch.setattr("fastcnn.training.step.SHARD_WORK", 1e5)
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
    monkeypatch.setattr("fastcnn.training.step.SHARD_WORK", 1e5)
    model = Sequential([Conv2D(8, 3), ReLU(), MaxPool2D(), Flatten(), Dense(10)]).build((1, 12, 12), random_state=0)
    trainer, x, y = Trainer(model), np.ones((64, 1, 12, 12), np.float32), np.arange(64) % 10
    trainer.step(x, y)
    tracemalloc.start()
    try:
        for n in range(1, 65):
            trainer.step(x[:n], y[:n])
        gc.collect()
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert kept < 4 << 20


@pytest.mark.parametrize("name", ["adam", "adamw", "lion", "muon", "rmsprop", "sgd"])
def test_optimizers_go_by_their_names(name):
    one = Trainer(Sequential([Dense(3)]), optimizer=name)
    assert type(one.optimizer).__name__.lower() == name
    assert repr(one.optimizer).endswith("()")


def test_words_for_optimizers_and_schedules_that_are_unknown():
    model = Sequential([Dense(3)])
    with pytest.raises(ValueError, match=r"Trainer: optimizer: expected one of \['adam', .*\]; got 'adma'"):
        Trainer(model, optimizer="adma")
    with pytest.raises(TypeError, match=r"Trainer: optimizer: expected an Optimizer or one of \['adam', .*\]; got 3"):
        Trainer(model, optimizer=3)
    with pytest.raises(
        ValueError, match=r"schedule: expected one of \['constant', 'cosine', 'one_cycle'\]; got 'sine'"
    ):
        Trainer(model, schedule="sine")
    with pytest.raises(TypeError, match=r"Trainer: schedule: expected a Schedule, a function or one of .*; got 3"):
        Trainer(model, schedule=3)


def test_a_schedule_by_its_name_is_for_the_steps_of_a_fit():
    x, y = np.ones((12, 4)), np.arange(12) % 3
    one = Trainer(Sequential([Dense(3)]), optimizer=SGD(0.5), schedule="cosine", random_state=0)
    with pytest.raises(ValueError, match="'cosine' needs the number of steps, which fit knows"):
        one.step(x, y)
    other = Trainer(Sequential([Dense(3)]), optimizer=SGD(0.5), schedule=CosineDecay(0.5, 6), random_state=0)
    for trainer in (one, other):
        trainer.fit(x, y, epochs=2, batch_size=4, verbose=0)
    np.testing.assert_array_equal(one.model.parameters["0.weights"], other.model.parameters["0.weights"])

    class Endless:
        def __iter__(self):
            yield x, y

    with pytest.raises(ValueError, match="'cosine' needs the number of steps, which batches without a length"):
        one.fit(Endless(), epochs=1, verbose=0)


@pytest.mark.parametrize("name", ["on_epoch_end", "on_train_batch_end", "on_train_begin", "on_train_end"])
def test_a_callback_with_the_methods_of_another_library_is_refused(name):
    """They would never be called; a class that has our method too is of both libraries."""
    moment = {"on_epoch_end": "epoch", "on_train_batch_end": "batch", "on_train_begin": "begin", "on_train_end": "end"}
    with pytest.raises(TypeError, match=rf"Watch: .*; got {name}, which is never called: {moment[name]}\("):
        type("Watch", (Callback,), {name: lambda self, *given: None})
    type("Both", (Callback,), {name: lambda self, *given: None, moment[name]: lambda self, *given: None})
