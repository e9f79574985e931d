"""ReLU, Flatten, Dense and Softmax against the reference: to the bit, or within derived bounds."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastcnn
import reference
from fastcnn.ops import dense_wide
from fastcnn.ops.dense import DenseOp
from fastcnn.ops.dense_wide import WideDenseOp
from tests.arrays import DTYPES, ORDERS, both_dtypes, normal, sweep
from tests.bounds import expect_dense, gamma
from tests.cases import DENSE_CASES, ELEMENTWISE_SHAPES, DenseCase


@both_dtypes
@pytest.mark.parametrize("shape", ELEMENTWISE_SHAPES, ids=str)
@pytest.mark.parametrize("name", ["ReLU", "Flatten"])
def test_layers_that_do_not_round(name, shape, dtype):
    x = normal(*shape, dtype=dtype)
    x.flat[::3] = 0
    x.flat[1::5] = -0.0
    fast, ref = getattr(fastcnn, name)(), getattr(reference, name)()
    for order in ORDERS.values():
        actual, expected = fast.forward(order(x)), ref.forward(x)
        assert actual.dtype == dtype
        np.testing.assert_array_equal(actual, expected)
        dL_dout = normal(*expected.shape, seed=1, dtype=dtype)
        dL_dinput = fast.backward(order(dL_dout))
        assert dL_dinput.dtype == dtype
        np.testing.assert_array_equal(dL_dinput, ref.backward(dL_dout))


def dense_problem(case: DenseCase, dtype, seed: int = 0):
    parameters = {"weights": normal(case.D, case.nodes, seed=seed, dtype=dtype)}
    if case.bias:
        parameters["biases"] = normal(case.nodes, seed=seed + 1, dtype=dtype)
    x = normal(case.N, case.D, seed=seed + 2, dtype=dtype)
    dL_dout = normal(case.N, case.nodes, seed=seed + 3, dtype=dtype)
    return x, dL_dout, parameters


LARGE_DENSE_CASES = (DenseCase("many-features", 7, 2700, 20), DenseCase("many-samples", 300, 33, 17))


@both_dtypes
@pytest.mark.parametrize("case", DENSE_CASES + LARGE_DENSE_CASES, ids=str)
def test_dense(case, dtype):
    x, dL_dout, parameters = dense_problem(case, dtype)
    layer = fastcnn.Dense(case.nodes, bias=case.bias).build((case.D,), dtype=dtype)
    for name, value in parameters.items():
        setattr(layer, name, value)
    expect_dense(case, parameters, x, dL_dout).assert_close(layer, x, dL_dout)


@sweep
@given(
    st.builds(DenseCase, st.just("sweep"), st.integers(1, 14), st.integers(1, 70), st.integers(1, 70), st.booleans()),
    st.sampled_from(DTYPES),
    st.sampled_from(list(ORDERS)),
    st.integers(0, 99),
)
def test_dense_sweep(case, dtype, order, seed):
    x, dL_dout, parameters = dense_problem(case, dtype, seed)
    layer = fastcnn.Dense(case.nodes, bias=case.bias).build((case.D,), dtype=dtype)
    for name, value in parameters.items():
        setattr(layer, name, value)
    expect_dense(case, parameters, x, dL_dout).assert_close(layer, ORDERS[order](x), ORDERS[order](dL_dout))


def step_of_both(monkeypatch, layers, n, shape, dtype):
    """Return what a step leaves, once with many weights as they lie, and once with all of them packed."""
    results = []
    monkeypatch.setattr(dense_wide, "NEAR", 0)
    for implementation in (WideDenseOp, DenseOp):
        monkeypatch.setattr(dense_wide, "WideDenseOp", implementation)
        model = fastcnn.Sequential(layers()).build(shape, random_state=0, dtype=dtype)
        trainer = fastcnn.Trainer(model, optimizer=fastcnn.SGD(0.1))
        x = normal(n, *shape, dtype=dtype)
        losses = [trainer.step(x, np.arange(n) % 3) for _ in range(3)]
        results.append([losses, model.predict(x), *model.parameters.values(), *model.gradients.values()])
    return results


@both_dtypes
@pytest.mark.parametrize("n", [1, 2, 3, 40])
@pytest.mark.parametrize("channels", [1, 7, 16, 19])
@pytest.mark.parametrize("side", [(2, 2), (3, 3), (5, 4)], ids=str)
def test_many_weights_as_they_lie_give_the_bits_of_packed_ones(monkeypatch, side, channels, n, dtype):
    def layers():
        yield from (fastcnn.Conv2D(channels, 1), fastcnn.ReLU(), fastcnn.Flatten())
        yield from (fastcnn.Dense(37), fastcnn.ReLU(), fastcnn.Dense(18), fastcnn.ReLU(), fastcnn.Dense(3))

    wide, packed = step_of_both(monkeypatch, lambda: list(layers()), n, (2, *side), dtype)
    for one, other in zip(wide, packed, strict=True):
        np.testing.assert_array_equal(one, other)


@both_dtypes
def test_more_weights_than_scratch_has_room_for(monkeypatch, dtype):
    """Several pieces of lines, of a wide gradient, and of many examples, straight from images of three channels."""

    def layers():
        return [fastcnn.Flatten(), fastcnn.Dense(700), fastcnn.ReLU(), fastcnn.Dense(3)]

    wide, packed = step_of_both(monkeypatch, layers, 90, (3, 17, 18), dtype)
    for one, other in zip(wide, packed, strict=True):
        np.testing.assert_array_equal(one, other)


def test_few_examples_have_no_row_of_gradients_more_than_memory_allows():
    def rows(nodes, n):
        model = fastcnn.Sequential([fastcnn.Dense(nodes), fastcnn.ReLU(), fastcnn.Dense(10)]).build((1000,), 0)
        trainer = fastcnn.Trainer(model)
        trainer.step(np.ones((n, 1000)), np.zeros(n, int))
        return len(trainer._program.slices(n))

    assert [rows(1000, n) for n in (8, 21, 22, 43, 86)] == [1, 1, 2, 4, 8]


@both_dtypes
@pytest.mark.parametrize("shape", [(1, 1), (3, 17), (2, 3, 4, 5), (4, 17, 2, 3), (33, 4, 3, 3)], ids=str)
@pytest.mark.parametrize("nodes", [1, 10, 17])
def test_softmax(nodes, shape, dtype):
    case = DenseCase("logits", shape[0], int(np.prod(shape[1:])), nodes)
    x, _, parameters = dense_problem(case, dtype)
    x = x.reshape(shape)
    fast, ref = fastcnn.Softmax(case.D, nodes), reference.Softmax(case.D, nodes)
    for name, value in parameters.items():
        setattr(fast, name, value)
        setattr(ref, name, value)
    probs, expected = fast.forward(x), ref.forward(x)
    assert probs.dtype == dtype
    np.testing.assert_allclose(probs.sum(axis=1), 1, rtol=nodes * np.finfo(dtype).eps)
    # exp turns an absolute error of a logit, once for itself and once for the largest, into a relative one; its own
    # error is one unit in the last place (two roundings); the sum over the classes and the division round as well.
    dL_dout = probs - np.eye(nodes, dtype=dtype)[np.arange(len(x)) % nodes]
    logits = expect_dense(case, parameters, x.reshape(len(x), -1), dL_dout)
    spread = np.ptp(logits.output.exact, axis=1).max() * gamma(1, dtype)
    relative = np.expm1(2 * (2 * logits.output.bound(dtype).max() + spread)) + gamma(2 * nodes + 8, dtype)
    np.testing.assert_allclose(probs, expected, rtol=relative)
    # Backward is that of the dense part: it takes the gradient by the logits.
    logits.dL_dinput.assert_close(fast.backward(dL_dout).reshape(len(x), -1))
    for name, gradient in fast.gradients.items():
        logits.gradients[name].assert_close(gradient)


@both_dtypes
def test_softmax_of_large_logits(dtype):
    layer = fastcnn.Softmax(4, 3)
    layer.weights[...] = 0
    layer.biases[...] = 1e4, -1e4, 9999
    probs = layer.forward(np.ones((2, 4), dtype))
    np.testing.assert_allclose(probs, [[1 / (1 + np.exp(-1)), 0, 1 / (1 + np.exp(1))]] * 2, rtol=1e-6)


def test_parameters_are_documented_properties():
    """Editors and `help` see an array with a sentence; who sets it copies into the model's vector."""
    layer = fastcnn.Dense(2, random_state=0).build((3,))
    stored = layer.parameters["weights"]
    layer.weights = np.ones((3, 2))
    assert stored.tolist() == np.ones((3, 2)).tolist()
    assert inspect.getdoc(fastcnn.Dense.weights) == "The weights, (inputs, nodes)."
    with pytest.raises(ValueError, match=r"Dense: weights: expected shape \(3, 2\); got shape \(2,\)"):
        layer.weights = [1, 2]
