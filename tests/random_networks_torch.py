"""PyTorch as the witness of random networks, in float64: outputs, losses, all gradients, five steps, and predictions.

The networks are those of `tests/random_networks.py`, in double precision. How far both sides may lie apart, and where a
kink decides, comes from the reference with roundings, as there. More of them than the suite has:

    python -m tests.random_networks_torch --seeds 1000:2000

Networks are left out that have a layer which PyTorch lacks:

- `MaxPool2`, which gives the gradient to every one of equal maxima; PyTorch's gives it to the first (`MaxPool2D`).
- `Dropout` and `SpatialDropout2D` with a rate above 0: PyTorch draws other masks.

PyTorch takes its steps by SGD, in four forms, without `clip_norm`: it adds 1e-6 to the norm that it divides by. It has
no sample weights, and divides targets in rows by their number even where classes have weights: it computes the loss of
each sample here, and the mean is that which `reference.Loss` defines. Padding "same" is zeros, laid around the image by
hand: PyTorch has it for stride 1 only.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch

import fastcnn
import reference
from fastcnn.ops.window import as_margins
from tests.network_draws import DROPOUTS, Case, draw_case
from tests.random_networks import Expected, Results, batches, build, compare, expectations, last, norms
from tests.rounding import walk
from tests.test_reference_torch import same_padded, tensor

F, Tensor = torch.nn.functional, torch.Tensor
Parameters = Callable[[str], Any]  # of a layer, by name; None for one that it does not have

OPTIMIZERS: dict[str, dict[str, Any]] = {  # as tests/optimizers.py has them
    "SGD": {},
    "SGD-decay": {"weight_decay": 0.1},
    "SGD-momentum": {"momentum": 0.9},
    "SGD-nesterov": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
}
RATE = 0.1


def lacks(case: Case) -> set[str]:
    """Return the layers of a network that PyTorch does not have with the same meaning."""
    return {
        type(layer).__name__
        for layer in walk(case.layers(reference))
        if type(layer).__name__ == "MaxPool2" or (type(layer).__name__ in DROPOUTS and layer.rate > 0)
    }


def case_of(seed: int) -> Case:
    """Return the network of a seed in double precision, trained by the form of SGD whose turn it is."""
    optimizer = list(OPTIMIZERS)[seed % len(OPTIMIZERS)]
    return replace(draw_case(seed), dtype=np.float64, optimizer=optimizer, clip_norm=None)


# ---------------------------------------------------------------------------------------------------- layers of PyTorch


def convolution(layer: Any, x: Tensor, of: Parameters) -> Tensor:
    """Return the output of Conv2D, of DepthwiseConv2D, and of SeparableConv2D, which is both."""
    padding, kind = layer.padding, type(layer).__name__
    if padding == "same":
        x, padding = same_padded(x, layer.filter_size, layer.stride, layer.dilation), 0
    geometry, channels = (layer.stride, padding, layer.dilation), x.shape[1]
    if kind == "SeparableConv2D":
        each = F.conv2d(x, of("depthwise_filters"), None, *geometry, channels)
        return F.conv2d(each, of("pointwise_filters"), of("biases"))
    groups = channels if kind == "DepthwiseConv2D" else layer.groups
    return F.conv2d(x, of("filters"), of("biases"), *geometry, groups)


def transposed_convolution(layer: Any, x: Tensor, of: Parameters) -> Tensor:
    """Return the output of Conv2DTranspose."""
    geometry = (layer.stride, layer.padding, layer.output_padding, layer.groups, layer.dilation)
    return F.conv_transpose2d(x, of("filters"), of("biases"), *geometry)


def dense(layer: Any, x: Tensor, of: Parameters) -> Tensor:
    """Return the output of Dense, and the logits of Softmax."""
    biases = of("biases")
    y = x.flatten(1) @ of("weights")
    return y if biases is None else y + biases


def average(layer: Any, x: Tensor, of: Parameters) -> Tensor:
    """Return the output of AvgPool2D."""
    window = (layer.pool_size, layer.stride, layer.padding)
    return F.avg_pool2d(x, *window, count_include_pad=layer.count_include_pad)


def group_norm(layer: Any, x: Tensor, of: Parameters) -> Tensor:
    """Return the output of GroupNorm; the function of torch.nn refuses groups of one number, this one does not."""
    return torch.group_norm(x, layer.num_groups, of("gamma"), of("beta"), layer.epsilon)


def constants(value: Any, x: Tensor) -> Tensor:
    """Return a number, or one for each channel, as it meets x."""
    return tensor(np.broadcast_to(value, x.shape[1]).reshape(-1, *[1] * (x.ndim - 2)).astype(np.float64)).to(x.dtype)


def pad(layer: Any, x: Tensor, of: Parameters) -> Tensor:
    """Return the output of Pad: PyTorch names the last axis first."""
    (top, bottom), (left, right) = as_margins(layer.padding)
    mode = {"edge": "replicate"}.get(layer.mode, layer.mode)
    constant = {"value": layer.value} if mode == "constant" else {}
    return F.pad(x, (left, right, top, bottom), mode, **constant)


LAYERS: dict[str, Callable[[Any, Tensor, Parameters], Tensor]] = {
    "Conv2D": convolution,
    "DepthwiseConv2D": convolution,
    "SeparableConv2D": convolution,
    "Conv2DTranspose": transposed_convolution,
    "Dense": dense,
    "Softmax": lambda layer, x, of: dense(layer, x, of).softmax(dim=1),
    "MaxPool2D": lambda layer, x, of: F.max_pool2d(x, layer.pool_size, layer.stride, layer.padding),
    "AvgPool2D": average,
    "GlobalAvgPool2D": lambda layer, x, of: x.mean(dim=(2, 3)),
    "GlobalMaxPool2D": lambda layer, x, of: F.max_pool2d(x, x.shape[2:]).flatten(1),
    "UpSample2D": lambda layer, x, of: F.interpolate(x, scale_factor=layer.size, mode=layer.mode),
    "GroupNorm": group_norm,
    "LayerNorm": lambda layer, x, of: F.layer_norm(x, x.shape[1:], of("gamma"), of("beta"), layer.epsilon),
    "ReLU": lambda layer, x, of: F.relu(x),
    "LeakyReLU": lambda layer, x, of: F.leaky_relu(x, layer.negative_slope),
    "ELU": lambda layer, x, of: F.elu(x, layer.alpha),
    "GELU": lambda layer, x, of: F.gelu(x, approximate=layer.approximate),
    "SiLU": lambda layer, x, of: F.silu(x),
    "CELU": lambda layer, x, of: F.celu(x, layer.alpha),
    "Softplus": lambda layer, x, of: F.softplus(x, layer.beta, layer.threshold),
    "Mish": lambda layer, x, of: F.mish(x),
    "ReLU6": lambda layer, x, of: F.relu6(x),
    "HardSigmoid": lambda layer, x, of: F.relu6(x + 3) / 6,
    "HardSwish": lambda layer, x, of: F.hardswish(x),
    "PReLU": lambda layer, x, of: F.prelu(x, of("negative_slope")),
    "Sigmoid": lambda layer, x, of: torch.sigmoid(x),
    "Tanh": lambda layer, x, of: torch.tanh(x),
    "SoftmaxActivation": lambda layer, x, of: F.softmax(x, dim=1),
    "Flatten": lambda layer, x, of: x.flatten(1),
    "Pad": pad,
    "Scale": lambda layer, x, of: constants(layer.factor, x) * x + constants(layer.shift, x),
    "Dropout": lambda layer, x, of: x,  # of rate 0
    "SpatialDropout2D": lambda layer, x, of: x,
}


def shortcut(x: Tensor, y: Tensor) -> Tensor:
    """Return every s-th pixel of x, with zeros for the channels of y that x does not have."""
    rows, columns = (-(-x.shape[axis] // y.shape[axis]) for axis in (2, 3))
    return F.pad(x[:, :, ::rows, ::columns], (0, 0, 0, 0, 0, y.shape[1] - x.shape[1]))


class Twin:
    """PyTorch's network of a built model, with its parameters and running statistics."""

    def __init__(self, model: fastcnn.Sequential) -> None:
        self.layers, self.training = list(model.layers), True
        self.parameters = {name: tensor(array, requires_grad=True) for name, array in model.parameters.items()}
        self.statistics = {
            id(layer): (tensor(layer.running_mean), tensor(layer.running_var)) for layer in norms(model.layers)
        }

    def row(self, layers: Iterable[Any], x: Tensor, prefix: str = "") -> Tensor:
        """Return the output of layers in a row."""
        for place, layer in enumerate(layers):
            x = self.layer(layer, x, f"{prefix}{place}.")
        return x

    def layer(self, layer: Any, x: Tensor, prefix: str) -> Tensor:
        """Return the output of a layer whose parameters have this prefix."""
        kind = type(layer).__name__
        if kind == "Concat":
            rows = [self.row(branch, x, f"{prefix}branches.{b}.") for b, branch in enumerate(layer.branches)]
            return torch.cat(rows, dim=1)
        if kind == "Residual":
            y = self.row(layer.layers, x, f"{prefix}layers.")
            pads = layer.shortcut == "pad"
            return y + (shortcut(x, y) if pads else self.row(layer.shortcut or [], x, f"{prefix}shortcut."))
        if kind == "BatchNorm":
            affine = (self.parameters.get(f"{prefix}gamma"), self.parameters.get(f"{prefix}beta"))
            return F.batch_norm(x, *self.statistics[id(layer)], *affine, self.training, layer.momentum, layer.epsilon)
        return LAYERS[kind](layer, x, lambda name: self.parameters.get(prefix + name))

    def ends(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the output, its input (the logits of a last softmax), and what `backward` starts from.

        The gradient that Softmax takes is that by its logits, as in the notebook.
        """
        place, end = len(self.layers) - 1, self.layers[-1]
        x = self.row(self.layers[:-1], x)
        if type(end).__name__ == "Softmax":
            logits = dense(end, x, lambda name: self.parameters[f"{place}.{name}"])
            return logits.softmax(dim=1), logits, logits
        output = self.layer(end, x, f"{place}.")
        return output, x, output


# --------------------------------------------------------------------------------------------------------------- losses


ELEMENTWISE = {
    "MeanSquaredError": F.mse_loss,
    "MeanAbsoluteError": F.l1_loss,
    "Huber": F.huber_loss,
    "BinaryCrossEntropy": F.binary_cross_entropy_with_logits,
}
SWALLOWED = {("Softmax", "CrossEntropy"), ("SoftmaxActivation", "CrossEntropy"), ("Sigmoid", "BinaryCrossEntropy")}


def loss_of(case: Case, z: Tensor, y: np.ndarray, sample_weight: np.ndarray | None) -> Tensor:
    """Return the case's loss: a mean that is weighted by samples and classes."""
    name, arguments = case.loss
    weight = tensor(np.ones(len(y)) if sample_weight is None else sample_weight)
    if name != "CrossEntropy":
        each = ELEMENTWISE[name](z, tensor(y), reduction="none", **arguments)
        return (weight * each.flatten(1).mean(dim=1)).sum() / weight.sum()
    classes = tensor(arguments.get("class_weight", np.ones(z.shape[1])))
    target = torch.tensor(y) if y.ndim == 1 else tensor(y)
    smoothing = arguments.get("label_smoothing", 0.0)
    each = F.cross_entropy(z, target, classes, reduction="none", label_smoothing=smoothing)
    size = classes[target] if y.ndim == 1 else target @ classes
    return (weight * each).sum() / (weight * size).sum()


# ------------------------------------------------------------------------------------------------------- the comparison


class Witness:
    """PyTorch on a case: the results of `random_networks.engine_results` under the same names."""

    def __init__(self, case: Case) -> None:
        self.case, self.twin = case, Twin(build(case))
        parameters = list(self.twin.parameters.values())
        momentum = OPTIMIZERS[case.optimizer]
        self.optimizer = torch.optim.SGD(parameters, lr=RATE, **momentum) if parameters else None
        self.swallows = (type(self.twin.layers[-1]).__name__, case.loss[0]) in SWALLOWED

    def images(self, x: np.ndarray) -> Tensor:
        """Return a batch as numbers, bytes scaled."""
        return tensor(x / 255 if x.dtype == np.uint8 else x, requires_grad=True)

    def loss(self, x: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
        """Return the output and the loss of a batch."""
        output, before, _ = self.twin.ends(self.images(x))
        return output, loss_of(self.case, before if self.swallows else output, y, weight)

    def gradients(self) -> Results:
        """Return the output of a batch, and the gradients by its images and by all parameters."""
        images, rng = self.images(self.case.batch(self.case.n, 2)), self.case.generator(3)
        output, _, start = self.twin.ends(images)
        start.backward(tensor(rng.standard_normal(tuple(output.shape))))
        of = {f"gradient {name}": parameter.grad for name, parameter in self.twin.parameters.items()}
        return {name: numbers(one) for name, one in {"output": output, "dL_dinput": images.grad, **of}.items()}

    def steps(self) -> Results:
        """Return the losses of all steps, and the parameters and running statistics behind them."""
        results = {}
        for step, batch in enumerate(batches(self.case)):
            _, loss = self.loss(*batch)
            results[f"loss {step}"] = numbers(loss)
            if self.optimizer is not None:
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
        results |= {f"parameter {name}": numbers(parameter) for name, parameter in self.twin.parameters.items()}
        for number, statistics in enumerate(self.twin.statistics.values()):
            for name, one in zip(("running_mean", "running_var"), statistics, strict=True):
                results[f"state {name}, number {number}"] = numbers(one)
        return results

    def predictions(self) -> Results:
        """Return what the trained network predicts, and the loss of it."""
        self.twin.training = False
        output, loss = self.loss(*last(self.case))
        predicted = {name: numbers(output) for name in ("prediction", "prediction, one by one")}
        return {**predicted, "evaluation": numbers(loss)}

    def results(self) -> Results:
        """Return all results."""
        with one_thread():
            return {**self.gradients(), **self.steps(), **self.predictions()}


@contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch compute by one thread: several spend many times as long waiting for each other on busy cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def numbers(one: Tensor) -> np.ndarray:
    """Return a copy of a tensor as an array."""
    return np.array(one.detach().numpy())


def witnessed(found: Expected) -> Expected:
    """Return the same expectation with PyTorch's numbers, and room for its roundings besides the engine's."""
    theirs = Witness(found.case).results()
    exact = {name: theirs[name] for name in found.exact}
    return found._replace(exact=exact, tolerance={name: 2 * one for name, one in found.tolerance.items()})


def check(case: Case) -> str:
    """Assert that fastcnn and PyTorch agree on a case; return why not all could be compared, or nothing."""
    (found,) = expectations(case)
    compare(witnessed(found))
    return found.end


def main() -> int:
    """Check the networks of many seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0:200", help="FIRST:END, or one")
    first, _, end = parser.parse_args().seeds.partition(":")
    cases = [case_of(seed) for seed in range(int(first), int(end) if end else int(first) + 1)]
    wrong = undecided = 0
    compared = [case for case in cases if not lacks(case)]
    for case in compared:
        try:
            undecided += bool(check(case))
        except Exception as error:
            wrong += 1
            sys.stdout.write(f"{type(error).__name__}: {error}\n")
            sys.stdout.flush()
    sys.stdout.write(
        f"{len(compared)} networks: {wrong} wrong, {undecided} not compared to the end; "
        f"{len(cases) - len(compared)} have layers that PyTorch lacks\n"
    )
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
