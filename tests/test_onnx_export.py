"""`to_onnx`: every layer, every ready network and every estimator computes the same elsewhere."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest

import fastcnn
from fastcnn import CNNClassifier, CNNRegressor, Conv2D, Dense, Flatten, Layer, ReLU, Sequential, models
from fastcnn.estimators.networks import NAMES
from tests.cases import CONV_CASES, DEPTHWISE_CASES, LAYER_CASES, POOL_CASES, TRANSPOSE_CASES, TransposeCase
from tests.onnx_runs import assert_close, needs_onnx, run_evaluator, run_onnxruntime

needs_onnx()

RUNS = {"onnxruntime": run_onnxruntime, "evaluator": run_evaluator}
each_run = pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)


def awake(model):
    """Give normalisations and biases something other than 1 and 0 to do."""
    generator = np.random.default_rng(0)
    for name, array in model._weights().items():
        if name.rpartition(".")[2] in ("biases", "beta", "gamma", "running_mean", "running_var"):
            array[...] = generator.uniform(0.5, 1.5, array.shape)
    return model


def check(layers, input_shape, run):
    model = awake(Sequential(layers).build(input_shape[1:], random_state=0))
    x = np.random.default_rng(1).normal(size=input_shape).astype(np.float32)
    (found,) = run(fastcnn.to_onnx(model), x)
    assert_close(found, model.predict(x))


@each_run
@pytest.mark.parametrize("case", LAYER_CASES, ids=str)
def test_every_layer(case, run):
    check([case.make(fastcnn)], case.input_shape, run)


@each_run
@pytest.mark.parametrize("case", CONV_CASES[::2], ids=str)
def test_convolutions(case, run):
    check([Conv2D(**case.arguments)], case.input_shape, run)


@pytest.mark.parametrize("case", DEPTHWISE_CASES, ids=str)
def test_depthwise_convolutions(case):
    check([fastcnn.DepthwiseConv2D(**case.arguments)], case.input_shape, run_onnxruntime)


EXTRA = TransposeCase("output-padding-beyond-what-is-cut", (2, 2, 4, 5), 6, 3, 1, 0, 1, 2)


@pytest.mark.parametrize("case", [*TRANSPOSE_CASES, EXTRA], ids=str)
def test_transposed_convolutions(case):
    check([fastcnn.Conv2DTranspose(**case.arguments)], case.input_shape, run_onnxruntime)


@pytest.mark.parametrize("kind", ["MaxPool2D", "AvgPool2D"])
@pytest.mark.parametrize("case", POOL_CASES, ids=str)
def test_poolings(case, kind):
    check([getattr(fastcnn, kind)(**case.arguments)], case.input_shape, run_onnxruntime)


@pytest.mark.parametrize("name", NAMES)
def test_every_ready_network(name):
    shape = (3, 32, 32) if name in ("vgg6", "resnet20", "mobilenet_small") else (1, 28, 28)
    shape = (1, 8, 8) if name == "digits_default" else shape
    model = awake(getattr(models, name)(shape).build(shape, random_state=0))
    x = np.random.default_rng(1).random((2, *shape), np.float32)
    made = fastcnn.to_onnx(model)
    for run in RUNS.values():
        (found,) = run(made, x)
        assert_close(found, model.predict(x))


@pytest.mark.parametrize("upsampling", ["transposed", "bilinear"])
def test_a_unet_gives_the_same_maps(upsampling):
    model = awake(models.unet((3, 16, 24), 4, 8, 2, upsampling).build((3, 16, 24), random_state=0))
    x = np.random.default_rng(1).random((2, 3, 16, 24), np.float32)
    made = fastcnn.to_onnx(model)
    for run in RUNS.values():
        (found,) = run(made, x)
        assert_close(found, model.predict(x))
    again = fastcnn.from_onnx(made)
    assert_close(again.predict(x), model.predict(x))


def test_every_layer_of_the_table_has_a_row():
    from fastcnn.storage.network import LAYERS
    from fastcnn.storage.onnx_export import WRITERS

    assert set(WRITERS) == set(LAYERS)
    known = {name for case in LAYER_CASES for name in case.layers}
    assert {kind.__name__ for kind in WRITERS} <= known | {"Sequential", "Softmax"}


@each_run
def test_the_notebooks_softmax_and_nested_models(run):
    inner = Sequential([Conv2D(3, 3), ReLU()])
    check([inner, fastcnn.Softmax(3 * 4 * 4, 5, random_state=0)], (3, 2, 6, 6), run)


def small():
    return Sequential([Conv2D(3, 3), ReLU(), Flatten(), Dense(4)]).build((1, 5, 5), random_state=0)


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_the_dtype_of_the_input(dtype):
    model, x = small(), np.random.default_rng(0).integers(0, 256, (3, 1, 5, 5)).astype(dtype)
    (found,) = run_onnxruntime(fastcnn.to_onnx(model, input_dtype=dtype), x)
    assert_close(found, model.predict(x))


def test_a_model_in_float64_is_written_in_float32():
    model, x = small(), np.random.default_rng(0).random((3, 1, 5, 5), np.float32)
    double = Sequential([layer.copy() for layer in model.layers]).build((1, 5, 5), dtype=np.float64)
    (found,) = run_onnxruntime(fastcnn.to_onnx(double), x)
    assert_close(found, model.predict(x))


def test_the_batch():
    dim = fastcnn.to_onnx(small()).graph.input[0].type.tensor_type.shape.dim[0]
    assert dim.dim_param
    dim = fastcnn.to_onnx(small(), batch=7).graph.output[0].type.tensor_type.shape.dim[0]
    assert dim.dim_value == 7


def test_files(tmp_path):
    import onnx

    model, path, file = small(), tmp_path / "model.onnx", io.BytesIO()
    made = fastcnn.to_onnx(model, path)
    fastcnn.to_onnx(model, file)
    assert onnx.load(path) == made == onnx.load_from_string(file.getvalue())
    assert {each.key: each.value for each in made.metadata_props} == {"digest": model.digest()}
    with pytest.raises(OSError, match="folder"):
        fastcnn.to_onnx(model, tmp_path)


class Own(Layer):
    """A layer of a person's own."""

    def _forward(self, x):
        return x


def test_what_has_no_form_in_onnx():
    model = Sequential([Flatten(), fastcnn.Residual([Own()])]).build((1, 2, 2))
    with pytest.raises(TypeError, match=r"to_onnx: layer 1\.layers\.0: Own: expected layers of fastcnn's own"):
        fastcnn.to_onnx(model)
    with pytest.raises(TypeError, match="model_or_estimator: expected a Sequential"):
        fastcnn.to_onnx(Dense(3))
    with pytest.raises(RuntimeError, match="to_onnx"):
        fastcnn.to_onnx(Sequential([Dense(3)]))
    with pytest.raises(ValueError, match="batch: expected"):
        fastcnn.to_onnx(small(), batch="any")
    with pytest.raises(ValueError, match="input_dtype: expected one of"):
        fastcnn.to_onnx(small(), input_dtype="int8")


# ---------------------------------------------------------------------------------------------------------- estimators


def fitted(kind, X, y, **arguments):
    with _quiet():
        return kind([Conv2D(2, 3), ReLU()], max_iter=1, random_state=0, **arguments).fit(X, y)


def _quiet():
    return warnings.catch_warnings(action="ignore")


X_BYTES = np.random.default_rng(0).integers(0, 256, (12, 36)).astype(np.uint8)
READINGS = {
    "rows": X_BYTES,
    "images": X_BYTES.reshape(12, 6, 6),
    "channels-first": np.repeat(X_BYTES.reshape(12, 1, 6, 6), 3, axis=1)
    // np.array([1, 2, 3], np.uint8)[:, None, None],
    "channels-last": np.repeat(X_BYTES.reshape(12, 6, 6, 1), 3, axis=3) // np.array([1, 2, 3], np.uint8),
}
CLASSES = {
    "words": np.array(["ant", "bee", "cow"])[np.arange(12) % 3],
    "objects": np.array(["ant", "bee", "cow"], object)[np.arange(12) % 3],
    "numbers": np.array([3, 5, -8])[np.arange(12) % 3],
    "bools": np.arange(12) % 2 == 1,
    "floats": np.array([0.0, 2.0])[np.arange(12) % 2],
}


def check_classifier(estimator, X, made):
    for run in RUNS.values():
        label, probabilities = run(made, X)
        np.testing.assert_array_equal(label, estimator.predict(X))
        assert_close(probabilities, estimator.predict_proba(X).astype(np.float32))


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("reading", READINGS)
def test_classifiers_read_samples_as_they_were_fitted(reading, dtype):
    X = READINGS[reading].astype(dtype)
    estimator = fitted(CNNClassifier, X, CLASSES["words"])
    made = fastcnn.to_onnx(estimator, input_dtype=dtype)
    assert [each.name for each in made.graph.output] == ["label", "probabilities"]
    check_classifier(estimator, X, made)


@pytest.mark.parametrize("classes", CLASSES)
def test_classes_of_every_kind(classes):
    X = X_BYTES.astype(np.float32)
    estimator = fitted(CNNClassifier, X, CLASSES[classes])
    check_classifier(estimator, X, fastcnn.to_onnx(estimator))


def test_strips_are_centred_feature_by_feature():
    X = np.random.default_rng(0).normal(1e3, 1, (20, 7)).astype(np.float32)
    with _quiet():
        estimator = CNNClassifier([Flatten(), Dense(5), ReLU()], max_iter=1, random_state=0).fit(X, X[:, 0] > 1e3)
    check_classifier(estimator, X, fastcnn.to_onnx(estimator))


def test_several_labels_a_sample():
    X = X_BYTES.astype(np.float32)
    estimator = fitted(CNNClassifier, X, (np.arange(24) % 5 < 2).astype(int).reshape(12, 2))
    check_classifier(estimator, X, fastcnn.to_onnx(estimator))


def test_without_labels():
    X = X_BYTES.astype(np.float32)
    estimator = fitted(CNNClassifier, X, CLASSES["words"])
    (probabilities,) = run_onnxruntime(fastcnn.to_onnx(estimator, labels=False), X)
    assert_close(probabilities, estimator.predict_proba(X).astype(np.float32))


@pytest.mark.parametrize("outputs", [1, 3])
def test_regressors(outputs):
    X = X_BYTES.astype(np.float32)
    y = np.random.default_rng(1).normal(50, 9, (12, outputs))
    estimator = fitted(CNNRegressor, X, y if outputs > 1 else y[:, 0])
    for run in RUNS.values():
        (found,) = run(fastcnn.to_onnx(estimator), X)
        assert_close(found, estimator.predict(X).reshape(12, outputs).astype(np.float32))


def test_estimators_that_are_not_fitted():
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        fastcnn.to_onnx(CNNClassifier())


@pytest.mark.parametrize("kind", [CNNClassifier, CNNRegressor])
def test_pipelines_convert_whole(kind):
    pytest.importorskip("skl2onnx", reason="expected skl2onnx: the second environment of .ci/run has it")
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler

    X = X_BYTES.astype(np.float32)
    y = CLASSES["words"] if kind is CNNClassifier else np.arange(12.0)
    with _quiet():
        last = kind([Conv2D(2, 3), ReLU()], max_iter=1, random_state=0)
        pipeline = make_pipeline(MinMaxScaler(), last).fit(X, y)
        made = fastcnn.to_onnx(pipeline)
    if kind is CNNRegressor:
        (found,) = run_onnxruntime(made, X)
        assert_close(found[:, 0], pipeline.predict(X).astype(np.float32))
        return
    label, probabilities = run_onnxruntime(made, X)
    np.testing.assert_array_equal(label, pipeline.predict(X))
    assert_close(probabilities, pipeline.predict_proba(X).astype(np.float32))
    (probabilities,) = run_onnxruntime(fastcnn.to_onnx(pipeline, labels=False), X)
    assert_close(probabilities, pipeline.predict_proba(X).astype(np.float32))
