"""Averages, global poolings and upsampling against the reference and PyTorch; NaN and large windows of the maximum."""

from __future__ import annotations

import importlib.util
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastcnn
import reference
from tests.arrays import DTYPES, ORDERS, both_dtypes, normal, pairs, sweep
from tests.bounds import Sum
from tests.cases import POOL_CASES
from tests.slopes import away_from_kinks, directional_gradient_check

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")


def check_sums(make, x: np.ndarray, dtype, in_output: int, in_input: int, order: str = "C") -> None:
    """Check a layer that computes weighted sums of so many numbers, with positive weights."""
    x = x.astype(dtype)
    fast, ref = make(fastcnn), make(reference)
    output = Sum(ref.forward(x), make(reference).forward(np.abs(x)), in_output + 2)
    dL_dout = normal(*output.exact.shape, seed=1, dtype=dtype)
    dL_dinput = Sum(ref.backward(dL_dout), ref.backward(np.abs(dL_dout)), in_input + 2)
    actual = fast.forward(ORDERS[order](x))
    assert actual.dtype == dtype
    output.assert_close(actual)
    dL_dinput.assert_close(fast.backward(ORDERS[order](dL_dout)))


@both_dtypes
@pytest.mark.parametrize("counting", [True, False], ids=["padding-counts", "padding-not-counted"])
@pytest.mark.parametrize("case", POOL_CASES, ids=str)
def test_average_pooling(case, counting, dtype):
    taps = math.prod(reference.AvgPool2D(**case.arguments).pool_size)
    check_sums(
        lambda m: m.AvgPool2D(**case.arguments, count_include_pad=counting),
        normal(*case.input_shape),
        dtype,
        taps,
        taps,
    )


SYMMETRIC = [case for case in POOL_CASES if case.is_symmetric]


@needs_torch
@pytest.mark.parametrize("counting", [True, False], ids=["padding-counts", "padding-not-counted"])
@pytest.mark.parametrize("case", [case for case in SYMMETRIC if case.dilation == 1], ids=str)
def test_pytorch_averages_alike(case, counting):
    import torch

    layer, x = fastcnn.AvgPool2D(**case.arguments, count_include_pad=counting), normal(*case.input_shape)
    twin = torch.nn.AvgPool2d(layer.pool_size, layer.stride, layer.padding, layer.ceil_mode, counting)
    compare_with_torch(layer, twin, x)


@needs_torch
@pytest.mark.parametrize("case", SYMMETRIC, ids=str)
def test_pytorch_takes_the_same_maximum(case):
    import torch

    layer = fastcnn.MaxPool2D(**case.arguments)
    x = np.random.RandomState(0).randint(-2, 2, size=case.input_shape).astype(np.float64)
    twin = torch.nn.MaxPool2d(layer.pool_size, layer.stride, layer.padding, layer.dilation, ceil_mode=layer.ceil_mode)
    compare_with_torch(layer, twin, x)


def compare_with_torch(layer, twin, x: np.ndarray) -> None:
    import torch

    leaf = torch.tensor(x, requires_grad=True)
    output = twin(leaf)
    dL_dout = normal(*output.shape, seed=1)
    output.backward(torch.tensor(dL_dout))
    np.testing.assert_allclose(layer.forward(x), output.detach().numpy(), rtol=1e-12, atol=1e-14)
    assert leaf.grad is not None
    np.testing.assert_allclose(layer.backward(dL_dout), leaf.grad.numpy(), rtol=1e-12, atol=1e-14)


SHAPES = ((1, 1, 1, 1), (2, 3, 5, 7), (3, 16, 4, 4), (1, 17, 6, 3), (2, 33, 1, 9), (2, 8, 9, 1))


@both_dtypes
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_global_average(shape, dtype):
    check_sums(lambda m: m.GlobalAvgPool2D(), normal(*shape), dtype, shape[2] * shape[3], 1)


@both_dtypes
@pytest.mark.parametrize("numbers", ["distinct", "ties", "alike", "infinite"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_global_maximum_gives_to_the_first(shape, numbers, dtype):
    rng = np.random.RandomState(0)
    x = {
        "distinct": lambda: rng.permutation(math.prod(shape)).reshape(shape) - 7.5,
        "ties": lambda: rng.randint(-2, 2, size=shape),
        "alike": lambda: np.zeros(shape),
        "infinite": lambda: np.full(shape, -np.inf),
    }[numbers]().astype(dtype)
    fast, ref = fastcnn.GlobalMaxPool2D(), reference.GlobalMaxPool2D()
    np.testing.assert_array_equal(fast.forward(x), ref.forward(x))
    dL_dout = normal(*shape[:2], seed=1, dtype=dtype)
    for _ in range(2):  # nothing is left over from the first time
        np.testing.assert_array_equal(fast.backward(dL_dout), ref.backward(dL_dout))


@both_dtypes
@pytest.mark.parametrize("size", [1, 2, (2, 3), (3, 1)], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_upsampling(shape, size, dtype):
    rows, columns = reference.UpSample2D(size).size
    check_sums(lambda m: m.UpSample2D(size), normal(*shape), dtype, 1, rows * columns)
    check_sums(lambda m: m.UpSample2D(size, "bilinear"), normal(*shape), dtype, 4, 4 * rows * columns)
    x = normal(*shape, dtype=dtype)
    np.testing.assert_array_equal(fastcnn.UpSample2D(size).forward(x), reference.UpSample2D(size).forward(x))


@both_dtypes
@pytest.mark.parametrize("pool_size", [15, 16, 17], ids=str)
def test_windows_with_more_taps_than_a_byte_counts(pool_size, dtype):
    """The last of 256 taps is the largest number of a byte; the next needs more room."""
    x = np.zeros((1, 3, 2 * pool_size, pool_size), dtype)
    x[:, :, pool_size - 1, -1] = 1
    x[:, 1, -1, -2:] = 2
    fast, ref = fastcnn.MaxPool2D(pool_size), reference.MaxPool2D(pool_size)
    np.testing.assert_array_equal(fast.forward(x), ref.forward(x))
    dL_dout = normal(1, 3, 2, 1, dtype=dtype)
    np.testing.assert_array_equal(fast.backward(dL_dout), ref.backward(dL_dout))


@both_dtypes
@pytest.mark.parametrize("make", [lambda: fastcnn.MaxPool2D(3, 1, 1), fastcnn.GlobalMaxPool2D])
def test_a_nan_is_the_maximum_wherever_it_stands(make, dtype):
    """As in NumPy and PyTorch: what has gone wrong must not vanish."""
    for place in range(9):
        x = normal(1, 2, 3, 3, dtype=dtype)
        x.reshape(2, 9)[0, place] = np.nan
        output = make().forward(x).reshape(2, -1)
        assert np.isnan(output[0, output.shape[1] // 2])
        assert np.isfinite(output[1]).all()


@both_dtypes
@pytest.mark.parametrize("fused", [False, True], ids=["alone", "behind a convolution"])
def test_a_nan_is_the_largest_of_four(fused, dtype):
    """Wherever it stands in its window; the other windows do not see it."""
    layers = [fastcnn.Conv2D(20, 1, random_state=0), fastcnn.ReLU()] if fused else []
    model = fastcnn.Sequential([*layers, fastcnn.MaxPool2D(2)]).build((1, 2, 4), random_state=0, dtype=dtype)
    for place in range(4):
        x = normal(1, 1, 2, 4, dtype=dtype)
        x[0, 0, place // 2, place % 2] = np.nan
        output = model.forward(x)
        assert np.isnan(output[..., 0]).all()
        assert np.isfinite(output[..., 1]).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: fastcnn.AvgPool2D(3, 2, 1), lambda: fastcnn.AvgPool2D(3, 2, 1, False),
        lambda: fastcnn.MaxPool2D(3, 2, 1),
        fastcnn.GlobalAvgPool2D, fastcnn.GlobalMaxPool2D, lambda: fastcnn.UpSample2D((2, 3)),
    ],
)  # fmt: skip
def test_gradients_are_slopes(make):
    layer, x = make(), away_from_kinks((2, 3, 7, 6))
    weights = normal(*layer.forward(x).shape, seed=1)
    gradient = layer.backward(weights)
    directional_gradient_check(lambda: float(np.sum(layer.forward(x) * weights)), x, gradient)


@sweep
@given(
    pairs(1, 4),
    st.one_of(st.none(), pairs(1, 4)),
    st.booleans(),
    st.booleans(),
    st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(4, 10), st.integers(4, 10)),
    st.sampled_from(DTYPES),
    st.sampled_from(list(ORDERS)),
)
def test_average_sweep(size, stride, padded, counting, shape, dtype, order):
    padding = tuple(k // 2 for k in size) if padded else (0, 0)
    taps = math.prod(size)
    make = lambda m: m.AvgPool2D(size, stride, padding, counting)  # noqa: E731
    check_sums(make, normal(*shape), dtype, taps, taps, order)


def test_in_a_model_between_convolutions_with_halos():
    """Each layer reads and writes maps whose halos belong to its neighbours; the halo stays zero."""
    rng = np.random.RandomState(0)
    x, y = rng.standard_normal((4, 3, 12, 12)), rng.randint(5, size=4)

    def layers(m):
        return [
            m.Conv2D(9, 3, padding=1, random_state=0), m.AvgPool2D(3, 2, 1), m.Conv2D(6, 3, padding=1, random_state=1),
            m.UpSample2D(2), m.ELU(), m.Conv2D(8, 5, padding=2, random_state=2), m.MaxPool2D(3, 2, 1),
            m.SoftmaxActivation(), m.Conv2D(5, 3, padding=1, random_state=3), m.GlobalMaxPool2D(),
        ]  # fmt: skip

    twins = layers(reference)
    for _ in range(2):  # twice: what the first step leaves in halos would show in the second
        model = fastcnn.Sequential(layers(fastcnn)).build((3, 12, 12), dtype=np.float64)
        trainer = fastcnn.Trainer(model, optimizer=fastcnn.SGD(0.5))
        losses = [trainer.step(x, y) for _ in range(3)]
    expected = []
    for _ in range(3):
        out = x
        for layer in twins:
            out = layer.forward(out)
        shifted = out - out.max(axis=1, keepdims=True)
        p = np.exp(shifted)
        p /= p.sum(axis=1, keepdims=True)
        expected.append(-np.log(p[np.arange(4), y]).mean())
        gradient = p - np.eye(5)[y]
        for layer in reversed(twins):
            gradient = layer.backward(gradient, 0.5)
    np.testing.assert_allclose(losses, expected, rtol=1e-10)
