"""One trainer, model or optimizer in several threads, in a forked child, in a copy and in a pickle."""

from __future__ import annotations

import copy
import os
import pickle
import threading

import numpy as np
import pytest

import fastcnn
from fastcnn import (
    SGD,
    Adam,
    BatchNorm,
    Conv2D,
    CosineDecay,
    Dense,
    Dropout,
    ExponentialMovingAverage,
    Flatten,
    MaxPool2D,
    ReLU,
    Sequential,
    Trainer,
)
from tests.fits import samples
from tests.optimizers import OPTIMIZERS
from tests.test_torn_steps import state


def model() -> Sequential:
    layers = [Conv2D(8, 3, padding=1), BatchNorm(), ReLU(), MaxPool2D(2), Dropout(0.2, 0), Flatten(), Dense(4)]
    return Sequential(layers).build((1, 8, 8), random_state=0)


def at_once(*functions) -> list[BaseException]:
    """Call each function in a thread of its own; return what they raise."""
    errors = []

    def guarded(function):
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return errors


def test_steps_from_several_threads_are_taken_one_at_a_time(monkeypatch):
    """Batches of all lengths, so that plans are made anew; with equal batches the weights are those of one thread."""
    monkeypatch.setattr(fastcnn.training.step, "SHARD_WORK", 1e4)
    X, y = samples(40)
    one, other = (Trainer(model(), optimizer=Adam(0.01), threads=2) for _ in range(2))
    assert not at_once(*[lambda: [one.step(X, y) for _ in range(20)]] * 4)
    for _ in range(80):
        other.step(X, y)
    assert one.steps == one.optimizer.steps == 80
    assert one.model._flat.tobytes() == other.model._flat.tobytes()
    assert not at_once(*[lambda k=k: [one.step(X[: k + n], y[: k + n]) for n in range(2, 20)] for k in range(4)])
    assert one.steps == 152


def test_fit_evaluate_forward_and_a_second_trainer_at_once():
    X, y = samples(40)
    one = Trainer(model(), optimizer=SGD(0.01), threads=2, random_state=0)
    second, floats = Trainer(one.model, optimizer=SGD(0.01), threads=2), X / np.float32(255)
    expected = one.evaluate(X, y)
    assert not at_once(
        lambda: one.fit(X, y, epochs=3, batch_size=8, verbose=0),
        lambda: one.fit(X, y, epochs=3, batch_size=7, verbose=0),
        lambda: [one.evaluate(X, y, batch_size=9) for _ in range(8)],
        lambda: [second.step(X, y) for _ in range(20)],
        lambda: [one.model.backward(one.model.forward(floats)) for _ in range(20)],
        lambda: [one.model.predict(X) for _ in range(20)],
    )
    assert one.steps == 3 * 5 + 3 * 6
    assert np.isfinite(one.model._flat).all()
    assert one.evaluate(X, y) != expected


def test_a_layer_in_several_threads():
    layer, x = Conv2D(8, 3, random_state=0), np.random.default_rng(0).random((16, 3, 12, 12), np.float32)
    expected = [layer.forward(x[:n]) for n in range(1, 17)]
    layer.backward(layer.forward(x))

    def work():
        for n in range(16, 0, -1):
            np.testing.assert_array_equal(layer.forward(x[:n]), expected[n - 1])

    assert not at_once(*[work] * 4)


def test_an_optimizer_at_work_on_another_model_is_refused():
    """From another thread, in the middle of a step; before and after it, it begins anew with the other model."""
    X, y = samples(8)
    shared = SGD(0.1, momentum=0.9)
    one, other, errors = Trainer(model(), optimizer=shared), Trainer(model(), optimizer=SGD(0.1)), []
    one.step(X, y)
    other.optimizer = shared
    with one.model._lock:
        errors = at_once(lambda: other.step(X, y))
    assert len(errors) == 1
    assert isinstance(errors[0], RuntimeError)
    assert "SGD: it is at work on another model" in str(errors[0])
    assert other.steps == 0
    other.step(X, y)
    assert shared.steps == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_finds_the_locks_open():
    X, y = samples(8)
    one = Trainer(model(), optimizer=SGD(0.1), threads=1)
    one.step(X, y)
    held, done = threading.Event(), threading.Event()

    def hold():
        with one.model._lock, one.optimizer._lock:
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if not child:
        threading.Timer(30, os._exit, (3,)).start()
        one.step(X, y)
        os._exit(0)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


COPIES = {"pickle": lambda one: pickle.loads(pickle.dumps(one)), "deepcopy": copy.deepcopy}


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES.keys())
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_a_copy_of_a_trainer_goes_on_to_the_same_bits(make, duplicate):
    """In the middle of everything: optimizer, average, schedule, dropout, the order of the next epochs, history."""
    X, y = samples(40)
    one = Trainer(
        model(), optimizer=make(fastcnn), threads=2, schedule=CosineDecay(0.1, 30), ema=ExponentialMovingAverage(0.9)
    )
    one.fit(X, y, epochs=1, batch_size=9, verbose=0)
    two = duplicate(one)
    assert state(two) == state(one)
    assert str(two.history) == str(one.history)
    assert two.accuracy == one.accuracy
    for each in (one, two):
        each.fit(X, y, epochs=2, batch_size=7, verbose=0)
    assert state(two) == state(one)
    assert two.epochs == 3
    assert two.optimizer._model is two.model is not one.model


def test_what_is_pickled_with_its_trainer_is_the_trainers():
    one = Trainer(model(), optimizer=Adam(0.01))
    X, y = samples(8)
    one.step(X, y)
    optimizer, two = pickle.loads(pickle.dumps((one.optimizer, one)))
    assert two.optimizer is optimizer
    assert optimizer.steps == 1
    assert pickle.loads(pickle.dumps(one.optimizer)).steps == 0  # alone it has no model to remember anything of


def test_a_trainer_is_pickled_before_its_first_step_too():
    unbuilt = Trainer(Sequential([Flatten(), Dense(4)]), random_state=3)
    X, y = samples(8)
    assert pickle.loads(pickle.dumps(unbuilt)).step(X, y) == unbuilt.step(X, y)


def test_while_averages_are_swapped_in_a_trainer_is_not_copied():
    one = Trainer(model(), ema=ExponentialMovingAverage(0.9))
    one.step(*samples(8))
    with one.ema.swapped_in(), pytest.raises(RuntimeError, match="computes with the averages"):
        copy.deepcopy(one)
