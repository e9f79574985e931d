"""Values that share buffers: a step computes the same, bit for bit, as where each has a buffer of its own."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

import fastcnn
from fastcnn import SGD, Trainer, models
from fastcnn.engine import backward_filters, memory_plan, planner
from tests.plans import plan_of

NETWORKS = {
    "residuals": lambda: models.resnet20((3, 8, 8), 4),
    "depthwise": lambda: models.mobilenet_small((3, 8, 8), 4),
    "plain": lambda: models.vgg6((3, 8, 8), 4),
    "branches": lambda: fastcnn.Sequential([
        fastcnn.Conv2D(5, 3, padding=1), fastcnn.BatchNorm(),
        fastcnn.Concat([[fastcnn.Conv2D(3, 1), fastcnn.BatchNorm(), fastcnn.ReLU()], [fastcnn.BatchNorm()], []]),
        fastcnn.Conv2D(8, 3, padding=1, groups=1, algorithm="im2col"), fastcnn.BatchNorm(), fastcnn.MaxPool2D(),
        fastcnn.Residual([fastcnn.DepthwiseConv2D(3, padding=1, depth_multiplier=2), fastcnn.BatchNorm()], "pad"),
        fastcnn.Residual([fastcnn.BatchNorm(), fastcnn.GELU(), fastcnn.Conv2D(16, 3, padding=1)]),
        fastcnn.GroupNorm(4), fastcnn.Dropout(0.3), fastcnn.Flatten(), fastcnn.Dense(4),
    ]),
}  # fmt: skip
each_network = pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)


def trained(make, threads):
    """Return what two steps and a prediction come to."""
    generator = np.random.RandomState(3)
    x, y = generator.standard_normal((12, 3, 8, 8)).astype(np.float32), generator.randint(4, size=12)
    model = make().build((3, 8, 8), random_state=0)
    trainer = Trainer(model, optimizer=SGD(0.1), threads=threads, random_state=0)
    losses = [trainer.step(x, y) for _ in range(2)]
    return losses, model._flat.copy(), model.predict(x)


@each_network
@pytest.mark.parametrize("threads", [1, 3])
def test_buffers_of_ones_own_change_no_bit(monkeypatch, make, threads):
    monkeypatch.setattr("fastcnn.training.step.SHARD_WORK", 1.0)
    losses, flat, output = trained(make, threads)
    monkeypatch.setattr(memory_plan, "_reuse", lambda kind, lifetimes: {})
    for module in (memory_plan, planner):
        monkeypatch.setattr(module, "unsaved_values", lambda graph, sync_points: {})
    expected_losses, expected_flat, expected_output = trained(make, threads)
    assert losses == expected_losses
    np.testing.assert_array_equal(flat, expected_flat)
    np.testing.assert_array_equal(output, expected_output)


@each_network
def test_values_in_one_buffer_are_never_in_use_at_the_same_time(make):
    """Operations mask gradients in place: a buffer is reused when its last reader is done."""
    plan = plan_of(make().build((3, 8, 8)), 2)
    uses = {}
    for value, allocation in enumerate(plan.allocations[1]):
        if allocation:
            ops = [op.index for op in plan.ops if value in (*op.reads, *op.writes)]
            uses.setdefault(allocation.name, []).append((min(ops), max(ops)))
    assert any(len(values) > 1 for values in uses.values())
    for values in uses.values():
        assert all(a[1] < b[0] or b[1] < a[0] for a, b in combinations(values, 2))


def test_what_is_behind_a_batch_norm_is_not_saved():
    """Behind a normalisation, a convolution reads what is computed again backward; a sum reads it once."""
    plan = plan_of(models.resnet20((3, 8, 8)).build((3, 8, 8)), 2)
    unsaved = memory_plan.unsaved_values(plan.graph, plan.sync_points)
    assert len(unsaved) == 18  # all but the first, which goes into a convolution and around it
    assert sum(unsaved.values()) == 9
    names = {plan.allocations[0][value].name for value in unsaved}
    assert len(names) < 9


FILTERS = 10  # no whole register, so that filters have padding


def _deep():
    conv, norm, relu = (lambda: fastcnn.Conv2D(FILTERS, 3, 1, 1)), fastcnn.BatchNorm, fastcnn.ReLU
    return fastcnn.Sequential([
        conv(), norm(), relu(), conv(), conv(), norm(), relu(), fastcnn.Conv2D(2 * FILTERS, 3, 1, 1), norm(),
        conv(), fastcnn.Flatten(), fastcnn.Dense(4),
    ])  # fmt: skip


def _share_backward_filters(monkeypatch):
    """Let them be shared however little that saves, in memory where nothing is zero at first."""
    allocate = backward_filters.aligned_zeros

    def garbage(size, dtype):
        memory = allocate(size, dtype)
        memory.fill(np.nan)
        return memory

    monkeypatch.setattr(backward_filters, "LEAST", 0)
    monkeypatch.setattr(backward_filters, "aligned_zeros", garbage)


def test_operations_take_turns_in_what_they_prepare_for_backward(monkeypatch):
    _share_backward_filters(monkeypatch)
    plan = plan_of(_deep().build((3, 12, 12), random_state=0), 16)
    late = [op for ops in plan.late.values() for op in ops]
    assert len(late) == 3
    first, second, third = (op.algorithm.u_back for op in late)
    assert np.may_share_memory(first, third)
    assert not np.may_share_memory(first, second)  # of one stage


@pytest.mark.parametrize("threads", [1, 2, 16])
def test_what_is_prepared_in_turns_has_the_same_bits(monkeypatch, threads):
    def train():
        generator = np.random.RandomState(3)
        x, y = generator.standard_normal((24, 3, 12, 12)).astype(np.float32), generator.randint(4, size=24)
        model = _deep().build((3, 12, 12), random_state=0)
        trainer = Trainer(model, optimizer=SGD(0.1), threads=threads, random_state=0)
        losses = [trainer.step(x, y) for _ in range(4)]
        dL_dinput = [model.backward(model.forward(x)) for _ in range(2)]
        return losses, model._flat.copy(), model.predict(x), *dL_dinput

    expected = train()
    _share_backward_filters(monkeypatch)
    for one, other in zip(train(), expected, strict=True):
        np.testing.assert_array_equal(one, other)
