"""Kinks: where a network's layers or its loss have no slope, and how to move to a point that has one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from .layers.base import Layer
from .losses import Loss
from .typing import Array

FAR, NEAR = 1e-5, 1e-7  # steps: a bend of a smooth function shrinks with them, that of a kink does not
ROUNDING = 1e-9
DISPLACEMENT = 0.05  # relative to the root of the mean square of an array


class Kink(NamedTuple):
    """Outputs of a layer that are at a kink.

    Attributes
    ----------
    name : str
        Place and class of the layer, such as "1 (ReLU)"; "loss" for the losses of single samples.
    outputs : int
        How many outputs are at a kink.
    of : int
        How many outputs there are.
    """

    name: str
    outputs: int
    of: int


def kinked_outputs(layer: Layer, x: Array, generator: Any) -> Array:
    """Return which outputs of a layer are at a kink when its input and its parameters move, as booleans."""
    return kinked(lambda: layer.forward(x), [x, *layer.parameters.values()], generator)


def kinked_losses(loss: Loss, output: Array, y: Any, generator: Any) -> Array:
    """Return for which samples the loss is at a kink when the output moves, as booleans."""
    targets = np.asarray(y)
    rows = [slice(n, n + 1) for n in range(len(output))]
    return kinked(lambda: np.array([loss(output[row], targets[row]) for row in rows]), [output], generator)


def kinked(value: Callable[[], Array], arrays: Iterable[Array], generator: Any) -> Array:
    """Return which numbers of `value()` have no slope along random directions of the arrays that it depends on.

    At a kink the slopes ahead and behind, (f(p + h·v) - f(p)) / h and (f(p) - f(p - h·v)) / h, differ by as much for
    h = 1e-7 as for h = 1e-5; on a smooth function by a hundredth.
    """
    arrays = list(arrays)
    at = value()
    rounding = 1e-6 * (np.abs(at) + _size(at))
    found = np.zeros(at.shape, bool)
    for _ in range(2):  # along one direction a kink may hide
        directions = [_size(array) * generator.standard_normal(array.shape) for array in arrays]
        bends = []
        for step in (FAR, NEAR):
            ahead, behind = (_moved(value, arrays, directions, signed) - at for signed in (step, -step))
            bends.append(np.abs(ahead + behind) / step)
            slopes = (np.abs(ahead) + np.abs(behind)) / step
        found |= (bends[1] > 1e-5 * slopes + rounding) & (bends[1] > 0.1 * bends[0])
    return found


def displace(arrays: Iterable[Array], generator: Any) -> None:
    """Move to a point nearby, at random: kinks are left, as no two numbers are equal any more, and none is 0."""
    for array in arrays:
        array[...] += DISPLACEMENT * _size(array) * generator.standard_normal(array.shape)


def _moved(value: Callable[[], Array], arrays: list[Array], directions: list[Array], step: float) -> Array:
    """Return the value at another point, and leave the arrays as they were."""
    points = [array.copy() for array in arrays]
    for array, direction in zip(arrays, directions, strict=True):
        array[...] += step * direction
    moved = value()
    for array, point in zip(arrays, points, strict=True):
        array[...] = point
    return moved


def _size(array: Array) -> float:
    """Return the root of the mean square; 1 where all is 0, or what rounding has left of it."""
    size = float(np.sqrt(np.mean(np.square(array))))
    return size if size > ROUNDING else 1.0
