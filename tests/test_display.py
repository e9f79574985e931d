"""Pictures are compared by the data that matplotlib was given; without it, an error says what to install."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest

import fastcnn
from fastcnn import CNNClassifier, CNNRegressor, Conv2D, Dense, Flatten, History, ReLU, Residual, Sequential, Trainer
from fastcnn.display import FeatureMapsDisplay, FiltersDisplay, MistakesDisplay, SaliencyDisplay, TrainingCurveDisplay
from fastcnn.history import Epoch
from fastcnn.inspection import grad_cam, saliency, worst_mistakes

matplotlib = pytest.importorskip("matplotlib")  # of the extra [plot]
matplotlib.use("agg")
plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def _no_figure_is_left():
    yield
    plt.close("all")


def history(validated=True) -> History:
    made = History()
    for n in range(1, 4):
        val = (1.5 / n, 0.3 * n) if validated else (math.nan, math.nan)
        made.epochs.append(Epoch(n, 2.0 / n, 0.25 * n, *val, 0.01, 1.0, 100.0))
    return made


def data(channels=1, n=30):
    rng = np.random.RandomState(0)
    return rng.rand(n, channels, 7, 6).astype("f"), np.arange(n) % 3


@pytest.fixture(scope="module")
def model():
    row = [Conv2D(5, 3, name="first"), ReLU(), Residual([Conv2D(5, 1)]), Flatten(), Dense(3)]
    return Sequential(row).build((1, 7, 6), random_state=0)


@pytest.fixture(scope="module")
def classifier():
    X, y = data()
    return CNNClassifier([Conv2D(4, 3), ReLU()], max_iter=2, random_state=0).fit(X, np.array(list("abc"))[y])


def drawn(axes) -> np.ndarray:
    (image,) = axes.get_images()
    return np.asarray(image.get_array())


def is_written(display) -> bool:
    file = io.BytesIO()
    display.figure_.savefig(file, dpi=40)
    return file.getbuffer().nbytes > 500


# ------------------------------------------------------------------------------------------------------------- curves


def test_curves_are_the_columns_of_the_history():
    display = history().plot()
    assert isinstance(display, TrainingCurveDisplay)
    assert [axes.get_ylabel() for axes in display.axes_] == ["Loss", "Accuracy"]
    assert [*display.lines_] == ["loss", "val_loss", "accuracy", "val_accuracy"]
    for column, line in display.lines_.items():
        np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
        np.testing.assert_array_equal(line.get_ydata(), history()[column])
    assert is_written(display)
    assert [*history(validated=False).plot().lines_] == ["loss", "accuracy"]
    rate = history().plot(measures=("learning_rate",), color="red")
    assert rate.lines_["learning_rate"].get_color() == "red"


def test_curves_of_estimators_and_trainers(classifier, model):
    display = TrainingCurveDisplay.from_estimator(classifier)
    np.testing.assert_array_equal(display.lines_["loss"].get_ydata(), classifier.loss_curve_)
    trainer = Trainer(model.copy(), random_state=0)
    with pytest.raises(ValueError, match="expected a fitted estimator or trainer; got Trainer without a history"):
        TrainingCurveDisplay.from_estimator(trainer)
    trainer.fit(*data(), epochs=1, batch_size=10, verbose=0)
    assert len(TrainingCurveDisplay.from_estimator(trainer).lines_["loss"].get_xdata()) == 1
    regressor = CNNRegressor([Flatten()], max_iter=2, random_state=0).fit(*data())
    assert [*TrainingCurveDisplay.from_estimator(regressor).lines_] == ["loss"]


def test_axes_that_are_given_are_drawn_on():
    figure, grid = plt.subplots(2, 2)
    display = history().plot(ax=grid)
    assert display.figure_ is figure
    assert [*display.axes_] == [*grid.ravel()[:2]]
    figure, ax = plt.subplots()
    assert history().plot(ax=ax, measures=("loss",)).axes_[0] is ax
    divided = history().plot(ax=ax)
    assert divided.figure_ is figure
    assert len(divided.axes_) == 2
    with pytest.raises(ValueError, match="ax: expected at least 2 axes; got 1"):
        history().plot(ax=[ax])
    with pytest.raises(TypeError, match="ax: expected None, an Axes, or an array of Axes; got 'ax'"):
        history().plot(ax="ax")


def test_errors_of_curves():
    with pytest.raises(ValueError, match="expected at least one epoch; got none"):
        History().plot()
    with pytest.raises(TypeError, match="expected a History; got dict"):
        TrainingCurveDisplay.from_history({})
    with pytest.raises(ValueError, match=r"measures: expected some of loss, accuracy, learning_rate; got \('los',\)"):
        history().plot(measures=("los",))


# -------------------------------------------------------------------------------------------- filters and feature maps


def test_filters_are_drawn_on_one_scale(model):
    display = FiltersDisplay.from_estimator(model)
    filters = model.parameters["0.filters"]
    assert len(display.axes_) == 5
    for k, axes in enumerate(display.axes_):
        np.testing.assert_array_equal(drawn(axes), filters[k, 0])
        assert axes.get_images()[0].get_clim() == pytest.approx((-np.abs(filters).max(), np.abs(filters).max()))
    inner = FiltersDisplay.from_model(model, layer="2.layers.0", channel=3, count=2)
    np.testing.assert_array_equal(drawn(inner.axes_[1]), model.parameters["2.layers.0.filters"][1, 3])
    assert len(inner.axes_) == 2
    assert is_written(inner)


def test_filters_of_three_channels_are_colours(classifier):
    X, y = data(3)
    fitted = CNNClassifier([Conv2D(4, 3), ReLU()], max_iter=2, random_state=0).fit(X, y)
    image = drawn(FiltersDisplay.from_estimator(fitted).axes_[0])
    assert image.shape == (3, 3, 3)
    assert (image.min(), image.max()) == (0, 1)
    assert len(FiltersDisplay.from_estimator(classifier).axes_) == 4


def test_feature_maps_are_those_of_outputs(model):
    X, _ = data()
    display = FeatureMapsDisplay.from_estimator(model, X, layer="first", sample=2)
    np.testing.assert_array_equal(drawn(display.axes_[0]), X[2, 0])
    for k, axes in enumerate(display.axes_[1:]):
        np.testing.assert_array_equal(drawn(axes), model.outputs(X, 0)[0][2, k])
    strip = FeatureMapsDisplay.from_model(model, X, layer=-1, sample=-1)
    np.testing.assert_array_equal(drawn(strip.axes_[1]), model.predict(X)[-1:])
    assert is_written(strip)
    with pytest.raises(ValueError, match="sample: expected one of 30 samples; got 30"):
        FeatureMapsDisplay.from_estimator(model, X, layer=0, sample=30)


def test_errors_of_filters(model):
    with pytest.raises(ValueError, match=r"layer: expected one with filters, of 0, 2\.layers\.0; got 1"):
        FiltersDisplay.from_estimator(model, layer=1)
    with pytest.raises(ValueError, match="channel: expected one of 1; got 1"):
        FiltersDisplay.from_estimator(model, channel=1)
    with pytest.raises(ValueError, match="expected a network with a convolution; this one has none"):
        FiltersDisplay.from_estimator(Sequential([Dense(2)]).build((3,)))
    with pytest.raises(ValueError, match=r"filters: expected shape \(F, C, kH, kW\)"):
        FiltersDisplay(np.zeros(3))


# ------------------------------------------------------------------------------------------- saliency and mistakes


@pytest.mark.parametrize("method", ["gradient", "integrated_gradients", "grad_cam"])
def test_saliency_is_drawn_below_the_images(classifier, method):
    X = data(n=4)[0].reshape(4, 7, 6)
    display = SaliencyDisplay.from_estimator(classifier, X, "b", method=method)
    if method == "grad_cam":
        expected = grad_cam(classifier, X, "b", size="input")
    else:
        expected = saliency(classifier, X, "b", method=method)
    assert display.axes_.shape == (2, 4)
    for n in range(4):
        np.testing.assert_array_equal(drawn(display.axes_[0, n]), X[n])
        np.testing.assert_allclose(drawn(display.axes_[1, n]), expected[n])
        assert display.axes_[0, n].get_title() == "b"
    assert is_written(display)


def test_saliency_of_colours_and_of_one_class_each():
    X, y = data(3)
    last = np.moveaxis(X, 1, -1)
    fitted = CNNClassifier([Conv2D(4, 3), ReLU()], max_iter=2, random_state=0).fit(last, y)
    display = SaliencyDisplay.from_estimator(fitted, last[:3], [2, 1, 0])
    assert drawn(display.axes_[0, 0]).shape == (7, 6, 3)
    expected = saliency(fitted, last[:3], [2, 1, 0]).sum(axis=-1)
    np.testing.assert_allclose(drawn(display.axes_[1, 2]), expected[2], rtol=1e-4, atol=1e-6)
    assert [axes.get_title() for axes in display.axes_[0]] == ["2", "1", "0"]
    with pytest.raises(ValueError, match=r"method: expected one of gradient, .*; got 'nonsense'"):
        SaliencyDisplay.from_estimator(fitted, last, method="nonsense")
    with pytest.raises(ValueError, match="got shapes"):
        SaliencyDisplay(np.zeros((2, 1, 3, 3)), np.zeros((2, 1, 3, 3)))


def test_mistakes_are_drawn_with_both_classes(classifier):
    X, y = data()
    names = np.array(list("abc"))[y]
    found = worst_mistakes(classifier, X, names, count=5)
    display = MistakesDisplay.from_estimator(classifier, X, names, count=5)
    assert len(display.axes_) == len(found.indices) == 5
    for k, axes in enumerate(display.axes_):
        np.testing.assert_array_equal(drawn(axes), X[found.indices[k], 0])
        assert axes.get_title() == f"{found.truth[k]}, not {found.predicted[k]} ({found.probability[k]:.0%})"
    none = MistakesDisplay.from_estimator(classifier, X, classifier.predict(X))
    assert none.axes_[0].texts[0].get_text() == "no mistakes"
    assert is_written(none)


def test_names():
    assert fastcnn.display.FiltersDisplay is FiltersDisplay
    assert {*fastcnn.display.__all__} <= {*dir(fastcnn.display)}
