"""Activations against the reference and PyTorch; the vector functions against exact values."""

from __future__ import annotations

import functools
import importlib.util
import math
from dataclasses import replace
from functools import partial
from itertools import product

import numba
import numpy as np
import pytest

import fastcnn
import reference
from fastcnn.codegen import vector_math
from fastcnn.codegen.blocking import SOFTMAX
from fastcnn.codegen.vector import lanes, load, store, store_or_stream
from fastcnn.jit.target import COMMON, vector_set
from fastcnn.kernels import activation, clipped, smooth
from fastcnn.kernels.maps import Maps
from tests.arrays import both_dtypes, normal
from tests.bounds import gamma
from tests.cases import ELEMENTWISE_SHAPES
from tests.guards import Guards
from tests.slopes import away_from_kinks, directional_gradient_check

ACTIVATIONS = {
    "ReLU": lambda m: m.ReLU(),
    "LeakyReLU": lambda m: m.LeakyReLU(),
    "LeakyReLU-negative": lambda m: m.LeakyReLU(-0.5),
    "ELU": lambda m: m.ELU(),
    "ELU-negative": lambda m: m.ELU(-1.5),
    "CELU": lambda m: m.CELU(),
    "CELU-flat": lambda m: m.CELU(0.5),
    "GELU": lambda m: m.GELU(),
    "GELU-tanh": lambda m: m.GELU("tanh"),
    "SiLU": lambda m: m.SiLU(),
    "Softplus": lambda m: m.Softplus(),
    "Softplus-bent": lambda m: m.Softplus(2.5, 1.5),
    "Mish": lambda m: m.Mish(),
    "ReLU6": lambda m: m.ReLU6(),
    "HardSigmoid": lambda m: m.HardSigmoid(),
    "HardSwish": lambda m: m.HardSwish(),
    "PReLU": lambda m: m.PReLU(),
    "PReLU-negative": lambda m: m.PReLU(1, -0.5),
    "Sigmoid": lambda m: m.Sigmoid(),
    "Tanh": lambda m: m.Tanh(),
    "SoftmaxActivation": lambda m: m.SoftmaxActivation(),
}
each_activation = pytest.mark.parametrize("name", ACTIVATIONS)

# ------------------------------------------------------------------------------------------------ the vector functions


def _normal_distribution(x: float) -> float:
    return math.erfc(-x / math.sqrt(2)) / 2


# name: the exact function, where it is tested, how many units in the last place it may be wrong
FUNCTIONS = {
    "exp_negative": (math.exp, (-87.0, 0.0), 2),
    "exp_short": (math.exp, (-87.0, 0.0), 7),
    "expm1_negative": (math.expm1, (-30.0, 0.0), 2),
    "tanh": (math.tanh, (-12.0, 12.0), 4),
    "logistic": (lambda x: 1 / (1 + math.exp(-x)), (-80.0, 40.0), 3),
}


def apply(name: str, x: np.ndarray) -> np.ndarray:
    """Return a vector function of an array of any length: it is computed on whole vectors of the vector set in use."""
    function = getattr(vector_math, name)
    whole = np.pad(x, (0, -x.size % vector_set().lanes(x.dtype)))

    @numba.njit
    def sweep(x, y):
        for i in range(0, x.size, lanes(x)):
            store(y, i, function(load(x, i)))

    y = np.full_like(whole, 7)
    sweep(whole, y)
    return y[: x.size]


@both_dtypes
@pytest.mark.parametrize("name", FUNCTIONS)
def test_vector_functions_are_right_to_the_last_places(name, dtype):
    exact, (low, high), units = FUNCTIONS[name]
    rng = np.random.RandomState(0)
    near, far = rng.uniform(max(low, -1), min(high, 1), 4096), rng.uniform(low, high, 4096)
    x = np.concatenate([near, near * 1e-3, far]).astype(dtype)
    expected = np.array([exact(float(v)) for v in x])
    error = np.abs(apply(name, x).astype(np.float64) - expected) / np.spacing(np.abs(expected.astype(dtype)))
    # In float64 the last steps of the expectation are rounded too.
    assert error.max() <= units + 2 * (dtype == np.float64), f"{error.max()} units at {x[error.argmax()]}"


# Of single numbers, likewise.
FUNCTIONS_OF_NUMBERS = {
    "exp_of_number": (math.exp, (-87.0, 0.0), 2),
    "log1p_of_number": (math.log1p, (0.0, 1e6), 2),
}


def apply_to_numbers(name: str, x: np.ndarray) -> np.ndarray:
    """Return a function of each number of an array."""
    function = getattr(vector_math, name)

    @numba.njit
    def sweep(x, y):
        for i in range(x.size):
            y[i] = function(x[i])

    y = np.full_like(x, 7)
    sweep(x, y)
    return y


@both_dtypes
@pytest.mark.parametrize("name", FUNCTIONS_OF_NUMBERS)
def test_functions_of_numbers_are_right_to_the_last_places(name, dtype):
    exact, (low, high), units = FUNCTIONS_OF_NUMBERS[name]
    rng = np.random.RandomState(0)
    small = np.exp(rng.uniform(-60, 0, 4096)) * (high if high > 0 else low)
    x = np.concatenate([small, rng.uniform(low, high, 4096), rng.uniform(-2, 2, 4096)])
    x = x[(low <= x) & (x <= high)].astype(dtype)
    expected = np.array([exact(float(v)) for v in x])
    error = np.abs(apply_to_numbers(name, x).astype(np.float64) - expected)
    assert (error <= (units + 2 * (dtype == np.float64)) * np.spacing(np.abs(expected.astype(dtype)))).all()


@both_dtypes
def test_logarithms_at_the_ends_of_the_numbers(dtype):
    x = np.array([0.0, np.nan, 1.0, 1e-30, np.finfo(dtype).tiny, np.finfo(dtype).max / 2], dtype)
    np.testing.assert_allclose(apply_to_numbers("log1p_of_number", x), np.log1p(x), rtol=4 * np.finfo(dtype).eps)


@both_dtypes
def test_vector_functions_at_the_ends_of_the_numbers(dtype):
    inf, nan, huge = np.inf, np.nan, np.finfo(dtype).max
    odd_nan = np.array(0x7FC0_BEEF, np.uint32).view(np.float32).astype(dtype)
    x = np.array([inf, -inf, nan, odd_nan, huge, -huge, 0.0, -0.0] * 2, dtype)
    expected = {
        "tanh": [1, -1, nan, nan, 1, -1, 0.0, -0.0],
        "logistic": [1, 0, nan, nan, 1, 0, 0.5, 0.5],
    }
    for name, values in expected.items():
        actual = apply(name, x)[:8]
        np.testing.assert_allclose(actual, values, rtol=1e-6, err_msg=name)
        if name == "tanh":
            assert np.signbit(actual[7])
    negative = np.array([-inf, -huge, nan, odd_nan, -0.0, 0.0, -1e-30, 2 - math.log(float(huge))] * 2, dtype)
    for name in ("exp_negative", "exp_short"):
        exponentials = apply(name, negative)[:8]
        np.testing.assert_array_equal(exponentials[:7], [0, 0, nan, nan, 1, 1, 1])
        np.testing.assert_allclose(exponentials[7], np.exp(negative[7].astype(np.float64)), rtol=1e-6)


def _normal_gated(x: float) -> float:
    return x * _normal_distribution(x)


def _normal_gated_slope(x: float) -> float:
    return _normal_distribution(x) + x * math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


@pytest.mark.parametrize("exact", [_normal_gated, _normal_gated_slope])
def test_gelu_in_double_precision(exact):
    rng = np.random.RandomState(0)
    x = np.concatenate([rng.uniform(-1, 1, 4096), rng.uniform(-12, 12, 4096), rng.uniform(-1, 1, 4096) * 1e-3])
    expected = np.array([exact(float(v)) for v in x])
    # Both sides round the argument of e^(-x²/2), which falls steeply; below zero the slope is a difference of such.
    slack = (12 + 4 * x * x) * (1 + x * x)
    scale = np.abs(expected) + (exact is _normal_gated_slope) * np.array([_normal_distribution(float(v)) for v in x])
    assert (np.abs(apply(exact.__name__[1:], x) - expected) <= slack * 2.0**-52 * scale).all()


@pytest.mark.parametrize(("exact", "size"), [(_normal_gated, 0.17), (_normal_gated_slope, 0.5)])
def test_gelu_in_single_precision(exact, size):
    """Eight equal factors, rounded once each, and their products: 8 · 2^-23 of the tail, whose largest is `size`.

    Above zero it stands beside x, or 1, itself; what is cut off at -6 is 4e-8.
    """
    x = np.concatenate([np.linspace(-8, 8, 80001)[1:], np.linspace(-1, 1, 4096) * 1e-3]).astype(np.float32)
    expected = np.array([exact(float(v)) for v in x])
    error = np.abs(apply(exact.__name__[1:], x) - expected)
    assert (error <= 8 * 2.0**-23 * size + 2.0**-24 * np.abs(expected) + 4e-8).all()
    odd = np.array([np.inf, -np.inf, np.nan, 1e38, -1e38, 0.0, -6.5, 7.0], np.float32)
    limits = {0.17: [np.inf, 0, np.nan, odd[3], 0, 0, 0, 7], 0.5: [1, 0, np.nan, 1, 0, 0.5, 0, 1]}
    np.testing.assert_allclose(apply(exact.__name__[1:], odd), limits[size], rtol=1e-6)


@both_dtypes
@pytest.mark.parametrize("name", ["GELU", "GELU-tanh", "SiLU", "Mish", "HardSwish"])
def test_gates_are_open_or_shut_far_out(name, dtype):
    far = np.array([[100.0, 1e4, 1e30, -100.0, -1e4, -1e30, np.nan, 0.0]], dtype)
    layer = ACTIVATIONS[name](fastcnn)
    open_ = far * (far > 0)
    np.testing.assert_allclose(layer.forward(far), open_ + 0 * far, rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(layer.backward(np.ones_like(far))[0, :6], [1, 1, 1, 0, 0, 0], atol=1e-25)


# ---------------------------------------------------------------------------------------------------------- the layers


def check_against_reference(make, x: np.ndarray, rtol: float) -> None:
    fast, ref = make(fastcnn), make(reference)
    output = ref.forward(x)
    dL_dout = normal(*output.shape, seed=1, dtype=x.dtype)
    dL_dinput = ref.backward(dL_dout)
    actual = fast.forward(x)
    assert actual.dtype == x.dtype
    np.testing.assert_allclose(actual, output, rtol=rtol, atol=rtol * np.abs(output).max())
    actual = fast.backward(dL_dout)
    assert actual.dtype == x.dtype
    # Slopes of about 1 or less; those of y · (1 - y) and 1 - y² are differences of rounded numbers.
    np.testing.assert_allclose(actual, dL_dinput, rtol=rtol, atol=rtol * np.abs(dL_dout).max())


@each_activation
@pytest.mark.parametrize("shape", ELEMENTWISE_SHAPES, ids=str)
def test_activations_in_float64(name, shape):
    check_against_reference(ACTIVATIONS[name], 3 * normal(*shape), 1e-12)


@each_activation
@pytest.mark.parametrize("shape", ELEMENTWISE_SHAPES, ids=str)
def test_activations_in_float32(name, shape):
    """A number is rounded some 40 times on its way, once more for each channel of a softmax."""
    check_against_reference(ACTIVATIONS[name], 3 * normal(*shape, dtype=np.float32), gamma(40 + shape[1], np.float32))


@each_activation
def test_large_numbers_overflow_nowhere(name):
    """Up to 1e30 and beyond, as far as the reference's own numbers stay finite."""
    x = np.array([[-1e30, -1e4, -100, -90, -20, -1e-30, 0, 1e-30, 20, 90, 100, 1e4, 1e30]])
    for dtype, rtol in ((np.float32, 1e-5), (np.float64, 1e-12)):
        fast, ref = ACTIVATIONS[name](fastcnn), ACTIVATIONS[name](reference)
        with np.errstate(all="ignore"):
            output, dL_dinput = ref.forward(x.astype(dtype)), ref.backward(np.ones_like(x))
        keep = np.isfinite(output) & np.isfinite(dL_dinput)
        assert keep.sum() >= 11
        np.testing.assert_allclose(fast.forward(x.astype(dtype))[keep], output[keep], rtol=rtol, atol=1e-30)
        np.testing.assert_allclose(fast.backward(np.ones_like(x))[keep], dL_dinput[keep], rtol=rtol, atol=0.1 * rtol)


@each_activation
def test_gradients_are_slopes(name):
    layer, x = ACTIVATIONS[name](fastcnn), away_from_kinks((2, 3, 4, 5), gap=0.05)
    weights = normal(2, 3, 4, 5, seed=1)
    layer.forward(x)
    gradient = layer.backward(weights)
    directional_gradient_check(lambda: float(np.sum(layer.forward(x) * weights)), x, gradient)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
@both_dtypes
@each_activation
def test_pytorch_agrees(name, dtype):
    import torch
    from torch.nn import functional

    twin = {
        "ReLU": functional.relu,
        "LeakyReLU": functional.leaky_relu,
        "LeakyReLU-negative": functools.partial(functional.leaky_relu, negative_slope=-0.5),
        "ELU": functional.elu,
        "ELU-negative": functools.partial(functional.elu, alpha=-1.5),
        "CELU": functional.celu,
        "CELU-flat": functools.partial(functional.celu, alpha=0.5),
        "GELU": functional.gelu,
        "GELU-tanh": functools.partial(functional.gelu, approximate="tanh"),
        "SiLU": functional.silu,
        "Softplus": functional.softplus,
        "Softplus-bent": functools.partial(functional.softplus, beta=2.5, threshold=1.5),
        "Mish": functional.mish,
        "ReLU6": functional.relu6,
        "HardSigmoid": lambda x: functional.relu6(x + 3) / 6,  # hardsigmoid has 1/6 in float32
        "HardSwish": functional.hardswish,
        "PReLU": lambda x: functional.prelu(x, torch.full((1,), 0.25, dtype=x.dtype)),
        "PReLU-negative": lambda x: functional.prelu(x, torch.full((1,), -0.5, dtype=x.dtype)),
        "Sigmoid": torch.sigmoid,
        "Tanh": torch.tanh,
        "SoftmaxActivation": functools.partial(torch.softmax, dim=1),
    }[name]
    layer, x = ACTIVATIONS[name](fastcnn), 3 * normal(3, 17, 4, 5, dtype=dtype)
    leaf = torch.tensor(x, requires_grad=True)
    output, dL_dout = twin(leaf), normal(3, 17, 4, 5, seed=1, dtype=dtype)
    output.backward(torch.tensor(dL_dout))
    tolerance = 2 * gamma(60, dtype)
    np.testing.assert_allclose(layer.forward(x), output.detach().numpy(), rtol=tolerance, atol=3 * tolerance)
    assert leaf.grad is not None
    np.testing.assert_allclose(layer.backward(dL_dout), leaf.grad.numpy(), rtol=tolerance, atol=6 * tolerance)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: fastcnn.LeakyReLU("steep"), TypeError, "LeakyReLU: negative_slope: expected a number; got 'steep'"),
        (lambda: fastcnn.ELU(math.nan), ValueError, "ELU: alpha: expected a finite number; got nan"),
        (lambda: fastcnn.CELU(0), ValueError, "CELU: alpha: expected a finite number > 0; got 0"),
        (lambda: fastcnn.Softplus(-1.0), ValueError, "Softplus: beta: expected a finite number > 0; got -1.0"),
        (lambda: fastcnn.Softplus(1, "far"), TypeError, "Softplus: threshold: expected a number; got 'far'"),
        (lambda: fastcnn.GELU("sigmoid"), ValueError, "GELU: approximate: expected 'none' or 'tanh'; got 'sigmoid'"),
        (lambda: fastcnn.Dropout(1.0), ValueError, r"Dropout: rate: expected a number of \[0, 1\); got 1.0"),
        (lambda: fastcnn.SpatialDropout2D(-0.1), ValueError, "SpatialDropout2D: rate"),
        (lambda: fastcnn.SpatialDropout2D().build((7,)), ValueError, r"SpatialDropout2D: input: expected images"),
        (lambda: fastcnn.UpSample2D(0), ValueError, "UpSample2D: size"),
        (lambda: fastcnn.UpSample2D(2, "linear"), ValueError, "UpSample2D: mode: .* 'bilinear'; got 'linear'"),
        (lambda: fastcnn.GlobalAvgPool2D().build((7,)), ValueError, "GlobalAvgPool2D: input: expected images"),
        (lambda: fastcnn.AvgPool2D(2, padding=2), ValueError, "AvgPool2D: padding: expected less than the window"),
    ],
)
def test_wrong_arguments_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


# --------------------------------------------------------------------------------------------- kernels, past the caches


KERNELS = {
    "relu": (),
    "leaky_relu": (0.1,),
    "elu": (0.7,),
    "gelu": (),
    "gelu_tanh": (),
    "silu": (),
    "sigmoid": (),
    "hyperbolic_tangent": (),
    "celu": (0.7, 1 / 0.7),
    "softplus": (2.0, 0.5, 3.0),
    "mish": (),
    "clip": (0.0, 0.5),
    "hard_sigmoid": (),
    "hard_swish": (),
}
FAMILY = {name: family for family in (activation, smooth, clipped) for name in KERNELS if name in dir(family)}


@both_dtypes
@pytest.mark.parametrize("name", KERNELS)
def test_past_the_caches_the_same_is_written_and_no_more(name, dtype):
    guards, width = Guards(), vector_set().lanes(dtype)
    rows, length = 3, 2 * width
    row = (np.arange(rows) * 3 * width).astype(np.int32)
    constants = tuple(dtype(c) for c in KERNELS[name])
    results = []
    for stream in (False, True):
        arrays = [guards.zeros(rows * 3 * width, dtype, align=64) for _ in range(4)]
        x, y, dy, dx = arrays
        x[...], dy[...], y[...], dx[...] = normal(x.size), normal(x.size, seed=1), 7, 7
        maps = [Maps(array, row) for array in arrays]
        getattr(FAMILY[name], name)(maps[0], maps[1], rows, length, *constants, stream)
        getattr(FAMILY[name], name + "_backward")(maps[0], maps[2], maps[3], rows, length, *constants, stream)
        for array in (y, dx):
            gap = array.reshape(rows, 3 * width)[:, length:]
            np.testing.assert_array_equal(gap, 7)
        results.append((y.copy(), dx.copy()))
    guards.check()
    np.testing.assert_array_equal(results[0], results[1])


@both_dtypes
@pytest.mark.parametrize("channels", [1, 8, 17])
def test_softmax_of_channels_writes_whole_vectors_and_no_more(channels, dtype):
    guards, width, pixels = Guards(), vector_set().lanes(dtype), SOFTMAX + 3
    whole = -(-channels // width) * width
    row = (np.arange(pixels) * (whole + width)).astype(np.int32)
    arrays = [guards.zeros(pixels * (whole + width), dtype, align=64) for _ in range(4)]
    x, y, dy, dx = arrays
    scratch = guards.empty(SOFTMAX * (whole + width), dtype)
    x[...], y[...], dx[...] = normal(x.size), 7, 7
    dy.reshape(pixels, -1)[:, :channels] = normal(pixels, channels, seed=1)
    activation.channel_softmax(Maps(x, row), pixels, channels, Maps(y, row), scratch, True)
    activation.channel_softmax_backward(Maps(y, row), Maps(dy, row), pixels, channels, Maps(dx, row), True)
    guards.check()
    for array in (y, dx):
        np.testing.assert_array_equal(array.reshape(pixels, -1)[:, whole:], 7)
        np.testing.assert_array_equal(array.reshape(pixels, -1)[:, channels:whole], 0)


@both_dtypes
def test_layers_write_large_maps_past_the_caches(monkeypatch, dtype):
    """Whether a buffer is large is the only question: the bits are the same."""
    makes = [*ACTIVATIONS.values(), lambda m: m.Dropout(random_state=0), lambda m: m.MaxPool2D(3, 2, 1)]
    makes += [lambda m: m.MaxPool2D(3, 1, 1), lambda m: m.MaxPool2(), lambda m: m.AvgPool2D(), lambda m: m.UpSample2D()]
    makes += [lambda m: m.GlobalAvgPool2D(), lambda m: m.GlobalMaxPool2D()]
    for make, channels in product(makes, (9, 32)):
        x = normal(2, channels, 6, 8, dtype=dtype)
        results = []
        for size in (1 << 40, 0):
            monkeypatch.setattr("fastcnn.engine.layout.caches", partial(replace, COMMON, last=size))
            layer = make(fastcnn)
            output = layer.forward(x)
            results.append((output, layer.backward(normal(*output.shape, seed=1, dtype=dtype))))
        for usual, stream in zip(*results, strict=True):
            np.testing.assert_array_equal(usual, stream)


@pytest.mark.skipif(not vector_set().name.startswith(("avx", "sse")), reason="movnt is an instruction of x86")
def test_what_is_streamed_is_a_streaming_store():
    """What the hint is for: the instruction that does not read the line first."""

    @numba.njit
    def copy(x, y, stream):
        for i in range(0, x.size, lanes(x)):
            store_or_stream(y, i, load(x, i), stream)

    x = np.arange(64, dtype=np.float32)
    copy(x, np.zeros_like(x), False)
    (code,) = copy.inspect_asm().values()
    assert "movnt" in code
