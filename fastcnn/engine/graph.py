"""What a network becomes before it runs: a graph of blocks on edges of memory."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from ..kernels import load as load_kernels
from ..runtime.record import Call, run_calls
from ..typing import Array, IntArray, Shape
from .channel_panels import Panels, gradient_panels, value_panels
from .ir import Block, Gradients, Memory, Pass, Store
from .layout import ALIGNMENT, Layout, aligned_zeros, padded, zeros_in_large_pages
from .memory_plan import Room, gradient_rooms, passing_values, value_rooms
from .microbatch import images_at_once, pieces_of

if TYPE_CHECKING:
    from ..layers.base import Layer


@dataclass
class Graph:
    """A network, bound to shapes: its blocks in order, and the layouts of its edges.

    Parameters
    ----------
    input_shape : tuple of int
        (C, H, W), or (D,) for features.
    images : int
        The most images that a memory holds.
    dtype : dtype
    input_gradient : bool
        Whether the gradient with respect to the network's input is wanted.
    training : bool
        Whether there will be a backward pass; without one, no gradient has memory.
    fuse : bool
        Whether runs of layers become one block.
    """

    input_shape: Shape
    images: int
    dtype: np.dtype
    input_gradient: bool = False
    training: bool = True
    fuse: bool = True
    blocks: list[Block] = field(default_factory=list)
    shapes: list[tuple[int, int, int]] = field(default_factory=list)
    values: list[Layout] = field(default_factory=list)
    gradients: list[Layout | None] = field(default_factory=list)
    aliases: dict[int, int] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    pieces: list[int] = field(default_factory=list)
    rooms: tuple[list[Room], list[Room | None]] = ([], [])
    recalled: set[int] = field(default_factory=set)
    value_panels: dict[int, Panels] = field(default_factory=dict)
    gradient_panels: dict[int, Panels] = field(default_factory=dict)
    output: int = 0
    replayable = True  # so far as `load_from` goes

    def __post_init__(self) -> None:
        self.edge(self.input_shape)

    def edge(self, shape: Shape) -> int:
        """Add an edge for maps of the public `shape`; features are channels of one pixel."""
        channels, height, width = shape if len(shape) == 3 else (*shape, 1, 1)
        self.shapes.append((channels, height, width))
        return len(self.shapes) - 1

    def alias(self, x: int) -> int:
        """Add an edge whose values are those of edge `x`, with a gradient of its own."""
        edge = self.edge(self.shapes[x])
        self.aliases[edge] = self.aliases.get(x, x)
        return edge

    def add(self, block: Block) -> int:
        """Append a block and return its output edge."""
        block.index = len(self.blocks)
        self.blocks.append(block)
        return block.y

    def finish(self) -> None:
        """Settle the layouts of all edges, then let the blocks write their tables."""
        pitches = [padded(shape[0]) for shape in self.shapes]
        self.values = [Layout(*shape, pitch) for shape, pitch in zip(self.shapes, pitches, strict=True)]
        self.gradients = [layout if self.training else None for layout in self.values]
        for block in reversed(self.blocks):
            halo = block.input_halo(self)
            for edge in block.reads:
                self.values[edge] = self.values[edge].with_halo(self.values[edge].halo | halo)
        readers = [block for block in self.blocks if any(self.aliases.get(edge, edge) == 0 for edge in block.reads)]
        if readers and all(block.reads_any_pitch for block in readers):
            self.values[0] = replace(self.values[0], pitch=self.shapes[0][0])
            if self.gradients[0] is not None and not self.aliases:
                self.gradients[0] = replace(self.gradients[0], pitch=padded(self.shapes[0][0], self.dtype))
        for edge, root in self.aliases.items():
            self.values[root] = self.values[root].with_halo(self.values[root].halo | self.values[edge].halo)
        for edge, root in self.aliases.items():
            self.values[edge] = self.values[root]
        if not self.input_gradient:
            for edge in (0, *(edge for edge, root in self.aliases.items() if root == 0)):
                self.gradients[edge] = None
        for block in self.blocks:
            layout = self.gradients[block.y]
            if layout is not None:
                self.gradients[block.y] = layout.with_halo(layout.halo | block.gradient_halo(self))
        self.cuts = [block.index for block in self.blocks if block.meets and self.training]
        self.pieces = [images_at_once(self, stage) for stage in range(len(self.cuts) + 1)]
        self.recalled = {edge for edge, again in passing_values(self).items() if again}
        self.value_panels = value_panels(self)
        self.gradient_panels = gradient_panels(self)
        for block in self.blocks:
            block.plan(self)
        self.rooms = value_rooms(self), gradient_rooms(self)

    def allocate(self, own: Store | None = None, shared: Store | None = None) -> Memory:
        """Return zeroed buffers for one shard.

        Parameters
        ----------
        own : dict, optional
            Of the shard: where it finds again what must last from stage to stage.
        shared : dict, optional
            Of the worker: where its shards take turns.
        """
        own, shared = {} if own is None else own, {} if shared is None else shared
        values, gradients = self.rooms
        for store, lasts in ((own, True), (shared, False)):
            if "rooms" not in store:
                store["rooms"] = self._build(
                    [room for room in chain(values, gradients) if room and room.lasts == lasts]
                )
        if "kept" not in own:
            own["kept"] = [block.allocate(self) for block in self.blocks]

        def buffer(room: Room) -> Array:
            whole: Array = (own if room.lasts else shared)["rooms"][room.name]
            return whole[: room.images * room.size]

        buffers = [buffer(room) for room in values]
        return Memory(
            buffers,
            [None if room is None else buffer(room) for room in gradients],
            own["kept"],
            [block.borrow(shared) for block in self.blocks],
            self.values[0].view(buffers[0], self.images),
        )

    def _build(self, rooms: Sequence[Room]) -> dict[Hashable, Array]:
        """Return zeroed buffers for all rooms, in one piece, for which the system can give large pages."""
        sizes: dict[Hashable, int] = {}
        for room in rooms:
            sizes[room.name] = max(room.images * room.size, sizes.get(room.name, 0))
        step = ALIGNMENT // self.dtype.itemsize
        *starts, end = np.cumsum([0, *(-(-size // step) * step for size in sizes.values())]).tolist()
        # Who meets goes through all maps many times; others need not pay for the rest of a page.
        whole = (zeros_in_large_pages if self.cuts else aligned_zeros)(end, self.dtype)
        return {name: whole[start : start + sizes[name]] for name, start in zip(sizes, starts, strict=True)}

    def prepare(self) -> None:
        """Let all blocks bring their parameters into the kernels' order."""
        run_calls(self.prepare_calls())

    def prepare_calls(self) -> Iterator[Call]:
        """Yield the calls of `prepare`, in any order or at the same time."""
        for block in self.blocks:
            yield Call(block, block.prepare, ())
            yield Call(block, block.prepare_backward, ())

    def load(self, x: Array, n: int, memory: Memory) -> None:
        """Write `n` images, (n, C, H, W) or (n, D), any memory order, to the first edge; uint8 is scaled to [0, 1]."""
        images = x if x.ndim == 4 else x.reshape(n, *self.shapes[0])
        if x.dtype == np.uint8:
            np.multiply(images, self.dtype.type(1 / 255), out=memory.input[:n])
        else:
            memory.input[:n] = images

    def load_from(self, source: IntArray, like: Array, first: int, n: int, memory: Memory) -> None:
        """Write `n` images from `first` on, as `load`; they are C-ordered, of the dtype of `like`, at `source[0]`."""
        layout, values = self.values[0], memory.values[0]
        scale = self.dtype.type(1 / 255 if like.dtype == np.uint8 else 1)
        (channels, height, width), pitch = layout.shape, layout.pitch
        if layout.pixels == 1:  # features: channels of one pixel, that stand side by side
            channels, width, pitch = 1, channels, 1
        elif layout.row_size == width * pitch:  # no halo between the rows: they are one
            height, width = 1, height * width
        load_kernels.load(
            source, like, first, n, channels, height, width, values, int(layout.offset(0, 0)), layout.image_size,
            layout.row_size, pitch, scale,
        )  # fmt: skip

    def forward_calls(self, stage: int, n: int, memory: Memory, run: Pass) -> Iterator[Call]:
        """Yield the calls of one stage, to the next meeting; nobody meets in prediction."""
        first = self.cuts[stage - 1] if stage else 0
        last = self.cuts[stage] if stage < len(self.cuts) else len(self.blocks)
        for count, piece in pieces_of(self, stage, n, memory):
            for block in self.blocks[first:last]:
                yield Call(block, block.forward, (count, piece, run))
            for block in self.blocks[last : last + 1] if run.training else ():
                yield Call(block, block.forward_partial, (count, piece, run))

    def backward_calls(
        self, stage: int, n: int, memory: Memory, gradients: dict[Layer, Gradients], run: Pass
    ) -> Iterator[Call]:
        """Yield the calls of one stage backward, from the meeting that ends it to the one before it."""
        first = self.cuts[stage - 1] if stage else -1
        last = self.cuts[stage] if stage < len(self.cuts) else len(self.blocks) - 1
        for count, piece in pieces_of(self, stage, n, memory, backward=True):
            stands = stage == len(self.cuts) and count == n  # since forward: the last stage goes straight back
            if stage and self.blocks[first].y in (self.value_panels if stands else self.recalled):
                yield Call(self.blocks[first], self.blocks[first].recall, (count, piece, run))
            for block in reversed(self.blocks[first + 1 : last + 1]):
                yield Call(block, block.backward, (count, piece, gradients[block.layer], run))
            if stage:
                block = self.blocks[first]
                yield Call(block, block.backward_partial, (count, piece, run))

    def forward(self, shards: Sequence[tuple[int, Memory]], passes: Sequence[Pass]) -> None:
        """Run all blocks on a batch that is cut into `shards`, in this thread."""
        for stage in range(len(self.cuts) + 1):
            if stage and passes[0].training:
                self.blocks[self.cuts[stage - 1]].meet_forward(shards)
            for (n, memory), run in zip(shards, passes, strict=True):
                run_calls(self.forward_calls(stage, n, memory, run))

    def backward(
        self,
        shards: Sequence[tuple[int, Memory]],
        gradients: Sequence[dict[Layer, Gradients]],
        passes: Sequence[Pass],
    ) -> None:
        """Run all blocks backward, from the gradients that stand on the shards' last edges."""
        for stage in range(len(self.cuts), -1, -1):
            for (n, memory), by_layer, run in zip(shards, gradients, passes, strict=True):
                run_calls(self.backward_calls(stage, n, memory, by_layer, run))
            if stage:
                self.blocks[self.cuts[stage - 1]].meet_backward(shards)
