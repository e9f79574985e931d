"""PyTorch's training step and prediction."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..networks import (
    LEARNING_RATE,
    Network,
    Place,
    batches,
    initial_parameters,
    parameter_shapes,
    places,
    pool_window,
    predicted_images,
    running_statistics,
)
from ..timing import Side, threads_text


def make(network: Network, threads: int, channels_last: bool = False, compiled: bool = False) -> Side:
    """Return the step.

    The update is one `_foreach_add_`: the quickest of that, a plain loop and `torch.optim.SGD` with `foreach=False`,
    `foreach=True` and `fused=True`, which cost a small network another 5 to 20 %.
    """
    torch.set_num_threads(threads)
    order = torch.channels_last if channels_last else torch.contiguous_format
    model = _model(network).to(memory_format=order)
    parameters = list(model.parameters())
    supply = itertools.cycle(
        [(torch.from_numpy(x).contiguous(memory_format=order), torch.from_numpy(y)) for x, y in batches(network)]
    )

    def forward(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(model(x), y)

    if compiled:
        torch._dynamo.config.recompile_limit = 64  # it counts all networks and settings, for they share this code
        forward = torch.compile(forward)

    def step() -> float:
        loss = forward(*next(supply))
        loss.backward()
        with torch.no_grad():
            torch._foreach_add_(parameters, [p.grad for p in parameters], alpha=-LEARNING_RATE)
        for parameter in parameters:
            parameter.grad = None  # zero_grad(set_to_none=True)
        return loss.item()

    name = f"torch {'channels_last' if channels_last else 'NCHW'}{' compiled' if compiled else ''}"
    return Side(f"{name}, {threads_text(threads)}", step, threads, partial(torch.set_num_threads, threads))


def predictor(network: Network, threads: int, channels_last: bool, folded: bool, compiled: bool) -> Side:
    """Return the prediction of a batch in `inference_mode`; if `folded`, normalisations lie in the convolutions."""
    torch.set_num_threads(threads)
    order = torch.channels_last if channels_last else torch.contiguous_format
    model = _model(network)
    state = {key: torch.from_numpy(value) for key, value in running_statistics(network).items()}
    model.load_state_dict({**model.state_dict(), **state})
    model = model.eval()
    if folded:
        _fold(model)
    model = model.to(memory_format=order)
    images = torch.from_numpy(predicted_images(network)).contiguous(memory_format=order)
    forward = torch.compile(model) if compiled else model

    def predict() -> torch.Tensor:
        with torch.inference_mode():
            return forward(images)

    words = ["torch", "channels_last" if channels_last else "NCHW"] + ["folded"] * folded + ["compiled"] * compiled
    return Side(
        f"{' '.join(words)}, {threads_text(threads)}", predict, threads, partial(torch.set_num_threads, threads)
    )


def _fold(model: nn.Module) -> None:
    """Let the normalisations behind convolutions be part of them, in place."""
    if isinstance(model, nn.Sequential):
        for k, (first, second) in enumerate(itertools.pairwise(list(model))):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                model[k], model[k + 1] = fuse_conv_bn_eval(first, second), nn.Identity()
    for module in model.children():
        _fold(module)


def _model(network: Network) -> nn.Sequential:
    """Return PyTorch's twin of a network, with the initial parameters."""
    return _row(places(network), {key: torch.from_numpy(value) for key, value in initial_parameters(network).items()})


def _row(row: Sequence[Place], start: dict[str, torch.Tensor]) -> nn.Sequential:
    """Return the twin of layers in a row."""
    modules: list[nn.Module] = []
    for place in row:
        modules += [_Residual(place, start)] if place.inside else _twin(place)
        for name, parameter in ((name, _PARAMETERS[name]) for name in parameter_shapes(place)):
            value = start[f"{place.key}.{name}"]
            getattr(modules[-1], parameter).data.copy_(value.T if name == "weights" else value)
    return nn.Sequential(*modules)


_PARAMETERS = {"filters": "weight", "weights": "weight", "gamma": "weight", "biases": "bias", "beta": "bias"}


class _Residual(nn.Module):
    """A row of layers and the identity, or every s-th pixel and zeros for the channels that are missing."""

    def __init__(self, place: Place, start: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.layers = _row(place.inside, start)
        self.stride, self.missing = place.before[1] // place.after[1], place.after[0] - place.before[0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        short = x
        if self.missing:
            short = nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.missing))
        return self.layers(x) + short


def _twin(place: Place) -> list[nn.Module]:
    """Return the modules that are a layer's twin; the parameters are the last one's."""
    arguments: dict[str, Any] = place.layer.arguments
    match place.layer.kind:
        case "Conv2D" | "DepthwiseConv2D" as kind:
            keywords = {"stride": arguments.get("stride", 1), "padding": arguments["padding"]}
            keywords |= {"bias": arguments.get("bias", True), "groups": place.before[0] if kind[0] == "D" else 1}
            return [nn.Conv2d(place.before[0], place.after[0], arguments["filter_size"], **keywords)]
        case "BatchNorm":
            return [nn.BatchNorm2d(place.before[0])]  # momentum 0.1 and epsilon 1e-5, as ours
        case "ReLU":
            return [nn.ReLU()]
        case "GELU":
            return [nn.GELU()]
        case "MaxPool2" | "MaxPool2D":  # behind a ReLU their ties differ at zeros only, which pass no gradient on
            return [nn.MaxPool2d(*pool_window(place.layer))]
        case "GlobalAvgPool2D":
            return [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        case "Flatten":
            return [nn.Flatten()]
        case "Dense":
            return [nn.Linear(place.before[0], arguments["nodes"])]
        case "Softmax":
            return [nn.Flatten(), nn.Linear(arguments["input_len"], arguments["nodes"])]
    raise ValueError(f"no twin in PyTorch is known for {place.layer}")
