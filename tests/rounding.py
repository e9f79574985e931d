"""The specification with roundings: how far results may lie apart because numbers have so many bits, and no further.

A layer of the reference computes in float64. Here it computes as if each of its results had been rounded in the worst
way that the sum behind it allows. A sum of n products that is computed in a precision with unit roundoff u lies, with
near certainty, within

    4 · √n · u · Σ |a_k · b_k|

of the exact one (Higham and Mary 2019, "A new approach to probabilistic rounding error analysis", theorem 2.4: the
probability of more is below 2·exp(−8) even if all roundings conspire in size). Σ |a_k · b_k| is what the same layer
computes from absolute values. Each result is moved by plus or minus that, at random, and the layers behind carry it on,
so that what comes out at the end of a network has moved as its own condition wants it: much behind a normalisation of
nearly equal numbers, nothing in the numbers that a dead unit leaves at zero.

Where the result of a comparison changes, a ReLU or the maximum of a window, a derivative jumps, and rounding decides
which side is right: a kink. `kink` tells whether one is nearer than four times what the roundings move.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

import reference
from tests.bounds import TRANSFORMS, winograd_sums

LIKELY = 4.0  # times √n
NEAR = 4.0  # times what the roundings move a number
LINEAR = {
    "Conv2D", "Conv2DTranspose", "DepthwiseConv2D", "SeparableConv2D", "Dense", "AvgPool2D", "GlobalAvgPool2D",
    "UpSample2D",
}  # fmt: skip
SMOOTH = {"CELU", "ELU", "GELU", "HardSigmoid", "HardSwish", "Mish", "SiLU", "Sigmoid", "Softplus", "Tanh"}
KINKS = {  # where the numbers of a layer's input are compared
    **dict.fromkeys(("ReLU", "LeakyReLU", "ELU", "PReLU"), lambda layer: (0.0,)),
    **dict.fromkeys(("HardSigmoid", "HardSwish"), lambda layer: (-3.0, 3.0)),
    "ReLU6": lambda layer: (0.0, 6.0), "Softplus": lambda layer: (layer.threshold / layer.beta,),
}  # fmt: skip
EXACT = {"MaxPool2", "MaxPool2D", "GlobalMaxPool2D", "ReLU", "ReLU6", "Flatten", "Pad"}  # forward
ALONE = SMOOTH | {"LeakyReLU", "PReLU", "Dropout", "Scale", "SpatialDropout2D"}
MAXIMA = {"MaxPool2", "MaxPool2D", "GlobalMaxPool2D"}
NORMS = {"BatchNorm", "GroupNorm", "LayerNorm"}

Array = np.ndarray


class Rounding:
    """Roundings to a dtype, drawn by a generator; none without one. It notes down what was compared on the way.

    Attributes
    ----------
    compared : list of (str, array)
        By whom, and numbers that were compared with each other, along the last axis, in the order of the comparisons.
    """

    def __init__(self, dtype: Any, generator: np.random.RandomState | None = None) -> None:
        self.u, self.generator = float(np.finfo(dtype).eps) / 2, generator
        self.compared: list[tuple[str, Array]] = []

    def __call__(self, exact: Array, scale: Array | float) -> Array:
        """Return results that are moved by ± u · scale."""
        if self.generator is None:
            return exact
        return np.asarray(exact + self.u * scale * self.generator.choice((-1.0, 1.0), size=exact.shape))

    def alike(self, exact: Array, scale: Array | float) -> Array:
        """Return the same, equal numbers being moved alike: results of a function of each number by itself."""
        if self.generator is None:
            return exact
        values, place = np.unique(exact, return_inverse=True)
        signs = self.generator.choice((-1.0, 1.0), size=values.size)[place.reshape(exact.shape)]
        return np.asarray(exact + self.u * scale * signs)

    def compare(self, where: str, x: Array, y: Array | float = 0.0) -> None:
        """Note down that each number of x is compared with that of y."""
        self.compared.append((where, np.stack([x, np.broadcast_to(np.asarray(y, np.float64), x.shape)], axis=-1)))

    def compare_all(self, where: str, windows: Array) -> None:
        """Note down that the numbers along the last axis are compared with the largest of them."""
        self.compared.append((where, windows))


def kink(exact: Rounding, others: list[Rounding]) -> str:
    """Return where roundings may change the result of a comparison; nothing if they cannot. Forget the comparisons.

    Numbers that are equal, and stay so whatever is rounded, are equal everywhere: zeros behind a ReLU, pixels that are
    copies of each other.
    """
    compared = list(zip(*(rounding.compared for rounding in (exact, *others)), strict=True))
    for rounding in (exact, *others):
        rounding.compared = []
    for (where, values), *moved_values in compared:
        first = values.argmax(axis=-1)[..., None]
        with np.errstate(invalid="ignore"):  # the padding of a maximum is -inf
            gap, *rounded = (
                np.take_along_axis(numbers, first, -1) - numbers
                for numbers in (values, *(numbers for _, numbers in moved_values))
            )
            moved = [np.abs(one - gap) for one in rounded]
        within = np.isfinite(gap) & (np.arange(values.shape[-1]) != first)
        margin = NEAR * max((one[within].max(initial=0) for one in moved), default=0.0)
        same = (gap == 0) & np.all([one == 0 for one in rounded], axis=0)
        near = within & ~same & (gap <= margin)
        if near.any():
            return f"{near.sum()} of {near.size} comparisons of {where} are within {margin:.2g}"
    return ""


def walk(layers: list[Any]) -> Iterator[Any]:
    """Yield all layers, those inside others before these."""
    for layer in layers:
        if type(layer).__name__ == "Residual":
            yield from walk([*layer.layers, *(layer.shortcut if isinstance(layer.shortcut, list) else [])])
        if type(layer).__name__ == "Concat":
            for branch in layer.branches:
                yield from walk(branch)
        yield layer


def attach(layers: list[Any], rounding: Rounding) -> None:
    """Let layers of the reference compute with these roundings, and note down their comparisons."""
    for layer in walk(layers):
        forward, backward = layer._forward, layer._backward
        layer._forward = _Forward(layer, forward, rounding)
        layer._backward = _Backward(layer, backward, rounding)


class _Forward:
    """A layer's forward, rounded."""

    def __init__(self, layer: Any, exact: Callable[[Array], Array], rounding: Rounding) -> None:
        self.layer, self.exact, self.rounding = layer, exact, rounding

    def __call__(self, x: Array) -> Array:
        name, layer, rounding = type(self.layer).__name__, self.layer, self.rounding
        if name in KINKS:
            for bound in KINKS[name](layer):
                rounding.compare(name, x, bound)
        elif name in MAXIMA:
            rounding.compare_all(name, _windows(layer, x))
        y = self.exact(x)
        if rounding.generator is None:
            return y
        if name == "BatchNorm" and layer._by_batch:
            sums = LIKELY * np.sqrt(x[:, 0].size) * layer.momentum
            xs = np.moveaxis(x, 1, 0).reshape(x.shape[1], -1)
            layer.running_mean = rounding(layer.running_mean, sums * np.abs(xs).mean(axis=1))
            layer.running_var = rounding(layer.running_var, 2 * sums * (xs * xs).mean(axis=1))
        rounded = rounding.alike if name in ALONE else rounding
        return rounded(y, self.scale(name, x, y))

    def scale(self, name: str, x: Array, y: Array) -> Array | float:
        """Return how much the results are moved at most, in units of u."""
        layer = self.layer
        if name in LINEAR:
            size, n = magnitude(layer, x)
            size = size * LIKELY * np.sqrt(n)
            return np.maximum(size, winograd(layer, x, y)[0]) if is_winograd(layer) else size
        if name in NORMS:
            return _norm_scale(layer, x)
        if name == "Scale":
            factor, shift = (np.abs(layer._by_channel(value, x)) for value in (layer.factor, layer.shift))
            return 2 * (factor * np.abs(x) + shift)
        if name in SMOOTH:
            return 8 * (np.abs(y) + np.minimum(np.abs(x), 1))
        if name == "SoftmaxActivation":
            return 8 * y * (1 + x.max(axis=1, keepdims=True) - x)
        if name == "Softmax":
            flat = x.reshape(len(x), -1)
            logits = flat @ layer.weights + layer.biases
            moved = np.abs(flat) @ np.abs(layer.weights) + np.abs(layer.biases)
            moved = LIKELY * np.sqrt(flat.shape[1] + 1) * moved.max(axis=1, keepdims=True)
            return y * (2 * moved + 8 * (1 + logits.max(axis=1, keepdims=True) - logits))
        return 0.0 if name in EXACT else 2 * np.abs(y)


class _Backward:
    """A layer's backward, rounded."""

    def __init__(self, layer: Any, exact: Callable[[Array, Array], Array], rounding: Rounding) -> None:
        self.layer, self.exact, self.rounding = layer, exact, rounding

    def __call__(self, x: Array, dy: Array) -> Array:
        dx = self.exact(x, dy)
        rounding, name, layer = self.rounding, type(self.layer).__name__, self.layer
        if rounding.generator is None:
            return dx
        if name in LINEAR | {"Softmax", "Pad"}:
            return self.linear(x, dy, dx)
        if name == "PReLU":
            return self.slopes(x, dy, dx)
        if name in NORMS:
            return self.norm(x, dy, dx)
        if name in SMOOTH:
            return rounding(dx, 16 * np.abs(dy))
        if name == "SoftmaxActivation":
            p = layer.last_output
            size = np.abs(dy) + np.sum(p * np.abs(dy), axis=1, keepdims=True)
            return rounding(dx, LIKELY * np.sqrt(x.shape[1]) * p * size)
        if name in MAXIMA:
            return rounding(dx, LIKELY * 4 * self.exact(x, np.abs(dy)))
        return rounding(dx, 2 * np.abs(dx))

    def linear(self, x: Array, dy: Array, dx: Array) -> Array:
        """Round all gradients of a layer that is a sum of products."""
        layer = self.layer
        twin = absolute(layer)
        back = twin._backward(np.abs(x), np.abs(dy))
        terms = LIKELY * np.sqrt(dy.size // dy.shape[1] + 8)
        sizes = {name: terms * gradient for name, gradient in twin.gradients.items()}
        fan = max([parameter.size for parameter in layer.parameters.values()] or [16]) / x.shape[1]
        size = LIKELY * np.sqrt(fan + 8) * back
        if is_winograd(layer):
            _, of_input, of_filters = winograd(layer, x, dy)
            size, sizes["filters"] = np.maximum(size, of_input), np.maximum(sizes["filters"], of_filters)
        for name, gradient in layer.gradients.items():
            gradient[...] = self.rounding(gradient, sizes[name])
        return self.rounding(dx, size)

    def slopes(self, x: Array, dy: Array, dx: Array) -> Array:
        """Round the gradients of a layer with trained slopes."""
        gradient, below = self.layer.gradients["negative_slope"], np.abs(np.minimum(x, 0) * dy)
        others = tuple(axis for axis in range(x.ndim) if axis != 1 or gradient.size == 1)
        terms = LIKELY * np.sqrt(x.size // gradient.size + 8)
        gradient[...] = self.rounding(gradient, terms * below.sum(axis=others))
        return self.rounding(dx, 2 * np.abs(dx))

    def norm(self, x: Array, dy: Array, dx: Array) -> Array:
        """Round all gradients of a normalisation."""
        layer, shape = self.layer, x.shape
        xs, dys = _grouped(layer, x), _grouped(layer, np.abs(_by_channel(_scale_or_shift(layer, "gamma"), x) * dy))
        deviation = np.sqrt(xs.var(axis=1, keepdims=True) + layer.epsilon)
        normal = (np.abs(xs) + np.abs(xs).mean(axis=1, keepdims=True)) / deviation
        size = (dys + dys.mean(axis=1, keepdims=True) + normal * (dys * normal).mean(axis=1, keepdims=True)) / deviation
        n = LIKELY * np.sqrt(xs.shape[1] + 8)
        others = (0,) if type(layer).__name__ == "LayerNorm" else (0, 2, 3)[: x.ndim - 1]
        summed = dy.size // int(np.prod([shape[axis] for axis in range(len(shape)) if axis not in others]))
        terms = LIKELY * np.sqrt(summed + 8)
        sizes = {"gamma": np.abs(dy) * _ungrouped(layer, normal, shape), "beta": np.abs(dy)}
        for name, gradient in layer.gradients.items():
            gradient[...] = self.rounding(gradient, terms * sizes[name].sum(axis=others))
        return self.rounding(dx, n * _ungrouped(layer, size, shape))


def absolute(layer: Any) -> Any:
    """Return a twin of a layer of the reference, with the absolute values of its parameters."""
    twin = copy.copy(layer)
    for name in ("_forward", "_backward"):
        vars(twin).pop(name, None)
    twin.parameters = {name: np.abs(parameter) for name, parameter in layer.parameters.items()}
    twin.gradients = {name: np.zeros_like(parameter) for name, parameter in layer.parameters.items()}
    return twin


def magnitude(layer: Any, x: Array) -> tuple[Array, int]:
    """Return the sums of absolute products, and the number of terms; zero where no product is other than zero."""
    twin = absolute(layer)
    biases = twin.parameters.get("biases")
    if biases is not None:
        without, biases = np.zeros_like(biases), biases.copy()
        twin.parameters["biases"] = without
    size = twin._forward(np.abs(x))
    if biases is not None:
        size = size + (size > 0) * _by_channel(biases, size)
    kernels = [parameter for name, parameter in twin.parameters.items() if not name.endswith("biases")]
    terms = sum(parameter.size for parameter in kernels) // max(1, size.shape[1]) if kernels else 16
    return size, terms + 8


def winograd(layer: Any, x: Array, dy: Array) -> tuple[Array, Array, Array]:
    """Return how much Winograd's algorithm moves output, input gradient and filter gradient, in units of u.

    A term goes through transforms: roundings that are independent of each other add up as the root of the sum of their
    squares, which is the same route through the squares of all matrices and numbers.
    """
    filters = layer.parameters["filters"]
    by = TRANSFORMS["winograd4" if filters.shape[-1] == 3 else "winograd", filters.shape[-1]]
    squared = replace(by, a_t=by.a_t**2, b_t=by.b_t**2, g=by.g**2)
    padding = layer._window(x.shape[2:]).padding
    sizes = winograd_sums(squared, filters**2, x**2, dy**2, padding)
    n = 2 * sum(by.rounds.values()) + len(by.offsets) ** 2 * max(filters.shape[:2]) + dy[:, 0].size // by.tile**2
    output, dx, dw = (LIKELY * np.sqrt(n) * np.sqrt(size) for size in sizes)
    return output, dx, dw


def is_winograd(layer: Any) -> bool:
    """Tell whether Winograd's algorithm may compute a layer."""
    return isinstance(layer, reference.Conv2D) and (
        layer.filter_size in ((3, 3), (5, 5), (7, 7))
        and (layer.stride, layer.dilation, layer.groups) == ((1, 1), (1, 1), 1)
    )


def _by_channel(parameter: Array, x: Array) -> Array:
    """Return a parameter as it meets x: one number a channel, or one for each number of a sample."""
    return parameter.reshape(-1, *[1] * (x.ndim - 2)) if parameter.ndim == 1 else parameter


def _grouped(layer: Any, x: Array) -> Array:
    """Return x with an axis of what is normalised together: (groups, numbers)."""
    name = type(layer).__name__
    if name == "BatchNorm":
        return np.moveaxis(x, 1, 0).reshape(x.shape[1], -1)
    return x.reshape(len(x) * (layer.num_groups if name == "GroupNorm" else 1), -1)


def _ungrouped(layer: Any, groups: Array, shape: tuple[int, ...]) -> Array:
    """Return groups in the shape of x."""
    if type(layer).__name__ == "BatchNorm":
        return np.moveaxis(groups.reshape(shape[1], shape[0], *shape[2:]), 0, 1)
    return groups.reshape(shape)


def _scale_or_shift(layer: Any, name: str) -> Array:
    """Return gamma or beta; what they stand for, where the layer has none."""
    return np.asarray(layer.parameters.get(name, np.full(1, float(name == "gamma"))))


def _norm_scale(layer: Any, x: Array) -> Array:
    """Return how much the results of a normalisation are moved, in units of u."""
    gamma, beta = (np.abs(_by_channel(_scale_or_shift(layer, name), x)) for name in ("gamma", "beta"))
    if type(layer).__name__ == "BatchNorm" and not layer._by_batch:
        scale, mean = _by_channel(1 / np.sqrt(layer.running_var + layer.epsilon), x), _by_channel(layer.running_mean, x)
        return np.asarray(8 * (gamma * scale * (np.abs(x) + np.abs(mean)) + beta))
    groups = _grouped(layer, x)
    deviation = np.sqrt(groups.var(axis=1, keepdims=True) + layer.epsilon)
    size = (np.abs(groups) + np.abs(groups).mean(axis=1, keepdims=True)) / deviation
    n = LIKELY * np.sqrt(groups.shape[1] + 8)
    return np.asarray(n * (gamma * _ungrouped(layer, size, x.shape) + beta))


def _windows(layer: Any, x: Array) -> Array:
    """Return the numbers of each window in a last axis."""
    if isinstance(layer, reference.GlobalMaxPool2D):
        return x.reshape(*x.shape[:2], -1)
    size, stride, padding = (2, 2), (2, 2), (0, 0)
    if isinstance(layer, reference.MaxPool2D):
        size, stride, padding = layer.pool_size, layer.stride, layer.padding
    padded = np.pad(x, ((0, 0), (0, 0), *((p, p) for p in padding)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, size, axis=(2, 3))[:, :, :: stride[0], :: stride[1]]
    return windows.reshape(*windows.shape[:4], -1)
