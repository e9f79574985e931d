"""Which edges of a network stand in the same memory, because they are never needed at the same time.

A step of a network with batch normalisation goes through all maps of the whole batch many times. What is written where
something else has just been read is still in the caches; what has a place of its own comes from memory each time.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from .layout import Halo, Layout
from .microbatch import falling, stage_of

if TYPE_CHECKING:
    from .graph import Graph


class Room(NamedTuple):
    """Where the maps of an edge stand: edges with rooms of the same name take turns.

    Attributes
    ----------
    lasts : bool
        Whether they are needed in several stages. If not, the shards of a worker take turns too.
    name : hashable
    size : int
        Numbers for each image.
    images : int
        How many images stand there at a time.
    """

    lasts: bool
    name: Hashable
    size: int
    images: int


class Span(NamedTuple):
    """An edge that is in use from one block to another, both included, in the order of the pass.

    Attributes
    ----------
    images : int
        How many stand there at a time.
    stages : pair of int
        Of the first block and of the last.
    falls : bool or None
        Whether the first stage begins with the last image; None where it takes all images at a time.
    """

    first: int
    last: int
    edge: int
    layout: Layout
    images: int
    stages: tuple[int, int] = (0, 1)
    falls: bool | None = None

    @property
    def lasts(self) -> bool:
        """Whether it is in use in several stages."""
        return self.stages[0] != self.stages[1]

    def follows(self, other: Span) -> bool:
        """Tell whether the other's room is free by then.

        Where one stage takes pieces of both, the later edge must not overtake the earlier one: it may be smaller, or
        larger where the stage begins with the last image.
        """
        if other.last >= self.first:
            return False
        if not self.lasts or self.falls is None or other.stages[1] != self.stages[0]:
            return True
        grows = self.layout.image_size - other.layout.image_size
        return grows >= 0 if self.falls else grows <= 0


def value_rooms(graph: Graph) -> list[Room]:
    """Return the room of each edge's values; an alias has that of its root."""
    edges = range(len(graph.values))
    images = graph.images
    rooms = [
        Room(True, ("values", graph.aliases.get(edge, edge)), graph.values[edge].image_size, images) for edge in edges
    ]
    if graph.training:
        shared = {edge: _passing_room(graph, edge) for edge in passing_values(graph)}
    else:
        shared = _take_turns("values", _value_spans(graph))
    return [shared.get(graph.aliases.get(edge, edge), room) for edge, room in enumerate(rooms)]


def gradient_rooms(graph: Graph) -> list[Room | None]:
    """Return the room of each edge's gradient, None where there is none."""
    shared = _take_turns("gradients", _gradient_spans(graph))
    for edge, panels in graph.gradient_panels.items():
        producer = next(block for block in graph.blocks if edge in block.writes)
        alone = Room(False, ("gradients", edge), 0, graph.pieces[stage_of(graph, producer.index)])
        room = shared.get(edge, alone)
        shared[edge] = room._replace(size=panels.image_size(graph.values[edge], room.images))
    return [
        None if layout is None else shared.get(edge, Room(True, ("gradients", edge), layout.image_size, graph.images))
        for edge, layout in enumerate(graph.gradients)
    ]


def passing_values(graph: Graph) -> dict[int, bool]:
    """Return the edges behind a meeting that nobody reads beyond the next one, and whether backward reads them.

    They are not kept: whoever needs them backward has them computed again.
    """
    found = {}
    for block in (graph.blocks[cut] for cut in graph.cuts):
        readers = [graph.blocks[r] for r in _readers(graph, block.y)]
        stage = stage_of(graph, block.index + 1)
        here = all(stage_of(graph, reader.index) == stage and reader.index not in graph.cuts for reader in readers)
        if readers and here and block.y != graph.output:
            found[block.y] = any(reader.reads_values_again for reader in readers)
    return found


def _passing_room(graph: Graph, edge: int) -> Room:
    """Return the room of values behind a meeting, that are not kept."""
    layout, producer = graph.values[edge], next(block for block in graph.blocks if edge in block.writes)
    panels, images = graph.value_panels.get(edge), graph.pieces[stage_of(graph, producer.index + 1)]
    size = panels.image_size(layout, images) if panels else layout.image_size
    return Room(False, ("passing values", layout), size, images)


def _readers(graph: Graph, edge: int) -> list[int]:
    """Return the blocks that read an edge's values, by any of its names."""
    names = {edge, *(alias for alias, root in graph.aliases.items() if root == edge)}
    return [block.index for block in graph.blocks if names & set(block.reads)]


def _value_spans(graph: Graph) -> Iterable[Span]:
    """Yield the edges that live between two blocks of a pass without backward."""
    for block in graph.blocks:
        readers = _readers(graph, block.y)
        if readers and block.y not in graph.aliases and block.y != graph.output:
            yield Span(block.index, max(readers), block.y, graph.values[block.y], graph.images)


def _gradient_spans(graph: Graph) -> Iterable[Span]:
    """Yield the edges whose gradient one block writes, all of it, and another reads: in backward's order."""
    for block in reversed(graph.blocks):
        for edge in block.reads:
            layout, producers = graph.gradients[edge], [one.index for one in graph.blocks if edge in one.writes]
            if layout and producers and block.fills(edge) and edge != graph.output:
                first, last = block.index, producers[0]
                stages = stage_of(graph, first), stage_of(graph, last)
                images = graph.pieces[stages[0]]
                falls = falling(graph, stages[0]) if images < graph.images else None
                images = images if stages[0] == stages[1] else graph.images
                yield Span(-first, -last, edge, layout, images, stages, falls)


def _take_turns(kind: str, spans: Iterable[Span]) -> dict[int, Room]:
    """Return the rooms of edges in the order in which they begin: each takes the first that is free by then.

    Rooms with halos are for one layout, whose zeros stay zeros.
    """
    taken: dict[Hashable, list[Span]] = {}
    rooms = {}
    for span in spans:
        kinds = kind, span.lasts, None if span.layout.halo == Halo() else span.layout
        latest = taken.setdefault(kinds, [])
        number = next((n for n, other in enumerate(latest) if span.follows(other)), len(latest))
        latest[number : number + 1] = [span]
        rooms[span.edge] = Room(span.lasts, (*kinds, number), span.layout.image_size, span.images)
    return rooms
