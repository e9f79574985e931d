"""PyTorch's training step."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import torch
from torch import nn

from ..networks import LEARNING_RATE, Network, Place, batches, initial_parameters, places
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


def _model(network: Network) -> nn.Sequential:
    """Return PyTorch's twin of a network, with the initial parameters."""
    start = {key: torch.from_numpy(value) for key, value in initial_parameters(network).items()}
    modules = []
    for place in places(network):
        modules += _twin(place)
        if f"{place.key}.biases" in start:
            filters, weights = start.get(f"{place.key}.filters"), start.get(f"{place.key}.weights")
            modules[-1].weight.data.copy_(filters if weights is None else weights.T)
            modules[-1].bias.data.copy_(start[f"{place.key}.biases"])
    return nn.Sequential(*modules)


def _twin(place: Place) -> list[nn.Module]:
    """Return the modules that are a layer's twin; the parameters are the last one's."""
    arguments: dict[str, Any] = place.layer.arguments
    match place.layer.kind:
        case "Conv2D":
            filters, size = arguments["num_filters"], arguments["filter_size"]
            return [nn.Conv2d(place.before[0], filters, size, padding=arguments["padding"])]
        case "ReLU":
            return [nn.ReLU()]
        case "MaxPool2" | "MaxPool2D":  # behind a ReLU their ties differ at zeros only, which pass no gradient on
            return [nn.MaxPool2d(2)]
        case "Flatten":
            return [nn.Flatten()]
        case "Dense":
            return [nn.Linear(place.before[0], arguments["nodes"])]
        case "Softmax":
            return [nn.Flatten(), nn.Linear(arguments["input_len"], arguments["nodes"])]
    raise ValueError(f"no twin in PyTorch is known for {place.layer}")
