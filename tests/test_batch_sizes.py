"""Batches of one, two and three samples, mixed with larger ones: every row of the table, against the reference."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn
import reference
from fastcnn import SGD, CNNClassifier, CNNRegressor, Trainer
from fastcnn.data.augmentation import epoch_order
from tests.arrays import normal
from tests.cases import (
    CONV_CASES,
    DENSE_CASES,
    DEPTHWISE_CASES,
    ELEMENTWISE_SHAPES,
    LAYER_CASES,
    NORM_SHAPES,
    POOL_CASES,
    TRANSPOSE_CASES,
)
from tests.models import ModelCase

SIZES = (4, 1, 2, 3, 1, 4)
KINDS = {"float32": np.float32, "float64": np.float64, "uint8": np.uint8}
# A number in the wrong place is an error as large as the numbers themselves. Rounding stays far below: sums have at
# most some thousand terms, and each of some ten layers adds some roundings of 6e-8.
CLOSE = {np.dtype(np.float32): 1e-3, np.dtype(np.float64): 1e-9}


def _rows():
    """Yield a network for each row of each table: the row's layer, then what makes two numbers of its output."""
    for tables, layer in (
        (CONV_CASES, "Conv2D"),
        (DEPTHWISE_CASES, "DepthwiseConv2D"),
        (TRANSPOSE_CASES, "Conv2DTranspose"),
        (POOL_CASES, "MaxPool2D"),
        (POOL_CASES, "AvgPool2D"),
    ):
        for case in tables:
            yield f"{layer}-{case.name}", case.input_shape[1:], lambda m, c=case, n=layer: getattr(m, n)(**c.arguments)
    for case in DENSE_CASES:
        yield f"Dense-{case.name}", (case.D,), lambda m, c=case: m.Dense(c.nodes, c.bias)
    for shape in ELEMENTWISE_SHAPES:
        yield f"Tanh-{shape}", shape[1:], lambda m: m.Tanh()
    for shape in NORM_SHAPES:
        yield f"BatchNorm-{shape}", shape[1:], lambda m: m.BatchNorm()
        yield f"LayerNorm-{shape}", shape[1:], lambda m: m.LayerNorm()
    for case in LAYER_CASES:
        if not case.draws:
            yield f"layer-{case.name}", case.input_shape[1:], case.make


def _network(make, shape):
    """Return a function of a module that makes the layers."""
    maps = len(fastcnn.Sequential([make(fastcnn)]).output_shape(shape)) == 3
    return lambda m: [make(m), *([m.Flatten()] if maps else []), m.Dense(2)]


ROWS = [ModelCase(name, shape, _network(make, shape)) for name, shape, make in _rows()]
FITTED = [row for row in ROWS if row.name.startswith("layer-") and row.name != "layer-BatchNorm-dense"]


def samples(row: ModelCase, n: int, kind: type, seed: int = 3) -> np.ndarray:
    """Return numbers of which no two are alike."""
    x = normal(n, *row.input_shape, seed=seed)
    return (
        np.random.RandomState(seed).randint(256, size=x.shape).astype(np.uint8) if kind == np.uint8 else x.astype(kind)
    )


def as_numbers(x: np.ndarray) -> np.ndarray:
    return x / 255 if x.dtype == np.uint8 else x.astype(np.float64)


def assert_near(actual, expected, dtype, scale: float = 0.0) -> None:
    """Compare with what is `expected`; `scale` is the size of what may cancel in it."""
    close = CLOSE[np.dtype(dtype)]
    np.testing.assert_allclose(actual, expected, rtol=close, atol=close * max(scale, np.abs(expected).max()))


@pytest.mark.parametrize("row", ROWS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_steps(row, kind):
    """Loss and gradients of each batch, whatever came before; the parameters stand still."""
    kind = KINDS[kind]
    dtype = np.float64 if kind == np.float64 else np.float32
    model, loss, expected = row.build(dtype), reference.MeanSquaredError(), {}
    trainer, chain = Trainer(model, "mean_squared_error", SGD(0.0), threads=1), row.chain(model)
    x, y = samples(row, 4, kind), normal(4, 2)
    for n in set(SIZES):
        try:
            output = chain.forward(as_numbers(x[-n:]))
        except ValueError:  # one number has no variance
            continue
        chain.backward(loss.gradient(output, y[-n:]))
        expected[n] = loss(output, y[-n:]), {name: gradient.copy() for name, gradient in chain.gradients.items()}
    for n in SIZES:
        if n not in expected:
            with pytest.raises(ValueError, match="BatchNorm"):
                trainer.step(x[-n:], y[-n:])
            continue
        value, gradients = expected[n]
        assert_near(trainer.step(x[-n:], y[-n:]), value, dtype)
        scale = max(np.abs(gradient).max() for gradient in gradients.values())
        for name, gradient in gradients.items():
            assert_near(model.gradients[name], gradient, dtype, scale)


@pytest.mark.parametrize("row", FITTED, ids=str)
@pytest.mark.parametrize("batch_size", [1, 2, 3, 4])
def test_fit_and_evaluate(row, batch_size):
    """Seven samples: the last batch of an epoch has one sample, or all have."""
    model, loss = row.build(), reference.MeanSquaredError()
    chain = row.chain(model)
    x, y = samples(row, 7, np.float64), normal(7, 2)
    trainer = Trainer(model, "mean_squared_error", SGD(0.01), threads=1, random_state=0)
    trainer.fit(x, y, epochs=2, batch_size=batch_size, verbose=0)
    for epoch in range(2):
        order = epoch_order(trainer._seed, epoch, 7)
        for first in range(0, 7, batch_size):
            chosen = order[first : first + batch_size]
            chain.backward(loss.gradient(chain.forward(x[chosen]), y[chosen]))
            reference.SGD(0.01).step(chain.parameters, chain.gradients)
    for name, parameter in chain.parameters.items():
        np.testing.assert_allclose(model.parameters[name], parameter, rtol=1e-7, atol=1e-7, err_msg=name)
    for layer in chain.layers:
        layer.training = False
    expected = loss(chain.forward(x), y)
    assert trainer.evaluate(x, y, batch_size=batch_size).loss == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "layers", ["auto", [fastcnn.Flatten(), fastcnn.Dense(16), fastcnn.ReLU()]], ids=["auto", "dense"]
)
@pytest.mark.parametrize("estimator", [CNNRegressor, CNNClassifier])
def test_partial_fit_of_single_rows(estimator, layers):
    """A row alone leaves what it leaves twice in a batch: the mean over both is its gradient."""
    X, rng = normal(60, 17, seed=1), np.random.RandomState(0)
    y = X @ rng.standard_normal(17)
    y = (y > 0).astype(int) if estimator is CNNClassifier else y
    known = {"classes": [0, 1]} if estimator is CNNClassifier else {}
    one, two = (estimator(layers, random_state=0, solver=SGD(0.01)).partial_fit(X, y, **known) for _ in range(2))
    for i in range(30):
        one.partial_fit(X[i : i + 1], y[i : i + 1])
        two.partial_fit(X[[i, i]], y[[i, i]])
        if i % 10 == 5:  # and larger ones in between
            for each in (one, two):
                each.partial_fit(X[:7], y[:7])
    for name, parameter in two.model_.parameters.items():
        assert_near(one.model_.parameters[name], parameter, np.float32)


@pytest.mark.parametrize("estimator", [CNNRegressor, CNNClassifier])
@pytest.mark.parametrize("batch_size", [1, 20])
def test_fit_of_rows_whose_last_batch_is_one(estimator, batch_size):
    """The first of 41 rows in order, in batches as `fit` cuts them, against a loop of steps on each row twice."""
    X, rng = normal(41, 17, seed=2), np.random.RandomState(0)
    y = X @ rng.standard_normal(17)
    y = (y > 0).astype(int) if estimator is CNNClassifier else y
    arguments = {"random_state": 0, "solver": SGD(0.01), "max_iter": 1, "schedule": "constant", "shuffle": False}
    if estimator is CNNClassifier:
        arguments["loss"] = "log_loss"  # "auto" holds samples out to find a temperature
    with pytest.warns(UserWarning, match="Maximum iterations"):
        one = estimator(batch_size=batch_size, **arguments).fit(X, y)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        two = estimator(batch_size=2 * batch_size, **arguments).fit(np.repeat(X, 2, axis=0), np.repeat(y, 2))
    for name, parameter in two.model_.parameters.items():
        assert_near(one.model_.parameters[name], parameter, np.float32)
