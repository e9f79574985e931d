"""Blocks of computation, of which networks are made before they run, and the memory that passes through them.

A layer owns parameters and formulas; a block is a layer, or a run of layers that one kernel does at once, bound to
the shapes of one network. It writes its tables of offsets once. Memory belongs to the caller: an edge is a
buffer of feature maps between two blocks, and any number of `Memory` objects can pass through the same blocks at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..typing import Array, IntArray
from .layout import Halo

if TYPE_CHECKING:
    from ..layers.base import Layer
    from .graph import Graph

Gradients = dict[str, Array]  # name of a parameter -> flat storage


@dataclass
class Pass:
    """What a block may want to know of the pass that it is part of.

    Attributes
    ----------
    training : bool
        Whether layers such as dropout are on.
    first : int
        The number of the shard's first image: random numbers depend on the sample and not on the shard.
    number : int64 array of shape (1,)
        Of the step; recorded calls look it up.
    """

    training: bool = True
    first: int = 0
    number: IntArray = field(default_factory=lambda: np.zeros(1, np.int64))

    @property
    def step(self) -> int:
        """The number of the step."""
        return int(self.number[0])


@dataclass
class Memory:
    """The buffers that a shard of the batch flows through; one per worker.

    Attributes
    ----------
    values, gradients : list of array
        Flat buffers of each edge's maps, and of the gradients with respect to them (None where nobody asks).
    kept : list
        What each block wants kept between forward and backward, or as scratch.
    scratch : list
        What each block has borrowed, and others write to as well.
    input : array
        The first edge as (N, C, H, W).
    done : int
        How many images of the shard went before.
    ahead : sequence of array
        What the piece of the shard that comes next will read from memory: blocks that compute much may ask for it.
    """

    values: list[Array]
    gradients: list[Array | None]
    kept: list[Any]
    scratch: list[Any]
    input: Array
    done: int = 0
    ahead: Sequence[Array] = ()


Store = dict[Hashable, Any]  # what the memories that are made with it have in common


class Block(ABC):
    """One step of computation, from the edge `x` to the edge `y`.

    Attributes
    ----------
    layer : Layer
        Whose parameters it reads and whose gradients it writes.
    index : int
        Its place among the graph's blocks.
    reads_any_pitch : bool
        Whether it reads its input through tables, so that channels need no padding.
    meets : bool
        Whether, in training, it needs something of the whole batch: then all shards come as far as `forward_partial`,
        `meet_forward` sees them all, and they go on with `forward`. Backward likewise.
    replayable : bool
        Whether it does nothing but call kernels, with the same arguments at every step: then a training step repeats
        the recorded calls, those of meetings too, and spares the Python around them.
    reads_values_again : bool
        Whether its backward pass reads the values of its inputs.
    in_pieces : bool
        Whether it takes the images of a shard a few at a time: it keeps nothing of single images, and adds what it sums
        over images to what those before, `memory.done`, have left.
    writes_panels : bool
        Whether `recall` can write its output, and backward the gradient of its input, in panels of channels.
    reads_panels, reads_gradient_panels : bool
        Whether backward can read its input, and the gradient of its output, so.
    rectifies : bool
        Whether a ReLU ends it, so that many numbers of its output are zero.
    skips_zeros : bool
        Whether it passes over the zeros of its input.
    link : str
        "softmax" or "logistic" if it is that and nothing else: a loss that has the function in itself takes it out.
    """

    link = ""
    reads_any_pitch = False
    meets = False
    replayable = False
    reads_values_again = True
    in_pieces = False
    writes_panels = False
    reads_panels = False
    reads_gradient_panels = False
    rectifies = False
    skips_zeros = False
    index: int

    def __init__(self, layer: Layer, x: int, y: int) -> None:
        self.layer, self.x, self.y = layer, x, y

    @property
    def reads(self) -> tuple[int, ...]:
        """The edges that it reads: `x`, where there is but one."""
        return (self.x,)

    @property
    def writes(self) -> tuple[int, ...]:
        """The edges that it writes, and whose gradients it reads: `y`, where there is but one."""
        return (self.y,)

    def fills(self, edge: int) -> bool:
        """Tell whether backward writes every number of the gradient of `edge`, which it reads, but the halo's."""
        return False

    def input_halo(self, graph: Graph) -> Halo:
        """Return the zeros that it needs around its inputs; asked from the last block to the first."""
        return Halo()

    def gradient_halo(self, graph: Graph) -> Halo:
        """Return the zeros that it needs around the gradient of its output; asked from the first block to the last."""
        return Halo()

    def work(self, graph: Graph) -> float:
        """Return the multiply-adds of one image's forward pass, roughly."""
        return 0.0

    @abstractmethod
    def plan(self, graph: Graph) -> None:
        """Write the tables: all layouts are known now."""

    def allocate(self, graph: Graph) -> Any:
        """Return what it keeps between forward and backward, and its scratch."""
        return None

    def borrow(self, shared: Store) -> Any:
        """Return scratch that blocks take turns in; `shared` has what others have left there."""
        return None

    def prepare(self) -> None:
        """Bring the parameters into the order that the kernels read; once for each new value of the parameters."""

    def prepare_backward(self) -> None:
        """Do the same for what only the backward pass reads, if that is worth another thread."""

    def copied(self) -> list[Array]:
        """Return the numbers that `prepare` takes copies of: when they change, it is time for it again."""
        idle = type(self).prepare is Block.prepare
        return [] if idle else [self.layer._flat, *self.layer._state().values()]

    @abstractmethod
    def forward(self, n: int, memory: Memory, run: Pass) -> None:
        """Compute the output of `n` images."""

    def recall(self, n: int, memory: Memory, run: Pass) -> None:
        """Compute the output again, for backward."""
        self.forward(n, memory, run)

    @abstractmethod
    def backward(self, n: int, memory: Memory, gradients: Gradients, run: Pass) -> None:
        """Compute the gradients of `n` images: of the parameters, and of the input unless nobody asks."""

    def forward_partial(self, n: int, memory: Memory, run: Pass) -> None:
        """Compute what the shards must tell each other before `forward`."""

    def meet_forward(self, shards: Sequence[tuple[int, Memory]]) -> None:
        """Bring together what the shards, in their order, have left."""

    def backward_partial(self, n: int, memory: Memory, run: Pass) -> None:
        """Compute what the shards must tell each other before `backward`."""

    def meet_backward(self, shards: Sequence[tuple[int, Memory]]) -> None:
        """Bring together what the shards, in their order, have left."""
