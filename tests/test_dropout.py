"""Dropout: the reference with the same mask, masks that look random, and that no two layers share."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import fastcnn
import reference
from fastcnn.engine.executable_cache import ExecutableCache
from fastcnn.kernels import dropout
from tests.arrays import both_dtypes, normal
from tests.bounds import gamma
from tests.processes import run_python

MASK_32, MASK_64 = (1 << 32) - 1, (1 << 64) - 1


def splitmix64(z: int) -> int:
    """Return the output of SplitMix64 in the state z, with Python's whole numbers."""
    z = (z + 0x9E3779B97F4A7C15) & MASK_64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK_64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK_64
    return z ^ (z >> 31)


def lowbias32(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.uint64)
    x ^= x >> np.uint64(16)
    x = (x * np.uint64(0x7FEB352D)) & np.uint64(MASK_32)
    x ^= x >> np.uint64(15)
    x = (x * np.uint64(0x846CA68B)) & np.uint64(MASK_32)
    return x ^ (x >> np.uint64(16))


def mask_of(layer, shape, step: int, first: int = 0) -> np.ndarray:
    """Return which of (N, C, H, W) pass: the generator once more, in NumPy."""
    N, C, H, W = shape
    spatial = isinstance(layer, fastcnn.SpatialDropout2D)
    pixels = np.zeros((H, W), int) if spatial else np.arange(H * W).reshape(H, W)
    units = pixels[None] * C + np.arange(C)[:, None, None]
    masks = []
    for sample in range(first, first + N):
        key = splitmix64(splitmix64(splitmix64(layer._seed) ^ step) ^ sample)
        low, high = np.uint64(key & MASK_32), np.uint64(key >> 32)
        bits = lowbias32(lowbias32(units.astype(np.uint64) ^ low) ^ high)
        masks.append(bits >= round(layer.rate * 2**32))
    return np.array(masks, np.float64)


@both_dtypes
@pytest.mark.parametrize("shape", [(3, 5, 4, 3), (2, 17, 3, 2), (4, 9, 1, 1)], ids=str)
@pytest.mark.parametrize("name", ["Dropout", "SpatialDropout2D"])
def test_dropout_is_the_references_with_the_same_mask(name, shape, dtype):
    fast, ref = (getattr(module, name)(0.4, random_state=3) for module in (fastcnn, reference))
    x, dL_dout = normal(*shape, dtype=dtype), normal(*shape, seed=1, dtype=dtype)
    masks = []
    for step in range(3):
        actual = fast.forward(x)
        ref.mask = fast.last_mask
        np.testing.assert_allclose(actual, ref.forward(x), rtol=gamma(3, dtype))
        np.testing.assert_allclose(fast.backward(dL_dout), ref.backward(dL_dout), rtol=gamma(3, dtype))
        whole = mask_of(fast, shape, step)
        np.testing.assert_array_equal(ref.mask, whole[:, :, 0, 0] if name == "SpatialDropout2D" else whole)
        masks.append(ref.mask)
    assert (masks[0] != masks[1]).any()
    assert (masks[1] != masks[2]).any()
    again = getattr(fastcnn, name)(0.4, random_state=3)
    again.forward(x)
    np.testing.assert_array_equal(again.last_mask, masks[0])
    other = getattr(fastcnn, name)(0.4, random_state=4)
    other.forward(x)
    assert (other.last_mask != masks[0]).any()


@pytest.mark.parametrize("name", ["Dropout", "SpatialDropout2D"])
def test_dropout_predicts_the_identity(name):
    layer, x = getattr(fastcnn, name)(0.7), normal(2, 3, 4, 5)
    layer.eval()
    np.testing.assert_array_equal(layer.forward(x), x)
    np.testing.assert_array_equal(layer.backward(x), x)
    assert layer.last_mask is None
    layer.train()
    assert (layer.forward(x) == 0).any()
    never = getattr(fastcnn, name)(0.0)
    np.testing.assert_array_equal(never.forward(x), x)
    assert never.last_mask.all()


def test_dropout_of_features():
    layer, x = fastcnn.Dropout(0.5, random_state=0), normal(7, 33)
    output = layer.forward(x)
    assert layer.last_mask.shape == x.shape
    np.testing.assert_array_equal(output, 2 * x * layer.last_mask)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_masks_look_random(rate):
    """Means and correlations lie within five standard deviations: over units, samples, steps and bits of the seed."""
    shape = (16, 8, 16, 16)
    x, layer = np.ones(shape, np.float32), fastcnn.Dropout(rate, random_state=0)
    masks = []
    for _ in range(2):
        layer.forward(x)
        masks.append(layer.last_mask)
    layer._seed ^= 1
    layer._executables = ExecutableCache()  # which has the seed in its records, and counts the calls
    layer.forward(x)
    masks.append(layer.last_mask)
    deviation = math.sqrt(rate * (1 - rate))
    z = [(mask - (1 - rate)) / deviation for mask in masks]
    size = z[0].size
    assert abs(z[0].mean()) * math.sqrt(size) < 5
    pairs = {
        "channels": (z[0][:, 1:], z[0][:, :-1]),
        "rows": (z[0][:, :, 1:], z[0][:, :, :-1]),
        "columns": (z[0][..., 1:], z[0][..., :-1]),
        "samples": (z[0][1:], z[0][:-1]),
        "steps": (z[0], z[1]),
        "seeds": (z[0], z[2]),
    }
    for name, (a, b) in pairs.items():
        assert abs((a * b).mean()) * math.sqrt(a.size) < 5, name
    spread = (z[0].mean(axis=(1, 2, 3)) * math.sqrt(size / len(x))).std()
    assert 0.5 < spread < 1.6


def test_each_bit_of_a_units_number_changes_every_bit_of_the_hash_half_the_time():
    units = np.random.RandomState(0).randint(0, 2**31, 4096).astype(np.uint64)
    for bit in range(32):
        changed = lowbias32(units) ^ lowbias32(units ^ np.uint64(1 << bit))
        shares = [((changed >> np.uint64(k)) & np.uint64(1)).mean() for k in range(32)]
        assert 0.4 < min(shares) < max(shares) < 0.6


def network(threads: int):
    """Train a network with both dropouts for some steps; return its weights and losses."""
    layers = [
        fastcnn.Conv2D(16, 3, padding=1), fastcnn.ReLU(), fastcnn.SpatialDropout2D(0.2), fastcnn.MaxPool2D(),
        fastcnn.Conv2D(16, 3), fastcnn.SiLU(), fastcnn.AvgPool2D(3, 2, 1), fastcnn.Dropout(0.3),
        fastcnn.Flatten(), fastcnn.Dense(32), fastcnn.GELU(), fastcnn.Dropout(0.5), fastcnn.Dense(4),
    ]  # fmt: skip
    model = fastcnn.Sequential(layers).build((3, 32, 32), random_state=0)
    trainer = fastcnn.Trainer(model, threads=threads)
    rng = np.random.RandomState(1)
    losses = [trainer.step(rng.standard_normal((48, 3, 32, 32)).astype("f"), rng.randint(4, size=48)) for _ in range(4)]
    assert len(trainer._program.slices(48)) > 1
    return losses, [array.tobytes().hex() for array in model.get_weights()]


def test_the_same_bits_for_any_number_of_threads_and_in_another_process():
    one = network(1)
    for threads in (2, 3, 4):
        assert network(threads) == one
    code = "import json; from tests.test_dropout import network; print(json.dumps(network(2)))"
    losses, weights = json.loads(run_python(code))
    assert (losses, weights) == one


def test_the_trainer_counts_steps_and_images():
    """A step with dropout is the reference's with the masks of that step, whatever the shards are."""
    shape, N = (8, 64, 64), 16
    layer = fastcnn.Dropout(0.5)
    model = fastcnn.Sequential([layer, fastcnn.Conv2D(16, 3), fastcnn.GlobalAvgPool2D()])
    model.build(shape, random_state=0, dtype=np.float64)
    trainer = fastcnn.Trainer(model, optimizer=fastcnn.SGD(0.0), threads=2)
    x, y = normal(N, *shape), np.random.RandomState(0).randint(16, size=N)
    for step in range(3):
        loss = trainer.step(x, y)
        assert len(trainer._program.slices(N)) > 1
        model.eval()
        masked = 2 * x * mask_of(layer, x.shape, step)
        np.testing.assert_allclose(loss, cross_entropy(model.forward(masked), y), rtol=1e-12)
        model.train()
    (recorded,) = trainer._program.steps.values()
    assert all(tape.native() for tape in recorded.whole_shards.tapes.values())


@pytest.mark.parametrize("random_state", [None, 3])
def test_dropouts_of_a_model_draw_different_masks(random_state):
    """Also inside other layers, and also those that were given the same int; each build draws the same again."""

    def build():
        inside = [fastcnn.Dropout(0.5, random_state) for _ in range(3)]
        outside = fastcnn.SpatialDropout2D(0.5, random_state)
        model = fastcnn.Sequential([inside[0], fastcnn.Residual([inside[1]]), outside, inside[2]])
        model.build((4, 8, 8), random_state=0)
        return [layer._seed for layer in (inside[0], inside[1], outside, inside[2])]

    seeds = build()
    assert len(set(seeds)) == 4
    assert build() == seeds
    if random_state is not None:
        alone = fastcnn.Dropout(0.5, random_state).build((4, 8, 8))
        assert seeds[0] == alone._seed


def cross_entropy(logits: np.ndarray, y: np.ndarray) -> float:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(y)), y]))


def test_keys_differ_between_neighbours():
    keys = np.zeros(64, np.uint64)
    seen = set()
    for seed in range(8):
        for step in range(8):
            dropout.sample_keys(seed, np.array([step]), 3, 64, keys)
            assert int(keys[5]) == splitmix64(splitmix64(splitmix64(seed) ^ step) ^ 8)
            seen |= set(keys.tolist())
    assert len(seen) == 64 * 64
