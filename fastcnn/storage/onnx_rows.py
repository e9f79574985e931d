"""The network of a graph that is read: which layer stands behind which, and the rows and branches that they make.

What moves numbers about without a change, such as Reshape and Transpose, is no layer: a value of the graph is a place
in the network and an array that tells, for each of its numbers, which number of that place it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, reduce
from itertools import count, permutations
from typing import Any, Literal

import numpy as np

from ..layers.base import Layer
from ..layers.branches import Concat, Residual
from ..layers.pad import Pad
from ..ops.branches import strides_between
from ..typing import Array, IntArray, Shape
from .errors import StorageError

Kind = Literal["input", "layer", "add", "concat", "subsample", "channels", "padded", "other"]
_numbers = count()
DEEPEST = 12  # branches within branches: shapes are asked for again at each level
# Which orders of axes are meant where sizes of one leave several: channels first, channels last.
USUAL: dict[int, tuple[tuple[int, ...], ...]] = {3: ((0, 1, 2), (1, 2, 0))}
MOST = 1 << 25  # numbers of a sample anywhere in a network: sixteen channels of 1,448 x 1,448 pixels


@dataclass(eq=False)
class Place:
    """A place in the network: behind a layer, behind a sum, behind branches side by side.

    Attributes
    ----------
    shape : tuple of int
        Of a sample, (C, H, W) or (D,).
    node : str
        The node of the graph that it comes from, for errors.
    weights : dict of str to array
        What the layer's attributes become when it is built.
    function : callable or None
        Of elementwise places: the numbers here by those of the inputs.
    dominator : Place
        The nearest place before this one that all ways to it pass.
    joins : list of (list of Place, Place)
        What has been concatenated with this one as the first, and the places behind.
    amount : tuple of int
        Of "subsample" the strides, of "channels" how many zeros come behind, of "padded" top, left, bottom, right.
    """

    kind: Kind
    inputs: list[Place]
    shape: Shape
    node: str = ""
    layer: Layer | None = None
    weights: dict[str, Array] = field(default_factory=dict)
    function: Callable[..., Array] | None = None
    amount: tuple[int, ...] = ()
    taken: bool = False
    joins: list[tuple[list[Place], Place]] = field(default_factory=list, repr=False)
    number: int = field(default_factory=lambda: next(_numbers))

    def __post_init__(self) -> None:
        if not 0 < math.prod(self.shape) <= MOST:
            raise StorageError(f"{self.node or 'the input'}: expected 1 to {MOST} numbers a sample; got {self.shape}")
        self.dominator: Place = reduce(_common, self.inputs) if self.inputs else self


def _common(a: Place, b: Place) -> Place:
    while a is not b:
        if a.number < b.number:
            a, b = b, a
        a = a.dominator
    return a


def concatenated(places: list[Place], shape: Shape, node: str) -> Place:
    """Return the place behind the channels of several, side by side.

    A network that joins all that it has computed so far, again and again, joins here what it has joined before.
    """
    joins = places[0].joins
    known = [each for each in joins if len(each[0]) < len(places) and places[: len(each[0])] == each[0]]
    longest = max(known, key=lambda each: len(each[0]), default=None)
    inputs = [longest[1], *places[len(longest[0]) :]] if longest else places
    place = Place("concat", inputs, shape, node)
    joins.append((places, place))
    return place


@dataclass
class Value:
    """A value of the graph: for each number of a sample, in the graph's order, which number of the place it is.

    Attributes
    ----------
    place : Place
    index : array
    whole : bool
        Whether each number of the place is here, once. Where some repeat or are left out, only operators that move
        numbers take it.
    """

    place: Place
    index: IntArray
    whole: bool = True

    def moved(self, index: IntArray) -> Value:
        """Return the same numbers in another order or shape."""
        return Value(self.place, index, self.whole)

    @staticmethod
    def at(place: Place, axes: tuple[int, ...] | None = None) -> Value:
        """Return the value that is a place itself, or that with its axes in another order."""
        index = _in_order(place.shape)
        return Value(place, index if axes is None else index.transpose(axes))

    @property
    def axes(self) -> tuple[int, ...] | None:
        """In which order the place's axes are here: (0, 1, 2) for images with channels first; None if no order fits."""
        if self.index.size != math.prod(self.place.shape):
            return None
        own = _in_order(self.place.shape)
        orders = {axes: own.transpose(axes) for axes in (*USUAL.get(own.ndim, ()), *permutations(range(own.ndim)))}
        for axes, view in orders.items():
            if _is_same_view(view, self.index) or np.array_equal(view, self.index):
                return axes
        return None

    def spread(self, constant: Any) -> Array:
        """Return a constant that meets this value, number by number, in the order of the place."""
        shape = self.index.shape
        constant = np.asarray(constant)
        if constant.ndim > len(shape):
            constant = constant.reshape(constant.shape[constant.ndim - len(shape) :])
        own = np.empty(self.index.size, constant.dtype)
        own[self.index.ravel()] = np.broadcast_to(constant, shape).ravel()
        return own.reshape(self.place.shape)


def _in_order(shape: Shape) -> IntArray:
    """Return 0, 1, 2, ... in a shape: a view of an array that values share."""
    size = math.prod(shape)
    return _counting(1 << (size - 1).bit_length())[:size].reshape(shape)


@lru_cache(maxsize=MOST.bit_length())
def _counting(size: int) -> IntArray:
    """Return 0, 1, ..., size - 1 for a power of two."""
    numbers = np.arange(size) if size >= 1 << 12 else _counting(1 << 12)[:size]
    numbers.flags.writeable = False
    return numbers


def forget() -> None:
    """Let go of what values share, when a graph has been read."""
    _counting.cache_clear()


def _is_same_view(a: IntArray, b: IntArray) -> bool:
    """Tell, without reading them, whether two arrays are the same numbers of memory, which nothing writes."""
    places = (each.__array_interface__["data"][0] for each in (a, b))
    return len(set(places)) == 1 and a.shape == b.shape and a.strides == b.strides


@dataclass
class _Marker:
    """A part of a "pad" shortcut."""

    place: Place


def row_between(first: Place, last: Place, depth: int = 0) -> list[Any]:
    """Return the layers that lead from a place to one behind it, all of whose ways pass the first."""
    row: list[Any] = []
    if depth > DEEPEST:
        raise StorageError(f"{last.node}: expected branches within branches at most {DEEPEST} deep")
    while last is not first:
        if last.kind == "layer":
            row.append(_take(last))
        elif last.kind == "add":
            row.append(_residual(last, depth + 1))
        elif last.kind == "concat":
            row.append(Concat([_plain(row_between(last.dominator, each, depth + 1), last) for each in last.inputs]))
        elif last.kind == "padded":  # and no convolution follows, which would have taken it
            top, left, bottom, right = last.amount
            row.append(Pad(((top, bottom), (left, right))))
        elif last.kind in ("subsample", "channels"):
            row.append(_Marker(last))
        else:
            raise StorageError(f"{last.node}: no layer computes it, in the place where it stands")
        last = last.dominator
    return row[::-1]


def _take(place: Place) -> Layer:
    assert place.layer is not None
    if place.taken:
        raise StorageError(f"{place.node}: two branches go through it that are no rows of layers side by side")
    place.taken = True
    return place.layer


def _plain(row: list[Any], place: Place) -> list[Any]:
    for layer in row:
        if isinstance(layer, _Marker):
            raise StorageError(f"{layer.place.node}: expected in the shortcut of a sum alone, with nothing beside it")
    return row


def _residual(place: Place, depth: int) -> Residual:
    """Return the layer of a sum: the longer of its rows, and the other as the shortcut."""
    rows = [row_between(place.dominator, each, depth) for each in place.inputs]
    marked = [row for row in rows if row and all(isinstance(layer, _Marker) for layer in row)]
    if marked:
        (other,) = [row for row in rows if row is not marked[0]]
        _check_padding(marked[0], place)
        return Residual(_plain(other, place), "pad")
    rows.sort(key=len, reverse=True)
    if not rows[0]:
        raise StorageError(f"{place.node}: a value and itself are added")
    main, side = (_plain(row, place) for row in rows)
    return Residual(main, side or None)


def _check_padding(markers: list[_Marker], place: Place) -> None:
    before, behind = place.dominator.shape, place.shape
    strides = strides_between(before, behind) if len(behind) == 3 else (1, 1)
    for marker in markers:
        if marker.place.kind == "subsample" and marker.place.amount != strides:
            raise StorageError(f"{marker.place.node}: expected strides {strides}; got {marker.place.amount}")


def places_before(last: Place) -> list[Place]:
    """Return all places that lead to one, and that itself, each once."""
    found: dict[int, Place] = {}
    waiting = [last]
    while waiting:
        place = waiting.pop()
        if place.number not in found:
            found[place.number] = place
            waiting += place.inputs
    return list(found.values())
