"""ReLU, Flatten, Dense and Softmax against the reference: to the bit, or within derived bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastcnn
import reference
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
