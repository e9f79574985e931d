"""All kernels, as the layers call them on every shape, between guard words."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn
from fastcnn.ops.convolution.select import ALGORITHMS
from tests.arrays import both_dtypes
from tests.cases import CONV_CASES, DENSE_CASES, DEPTHWISE_CASES, LAYER_CASES, POOL_CASES
from tests.guards import GUARD, Guards, guard_all_buffers, untouched


@pytest.fixture
def guarded_layers(monkeypatch):
    """Put guard words around all buffers of layers; a kernel that reads them computes NaN."""
    guards = guard_all_buffers(monkeypatch)
    yield guards
    assert guards.all
    guards.check()


@pytest.mark.usefixtures("guarded_layers")
@both_dtypes
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("case", CONV_CASES, ids=str)
def test_convolutions_between_guard_words(case, algorithm, dtype):
    check_between_guard_words(fastcnn.Conv2D(**case.arguments, algorithm=algorithm), case.input_shape, dtype)


@pytest.mark.usefixtures("guarded_layers")
@both_dtypes
@pytest.mark.parametrize("case", DEPTHWISE_CASES, ids=str)
def test_depthwise_between_guard_words(case, dtype):
    check_between_guard_words(fastcnn.DepthwiseConv2D(**case.arguments), case.input_shape, dtype)


@pytest.mark.usefixtures("guarded_layers")
@both_dtypes
@pytest.mark.parametrize("case", POOL_CASES, ids=str)
def test_pooling_between_guard_words(case, dtype):
    check_between_guard_words(fastcnn.MaxPool2D(**case.arguments), case.input_shape, dtype)
    if case.is_2x2:
        check_between_guard_words(fastcnn.MaxPool2(), case.input_shape, dtype)


@pytest.mark.usefixtures("guarded_layers")
@both_dtypes
@pytest.mark.parametrize("case", DENSE_CASES, ids=str)
def test_dense_between_guard_words(case, dtype):
    check_between_guard_words(fastcnn.Dense(case.nodes, bias=case.bias), (case.N, case.D), dtype)


@pytest.mark.usefixtures("guarded_layers")
@both_dtypes
@pytest.mark.parametrize("case", [case for case in LAYER_CASES if case.layers <= set(fastcnn.__all__)], ids=str)
def test_every_layer_between_guard_words(case, dtype):
    check_between_guard_words(case.make(fastcnn), case.input_shape, dtype)


def check_between_guard_words(layer: fastcnn.Layer, input_shape, dtype) -> None:
    x = np.random.RandomState(0).standard_normal(input_shape).astype(dtype)
    output = layer.forward(x)
    dL_dinput = layer.backward(output)
    for array in (output, dL_dinput, *layer.gradients.values()):
        assert np.isfinite(array).all()


@pytest.mark.usefixtures("guarded_layers")
@both_dtypes
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("size", [(12, 12), (11, 13)], ids=str)
def test_fused_models_between_guard_words(size, algorithm, dtype):
    model = fastcnn.Sequential(
        [
            fastcnn.Conv2D(17, 3, padding=1, algorithm=algorithm), fastcnn.ReLU(),
            fastcnn.Conv2D(16, 3, algorithm=algorithm), fastcnn.MaxPool2(),
            fastcnn.Conv2D(5, 3, padding=1, algorithm=algorithm), fastcnn.ReLU(), fastcnn.MaxPool2D(),
            fastcnn.Flatten(), fastcnn.Dense(9), fastcnn.ReLU(), fastcnn.Softmax(9, 3),
        ]
    ).build((2, *size), dtype=dtype, random_state=0)  # fmt: skip
    x = np.random.RandomState(0).standard_normal((3, 2, *size)).astype(dtype)
    assert np.isfinite(model.forward(x)).all()
    trainer = fastcnn.Trainer(model)
    for n in (3, 1, 2):
        assert np.isfinite(trainer.step(x[:n], np.arange(n)))
    assert all(np.isfinite(parameter).all() for parameter in model.parameters.values())


def test_the_guards_see():
    guards = Guards()
    inner = guards.empty(10, np.float32)
    guards.check()
    assert untouched(inner).all()
    inner.base[GUARD - 1] = 0
    with pytest.raises(AssertionError, match=r"before buffer 0: \[63\]"):
        guards.check()
