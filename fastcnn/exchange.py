"""`to_onnx` and `from_onnx`: models and estimators in the format that other frameworks and runtimes read, and back."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from .checks import as_positive_int, check_input_shape
from .model import Sequential
from .saving import ESTIMATORS
from .storage.atomic import replace_file
from .storage.errors import StorageError, naming
from .storage.onnx_export import write_model
from .storage.onnx_graph import GraphWriter, onnx_package
from .storage.onnx_import import read_model

if TYPE_CHECKING:
    from .estimators.base import BaseCNN

DTYPES = ("float32", "float64", "uint8")


def to_onnx(
    model_or_estimator: Sequential | BaseCNN | Any,
    path: str | os.PathLike[str] | BinaryIO | None = None,
    *,
    batch: str | int = "dynamic",
    labels: bool = True,
    input_dtype: Any = "float32",
) -> Any:
    """Return an ONNX model that predicts as `predict` does, and write it to a file.

    The operators are those of opset 17, with a dilated `AvgPool2D` those of opset 19. All weights are in float32, the
    precision in which runtimes compute convolutions, whatever the model's own is.

    Parameters
    ----------
    model_or_estimator : Sequential, CNNClassifier, CNNRegressor or sklearn.pipeline.Pipeline
        A model that is built, an estimator that is fitted, or, with skl2onnx installed, a fitted pipeline that ends in
        one of ours.
    path : path or binary file, optional
        A file of that name is replaced as a whole.
    batch : "dynamic" or int
        The number of samples of a call; "dynamic" is any.
    labels : bool
        Whether a classifier gives `label` beside `probabilities`; of no meaning for others.
    input_dtype : "float32", "float64" or "uint8"
        Of the input. A model scales uint8 to [0, 1], as `predict` does; an estimator takes it as it was fitted.

    Returns
    -------
    onnx.ModelProto
        A model has the input `input` and the output `output`. An estimator has the input `X`, of the shape that it was
        fitted on, and brings along how it reads and scales that. A classifier gives `label` (n,) and `probabilities`
        (n, classes), both (n, labels) where a sample has several labels; a regressor `variable` (n, outputs), as
        skl2onnx has it.

    Raises
    ------
    ImportError
        If the package onnx is not installed: `pip install "fastcnn[onnx]"`.
    TypeError
        If it is something else, or has a layer that ONNX has no form for, such as one of a person's own.
    RuntimeError, sklearn.exceptions.NotFittedError
        If the model is not built, or the estimator not fitted.
    OSError
        If the file cannot be written.

    See Also
    --------
    from_onnx : Reads a network from ONNX.
    save : Writes a model, an estimator or a trainer.

    Examples
    --------
    >>> import fastcnn
    >>> model = fastcnn.models.lenet5().build((1, 28, 28), random_state=0)
    >>> graph = fastcnn.to_onnx(model)  # with a path, a file too
    >>> graph.graph.output[0].name
    'output'
    """
    onnx = onnx_package("to_onnx")
    if batch != "dynamic":
        if isinstance(batch, str):
            raise ValueError(f'to_onnx: batch: expected "dynamic" or a positive int; got {batch!r}')
        batch = as_positive_int(batch, "to_onnx", "batch")
    try:
        dtype = np.dtype(input_dtype)
    except TypeError:
        dtype = np.dtype(object)
    if dtype.name not in DTYPES:
        raise ValueError(f"to_onnx: input_dtype: expected one of {', '.join(DTYPES)}; got {input_dtype!r}")
    made = _convert(onnx, model_or_estimator, batch, dtype, labels=bool(labels))
    if path is not None:
        _write(made.SerializeToString(), path)
    return made


def _write(data: bytes, path: str | os.PathLike[str] | BinaryIO) -> None:
    def write(file: BinaryIO) -> None:
        file.write(data)

    if isinstance(path, str | os.PathLike):
        replace_file(path, write)
    else:
        write(path)


def _convert(onnx: Any, thing: Any, batch: str | int, dtype: np.dtype, *, labels: bool) -> Any:
    writer = GraphWriter(onnx, batch)
    if isinstance(thing, Sequential):
        return _model(writer, thing, dtype)
    if type(thing).__name__ in ESTIMATORS:
        return _estimator(writer, thing, dtype, labels=labels)
    if type(thing).__name__ == "Pipeline" and type(thing[-1]).__name__ in ESTIMATORS:
        from .estimators.onnx import write_pipeline

        return write_pipeline(thing, dtype, batch, writer, labels=labels)
    raise TypeError(
        "to_onnx: model_or_estimator: expected a Sequential, a CNNClassifier, a CNNRegressor, or a Pipeline that "
        f"ends in one of those; got {thing!r}"
    )


def _model(writer: GraphWriter, model: Sequential, dtype: np.dtype) -> Any:
    model._expect_built("to_onnx")
    assert model.input_shape is not None
    x = writer.add_input("input", dtype, model.input_shape)
    if dtype != np.float32:
        x = writer.node("Cast", [x], to=writer.onnx.TensorProto.FLOAT)
    if dtype == np.uint8:
        x = writer.node("Mul", [x, writer.constant("scale", 1 / 255, np.float32)])
    y = write_model(writer, model, x)
    writer.add_output(y, "output", np.float32, model.output_shape(model.input_shape))
    return writer.model("fastcnn", {"digest": model.digest()})


def _estimator(writer: GraphWriter, estimator: Any, dtype: np.dtype, *, labels: bool) -> Any:
    from .estimators.onnx import expect_fitted, given_shape, write_estimator

    expect_fitted(estimator)
    x = writer.add_input("X", dtype, given_shape(estimator))
    for name, (value, kind, shape) in write_estimator(writer, estimator, x).items():
        if labels or name != "label":
            writer.add_output(value, name, kind, shape)
    return writer.model(type(estimator).__name__, {"digest": estimator.model_.digest()})


def from_onnx(path: str | os.PathLike[str] | BinaryIO | Any, *, input_shape: Any = None) -> Sequential:
    """Return the network of an ONNX graph: it predicts the same, can be trained on, saved, and exported again.

    Graphs are read as exporters of PyTorch and of Keras write them, for prediction: chains, sums and concatenations of
    what fastcnn has layers for. Images are (N, C, H, W) here, also where the graph takes them with channels last.
    Signals, (N, C, L) or (N, L, C) in the graph, are images (N, C, 1, L).

    Parameters
    ----------
    path : path, binary file or onnx.ModelProto
        The graph, or where it is read from.
    input_shape : tuple of int, optional
        (C, H, W), (C, 1, L) or (D,), where the graph leaves sizes open.

    Returns
    -------
    Sequential
        Built, in prediction (`training` is False; a `Trainer` trains it all the same). In float32, or in float64 where
        the graph's weights are.

    Raises
    ------
    ImportError
        If the package onnx is not installed: `pip install "fastcnn[onnx]"`.
    StorageError
        A ValueError: if it is no ONNX file, or has what no layer computes; the message names node, operator and reason.
    OSError
        If the file cannot be read.

    See Also
    --------
    to_onnx : Writes a model or an estimator as ONNX.
    load : Reads what `save` has written.

    Notes
    -----
    Constants that are added or multiplied become a part of the layer before; where that cannot be, a `BatchNorm` whose
    running statistics are 0 and 1. An exporter that folds batch normalisations or leaves dropout out has done that for
    good.

    Examples
    --------
    >>> import fastcnn
    >>> graph = fastcnn.to_onnx(fastcnn.models.lenet5().build((1, 28, 28), random_state=0))
    >>> model = fastcnn.from_onnx(graph)  # or the path of a file
    >>> model.output_shape((1, 28, 28))
    (10,)
    """
    onnx = onnx_package("from_onnx")
    shape = None if input_shape is None else check_input_shape(input_shape, "from_onnx")
    if isinstance(path, onnx.ModelProto):
        return read_model(onnx, path, shape)
    with naming(str(getattr(path, "name", "the file") if hasattr(path, "read") else path)):
        return read_model(onnx, _load(onnx, path), shape)


def _load(onnx: Any, path: Any) -> Any:
    """Return the graph of a file.

    Raises
    ------
    StorageError
        If it is none.
    """
    try:
        proto = onnx.load(path)
    except OSError:
        raise
    except Exception as error:  # of the decoder, whatever is in the file
        raise StorageError(f"expected a file of ONNX: {error}") from None
    if not proto.graph.node:
        raise StorageError("expected a file of ONNX with a graph in it")
    return proto
