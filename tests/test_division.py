"""Shards that several threads share out: the bits are those of one thread, and a step still is one native call."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import fastcnn
from fastcnn import (
    GELU,
    SGD,
    BatchNorm,
    Conv2D,
    Conv2DTranspose,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAvgPool2D,
    GroupNorm,
    LayerNorm,
    MaxPool2D,
    PReLU,
    ReLU,
    Residual,
    SeparableConv2D,
    Sequential,
    SpatialDropout2D,
    Tanh,
    Trainer,
)
from fastcnn.engine.ir import Piece
from fastcnn.runtime import threads as parallel
from fastcnn.training import division, stage_sums
from fastcnn.training.division import parts_of_shards

N, SHAPE = 21, (3, 8, 8)
X = np.random.default_rng(0).standard_normal((N, *SHAPE)).astype(np.float32)
Y = np.arange(N) % 5


def norm() -> list:
    return [Conv2D(16, 3, padding=1, bias=False), BatchNorm(), ReLU()]


NETWORKS = {
    "Winograd": lambda: [*(Conv2D(48, 3, padding=1, algorithm=name) for name in ("winograd", "winograd4")), Flatten()],
    "windows of 5": lambda: [
        Conv2D(48, 5, padding=2, algorithm="winograd"),
        Conv2D(16, 5, algorithm="winograd"),
        Flatten(),
    ],
    "direct": lambda: [Conv2D(20, 5, padding=2), GELU(), Conv2D(16, 3, 2), Tanh(), Flatten(), Dense(64), ReLU()],
    "by taps": lambda: [Conv2D(3, 1), Conv2D(8, 5), ReLU(), Conv2D(8, 3), Flatten()],  # few channels, then more
    "pooling": lambda: [Conv2D(6, 3), ReLU(), MaxPool2D(2), Conv2D(16, 3, padding=1), ReLU(), MaxPool2D(2), Flatten()],
    "windows": lambda: [Conv2D(16, 3), MaxPool2D(3, 1, 1), MaxPool2D(2, 1), fastcnn.GlobalMaxPool2D()],
    "batch norm": lambda: [*norm(), Residual([*norm(), *norm()]), ReLU(), GlobalAvgPool2D()],
    "dropout": lambda: [SpatialDropout2D(0.3, random_state=1), *norm(), Dropout(0.5, random_state=2), Flatten()],
    "separable": lambda: [
        *(Conv2D(16, 1, bias=False), BatchNorm(), ReLU(), DepthwiseConv2D(3, 1, 1, bias=False), BatchNorm(), ReLU()),
        *(Conv2D(64, 1, bias=False), BatchNorm(), SeparableConv2D(9, 3), Flatten()),
    ],
    "groups": lambda: [Conv2D(12, 3, groups=3), GroupNorm(3), PReLU(), Conv2D(12, 3, groups=2), LayerNorm(), Flatten()],
    "transposed": lambda: [
        Conv2D(8, 3, 2),
        Conv2DTranspose(7, 3, 2),
        fastcnn.Concat([[Conv2D(4, 1)], [Tanh()]]),
        Flatten(),
    ],
    "frozen": lambda: [Conv2D(8, 3), ReLU(), Conv2D(8, 3, trainable=False), ReLU(), Conv2D(8, 3), Flatten()],
    "wide": lambda: [Conv2D(24, 3, padding=1), ReLU(), Flatten(), Dense(130), ReLU(), Dense(70), GELU()],
}


@pytest.fixture
def small(monkeypatch):
    """Let small batches be cut into eight shards, and these into parts, as if each thread had a processor."""
    monkeypatch.setattr(parallel, "at_once", lambda threads: threads)
    monkeypatch.setattr(fastcnn.training.step, "SHARD_WORK", 1.0)
    monkeypatch.setattr(fastcnn.training.step, "ROW_WORK", 0)
    monkeypatch.setattr(division, "PART_WORK", 1.0)


def steps(layers: list, threads: int, count: int = 5, dtype: type = np.float32) -> tuple:
    """Return the trainer, and what all steps come to."""
    model = Sequential([*layers, Dense(5)]).build(SHAPE, random_state=0, dtype=dtype)
    trainer = Trainer(model, optimizer=SGD(0.05, 0.9), threads=threads)
    losses = [trainer.step(X[:n].astype(dtype), Y[:n]) for n in [N] * count + [13, N]]
    gradients = {name: gradient.tobytes() for name, gradient in model.gradients.items()}
    return trainer, (losses, model.digest(), gradients, model.predict(X, threads=threads).tobytes())


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", NETWORKS)
def test_the_bits_are_those_of_one_thread(name):
    _, expected = steps(NETWORKS[name](), 1)
    for threads in (12, 64):
        trainer, results = steps(NETWORKS[name](), threads)
        step = next(one for one in trainer._program.steps.values() if one.n == N)
        assert len(step.slices) == 8
        assert step._division(threads).divider.count > 1
        assert isinstance(step.whole[threads], parallel.Jobs)
        assert results == expected


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", ["Winograd", "batch norm", "separable"])
def test_double_precision_too(name):
    expected, results = (steps(NETWORKS[name](), threads, dtype=np.float64)[1] for threads in (1, 16))
    assert results == expected


@pytest.mark.usefixtures("small")
def test_gradients_that_are_summed_stage_by_stage(monkeypatch):
    monkeypatch.setattr(stage_sums, "LEAST", 0)
    _, expected = steps(NETWORKS["batch norm"](), 1)
    trainer, results = steps(NETWORKS["batch norm"](), 16)
    assert trainer._program.stage_sums is not None
    assert results == expected


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", ["batch norm", "separable"])
def test_micro_batches(name, monkeypatch):
    monkeypatch.setattr(fastcnn.engine.microbatch, "CACHED", 1)  # of one image each
    expected, results = (steps(NETWORKS[name](), threads)[1] for threads in (1, 16))
    assert results == expected


@pytest.mark.usefixtures("small")
def test_the_number_of_threads_changes_from_step_to_step():
    digests = []
    for turns in ([1] * 6, [1, 16, 2, 64, 16, 12]):
        trainer = Trainer(Sequential([*norm(), *norm(), Flatten(), Dense(5)]).build(SHAPE, random_state=0))
        for threads in turns * 2:
            trainer.threads = threads
            trainer.step(X, Y)
            trainer.evaluate(X, Y)
        digests.append(trainer.model.digest())
    assert digests[0] == digests[1]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("place", [3, 30])
def test_an_error_in_one_part_ends_the_step_and_leaves_no_trace(place, monkeypatch):
    """While calls are recorded; afterwards there is no Python that could have one."""
    _, expected = steps([*norm(), *norm(), Flatten()], 1)
    calls, forward = [], fastcnn.ops.convolution.op.ConvolutionOp.forward

    def fail(self, *arguments):
        calls.append(1)
        if len(calls) == place:
            raise KeyboardInterrupt
        forward(self, *arguments)

    monkeypatch.setattr(fastcnn.ops.convolution.op.ConvolutionOp, "forward", fail)
    model = Sequential([*norm(), *norm(), Flatten(), Dense(5)]).build(SHAPE, random_state=0)
    trainer = Trainer(model, optimizer=SGD(0.05, 0.9), threads=16)
    with pytest.raises(KeyboardInterrupt):
        trainer.step(X, Y)
    assert trainer.steps == 0
    losses = [trainer.step(X[:n], Y[:n]) for n in [N] * 5 + [13, N]]
    assert (losses, model.digest()) == expected[:2]


def test_small_work_stays_on_few_threads(monkeypatch):
    monkeypatch.setattr(parallel, "at_once", lambda threads: threads)
    trainer, _ = steps(NETWORKS["direct"](), 64)
    assert all(step._division(64) is None for step in trainer._program.steps.values())


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("processors", "parts"), [(1, 0), (8, 0), (16, 2)])
def test_threads_that_share_processors_are_no_reason_for_parts(processors, parts, monkeypatch):
    monkeypatch.setattr(parallel, "at_once", lambda threads: min(threads, processors))
    trainer, _ = steps(NETWORKS["wide"](), 64, 1)
    (division,) = (step._division(64) for step in trainer._program.steps.values() if step.n == N)
    assert (division.divider.count if division else 0) == parts


def test_no_more_threads_run_at_once_than_there_are_processors():
    available = parallel.available_cpus()
    assert [parallel.at_once(threads) for threads in (1, available, available + 1)] == [1, available, available]


@pytest.mark.parametrize(
    ("shards", "images", "work", "threads", "parts"),
    [
        (8, 16, 1e9, 16, 2),
        (8, 16, 1e9, 64, 8),
        (8, 16, 1e9, 500, 16),  # one image each
        (8, 16, 1e9, 12, 3),  # 24 parts of 6 images: two turns for each of 12 threads
        (8, 16, 1e9, 9, 1),  # 128 parts of an image would take 15 turns, nearly as long as 16 images of a shard
        (8, 16, 2e6, 64, 1),  # too little work
        (1, 100, 1e9, 4, 4),  # the only shard of a rank
    ],
)
def test_parts_end_soonest(shards, images, work, threads, parts):
    assert parts_of_shards(shards, images, work, threads) == parts


@pytest.mark.usefixtures("small")
def test_memory_is_given_back_at_once():
    trainer, _ = steps(NETWORKS["batch norm"](), 16)
    held = [
        weakref.ref(shard) for step in trainer._program.steps.values() for shard in step._division(16).divider.shards
    ]
    gc.disable()
    try:
        trainer._release()
        trainer._programs.clear()
        assert held
        assert all(reference() is None for reference in held)
    finally:
        gc.enable()


def test_no_gradient_is_computed_for_frozen_weights_of_a_wide_layer(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("a gradient that is not needed")

    monkeypatch.setattr(fastcnn.ops.dense_wide.kernels, "weight_gradient", refuse)
    layers = [Conv2D(20, 3, padding=1), Flatten(), Dense(64, trainable=False), ReLU()]
    trainer, _ = steps(layers, 1)
    assert trainer.steps == 7


@pytest.mark.parametrize(("size", "unit", "count"), [(100, 8, 3), (64, 16, 4), (5, 8, 3), (7, 1, 7), (33, 4, 1)])
def test_pieces_are_whole_units_of_which_no_piece_has_two_more_than_another(size, unit, count):
    cuts = [Piece(number, count).cut(size, unit) for number in range(count)]
    assert [number for cut in cuts for number in range(size)[cut]] == list(range(size))
    units = [-(-len(range(size)[cut]) // unit) for cut in cuts]
    assert all(cut.start % unit == 0 for cut in cuts if cut.start < size)
    assert max(units) - min(units) <= 1
