"""The memory that a shard of the batch flows through: any number of workspaces serve the same operations at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..typing import Array


@dataclass
class Workspace:
    """The buffers of a shard; one per worker.

    Attributes
    ----------
    values, gradients : list of array
        Flat buffers of each value, and of the gradient with respect to it (None where it is not needed).
    saved : list
        What each operation saves between forward and backward.
    scratchpad : list
        Scratch of each operation that others write to as well.
    input : array
        The first value as (N, C, H, W).
    done : int
        How many images of the shard went before.
    prefetch : sequence of array
        What the next micro-batch reads from memory: operations that compute much may prefetch it.
    """

    values: list[Array]
    gradients: list[Array | None]
    saved: list[Any]
    scratchpad: list[Any]
    input: Array
    done: int = 0
    prefetch: Sequence[Array] = ()
