"""check_gradients finds right gradients right, whatever the layers, and wrong ones wrong, however little."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

import fastcnn
import fastcnn.gradient_check
from fastcnn import (
    BatchNorm,
    Concat,
    Conv2D,
    Dense,
    Flatten,
    Layer,
    MaxPool2D,
    Parameter,
    ReLU,
    Residual,
    Sequential,
    check_gradients,
)
from tests.arrays import normal


class Scaled(Layer):
    """scale · x, whose gradients are wrong by the factors that are given."""

    def __init__(self, of_input: float = 1.0, of_scale: float = 1.0) -> None:
        super().__init__()
        self.factors = of_input, of_scale

    def _parameters(self, input_shape):
        return {"scale": Parameter(input_shape, initial=1.5)}

    def _forward(self, x):
        return self.parameters["scale"] * x

    def _backward(self, x, y, dL_dout):
        of_input, of_scale = self.factors
        dL_dinput = of_input * self.parameters["scale"] * dL_dout
        return dL_dinput, {"scale": of_scale * (x * dL_dout).sum(axis=0)}


def everything(*more: Layer) -> Sequential:
    return Sequential([
        Conv2D(6, 3, padding=1), ReLU(), MaxPool2D(2), Residual([Conv2D(9, 3, 2, 1), BatchNorm()], "pad"), ReLU(),
        Concat([[], [Conv2D(5, 1)]]), *more, Flatten(), Dense(12), ReLU(), Dense(4),
    ])  # fmt: skip


x, y = normal(5, 2, 10, 9), np.arange(5) % 4


@pytest.mark.parametrize("targets", [y, None], ids=["loss", "projection"])
@pytest.mark.parametrize("seed", range(3))
def test_right_gradients_are_right(seed, targets):
    model = everything(Scaled())
    report = check_gradients(model, normal(5, 2, 10, 9, seed=seed), targets, random_state=seed)
    assert report.right
    assert not report.wrong
    assert [row.name for row in report.rows] == ["input", *everything(Scaled()).build((2, 10, 9)).parameters]
    assert max(row.error for row in report.rows) < 1e-6
    assert model.input_shape is None


def test_a_built_model_stays_as_it_is():
    model = everything().build((2, 10, 9), random_state=0).eval()
    before, running = model.get_weights(), model.layers[3].layers[1].running_mean.copy()
    assert check_gradients(model, x.astype(np.float32), y).right
    for array, old in zip(model.get_weights(), before, strict=True):
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, old)
    np.testing.assert_array_equal(model.layers[3].layers[1].running_mean, running)
    assert not model.training


@pytest.mark.parametrize("targets", [y, None], ids=["loss", "projection"])
@pytest.mark.parametrize("factor", [1.001, -1.0, 0.0, 2.0, np.nan], ids=str)
def test_wrong_gradients_are_wrong(factor, targets):
    report = check_gradients(everything(Scaled(of_scale=factor)), x, targets, raises=False)
    assert report.wrong == ["6.scale"] or (np.isnan(factor) and "6.scale" in report.wrong)
    report = check_gradients(everything(Scaled(of_input=factor)), x, targets, raises=False)
    assert {"input", "0.filters", "0.biases", "3.layers.1.gamma"} <= set(report.wrong)
    assert "8.weights" not in report.wrong or np.isnan(factor)
    with pytest.raises(AssertionError, match=r"check_gradients: 1 of \d+ gradients are wrong") as error:
        check_gradients(Sequential([Flatten(), Dense(3), Scaled(of_scale=1.01)]), x, y % 3)
    assert "2.scale" in str(error.value)


def test_a_layer_alone():
    assert check_gradients(Scaled(), x).right
    assert check_gradients(Scaled().build((2, 10, 9)), x).right
    assert check_gradients(fastcnn.Residual([Conv2D(2, 3, padding=1)]), x).right
    assert check_gradients(Scaled(of_input=1.01), x, raises=False).wrong == ["input"]


def test_kinks_and_gradients_that_vanish_disturb_nothing():
    """A bias before batch normalisation has no slope; thousands of units have one at 0 nearby."""
    model = Sequential([Conv2D(16, 3, padding=1), BatchNorm(), ReLU(), Conv2D(16, 3), ReLU(), Flatten(), Dense(4)])
    report = check_gradients(model, normal(8, 3, 12, 12), np.arange(8) % 4)
    norms = {row.name: row.norm for row in report.rows}
    assert norms["0.biases"] < 1e-10
    assert norms["0.filters"] > 1e-3


def test_dropout_is_checked_with_the_same_units_dropped():
    model = Sequential([Conv2D(8, 3), ReLU(), fastcnn.Dropout(0.4), Flatten(), fastcnn.Dropout(0.3), Dense(4)])
    report = check_gradients(model, x, y)
    assert [row.name for row in report.rows] == ["0.filters", "0.biases", "5.weights", "5.biases"]
    with pytest.raises(ValueError, match="check_gradients: y: expected targets"):
        check_gradients(model, x)


def test_uint8_images_are_scaled():
    images = np.random.RandomState(0).permutation(5 * 180).reshape(5, 2, 10, 9) % 251
    rows = [check_gradients(everything(), z, y).rows[1] for z in (images.astype(np.uint8), images / 255)]
    assert rows[0].norm == pytest.approx(rows[1].norm, rel=1e-6)


def test_the_report_is_a_table():
    text = str(check_gradients(Sequential([Flatten(), Dense(3), Scaled(of_scale=2)]), x, y % 3, raises=False))
    lines = text.splitlines()
    assert lines[0].split() == ["gradient", "of", "numbers", "norm", "error"]
    assert [line.split()[0] for line in lines[1:-1]] == ["input", "1.weights", "1.biases", "2.scale"]
    assert [line.endswith("wrong") for line in lines[1:-1]] == [False, False, False, True]
    assert lines[-1].endswith("wrong: 2.scale.")


def test_wrong_arguments():
    with pytest.raises(TypeError, match="check_gradients: model: expected a Sequential"):
        check_gradients([Dense(3)], x)
    with pytest.raises(ValueError, match="directions"):
        check_gradients(Scaled(), x, directions=0)
    with pytest.raises(TypeError, match="check_gradients: x: expected real numbers"):
        check_gradients(Scaled(), x.astype(complex))


def test_the_docstring_is_true():
    assert not doctest.testmod(fastcnn.gradient_check).failed
