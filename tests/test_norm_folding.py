"""Batch normalisation in prediction: folded into the convolution before it, never in training."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn
from fastcnn.engine import schedule
from fastcnn.engine.allocate import allocate
from fastcnn.engine.ir import RunContext
from fastcnn.engine.load import load
from fastcnn.runtime.record import Call, record_calls, run_calls
from tests.arrays import both_dtypes, normal
from tests.plans import plan_of
from tests.test_norm import assert_alike, digits, network, random_parameters


def predict(model, x, fuse):
    plan = plan_of(model, len(x), training=False, fuse=fuse)
    workspace = allocate(plan)
    run_calls(schedule.prepare_calls(plan))
    load(plan, x, len(x), workspace)
    schedule.forward(plan, [(len(x), workspace)], [RunContext(training=False)])
    return len(plan.ops), plan.values[plan.output].view(workspace.values[plan.output], len(x)).copy()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("algorithm", ["direct", "im2col", "winograd"])
@pytest.mark.parametrize("followers", [(), ("ReLU",), ("MaxPool2D",), ("ReLU", "MaxPool2D")], ids=str)
def test_prediction_folds_it_into_the_convolution(followers, algorithm, bias):
    conv = fastcnn.Conv2D(17, 3, padding=1, bias=bias, algorithm=algorithm)
    model = fastcnn.Sequential([conv, fastcnn.BatchNorm(), *(getattr(fastcnn, name)() for name in followers)])
    model.build((3, 7, 6), dtype=np.float64, random_state=0)
    random_parameters(model)
    norm = model.layers[1]
    norm.running_mean, norm.running_var = normal(17, seed=1), 0.1 + normal(17, seed=2) ** 2
    x = normal(4, 3, 7, 6)
    blocks, folded = predict(model, x, fuse=True)
    assert blocks == 1
    blocks, unfolded = predict(model, x, fuse=False)
    assert blocks == 2 + len(followers)
    assert_alike(folded, unfolded, 1e-12)
    norm.gamma *= -1
    assert not np.allclose(predict(model, x, fuse=True)[1], folded)


@pytest.mark.parametrize(
    "make", [lambda: fastcnn.DepthwiseConv2D(3, depth_multiplier=2), lambda: fastcnn.SeparableConv2D(5, 3, bias=False)]
)
def test_prediction_folds_it_into_other_convolutions(make):
    model = fastcnn.Sequential([make(), fastcnn.BatchNorm(), fastcnn.ReLU()]).build((3, 6, 5), dtype=np.float64)
    random_parameters(model)
    norm = model.layers[1]
    norm.running_mean = normal(*norm.running_mean.shape, seed=1)
    x = normal(4, 3, 6, 5)
    blocks, folded = predict(model, x, fuse=True)
    unfused, unfolded = predict(model, x, fuse=False)
    assert unfused == blocks + 2
    assert_alike(folded, unfolded, 1e-12)


def one_by_one(model: fastcnn.Sequential, x: np.ndarray) -> np.ndarray:
    """Return the output of a model in prediction mode, in which nothing is fused or folded."""
    for layer in model.layers:
        x = layer.forward(x)
    return x


@both_dtypes
def test_predictions_follow_the_running_statistics(dtype):
    """Folded into a convolution or not, behind a dense layer; also where calls are recorded."""
    model = fastcnn.Sequential(network(fastcnn)).build((2, 8, 8), dtype=dtype)
    trainer, (x, y) = fastcnn.Trainer(model, optimizer=fastcnn.SGD(0.0)), digits(13, dtype=dtype)
    tolerance, found = 1e-12 if dtype == np.float64 else 1e-5, []
    for _ in range(3):
        trainer.step(x, y)
        model.training = False
        found.append(model.predict(x))
        assert_alike(found[-1], one_by_one(model, x), tolerance)
    assert not np.allclose(found[0], found[1])
    model.layers[9].running_var *= 4  # in place, and nothing else
    assert_alike(model.predict(x), one_by_one(model, x), tolerance)
    assert not np.allclose(model.predict(x), found[2])


def test_a_recorded_prediction_reads_the_arrays_as_they_are():
    model = fastcnn.Sequential([fastcnn.BatchNorm()]).build((5,))
    plan = plan_of(model, 3, training=False)
    workspace, x = allocate(plan), normal(3, 5, dtype=np.float32)
    run_calls(schedule.prepare_calls(plan))
    load(plan, x, 3, workspace)
    tape = record_calls(Call(op, op.forward, (3, workspace, RunContext(training=False))) for op in plan.ops)
    model.layers[0].running_mean = np.arange(5)
    tape.play()
    output = plan.values[plan.output].view(workspace.values[plan.output], 3).reshape(3, 5)
    assert_alike(output, ((x - np.arange(5)) / np.sqrt(1 + 1e-5)).astype(np.float32), 1e-6)


def test_training_does_not_fold():
    model = fastcnn.Sequential([fastcnn.Conv2D(3, 3), fastcnn.BatchNorm(), fastcnn.ReLU()]).build((2, 6, 6))
    model.forward(normal(2, 2, 6, 6))
    assert len(model._executables.last.plan.ops) == 2
