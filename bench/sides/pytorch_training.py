"""PyTorch's twin of a whole training: the same network from the same weights, the same batches, rule and schedule."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from math import prod

import numpy as np
import torch
from torch import nn

from fastcnn import (
    GELU,
    SGD,
    BatchNorm,
    Conv2D,
    Dense,
    Flatten,
    GlobalAvgPool2D,
    Lookahead,
    MaxPool2D,
    ReLU,
    Residual,
    Scale,
    Trainer,
)
from fastcnn.data.viewing import as_views, predict_views
from fastcnn.layers.base import Layer
from fastcnn.typing import Array


class Twin:
    """A network in PyTorch, as a built trainer of fastcnn has it before its first step.

    Parameters
    ----------
    trainer : Trainer
        With `SGD`, whose groups of parameters are known, and a schedule; `Lookahead` is known too.
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
        factors = {} if rule.groups is None else rule.groups
        groups = [
            {"params": [parameter], "factors": [own for pattern, own in factors.items() if fnmatchcase(name, pattern)]}
            for name, parameter in _trained(self.model)
        ]
        self.optimizer = torch.optim.SGD(
            groups,
            rule.learning_rate,
            rule.momentum,
            weight_decay=rule.weight_decay,
            nesterov=rule.nesterov,
            fused=True,
        )
        self.schedule, self.label_smoothing, self.steps = trainer.schedule, label_smoothing, 0
        self.weight_decay, self.lookahead = rule.weight_decay, trainer.ema
        self.slow = {name: tensor.clone() for name, tensor in self._floats()} if trainer.ema else {}

    def train(self, batches: Iterable[tuple[Array, Array]]) -> float:
        """Take a step on each batch, and return the seconds; the making of the batches does not count."""
        self.model.train()
        seconds = 0.0
        for x, y in batches:
            images, classes = self._images(x), torch.from_numpy(y)
            began = time.perf_counter()
            self._take_rates()
            loss = nn.functional.cross_entropy(self.model(images), classes, label_smoothing=self.label_smoothing)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.last_loss, self.steps = loss.item(), self.steps + 1
            if self.steps == 1:  # slow statistics begin as those of the first step
                self.slow.update({name: tensor.clone() for name, tensor in self._floats() if "running" in name})
            if isinstance(self.lookahead, Lookahead) and self.steps % self.lookahead.every == 0:
                self._look_ahead(self.lookahead)
            seconds += time.perf_counter() - began
        return seconds

    def _take_rates(self) -> None:
        """Set learning rate and weight decay of each group for the next step."""
        for group in self.optimizer.param_groups:
            rate, decay = (
                prod(
                    f(self.steps) if callable(f) else f for factors in group["factors"] for f in [factors.get(key, 1.0)]
                )
                for key in ("learning_rate", "weight_decay")
            )
            group["lr"], group["weight_decay"] = rate * self.schedule(self.steps), decay * self.weight_decay

    def _look_ahead(self, rule: Lookahead) -> None:
        """Let the slow weights and statistics go towards the fast ones, which go on from there."""
        alpha = rule.alpha(self.steps) if callable(rule.alpha) else rule.alpha
        with torch.no_grad():
            for name, tensor in self._floats():
                tensor.copy_(self.slow[name].lerp_(tensor, alpha))

    def _floats(self) -> Iterable[tuple[str, torch.Tensor]]:
        return [(name, tensor) for name, tensor in self.model.state_dict().items() if tensor.is_floating_point()]

    def accuracy(self, X: Array, y: Array, views: str | None = None) -> float:
        """Return the share of the images that it has right; by several views of each, as `Sequential.predict`."""
        self.model.eval()
        with torch.no_grad():
            found = [self._outputs(X[i : i + 500], views).argmax(1) for i in range(0, len(X), 500)]
        return float(np.mean(np.concatenate(found) == y))

    def _outputs(self, X: Array, views: str | None) -> Array:
        def predict(x: Array) -> Array:
            output: Array = self.model(self._images(x)).numpy()
            return output

        return predict_views(predict, X, as_views(views, "bench"), X.shape[1:], "bench") if views else predict(X)

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
            module.weight.requires_grad = layer._trains("filters")
        case Dense():
            module = nn.Linear(*own["weights"].shape, bias=layer.bias)
            module.weight.data, channels = own["weights"].T.contiguous(), own["weights"].shape[1]
        case BatchNorm():
            module = nn.BatchNorm2d(channels, layer.epsilon, layer.momentum)
            module.weight.requires_grad, module.bias.requires_grad = layer.scale, layer.center
        case ReLU():
            module = nn.ReLU(inplace=True)
        case GELU():
            module = nn.GELU(layer.approximate)
        case Scale():
            module = _Scale(layer)
        case MaxPool2D():
            module = nn.MaxPool2d(layer.pool_size, layer.stride)
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


def _trained(row: nn.Sequential) -> list[tuple[str, nn.Parameter]]:
    """Return the parameters that are trained, under fastcnn's names; inside of residual blocks as their own say."""
    ours = {nn.BatchNorm2d: {"weight": "gamma", "bias": "beta"}, nn.Conv2d: {"weight": "filters", "bias": "biases"}}
    return [
        (f"{place}.{ours.get(type(module), {'weight': 'weights', 'bias': 'biases'}).get(name, name)}", parameter)
        for place, module in enumerate(row)
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    ]


class _Scale(nn.Module):
    def __init__(self, layer: Scale) -> None:
        super().__init__()
        self.factor, self.shift = (torch.tensor(value, dtype=torch.float32) for value in (layer.factor, layer.shift))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shape = (-1, *[1] * (x.ndim - 2))
        return x * self.factor.reshape(shape) + self.shift.reshape(shape)


class _Residual(nn.Module):
    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.inside(x)
