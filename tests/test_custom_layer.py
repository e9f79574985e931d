"""A user's own layer in plain NumPy: alone, in a model beside ours, behind Flatten; and what it is told when wrong."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

import fastcnn
import fastcnn.layers.base
from fastcnn import Conv2D, Dense, Flatten, Layer, MaxPool2D, Parameter, ReLU, Sequential, Trainer
from tests.arrays import both_dtypes, normal
from tests.slopes import away_from_kinks, directional_gradient_check


class PReLU(Layer):
    """max(0, x) + slope · min(0, x), a slope for each channel."""

    def _parameters(self, input_shape):
        shape = (input_shape[0],) + (1,) * (len(input_shape) - 1)
        return {"slope": Parameter(shape, initial=lambda generator: generator.uniform(0.1, 0.5, shape))}

    def _forward(self, x):
        return np.where(x > 0, x, self.parameters["slope"] * x)

    def _backward(self, x, y, dL_dout):
        axes = (0, *range(2, x.ndim))
        dL_dinput = np.where(x > 0, 1, self.parameters["slope"]) * dL_dout
        return dL_dinput, {"slope": (np.minimum(x, 0) * dL_dout).sum(axis=axes).reshape(self.parameters["slope"].shape)}


class Rolled(Layer):
    """The features in another order, and twice: without parameters, with another shape."""

    def output_shape(self, input_shape):
        return (2 * input_shape[0], *input_shape[1:])

    def _forward(self, x):
        return np.concatenate([x, np.roll(x, 1, axis=1)], axis=1)

    def _backward(self, x, y, dL_dout):
        half = dL_dout.shape[1] // 2
        return dL_dout[:, :half] + np.roll(dL_dout[:, half:], -1, axis=1)


class NumpyReLU(Layer):
    """max(0, x)."""

    def _forward(self, x):
        return np.maximum(x, 0)

    def _backward(self, x, y, dL_dout):
        return np.where(y > 0, dL_dout, 0)


class Negative(Layer):
    """-max(0, x): the same as behind ReLU."""

    def _forward(self, x):
        return -x

    def _backward(self, x, y, dL_dout):
        return -dL_dout


@pytest.mark.parametrize("shape", [(3, 5, 4, 6), (1, 1, 1, 1), (2, 17, 3, 2), (4, 9)], ids=str)
def test_alone_its_formula_is_what_comes_out(shape):
    layer = PReLU()
    x = normal(*shape)
    y = layer.forward(x)
    slope = layer.parameters["slope"]
    np.testing.assert_array_equal(y, np.where(x > 0, x, slope * x))
    dL_dout = normal(*shape, seed=1)
    dL_dinput = layer.backward(dL_dout)
    np.testing.assert_array_equal(dL_dinput, np.where(x > 0, dL_dout, slope * dL_dout))
    expected = (np.minimum(x, 0) * dL_dout).sum(axis=(0, *range(2, x.ndim))).reshape(slope.shape)
    np.testing.assert_allclose(layer.gradients["slope"], expected, rtol=1e-13, atol=1e-13)


def test_its_gradients_are_the_slopes():
    layer, x = PReLU(), away_from_kinks((3, 5, 4, 6))
    dL_dout = normal(3, 5, 4, 6, seed=1)

    def loss() -> float:
        return float(np.sum(layer.forward(x) * dL_dout))

    loss()
    dL_dinput = layer.backward(dL_dout)
    for array, gradient in ((x, dL_dinput), (layer.parameters["slope"], layer.gradients["slope"])):
        directional_gradient_check(loss, array, gradient)


@both_dtypes
@pytest.mark.parametrize("fuse", [True, False])
def test_it_trains_beside_ours(dtype, fuse):
    model = Sequential([Conv2D(6, 3, padding=1), PReLU(), MaxPool2D(2), Conv2D(9, 3), PReLU(), Flatten(), PReLU(),
                        Dense(12), PReLU(), Dense(3)], fuse=fuse)  # fmt: skip
    model.build((2, 10, 8), random_state=0, dtype=dtype)
    assert [name for name in model.parameters if "slope" in name] == ["1.slope", "4.slope", "6.slope", "8.slope"]
    x, y = normal(24, 2, 10, 8, dtype=dtype), np.arange(24) % 3
    first = {name: array.copy() for name, array in model.parameters.items()}
    trainer = Trainer(model, optimizer=fastcnn.SGD(0.05))
    losses = [trainer.step(x, y) for _ in range(60)]
    assert losses[-1] < 0.2 * losses[0]
    for name in ("1.slope", "4.slope", "6.slope", "8.slope"):
        assert not np.array_equal(model.parameters[name], first[name])


def test_in_a_model_it_is_a_formula_of_our_layers():
    """A ReLU in plain NumPy is ours, to the bit: ten steps of training, for any number of threads."""

    def train(activation, threads):
        model = Sequential([Conv2D(8, 3), activation(), Conv2D(5, 3), activation(), Flatten(), Dense(4)], fuse=False)
        model.build((3, 16, 16), random_state=0)
        trainer = Trainer(model, optimizer=fastcnn.SGD(0.05), threads=threads)
        x, y = normal(64, 3, 16, 16, dtype=np.float32), np.arange(64) % 4
        return [trainer.step(x, y) for _ in range(10)], model.forward(x)

    losses, output = train(ReLU, 1)
    assert losses[-1] < losses[0]
    for threads in (1, 2, 3):
        others, other = train(NumpyReLU, threads)
        assert others == losses
        np.testing.assert_array_equal(other, output)


@pytest.mark.parametrize("fuse", [True, False])
def test_features_behind_flatten_come_in_the_order_c_h_w(fuse):
    x = normal(3, 5, 4, 6)
    model = Sequential([Flatten(), Rolled()], fuse=fuse).build((5, 4, 6), dtype=np.float64)
    flat = x.reshape(3, -1)
    np.testing.assert_array_equal(model.forward(x), np.concatenate([flat, np.roll(flat, 1, axis=1)], axis=1))
    dL_dout = normal(3, 240, seed=1)
    expected = dL_dout[:, :120] + np.roll(dL_dout[:, 120:], -1, axis=1)
    np.testing.assert_array_equal(model.backward(dL_dout), expected.reshape(x.shape))


@pytest.mark.parametrize("layers", [
    lambda: [Flatten(), ReLU(), Dense(4, random_state=0)],
    lambda: [ReLU(), Flatten(), Dense(4, random_state=0)],
    lambda: [Flatten(), Negative(), Negative(), ReLU(), Dense(4, random_state=0)],
    lambda: [Negative(), Flatten(), Negative(), ReLU(), Dense(4, random_state=0)],
    lambda: [Sequential([Flatten()]), ReLU(), Sequential([Flatten()]), Dense(4, random_state=0)],
], ids=lambda make: " ".join(type(layer).__name__ for layer in make()))  # fmt: skip
@pytest.mark.parametrize("fuse", [True, False])
def test_flatten_before_anything(layers, fuse):
    x, dL_dout = normal(3, 5, 4, 6), normal(3, 4, seed=1)
    model = Sequential(layers(), fuse=fuse).build((5, 4, 6), dtype=np.float64)
    weights = Dense(4, random_state=0).build((120,)).weights
    flat = np.maximum(x.reshape(3, -1), 0)
    np.testing.assert_allclose(model.forward(x), flat @ weights, rtol=1e-12, atol=1e-12)
    expected = (np.where(flat > 0, dL_dout @ weights.T, 0)).reshape(x.shape)
    np.testing.assert_allclose(model.backward(dL_dout), expected, rtol=1e-12, atol=1e-12)
    gradient = model.gradients[next(name for name in model.gradients if name.endswith("weights"))]
    np.testing.assert_allclose(gradient, flat.T @ dL_dout, rtol=1e-12, atol=1e-12)


def test_it_may_return_its_input_but_not_write_to_it():
    class Same(Layer):
        def _forward(self, x):
            return x

        def _backward(self, x, y, dL_dout):
            return dL_dout

    class Writing(Same):
        def _forward(self, x):
            x *= 2
            return x

    x = normal(2, 3, 4, 4)
    layer = Same()
    np.testing.assert_array_equal(layer.forward(x), x)
    np.testing.assert_array_equal(layer.backward(x), x)
    with pytest.raises(ValueError, match="read-only"):
        Writing().forward(x)


def _broken(**methods):
    return type("Mine", (PReLU,), methods)()


@pytest.mark.parametrize(("layer", "message"), [
    (_broken(_forward=lambda self, x: x[:, :1]), r"_forward: output: expected shape \(2, 3, 4, 4\); got shape \(2, 1,"),
    (_broken(_forward=lambda self, x: None), r"Mine: _forward: output: expected shape \(2, 3, 4, 4\); got NoneType"),
    (_broken(_backward=lambda self, x, y, d: d), r"Mine: _backward: expected the gradients of \['slope'\]; got none"),
    (_broken(_backward=lambda self, x, y, d: (d, {"slop": 1})), r"gradients of \['slope'\]; got \['slop'\]"),
    (_broken(_backward=lambda self, x, y, d: (d.sum(), {"slope": x})), r"dL_dinput: expected shape \(2, 3, 4, 4\)"),
    (_broken(_backward=lambda self, x, y, d: (d, {"slope": x})), r"slope: expected shape \(3, 1, 1\); got shape \(2,"),
])  # fmt: skip
def test_a_wrong_formula_is_named(layer, message):
    with pytest.raises(ValueError, match=message):
        layer.backward(layer.forward(normal(2, 3, 4, 4)))


def test_a_missing_formula_is_named():
    with pytest.raises(NotImplementedError, match=r"Empty: _forward\(x\)"):
        type("Empty", (Layer,), {})().forward(normal(2, 3))
    only_forward = type("Half", (Layer,), {"_forward": lambda self, x: x})()
    only_forward.forward(normal(2, 3))
    with pytest.raises(NotImplementedError, match=r"Half: _backward\(x, y, dL_dout\)"):
        only_forward.backward(normal(2, 3))


def test_the_docstring_is_true():
    results = doctest.testmod(fastcnn.layers.base)
    assert results.attempted >= 6
    assert not results.failed
