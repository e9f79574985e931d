"""Groups of parameters: learning rates and weight decays of their own, for every optimizer."""

from __future__ import annotations

import io

import numpy as np
import pytest

import fastcnn
from fastcnn import StepDecay, Trainer
from tests.optimizers import OPTIMIZERS, build, every_optimizer, own_loop, x, y

FACTORS = {"*.biases": {"learning_rate": 8.0, "weight_decay": 0.125}, "0.*": {"learning_rate": 0.5}, "7.weights": {}}


def named(model) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in model.parameters.items()}


def scaled(make, rate: float, decay: float):
    """Return an optimizer of factors' own."""
    one = make(fastcnn)
    one.learning_rate *= rate
    one.weight_decay *= decay
    return one


@every_optimizer
def test_each_group_has_the_steps_of_an_optimizer_of_its_own(make):
    """The same bits as three optimizers that have one model each, of which their part is looked at."""
    model, optimizer = build(np.float32), make(fastcnn)
    optimizer.groups = FACTORS
    alone = {
        "biases": (scaled(make, 8.0, 0.125), lambda name: name.endswith("biases") and name[0] != "0"),
        "first": (scaled(make, 0.5, 1.0), lambda name: name == "0.filters"),
        "first biases": (scaled(make, 4.0, 0.125), lambda name: name == "0.biases"),
        "others": (make(fastcnn), lambda name: name[0] != "0" and not name.endswith("biases")),
    }
    loss = fastcnn.CrossEntropy()
    for _ in range(4):
        before, gradients = named(model), None
        model.backward(loss.gradient(model.forward(x.astype(np.float32)), y))
        gradients = model._flat_gradients.copy()
        optimizer.step(model)
        for rule, is_mine in alone.values():
            twin = rule._model or build(np.float32)
            if twin._flat_gradients.size != gradients.size:
                twin.backward(loss.gradient(twin.forward(x.astype(np.float32)), y))
            for name, array in before.items():
                twin.parameters[name][...] = array
            twin._flat_gradients[...] = gradients
            rule.step(twin)
            for name in filter(is_mine, before):
                assert np.array_equal(model.parameters[name], twin.parameters[name]), name


@pytest.mark.parametrize("name", ["SGD-decay", "SGD-nesterov", "Adam-decay", "RMSprop-momentum", "AdamW", "Lion"])
def test_no_decay_is_a_weight_decay_of_nothing(name):
    results = []
    for given in ({"no_decay": ("biases",)}, {"groups": {"*.biases": {"weight_decay": 0.0}}}):
        model, optimizer = build(np.float32), OPTIMIZERS[name](fastcnn)
        optimizer = type(optimizer)(**{**optimizer._arguments(), **given})
        model._flat += np.float32(0.1)
        own_loop(model, optimizer, 3)
        results.append(model._flat.tobytes())
    assert results[0] == results[1]
    model = build(np.float32)
    model._flat += np.float32(0.1)
    own_loop(model, OPTIMIZERS[name](fastcnn), 3)
    assert model._flat.tobytes() != results[0]


def test_a_schedule_as_a_factor_freezes_later():
    trainer = Trainer(build(), optimizer=fastcnn.SGD(0.1, 0.9, groups={"0.*": {"learning_rate": StepDecay(1, 3, 0.0)}}))
    for step in range(6):
        before = named(trainer.model)
        trainer.step(x, y)
        moved = not np.array_equal(before["0.filters"], trainer.model.parameters["0.filters"])
        assert moved == (step < 3)
        assert not np.array_equal(before["2.filters"], trainer.model.parameters["2.filters"])


@pytest.mark.parametrize("clip_norm", [None, 0.05])
@every_optimizer
def test_the_same_bits_for_any_number_of_threads_and_from_a_file(make, clip_norm):
    results = []
    for threads in (1, 2, 3):
        optimizer = make(fastcnn)
        optimizer.groups, optimizer.clip_norm = FACTORS, clip_norm
        trainer = Trainer(build(np.float32), optimizer=optimizer, threads=threads)
        losses = [trainer.step(x[:n], y[:n]) for n in (12, 12, 5)]
        file = io.BytesIO()
        fastcnn.save(trainer, file)
        again = fastcnn.load(io.BytesIO(file.getvalue()))
        assert again.optimizer.groups == optimizer.groups
        losses += [trainer.step(x, y), again.step(x, y)]
        results.append((losses, trainer.model._flat.tobytes(), again.model._flat.tobytes()))
    assert all(result == results[0] for result in results)
    assert results[0][1] == results[0][2]


def test_errors():
    trainer = Trainer(build(), optimizer=fastcnn.SGD(0.1))
    with pytest.raises(ValueError, match=r"SGD: groups: expected patterns of names of parameters, .*; got '\*\.gamma'"):
        trainer.optimizer.groups = {"*.gamma": {"learning_rate": 2.0}}
    assert trainer.optimizer.groups is None
    with pytest.raises(
        ValueError, match=r"Adam: groups\['\*'\]: expected keys of learning_rate, weight_decay; got 'rate'"
    ):
        fastcnn.Adam(groups={"*": {"rate": 2.0}})
    with pytest.raises(
        ValueError, match=r"Adam: groups\['\*'\]\['learning_rate'\]: expected a finite number >= 0; got -1"
    ):
        fastcnn.Adam(groups={"*": {"learning_rate": -1}})
    with pytest.raises(TypeError, match=r"Adam: groups: expected a dict of names to factors; got 64"):
        fastcnn.Adam(groups=64)
    with pytest.raises(ValueError, match=r"got '9\.biases', which matches none"):
        Trainer(build(), optimizer=fastcnn.Adam(groups={"9.biases": {"learning_rate": 2.0}}))
