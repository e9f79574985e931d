"""A model's twin: it takes in the weights of a moment, so that frames are made of them while the model trains on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..layers.base import Layer
from ..layers.container import Container
from ..model import Sequential
from ..typing import Array


class Twin:
    """A copy of a model, and what brings it up to date: copies of some vectors, a small part of what a frame takes.

    A model with layers of a person's own is its own twin: nobody knows what else they remember. Then frames are made
    between two steps.

    Parameters
    ----------
    model : Sequential
        Built.

    Attributes
    ----------
    model : Sequential
        The copy, which nobody trains; the model itself where `is_copy` is false.
    is_copy : bool
    """

    def __init__(self, model: Sequential) -> None:
        self.source, self.flat = model, model._flat
        self.is_copy = all(type(layer)._lower is not Layer._lower for layer in _single(model))
        self.model = model.copy() if self.is_copy else model
        own, copies = [model._flat, *model._state().values()], [self.model._flat, *self.model._state().values()]
        self.vectors: list[tuple[Array, Array]] = [*zip(own, copies, strict=True)] if self.is_copy else []

    def is_of(self, model: Sequential) -> bool:
        """Tell whether it is a model's twin still, which was not built anew."""
        return self.source is model and self.flat is model._flat and self.model.input_shape == model.input_shape

    def take(self) -> None:
        """Take in the weights and running statistics of this moment; the caller holds the model's lock."""
        for own, copy in self.vectors:
            np.copyto(copy, own)


def _single(model: Container) -> Iterator[Layer]:
    """Yield the layers that are no containers."""
    for _, layer in model._children():
        if isinstance(layer, Container):
            yield from _single(layer)
        else:
            yield layer
