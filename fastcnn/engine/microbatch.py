"""How many images of a shard go through a stage at a time: as many as stay in the second-level cache.

From one meeting to the next, maps are scaled, convolved and summed up. Were each kernel given all images of a shard,
the one after it would have to fetch its maps from the third-level cache, or from memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from ..typing import Array

if TYPE_CHECKING:
    from .graph import Graph
    from .ir import Block, Memory
    from .memory_plan import Room

CACHED = 1 << 18  # bytes of the largest map of a piece: what is read and what is written then have room


def stage_blocks(graph: Graph, stage: int) -> Sequence[Block]:
    """Return the blocks that have work in a stage; a meeting belongs to both stages that it parts."""
    first = graph.cuts[stage - 1] if stage else 0
    last = graph.cuts[stage] if stage < len(graph.cuts) else len(graph.blocks) - 1
    return graph.blocks[first : last + 1]


def stage_of(graph: Graph, index: int) -> int:
    """Return the stage of a block: how many meetings are before it."""
    return sum(cut < index for cut in graph.cuts)


def images_at_once(graph: Graph, stage: int) -> int:
    """Return how many images of a shard go through a stage at a time."""
    blocks = stage_blocks(graph, stage)
    if not graph.cuts or not all(block.in_pieces for block in blocks):
        return graph.images
    sizes = [graph.values[edge].image_size for block in blocks for edge in (*block.reads, *block.writes)]
    return min(graph.images, max(1, CACHED // (max(sizes) * graph.dtype.itemsize)))


def falling(graph: Graph, stage: int) -> bool:
    """Tell whether a stage goes backward from the last image to the first.

    It does where its gradient grows: what it writes can then stand where it has read, image by image.
    """
    if stage in (0, len(graph.cuts)):
        return False
    before, after = (graph.gradients[graph.blocks[graph.cuts[s]].y] for s in (stage - 1, stage))
    return before is not None and after is not None and before.image_size > after.image_size


def pieces_of(graph: Graph, stage: int, n: int, memory: Memory, backward: bool = False) -> Iterator[tuple[int, Memory]]:
    """Yield a shard's images a few at a time: how many, and the memory from the first of them on."""
    step, done = graph.pieces[stage], 0
    pieces = []
    for first in range(0, n, step)[:: -1 if backward and falling(graph, stage) else 1]:
        count = min(step, n - first)
        pieces.append((count, _from_image(graph, first, done, memory) if count < n else memory))
        done += count
    for (_, piece), (count, following) in pairwise(pieces):
        piece.ahead = _read_first(graph, stage, count, following, backward)
    yield from pieces


def _read_first(graph: Graph, stage: int, n: int, memory: Memory, backward: bool) -> list[Array]:
    """Return what a piece of `n` images reads that the caches do not hold: what meetings have parted from it."""
    found = []
    if backward and stage < len(graph.cuts):
        block = graph.blocks[graph.cuts[stage]]
        found = [(memory.values[block.x], graph.values[block.x]), (memory.gradients[block.y], graph.gradients[block.y])]
    if stage:
        edge = graph.blocks[graph.cuts[stage - 1]].x
        found.append((memory.values[edge], graph.values[edge]))
    return [buffer[: n * layout.image_size] for buffer, layout in found if buffer is not None and layout is not None]


def _from_image(graph: Graph, first: int, done: int, memory: Memory) -> Memory:
    """Return the memory as blocks see it that begin with an image of the shard, when so many were `done`."""

    def later(buffer: Array, room: Room) -> Array:
        return buffer[first * room.size :] if room.lasts else buffer

    values, gradients = graph.rooms
    return replace(
        memory,
        values=[later(buffer, room) for buffer, room in zip(memory.values, values, strict=True)],
        gradients=[
            None if buffer is None or room is None else later(buffer, room)
            for buffer, room in zip(memory.gradients, gradients, strict=True)
        ],
        done=done,
    )
