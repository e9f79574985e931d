"""Pointwise convolution behind a ReLU, which skips its zeros: the same bits as the matrix product."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn
from fastcnn import SGD, Trainer, models
from fastcnn.codegen.blocking import SUMS
from fastcnn.jit.target import vector_set
from fastcnn.ops.convolution.pointwise import Pointwise
from tests.arrays import both_dtypes, normal
from tests.guards import guard_all_buffers
from tests.pointwise import CASES, check_filter_gradient, check_forward

each_case = pytest.mark.parametrize("case", CASES, ids=str)
ROW = SUMS * vector_set().lanes(np.float32)  # filters that are a row of registers


@each_case
@both_dtypes
def test_forward_kernel(case, dtype):
    check_forward(case, dtype)


@each_case
@both_dtypes
def test_filter_gradient_kernel(case, dtype):
    check_filter_gradient(case, dtype)


def plain():
    """Return a network without normalisation; a layer of all zeros and one of none, more than a word of channels."""
    layers = [fastcnn.Conv2D(70, 3), fastcnn.ReLU(), fastcnn.Conv2D(ROW, 1), fastcnn.ReLU()]
    return fastcnn.Sequential([*layers, fastcnn.Conv2D(2 * ROW - 3, 1), fastcnn.Flatten(), fastcnn.Dense(4)])


def bottleneck():
    """Return a residual unit, whose input two operations read: it is never blocked."""
    inner = [fastcnn.Conv2D(ROW, 1, bias=False), fastcnn.BatchNorm(), fastcnn.ReLU()]
    inner += [fastcnn.Conv2D(16, 3, padding=1, bias=False), fastcnn.BatchNorm()]
    first = [fastcnn.Conv2D(16, 3, padding=1, bias=False), fastcnn.BatchNorm(), fastcnn.ReLU()]
    last = [fastcnn.ReLU(), fastcnn.Conv2D(ROW, 1, bias=False), fastcnn.BatchNorm(), fastcnn.ReLU()]
    return fastcnn.Sequential([*first, fastcnn.Residual(inner), *last, fastcnn.GlobalAvgPool2D(), fastcnn.Dense(4)])


def biased():
    """Return a network whose second convolution finds its input in panels, and not the gradient of its output."""
    layers = [fastcnn.Conv2D(16, 3, padding=1), fastcnn.BatchNorm(), fastcnn.ReLU(), fastcnn.Conv2D(ROW, 1)]
    layers += [fastcnn.BatchNorm(), fastcnn.ReLU(), fastcnn.Conv2D(5, 1, bias=False), fastcnn.BatchNorm()]
    return fastcnn.Sequential([*layers, fastcnn.GlobalAvgPool2D(), fastcnn.Dense(4)])


NETWORKS = {
    "depthwise": lambda: models.mobilenet_small((3, 9, 7), 4), "plain": plain, "bottleneck": bottleneck,
    "biased": biased,
}  # fmt: skip
each_network = pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)


def trained(make, dtype):
    """Return the parameters after three steps, the prediction, and how many operations skip zeros."""
    generator = np.random.RandomState(3)
    x, y = generator.standard_normal((7, 3, 9, 7)).astype(dtype), generator.randint(4, size=7)
    model = make().build((3, 9, 7), random_state=0, dtype=dtype)
    trainer = Trainer(model, optimizer=SGD(0.1), threads=2)
    for n in (7, 7, 4):
        trainer.step(x[:n], y[:n])
    skipping = sum(op.traits.skips_zeros for op in trainer._program.graph.ops)
    return model._flat.copy(), model.predict(x), skipping


@each_network
@both_dtypes
def test_no_bit_changes(monkeypatch, make, dtype):
    guards = guard_all_buffers(monkeypatch)
    flat, prediction, skipping = trained(make, dtype)
    guards.check()
    monkeypatch.setattr(Pointwise, "knows", staticmethod(lambda *_: False))
    expected_flat, expected_prediction, none = trained(make, dtype)
    assert skipping > none == 0
    np.testing.assert_array_equal(flat, expected_flat)
    np.testing.assert_array_equal(prediction, expected_prediction)


def test_where_zeros_are_skipped():
    """Behind a ReLU, for whole rows of filters, where each pixel of the input is one of the output."""

    def skips(*layers):
        trainer = Trainer(fastcnn.Sequential([fastcnn.Conv2D(5, 1), *layers, fastcnn.Flatten(), fastcnn.Dense(2)]))
        trainer.step(np.zeros((2, 3, 6, 6), np.float32), [0, 1])
        return trainer._program.graph.ops[1].traits.skips_zeros

    assert skips(fastcnn.ReLU(), fastcnn.Conv2D(ROW, 1))
    assert not skips(fastcnn.Conv2D(ROW, 1))
    assert not skips(fastcnn.ReLU(), fastcnn.Conv2D(ROW + 1, 1))
    assert not skips(fastcnn.ReLU(), fastcnn.Conv2D(ROW, 1, stride=2))
    assert not skips(fastcnn.ReLU(), fastcnn.Conv2D(ROW, 1, padding=1))
    assert not skips(fastcnn.ReLU(), fastcnn.Conv2D(ROW, 3))
    assert not skips(fastcnn.ReLU(), fastcnn.Conv2D(ROW, 1), fastcnn.ReLU(), fastcnn.MaxPool2D())


def test_zeros_are_skipped_behind_a_fork():
    """The ReLU stands before the residual unit whose first layer skips them."""
    unit = fastcnn.Residual([fastcnn.Conv2D(ROW, 1)])
    first = [fastcnn.Conv2D(ROW, 1), fastcnn.ReLU()]
    trainer = Trainer(fastcnn.Sequential([*first, unit, fastcnn.GlobalAvgPool2D(), fastcnn.Dense(2)]))
    trainer.step(np.zeros((2, 3, 6, 6), np.float32), [0, 1])
    assert [op.traits.skips_zeros for op in trainer._program.graph.ops][:3] == [False, False, True]


def test_what_is_not_a_number_is_not_skipped():
    model = plain().build((3, 6, 6), random_state=0)
    x = normal(2, 3, 6, 6, dtype=np.float32)
    x[1, 0, 2, 2] = np.nan
    assert np.isfinite(model.predict(x)[0]).all()
    assert np.isnan(model.predict(x)[1]).any()
