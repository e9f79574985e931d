"""Who computes ONNX models in tests: onnxruntime, and onnx's own evaluator."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

NEEDED = "the extra [onnx] and onnxruntime: the second environment of .ci/run has them"


def needs_onnx():
    """Skip a whole file of tests, by name, where the packages are not installed."""
    for name in ("onnx", "onnxruntime"):
        pytest.importorskip(name, reason=f"expected {name}, of {NEEDED}")


def run_onnxruntime(model, *inputs):
    """Return the outputs of a ModelProto."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {each.name: x for each, x in zip(session.get_inputs(), inputs, strict=True)})


def run_evaluator(model, *inputs):
    """Return the outputs of a ModelProto, by onnx's evaluator in NumPy."""
    from onnx.reference import ReferenceEvaluator

    with warnings.catch_warnings(action="ignore"):
        evaluator = ReferenceEvaluator(model)
        return evaluator.run(None, dict(zip(evaluator.input_names, inputs, strict=True)))


def assert_close(actual, expected):
    """Equal to 1e-5 of the largest number."""
    assert actual.shape == expected.shape
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * scale)
