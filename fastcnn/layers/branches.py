"""Layers made of branches: a row of layers with a shortcut around it, and rows of layers side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..engine.ir import Graph
from ..ops.branches import AddOp, ConcatOp, ForkOp, strides_between
from ..typing import Shape
from ..views import FixedDict, FixedList
from .base import Layer, epilogue_of
from .container import Container, check_row, row_shapes
from .fusion import lower_row


class Branches(Container):
    """What both share: rows of layers by name, all from the same input.

    Attributes
    ----------
    rows : dict of str to list of Layer
    """

    rows: FixedDict[str, FixedList[Layer]]

    def _expect_distinct(self) -> None:
        layers = [layer for _, layer in self._children()]
        if len(set(map(id, layers))) < len(layers):
            raise ValueError(f"{self.name}: expected each layer once, since it owns its parameters; got one twice")

    def _row_output(self, row: str, input_shape: Shape) -> Shape:
        """Return the shape behind a row; that of the input, if the row is empty."""
        shapes = [shape for *_, shape in row_shapes(self.rows[row], input_shape, f"{self.name}: {row}")]
        return shapes[-1] if shapes else input_shape

    def _inner_rows(self) -> Iterator[list[tuple[str, Layer]]]:
        for row, layers in self.rows.items():
            yield [(f"{row}.{place}", layer) for place, layer in enumerate(layers)]

    def _children(self) -> Iterator[tuple[str, Layer]]:
        for row in self._inner_rows():
            yield from row

    def _inner_shapes(self, input_shape: Shape) -> Iterator[tuple[Layer, Shape]]:
        for row, layers in self.rows.items():
            for layer, inside, _ in row_shapes(layers, input_shape, f"{self.name}: {row}"):
                yield layer, inside

    def _lower_rows(self, graph: Graph, x: int) -> list[int]:
        """Let the value `x` go into all rows; return the last value of each."""
        fork = ForkOp(self, x, [graph.alias(x) for _ in self.rows])
        graph.add(fork)
        return [
            lower_row(graph, layers, value) for layers, value in zip(self.rows.values(), fork.branches, strict=True)
        ]


class Residual(Branches):
    """A row of layers and a shortcut around it, `y = F(x) + S(x)`.

    The gradient goes both ways, `dL/dx = F'ᵀ · dL/dy + S'ᵀ · dL/dy`. (He et al. put a ReLU after the sum: add it behind
    this layer; it is computed in the same pass.)

    Parameters
    ----------
    layers : sequence of Layer
        F, one after another.
    shortcut : None, "pad" or sequence of Layer
        S. None: x itself; the shapes must agree. "pad": every s-th pixel of x, and zeros for the channels that are
        missing, behind the ones that are there (option A); s = ceil(H / oH). Layers: for example a 1 x 1 `Conv2D`
        (option B).
    trainable : bool
        False: no parameter inside is trained.
    name : str, optional
        By which messages call the layer, and searches find it.

    Attributes
    ----------
    parameters, gradients : dict of str to array
        Named by row and place: `"layers.0.filters"`, `"shortcut.0.filters"`, ...

    Raises
    ------
    ValueError
        By `build` or the first `forward`, if F(x) and S(x) differ in shape.

    See Also
    --------
    Concat : Rows of layers side by side, their channels joined.

    References
    ----------
    He et al., "Deep residual learning for image recognition", CVPR 2016, sections 3.2, 3.3, 4.1 (options A and B).

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import Conv2D, Residual
    >>> Residual([Conv2D(8, 3, padding=1)], shortcut="pad").forward(np.ones((4, 3, 8, 8))).shape
    (4, 8, 8, 8)
    """

    absorbs = (("relu",),)

    def __init__(
        self,
        layers: Sequence[Layer],
        shortcut: str | Sequence[Layer] | None = None,
        *,
        trainable: bool = True,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name, trainable=trainable)
        if isinstance(shortcut, str) and shortcut != "pad":
            raise ValueError(f'{self.name}: shortcut: expected None, "pad" or layers; got {shortcut!r}')
        self.layers = check_row(layers, self.name)
        if not self.layers:
            raise ValueError(f"{self.name}: layers: expected at least one layer; got none")
        side = [] if shortcut is None or isinstance(shortcut, str) else shortcut
        side = check_row(side, self.name, "shortcut")
        self.shortcut = side or shortcut
        self.rows = FixedDict(layers=self.layers, shortcut=side)
        self._expect_distinct()

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of F(x), which is that of S(x)."""
        output_shape = self._row_output("layers", input_shape)
        if self.shortcut == "pad":
            side_shape = _padded_shape(input_shape, output_shape)
        else:
            side_shape = self._row_output("shortcut", input_shape)
        if side_shape != output_shape:
            raise ValueError(
                f"{self.name}: shortcut: expected the shape of the layers' output, {output_shape}; got {side_shape} "
                f"from an input of {tuple(input_shape)}"
            )
        return output_shape

    def _lower(self, graph: Graph, x: int, absorbed: Sequence[Layer] = ()) -> int:
        a, b = self._lower_rows(graph, x)
        alike = graph.shapes[a] == graph.shapes[b]
        return graph.add(AddOp(self, a, b, graph.value(graph.shapes[a]), alike, epilogue_of(absorbed)))


class Concat(Branches):
    """Rows of layers side by side, their channels side by side: `y = [B₁(x), B₂(x), ...]` along axis 1.

    `dL/dx = Σ_b B_b'ᵀ · dL/dy_b`, where dL/dy_b are the channels of dL/dy that came from branch b.

    Parameters
    ----------
    branches : sequence of sequences of Layer
        An empty branch is x itself.
    trainable : bool
        False: no parameter inside is trained.
    name : str, optional
        By which messages call the layer, and searches find it.

    Attributes
    ----------
    parameters, gradients : dict of str to array
        Named by branch and place: `"branches.0.1.filters"`, ...

    Raises
    ------
    ValueError
        By `build` or the first `forward`, if the branches' outputs differ in height or width.

    See Also
    --------
    Residual : A row of layers and a shortcut around it.

    References
    ----------
    Szegedy et al., "Going deeper with convolutions", CVPR 2015, section 4.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import Concat, Conv2D
    >>> Concat([[Conv2D(8, 1)], [Conv2D(4, 3, padding=1)], []]).forward(np.ones((4, 3, 8, 8))).shape
    (4, 15, 8, 8)
    """

    def __init__(self, branches: Sequence[Sequence[Layer]], *, trainable: bool = True, name: str | None = None) -> None:
        super().__init__(name=name, trainable=trainable)
        self.branches = FixedList(check_row(layers, self.name, f"branches[{b}]") for b, layers in enumerate(branches))
        if not self.branches:
            raise ValueError(f"{self.name}: branches: expected at least one branch; got none")
        self.rows = FixedDict({f"branches.{b}": layers for b, layers in enumerate(self.branches)})
        self._expect_distinct()

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of the branches' outputs, their channels added up."""
        shapes = [self._row_output(row, input_shape) for row in self.rows]
        if len({shape[1:] for shape in shapes}) > 1:
            raise ValueError(
                f"{self.name}: branches: expected outputs that differ in channels only; "
                f"got {', '.join(map(str, shapes))} from an input of {tuple(input_shape)}"
            )
        return (sum(shape[0] for shape in shapes), *shapes[0][1:])

    def _lower(self, graph: Graph, x: int, absorbed: Sequence[Layer] = ()) -> int:
        parts = self._lower_rows(graph, x)
        channels = sum(graph.shapes[part][0] for part in parts)
        return graph.add(ConcatOp(self, parts, graph.value((channels, *graph.shapes[parts[0]][1:]))))


def _padded_shape(input_shape: Shape, output_shape: Shape) -> Shape:
    """Return the shape of every s-th pixel, channels filled up; the input's own, where nothing can be filled up."""
    if len(input_shape) != 3 or len(output_shape) != 3 or input_shape[0] > output_shape[0]:
        return input_shape
    vertical, horizontal = strides_between(input_shape, output_shape)
    return output_shape[0], -(-input_shape[1] // vertical), -(-input_shape[2] // horizontal)
