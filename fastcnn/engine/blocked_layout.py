"""A pass of the planner: which maps lie in blocks of channels for a while, where only products read them again.

Channels last, the pixels of a few channels lie far apart, and the first-level cache has few places for what is a power
of two apart. A filter gradient multiplies six channels of hundreds of pixels with sixteen gradients of theirs: it
would copy the gradients to a panel, as products read their right side, and wait for the channels. So the
normalisations around a 1 x 1 convolution write blocks at once (oneDNN's nChw16c): its input, when it is computed again
for backward, and the gradient of its output.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..codegen.blocking import SUMS
from ..jit.target import vector_set
from .arrays import ALIGNMENT
from .assign_layouts import Layouts
from .ir import Graph
from .layout import BlockedLayout, Halo, Layout
from .stages import stage_of

APART = 6 * ALIGNMENT  # bytes between blocks: a tile's six pixels and those of the next one are in different cache sets


def blocked_values(
    graph: Graph, layouts: Layouts, sync_points: Sequence[int], sizes: Sequence[int], recomputed: Iterable[int]
) -> dict[int, BlockedLayout]:
    """Return the values that are computed again in blocks; `sizes` are those of the stages' micro-batches."""
    found = {}
    for value in recomputed:
        producer, *others = (op for op in graph.ops if op.y == value)
        readers = [op for op in graph.ops if value in op.reads]
        alone = len(readers) == 1 and value not in graph.aliases.values() and not others
        if alone and producer.traits.writes_blocked and readers[0].traits.reads_blocked:
            images = sizes[stage_of(sync_points, producer.index + 1)]
            blocked = _blocked(layouts.values[value], images, graph.dtype)
            if blocked:
                found[value] = blocked
    return found


def blocked_gradients(
    graph: Graph, layouts: Layouts, sync_points: Sequence[int], sizes: Sequence[int], values: dict[int, BlockedLayout]
) -> dict[int, BlockedLayout]:
    """Return the values whose gradient is written in blocks; `values` are those that are computed again in blocks."""
    found = {}
    for op in (graph.ops[point] for point in sync_points):
        layout = layouts.gradients[op.x]
        producers = [one for one in graph.ops if one.y == op.x]
        if layout and op.traits.writes_blocked and producers and producers[0].traits.reads_blocked_gradient:
            vectors = SUMS if producers[0].traits.skips_zeros and producers[0].x in values else 2
            blocked = _blocked(layout, sizes[stage_of(sync_points, op.index)], graph.dtype, vectors)
            if blocked:
                found[op.x] = blocked
    return found


def _blocked(layout: Layout, images: int, dtype: np.dtype, vectors: int = 2) -> BlockedLayout | None:
    """Return the blocks, so many vectors wide, for the maps of a micro-batch; None if they do not come out even."""
    width = vectors * vector_set().lanes(dtype)
    if layout.halo != Halo() or layout.pitch % width:
        return None
    return BlockedLayout(width, images * layout.pixels * width + APART // dtype.itemsize)
