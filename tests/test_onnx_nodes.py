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
    "AveragePool", "BatchNormalization", "Celu", "Conv", "ConvTranspose", "Dropout", "Elu", "Flatten", "Gelu", "Gemm",
    "GlobalAveragePool", "GlobalMaxPool", "GroupNormalization", "HardSigmoid", "HardSwish", "InstanceNormalization",
    "LayerNormalization", "LeakyRelu", "MatMul", "MaxPool", "Mish", "PRelu", "Relu", "Resize", "Sigmoid", "Softmax",
    "Softplus", "Swish", "Tanh",
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
    found = read.predict(x[:, None] if x.ndim in (1, 3) else x)  # (N, H, W) is one channel, (N,) one feature
    found = found.reshape(expected.shape)
    if case.name.removeprefix("test_") in ROUNDED:
        np.testing.assert_allclose(found, expected, rtol=case.rtol)
    else:
        assert_close(found, expected)


# Out of scope: the reason, the names of the cases, and what the error says.
OUT = (
    ("a vector that is no sample", r"matmul_1d_.*", r"expected features"),
    ("sequences and volumes", r".*_[13]d(_.*)?", r"of known sizes; got|expected images|for images|expected features"),
    ("rows of matrices", r"matmul_(4d|bcast).*|softmax_.*axis.*", r"expected features|expected the features"),
    ("training, not prediction", r"batchnorm_.*_training_mode|training_dropout.*", r"a graph for prediction"),
    ("integers", r"maxpool_2d_uint8", r"floating-point numbers; got UINT8"),
    ("brain floats, which NumPy lacks", r"celu_bfloat16", r"floating-point numbers; got BFLOAT16"),
    ("the batch is mixed", r"flatten_.*axis.*|gemm_transposeA|gemm_all_attributes|gemm_default_matrix_bias",
     r"axis: expected 1|x not transposed|the same for each sample"),
    ("axes of a sample, not all of it", r"layer_normalization_.*", r"all numbers of a sample"),
    ("a slope for each pixel", r"prelu_.*", r"slope: expected one"),
    ("images between pixels", r"resize_.*", r"'nearest'|a block of whole pixels|height and width"),
)  # fmt: skip
PASSING = 106  # of onnx 1.23; a newer one may have more
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
