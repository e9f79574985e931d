"""Gradients behind a max-pooling, from its winners alone: as if the gradient had been spread out first."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn
from fastcnn import Conv2D, Dense, Flatten, MaxPool2, MaxPool2D, ReLU, Sequential
from fastcnn.ops.convolution import behind_max_pool as algorithm_sparse
from tests.arrays import both_dtypes
from tests.cases import CONV_CASES
from tests.guards import guard_all_buffers

CASES = [
    case
    for case in CONV_CASES
    if case.groups == 1 and min(Conv2D(**case.arguments).output_shape(case.input_shape[1:])[1:]) > 1
]


@pytest.fixture
def always(monkeypatch):
    """Let it be used wherever it can be."""
    monkeypatch.setattr(algorithm_sparse, "ENTRY", -(10**9))


def whole_numbers(array: np.ndarray) -> None:
    """Fill an array with small whole numbers: sums of their products are exact in any order, and maxima are tied."""
    array[...] = np.random.RandomState(array.size).randint(-3, 4, array.shape)


def gradients(layers: list[fastcnn.Layer], x: np.ndarray, fuse: bool) -> list[np.ndarray]:
    """Return the gradients with respect to the input and to all parameters."""
    model = Sequential(layers, fuse=fuse).build(x.shape[1:], dtype=x.dtype)
    for parameter in model.parameters.values():
        whole_numbers(parameter)
    dL_dout = model.forward(x).copy()
    whole_numbers(dL_dout)
    return [model.backward(dL_dout), *(gradient.copy() for gradient in model.gradients.values())]


@pytest.mark.usefixtures("always")
@both_dtypes
@pytest.mark.parametrize("relu", [True, False], ids=["relu", "linear"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_they_are_those_of_the_layers_one_by_one(case, relu, dtype, monkeypatch):
    """For a first layer and behind another one, whose padding channels must stay zero; between guard words."""
    guards = guard_all_buffers(monkeypatch)
    x = np.empty(case.input_shape, dtype)
    whole_numbers(x)
    for before in ([], [Conv2D(x.shape[1] + 1, 1)]):
        layers = [*before, Conv2D(**case.arguments, algorithm="direct"), *[ReLU()][:relu], MaxPool2D()]
        sparse, spread = (gradients([layer.copy() for layer in layers], x, fuse) for fuse in (True, False))
        for one, other in zip(sparse, spread, strict=True):
            np.testing.assert_array_equal(one, other)
    guards.check()


@pytest.mark.parametrize(
    ("pooling", "expected"), [(MaxPool2D(), [True, True]), (MaxPool2(), [False, False])], ids=["one", "every"]
)
def test_where_there_is_one_winner_and_little_work(pooling, expected):
    """LeNet's convolutions; not where all tied maxima receive the gradient."""
    layers = [
        Conv2D(6, 5, padding=2), ReLU(), pooling.copy(), Conv2D(16, 5), ReLU(), pooling.copy(), Flatten(), Dense(10),
    ]  # fmt: skip
    trainer = fastcnn.Trainer(Sequential(layers))
    trainer.step(np.zeros((2, 1, 28, 28), np.float32), [0, 1])
    convolutions = [op for op in trainer._program.graph.ops if hasattr(op, "sparse")]
    assert [block.sparse is not None for block in convolutions] == expected
