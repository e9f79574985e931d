"""What is frozen stays as it is, has no gradient, and ends the backward pass where nothing before it trains."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest

import fastcnn
from fastcnn import (
    SGD,
    Adam,
    AdamW,
    BatchNorm,
    Concat,
    Conv2D,
    Conv2DTranspose,
    Dense,
    DepthwiseConv2D,
    Flatten,
    GroupNorm,
    LayerNorm,
    Lion,
    MaxPool2D,
    ReLU,
    Residual,
    RMSprop,
    Scale,
    SeparableConv2D,
    Sequential,
    Trainer,
)
from fastcnn.engine.ir import Graph
from fastcnn.engine.planner import make_plan
from tests.arrays import both_dtypes, normal

X, Y = normal(12, 3, 8, 8), np.arange(12) % 4
OPTIMIZERS = (SGD(0.1, weight_decay=0.1), SGD(0.1, 0.9, weight_decay=0.1), Adam(0.01, weight_decay=0.1), AdamW(0.1),
              RMSprop(0.01, weight_decay=0.1), Lion(0.01, weight_decay=0.1))  # fmt: skip
ROWS = {
    "direct": lambda **frozen: [Conv2D(5, 3, **frozen), ReLU()],
    "winograd": lambda **frozen: [Conv2D(16, 3, **frozen), Conv2D(16, 3, padding=1, **frozen)],
    "pooled": lambda **frozen: [Conv2D(6, 3, **frozen), ReLU(), MaxPool2D(2), Conv2D(8, 2, **frozen), MaxPool2D(2)],
    "depthwise": lambda **frozen: [DepthwiseConv2D(3, **frozen), SeparableConv2D(4, 3, **frozen)],
    "transposed": lambda **frozen: [Conv2DTranspose(4, 3, 2, **frozen)],
    "grouped": lambda **frozen: [Conv2D(6, 3, groups=3, **frozen)],
    "im2col": lambda **frozen: [Conv2D(5, 3, algorithm="im2col", **frozen)],
    "norms": lambda **frozen: [BatchNorm(**frozen), ReLU(), GroupNorm(3, **frozen), LayerNorm(**frozen)],
}


def network(middle: list, dtype: type = np.float64) -> Sequential:
    """Return a network with something that trains before and behind the middle."""
    layers = [Conv2D(3, 3, padding=1), *middle, Flatten(), Dense(7), ReLU(), Dense(4)]
    return Sequential(layers).build((3, 8, 8), random_state=0, dtype=dtype)


def trained(model: Sequential, optimizer=None, steps: int = 3, **given) -> Trainer:
    trainer = Trainer(model, optimizer=optimizer or SGD(0.1), random_state=0, **given)
    for _ in range(steps):
        trainer.step(X, Y)
    return trainer


def changed(before: dict, model: Sequential) -> set[str]:
    return {name for name, array in model.parameters.items() if not np.array_equal(before[name], array)}


@pytest.mark.parametrize("row", ROWS)
def test_gradients_of_all_others_are_those_of_a_network_that_trains(row):
    whole, part = (network(ROWS[row](**given)) for given in ({}, {"trainable": False}))
    part.set_weights(whole.get_weights())
    before = {name: array.copy() for name, array in part.parameters.items()}
    first, second = trained(whole, steps=1), trained(part, steps=1)
    frozen = {name for name, array in second.model.gradients.items() if not array.any()}
    assert frozen == {name for name in before if name[0] not in "0" and int(name.split(".")[0]) <= len(ROWS[row]())}
    for name in before.keys() - frozen:
        np.testing.assert_allclose(part.gradients[name], whole.gradients[name], rtol=1e-9, atol=1e-12, err_msg=name)
    assert changed(before, part) == before.keys() - frozen
    assert first.accuracy == second.accuracy


@pytest.mark.parametrize("names", [("biases",), ("filters",)])
@pytest.mark.parametrize("row", ["direct", "winograd", "pooled", "transposed", "grouped"])
def test_single_parameters_train(row, names):
    whole, part = (network(ROWS[row](**given)) for given in ({}, {"trainable": names}))
    part.set_weights(whole.get_weights())
    before = {name: array.copy() for name, array in part.parameters.items()}
    for model in (whole, part):
        trained(model, steps=1)
    other = {"biases": "filters", "filters": "biases"}[names[0]]
    inside = [name for name in before if name[0] != "0" and name.endswith(("filters", "biases"))
              and isinstance(part.layers[int(name[0])], fastcnn.layers.conv_base.Convolving)]  # fmt: skip
    frozen = {name for name in inside if name.endswith(other)}
    assert frozen
    assert changed(before, part) == before.keys() - frozen
    for name in before:
        expected = 0 * whole.gradients[name] if name in frozen else whole.gradients[name]
        np.testing.assert_allclose(part.gradients[name], expected, rtol=1e-9, atol=1e-12, err_msg=name)


@both_dtypes
@pytest.mark.parametrize("clip_norm", [None, 0.1])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_no_optimizer_changes_what_is_frozen(optimizer, clip_norm, dtype):
    """Weight decay, momenta and clipping neither: the bits are those of the network that begins behind."""
    rule = type(optimizer)(**{**optimizer._arguments(), "clip_norm": clip_norm})
    front = Sequential([Conv2D(5, 3), BatchNorm(), ReLU()], trainable=False)
    model = Sequential([front, Flatten(), Dense(7), ReLU(), Dense(4)]).build((3, 8, 8), random_state=0, dtype=dtype)
    before = {name: array.copy() for name, array in model.parameters.items()}
    trainer = trained(model, rule, steps=5)
    assert changed(before, model) == {"2.weights", "2.biases", "4.weights", "4.biases"}
    for named in trainer.optimizer.state.values():
        assert not any(array.any() for name, array in named.items() if name.startswith("0."))


def test_backward_ends_where_nothing_before_trains():
    front = [Conv2D(16, 3, padding=1, trainable=False), BatchNorm(trainable=False), ReLU(), MaxPool2D(2)]
    model = Sequential([Scale(2.0), *front, Conv2D(5, 3), Flatten(), Dense(4)]).build((3, 8, 8), random_state=0)
    graph = Graph((3, 8, 8), np.dtype(np.float32))
    graph.output = model._lower(graph, 0)
    plan = make_plan(graph, 4)
    going = [type(op).__name__ for op in plan.ops if plan.goes_back(op)]
    assert [name for name in going if name != "FlattenOp"] == ["ConvolutionOp", "DenseOp"]
    statistics = model.layers[2].running_mean.copy()
    losses = [trained(model.copy(), steps=4, threads=threads).step(X, Y) for threads in (1, 2, 3)]
    assert len(set(losses)) == 1
    trained(model, Adam(0.01), steps=2)
    assert not np.array_equal(model.layers[2].running_mean, statistics)  # which are no parameters


def test_containers_freeze_all_that_is_inside():
    block = Residual([Conv2D(3, 3, padding=1), Sequential([Conv2D(3, 1)])], [Conv2D(3, 1)], trainable=False)
    rows = Concat([[Conv2D(2, 1)], []], trainable=False)
    model = network([block, rows, Conv2D(4, 3)])
    before = {name: array.copy() for name, array in model.parameters.items()}
    trained(model)
    assert {name.split(".")[0] for name in changed(before, model)} == {"0", "3", "5", "7"}
    free = Residual([layer.copy() for layer in block.layers], [Conv2D(3, 1)])
    model = network([free])
    before = {name: array.copy() for name, array in model.parameters.items()}
    trained(model)
    assert changed(before, model) == before.keys()


def test_copies_pickles_and_files_are_frozen_too():
    model = network([Conv2D(4, 3, trainable=False), BatchNorm(trainable=("beta",)), ReLU()])
    file = io.BytesIO()
    fastcnn.save(model, file)
    for twin in (model.copy(), pickle.loads(pickle.dumps(model)), fastcnn.load(io.BytesIO(file.getvalue()))):
        before = {name: array.copy() for name, array in twin.parameters.items()}
        trained(twin)
        assert before.keys() - changed(before, twin) == {"1.filters", "1.biases", "2.gamma"}


def test_the_notebooks_step_leaves_it_alone():
    layer = Conv2D(4, 3, random_state=0, trainable=("biases",))
    layer.forward(X)
    before = layer.filters.copy()
    layer.backward(normal(12, 4, 6, 6), learning_rate=0.1)
    assert np.array_equal(layer.filters, before)
    assert layer.biases.any()
    assert not layer.gradients["filters"].any()


def test_errors():
    with pytest.raises(
        ValueError, match=r"Conv2D: trainable: expected names of parameters \(filters, biases\); got 'w'"
    ):
        Conv2D(2, 3, trainable=("w",)).build((1, 4, 4))
    with pytest.raises(TypeError, match=r"Dense: trainable: expected True, False or a sequence of names; got 'biases'"):
        Dense(2, trainable="biases")
    with pytest.raises(TypeError, match=r"Sequential: trainable: expected True or False, for all layers inside"):
        Sequential([Dense(2)], trainable=("0.biases",))
    model = Sequential([Flatten(), Dense(4)], trainable=False).build((3, 8, 8), random_state=0)
    trainer = Trainer(model)
    assert trainer.evaluate(X, Y).loss > 0
    with pytest.raises(
        ValueError, match=r"Trainer: model: expected a model with parameters to train; got one that has"
    ):
        trainer.step(X, Y)


def test_gradients_of_what_is_frozen_are_not_checked():
    model = network([Conv2D(4, 3, trainable=("biases",)), BatchNorm(trainable=False)])
    report = fastcnn.check_gradients(model, X, Y, random_state=0)
    assert report.right
    assert [row.name for row in report.rows][:4] == ["input", "0.filters", "0.biases", "1.biases"]
