"""A node of a graph that is read: its attributes, constants, values and windows; and the errors that name it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from ..layers.base import Layer
from ..layers.shape import Flatten
from ..typing import Array, Shape
from .errors import StorageError
from .onnx_rows import Place, Value


class Node:
    """A node whose inputs are known.

    Attributes
    ----------
    operator, name : str
    attributes : dict of str to value
    inputs : list of Value, array or None
        Values, constants, and None for what is left out.
    sole : list of bool
        For each input, whether nothing else reads it.
    opset : int
    batch : int
        What stands for the number of samples in constant shapes.
    """

    def __init__(
        self, operator: str, name: str, attributes: dict[str, Any], inputs: list[Any], sole: list[bool], opset: int,
        batch: int,
    ) -> None:  # fmt: skip
        self.operator, self.name, self.attributes, self.inputs = operator, name, attributes, inputs
        self.sole, self.opset, self.batch = sole, opset, batch

    def __str__(self) -> str:
        return f"node {self.name!r} ({self.operator})"

    def refuse(self, why: str) -> NoReturn:
        """Raise an error that names the node."""
        raise StorageError(f"{self}: {why}")

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute; a word as str, a number as its shortest decimal in float32 says it: 0.1, 1e-05."""
        value = self.attributes.get(name, default)
        if isinstance(value, float):
            return float(str(np.float32(value)))
        return value.decode() if isinstance(value, bytes) else value

    def value(self, place: int = 0) -> Value:
        """Return an input that comes from the network."""
        given = self.inputs[place] if place < len(self.inputs) else None
        if not isinstance(given, Value):
            self.refuse(f"expected a value of the network as input {place}; got a constant")
        return given

    def constant(self, place: int, what: str, default: Any = None) -> Any:
        """Return an input that is a constant, or `default` where it is left out."""
        given = self.inputs[place] if place < len(self.inputs) else None
        if isinstance(given, Value):
            self.refuse(f"{what}: expected a constant; got a value that depends on the input")
        return default if given is None else given

    def number(self, place: int, what: str, default: float) -> float:
        """Return a constant that is one number."""
        array = np.asarray(self.constant(place, what, default))
        if array.size != 1:
            self.refuse(f"{what}: expected one number; got shape {array.shape}")
        return float(array.ravel()[0])

    def axes(self, place: int, rank: int) -> list[int] | None:
        """Return axes of an attribute or an input, counted from the batch, which is 0; None where there are none."""
        given = self.get("axes", self.constant(place, "axes") if len(self.inputs) > place else None)
        return None if given is None else [int(axis) % rank for axis in np.ravel(given)]

    def images(self) -> Place:
        """Return the place of an input of images, channels first; what was padded before comes as it is."""
        value = self.value()
        if len(value.place.shape) != 3 or value.axes != (0, 1, 2):
            self.refuse(f"expected images, channels first; got samples of shape {value.index.shape}")
        return value.place

    def images_in_any_order(self) -> tuple[Place, tuple[int, ...]]:
        """Return the place of an input of images, and the order of its axes: channels first or, as Keras, last."""
        value = self.value()
        order = value.axes if len(value.place.shape) == 3 == value.index.ndim else None
        if order is None:
            self.refuse(f"expected images; got samples of shape {value.index.shape}")
        return value.place, order

    def features(self, value: Value | None = None) -> Value:
        """Return an input of features."""
        value = value or self.value()
        if value.index.ndim != 1:
            self.refuse(f"expected features (N, D); got samples of shape {value.index.shape}")
        return flat(value, str(self))

    def behind(self, place: Place, layer: Layer, function: Any = None, **weights: Array) -> Place:
        """Return the place behind a layer.

        Raises
        ------
        StorageError
            If the layer does not take the shape that comes to it.
        """
        try:
            shape = layer.output_shape(place.shape)
        except (TypeError, ValueError) as error:
            self.refuse(str(error))
        return Place("layer", [place], tuple(shape), str(self), layer, weights, function)

    def make(self, kind: type, *arguments: Any, **keywords: Any) -> Any:
        """Return a layer; what its constructor complains of becomes an error that names the node."""
        try:
            return kind(*arguments, **keywords)
        except (TypeError, ValueError) as error:
            self.refuse(str(error))

    def spatial(self, name: str, default: int, rank: int = 2) -> tuple[int, ...]:
        """Return an attribute with a number for rows and one for columns."""
        values = tuple(int(value) for value in self.get(name, [default] * rank))
        if len(values) != rank:
            self.refuse(f"{name}: expected {rank} numbers, for images; got {list(values)}")
        return values


def flat(value: Value, node: str) -> Value:
    """Return a value of one axis whose place has one axis too."""
    if len(value.place.shape) == 1:
        return value
    layer = Flatten()
    shape = layer.output_shape(value.place.shape)
    return Value(Place("layer", [value.place], shape, node, layer), value.index)


def resolve_pads(node: Node, size: tuple[int, ...], span: tuple[int, ...], strides: tuple[int, ...]) -> list[list[int]]:
    """Return what stands before and after, in rows and in columns, as `pads` or `auto_pad` say."""
    automatic = node.get("auto_pad", "NOTSET")
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        pairs = []
        for k in range(2):
            total = max(0, (-(-size[k] // strides[k]) - 1) * strides[k] + span[k] - size[k])
            pairs.append([total // 2, total - total // 2])
            if automatic == "SAME_LOWER":
                pairs[-1].reverse()
        return pairs
    if automatic not in ("NOTSET", "VALID"):
        node.refuse(f"auto_pad: {automatic!r} is unknown")
    pads = node.spatial("pads", 0, 4) if automatic == "NOTSET" else (0, 0, 0, 0)
    if min(pads) < 0:
        node.refuse(f"pads: expected nothing to be cut off; got {list(pads)}")
    return [[pads[0], pads[2]], [pads[1], pads[3]]]


def layer_padding(pads: list[list[int]], size: Shape, span: tuple[int, ...], strides: tuple[int, ...]) -> Any:
    """Return the padding that a layer of ours has to have for the same windows, as short as it can be said.

    More behind than before is the same as long as no window more fits in.
    """

    def outputs(k: int, before: int, after: int) -> int:
        return (size[k] + before + after - span[k]) // strides[k] + 1

    if all(outputs(k, *pads[k]) == outputs(k, pads[k][0], pads[k][0]) for k in range(2)):
        return pads[0][0], pads[1][0]
    totals = [max(0, (-(-size[k] // strides[k]) - 1) * strides[k] + span[k] - size[k]) for k in range(2)]
    if pads == [[total // 2, total - total // 2] for total in totals]:
        return "same"
    return tuple(pads[0]), tuple(pads[1])


Read = Callable[[Node], Value]  # what reads the nodes of an operator
