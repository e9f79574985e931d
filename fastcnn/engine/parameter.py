"""`Parameter`: how one parameter of a layer is stored, shown and drawn."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..typing import Array, Shape


@dataclass(frozen=True)
class Parameter:
    """How one parameter is stored, and how it is shown.

    A layer in plain NumPy says `Parameter(shape)`, with the `initial` values if they are not zeros.

    Parameters
    ----------
    shape : tuple of int
        Public shape.
    storage : tuple of int, optional
        Shape in the flat vector, see below.
    view : callable, optional
        From the stored array to its public view, see below.
    initial : callable or float
        The first values, see below.

    Attributes
    ----------
    shape : tuple of int
        Public shape.
    storage : tuple of int or None
        Shape in the flat vector: the kernels' order, padded to whole vector registers. None: the public shape.
    view : callable or None
        From the stored array to its public view, writable, nothing copied. None: as it is stored.
    initial : callable or float
        From a random generator to the first values, in the public shape; or a number for all of them.

    See Also
    --------
    Layer : What all layers share, and a layer of your own.

    Examples
    --------
    >>> from fastcnn import Parameter
    >>> Parameter((3, 1, 1), initial=0.25).shape
    (3, 1, 1)
    """

    shape: Shape
    storage: Shape | None = None
    view: Callable[[Array], Array] | None = None
    initial: Callable[[Any], Array] | float = 0.0

    @property
    def stored_size(self) -> int:
        """Numbers that are stored."""
        return math.prod(self.shape if self.storage is None else self.storage)

    @property
    def size(self) -> int:
        """Numbers in the flat vector, padded so that the next parameter begins at a cache line."""
        return -(-self.stored_size // 16) * 16

    @property
    def rows(self) -> tuple[int, int]:
        """How many rows are stored, and of how many numbers, padding included; a single one counts as rows of 16."""
        if self.storage is None or len(self.storage) == 1:
            return self.size // 16, 16
        return math.prod(self.storage[:-1]), self.storage[-1]

    def show(self, flat: Array) -> Array:
        """Return the public view of the stored numbers.

        Parameters
        ----------
        flat : array
            The parameter's piece of the flat vector.
        """
        stored = flat.reshape(self.shape if self.storage is None else self.storage)
        return stored if self.view is None else self.view(stored)

    def draw(self, generator: Any) -> Any:
        """Return the first values.

        Parameters
        ----------
        generator : RandomState
            What the first values are drawn from.
        """
        return self.initial(generator) if callable(self.initial) else self.initial
