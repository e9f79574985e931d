"""`from_onnx`: activations, constants that channels are multiplied by, and padding, as others write them."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn
from fastcnn import StorageError
from tests.onnx_runs import assert_close, needs_onnx, run_onnxruntime
from tests.test_onnx_import import exported, graph, random

needs_onnx()

SHAPE = (2, 3, 6, 5)


def layers_of(made, x) -> list[str]:
    """Check that a graph computes the same here, and return the layers that it has become."""
    model = fastcnn.from_onnx(made)
    assert_close(model.predict(x), run_onnxruntime(made, x)[0])
    return [type(layer).__name__ for layer in model.layers]


# name: the nodes of a graph from x to y, its constants, the layers that it becomes
GRAPHS = {
    "Celu": ([("Celu", ["x"], ["y"], {"alpha": 0.7})], {}, ["CELU"]),
    "Softplus": ([("Softplus", ["x"], ["y"])], {}, ["Softplus"]),
    "HardSwish": ([("HardSwish", ["x"], ["y"])], {}, ["HardSwish"]),
    "HardSigmoid": ([("HardSigmoid", ["x"], ["y"], {"alpha": 1 / 6, "beta": 0.5})], {}, ["HardSigmoid"]),
    "HardSigmoid of Keras 2": ([("HardSigmoid", ["x"], ["y"])], {}, ["Scale", "HardSigmoid"]),
    "HardSigmoid, falling": (
        [("HardSigmoid", ["x"], ["y"], {"alpha": -0.4, "beta": 0.1})], {}, ["Scale", "HardSigmoid"],
    ),
    "Clip": ([("Clip", ["x", "low", "high"], ["y"])], {"low": np.float32(0), "high": np.float32(6)}, ["ReLU6"]),
    "PRelu": ([("PRelu", ["x", "a"], ["y"])], {"a": random(1)}, ["PReLU"]),
    "PRelu of channels": ([("PRelu", ["x", "a"], ["y"])], {"a": random(3, 1, 1)}, ["PReLU"]),
    "Mish as a formula": (
        [("Softplus", ["x"], ["a"]), ("Tanh", ["a"], ["b"]), ("Mul", ["x", "b"], ["y"])], {}, ["Mish"],
    ),
    "HardSwish as a formula": (
        [
            ("Add", ["x", "three"], ["a"]), ("Clip", ["a", "zero", "six"], ["b"]), ("Mul", ["x", "b"], ["c"]),
            ("Div", ["c", "six"], ["y"]),
        ],
        {"zero": np.float32(0), "three": np.float32(3), "six": np.float32(6)},
        ["HardSwish"],
    ),
    "Swish of a hard sigmoid": (
        [("HardSigmoid", ["x"], ["a"], {"alpha": 1 / 6}), ("Mul", ["x", "a"], ["y"])], {}, ["HardSwish"],
    ),
    "a constant": ([("Mul", ["x", "c"], ["y"])], {"c": np.float32(-2)}, ["Scale"]),
    "constants of channels": (
        [("Sub", ["x", "m"], ["a"]), ("Div", ["a", "d"], ["y"])], {"m": random(3, 1, 1), "d": 2 + random(3, 1, 1) ** 2},
        ["Scale"],
    ),
    "a constant less a value": ([("Sub", ["c", "x"], ["y"])], {"c": np.float32(1)}, ["Scale"]),
    "Pad": (
        [("Pad", ["x", "p"], ["a"]), ("Relu", ["a"], ["y"])], {"p": np.array([0, 0, 1, 2, 0, 0, 3, 0])},
        ["Pad", "ReLU"],
    ),
    "Pad, a constant": (
        [("Pad", ["x", "p", "v"], ["y"])], {"p": np.array([0, 0, 1, 2, 0, 0, 3, 0]), "v": np.float32(-1.5)}, ["Pad"],
    ),
    "Pad, reflected": (
        [("Pad", ["x", "p"], ["a"], {"mode": "reflect"}), ("Conv", ["a", "w"], ["y"])],
        {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "w": random(4, 3, 3, 3)}, ["Pad", "Conv2D"],
    ),
    "Pad, the edge": (
        [("Pad", ["x", "p"], ["y"], {"mode": "edge"})], {"p": np.array([0, 0, 7, 0, 0, 0, 0, 6])}, ["Pad"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_becomes_these_layers(name):
    nodes, constants, layers = GRAPHS[name]
    x = 3 * random(*SHAPE)
    assert layers_of(graph(nodes, constants, ["n", *SHAPE[1:]]), x) == layers


def test_operators_of_later_versions():
    x = 3 * random(*SHAPE)
    assert layers_of(graph([("Mish", ["x"], ["y"])], {}, ["n", *SHAPE[1:]], opset=18), x) == ["Mish"]


def test_a_scale_that_two_read_is_not_merged_into_what_follows():
    nodes = [("Mul", ["x", "c"], ["a"]), ("Add", ["a", "c"], ["b"]), ("Relu", ["b"], ["d"]), ("Add", ["a", "d"], ["y"])]
    x = random(*SHAPE)
    assert layers_of(graph(nodes, {"c": np.float32(0.5)}, ["n", *SHAPE[1:]]), x) == ["Scale", "Residual"]


def test_activations_and_padding_of_pytorch():
    torch = pytest.importorskip("torch", reason="expected torch")
    from torch import nn

    torch.manual_seed(0)
    network = nn.Sequential(
        nn.ReflectionPad2d((1, 2, 0, 1)), nn.Conv2d(3, 4, 3), nn.PReLU(4, 0.3), nn.ReplicationPad2d(1), nn.Mish(),
        nn.ZeroPad2d((1, 0, 2, 0)), nn.CELU(0.8), nn.ConstantPad2d(1, 0.5), nn.Hardswish(), nn.Softplus(),
        nn.Conv2d(4, 3, 1), nn.ReLU6(), nn.PReLU(), nn.Hardsigmoid(), nn.Flatten(), nn.Linear(363, 4),
    )  # fmt: skip
    x = torch.tensor(random(2, 3, 6, 5))
    model = fastcnn.from_onnx(exported(torch, network.eval(), x, dynamo=False, any_batch=True))
    assert_close(model.predict(x.numpy()), network(x).detach().numpy())
    kinds = {type(layer).__name__ for layer in model.layers}
    assert {"Pad", "PReLU", "Mish", "CELU", "HardSwish", "Softplus", "ReLU6", "HardSigmoid"} < kinds


@pytest.mark.parametrize(
    ("nodes", "constants", "words"),
    [
        ([("PRelu", ["x", "a"], ["y"])], {"a": random(6, 5)}, "slope: expected one for all channels, or one for each"),
        ([("PRelu", ["x", "a"], ["y"])], {"a": random(4, 1, 1)}, r"slope: expected one for samples of shape \(3, 6"),
        (
            [("Pad", ["x", "p"], ["y"], {"mode": "reflect"})], {"p": np.array([0, 0, 6, 0, 0, 0, 0, 0])},
            "Pad: input: expected images larger than the padding",
        ),
        ([("Pad", ["x", "p"], ["y"])], {"p": np.array([0, 0, -1, 0, 0, 0, 0, 0])}, "pads: expected at least 0"),
        (
            [("Clip", ["x", "low", "high"], ["y"])], {"low": np.float32(0), "high": np.float32(100)},
            "expected bounds from -32.0 to 32.0; got from 0.0 to 100.0",
        ),
    ],
)  # fmt: skip
def test_what_no_layer_computes(nodes, constants, words):
    with pytest.raises(StorageError, match=words):
        fastcnn.from_onnx(graph(nodes, constants, ["n", *SHAPE[1:]]))
