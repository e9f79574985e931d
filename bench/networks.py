"""The networks of the bench, each written down once; every side builds its own twin from the same description.

A `Layer` names a class of fastcnn and the arguments of its constructor, so that a peer needs no fastcnn to build its
twin. Shapes are (C, H, W) of one image, as in fastcnn's public side.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

LEARNING_RATE = 0.01
Shape = tuple[int, ...]


class Layer(NamedTuple):
    """A layer: the name of its class in fastcnn and the arguments of its constructor."""

    kind: str
    arguments: dict[str, Any]


class Network(NamedTuple):
    """Layers, the shape of one image, and how many of them make a batch."""

    layers: tuple[Layer, ...]
    input_shape: Shape
    batch: int


def conv(num_filters: int, filter_size: int, padding: int = 0) -> Layer:
    return Layer("Conv2D", {"num_filters": num_filters, "filter_size": filter_size, "padding": padding})


def dense(nodes: int) -> Layer:
    return Layer("Dense", {"nodes": nodes})


RELU, POOL, FLATTEN = Layer("ReLU", {}), Layer("MaxPool2D", {}), Layer("Flatten", {})
SOFTMAX = Layer("Softmax", {"input_len": 144, "nodes": 10})  # the notebook's: dense and softmax in one


def vgg(*groups: tuple[int, ...]) -> tuple[Layer, ...]:
    """Return groups of 3x3 convolutions of these widths, each group followed by a pooling."""
    return tuple(
        layer for group in groups for layer in [*(part for f in group for part in (conv(f, 3, 1), RELU)), POOL]
    )


NETWORKS = {
    "notebook": Network((conv(16, 3), RELU, Layer("MaxPool2", {}), SOFTMAX), (1, 8, 8), 32),
    "lenet5": Network(
        (conv(6, 5, 2), RELU, POOL, conv(16, 5), RELU, POOL, FLATTEN, dense(120), RELU, dense(84), RELU, dense(10)),
        (1, 28, 28),
        64,
    ),
    "keras_mnist": Network((conv(32, 3), RELU, POOL, conv(64, 3), RELU, POOL, FLATTEN, dense(10)), (1, 28, 28), 128),
    "vgg6": Network((*vgg((32, 32), (64, 64), (128, 128)), FLATTEN, dense(128), RELU, dense(10)), (3, 32, 32), 64),
}


class Place(NamedTuple):
    """A layer in its network: its key in `model.parameters`, and the shapes of an image before and after it."""

    key: str
    layer: Layer
    before: Shape
    after: Shape


def places(network: Network) -> Iterator[Place]:
    """Walk through a network with the shapes."""
    shape = network.input_shape
    for index, layer in enumerate(network.layers):
        before, shape = shape, shape_after(layer, shape)
        yield Place(str(index), layer, before, shape)


def shape_after(layer: Layer, shape: Shape) -> Shape:
    """Return the shape of an image after a layer."""
    match layer:
        case Layer("Conv2D", {"num_filters": filters, "filter_size": size, "padding": padding}):
            return (filters, *(side + 2 * padding - size + 1 for side in shape[1:]))
        case Layer("MaxPool2" | "MaxPool2D", _):
            return (shape[0], *(side // 2 for side in shape[1:]))
        case Layer("Flatten", _):
            return (math.prod(shape),)
        case Layer("Dense" | "Softmax", {"nodes": nodes}):
            return (nodes,)
        case Layer("ReLU", _):
            return shape
    raise ValueError(f"no shape is known for {layer}")


def parameter_shapes(place: Place) -> dict[str, Shape]:
    """Return the names and shapes of a layer's parameters, in fastcnn's public layout."""
    match place.layer:
        case Layer("Conv2D", {"num_filters": filters, "filter_size": size}):
            return {"filters": (filters, place.before[0], size, size), "biases": (filters,)}
        case Layer("Dense" | "Softmax", {"nodes": nodes}):
            return {"weights": (math.prod(place.before), nodes), "biases": (nodes,)}
    return {}


def initial_parameters(network: Network, seed: int = 0) -> dict[str, np.ndarray]:
    """Draw the parameters that every side starts from, weights of variance 1 / inputs.

    He's 2 / inputs would be too much here: pooling raises the scale as well, the first steps diverge, and a diverging
    step multiplies the rounding that `loss_bound` allows for.
    """
    rng = np.random.default_rng(seed)
    parameters = {}
    for place in places(network):
        for name, shape in parameter_shapes(place).items():
            scale = 0.1 if name == "biases" else 1 / math.sqrt(products(place))
            parameters[f"{place.key}.{name}"] = (scale * rng.standard_normal(shape)).astype(np.float32)
    return parameters


def batches(network: Network, count: int = 3, seed: int = 1) -> list[tuple[np.ndarray, np.ndarray]]:
    """Draw the batches that every side trains on, in turn."""
    rng = np.random.default_rng(seed)
    shape = (network.batch, *network.input_shape)
    return [
        (rng.standard_normal(shape, np.float32), rng.integers(0, network.layers[-1].arguments["nodes"], network.batch))
        for _ in range(count)
    ]


def products(place: Place) -> int:
    """Return how many products make one output of the layer: 0 where it has no weights."""
    shapes = parameter_shapes(place)
    return math.prod(shapes["filters"][1:]) if "filters" in shapes else shapes.get("weights", (0,))[0]


def step_flops(network: Network) -> int:
    """Return the algorithmic FLOPs of a training step.

    Two per product in convolutions and dense layers, and nothing else: no activations, no padding channels, no
    recomputation. Backward is twice forward, less the input gradient of the first layer, which nobody needs.
    """
    forward = [2 * network.batch * products(place) * math.prod(place.after) for place in places(network)]
    return 3 * sum(forward) - next(flops for flops in forward if flops)


def rounding(terms: int) -> float:
    """Return the size of the relative rounding error of a float32 sum of `terms` products, u·√n with u = 2⁻²⁴.

    References
    ----------
    Higham & Mary, "A new approach to probabilistic rounding error analysis", SIAM J. Sci. Comput. 41 (2019).
    """
    return 2.0**-24 * math.sqrt(terms)


def loss_bound(network: Network, steps: int) -> float:
    """Return how far apart, relatively, two float32 losses may lie after `steps` steps from the same start.

    The rounding of the forward sums and of the filter gradients, added up over layers and steps, once for either side.
    """
    weighted = [place for place in places(network) if products(place)]
    forward = sum(rounding(products(place)) for place in weighted)
    gradient = sum(rounding(network.batch * math.prod(place.after[1:])) for place in weighted)
    return 2 * steps * (forward + gradient)
