"""Normalisations: the batch's statistics however it is cut, the running ones, fusing, numerical soundness."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import fastcnn
import reference
from fastcnn.engine import executable
from tests.arrays import both_dtypes, normal
from tests.cases import NORM_SHAPES

MAKERS = {
    "BatchNorm": lambda m: m.BatchNorm(),
    "BatchNorm-arguments": lambda m: m.BatchNorm(0.4, 1e-3),
    "GroupNorm-1": lambda m: m.GroupNorm(1),
    "GroupNorm-2": lambda m: m.GroupNorm(2, 1e-3),
    "LayerNorm": lambda m: m.LayerNorm(),
}
makers = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
shapes = pytest.mark.parametrize("shape", NORM_SHAPES, ids=str)


def assert_alike(actual, expected, tolerance=1e-10, scale=0.0):
    """Compare; `scale` is the size of what cancels in `expected`."""
    assert actual.shape == expected.shape
    largest = max(scale, np.abs(expected).max(initial=0))
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * largest)


def random_parameters(layer, seed=3):
    rng = np.random.RandomState(seed)
    for parameter in layer.parameters.values():
        parameter[...] += 0.3 * rng.standard_normal(parameter.shape)


def twins(make, shape):
    """Return a layer and its twin with the same parameters, none of them 0 or 1."""
    fast, ref = make(fastcnn).build(shape[1:]), make(reference).build(shape[1:])
    for layer in (fast, ref):
        random_parameters(layer)
    return fast, ref


def batch_norm():
    layer = fastcnn.BatchNorm().build((5, 4, 3))
    random_parameters(layer)
    layer.running_mean, layer.running_var = normal(5, seed=7), 0.5 + normal(5, seed=8) ** 2
    return layer


# ------------------------------------------------------------------------------------------------------------ the twins


@makers
@shapes
def test_equals_the_reference(make, shape):
    fast, ref = twins(make, shape)
    for seed in range(3):
        x, dL_dout = 3 * normal(*shape, seed=seed) + 1, normal(*shape, seed=seed + 9)
        assert_alike(fast.forward(x), ref.forward(x))
        assert_alike(fast.backward(dL_dout), ref.backward(dL_dout), scale=np.abs(dL_dout).max())
        for name, gradient in ref.gradients.items():
            assert_alike(fast.gradients[name], gradient)
    for name, buffer in fast._state().items():
        assert_alike(buffer, getattr(ref, name))


@shapes
def test_prediction_uses_the_running_statistics_in_both_directions(shape):
    fast, ref = twins(MAKERS["BatchNorm"], shape)
    for layer in (fast, ref):
        layer.forward(3 * normal(*shape) + 1)
        layer.training = False
    x, dL_dout = normal(*shape, seed=1), normal(*shape, seed=2)
    running = fast.running_mean.copy(), fast.running_var.copy()
    assert_alike(fast.forward(x), ref.forward(x))
    assert_alike(fast.backward(dL_dout), ref.backward(dL_dout))
    for name, gradient in ref.gradients.items():
        assert_alike(fast.gradients[name], gradient)
    np.testing.assert_array_equal((fast.running_mean, fast.running_var), running)


def test_backward_belongs_to_the_forward_before_it_whatever_the_mode_is_now():
    fast, ref = twins(MAKERS["BatchNorm"], (3, 5, 4, 3))
    x, dL_dout = normal(3, 5, 4, 3), normal(3, 5, 4, 3, seed=1)
    for training_at_forward in (True, False):
        for layer in (fast, ref):
            layer.training = training_at_forward
            layer.forward(x)
            layer.training = not training_at_forward
        assert_alike(fast.backward(dL_dout), ref.backward(dL_dout))


@makers
@pytest.mark.parametrize("shape", [(4, 6, 5, 3), (5, 6)], ids=str)
def test_a_relu_in_the_same_pass(make, shape):
    models = [fastcnn.Sequential([make(fastcnn), fastcnn.ReLU()], fuse=fuse) for fuse in (True, False)]
    x, dL_dout = normal(*shape), normal(*shape, seed=1)
    ops, found = [], []
    for model in models:
        model.build(shape[1:], dtype=np.float64)
        random_parameters(model)
        output = model.forward(x)
        ops.append(len(model._executables.last.plan.ops))
        found.append([output, model.backward(dL_dout), *model.gradients.values(), *model._state().values()])
    assert ops == [1, 2]
    assert (found[0][0] == 0).any()
    for fused, unfused in zip(*found, strict=True):
        assert_alike(fused, unfused, 1e-13)


# ---------------------------------------------------------------------------------------------------- however it is cut


def network(m):
    return [
        m.Conv2D(6, 3, padding=1, bias=False, random_state=0),
        m.BatchNorm(),
        m.ReLU(),
        m.Conv2D(17, 3, padding=1, stride=2, bias=False, random_state=1),
        m.BatchNorm(0.3),
        m.ReLU(),
        m.MaxPool2D(2),
        m.Flatten(),
        m.Dense(7, random_state=2),
        m.BatchNorm(),
        m.ReLU(),
        m.Dense(4, random_state=3),
    ]


def digits(n, seed=0, dtype=np.float64):
    return normal(n, 2, 8, 8, seed=seed, dtype=dtype), np.random.RandomState(seed + 50).randint(0, 4, n)


@pytest.fixture
def many_shards(monkeypatch):
    monkeypatch.setattr("fastcnn.training.step.SHARD_WORK", 1.0)


def reference_step(layers, loss, x, y, learning_rate):
    out = x
    for layer in layers:
        out = layer.forward(out)
    value, gradient = loss(out, y), loss.gradient(out, y)
    for layer in reversed(layers):
        gradient = layer.backward(gradient)
        for name, values in layer.parameters.items():
            values[...] -= learning_rate * layer.gradients[name]
    return value


@pytest.mark.usefixtures("many_shards")
@pytest.mark.parametrize("fuse", [True, False])
def test_shards_train_as_one_batch(fuse):
    model = fastcnn.Sequential(network(fastcnn), fuse=fuse).build((2, 8, 8), dtype=np.float64)
    layers, loss = network(reference), reference.CrossEntropy()
    trainer = fastcnn.Trainer(model, optimizer=fastcnn.SGD(0.1), threads=2)
    for step, n in enumerate((13, 13, 11, 13, 2)):
        x, y = digits(n, step)
        expected = reference_step(layers, loss, x, y, 0.1)
        np.testing.assert_allclose(trainer.step(x, y), expected, rtol=1e-8)
        assert len(trainer._program.slices(n)) == min(8, 1 << (n.bit_length() - 1))
    for place, layer in enumerate(layers):
        for name, parameter in layer.parameters.items():
            assert_alike(model.parameters[f"{place}.{name}"], parameter, 1e-9, scale=1.0)
    for place in (1, 4, 9):
        assert_alike(model._state()[f"{place}.running_mean"], layers[place].running_mean, 1e-9)
        assert_alike(model.layers[place].running_var, layers[place].running_var, 1e-9)


@pytest.mark.usefixtures("many_shards")
@both_dtypes
def test_threads_do_not_change_a_bit(dtype):
    found = []
    for threads in (1, 2, 3, 4):
        model = fastcnn.Sequential(network(fastcnn)).build((2, 8, 8), dtype=dtype)
        trainer = fastcnn.Trainer(model, optimizer=fastcnn.SGD(0.1), threads=threads)
        losses = [trainer.step(*digits(n, n, dtype)) for n in (13, 13, 9)]
        found.append([*losses, *(array.tobytes() for array in (*model.parameters.values(), *model._state().values()))])
    assert found[1:] == found[:1] * 3


@pytest.mark.parametrize("name", MAKERS)
def test_a_batch_too_large_for_one_piece(name, monkeypatch):
    x, dL_dout = normal(7, 4, 3, 5), normal(7, 4, 3, 5, seed=1)
    found = []
    for chunk in (executable.CHUNK, 3 * 60):
        monkeypatch.setattr(executable, "CHUNK", chunk)
        layer = MAKERS[name](fastcnn).build((4, 3, 5))
        random_parameters(layer)
        output = layer.forward(x)
        assert len(layer._executables.last.shards) == (1 if chunk > 200 else 3)
        found.append([output, layer.backward(dL_dout), *layer.gradients.values(), *layer._state().values()])
    for whole, pieces in zip(*found, strict=True):
        assert_alike(pieces, whole, 1e-12)


def test_it_trains():
    model = fastcnn.Sequential(network(fastcnn)).build((2, 8, 8))
    trainer = fastcnn.Trainer(model, optimizer=fastcnn.SGD(0.1))
    x, y = digits(48, dtype=np.float32)
    losses = [trainer.step(x, y) for _ in range(100)]
    assert losses[-1] < 0.25 * losses[0]


# ------------------------------------------------------------------------------------------------------------ soundness


@pytest.mark.usefixtures("many_shards")
def test_a_mean_far_from_zero_costs_no_digits_of_the_variance():
    """E[x²] - E[x]² in float32 would leave nothing of a variance of 1 beside a mean of 10,000."""
    x = (10_000 + normal(64, 8, 16, 16)).astype(np.float32)
    x[:8] -= 9_000  # and shards that differ
    layer = fastcnn.BatchNorm(momentum=1.0)
    output = layer.forward(x)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(layer.running_mean, exact.mean((0, 2, 3)), rtol=2e-7)
    np.testing.assert_allclose(layer.running_var, exact.var((0, 2, 3), ddof=1), rtol=1e-5)
    quiet = (10_000 + normal(64, 8, 16, 16)).astype(np.float32)
    output = layer.forward(quiet)
    exact = quiet.astype(np.float64)
    np.testing.assert_allclose(layer.running_var, exact.var((0, 2, 3), ddof=1), rtol=1e-5)
    expected = (exact - exact.mean((0, 2, 3))[:, None, None]) / exact.std((0, 2, 3))[:, None, None]
    assert np.abs(output - expected).max() < 2e-3  # the mean itself has 24 bits: 5e-4 of a standard deviation


@makers
def test_settings_cannot_be_changed(make):
    """Recorded steps hold them."""
    layer = make(fastcnn)
    for name in {"epsilon", "momentum"} & set(dir(layer)):
        with pytest.raises(AttributeError):
            setattr(layer, name, 0.5)


@makers
def test_without_epsilon_padding_channels_stay_finite(make):
    layer = make(fastcnn)
    layer._epsilon = 0.0
    x = normal(4, 6, 3, 3)
    model = fastcnn.Sequential([layer, fastcnn.Conv2D(3, 3)]).build((6, 3, 3), dtype=np.float64)
    assert np.isfinite(model.forward(x)).all()
    assert np.isfinite(model.backward(normal(4, 3, 1, 1))).all()
    assert all(np.isfinite(gradient).all() for gradient in model.gradients.values())


@makers
def test_a_constant_input_gives_beta(make):
    fast, _ = twins(make, (3, 4, 2, 2))
    np.testing.assert_allclose(
        fast.forward(np.full((3, 4, 2, 2), 7.0)),
        np.broadcast_to(fast.beta.reshape(4, *fast.beta.shape[1:] or (1, 1)), (3, 4, 2, 2)), atol=1e-12,
    )  # fmt: skip


# -------------------------------------------------------------------------------------------------------------- buffers


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_take_the_running_statistics_along(copied):
    layer = batch_norm()
    twin = copied(layer)
    np.testing.assert_array_equal(twin.running_mean, layer.running_mean)
    layer.forward(normal(3, 5, 4, 3))
    assert not np.allclose(twin.running_mean, layer.running_mean)
    assert not np.allclose(twin.running_var, layer.running_var)


def test_they_are_part_of_the_weights_of_a_model():
    model = fastcnn.Sequential([fastcnn.Conv2D(3, 3), fastcnn.BatchNorm()]).build((1, 6, 6))
    model.layers[1].running_mean = np.arange(3)
    assert len(model.get_weights()) == 6
    np.testing.assert_array_equal(model.get_weights()[4], np.arange(3))
    assert model.get_weights()[5].dtype == np.float32
    twin = model.copy()
    model.forward(normal(2, 1, 6, 6, dtype=np.float32))
    np.testing.assert_array_equal(twin.layers[1].running_mean, np.arange(3))


# --------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fastcnn.BatchNorm(momentum=1.5), ValueError, r"BatchNorm: momentum: .*>= 0 and <= 1; got 1.5"),
        (lambda: fastcnn.BatchNorm(momentum="0.1"), TypeError, "BatchNorm: momentum: expected a number"),
        (lambda: fastcnn.BatchNorm(epsilon=-1), ValueError, r"BatchNorm: epsilon: expected a finite number >= 0"),
        (lambda: fastcnn.LayerNorm(epsilon=np.nan), ValueError, "LayerNorm: epsilon: .*nan"),
        (lambda: fastcnn.GroupNorm(0), ValueError, "GroupNorm: num_groups: expected a positive int"),
        (lambda: fastcnn.GroupNorm(3).build((8, 2, 2)), ValueError, "GroupNorm: num_groups: .* 8 channels; got 3"),
        (lambda: fastcnn.BatchNorm().forward(normal(1, 5)), ValueError, "BatchNorm: input: expected more than one"),
        (lambda: fastcnn.BatchNorm().running_mean, AttributeError, "BatchNorm: running_mean: not there before build"),
        (lambda: batch_norm().forward(normal(2, 4, 4, 3)), ValueError, "BatchNorm: input: expected 5 channels.*got 4"),
        (
            lambda: fastcnn.LayerNorm().build((2, 3, 3)).forward(normal(2, 2, 3, 4)),
            ValueError,
            r"LayerNorm: input: expected samples of shape \(2, 3, 3\)",
        ),
        (lambda: fastcnn.GroupNorm(2).forward(normal(2, 4, 4)), ValueError, "GroupNorm: input: .*3 axes"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_refused_batch_changes_nothing():
    layer = fastcnn.BatchNorm().build((5,))
    with pytest.raises(ValueError, match="more than one number"):
        layer.forward(normal(1, 5))
    np.testing.assert_array_equal(layer.running_var, np.ones(5))
    with pytest.raises(RuntimeError, match="call forward first"):
        layer.backward(normal(1, 5))
    layer.training = False
    assert np.isfinite(layer.forward(normal(1, 5))).all()


# ------------------------------------------------------------------------------------------------------ another witness


@makers
@shapes
@pytest.mark.parametrize("training_mode", [True, False])
def test_equals_torch(make, shape, training_mode):
    torch = pytest.importorskip("torch")
    layer = make(fastcnn).build(shape[1:])
    random_parameters(layer)
    channels, epsilon = shape[1], layer.epsilon
    twin = {
        fastcnn.BatchNorm: lambda: (torch.nn.BatchNorm1d if len(shape) == 2 else torch.nn.BatchNorm2d)(
            channels, epsilon, layer.momentum
        ),
        fastcnn.GroupNorm: lambda: torch.nn.GroupNorm(layer.num_groups, channels, epsilon),
        fastcnn.LayerNorm: lambda: torch.nn.LayerNorm(shape[1:], epsilon),
    }[type(layer)]().double()
    with torch.no_grad():
        twin.weight[...] = torch.tensor(layer.gamma)
        twin.bias[...] = torch.tensor(layer.beta)
    for seed, mode in ((0, True), (1, True), (2, training_mode)):
        layer.training = mode
        twin.train(mode)
        twin.zero_grad()
        x, dL_dout = 2 * normal(*shape, seed=seed) + 1, normal(*shape, seed=seed + 9)
        theirs = torch.tensor(x, requires_grad=True)
        output = twin(theirs)
        output.backward(torch.tensor(dL_dout))
        assert_alike(layer.forward(x), output.detach().numpy())
        assert_alike(layer.backward(dL_dout), theirs.grad.numpy(), scale=np.abs(dL_dout).max())
        assert_alike(layer.gradients["gamma"], twin.weight.grad.numpy(), scale=np.abs(dL_dout).max())
        assert_alike(layer.gradients["beta"], twin.bias.grad.numpy())
    for name in layer._state():
        assert_alike(layer._state()[name], getattr(twin, name).numpy())
