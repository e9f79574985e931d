"""`transform` of the estimators: what a layer makes of the samples, in pipelines and data frames."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastcnn
import fastcnn.estimators.embedding
from fastcnn import CNNClassifier, CNNRegressor, Conv2D, Dense, Flatten, ReLU

LAYERS = (Conv2D(3, 3, name="first"), ReLU(), Flatten(), Dense(5), ReLU(name="last"))


def data(n=30):
    rng = np.random.RandomState(0)
    return rng.rand(n, 36), rng.randint(3, size=n)


@pytest.fixture(scope="module")
def fitted():
    return CNNClassifier(LAYERS, max_iter=2, random_state=0).fit(*data())


@pytest.mark.parametrize(("layer", "place"), [(None, "4"), ("first", "0"), (1, "1"), ("2", "2"), (-1, "5")])
def test_transform_is_what_the_layer_makes_of_scaled_images(fitted, layer, place):
    X, _ = data()
    images = fitted._scaler(X.reshape(-1, 1, 6, 6), np.float32)
    expected = fitted.model_.outputs(images, place)[place]
    found = fitted.transform(X, layer)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, expected.reshape(len(X), -1))
    np.testing.assert_array_equal(fitted.transform(X.reshape(-1, 6, 6), layer=layer), found)
    names = fitted.get_feature_names_out(layer=layer)
    assert [*names] == [f"cnnclassifier{k}" for k in range(found.shape[1])]


def test_the_last_layer_computes_its_outputs_from_the_embedding(fitted):
    X, _ = data()
    last = fitted.model_[-1]
    z = fitted.transform(X) @ last.weights + last.biases
    np.testing.assert_allclose(z, fitted.decision_function(X), rtol=1e-4, atol=1e-5)


def test_an_embedding_is_a_step_of_a_pipeline():
    X, y = data()
    cnn = CNNClassifier(LAYERS, max_iter=2, random_state=0)
    pipeline = make_pipeline(StandardScaler(), cnn, LogisticRegression()).fit(X, y)
    assert pipeline.predict(X).shape == y.shape
    assert pipeline[-1].n_features_in_ == 5
    names = pipeline[:-1].get_feature_names_out()
    assert [*names] == [f"cnnclassifier{k}" for k in range(5)]
    np.testing.assert_array_equal(pipeline[:-1].transform(X), pipeline[1].transform(pipeline[0].transform(X)))


def test_columns_of_data_frames_have_the_names(fitted):
    pandas = pytest.importorskip("pandas")
    X, y = data()
    estimator = CNNClassifier(LAYERS, max_iter=2, random_state=0).set_output(transform="pandas").fit(X, y)
    frame = estimator.transform(X)
    assert isinstance(frame, pandas.DataFrame)
    assert [*frame.columns] == [*estimator.get_feature_names_out()]
    with pytest.raises(ValueError, match="layer: expected None where set_output asks for 'pandas'"):
        estimator.transform(X, layer=0)


def test_a_regressor_and_a_saved_one(tmp_path):
    X, y = data()
    estimator = CNNRegressor((), max_iter=2, random_state=0).fit(X, y)
    assert estimator.transform(X).shape == (30, 36)
    fastcnn.save(estimator, tmp_path / "model")
    np.testing.assert_array_equal(fastcnn.load(tmp_path / "model").transform(X), estimator.transform(X))
    alone = CNNRegressor([Dense(1)], max_iter=2, input_shape=(1, 1, 36), random_state=0)
    with pytest.raises(ValueError, match=r"CNNRegressor: layers"):
        alone.fit(X, y)


def test_errors(fitted):
    X, _ = data()
    with pytest.raises(NotFittedError):
        CNNClassifier().transform(X)
    with pytest.raises(NotFittedError):
        CNNClassifier().get_feature_names_out()
    with pytest.raises(ValueError, match="CNNClassifier: transform: layer: expected the place or the name"):
        fitted.transform(X, "nonsense")
    with pytest.raises(TypeError, match="layer: expected the place"):
        fitted.get_feature_names_out(layer=1.5)
    with pytest.raises(ValueError, match="features"):
        fitted.transform(X[:, :35])


def test_the_example_runs():
    assert doctest.testmod(fastcnn.estimators.embedding).failed == 0
