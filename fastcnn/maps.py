"""Feature maps: the output of every layer of a model in prediction, the layers inside residual blocks too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from .layers.base import Layer
from .layers.container import Container
from .layers.segment import Segment
from .prediction import Predictor, images_in_cache
from .typing import Array, Shape


def places(model: Container) -> dict[str, Layer]:
    """Return the layers of a model by place, "0", "1", "1.layers.0", ...: the prefixes of their parameters' names."""
    return dict(_places(model, ""))


def _places(model: Container, prefix: str) -> Iterator[tuple[str, Layer]]:
    for place, layer in model._children():
        yield prefix + place, layer
        if isinstance(layer, Container):
            yield from _places(layer, f"{prefix}{place}.")


def shapes(model: Container) -> dict[str, Shape]:
    """Return the output shapes of the layers of a built model by place."""
    assert model.input_shape is not None
    return dict(_shapes(model, model.input_shape, ""))


def _shapes(model: Container, input_shape: Shape, prefix: str) -> Iterator[tuple[str, Shape]]:
    for (place, layer), (_, inside) in zip(model._children(), model._inner_shapes(input_shape), strict=True):
        yield prefix + place, layer.output_shape(inside)
        if isinstance(layer, Container):
            yield from _shapes(layer, inside, f"{prefix}{place}.")


def find_place(model: Container, wanted: Any, caller: str, argument: str = "layers") -> str:
    """Return the place of a layer: of a place as `places` has it, of a number in the row, or of a layer's own name.

    Raises
    ------
    TypeError, ValueError
        If `wanted` is none of them, or a name that several layers have.
    """
    known = places(model)
    if isinstance(wanted, str):
        if wanted in known:
            return wanted
        named = [place for place, layer in known.items() if layer._name == wanted]
        if len(named) == 1:
            return named[0]
        if named:
            raise ValueError(f"{caller}: {argument}: {wanted!r} is the name of several layers, at {', '.join(named)}")
        names = [layer._name for layer in known.values() if layer._name]
        raise ValueError(
            f"{caller}: {argument}: expected the place or the name of a layer, of {', '.join([*known, *names])}; "
            f"got {wanted!r}"
        )
    if isinstance(wanted, bool) or not hasattr(wanted, "__index__"):
        raise TypeError(f"{caller}: {argument}: expected the place (int or str) or the name of a layer; got {wanted!r}")
    number, row = int(wanted.__index__()), [place for place, _ in model._children()]
    if not -len(row) <= number < len(row):
        raise ValueError(f"{caller}: {argument}: expected a place from {-len(row)} to {len(row) - 1}; got {number}")
    return row[number]


class FeatureMaps:
    """Predictors of single layers, kept from call to call; for one call at a time.

    Attributes
    ----------
    flat : array
        The flat vector of the model that they are made for.
    """

    def __init__(self, model: Container) -> None:
        self.flat = model._flat
        self.predictors: dict[tuple[str, int], Predictor] = {}

    def outputs(
        self, model: Container, x: Array, wanted: Iterable[str], batch_size: int, threads: int
    ) -> dict[str, Array]:
        """Return the outputs of layers by place, for a batch that the model takes."""
        wanted, pieces = frozenset(wanted), dict[str, list[Array]]()
        for first in range(0, len(x), batch_size):
            for place, output in self._outputs(model, x[first : first + batch_size], "", wanted, threads):
                pieces.setdefault(place, []).append(output)
        return {place: found[0] if len(found) == 1 else np.concatenate(found) for place, found in pieces.items()}

    def _outputs(
        self, container: Container, x: Array, prefix: str, wanted: frozenset[str], threads: int
    ) -> Iterator[tuple[str, Array]]:
        """Yield the wanted outputs inside a container, place by place, for its input `x`."""
        for row in container._inner_rows():
            asked = [_inside(prefix + place, wanted) or prefix + place in wanted for place, _ in row]
            value, last = x, max((k for k, yes in enumerate(asked) if yes), default=-1)
            for k, (place, layer) in enumerate(row[: last + 1]):
                name, before = prefix + place, value
                if k < last or name in wanted:
                    value = self._output(name, layer, value, threads)
                if name in wanted:
                    yield name, value
                if isinstance(layer, Container) and _inside(name, wanted):
                    yield from self._outputs(layer, before, f"{name}.", wanted, threads)

    def _output(self, name: str, layer: Layer, x: Array, threads: int) -> Array:
        segment = Segment([layer], x.shape[1:], self.flat.dtype)
        images = 1 if len(x) == 1 else max(1, min(images_in_cache(segment), len(x)))
        images = 1 << (images.bit_length() - 1)
        predictor = self.predictors.get((name, images))
        if predictor is None:
            predictor = self.predictors[name, images] = Predictor(segment, images)
        return predictor.predict(x, threads)


def _inside(name: str, wanted: frozenset[str]) -> bool:
    """Tell whether a layer inside that of a place is wanted."""
    return any(one.startswith(f"{name}.") for one in wanted)


def chosen(model: Container, layers: Any, caller: str) -> dict[Any, str]:
    """Return what was asked for, and the place of each: all places where `layers` is None."""
    if layers is None:
        return {place: place for place in places(model)}
    alone = isinstance(layers, str) or not isinstance(layers, Sequence | set | frozenset | dict)
    return {one: find_place(model, one, caller) for one in ([layers] if alone else layers)}
