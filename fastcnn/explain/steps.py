"""What an explanation is made of: steps from the sum to the number, and the terms of the sum."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

Position = tuple[int, ...]  # (c, i, j) in maps, (k,) in features


@dataclass(frozen=True)
class Term:
    """A number that a sum adds up, or that a choice is made from.

    Attributes
    ----------
    factors : tuple of float
        Of a product, the input first; one number where nothing is multiplied.
    value : float
        The product.
    path : str
        Whose number the first factor is: a layer by its place, such as `"3.layers.0"`, `""` for the image, None for no
        layer's output.
    at : tuple of int or None
        Where it lies in that map; None in the padding.
    """

    factors: tuple[float, ...]
    value: float
    path: str | None
    at: Position | None


@dataclass(frozen=True)
class Step:
    """What a layer does for one number.

    Attributes
    ----------
    path, layer : str
        The layer by its place, and as the call that makes it.
    kind : {"sum", "choice", "mean", "function", "add", "copy", "norm", "own"}
    at : tuple of int
        Which of its numbers.
    formula : str
    terms : tuple of Term
    grid : tuple of int
        The terms as a table, such as (channels, rows, columns) of a window.
    labels : tuple of str
        What the factors are.
    numbers : dict of str to float
        Further numbers of the formula, by name: the sum of the terms, the bias, a mean.
    value : float
        What the layer gives.
    chosen : int or None
        Which term a pooling chooses.
    words : str
        What a reader should know besides.
    """

    path: str
    layer: str
    kind: str
    at: Position
    formula: str
    value: float
    terms: tuple[Term, ...] = ()
    grid: tuple[int, ...] = ()
    labels: tuple[str, ...] = ()
    numbers: dict[str, float] = field(default_factory=dict)
    chosen: int | None = None
    words: str = ""

    @property
    def source(self) -> tuple[str, Position] | None:
        """Return the layer and the place of the one number that this one is made of, if there is one."""
        if self.kind not in ("choice", "function", "copy", "norm"):
            return None
        term = self.terms[self.chosen or 0]
        return None if term.path is None or term.at is None else (term.path, term.at)


@dataclass(frozen=True)
class Explanation:
    """A number and the steps that lead to it, the sum first.

    Parameters
    ----------
    path : str
        The layer, or the parameter of a gradient.
    at : tuple of int
        Which of its numbers.
    value : float
        What the loops of `reference/` give, to the bit.
    steps : tuple of Step
        Each with its `kind`, `formula`, `terms`, further `numbers`, and `value`.

    See Also
    --------
    fastcnn.explain.explain : Returns one.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import Dense, Sequential
    >>> from fastcnn.explain import explain
    >>> model = Sequential([Dense(2)]).build((3,), random_state=0)
    >>> model.parameters["0.weights"][...] = [[1, 2], [3, 4], [5, 6]]
    >>> found = explain(model, np.array([1.0, 10.0, 100.0]), 0, (1,))
    >>> found.value, [term.value for term in found.steps[0].terms]
    (642.0, [2.0, 40.0, 600.0])
    """

    path: str
    at: Position
    value: float
    steps: tuple[Step, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it in lists and dictionaries, for JSON."""
        return asdict(self)
