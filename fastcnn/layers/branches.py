"""Layers made of branches: a row of layers with a shortcut around it, and rows of layers side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..engine.graph import Graph
from ..engine.ir import Block, Gradients, Memory, Pass
from ..kernels import residual as kernels
from ..ops.window import Pair
from ..typing import Shape
from .base import Layer
from .container import Container, check_row, row_shapes


class Branches(Container):
    """What both share: rows of layers by name, all from the same input.

    Attributes
    ----------
    rows : dict of str to list of Layer
    """

    rows: dict[str, list[Layer]]

    def _expect_distinct(self) -> None:
        layers = [layer for _, layer in self._children()]
        if len(set(map(id, layers))) < len(layers):
            raise ValueError(f"{self.name}: expected each layer once, since it owns its parameters; got one twice")

    def _row_output(self, row: str, input_shape: Shape) -> Shape:
        """Return the shape behind a row; that of the input, if the row is empty."""
        shapes = [shape for *_, shape in row_shapes(self.rows[row], input_shape, f"{self.name}: {row}")]
        return shapes[-1] if shapes else input_shape

    def _children(self) -> Iterator[tuple[str, Layer]]:
        for row, layers in self.rows.items():
            for place, layer in enumerate(layers):
                yield f"{row}.{place}", layer

    def _inner_shapes(self, input_shape: Shape) -> Iterator[tuple[Layer, Shape]]:
        for row, layers in self.rows.items():
            for layer, inside, _ in row_shapes(layers, input_shape, f"{self.name}: {row}"):
                yield layer, inside

    def _connect_rows(self, graph: Graph, x: int) -> list[int]:
        """Let the maps of edge `x` go into all rows; return the last edge of each."""
        from .fusion import connect_row  # which knows this module

        fork = _ForkBlock(self, x, [graph.alias(x) for _ in self.rows])
        graph.add(fork)
        return [
            connect_row(graph, layers, edge) for layers, edge in zip(self.rows.values(), fork.branches, strict=True)
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

    Attributes
    ----------
    parameters, gradients : dict of str to array
        Named by row and place: `"layers.0.filters"`, `"shortcut.0.filters"`, ...

    Raises
    ------
    ValueError
        By `build` or the first `forward`, if F(x) and S(x) differ in shape.

    References
    ----------
    He et al., "Deep residual learning for image recognition", CVPR 2016, sections 3.2, 3.3, 4.1 (options A and B).
    """

    def __init__(self, layers: Sequence[Layer], shortcut: str | Sequence[Layer] | None = None) -> None:
        super().__init__()
        if isinstance(shortcut, str) and shortcut != "pad":
            raise ValueError(f'{self.name}: shortcut: expected None, "pad" or layers; got {shortcut!r}')
        self.layers, self.shortcut = check_row(layers, self.name), shortcut
        if not self.layers:
            raise ValueError(f"{self.name}: layers: expected at least one layer; got none")
        side = [] if shortcut is None or isinstance(shortcut, str) else check_row(shortcut, self.name, "shortcut")
        self.rows = {"layers": self.layers, "shortcut": side}
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

    def _connect(self, graph: Graph, x: int, followers: Sequence[Layer] = ()) -> int:
        a, b = self._connect_rows(graph, x)
        return graph.add(_AddBlock(self, a, b, graph.edge(graph.shapes[a]), has_relu=bool(followers)))


class Concat(Branches):
    """Rows of layers side by side, their channels side by side: `y = [B₁(x), B₂(x), ...]` along axis 1.

    `dL/dx = Σ_b B_b'ᵀ · dL/dy_b`, where dL/dy_b are the channels of dL/dy that came from branch b.

    Parameters
    ----------
    branches : sequence of sequences of Layer
        An empty branch is x itself.

    Attributes
    ----------
    parameters, gradients : dict of str to array
        Named by branch and place: `"branches.0.1.filters"`, ...

    Raises
    ------
    ValueError
        By `build` or the first `forward`, if the branches' outputs differ in height or width.

    References
    ----------
    Szegedy et al., "Going deeper with convolutions", CVPR 2015, section 4.
    """

    def __init__(self, branches: Sequence[Sequence[Layer]]) -> None:
        super().__init__()
        self.branches = [check_row(layers, self.name, f"branches[{b}]") for b, layers in enumerate(branches)]
        if not self.branches:
            raise ValueError(f"{self.name}: branches: expected at least one branch; got none")
        self.rows = {f"branches.{b}": layers for b, layers in enumerate(self.branches)}
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

    def _connect(self, graph: Graph, x: int, followers: Sequence[Layer] = ()) -> int:
        edges = self._connect_rows(graph, x)
        channels = sum(graph.shapes[edge][0] for edge in edges)
        return graph.add(_ConcatBlock(self, edges, graph.edge((channels, *graph.shapes[edges[0]][1:]))))


class _ForkBlock(Block):
    """The same maps into all branches: nothing to do, until their gradients are summed, in order."""

    reads_any_pitch = True
    replayable = True
    reads_values_again = False
    in_pieces = True

    def __init__(self, layer: Layer, x: int, branches: list[int]) -> None:
        super().__init__(layer, x, branches[0])
        self.branches = branches

    @property
    def writes(self) -> tuple[int, ...]:
        """All branches."""
        return tuple(self.branches)

    def fills(self, edge: int) -> bool:
        return True

    def plan(self, graph: Graph) -> None:
        dx = graph.gradients[self.x]
        self.rows = []
        if dx:
            self.rows = [layout.line_table(graph.images) for edge in self.branches if (layout := graph.gradients[edge])]
            self.dx_row, self.lines, self.length = dx.line_table(graph.images), dx.height, dx.width * dx.pitch
            self.none = graph.dtype.type(-np.inf)

    def forward(self, n: int, memory: Memory, run: Pass) -> None:
        pass

    def backward(self, n: int, memory: Memory, gradients: Gradients, run: Pass) -> None:
        dx = memory.gradients[self.x]
        if dx is None:
            return
        first, *others = zip((memory.gradients[edge] for edge in self.branches), self.rows, strict=True)
        if not others:
            kernels.copy_channels(first[0], first[1], 0, dx, self.dx_row, 0, n * self.lines, self.length)
        for gradient, row in others:
            kernels.add(
                *first, gradient, row, dx, self.dx_row, n * self.lines, self.length, self.length, self.none
            )  # fmt: skip
            first = dx, self.dx_row


class _AddBlock(Block):
    """`a + b` [+ ReLU]; where b is smaller, every s-th pixel of b, and its channels are the first ones of a."""

    replayable = True
    reads_values_again = False
    in_pieces = True

    def __init__(self, layer: Layer, a: int, b: int, y: int, has_relu: bool) -> None:
        super().__init__(layer, a, y)
        self.b, self.has_relu = b, has_relu
        self.rectifies = has_relu

    @property
    def reads(self) -> tuple[int, ...]:
        """Both summands."""
        return self.x, self.b

    def fills(self, edge: int) -> bool:
        return edge == self.x or self.alike

    def plan(self, graph: Graph) -> None:
        a, b, y = (graph.values[edge] for edge in (self.x, self.b, self.y))
        da, db, dy = (graph.gradients[edge] for edge in (self.x, self.b, self.y))
        images = graph.images
        self.floor = graph.dtype.type(0 if self.has_relu else -np.inf)
        self.alike = b.shape == y.shape
        if self.alike:
            self.runs, self.length = y.height, y.width * y.pitch
            self.shared = self.length
            self.a_row, self.b_row, self.y_row = (layout.line_table(images) for layout in (a, b, y))
            self.da_row, self.db_row, self.dy_row = (layout and layout.line_table(images) for layout in (da, db, dy))
            return
        self.runs, self.length, self.shared = y.pixels, y.pitch, b.channels
        strides = _strides(b.shape, y.shape)
        h, w = strides[0] * np.arange(y.height)[:, None], strides[1] * np.arange(y.width)[None, :]
        self.a_row, self.y_row = a.pixel_table(images), y.pixel_table(images)
        self.da_row, self.dy_row = (layout and layout.pixel_table(images) for layout in (da, dy))
        self.b_row, self.db_row = b.table(images, h, w), db and db.table(images, h, w)

    def forward(self, n: int, memory: Memory, run: Pass) -> None:
        kernels.add(
            memory.values[self.x], self.a_row, memory.values[self.b], self.b_row, memory.values[self.y], self.y_row,
            n * self.runs, self.length, self.shared, self.floor,
        )  # fmt: skip

    def backward(self, n: int, memory: Memory, gradients: Gradients, run: Pass) -> None:
        # In db, pixels that are left out and channels that are not there have been zero from the beginning.
        first = memory.gradients[self.x], self.da_row
        second = memory.gradients[self.b], self.db_row
        shared = self.shared
        if first[0] is None:
            first, second = second, first
        if first[0] is None:
            return
        if second[0] is None:
            second, shared = first, 0
        kernels.add_backward(
            memory.values[self.y], self.y_row, memory.gradients[self.y], self.dy_row, *first, *second,
            n * self.runs, self.length, shared, self.has_relu,
        )  # fmt: skip


class _ConcatBlock(Block):
    """The channels of several maps side by side."""

    reads_any_pitch = True
    replayable = True
    in_pieces = True

    def __init__(self, layer: Layer, edges: list[int], y: int) -> None:
        super().__init__(layer, edges[0], y)
        self.edges = edges

    @property
    def reads(self) -> tuple[int, ...]:
        """All branches."""
        return tuple(self.edges)

    def plan(self, graph: Graph) -> None:
        images, y, dy = graph.images, graph.values[self.y], graph.gradients[self.y]
        self.channels = [graph.shapes[edge][0] for edge in self.edges]
        self.first = np.cumsum([0, *self.channels[:-1]]).tolist()
        self.x_rows = [graph.values[edge].pixel_table(images) for edge in self.edges]
        self.dx_rows = [
            layout and layout.pixel_table(images) for layout in map(graph.gradients.__getitem__, self.edges)
        ]
        self.y_row, self.dy_row = y.pixel_table(images), dy and dy.pixel_table(images)
        self.pixels = y.pixels

    def forward(self, n: int, memory: Memory, run: Pass) -> None:
        y = memory.values[self.y]
        for edge, row, first, channels in zip(self.edges, self.x_rows, self.first, self.channels, strict=True):
            kernels.copy_channels(
                memory.values[edge], row, 0, y, self.y_row, first, n * self.pixels, channels
            )  # fmt: skip

    def backward(self, n: int, memory: Memory, gradients: Gradients, run: Pass) -> None:
        dy = memory.gradients[self.y]
        for edge, row, first, channels in zip(self.edges, self.dx_rows, self.first, self.channels, strict=True):
            dx = memory.gradients[edge]
            if dx is not None:
                kernels.copy_channels(dy, self.dy_row, first, dx, row, 0, n * self.pixels, channels)


def _strides(input_shape: Shape, output_shape: Shape) -> Pair:
    return -(-input_shape[1] // output_shape[1]), -(-input_shape[2] // output_shape[2])


def _padded_shape(input_shape: Shape, output_shape: Shape) -> Shape:
    """Return the shape of every s-th pixel, channels filled up; the input's own, where nothing can be filled up."""
    if len(input_shape) != 3 or len(output_shape) != 3 or input_shape[0] > output_shape[0]:
        return input_shape
    vertical, horizontal = _strides(input_shape, output_shape)
    return output_shape[0], -(-input_shape[1] // vertical), -(-input_shape[2] // horizontal)
