"""The networks of the bench, each written down once; every side builds its own twin from the same description.

A `Layer` names a class of fastcnn and the arguments of its constructor, so that a peer needs no fastcnn to build its
twin; those of a `Residual` are among its arguments. Shapes are (C, H, W) of one image, as in fastcnn's public side.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
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


def normalised(filter_size: int, num_filters: int | None = None, stride: int = 1) -> tuple[Layer, Layer]:
    """Return a convolution that keeps the size up to its stride, depthwise if no number of filters, and a BatchNorm."""
    arguments = {"filter_size": filter_size, "stride": stride, "padding": filter_size // 2, "bias": False}
    if num_filters is None:
        return Layer("DepthwiseConv2D", arguments), NORM
    return Layer("Conv2D", {"num_filters": num_filters, **arguments}), NORM


def dense(nodes: int) -> Layer:
    return Layer("Dense", {"nodes": nodes})


RELU, GELU = Layer("ReLU", {}), Layer("GELU", {})
POOL, FLATTEN = Layer("MaxPool2D", {}), Layer("Flatten", {})
NORM, MEAN = Layer("BatchNorm", {}), Layer("GlobalAvgPool2D", {})
SOFTMAX = Layer("Softmax", {"input_len": 144, "nodes": 10})  # the notebook's: dense and softmax in one


def vgg(*groups: tuple[int, ...]) -> tuple[Layer, ...]:
    """Return groups of 3x3 convolutions of these widths, each group followed by a pooling."""
    return tuple(
        layer for group in groups for layer in [*(part for f in group for part in (conv(f, 3, 1), RELU)), POOL]
    )


def resnet(*widths: int) -> tuple[Layer, ...]:
    """Return stages of three residual blocks of these widths, the first of a stage with stride 2 but in the first."""
    layers = [*normalised(3, widths[0]), RELU]
    before = widths[0]
    for width in (width for width in widths for _ in range(3)):
        stride, shortcut = (1, None) if width == before else (2, "pad")
        inside = (*normalised(3, width, stride), RELU, *normalised(3, width))
        layers += [Layer("Residual", {"layers": inside, "shortcut": shortcut}), RELU]
        before = width
    return (*layers, MEAN)


def mobilenet(first: int, *blocks: tuple[int, int]) -> tuple[Layer, ...]:
    """Return depthwise separable blocks of these widths and strides behind a convolution."""
    layers = [*normalised(3, first), RELU]
    for width, stride in blocks:
        layers += [*normalised(3, stride=stride), RELU, *normalised(1, width), RELU]
    return (*layers, MEAN)


def speed_run(activation: Layer, *widths: int) -> tuple[Layer, ...]:
    """Return the eight layers of CIFAR speed runs: 24 filters of 2 x 2, groups of two 3 x 3 of these widths, dense."""
    groups = [
        layer
        for width in widths
        for layer in (conv(width, 3, 1), POOL, NORM, activation, conv(width, 3, 1), NORM, activation)
    ]
    return (conv(24, 2), activation, *groups, MEAN, dense(10))


NETWORKS = {
    "notebook": Network((conv(16, 3), RELU, Layer("MaxPool2", {}), SOFTMAX), (1, 8, 8), 32),
    "lenet5": Network(
        (conv(6, 5, 2), RELU, POOL, conv(16, 5), RELU, POOL, FLATTEN, dense(120), RELU, dense(84), RELU, dense(10)),
        (1, 28, 28),
        64,
    ),
    "keras_mnist": Network((conv(32, 3), RELU, POOL, conv(64, 3), RELU, POOL, FLATTEN, dense(10)), (1, 28, 28), 128),
    "vgg6": Network((*vgg((32, 32), (64, 64), (128, 128)), FLATTEN, dense(128), RELU, dense(10)), (3, 32, 32), 64),
    "resnet20": Network((*resnet(16, 32, 64), dense(10)), (3, 32, 32), 64),
    "mobilenet": Network((*mobilenet(32, (64, 1), (128, 2), (128, 1), (256, 2), (256, 1)), dense(10)), (3, 32, 32), 64),
    "cifar8": Network(speed_run(RELU, 64, 256, 256), (3, 32, 32), 128),
    "cifar8_gelu": Network(speed_run(GELU, 64, 256, 256), (3, 32, 32), 128),
    "images128": Network((*vgg((32, 32), (64, 64), (128, 128)), MEAN, dense(10)), (3, 128, 128), 16),
    "images224": Network((*vgg((32,), (64, 64), (128, 128), (256, 256)), MEAN, dense(10)), (3, 224, 224), 8),
}


class Place(NamedTuple):
    """A layer in its network: the beginning of its keys in `model.parameters`, the shapes of an image before and after.

    `inside` has the places of the layers in a `Residual`.
    """

    key: str
    layer: Layer
    before: Shape
    after: Shape
    inside: tuple[Place, ...] = ()


def places(network: Network) -> list[Place]:
    """Return the places of a network's layers."""
    return row(network.layers, network.input_shape)


def row(layers: Sequence[Layer], shape: Shape, prefix: str = "") -> list[Place]:
    """Return the places of layers in a row, behind an image of this shape."""
    found = []
    for index, layer in enumerate(layers):
        key, before = f"{prefix}{index}", shape
        inside = tuple(row(layer.arguments.get("layers", ()), before, f"{key}.layers."))
        shape = inside[-1].after if inside else shape_after(layer, before)
        found.append(Place(key, layer, before, shape, inside))
    return found


def all_places(network: Network) -> Iterator[Place]:
    """Walk through all layers that compute: a `Residual` is its layers."""
    for place in places(network):
        yield from place.inside or (place,)


def shape_after(layer: Layer, shape: Shape) -> Shape:
    """Return the shape of an image after a layer."""
    arguments = layer.arguments
    match layer.kind:
        case "Conv2D" | "DepthwiseConv2D":
            reach, stride = 2 * arguments["padding"] - arguments["filter_size"], arguments.get("stride", 1)
            return (arguments.get("num_filters", shape[0]), *((side + reach) // stride + 1 for side in shape[1:]))
        case "MaxPool2" | "MaxPool2D":
            size, stride = pool_window(layer)
            return (shape[0], *((side - size) // stride + 1 for side in shape[1:]))
        case "GlobalAvgPool2D":
            return shape[:1]
        case "Flatten":
            return (math.prod(shape),)
        case "Dense" | "Softmax":
            return (arguments["nodes"],)
        case "ReLU" | "GELU" | "BatchNorm":
            return shape
    raise ValueError(f"no shape is known for {layer}")


def pool_window(layer: Layer) -> tuple[int, int]:
    """Return size and stride of a max-pooling."""
    size = layer.arguments.get("pool_size", 2)
    return size, layer.arguments.get("stride", size)


def parameter_shapes(place: Place) -> dict[str, Shape]:
    """Return the names and shapes of a layer's parameters, in fastcnn's public layout."""
    arguments = place.layer.arguments
    match place.layer.kind:
        case "Conv2D" | "DepthwiseConv2D" as kind:
            inputs, filters, size = 1 if kind[0] == "D" else place.before[0], place.after[0], arguments["filter_size"]
            biases: dict[str, Shape] = {"biases": (filters,)} if arguments.get("bias", True) else {}
            return {"filters": (filters, inputs, size, size), **biases}
        case "Dense" | "Softmax":
            return {"weights": (math.prod(place.before), arguments["nodes"]), "biases": (arguments["nodes"],)}
        case "BatchNorm":
            return {"gamma": place.before[:1], "beta": place.before[:1]}
    return {}


def initial_parameters(network: Network, seed: int = 0) -> dict[str, np.ndarray]:
    """Draw the parameters that every side starts from, weights of variance 1 / inputs.

    He's 2 / inputs would be too much here: pooling raises the scale as well, the first steps diverge, and a diverging
    step multiplies the rounding that `loss_bound` allows for.
    """
    rng = np.random.default_rng(seed)
    parameters = {}
    for place in all_places(network):
        for name, shape in parameter_shapes(place).items():
            scale = 0.1 if name in ("biases", "gamma", "beta") else 1 / math.sqrt(products(place))
            value = scale * rng.standard_normal(shape) + (name == "gamma")
            parameters[f"{place.key}.{name}"] = value.astype(np.float32)
    return parameters


def running_statistics(network: Network, seed: int = 2) -> dict[str, np.ndarray]:
    """Draw what the normalisations of a trained network would have gathered, for prediction."""
    rng = np.random.default_rng(seed)
    statistics = {}
    for place in all_places(network):
        if place.layer.kind == "BatchNorm":
            channels = place.before[0]
            statistics[f"{place.key}.running_mean"] = (0.1 * rng.standard_normal(channels)).astype(np.float32)
            statistics[f"{place.key}.running_var"] = rng.uniform(0.5, 1.5, channels).astype(np.float32)
    return statistics


def batches(network: Network, count: int = 3, seed: int = 1) -> list[tuple[np.ndarray, np.ndarray]]:
    """Draw the batches that every side trains on, in turn."""
    rng = np.random.default_rng(seed)
    shape = (network.batch, *network.input_shape)
    return [
        (rng.standard_normal(shape, np.float32), rng.integers(0, network.layers[-1].arguments["nodes"], network.batch))
        for _ in range(count)
    ]


def predicted_images(network: Network, seed: int = 3) -> np.ndarray:
    """Draw the images that every side predicts, (N, C, H, W)."""
    return np.random.default_rng(seed).standard_normal((network.batch, *network.input_shape), np.float32)


def products(place: Place) -> int:
    """Return how many products make one output of the layer: 0 where it has no weights."""
    shapes = parameter_shapes(place)
    return math.prod(shapes["filters"][1:]) if "filters" in shapes else shapes.get("weights", (0,))[0]


def step_flops(network: Network) -> int:
    """Return the algorithmic FLOPs of a training step.

    Two per product in convolutions and dense layers, and nothing else: no activations, no normalisation, no padding
    channels, no recomputation. Backward is twice forward, less the input gradient of the first layer: nobody needs it.
    """
    forward = [2 * network.batch * products(place) * math.prod(place.after) for place in all_places(network)]
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
    weighted = [place for place in all_places(network) if products(place)]
    forward = sum(rounding(products(place)) for place in weighted)
    gradient = sum(rounding(network.batch * math.prod(place.after[1:])) for place in weighted)
    return 2 * steps * (forward + gradient)
