"""What every layer promises, for each row of the table that both sides have: a new layer joins by being there."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn
import reference
from tests.arrays import ORDERS, both_dtypes, normal
from tests.cases import LAYER_CASES

TWINS = [case for case in LAYER_CASES if case.layers <= set(fastcnn.__all__)]
EXACT = [case for case in TWINS if not case.draws]


def assert_alike(actual: np.ndarray, expected: np.ndarray, scale: float = 0.0) -> None:
    """Compare; `scale` is the size of what may cancel in `expected`."""
    assert actual.shape == expected.shape
    largest = max(scale, np.abs(expected).max(initial=0))
    np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-10 * largest)


def contract(case, dtype=np.float64):
    fast = case.make(fastcnn)
    x = normal(*case.input_shape, dtype=dtype)
    output = fast.forward(x)
    return fast, x, output, normal(*output.shape, seed=1, dtype=dtype)


@pytest.mark.parametrize("case", EXACT, ids=str)
def test_the_twin_computes_the_same_from_the_same_seed(case):
    fast, x, output, dL_dout = contract(case)
    ref = case.make(reference)
    expected = ref.forward(x)
    assert fast.parameters.keys() == ref.parameters.keys()
    for name, parameter in ref.parameters.items():
        np.testing.assert_array_equal(fast.parameters[name], parameter)
    assert_alike(output, expected)
    assert_alike(fast.backward(dL_dout), ref.backward(dL_dout))
    assert fast.gradients.keys() == fast.parameters.keys()
    # Biases that a batch norm takes away again have a gradient of zero: terms that cancel.
    scale = max((np.abs(gradient).max() for gradient in ref.gradients.values()), default=0.0)
    for name, gradient in ref.gradients.items():
        assert_alike(fast.gradients[name], gradient, scale)


@both_dtypes
@pytest.mark.parametrize("case", TWINS, ids=str)
def test_precision_and_shapes_stay(case, dtype):
    fast, x, output, dL_dout = contract(case, dtype)
    x_before, dL_dout_before = x.copy(), dL_dout.copy()
    assert output.shape == (len(x), *fast.output_shape(x.shape[1:]))
    dL_dinput = fast.backward(dL_dout)
    assert dL_dinput.shape == x.shape
    for array in (output, dL_dinput, *fast.parameters.values(), *fast.gradients.values()):
        assert array.dtype == dtype
    for name, parameter in fast.parameters.items():
        assert fast.gradients[name].shape == parameter.shape
        assert parameter.flags.writeable
        assert parameter is fast.parameters[name]
    np.testing.assert_array_equal(x, x_before)
    np.testing.assert_array_equal(dL_dout, dL_dout_before)


@pytest.mark.parametrize("case", EXACT, ids=str)
def test_a_learning_rate_takes_the_notebooks_step_in_place(case):
    fast, x, _, dL_dout = contract(case)
    twin = contract(case)[0]
    views, old = dict(fast.parameters), {name: parameter.copy() for name, parameter in fast.parameters.items()}
    np.testing.assert_array_equal(fast.backward(dL_dout, 0.5), twin.backward(dL_dout))
    for name, view in views.items():
        assert_alike(view, old[name] - 0.5 * twin.gradients[name] / len(x))
        np.testing.assert_array_equal(twin.parameters[name], old[name])
        assert np.shares_memory(fast.parameters[name], view)


@pytest.mark.parametrize("case", EXACT, ids=str)
def test_gradients_are_overwritten_never_added(case):
    fast, _, _, dL_dout = contract(case)
    dL_dinput = fast.backward(dL_dout).copy()
    gradients = {name: gradient.copy() for name, gradient in fast.gradients.items()}
    np.testing.assert_array_equal(fast.backward(dL_dout), dL_dinput)
    for name, gradient in gradients.items():
        np.testing.assert_array_equal(fast.gradients[name], gradient)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("case", EXACT, ids=str)
def test_any_memory_order(case, order):
    fast, x, output, dL_dout = contract(case)
    output, dL_dinput = output.copy(), fast.backward(dL_dout).copy()
    np.testing.assert_array_equal(fast.forward(ORDERS[order](x)), output)
    np.testing.assert_array_equal(fast.backward(ORDERS[order](dL_dout)), dL_dinput)


SAMPLES_MEET = ("BatchNorm", "Residual")  # in the statistics of the batch


@pytest.mark.parametrize("case", [case for case in EXACT if not case.name.startswith(SAMPLES_MEET)], ids=str)
def test_batches_that_change(case):
    """A longer, a shorter, a longer batch: each sample as if it were alone."""
    fast, x, _, _ = contract(case)
    x = np.concatenate([x, x[::-1], x])
    whole = fast.forward(x).copy()
    for n in (len(x), 1, len(x) - 1, 2):
        assert_alike(fast.forward(x[:n]), whole[:n])


@pytest.mark.parametrize("case", EXACT, ids=str)
def test_an_output_stays_what_it_was(case):
    """What forward and backward return is the caller's: later calls do not write to it."""
    fast, x, output, dL_dout = contract(case)
    dL_dinput = fast.backward(dL_dout)
    gradients = dict(fast.gradients)
    kept = [array.copy() for array in (output, dL_dinput, *gradients.values())]
    fast.backward(fast.forward(2 * x + 1))
    for array, copy in zip((output, dL_dinput, *gradients.values()), kept, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("case", TWINS, ids=str)
def test_a_layer_prints_as_the_call_that_makes_it(case):
    layer = case.make(fastcnn)
    again = eval(repr(layer), {name: getattr(fastcnn, name) for name in fastcnn.__all__})
    assert repr(again) == repr(layer)
    assert again.output_shape(case.input_shape[1:]) == layer.output_shape(case.input_shape[1:])


def test_what_is_as_usual_is_not_printed():
    assert repr(fastcnn.Conv2D(32, (3, 3), padding=1)) == "Conv2D(32, 3, padding=1)"
    assert repr(fastcnn.Conv2D(32, (3, 1), bias=False)) == "Conv2D(32, (3, 1), bias=False)"
    assert repr(fastcnn.Conv2D(8, 3, padding=((1, 1), (2, 2)))) == "Conv2D(8, 3, padding=(1, 2))"
    assert repr(fastcnn.Conv2D(8, 3, padding=((1, 1), (0, 1)))) == "Conv2D(8, 3, padding=((1, 1), (0, 1)))"
    assert repr(fastcnn.MaxPool2D(3)) == "MaxPool2D(pool_size=3)"
    assert repr(fastcnn.MaxPool2D(stride=2)) == "MaxPool2D(stride=2)"
    assert repr(fastcnn.Residual([fastcnn.ReLU()])) == "Residual([ReLU()])"
    assert repr(fastcnn.models.lenet5()).startswith("Sequential([\n    Conv2D(6, 5, padding=2),\n    ReLU(),\n")
