"""PyTorch's twin of a whole training: the same network from the same weights, the same batches, rule and schedule."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import nn

from fastcnn import SGD, BatchNorm, Conv2D, Dense, Flatten, GlobalAvgPool2D, MaxPool2D, ReLU, Residual, Trainer
from fastcnn.layers.base import Layer
from fastcnn.typing import Array


class Twin:
    """A network in PyTorch, as a built trainer of fastcnn has it before its first step.

    Parameters
    ----------
    trainer : Trainer
        With `SGD` and a schedule.
    label_smoothing : float
    channels_last : bool
        The memory order of images and filters.
    """

    def __init__(self, trainer: Trainer, label_smoothing: float, channels_last: bool, threads: int) -> None:
        torch.set_num_threads(threads)
        rule, model = trainer.optimizer, trainer.model
        assert model.input_shape is not None
        if not isinstance(rule, SGD) or trainer.schedule is None:
            raise TypeError(f"expected a trainer with SGD and a schedule; got {rule.name}")
        self.order = torch.channels_last if channels_last else torch.contiguous_format
        self.model = _row(model.layers, "", model.parameters, model.input_shape[0]).to(memory_format=self.order)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), rule.learning_rate, rule.momentum, weight_decay=rule.weight_decay,
            nesterov=rule.nesterov, fused=True,
        )  # fmt: skip
        self.schedule, self.label_smoothing, self.steps = trainer.schedule, label_smoothing, 0

    def train(self, batches: Iterable[tuple[Array, Array]]) -> float:
        """Take a step on each batch, and return the seconds; the making of the batches does not count."""
        self.model.train()
        seconds = 0.0
        for x, y in batches:
            images, classes = self._images(x), torch.from_numpy(y)
            began = time.perf_counter()
            self.optimizer.param_groups[0]["lr"] = self.schedule(self.steps)
            loss = nn.functional.cross_entropy(self.model(images), classes, label_smoothing=self.label_smoothing)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.last_loss = loss.item()
            seconds, self.steps = seconds + time.perf_counter() - began, self.steps + 1
        return seconds

    def accuracy(self, X: Array, y: Array) -> float:
        """Return the share of the images that it has right."""
        self.model.eval()
        with torch.no_grad():
            found = [self.model(self._images(X[i : i + 500])).argmax(1).numpy() for i in range(0, len(X), 500)]
        return float(np.mean(np.concatenate(found) == y))

    def _images(self, x: Array) -> torch.Tensor:
        images = x.astype(np.float32) / np.float32(255) if x.dtype == np.uint8 else x.copy()
        return torch.from_numpy(images).contiguous(memory_format=self.order)


def _row(layers: Iterable[Layer], prefix: str, parameters: Mapping[str, Array], channels: int) -> nn.Sequential:
    """Return the twins of layers in a row; `parameters` holds theirs under names that begin with `prefix`."""
    modules = []
    for place, layer in enumerate(layers):
        module, channels = _twin(layer, f"{prefix}{place}.", parameters, channels)
        modules.append(module)
    return nn.Sequential(*modules)


def _twin(layer: Layer, prefix: str, parameters: Mapping[str, Array], channels: int) -> tuple[nn.Module, int]:
    """Return the module that is a layer's twin, and how many channels or numbers come out of it."""
    own = {name.removeprefix(prefix): torch.tensor(array) for name, array in parameters.items()
           if name.startswith(prefix)}  # fmt: skip
    module: nn.Module
    match layer:
        case Conv2D():
            filters = own["filters"]
            module = nn.Conv2d(channels, len(filters), filters.shape[2:], layer.stride, layer.padding, bias=layer.bias)
            module.weight.data, channels = filters, len(filters)
        case Dense():
            module = nn.Linear(*own["weights"].shape)
            module.weight.data, channels = own["weights"].T.contiguous(), own["weights"].shape[1]
        case BatchNorm():
            module = nn.BatchNorm2d(channels, layer.epsilon, layer.momentum)
        case ReLU():
            module = nn.ReLU(inplace=True)
        case MaxPool2D():
            module = nn.MaxPool2d(2)
        case GlobalAvgPool2D():
            module = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        case Flatten():
            module = nn.Flatten()
        case Residual(shortcut=None):
            module = _Residual(_row(layer.layers, f"{prefix}layers.", parameters, channels))
        case _:
            raise ValueError(f"no twin in PyTorch is known for {layer.name}")
    if "biases" in own:
        module.bias.data = own["biases"]
    return module, channels


class _Residual(nn.Module):
    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.inside(x)
