"""Random networks: layers of every kind with all their arguments, a batch, a loss and its targets, from one seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np

import reference

Spec = tuple[str, dict[str, Any]]  # the name of a layer, and its arguments
Shape = tuple[int, ...]

CHANNELS = (1, 1, 2, 3, 3, 4, 5, 6, 8, 8, 9, 12, 15, 16, 16, 17, 24, 32, 33)
SIZES = (1, 1, 2, 3, 3, 4, 4, 5, 6, 7, 8)
LARGEST = 400  # numbers of one sample's maps: the reference is loops
ALGORITHMS = ("auto", "auto", "auto", "auto", "direct", "im2col", "winograd", "winograd4")

FEATURES = ("Dense", "Dense", "Scale", "activation", "activation", "norm", "Dropout", "Residual", "Concat")
IMAGES = (
    *("Conv2D",) * 9, "DepthwiseConv2D", "DepthwiseConv2D", "SeparableConv2D", "Conv2DTranspose",
    "MaxPool2", "MaxPool2", "MaxPool2D", "MaxPool2D", "AvgPool2D", "UpSample2D", *("activation",) * 7, *("norm",) * 3,
    "Dropout", "SpatialDropout2D", "Residual", "Residual", "Concat", "Flatten", "GlobalAvgPool2D", "GlobalMaxPool2D",
    "Scale", "Pad",
)  # fmt: skip
ACTIVATIONS = (
    "ReLU", "ReLU", "ReLU", "LeakyReLU", "ELU", "GELU", "SiLU", "Sigmoid", "Tanh", "SoftmaxActivation", "CELU",
    "Softplus", "Mish", "ReLU6", "HardSigmoid", "HardSwish", "PReLU",
)  # fmt: skip
DROPOUTS = ("Dropout", "SpatialDropout2D")


def make(module: ModuleType, specs: list[Spec]) -> list[Any]:
    """Return layers of `module`, fastcnn or reference."""
    layers = []
    for name, given in specs:
        arguments = dict(given)
        if module is reference:
            arguments.pop("algorithm", None)
        for key in ("layers", "shortcut"):
            if isinstance(arguments.get(key), list):
                arguments[key] = make(module, arguments[key])
        if "branches" in arguments:
            arguments["branches"] = [make(module, branch) for branch in arguments["branches"]]
        layers.append(getattr(module, name)(**arguments))
    return layers


@dataclass(frozen=True)
class Case:
    """A network, what goes through it, and how it is trained.

    Attributes
    ----------
    draw : int
        Which numbers are drawn for the network: others than the first where those come too near to a kink.
    shards : bool
        Whether batches are cut into as many shards as they can be, whatever the work.
    """

    seed: int
    input_shape: Shape
    specs: list[Spec]
    output_shape: Shape
    n: int
    dtype: Any
    threads: int
    shards: bool
    kind: str
    loss: Spec
    targets: str
    weighted: bool
    draw: int = 0
    optimizer: str = ""
    clip_norm: float | None = None

    def __str__(self) -> str:
        lines = [
            f"seed {self.seed}, draw {self.draw}: {self.n} x {self.input_shape} {np.dtype(self.dtype).name} "
            f"({self.kind}), {self.threads} threads{', shards' if self.shards else ''}, "
            f"{self.loss[0]}{self.loss[1] or ''} ({self.targets}{', weighted' if self.weighted else ''}), "
            f"{self.optimizer}{f', clip_norm={self.clip_norm}' if self.clip_norm else ''}"
        ]
        return "\n".join([*lines, *(f"    {name} {arguments or ''}" for name, arguments in self.specs)])

    def layers(self, module: ModuleType) -> list[Any]:
        """Return the layers of `module`."""
        return make(module, self.specs)

    def generator(self, purpose: int) -> np.random.RandomState:
        """Return a generator of this case's own for each purpose."""
        return np.random.RandomState([self.seed, self.draw, purpose])

    def again(self) -> Case:
        """Return the same network with other numbers."""
        return replace(self, draw=self.draw + 1)

    def parameters(self, shapes: dict[str, Shape]) -> dict[str, np.ndarray]:
        """Return parameters under their names, in the dtype of the case."""
        rng, drawn = self.generator(1), {}
        for name, shape in shapes.items():
            numbers = rng.standard_normal(shape)
            kind = name.rpartition(".")[2]
            if kind in ("biases", "beta", "negative_slope"):
                numbers *= 0.3
            elif kind == "gamma":
                numbers = np.sign(numbers) * (0.5 + rng.random_sample(shape))
            else:  # filters (F, C, kH, kW) or weights (inputs, outputs)
                fan = shape[0] if len(shape) == 2 else int(np.prod(shape[1:]))
                numbers *= 1.2 / np.sqrt(max(1, fan))
            drawn[name] = numbers.astype(self.dtype)
        return drawn

    def batch(self, n: int, purpose: int) -> np.ndarray:
        """Return a batch: normal numbers, eighths of which half are zeros, or bytes."""
        rng, shape = self.generator(purpose), (n, *self.input_shape)
        if self.kind == "bytes":
            return rng.randint(0, 256, size=shape).astype(np.uint8)
        if self.kind == "eighths":
            return (rng.randint(-8, 9, size=shape) * (rng.random_sample(shape) < 0.5) / 8).astype(self.dtype)
        return rng.standard_normal(shape).astype(self.dtype)

    def target(self, n: int, purpose: int) -> np.ndarray:
        """Return targets for n samples."""
        rng, shape = self.generator(purpose), (n, *self.output_shape)
        if self.targets == "classes":
            return rng.randint(self.output_shape[0], size=n)
        if self.targets == "rows":
            rows = rng.random_sample(shape) + 0.05
            return np.asarray(rows / rows.sum(axis=1, keepdims=True))
        if self.targets == "answers":
            return rng.randint(0, 2, size=shape).astype(self.dtype)
        return rng.standard_normal(shape).astype(self.dtype)

    def sample_weight(self, n: int, purpose: int) -> np.ndarray | None:
        """Return the weights of n samples, or None."""
        return self.generator(purpose).random_sample(n) + 0.1 if self.weighted else None


def draw_case(seed: int) -> Case:
    """Return the network of a seed."""
    return Draw(seed).case()


class Draw:
    """Draws a network."""

    def __init__(self, seed: int) -> None:
        self.seed, self.rng = seed, np.random.RandomState(seed)

    def pick(self, *choices: Any) -> Any:
        """Return one of the choices."""
        return choices[self.rng.randint(len(choices))]

    def chance(self, share: float) -> bool:
        """Return True in this share of all cases."""
        return bool(self.rng.random_sample() < share)

    def case(self) -> Case:
        """Return a whole network."""
        if self.chance(0.15):
            shape: Shape = (self.pick(1, 2, 5, 8, 13, 16, 17, 33, 40),)
        else:
            square = self.pick(*SIZES)
            width = square if self.chance(0.5) else self.pick(*SIZES)
            most = max(1, LARGEST // (square * width))
            shape = (min(most, self.pick(*CHANNELS)), square, width)
        n = self.pick(1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 9)
        specs, end = self.row(shape, self.pick(1, 2, 3, 4, 5, 6), n)
        specs, end, loss, targets = self.end(specs, end)
        return Case(
            self.seed, shape, specs, end, n, self.pick(np.float32, np.float64), self.pick(1, 1, 2, 3),
            self.chance(0.4), self.pick("normal", "normal", "eighths", "bytes"), loss, targets, self.chance(0.2),
            clip_norm=0.5 if self.chance(0.15) else None,
        )  # fmt: skip

    def row(self, shape: Shape, count: int, n: int, depth: int = 0) -> tuple[list[Spec], Shape]:
        """Return layers in a row, and the shape behind them."""
        specs: list[Spec] = []
        while len(specs) < count:
            spec = self.layer(shape, n, depth)
            after = self.shape_behind(spec, shape)
            if after is not None:
                specs.append(spec)
                shape = after
        return specs, shape

    def shape_behind(self, spec: Spec, shape: Shape) -> Shape | None:
        """Return the shape behind a layer; None if it does not take such samples, or makes too many numbers."""
        try:
            (layer,) = make(reference, [spec])
            after: Shape = layer.output_shape(shape)
        except ValueError:
            return None
        return after if np.prod(after) <= LARGEST else None

    def end(self, specs: list[Spec], shape: Shape) -> tuple[list[Spec], Shape, Spec, str]:
        """Return the last layers, the shape behind them, a loss, and its kind of targets."""
        kind = self.pick("classes", "classes", "classes", "answers", "numbers")
        if kind == "numbers":
            trained = {"Conv2D", "Dense", "BatchNorm", "Conv2DTranspose", "DepthwiseConv2D"}
            parts = "scale", "center"  # a norm without both has no parameters
            if not any(
                name in trained and (name != "BatchNorm" or any(given[part] for part in parts)) for name, given in specs
            ):
                specs, shape = self.classifier(specs, shape)
            loss = self.pick("MeanSquaredError", "MeanAbsoluteError", "Huber")
            return specs, shape, (loss, {"delta": 0.5} if loss == "Huber" and self.chance(0.5) else {}), "numbers"
        specs, shape = self.classifier(specs, shape, softmax=kind == "classes")
        if kind == "answers":
            return [*specs, *([("Sigmoid", {})] if self.chance(0.3) else [])], shape, ("BinaryCrossEntropy", {}), kind
        arguments: dict[str, Any] = {}
        if self.chance(0.2):
            arguments["label_smoothing"] = 0.1
        if self.chance(0.2):
            arguments["class_weight"] = (self.rng.random_sample(shape[0]) + 0.2).tolist()
        return specs, shape, ("CrossEntropy", arguments), self.pick("classes", "classes", "rows")

    def classifier(self, specs: list[Spec], shape: Shape, softmax: bool = False) -> tuple[list[Spec], Shape]:
        """Return the layers with a last one that returns a row of numbers."""
        nodes = self.pick(1, 2, 3, 5, 8, 10, 17)
        if softmax and self.chance(0.25):
            return [*specs, ("Softmax", {"input_len": int(np.prod(shape)), "nodes": nodes})], (nodes,)
        specs = [*specs, *([("Flatten", {})] if len(shape) == 3 else [])]
        specs.append(("Dense", {"nodes": nodes, "bias": self.chance(0.8)}))
        return [*specs, *([("SoftmaxActivation", {})] if softmax and self.chance(0.2) else [])], (nodes,)

    def layer(self, shape: Shape, n: int, depth: int) -> Spec:
        """Return a layer that may or may not take samples of this shape."""
        name = self.pick(*(IMAGES if len(shape) == 3 else FEATURES))
        if name in ("Residual", "Concat") and depth:
            name = "activation"
        method: Callable[..., Spec] = getattr(self, f"_{name.lower()}", lambda *_: (name, {}))
        return method(shape, n, depth)

    def _activation(self, shape: Shape, n: int, depth: int) -> Spec:
        name = self.pick(*ACTIVATIONS)
        arguments = {
            "LeakyReLU": {"negative_slope": self.pick(0.01, 0.3, -0.5)},
            "ELU": {"alpha": self.pick(1.0, 1.5, -0.7)},
            "CELU": {"alpha": self.pick(1.0, 0.5)},
            "Softplus": {"beta": self.pick(1.0, 2.5), "threshold": self.pick(20.0, 1.5)},
            "PReLU": {"num_parameters": self.pick(1, shape[0]), "init": self.pick(0.25, -0.4)},
            "GELU": {"approximate": self.pick("none", "tanh")},
        }
        return name, arguments.get(name, {})

    def _norm(self, shape: Shape, n: int, depth: int) -> Spec:
        name = self.pick("BatchNorm", "BatchNorm", "GroupNorm", "LayerNorm")
        epsilon = self.pick(1e-5, 1e-3, 0.1)
        if name == "BatchNorm" and n * int(np.prod(shape[1:])) > 1:
            parts = {"scale": self.chance(0.8), "center": self.chance(0.8)}
            return name, {"momentum": self.pick(0.1, 0.3, 1.0), "epsilon": epsilon, **parts}
        divisors = [g for g in range(1, shape[0] + 1) if shape[0] % g == 0]
        return ("LayerNorm", {"epsilon": epsilon}) if name == "LayerNorm" else (
            "GroupNorm", {"num_groups": self.pick(*divisors), "epsilon": epsilon}
        )  # fmt: skip

    def _dropout(self, shape: Shape, n: int, depth: int) -> Spec:
        return "Dropout", {"rate": self.pick(0.0, 0.2, 0.5, 0.9), "random_state": int(self.rng.randint(1000))}

    def _spatialdropout2d(self, shape: Shape, n: int, depth: int) -> Spec:
        return "SpatialDropout2D", self._dropout(shape, n, depth)[1]

    def _scale(self, shape: Shape, n: int, depth: int) -> Spec:
        factors = self.rng.standard_normal(shape[0]).tolist()
        return "Scale", {"factor": self.pick(0.5, -2.0, tuple(factors)), "shift": self.pick(0.0, 0.3)}

    def _pad(self, shape: Shape, n: int, depth: int) -> Spec:
        mode = self.pick("constant", "reflect", "edge")
        padding = self.pick(1, (2, 0), ((1, 0), (0, 2)), ((0, 2), (1, 2)))
        return "Pad", {"padding": padding, "mode": mode, "value": self.pick(0.0, -0.5) if mode == "constant" else 0.0}

    def _dense(self, shape: Shape, n: int, depth: int) -> Spec:
        return "Dense", {"nodes": self.pick(1, 2, 5, 8, 9, 16, 17, 33), "bias": self.chance(0.8)}

    def size(self) -> Any:
        """Return the size of a window."""
        return self.pick(1, 2, 3, 3, 3, 3, 5, (1, 3), (3, 2), (2, 5), (4, 1))

    def window(self, padding: bool = True) -> dict[str, Any]:
        """Return size, stride, padding and dilation."""
        return {
            "filter_size": self.size(),
            "stride": self.pick(1, 1, 1, 2, 3, (1, 2), (2, 1)),
            "padding": self.pick(0, 1, 1, 2, (1, 0), *(("same", "same", "valid") if padding else ())),
            "dilation": self.pick(1, 1, 1, 1, 2, (1, 2)),
            "bias": self.chance(0.8),
        }

    def _groups(self, channels: int) -> tuple[int, int]:
        """Return groups and filters."""
        divisors = [g for g in range(1, channels + 1) if channels % g == 0]
        groups = self.pick(*divisors) if self.chance(0.25) else 1
        filters = groups * self.pick(1, 2, 3) if groups > 1 else self.pick(*CHANNELS)
        return groups, filters

    def _conv2d(self, shape: Shape, n: int, depth: int) -> Spec:
        groups, filters = self._groups(shape[0])
        usual = self.chance(0.4)
        window = {"filter_size": self.pick(3, 3, 3, 5), "padding": self.pick(0, 1, "same"), "bias": self.chance(0.8)}
        return "Conv2D", {
            "num_filters": filters, "groups": groups, **(window if usual else self.window()),
            "algorithm": self.pick(*ALGORITHMS),
        }  # fmt: skip

    def _depthwiseconv2d(self, shape: Shape, n: int, depth: int) -> Spec:
        return "DepthwiseConv2D", {**self.window(), "depth_multiplier": self.pick(1, 1, 1, 2, 3)}

    def _separableconv2d(self, shape: Shape, n: int, depth: int) -> Spec:
        return "SeparableConv2D", {"num_filters": self.pick(*CHANNELS), **self.window()}

    def _conv2dtranspose(self, shape: Shape, n: int, depth: int) -> Spec:
        groups, filters = self._groups(shape[0])
        window = self.window(padding=False)
        return "Conv2DTranspose", {
            "num_filters": filters, "groups": groups, **window, "output_padding": self.pick(0, 0, 0, 1, (1, 0)),
        }  # fmt: skip

    def _maxpool2d(self, shape: Shape, n: int, depth: int) -> Spec:
        return "MaxPool2D", {
            "pool_size": self.pick(1, 2, 2, 3, 3, 4, (2, 3), (3, 1)),
            "stride": self.pick(None, None, 1, 2, 3, (1, 2)),
            "padding": self.pick(0, 0, 1, (1, 0)),
        }

    def _avgpool2d(self, shape: Shape, n: int, depth: int) -> Spec:
        return "AvgPool2D", {**self._maxpool2d(shape, n, depth)[1], "count_include_pad": self.chance(0.5)}

    def _upsample2d(self, shape: Shape, n: int, depth: int) -> Spec:
        return "UpSample2D", {"size": self.pick(1, 2, 3, (1, 2), (2, 3)), "mode": self.pick("nearest", "bilinear")}

    def _residual(self, shape: Shape, n: int, depth: int) -> Spec:
        layers, after = self.row(shape, self.pick(1, 2, 3), n, depth + 1)
        if after == shape:
            return "Residual", {"layers": layers}
        if len(shape) == 1 and len(after) == 1:
            return "Residual", {"layers": layers, "shortcut": [("Dense", {"nodes": after[0]})]}
        if len(after) == len(shape) == 3:
            stride = tuple(-(-a // b) for a, b in zip(shape[1:], after[1:], strict=True))
            if self.chance(0.5):
                return "Residual", {"layers": layers, "shortcut": "pad"}
            shortcut = {"num_filters": after[0], "filter_size": 1, "stride": stride}
            return "Residual", {"layers": layers, "shortcut": [("Conv2D", shortcut)]}
        return "Residual", {"layers": layers}  # which is refused, and drawn again

    def _concat(self, shape: Shape, n: int, depth: int) -> Spec:
        branches = []
        for _ in range(self.pick(1, 2, 3)):
            if self.chance(0.25):
                branches.append([])
            elif len(shape) == 1:
                branches.append(self.row(shape, self.pick(1, 2), n, depth + 1)[0])
            else:
                branches.append(self._keeping_size(shape))
        return "Concat", {"branches": branches}

    def _keeping_size(self, shape: Shape) -> list[Spec]:
        """Return layers that keep height and width."""
        choices: tuple[Spec, ...] = (
            ("Conv2D", {"num_filters": self.pick(*CHANNELS), "filter_size": self.pick(1, 3, 5), "padding": "same"}),
            ("DepthwiseConv2D", {"filter_size": 3, "padding": 1}),
            ("MaxPool2D", {"pool_size": 3, "stride": 1, "padding": 1}),
            ("AvgPool2D", {"pool_size": 3, "stride": 1, "padding": 1}),
            self._activation(shape, 1, 1),
        )
        return [self.pick(*choices) for _ in range(self.pick(1, 2))]
