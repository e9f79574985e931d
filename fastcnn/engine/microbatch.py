"""A pass of the planner: how many images of a shard go through a stage at a time, as many as stay in the caches.

From one sync point to the next, maps are scaled, convolved and summed up. Were each kernel given all images of a shard,
the one after it would have to fetch its maps from the third-level cache, or from memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..jit.target import COMMON
from .assign_layouts import Layouts
from .ir import Graph
from .stages import stage_ops

CACHED = COMMON.second // 2  # bytes of the largest map of a micro-batch: input and output together fit the cache


def microbatch_size(graph: Graph, layouts: Layouts, sync_points: Sequence[int], stage: int, images: int) -> int:
    """Return how many of up to `images` images of a shard go through a stage at a time.

    Sums over images are taken a micro-batch at a time: it has as many images on every processor.
    """
    ops = stage_ops(graph, sync_points, stage)
    if not sync_points or not all(op.traits.micro_batches for op in ops):
        return images
    sizes = [layouts.values[value].common_size for op in ops for value in (*op.reads, *op.writes)]
    return min(images, max(1, CACHED // (max(sizes) * graph.dtype.itemsize)))


def descends(graph: Graph, layouts: Layouts, sync_points: Sequence[int], stage: int) -> bool:
    """Tell whether a stage goes backward from the last image to the first.

    It does where its gradient grows: what it writes can then lie where it has read, image by image.
    """
    if stage in (0, len(sync_points)):
        return False
    before, after = (layouts.gradients[graph.ops[sync_points[s]].y] for s in (stage - 1, stage))
    return before is not None and after is not None and before.common_size > after.common_size
