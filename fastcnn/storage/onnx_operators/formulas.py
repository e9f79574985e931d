"""Functions of single numbers that no layer computes alone, and the layers that compute a row of them, such as GELU."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ...layers.activation import GELU, SiLU
from ...layers.base import Layer
from ...layers.clipped import HardSwish
from ...layers.smooth import Mish, Softplus
from ...typing import Array
from ..onnx_nodes import Node, Read
from ..onnx_rows import Place, Value


def _formula(function: Any) -> Read:
    """Return what reads an elementwise function that is no layer."""

    def read(node: Node) -> Value:
        value = node.value()
        place = Place("other", [value.place], value.place.shape, str(node), function=function)
        return Value(recognised(node, place), value.index)

    return read


def _comparison(compare: Any) -> Read:
    """Return what reads a comparison with a number: a part of a formula, as PyTorch writes the softplus."""

    def read(node: Node) -> Value:
        value, bound = node.value(), node.number(1, "bound", 0.0)
        place = Place("other", [value.place], value.place.shape, str(node), function=lambda x: compare(x, bound))
        return Value(place, value.index)

    return read


def _where(node: Node) -> Value:
    values = [node.value(k) for k in range(3)]
    first = values[0]
    if any(each.place.shape != first.place.shape or not np.array_equal(each.index, first.index) for each in values):
        node.refuse("expected a condition and two values of one shape")
    places = [each.place for each in values]
    place = Place("other", places, first.place.shape, str(node), function=np.where)
    return Value(recognised(node, place), first.index)


def _power(node: Node) -> Value:
    exponent = node.number(1, "exponent", 1)
    return _formula(lambda x: np.power(x, exponent))(node)


def _exp(x: Array) -> Array:
    return np.array([math.exp(min(value, 700.0)) for value in np.ravel(x).tolist()]).reshape(np.shape(x))


def _log(x: Array) -> Array:
    values = [math.log(value) if value > 0 else math.nan for value in np.ravel(x).tolist()]
    return np.array(values).reshape(np.shape(x))


def _erf(x: Array) -> Array:
    return np.array([math.erf(value) for value in np.ravel(x)]).reshape(np.shape(x))


GRID = np.linspace(-4, 4, 33)


def softplus(x: Array) -> Array:
    """Return log(1 + e^x)."""
    values = [math.log1p(math.exp(-abs(value))) + max(value, 0.0) for value in np.ravel(x).tolist()]
    return np.array(values).reshape(np.shape(x))


KNOWN: tuple[tuple[Callable[[], Layer], Array], ...] = (
    (SiLU, GRID / (1 + np.array([math.exp(-x) for x in GRID.tolist()]))),
    (Mish, GRID * np.array([math.tanh(value) for value in softplus(GRID).tolist()])),
    (Softplus, softplus(GRID)),
    (HardSwish, GRID * np.clip(GRID + 3, 0, 6) / 6),
    (GELU, GRID * (1 + _erf(GRID * math.sqrt(0.5))) / 2),
    (
        lambda: GELU("tanh"),
        GRID * (1 + np.array([math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)) for x in GRID.tolist()])) / 2,
    ),
)


LONGEST = 16  # nodes of a formula: GELU by tanh has nine


def recognised(node: Node, place: Place) -> Place:
    """Return the place, or one behind an activation that a formula of several nodes computes."""
    inner = _formula_of(place)
    bases = {before.number: before for each in inner for before in each.inputs if before not in inner}
    if len(inner) < 2 or len(bases) != 1:
        return place
    (base,) = bases.values()
    with np.errstate(all="ignore"):
        values = _evaluate(place, {base.number: GRID})
    for make, known in KNOWN:
        if np.allclose(values, known, rtol=0, atol=1e-5):
            # A formula may go on: PyTorch's softplus is x where x is large.
            return node.behind(base, make(), lambda x: _evaluate(place, {base.number: x}))
    return place


def _formula_of(place: Place) -> list[Place]:
    """Return the elementwise places that a place is computed by; none if there are more than any known formula has."""
    found: list[Place] = []
    waiting = [place]
    while waiting:
        if len(found) > LONGEST:
            return []
        each = waiting.pop()
        if each.function is not None and each not in found:
            found.append(each)
            waiting += each.inputs
    return found


def _evaluate(place: Place, known: dict[int, Array]) -> Array:
    if place.number not in known:
        assert place.function is not None
        known[place.number] = place.function(*(_evaluate(each, known) for each in place.inputs))
    return known[place.number]


def sigmoid(x: Array) -> Array:
    """Return 1 / (1 + e^-x)."""
    return 1 / (1 + np.array([math.exp(-min(max(value, -700), 700)) for value in np.ravel(x)]).reshape(np.shape(x)))


def tanh(x: Array) -> Array:
    """Return the hyperbolic tangent."""
    return np.array([math.tanh(value) for value in np.ravel(x)]).reshape(np.shape(x))


OPERATORS: dict[str, Read] = {
    "Erf": _formula(_erf),
    "Exp": _formula(_exp),
    "Greater": _comparison(np.greater),
    "Less": _comparison(np.less),
    "Log": _formula(_log),
    "Pow": _power,
    "Where": _where,
}
