"""Which maps stand in panels of channels for a while: where only products read them again.

Channels last, the pixels of a few channels lie far apart, and the first-level cache has few places for what is a power
of two apart. A filter gradient multiplies six channels of hundreds of pixels with sixteen gradients of theirs: it
would copy the gradients to a panel, as products read their right side, and wait for the channels. So the
normalisations around a 1 x 1 convolution write panels at once: its input, when it is computed again for backward, and
the gradient of its output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..codegen.blocking import SUMS
from ..jit.target import vector_set
from ..typing import IntArray
from .layout import ALIGNMENT, Halo, Layout
from .microbatch import stage_of

if TYPE_CHECKING:
    from .graph import Graph

APART = 6 * ALIGNMENT  # bytes between panels: a tile's six pixels do not meet those of the next panel in the cache


@dataclass(frozen=True)
class Panels:
    """Maps of a piece as (panel, pixel, channel of the panel), instead of channels last.

    Attributes
    ----------
    width : int
        Channels of a panel: two vectors, or as many as a row of a product has that skips zeros.
    span : int
        Numbers from one panel to the next.
    """

    width: int
    span: int

    def table(self, layout: Layout, images: int, h: IntArray | int, w: IntArray | int) -> IntArray:
        """Return the offsets of pixels (h, w) of `images` images, as `Layout.table` does."""
        return Layout(self.width, layout.height, layout.width, self.width).table(images, h, w)

    def channel_offsets(self, channels: int) -> IntArray:
        """Return the offsets of a pixel's channels."""
        channel = np.arange(channels)
        return (channel // self.width * self.span + channel % self.width).astype(np.int32)

    def image_size(self, layout: Layout, images: int) -> int:
        """Return the numbers of each of `images` images, with its part of what is between panels."""
        return -(-layout.pitch // self.width * self.span // images)


def value_panels(graph: Graph) -> dict[int, Panels]:
    """Return the edges that are computed again in panels."""
    found = {}
    for edge in graph.recalled:
        producer, *others = (block for block in graph.blocks if block.y == edge)
        readers = [block for block in graph.blocks if edge in block.reads]
        alone = len(readers) == 1 and edge not in graph.aliases.values() and not others
        if alone and producer.writes_panels and readers[0].reads_panels:
            panels = _panels(graph, graph.values[edge], stage_of(graph, producer.index + 1))
            if panels:
                found[edge] = panels
    return found


def gradient_panels(graph: Graph) -> dict[int, Panels]:
    """Return the edges whose gradient is written in panels."""
    found = {}
    for block in (graph.blocks[cut] for cut in graph.cuts):
        layout = graph.gradients[block.x]
        producers = [one for one in graph.blocks if one.y == block.x]
        if layout and block.writes_panels and producers and producers[0].reads_gradient_panels:
            vectors = SUMS if producers[0].skips_zeros and producers[0].x in graph.value_panels else 2
            panels = _panels(graph, layout, stage_of(graph, block.index), vectors)
            if panels:
                found[block.x] = panels
    return found


def _panels(graph: Graph, layout: Layout, stage: int, vectors: int = 2) -> Panels | None:
    """Return the panels, so many vectors wide, for the maps of a stage, None if they do not come out even."""
    width = vectors * vector_set().lanes(graph.dtype)
    if layout.halo != Halo() or layout.pitch % width:
        return None
    return Panels(width, graph.pieces[stage] * layout.pixels * width + APART // graph.dtype.itemsize)
