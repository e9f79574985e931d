"""The single-node cases of the onnx package's backend suite, for the operators that have layers."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest

from fastcnn import StorageError, from_onnx
from tests.onnx_runs import assert_close, needs_onnx

needs_onnx()

import onnx  # noqa: E402
from onnx import numpy_helper  # noqa: E402

OPERATORS = {
    "AveragePool", "BatchNormalization", "Celu", "Clip", "Conv", "ConvTranspose", "Dropout", "Elu", "Flatten", "Gelu",
    "Gemm", "GlobalAveragePool", "GlobalMaxPool", "GroupNormalization", "HardSigmoid", "HardSwish",
    "InstanceNormalization", "LayerNormalization", "LeakyRelu", "LogSoftmax", "LRN", "MatMul", "MaxPool", "Mish", "Neg",
    "PRelu", "Relu", "Resize", "Selu", "Sigmoid", "Softmax", "Softplus", "Swish", "Tanh", "ThresholdedRelu",
}  # fmt: skip


def _cases():
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings(action="ignore"):
        found = collect_testcases(None)
    return {
        case.name.removeprefix("test_"): case
        for case in found
        if len(case.model.graph.node) == 1 and case.model.graph.node[0].op_type in OPERATORS
    }


CASES = _cases()


def laid_out(x, shape):
    """Return samples of a graph as our model takes them, and what brings its outputs into the graph's order."""
    if x.ndim == 1:  # one feature each
        return x[:, None], lambda y: y
    for order in ((0, 1, 2), (0, 2, 1)) if x.ndim == 3 else ((0, 1, 2, 3), (0, 3, 1, 2)) if x.ndim == 4 else ((0, 1),):
        own = x.transpose(order)
        if x.ndim == 3:
            own = own[:, None] if order == (0, 1, 2) and shape[0] == 1 else own[:, :, None]
        if own.shape[1:] == shape:
            plain = order == tuple(range(x.ndim))
            return own, (lambda y: y) if plain else (lambda y: np.moveaxis(y, 1, -1))
    raise AssertionError(f"samples of shape {x.shape} for a model of {shape}")


def run(case):
    """Read the node with all its inputs but the first as constants, and compare its first output."""
    inputs, outputs = case.data_sets[0]
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    names = [each.name for each in model.graph.input]
    for name, array in zip(names[1:], inputs[1:], strict=True):
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    del model.graph.output[1:]
    read = from_onnx(model)
    x, expected = np.asarray(inputs[0]), np.asarray(outputs[0])
    rounded = expected.dtype.name == "bfloat16"
    if rounded:
        x = x.astype(np.float32)
    x, back = laid_out(x, read.input_shape)
    found = back(read.predict(x)).reshape(expected.shape)
    if rounded:
        np.testing.assert_array_equal(found.astype(expected.dtype), expected)
    elif case.name.removeprefix("test_") in ROUNDED:
        np.testing.assert_allclose(found, expected, rtol=case.rtol)
    else:
        assert_close(found, expected)


# Out of scope: the reason, the names of the cases, and what the error says.
OUT = (
    ("a vector that is no sample", r"matmul_1d_.*", r"expected features"),
    ("volumes", r".*_3d(_.*)?", r"of known sizes; got"),
    ("weights of their own for each sample or channel", r"matmul_(3d|4d|bcast)", r"expected features"),
    ("training, not prediction", r"batchnorm_.*_training_mode|training_dropout.*", r"a graph for prediction"),
    ("integers, which a model's predict scales to [0, 1]", r"maxpool_2d_uint8|clip_default_int8_.*",
     r"floating-point numbers; got U?INT8"),
    ("the samples are mixed", r"flatten_.*axis.*|gemm_transposeA|gemm_all_attributes|gemm_default_matrix_bias"
     r"|softmax_axis_0|layer_normalization_.*(axis0|2d_axis_negative_2|3d_axis_negative_3|4d_axis_negative_4).*",
     r"axis: expected|x not transposed|the same for each sample"),
    ("axes of a sample, not all of it", r"layer_normalization_.*", r"all numbers of a sample"),
    ("a slope for each sample", r"prelu_example", r"slope: expected one"),
    ("images between pixels", r"resize_.*", r"'nearest'|a block of whole pixels|height and width"),
    ("no layer computes it", r"logsoftmax_.*|lrn.*|thresholdedrelu.*", r"no layer computes it"),
    ("no layer at all", r"clip_default_inbounds", r"at least one layer"),
    ("bounds in the wrong order", r"clip_min_greater_than_max", r"min below max"),
)  # fmt: skip
PASSING = 130  # of 229 of onnx 1.23; a newer one may have more
ROUNDED = {"averagepool_2d_ceil_last_window_starts_on_pad"}  # what PyTorch printed, to four places


@pytest.mark.parametrize("name", CASES)
def test_single_nodes(name):
    try:
        run(CASES[name])
    except StorageError as error:
        reasons = [why for why, names, words in OUT if re.fullmatch(names, name) and re.search(words, str(error))]
        assert reasons, f"{error}: neither computed nor out of scope"  # noqa: PT017


def test_most_that_is_in_scope_is_computed():
    passing = []
    for name, case in CASES.items():
        try:
            run(case)
        except StorageError:
            continue
        passing.append(name)
    assert len(passing) >= PASSING
