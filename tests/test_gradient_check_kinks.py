"""check_gradients where there is no slope: it moves off ties and kinks of real data, and still finds what is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from fastcnn import (
    AvgPool2D,
    BatchNorm,
    Concat,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool2D,
    GlobalMaxPool2D,
    LayerNorm,
    LeakyReLU,
    MaxPool2,
    MaxPool2D,
    MeanAbsoluteError,
    MeanSquaredError,
    Parameter,
    ReLU,
    Residual,
    Sequential,
    Softmax,
    check_gradients,
    models,
)
from fastcnn.kinks import kinked, kinked_losses, kinked_outputs
from fastcnn.layers.base import Layer
from tests.arrays import normal

DIGITS, LABELS = (array[:6] for array in load_digits(return_X_y=True))
DIGITS = DIGITS.reshape(-1, 1, 8, 8)  # nearly half of the pixels are 0
IMAGES = {
    "digits": DIGITS / 16,
    "bytes": (DIGITS * 15).astype(np.uint8),
    "black": np.zeros((6, 1, 8, 8)),
    "white": np.ones((6, 1, 8, 8)),
    "stripes": np.tile(np.repeat([0.0, 1.0], 2), (6, 1, 8, 2)),
}
NETWORKS = {
    "notebook": lambda: Sequential([Conv2D(8, 3), ReLU(), MaxPool2(), Flatten(), Dense(10)]),
    "notebook's end": lambda: Sequential([Conv2D(16, 3), ReLU(), MaxPool2(), Softmax(144, 10, 0)]),
    "pool first": lambda: Sequential([MaxPool2D(3, 2, 1), Conv2D(4, 2), LeakyReLU(), Flatten(), Dense(10)]),
    "norm": lambda: Sequential([Conv2D(6, 3), BatchNorm(), ReLU(), MaxPool2D(2), LayerNorm(), Flatten(), Dense(10)]),
    "branches": lambda: Sequential([
        Concat([[ReLU()], [Conv2D(3, 3, padding=1), ReLU()]]), Residual([Conv2D(4, 3, padding=1), ReLU()]),
        GlobalMaxPool2D(), Dense(10),
    ]),
    "means that are 0 but for rounding": lambda: Sequential([
        Conv2D(5, 3), BatchNorm(), GlobalAvgPool2D(), Dense(8), ReLU(), Dense(10),
    ]),
    "random": lambda: Sequential([Conv2D(6, 3), ReLU(), Dropout(0.3), MaxPool2D(2), Flatten(), Dense(10)]),
}  # fmt: skip


@pytest.mark.parametrize("images", IMAGES)
@pytest.mark.parametrize("name", NETWORKS)
def test_correct_networks_are_right_on_real_images(name, images):
    report = check_gradients(NETWORKS[name](), IMAGES[images], LABELS)
    assert report.right
    assert max(row.error for row in report.rows) < 1e-6
    if name != "random":
        assert check_gradients(NETWORKS[name](), IMAGES[images]).right


def test_a_ready_network_is_right_on_the_digits():
    report = check_gradients(models.digits_default(), IMAGES["bytes"], LABELS)
    assert report.right
    assert {kink.name for kink in report.kinks} >= {"1 (ReLU)", "4 (MaxPool2D)"}


def test_the_report_names_the_layers_and_how_many_outputs():
    report = check_gradients(NETWORKS["notebook"](), IMAGES["black"], LABELS)
    assert [tuple(kink) for kink in report.kinks] == [
        ("1 (ReLU)", 6 * 8 * 6 * 6, 6 * 8 * 6 * 6),
        ("2 (MaxPool2)", 6 * 8 * 3 * 3, 6 * 8 * 3 * 3),
    ]
    line = (
        "Moved off 2,160 kinks, where there is no slope: 1,728 of 1,728 outputs of 1 (ReLU), "
        "432 of 432 outputs of 2 (MaxPool2)."
    )
    assert str(report).splitlines()[-2] == line
    smooth = check_gradients(Sequential([AvgPool2D(2), Flatten(), Dense(10)]), IMAGES["black"], LABELS)
    assert smooth.kinks == ()
    assert "Moved" not in str(smooth)


def test_exactly_the_outputs_at_a_kink_are_found():
    images = DIGITS / 16
    layer = ReLU().build((1, 8, 8))
    np.testing.assert_array_equal(kinked_outputs(layer, images.copy(), np.random.RandomState(0)), images == 0)
    windows = images.reshape(6, 1, 4, 2, 4, 2).transpose(0, 1, 2, 4, 3, 5).reshape(6, 1, 4, 4, 4)
    tied = (windows == windows.max(axis=-1, keepdims=True)).sum(axis=-1) > 1
    layer = MaxPool2D(2).build((1, 8, 8))
    np.testing.assert_array_equal(kinked_outputs(layer, images.copy(), np.random.RandomState(0)), tied)
    z, t = normal(6, 1), normal(6, 1, seed=1)
    z[2:4] = t[2:4]
    for loss, expected in ((MeanAbsoluteError(), [2, 3]), (MeanSquaredError(), [])):
        assert [*np.flatnonzero(kinked_losses(loss, z, t, np.random.RandomState(0)))] == expected


@pytest.mark.parametrize(
    "curve", [np.exp, np.sin, lambda x: x**2, lambda x: np.sign(x) * x**2, lambda x: x / np.sqrt(x**2 + 1e-5)]
)
def test_what_bends_is_no_kink(curve):
    x = np.array([-1.0, -0.1, 0.0, 0.0, 0.1, 5.0])
    assert not kinked(lambda: curve(x), [x], np.random.RandomState(0)).any()


# ------------------------------------------------------------------------------------------------ what is wrong


class Wrong(Layer):
    """y = scale · x + shift, whose gradients are spoiled by a function of (x, dL_dinput, gradients)."""

    def __init__(self, spoil=lambda x, dx, gradients: (dx, gradients)):
        super().__init__()
        self.spoil = spoil

    def _parameters(self, input_shape):
        shape = (input_shape[0], 1, 1)
        return {"scale": Parameter(shape, initial=1.5), "shift": Parameter(shape, initial=0.0)}

    def _forward(self, x):
        return self.parameters["scale"] * x + self.parameters["shift"]

    def _backward(self, x, y, dL_dout):
        summed = {"axis": (0, 2, 3), "keepdims": True}
        gradients = {"scale": (x * dL_dout).sum(**summed)[0], "shift": dL_dout.sum(**summed)[0]}
        return self.spoil(x, self.parameters["scale"] * dL_dout, gradients)


class WrongAbove(Layer):
    """A ReLU whose slope above 0 is wrong by a factor."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def _forward(self, x):
        return np.maximum(x, 0)

    def _backward(self, x, y, dL_dout):
        return np.where(x > 0, self.factor * dL_dout, 0)


def one_channel(x, dx, gradients):
    dx[:, 1] *= 1.01
    return dx, gradients


def zero_pixels(x, dx, gradients):
    return np.where(x == 0, 0, dx), gradients


SPOILT = {
    "scale 1 %": (lambda x, dx, g: (dx, {**g, "scale": 1.01 * g["scale"]}), {"1.scale"}),
    "no shift": (lambda x, dx, g: (dx, {**g, "shift": 0 * g["shift"]}), {"1.shift"}),
    "one channel's shift": (lambda x, dx, g: (dx, {**g, "shift": g["shift"] * [[[1]], [[1.01]], [[1]]]}), {"1.shift"}),
    "input 1 %": (lambda x, dx, g: (1.01 * dx, g), {"input", "0.filters", "0.biases", "1.input"}),
    "input of one channel": (one_channel, {"input", "0.filters", "0.biases", "1.input"}),
    "not a number": (lambda x, dx, g: (dx, {**g, "scale": np.nan * g["scale"]}), {"1.scale"}),
}


@pytest.mark.parametrize("images", ["digits", "black", "white"])
@pytest.mark.parametrize("wrong", SPOILT)
def test_a_wrong_gradient_is_found_behind_kinks(wrong, images):
    spoil, names = SPOILT[wrong]
    model = Sequential([Conv2D(3, 3), Wrong(spoil), ReLU(), MaxPool2D(2), Flatten(), Dense(10)])
    report = check_gradients(model, IMAGES[images], LABELS, raises=False)
    assert set(report.wrong) == names
    assert report.kinks
    right = Sequential([Conv2D(3, 3), Wrong(), ReLU(), MaxPool2D(2), Flatten(), Dense(10)])
    assert check_gradients(right, IMAGES[images], LABELS).right


def test_a_gradient_that_is_wrong_only_where_the_data_are_zero_is_found():
    """The place that the whole model is moved to has no zeros; the layer alone is checked where it is."""
    model = Sequential([Wrong(zero_pixels), MaxPool2D(2), ReLU(), Flatten(), Dense(10)])
    report = check_gradients(model, IMAGES["digits"], LABELS, raises=False)
    assert report.wrong == ["0.input"]
    assert {kink.name for kink in report.kinks} == {"1 (MaxPool2D)", "2 (ReLU)"}
    moved = check_gradients(model, normal(6, 1, 8, 8), LABELS)
    assert moved.right


@pytest.mark.parametrize("factor", [1.01, 0.0, -1.0])
def test_a_layer_with_kinks_of_its_own_is_found_wrong(factor):
    model = Sequential([Conv2D(3, 3), WrongAbove(factor), MaxPool2D(2), Flatten(), Dense(10)])
    report = check_gradients(model, IMAGES["digits"], LABELS, raises=False)
    assert {"input", "0.filters", "0.biases", "1.input"} == set(report.wrong)
    with pytest.raises(AssertionError, match=r"Moved off [\d,]+ kinks, where there is no slope"):
        check_gradients(model, IMAGES["digits"], LABELS)
    right = Sequential([Conv2D(3, 3), WrongAbove(1.0), MaxPool2D(2), Flatten(), Dense(10)])
    assert check_gradients(right, IMAGES["digits"], LABELS).right


def test_the_model_and_the_images_stay_as_they_are():
    model = NETWORKS["notebook"]().build((1, 8, 8), random_state=0)
    images = IMAGES["white"].copy()
    before = model.get_weights()
    assert check_gradients(model, images, LABELS).kinks
    np.testing.assert_array_equal(images, IMAGES["white"])
    for array, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(array, old)


def test_losses_with_a_kink():
    """Where the prediction is the target, the absolute error has no slope; its gradient 0 is the mean of both sides."""
    model, x = Sequential([Flatten(), Dense(1)]), IMAGES["black"]
    for loss in ("mean_absolute_error", "huber", "mean_squared_error"):
        assert check_gradients(model, x, np.zeros((6, 1)), loss=loss).right
        assert check_gradients(NETWORKS["notebook"](), x, np.zeros((6, 10)), loss=loss).right
