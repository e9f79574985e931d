"""Optimizers: the reference's and PyTorch's steps; what is left alone; their kernels; what they refuse."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import fastcnn
import reference
from fastcnn import Conv2D, Dense, Flatten, ReLU, Sequential, Trainer
from fastcnn.kernels import update
from tests.arrays import both_dtypes, normal
from tests.bounds import Sum, gamma
from tests.buffers import lanes
from tests.guards import Guards
from tests.optimizers import NO_DECAY, assert_close, build, every_optimizer, own_loop, x, y

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
    squares, pitch = guards.zeros(3, np.float64), lanes(dtype)
    g = guards.array(normal(8, size, seed=1), dtype)
    chunks = (guards.array(column, np.int64) for column in ([0, 32, 96], [2, 64 // pitch, 2], [16, pitch, 16]))
    update.sum_squares(g, shards, size, *chunks, 1, 2, squares)
    # A sum of shards is rounded shards - 1 times, its square and the sum of the squares at most once for each number.
    off = gamma(shards - 1, dtype) * absolute
    computed = ((np.abs(total) + off) ** 2).sum()
    bound = gamma(total.size + 1, dtype) * computed + (2 * np.abs(total) * off + off**2).sum()
    assert squares[1] == pytest.approx(float((total**2).sum()), rel=1e-14, abs=float(bound))
    assert squares[0] == squares[2] == 0
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
        (lambda m: Trainer(build(), optimizer="sdg"), ValueError, "Trainer: optimizer: .* got 'sdg'"),
        (lambda m: Trainer(build(), optimizer=m.Adam), TypeError, "Trainer: optimizer: .*"),
        (lambda m: Trainer(build(), ema=0.9), TypeError, "Trainer: ema: .* got 0.9"),
    ],
)
def test_wrong_arguments_are_named(call, error, message):
    with pytest.raises(error, match="^" + message):
        call(fastcnn)
