"""The images of a shard a few at a time: the same sums as all at once, in memory of their own."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn
from fastcnn import SGD, Trainer, models
from fastcnn.engine import microbatch
from tests.plans import plan_of

NETWORKS = {
    "residuals": lambda: models.resnet20((3, 8, 8), 4),
    "depthwise": lambda: models.mobilenet_small((3, 8, 8), 4),
    "branches": lambda: fastcnn.Sequential([
        fastcnn.Conv2D(5, 3, padding=1), fastcnn.ReLU(), fastcnn.BatchNorm(),
        fastcnn.Concat([[fastcnn.Conv2D(3, 1), fastcnn.BatchNorm(), fastcnn.ReLU()], [fastcnn.BatchNorm()], []]),
        fastcnn.Conv2D(8, 3, padding=1), fastcnn.BatchNorm(), fastcnn.GELU(),
        fastcnn.Residual([fastcnn.DepthwiseConv2D(3, padding=1, depth_multiplier=2), fastcnn.BatchNorm()], "pad"),
        fastcnn.Dropout(0.3), fastcnn.BatchNorm(), fastcnn.Conv2D(4, 8),
    ]),
}  # fmt: skip
each_network = pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)


def planned(make, images):
    return plan_of(make().build((3, 8, 8), dtype=np.float64), images)


def trained(make):
    """Return what three steps and an evaluation come to; the batches are of five images, then of four."""
    generator = np.random.RandomState(3)
    x, y = generator.standard_normal((5, 3, 8, 8)), generator.randint(4, size=5)
    model = make().build((3, 8, 8), random_state=0, dtype=np.float64)
    trainer = Trainer(model, optimizer=SGD(0.01), threads=1, random_state=0)
    losses = [trainer.step(x[:n], y[:n]) for n in (5, 5, 4)]
    return [*losses, trainer.evaluate(x, y)[0]], model._flat.copy()


@each_network
def test_micro_batches_sum_up_to_the_shard(monkeypatch, make):
    monkeypatch.setattr(microbatch, "CACHED", 1 << 30)
    assert set(planned(make, 5).microbatches) == {5}
    losses, flat = trained(make)
    for cached in (1, 1 << 14):
        monkeypatch.setattr(microbatch, "CACHED", cached)
        assert min(planned(make, 5).microbatches) < 5
        other_losses, other_flat = trained(make)
        np.testing.assert_allclose(other_losses, losses, rtol=1e-9)
        np.testing.assert_allclose(other_flat, flat, rtol=1e-9, atol=1e-9)


def test_what_is_in_use_in_one_stage_has_memory_for_a_micro_batch(monkeypatch):
    sizes = []
    for cached in (1, 1 << 30):
        monkeypatch.setattr(microbatch, "CACHED", cached)
        values, gradients = planned(NETWORKS["depthwise"], 5).allocations
        passing = [one for one in (*values, *gradients) if one and not one.persistent]
        sizes.append(sum({one.name: one.size * one.images for one in passing}.values()))
    assert sizes[0] < sizes[1]


def test_networks_without_a_sync_point_take_all_images_at_once():
    assert planned(lambda: models.vgg6((3, 8, 8), 4), 5).microbatches == [5]
