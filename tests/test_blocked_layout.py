"""Maps in blocks of channels, around 1 x 1 convolutions: the same step, bit for bit, as with channels last."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn
from fastcnn import SGD, Trainer, models
from fastcnn.engine import microbatch, planner
from fastcnn.engine.layout import BlockedLayout, Layout
from fastcnn.jit.target import vector_set
from tests.plans import plan_of


def strided():
    """Return 1 x 1 convolutions that skip pixels, with filters that fill no panel, and with biases."""
    layers = [fastcnn.Conv2D(16, 3, padding=1), fastcnn.BatchNorm(), fastcnn.ReLU()]
    for filters, stride, bias in ((32, 2, False), (17, 1, False), (16, 1, True), (48, 1, False)):
        layers += [fastcnn.Conv2D(filters, 1, stride=stride, bias=bias), fastcnn.BatchNorm(), fastcnn.ReLU()]
    return fastcnn.Sequential([*layers, fastcnn.Conv2D(16, 1), fastcnn.Flatten(), fastcnn.Dense(4)])


NETWORKS = {"depthwise": lambda: models.mobilenet_small((3, 8, 8), 4), "strided": strided}
each_network = pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)


def trained(make, dtype, threads):
    """Return what three steps come to; the batches are of seven images, then of four."""
    generator = np.random.RandomState(3)
    x, y = generator.standard_normal((7, 3, 8, 8)).astype(dtype), generator.randint(4, size=7)
    model = make().build((3, 8, 8), random_state=0, dtype=dtype)
    trainer = Trainer(model, optimizer=SGD(0.1), threads=threads, random_state=0)
    return [trainer.step(x[:n], y[:n]) for n in (7, 7, 4)], model._flat.copy()


@each_network
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("cached", "shard_work"), [(1 << 18, 20e6), (1 << 14, 20e6), (1, 1.0)])
def test_the_blocked_layout_changes_no_bit(monkeypatch, make, dtype, cached, shard_work):
    monkeypatch.setattr(microbatch, "CACHED", cached)
    monkeypatch.setattr("fastcnn.training.step.SHARD_WORK", shard_work)
    losses, flat = trained(make, dtype, threads=2)
    monkeypatch.setattr(planner, "blocked_values", lambda *arguments: {})
    monkeypatch.setattr(planner, "blocked_gradients", lambda *arguments: {})
    expected_losses, expected_flat = trained(make, dtype, threads=1)
    assert losses == expected_losses
    np.testing.assert_array_equal(flat, expected_flat)


def test_where_the_blocked_layout_is():
    """Around each 1 x 1 convolution between normalisations; not where there is a bias, or half a panel."""
    depthwise, mixed = (plan_of(make().build((3, 8, 8)), 2) for make in NETWORKS.values())
    assert len(depthwise.blocked_values) == len(depthwise.blocked_gradients) == 5
    pitches = [[layouts[value].pitch for value in found] for layouts, found in (
        (mixed.values, mixed.blocked_values), (mixed.gradients, mixed.blocked_gradients),
    )]  # fmt: skip
    if vector_set().lanes(np.float32) == 8:
        assert pitches == [[16, 32, 16, 48], [32, 48]]  # the fourth lies in the last stage, which goes straight back


def test_blocks_hold_every_number_once():
    layout, blocked = Layout(48, 3, 5, 48), BlockedLayout(16, 2 * 15 * 16 + 96)
    offsets = blocked.table(layout, 2, np.arange(3)[:, None], np.arange(5))[:, None] + blocked.channel_offsets(48)
    assert np.unique(offsets).size == offsets.size == 2 * layout.image_size
    assert offsets.max() < 2 * blocked.image_size(layout, 2)
