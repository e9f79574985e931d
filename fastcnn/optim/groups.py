"""Parameters with a learning rate and a weight decay of their own, by their names, and those that are frozen."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from .. import checks
from ..engine.arrays import aligned_zeros
from ..layers.base import Layer
from ..settings import Setting
from ..typing import Array

Factor = float | Callable[[int], float]
Groups = dict[str, dict[str, Factor]]
KEYS = ("learning_rate", "weight_decay")


@dataclass
class Span:
    """A stretch of the flat vector whose parameters have the same factors.

    Attributes
    ----------
    first, last : int
    scales : dict of str to tuple of factors
        By what learning rate and weight decay are multiplied.
    rates : array
        The numbers of a step, as the kernel of the rule reads them.
    """

    first: int
    last: int
    scales: dict[str, tuple[Factor, ...]]
    rates: Array

    def factors(self, step: int) -> tuple[float, float]:
        """Return the factors of learning rate and weight decay in a step, which is counted from 0."""
        rate, decay = (math.prod(_at(factor, step) for factor in self.scales[key]) for key in KEYS)
        return rate, decay


def group_factors() -> Setting[Groups | None]:
    """Return a setting that is factors of the learning rate and the weight decay, by names of parameters."""
    return Setting(_as_groups)


def spans_of(optimizer: Any, model: Layer) -> list[Span]:
    """Return the spans that an optimizer changes, without those that are frozen; none if all parameters are alike.

    Raises
    ------
    ValueError
        If a pattern of `groups` matches no parameter.
    """
    scales: dict[str, dict[str, tuple[Factor, ...]]] = {}
    groups = optimizer.groups or {}
    for name in model.parameters:
        own = [factors for pattern, factors in groups.items() if fnmatchcase(name, pattern)]
        scales[name] = {key: tuple(factors[key] for factors in own if key in factors) for key in KEYS}
        if name.rpartition(".")[2] in optimizer.no_decay:
            scales[name]["weight_decay"] += (0.0,)
    _expect_matches(optimizer.name, groups, model)
    frozen = frozen_parameters(model)
    alike = not groups and not frozen
    if alike and not (optimizer.no_decay and not optimizer._skips_decay):
        return []
    spans: list[Span] = []
    for name, (first, last) in parameter_places(model).items():
        if name in frozen:
            continue
        if spans and spans[-1].last == first and spans[-1].scales == scales[name]:
            spans[-1].last = last
        else:
            spans.append(Span(first, last, scales[name], aligned_zeros(16, model._flat.dtype)))
    return spans or [Span(0, 0, dict.fromkeys(KEYS, ()), aligned_zeros(16, model._flat.dtype))]


def _expect_matches(owner: str, groups: Groups, model: Layer) -> None:
    for pattern in groups:
        if not any(fnmatchcase(name, pattern) for name in model.parameters):
            known = ", ".join(model.parameters)
            raise ValueError(
                f"{owner}: groups: expected patterns of names of parameters, of {known[:200]}; got {pattern!r}, "
                "which matches none"
            )


def parameter_places(model: Layer) -> dict[str, tuple[int, int]]:
    """Return where the numbers of each parameter begin and end in the flat vector, padding included."""
    numbers = np.arange(model._flat.size)
    begins = [
        int(place) for named in model._gradients_by_layer(numbers).values() for place in map(_first, named.values())
    ]
    edges = [*begins, model._flat.size]
    return {name: (edges[k], edges[k + 1]) for k, name in enumerate(model.parameters)}


def _first(places: Array) -> int:
    return int(places[0])


def frozen_parameters(model: Layer) -> set[str]:
    """Return the names of the parameters that are not trained."""
    trained = [layer._trains(name) for layer, named in model._gradients_by_layer(model._flat).items() for name in named]
    return {name for name, trains in zip(model.parameters, trained, strict=True) if not trains}


def _at(factor: Factor, step: int) -> float:
    return float(factor(step)) if callable(factor) else factor


def _as_groups(value: Any, owner: str, name: str) -> Groups | None:
    """Return checked groups, copied; None for none."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise TypeError(f"{owner}: {name}: expected a dict of names to factors; got {value!r}")
    groups: Groups = {}
    for pattern, factors in value.items():
        if not isinstance(pattern, str) or not isinstance(factors, Mapping):
            raise TypeError(
                f"{owner}: {name}: expected a dict of names to dicts of factors; got {pattern!r}: {factors!r}"
            )
        for key, factor in factors.items():
            if key not in KEYS:
                raise ValueError(f"{owner}: {name}[{pattern!r}]: expected keys of {', '.join(KEYS)}; got {key!r}")
            if not callable(factor):
                checks.as_number(factor, owner, f"{name}[{pattern!r}][{key!r}]", at_least=0)
        groups[pattern] = dict(factors)
    return groups
