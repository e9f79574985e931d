"""Optimizers: the reference's and PyTorch's steps; clipping, averages, what is left alone, threads, continuation."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import fastcnn
import reference
from fastcnn import Conv2D, Dense, ExponentialMovingAverage, Flatten, ReLU, Sequential, Trainer
from fastcnn.kernels import update
from tests.arrays import both_dtypes
from tests.bounds import Sum, gamma
from tests.guards import Guards

NO_DECAY = ("biases", "gamma", "beta")
OPTIMIZERS = {
    "SGD": lambda m: m.SGD(0.1),
    "SGD-decay": lambda m: m.SGD(0.1, weight_decay=0.1),
    "SGD-momentum": lambda m: m.SGD(0.1, 0.9),
    "SGD-nesterov": lambda m: m.SGD(0.1, 0.9, True, 0.01),
    "Adam": lambda m: m.Adam(0.01),
    "Adam-decay": lambda m: m.Adam(0.01, (0.8, 0.95), 1e-3, 0.1),
    "AdamW": lambda m: m.AdamW(0.01, weight_decay=0.1),
    "AdamW-no-decay": lambda m: m.AdamW(0.01, weight_decay=0.5, no_decay=NO_DECAY),
    "RMSprop": lambda m: m.RMSprop(0.01),
    "RMSprop-momentum": lambda m: m.RMSprop(0.01, 0.9, 1e-4, 0.1, 0.5),
    "RMSprop-centered": lambda m: m.RMSprop(0.01, momentum=0.5, centered=True),
    "RMSprop-centered-plain": lambda m: m.RMSprop(0.01, centered=True),
    "Lion": lambda m: m.Lion(0.01, weight_decay=0.1),
    "Lion-no-decay": lambda m: m.Lion(0.01, weight_decay=0.5, no_decay=NO_DECAY),
}
every_optimizer = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())


def normal(*shape, seed=0):
    return np.random.RandomState(seed).standard_normal(shape)


def build(dtype=np.float64, seed=0) -> Sequential:
    """Return a network whose filters and weights fill no whole vectors."""
    layers = [Conv2D(5, 3), ReLU(), Conv2D(17, 3, bias=False), ReLU(), Flatten(), Dense(7), ReLU(), Dense(3)]
    return Sequential(layers).build((2, 8, 8), random_state=seed, dtype=dtype)


x, y = normal(12, 2, 8, 8), np.arange(12) % 3


def own_loop(model: Sequential, optimizer, steps: int, after=lambda: None) -> None:
    """Train as one does without a Trainer."""
    loss = fastcnn.CrossEntropy()
    for step in range(steps):
        images, classes = np.roll(x, step, axis=3).astype(model._flat.dtype), np.roll(y, step)
        model.backward(loss.gradient(model.forward(images), classes))
        optimizer.step(model)
        after()


def assert_close(actual: dict, expected: dict, rtol=1e-10) -> None:
    assert list(actual) == list(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(actual[name], array, rtol=rtol, atol=rtol, err_msg=name)


# ------------------------------------------------------------------------------------------------------------- formulas


@every_optimizer
def test_ten_steps_are_the_references(make):
    """The same gradients, ten times; the state is the reference's too, under the same names."""
    model, fast, ref = build(), make(fastcnn), make(reference)
    parameters = {name: np.array(array) for name, array in model.parameters.items()}
    for step in range(10):
        fast.learning_rate = ref.learning_rate = 0.01 * (1 + step)
        own_loop(model, fast, 1, lambda: ref.step(parameters, dict(model.gradients)))
        assert_close(model.parameters, parameters)
    assert fast.steps == ref.steps == 10
    for quantity, named in fast.state.items():
        assert_close(named, ref.state[quantity])
    assert set(ref.state) - set(fast.state) <= {"velocity"}  # which is not stored where there is no momentum


@every_optimizer
def test_single_precision_follows(make):
    """In units of the last place of the largest number that went in; signs may flip where they are open."""
    single, double = build(np.float32), build(np.float64)
    for name, array in single.parameters.items():
        double.parameters[name][...] = array
    fast, ref = make(fastcnn), make(fastcnn)
    loss = fastcnn.CrossEntropy()
    for _ in range(10):
        single.backward(loss.gradient(single.forward(x.astype(np.float32)), y))
        double.forward(x)
        double.backward(np.zeros((12, 3)))
        double._flat_gradients[...] = single._flat_gradients
        fast.step(single)
        ref.step(double)
    assert_close(single.parameters, dict(double.parameters), 1e-4)


TORCH = {
    "SGD-nesterov": (
        fastcnn.SGD(0.1, 0.9, True, 0.01), "SGD",
        {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    ),
    "Adam": (fastcnn.Adam(), "Adam", {}),
    "Adam-decay": (
        fastcnn.Adam(0.01, (0.8, 0.95), 1e-3, 0.1), "Adam",
        {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1},
    ),
    "AdamW": (fastcnn.AdamW(), "AdamW", {}),
    "RMSprop": (fastcnn.RMSprop(), "RMSprop", {}),
    "RMSprop-centered": (
        fastcnn.RMSprop(0.001, momentum=0.5, centered=True), "RMSprop",
        {"lr": 0.001, "momentum": 0.5, "centered": True},
    ),
}  # fmt: skip


@pytest.mark.parametrize("clip_norm", [None, 0.05])
@pytest.mark.parametrize(("fast", "name", "settings"), TORCH.values(), ids=TORCH.keys())
def test_ten_steps_are_pytorchs(fast, name, settings, clip_norm):
    """With PyTorch's own defaults, where there are settings on neither side."""
    torch = pytest.importorskip("torch")
    model, fast = build(), copy.copy(fast)
    fast.clip_norm = clip_norm
    theirs = {key: torch.tensor(np.array(p), requires_grad=True) for key, p in model.parameters.items()}
    optimizer = getattr(torch.optim, name)(theirs.values(), **settings)
    loss = fastcnn.CrossEntropy()
    for _ in range(10):
        model.backward(loss.gradient(model.forward(x), y))
        for key, tensor in theirs.items():
            tensor.grad = torch.tensor(np.array(model.gradients[key]))
        if clip_norm is not None:
            norm = torch.nn.utils.clip_grad_norm_(theirs.values(), clip_norm)
        optimizer.step()
        fast.step(model)
        if clip_norm is not None:
            assert fast.gradient_norm == pytest.approx(norm.item(), rel=1e-10)
        assert_close(model.parameters, {key: tensor.detach().numpy() for key, tensor in theirs.items()})


@both_dtypes
@every_optimizer
def test_what_never_has_a_gradient_stays(make, dtype):
    """Dead units, and the padding of the flat vector: not 0/0 even with the smallest epsilon."""
    model, optimizer = Sequential([Dense(5)]).build((3,), random_state=0, dtype=dtype), make(fastcnn)
    if hasattr(optimizer, "epsilon"):
        optimizer.epsilon = 1e-300
    optimizer.weight_decay = 0.0
    before = model.parameters["0.weights"].copy()
    for _ in range(3):
        model.forward(np.zeros((2, 3), dtype))
        model.backward(np.zeros((2, 5), dtype))
        optimizer.step(model)
    np.testing.assert_array_equal(model.parameters["0.weights"], before)
    assert np.isfinite(model._flat).all()


@every_optimizer
def test_nan_is_not_hidden(make):
    model, optimizer = Sequential([Dense(5)]).build((3,), random_state=0, dtype=np.float64), make(fastcnn)
    model.forward(np.ones((2, 3)))
    model.backward(np.full((2, 5), np.nan))
    optimizer.step(model)
    assert np.isnan(model.parameters["0.weights"]).all()


def test_a_variance_is_not_negative():
    """A gradient that stays the same for long: rounding makes v - a² negative here and there."""
    model, optimizer = Sequential([Dense(500)]).build((1,), random_state=0), fastcnn.RMSprop(0.01, 0.5, centered=True)
    gradient = normal(1, 500).astype(np.float32)
    for _ in range(60):
        model.forward(np.ones((1, 1), np.float32))
        model.backward(gradient)
        optimizer.step(model)
    assert np.isfinite(model._flat).all()


def test_decay_leaves_what_it_is_told():
    """With a learning rate that is all decay: named parameters stay, of every layer, also inside of others."""
    layers = [fastcnn.Residual([Conv2D(4, 3, padding=1), ReLU()], None), fastcnn.BatchNorm(), Flatten(), Dense(3)]
    for optimizer in (fastcnn.AdamW(0.1, weight_decay=5, no_decay=NO_DECAY), fastcnn.Lion(0.1, (0, 0), 5, NO_DECAY)):
        model = Sequential([layer.copy() for layer in layers]).build((4, 5, 5), random_state=0)
        for parameter in model.parameters.values():
            parameter[...] = 1
        model.forward(np.zeros((2, 4, 5, 5), np.float32))
        model.backward(np.zeros((2, 3), np.float32))
        model._flat_gradients[...] = 0
        optimizer.step(model)
        for name, parameter in model.parameters.items():
            expected = 1 if name.endswith(NO_DECAY) else 0.5
            np.testing.assert_array_equal(parameter, np.float32(expected), err_msg=name)


# --------------------------------------------------------------------------------------------------------- in a Trainer


@pytest.fixture
def many_shards(monkeypatch):
    """Cut batches and the flat vector into as many pieces as there may be."""
    monkeypatch.setattr("fastcnn.step.SHARD_WORK", 1.0)
    monkeypatch.setattr("fastcnn.step.SWEEP", 1 << 10)


@pytest.mark.usefixtures("many_shards")
@pytest.mark.parametrize("clip_norm", [None, 0.1])
@every_optimizer
def test_a_trainer_steps_as_a_loop_of_ones_own(make, clip_norm):
    model, twin = build(), build()
    fast, own = make(fastcnn), make(fastcnn)
    fast.clip_norm = own.clip_norm = clip_norm
    trainer, ema, own_ema = Trainer(model, optimizer=fast), ExponentialMovingAverage(0.7), ExponentialMovingAverage(0.7)
    trainer.ema = ema
    own_loop(twin, own, 6, lambda: own_ema.update(twin))
    for step in range(6):
        trainer.step(np.roll(x, step, axis=3), np.roll(y, step))
    assert_close(model.parameters, twin.parameters, 1e-8)
    assert_close(ema.averages, own_ema.averages, 1e-8)
    assert_close(model.gradients, twin.gradients, 1e-8)
    assert (fast.gradient_norm > 0.1) == (clip_norm is not None)


@pytest.mark.usefixtures("many_shards")
@pytest.mark.parametrize(("clip_norm", "dtype"), [(None, np.float32), (0.1, np.float64)])
@every_optimizer
def test_the_same_bits_for_any_number_of_threads(make, clip_norm, dtype):
    """One, two and three; that four are no different is for the steps of test_training."""
    results = []
    for threads in (1, 2, 3):
        model, optimizer, ema = build(dtype), make(fastcnn), ExponentialMovingAverage(0.9)
        optimizer.clip_norm = clip_norm
        trainer = Trainer(model, optimizer=optimizer, threads=threads, ema=ema)
        losses = [trainer.step(x[:n], y[:n]) for n in (12, 12, 5, 12)]
        results.append((losses, model._flat.tobytes(), ema._vectors[0].tobytes(), str(optimizer.gradient_norm)))
    assert all(result == results[0] for result in results)


class Descent(fastcnn.Optimizer):
    """SGD as a user would write it, without a kernel."""

    def __init__(self, learning_rate: float) -> None:
        super().__init__(learning_rate, None)

    def _coefficients(self):
        return ()

    def _update(self, gradients, shards, first, last):
        for shard in gradients.reshape(-1, self._theta.size)[:shards]:
            self._theta[first:last] -= self.learning_rate * shard[first:last]


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "in pieces"])
@pytest.mark.parametrize("ema", [None, ExponentialMovingAverage(0.7)], ids=["plain", "averaged"])
def test_an_optimizer_in_python(cut, ema, request):
    """What is no kernel is called at each step, not only at the first."""
    if cut:
        request.getfixturevalue("many_shards")
    trainer = Trainer(build(), optimizer=Descent(0.1), ema=copy.copy(ema), threads=2)
    twin = Trainer(build(), optimizer=fastcnn.SGD(0.1), ema=copy.copy(ema), threads=2)
    for _ in range(4):
        assert trainer.step(x, y) == pytest.approx(twin.step(x, y), rel=1e-10)
    assert_close(trainer.model.parameters, twin.model.parameters)
    if ema is not None:
        assert_close(trainer.ema.averages, twin.ema.averages)


@every_optimizer
def test_a_training_is_taken_up_again_exactly(make):
    """Parameters, the optimizer's state and the average, through files: the same bits as without a break."""
    whole = Trainer(build(np.float32), optimizer=make(fastcnn), ema=ExponentialMovingAverage(0.9))
    for _ in range(4):
        whole.step(x, y)
    weights, state, average = whole.model.get_weights(), whole.optimizer.get_state(), whole.ema.get_state()
    assert state["steps"] == 4
    assert all(isinstance(array, np.ndarray) for array in state.values())
    for _ in range(3):
        whole.step(x, y)
    again = Trainer(build(np.float32, seed=7), optimizer=make(fastcnn), ema=ExponentialMovingAverage(0.9))
    again.model.set_weights(weights)
    again.optimizer.set_state(state)
    again.ema.set_state(average)
    for _ in range(3):
        again.step(x, y)
    assert again.model._flat.tobytes() == whole.model._flat.tobytes()
    assert again.ema._vectors[0].tobytes() == whole.ema._vectors[0].tobytes()
    assert again.optimizer.steps == 7


def test_a_model_that_is_built_anew_begins_anew():
    model = build()
    trainer, fresh = Trainer(model, optimizer=fastcnn.Adam(0.01)), Trainer(build(), optimizer=fastcnn.Adam(0.01))
    expected = [fresh.step(x, y) for _ in range(3)]
    for _ in range(2):
        trainer.step(x, y)
    model.build((2, 8, 8), random_state=0, dtype=np.float64)
    assert [trainer.step(x, y) for _ in range(3)] == expected
    assert trainer.optimizer.steps == 3


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
@pytest.mark.parametrize("make", [*OPTIMIZERS.values(), lambda m: m.ExponentialMovingAverage(0.5)])
def test_a_copy_has_the_settings_only(make, duplicate):
    used = make(fastcnn)
    is_average = isinstance(used, ExponentialMovingAverage)
    Trainer(build(), **{"ema" if is_average else "optimizer": used}).step(x, y)
    other = duplicate(used)
    assert (other.steps, used.steps, other.state) == (0, 1, {})
    settings = [name for name in vars(used) if not name.startswith("_") and name not in {"steps", "gradient_norm"}]
    assert settings
    for name in settings:
        assert getattr(other, name) == getattr(used, name)
    Trainer(build(), **{"ema" if is_average else "optimizer": other}).step(x, y)
    assert other.get_state().keys() == used.get_state().keys()


def test_state_is_aligned_and_allocated_once():
    trainer = Trainer(build(np.float32), optimizer=fastcnn.Adam(), ema=ExponentialMovingAverage())
    places = []
    for n in (12, 5, 12):
        trainer.step(x[:n], y[:n])
        vectors = [*trainer.optimizer._vectors, *trainer.ema._vectors]
        places.append([vector.ctypes.data for vector in vectors])
        assert all(place % 64 == 0 for place in places[-1])
        assert all(vector.dtype == np.float32 for vector in vectors)
    assert places[0] == places[1] == places[2]


# -------------------------------------------------------------------------------------------------------------- kernels


@both_dtypes
@pytest.mark.parametrize("shards", [1, 3])
def test_kernels_write_only_their_piece(shards, dtype):
    """Guard words around every vector, and a piece in the middle."""
    guards, size, inside = Guards(), 128, slice(32, 96)

    def vector(seed):
        return guards.array(np.abs(normal(size, seed=seed)), dtype)

    edges, decayed = guards.array([0, 48, 64, size], np.int64), guards.array([1, 0, 1], dtype)
    rates, spans = guards.array(np.linspace(0.9, 0.1, 16), dtype), (edges, decayed)
    for function, states, extra in [
        (update.sgd, 0, ()), (update.sgd_momentum, 1, ()), (update.adam, 2, spans), (update.lion, 1, spans),
        (update.rmsprop, 1, ()), (update.rmsprop_with_means, 3, ()),
    ]:  # fmt: skip
        theta, g = vector(0), guards.array(normal(8, size, seed=1), dtype)
        state = [vector(2 + k) for k in range(states)]
        arrays = [theta, g, *state]
        before = [array.copy() for array in arrays]
        function(theta, g, shards, 32, 96, *extra, *state, rates)
        for array, old in zip(arrays, before, strict=True):
            changed = array.reshape(-1, size) != old.reshape(-1, size)
            assert changed[0, inside].all()
            changed[0, inside] = False
            assert not changed.any()
    rows = before[1].reshape(8, size)[:shards, inside].astype(np.float64)
    total, absolute, scale = rows.sum(axis=0), np.abs(rows).sum(axis=0), float(rates[0])
    Sum(scale * total, scale * absolute, shards).assert_close(g.reshape(8, size)[0, inside])
    scratch, squares = guards.zeros(32, dtype), guards.zeros(2, np.float64)
    g = guards.array(normal(8, size, seed=1), dtype)
    update.sum_squares(g, shards, size, 32, 96, scratch, squares, 1)
    # A sum of shards is rounded shards - 1 times, its square and the sum of the squares at most once for each number.
    off = gamma(shards - 1, dtype) * absolute
    computed = ((np.abs(total) + off) ** 2).sum()
    bound = gamma(total.size + 1, dtype) * computed + (2 * np.abs(total) * off + off**2).sum()
    assert squares[1] == pytest.approx(float((total**2).sum()), rel=1e-14, abs=float(bound))
    assert squares[0] == 0
    average, theta = vector(5), vector(6)
    expected = average.astype(np.float64)
    expected[inside] = 0.75 * expected[inside] + 0.25 * theta[inside]
    update.average(average, theta, 32, 96, guards.array([0.75, 0.25], dtype))
    Sum(expected, np.abs(expected), 2).assert_close(average)  # all of them are positive
    guards.check()


# ----------------------------------------------------------------------------------------------------- what they refuse


def trained(optimizer):
    Trainer(build(), optimizer=optimizer)
    return optimizer


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: m.SGD(-1), ValueError, "SGD: learning_rate: .* got -1"),
        (lambda m: m.SGD(np.inf), ValueError, "SGD: learning_rate: .* got inf"),
        (lambda m: m.SGD("fast"), TypeError, "SGD: learning_rate: .* got 'fast'"),
        (lambda m: m.SGD(momentum=-0.1), ValueError, "SGD: momentum: .* got -0.1"),
        (lambda m: m.SGD(nesterov=True), ValueError, "SGD: nesterov: expected a momentum above 0 with it; got 0.0"),
        (lambda m: m.SGD(clip_norm=0), ValueError, "SGD: clip_norm: .* got 0"),
        (lambda m: m.Adam(betas=(0.9, 1.0)), ValueError, r"Adam: betas\[1\]: .* got 1.0"),
        (lambda m: m.Adam(betas=(1.0, 0.9)), ValueError, r"Adam: betas\[0\]: .* got 1.0"),
        (lambda m: m.Adam(betas=(0.9, -0.1)), ValueError, r"Adam: betas\[1\]: .* got -0.1"),
        (lambda m: m.Adam(betas=0.9), TypeError, "Adam: betas: .* got 0.9"),
        (lambda m: m.Adam(epsilon=0), ValueError, "Adam: epsilon: .* got 0"),
        (lambda m: m.AdamW(weight_decay=-1), ValueError, "AdamW: weight_decay: .* got -1"),
        (lambda m: m.AdamW(no_decay="biases"), TypeError, "AdamW: no_decay: .* got 'biases'"),
        (lambda m: m.RMSprop(alpha=1), ValueError, "RMSprop: alpha: .* got 1"),
        (lambda m: m.RMSprop(epsilon=-1), ValueError, "RMSprop: epsilon: .* got -1"),
        (lambda m: m.Lion(betas=(-1, 0.9)), ValueError, r"Lion: betas\[0\]: .* got -1"),
        (lambda m: m.clip_by_global_norm({}, 0), ValueError, "clip_by_global_norm: max_norm: .* got 0"),
        (lambda m: m.ExponentialMovingAverage(1.0), ValueError, "ExponentialMovingAverage: decay: .* got 1.0"),
        (lambda m: m.SGD().step(build()), RuntimeError, "SGD: step: Sequential has no gradients"),
        (lambda m: m.Adam().get_state(), RuntimeError, "Adam: get_state: no model yet"),
        (lambda m: m.Adam().set_state({}), RuntimeError, "Adam: set_state: no model yet"),
        (lambda m: trained(m.Adam()).set_state({"steps": 1}), ValueError, "Adam: set_state: expected names .*"),
        (lambda m: trained(m.SGD()).set_state({"steps": [1]}), ValueError, "SGD: set_state: steps: expected shape .*"),
        (lambda m: Trainer(build(), optimizer="sgd"), TypeError, "Trainer: optimizer: .* got 'sgd'"),
        (lambda m: Trainer(build(), optimizer=m.Adam), TypeError, "Trainer: optimizer: .*"),
        (lambda m: Trainer(build(), ema=0.9), TypeError, "Trainer: ema: .* got 0.9"),
    ],
)
def test_wrong_arguments_are_named(call, error, message):
    with pytest.raises(error, match="^" + message):
        call(fastcnn)
