"""Fitted estimators as ONNX graphs: how X is read and scaled, the network, and labels or numbers behind it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ..storage.onnx_export import write_model
from ..storage.onnx_graph import GraphWriter
from ..typing import Array
from .base import BaseCNN
from .classifier import CNNClassifier
from .scaling import Scaler


def write_estimator(writer: GraphWriter, estimator: BaseCNN, x: str) -> dict[str, tuple[str, Any, tuple[int, ...]]]:
    """Write all of an estimator behind the value `x`; return by name its outputs, their dtypes and shapes."""
    outputs = write_model(writer, estimator.model_, _prepared(writer, estimator, x))
    if isinstance(estimator, CNNClassifier):
        return _classes(writer, estimator, outputs)
    return {"variable": (_numbers(writer, estimator, outputs), np.float32, (estimator.n_outputs_,))}


def expect_fitted(estimator: BaseCNN) -> None:
    """Raise `NotFittedError` unless the estimator is fitted."""
    check_is_fitted(estimator, "model_")


def given_shape(estimator: BaseCNN) -> tuple[int, ...]:
    """Return the shape of one sample as the estimator was fitted on it."""
    return tuple(estimator._reading.given)


def _prepared(writer: GraphWriter, estimator: BaseCNN, x: str) -> str:
    """Write what turns samples as they come into images that are centred and scaled, in float64 as `predict` does."""
    reading, scaler = estimator._reading, estimator._scaler
    x = _cast(writer, x, np.float64)
    if reading.channels_last:
        x = writer.node("Transpose", [x], perm=[0, 3, 1, 2])
    elif reading.given != reading.shape:
        x = writer.node("Reshape", [x, writer.constant("image_shape", [0, *reading.shape], np.int64)])
    x = _outliers_drawn_in(writer, scaler, _filled(writer, scaler, x))
    x = writer.node("Sub", [x, writer.constant("zero", scaler.zero, np.float64)])
    x = writer.node("Div", [x, writer.constant("deviation", scaler.deviation, np.float64)])
    return _cast(writer, x, np.float32)


def _filled(writer: GraphWriter, scaler: Scaler, x: str) -> str:
    """Write what puts means in the place of missing numbers."""
    if scaler.missing is None:
        return x
    if math.isnan(scaler.missing):
        absent = writer.node("IsNaN", [x])
    else:
        absent = writer.node("Equal", [x, writer.constant("missing", scaler.missing, np.float64)])
    return writer.node("Where", [absent, writer.constant("fill", scaler.fill, np.float64), x])


def _outliers_drawn_in(writer: GraphWriter, scaler: Scaler, x: str) -> str:
    """Write `fence ± unit · log(1 + log(1 + distance))`, the distance from the fence in units."""
    low, high, unit, one = (
        writer.constant(name, value, np.float64)
        for name, value in (("low", scaler.low), ("high", scaler.high), ("unit", scaler.unit), ("one", 1))
    )
    inside = writer.node("Min", [writer.node("Max", [x, low]), high])
    beyond = writer.node("Div", [writer.node("Sub", [x, inside]), unit])
    distance = writer.node("Abs", [beyond])
    for _ in range(2):
        distance = writer.node("Log", [writer.node("Add", [distance, one])])
    drawn_in = writer.node("Mul", [writer.node("Sign", [beyond]), distance])
    return writer.node("Add", [inside, writer.node("Mul", [drawn_in, unit])])


def _classes(writer: GraphWriter, estimator: CNNClassifier, logits: str) -> dict[str, tuple[str, Any, tuple[int, ...]]]:
    """Write label and probabilities."""
    count = len(estimator.classes_)
    if estimator._labels is not None:
        beyond = writer.node("Greater", [logits, writer.constant("threshold", 0, np.float32)])
        return {
            "label": (_cast(writer, beyond, np.int64), np.int64, (count,)),
            "probabilities": (writer.node("Sigmoid", [logits]), np.float32, (count,)),
        }
    likeliest = writer.node("ArgMax", [logits], axis=1, keepdims=0)
    classes, dtype = _class_table(estimator.classes_)
    label = writer.node("Gather", [writer.constant("classes", classes), likeliest], axis=0)
    return {
        "label": (label, dtype, ()),
        "probabilities": (writer.node("Softmax", [logits], axis=1), np.float32, (count,)),
    }


def _class_table(classes: Array) -> tuple[Array, Any]:
    """Return the classes in a dtype that ONNX has, whole numbers as int64, and that dtype."""
    kind = classes.dtype.kind
    if kind in "iu":
        return classes.astype(np.int64), np.int64
    if kind == "b":
        return classes, np.bool_
    if kind == "f":
        return classes.astype(np.float32), np.float32
    if all(isinstance(value, str) for value in classes.tolist()):
        return classes.astype(object), str
    raise TypeError(f"to_onnx: classes: expected numbers or words, which ONNX has; got {classes[:5]!r}")


def _numbers(writer: GraphWriter, estimator: Any, outputs: str) -> str:
    """Write the numbers in the units of y."""
    y = _cast(writer, outputs, np.float64)
    y = writer.node("Mul", [y, writer.constant("y_deviation", estimator._y_deviation, np.float64)])
    y = writer.node("Add", [y, writer.constant("y_mean", estimator._y_mean, np.float64)])
    return _cast(writer, y, np.float32)


def _cast(writer: GraphWriter, x: str, dtype: Any) -> str:
    return writer.node("Cast", [x], to=writer.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


# Pipelines, by skl2onnx.


def write_pipeline(pipeline: Any, dtype: Any, batch: str | int, writer: GraphWriter, *, labels: bool) -> Any:
    """Return the model of a fitted pipeline that ends in one of ours, converted by skl2onnx."""
    try:
        import skl2onnx
        from skl2onnx.common import data_types
    except ImportError:
        raise ImportError(
            "to_onnx: a Pipeline: expected the package skl2onnx; install it with pip install skl2onnx"
        ) from None
    register_with_skl2onnx()
    check_is_fitted(pipeline)
    kinds = {
        "float32": data_types.FloatTensorType,
        "float64": data_types.DoubleTensorType,
        "uint8": data_types.UInt8TensorType,
    }
    kind = kinds[np.dtype(dtype).name]
    last = pipeline[-1]
    write_estimator(writer, last, "X")  # tells the opset that its layers need
    options = {id(last): {"zipmap": False}} if isinstance(last, CNNClassifier) else None
    model = skl2onnx.convert_sklearn(
        pipeline,
        initial_types=[("X", kind([None if batch == "dynamic" else batch, pipeline.n_features_in_]))],
        final_types=None,
        target_opset=writer.opset,
        options=options,
    )
    if isinstance(last, CNNClassifier) and not labels:
        model = skl2onnx.helpers.onnx_helper.select_model_inputs_outputs(model, "probabilities")
    return model


def register_with_skl2onnx() -> None:
    """Teach skl2onnx our estimators: its `to_onnx` and `convert_sklearn` then convert them wherever they stand."""
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes

    from .regressor import CNNRegressor

    options = {"zipmap": [True, False, "columns"], "nocl": [True, False], "output_class_labels": [False, True]}
    update_registered_converter(
        CNNClassifier, "FastcnnClassifier", calculate_linear_classifier_output_shapes, _convert, options=options
    )
    update_registered_converter(CNNRegressor, "FastcnnRegressor", _regressor_shapes, _convert)


def _regressor_shapes(operator: Any) -> None:
    from skl2onnx.common.data_types import FloatTensorType

    batch = operator.inputs[0].type.shape[0]
    operator.outputs[0].type = FloatTensorType([batch, operator.raw_operator.n_outputs_])


def _convert(scope: Any, operator: Any, container: Any) -> None:
    """Add our nodes to the graph that skl2onnx makes, under names that it has not given yet."""
    import onnx

    writer = GraphWriter(onnx, "dynamic")
    outputs = write_estimator(writer, operator.raw_operator, "X")
    names = {"X": operator.inputs[0].full_name, "": ""}
    for variable, (value, _, _) in zip(operator.outputs, outputs.values(), strict=True):
        writer.node("Identity", [value], f"final_{variable.full_name}")
        names[f"final_{variable.full_name}"] = variable.full_name
    for name, tensor in writer.constants.items():
        names[name] = scope.get_unique_variable_name(name)
        array = onnx.numpy_helper.to_array(tensor)
        container.add_initializer(names[name], tensor.data_type, array.shape, array.ravel().tolist())
    for node in writer.nodes:
        for name in node.output:
            if name not in names:
                names[name] = scope.get_unique_variable_name(name)
        attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        container.add_node(
            node.op_type, [names[name] for name in node.input], [names[name] for name in node.output],
            op_version=None, name=scope.get_unique_operator_name(node.op_type), **attributes,
        )  # fmt: skip
