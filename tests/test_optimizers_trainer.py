"""Optimizers in a Trainer: a loop of one's own, any number of threads, averages, continuation, copies."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import fastcnn
from fastcnn import ExponentialMovingAverage, Trainer
from tests.optimizers import OPTIMIZERS, assert_close, build, every_optimizer, own_loop, x, y


@pytest.fixture
def many_shards(monkeypatch):
    """Cut batches and the flat vector into as many pieces as there may be."""
    monkeypatch.setattr("fastcnn.training.step.SHARD_WORK", 1.0)
    monkeypatch.setattr("fastcnn.training.update.SWEEP", 1 << 10)


@pytest.mark.usefixtures("many_shards")
@pytest.mark.parametrize("clip_norm", [None, 0.1])
@every_optimizer
def test_a_trainer_steps_as_a_loop_of_ones_own(make, clip_norm):
    model, twin = build(), build()
    fast, own = make(fastcnn), make(fastcnn)
    fast.clip_norm = own.clip_norm = clip_norm
    trainer, ema, own_ema = Trainer(model, optimizer=fast), ExponentialMovingAverage(0.7), ExponentialMovingAverage(0.7)
    trainer.ema = ema
    own_loop(twin, own, 6, lambda: own_ema.update(twin))
    norms = []
    for step in range(6):
        trainer.step(np.roll(x, step, axis=3), np.roll(y, step))
        norms.append(fast.gradient_norm)
    assert_close(model.parameters, twin.parameters, 1e-8)
    assert_close(ema.averages, own_ema.averages, 1e-8)
    assert_close(model.gradients, twin.gradients, 1e-8)
    assert any(norm > 0.1 for norm in norms) == (clip_norm is not None)  # it was clipped, at least once


@pytest.mark.usefixtures("many_shards")
@pytest.mark.parametrize(("clip_norm", "dtype"), [(None, np.float32), (0.1, np.float64)])
@every_optimizer
def test_the_same_bits_for_any_number_of_threads(make, clip_norm, dtype):
    """One, two and three; that four are no different is for the steps of test_training."""
    results = []
    for threads in (1, 2, 3):
        model, optimizer, ema = build(dtype), make(fastcnn), ExponentialMovingAverage(0.9)
        optimizer.clip_norm = clip_norm
        trainer = Trainer(model, optimizer=optimizer, threads=threads, ema=ema)
        losses = [trainer.step(x[:n], y[:n]) for n in (12, 12, 5, 12)]
        results.append((losses, model._flat.tobytes(), ema._vectors[0].tobytes(), str(optimizer.gradient_norm)))
    assert all(result == results[0] for result in results)


class Descent(fastcnn.Optimizer):
    """SGD as a user would write it, without a kernel."""

    def __init__(self, learning_rate: float) -> None:
        super().__init__(learning_rate, None)

    def _coefficients(self):
        return ()

    def _update(self, gradients, shards, first, last):
        for shard in gradients.reshape(-1, self._theta.size)[:shards]:
            self._theta[first:last] -= self.learning_rate * shard[first:last]


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "in pieces"])
@pytest.mark.parametrize("ema", [None, ExponentialMovingAverage(0.7)], ids=["plain", "averaged"])
def test_an_optimizer_in_python(cut, ema, request):
    """What is no kernel is called at each step, not only at the first."""
    if cut:
        request.getfixturevalue("many_shards")
    trainer = Trainer(build(), optimizer=Descent(0.1), ema=copy.copy(ema), threads=2)
    twin = Trainer(build(), optimizer=fastcnn.SGD(0.1), ema=copy.copy(ema), threads=2)
    for _ in range(4):
        assert trainer.step(x, y) == pytest.approx(twin.step(x, y), rel=1e-10)
    assert_close(trainer.model.parameters, twin.model.parameters)
    if ema is not None:
        assert_close(trainer.ema.averages, twin.ema.averages)


@every_optimizer
def test_a_training_is_taken_up_again_exactly(make):
    """Parameters, the optimizer's state and the average, through files: the same bits as without a break."""
    whole = Trainer(build(np.float32), optimizer=make(fastcnn), ema=ExponentialMovingAverage(0.9))
    for _ in range(4):
        whole.step(x, y)
    weights, state, average = whole.model.get_weights(), whole.optimizer.get_state(), whole.ema.get_state()
    assert state["steps"] == 4
    assert all(isinstance(array, np.ndarray) for array in state.values())
    for _ in range(3):
        whole.step(x, y)
    again = Trainer(build(np.float32, seed=7), optimizer=make(fastcnn), ema=ExponentialMovingAverage(0.9))
    again.model.set_weights(weights)
    again.optimizer.set_state(state)
    again.ema.set_state(average)
    for _ in range(3):
        again.step(x, y)
    assert again.model._flat.tobytes() == whole.model._flat.tobytes()
    assert again.ema._vectors[0].tobytes() == whole.ema._vectors[0].tobytes()
    assert again.optimizer.steps == 7


def test_a_model_that_is_built_anew_begins_anew():
    model = build()
    trainer, fresh = Trainer(model, optimizer=fastcnn.Adam(0.01)), Trainer(build(), optimizer=fastcnn.Adam(0.01))
    expected = [fresh.step(x, y) for _ in range(3)]
    for _ in range(2):
        trainer.step(x, y)
    model.build((2, 8, 8), random_state=0, dtype=np.float64)
    assert [trainer.step(x, y) for _ in range(3)] == expected
    assert trainer.optimizer.steps == 3


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
@pytest.mark.parametrize("make", [*OPTIMIZERS.values(), lambda m: m.ExponentialMovingAverage(0.5)])
def test_a_copy_has_the_settings_only(make, duplicate):
    used = make(fastcnn)
    is_average = isinstance(used, ExponentialMovingAverage)
    Trainer(build(), **{"ema" if is_average else "optimizer": used}).step(x, y)
    other = duplicate(used)
    assert (other.steps, used.steps, other.state) == (0, 1, {})
    settings = [name for name in vars(used) if not name.startswith("_") and name not in {"steps", "gradient_norm"}]
    assert settings
    for name in settings:
        assert getattr(other, name) == getattr(used, name)
    Trainer(build(), **{"ema" if is_average else "optimizer": other}).step(x, y)
    assert other.get_state().keys() == used.get_state().keys()


def test_state_is_aligned_and_allocated_once():
    trainer = Trainer(build(np.float32), optimizer=fastcnn.Adam(), ema=ExponentialMovingAverage())
    places = []
    for n in (12, 5, 12):
        trainer.step(x[:n], y[:n])
        vectors = [*trainer.optimizer._vectors, *trainer.ema._vectors]
        places.append([vector.ctypes.data for vector in vectors])
        assert all(place % 64 == 0 for place in places[-1])
        assert all(vector.dtype == np.float32 for vector in vectors)
    assert places[0] == places[1] == places[2]
